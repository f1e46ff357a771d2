"""`Outbox`: where Events wait until they are written, in batches and within bounds.

In: `put(record)`, which never blocks. Out: writes through the client, by `run()`.

* While the event store or every master is away, records wait and are tried again, less and less often, at times spread
  by chance. Beyond `BUFFERED` the newest are dropped; how many is logged in one line once writing works again, and told
  to `say`, so that the gap shows where the events would have been.
* An object whose events are refused with 429 waits as long as the answer asks for; those of others do not, unless
  that is the answer to all of many.
* Any other refusal (4xx) is final: the record is counted in `refused`. So is one that fails again and again where
  others do not.
* A write whose answer was lost is sent again: "already exists" then means that it was done. An Event that has outlived
  its hour begins again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from barque.api.errors import ApiError
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.recording.record import Record, Subject

log = logging.getLogger(__name__)

# Enough for some minutes of a busy node; an Event is about 1 KiB.
BUFFERED = 4096
BATCH = 100
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
# How long a component that stops may take for its last events: half of what a leader that lost its term has for all.
LAST_S = 0.5
# As often as client-go tries a record.
MOST_TRIES = 12
# Where so many objects at once are told to wait, it is not they who are too loud: the store has too much to do.
CROWD = 10
_TOO_MANY_REQUESTS = 429


class Outbox:
    """For one component, whose `name` is in the log. `dropped` and `refused` count since the start.

    `chance` gives numbers in [0, 1); `say(message)` hears what was dropped.
    """

    def __init__(
        self, client: Client, name: str, clock: Clock, chance: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._chance = chance
        self._say = say
        # In the order of writing; a dictionary for its order and its quick look-up.
        self._waiting: dict[Record, None] = {}
        self._under_way = 0
        self._held_until: dict[Subject, float] = {}
        self._woken = asyncio.Event()
        self._pause_s = FIRST_PAUSE_S
        self._unsaid = 0
        self._was_away = False
        self.dropped = 0
        self.refused = 0

    def put(self, record: Record) -> None:
        """Have the record written as it is at the time of writing; drop it where too many wait already."""
        if record not in self._waiting and len(self._waiting) + self._under_way >= BUFFERED:
            self.dropped += 1
            self._unsaid += 1
            return
        self._waiting.setdefault(record)
        self._woken.set()

    async def run(self) -> None:
        """Write until cancelled; what waits then is tried once more, for `LAST_S` at most."""
        try:
            while True:
                self._woken.clear()
                batch = self._next_batch()
                if not batch:
                    await self._wait()
                    continue
                try:
                    await self._write(batch)
                except ApiError as error:
                    await self._pause(error)
                else:
                    self._pause_s = FIRST_PAUSE_S
                    self._tell_dropped()
        finally:
            await self._write_last()
            if self._unsaid:
                log.warning("%s: %s", self._name, self._dropped_words())

    async def _write_last(self) -> None:
        # A task of its own: the one that runs this is cancelled already.
        writing = asyncio.create_task(self._write_waiting())
        try:
            await asyncio.wait({writing}, timeout=LAST_S)
        finally:
            writing.cancel()

    async def _write_waiting(self) -> None:
        with suppress(ApiError):
            while batch := self._next_batch():
                await self._write(batch)

    def _next_batch(self) -> list[Record]:
        """Take the first records that nothing holds up."""
        now = self._clock.monotonic()
        self._held_until = {subject: until for subject, until in self._held_until.items() if until > now}
        batch: list[Record] = []
        for record in self._waiting:
            if len(batch) == BATCH:
                break
            if record.subject not in self._held_until:
                batch.append(record)
        for record in batch:
            del self._waiting[record]
        return batch

    async def _wait(self) -> None:
        """Until something is put in, or an object may be written about again."""
        left_s = min(self._held_until.values(), default=math.inf) - self._clock.monotonic()
        alarm = asyncio.create_task(self._ring(left_s)) if left_s < math.inf else None
        try:
            await self._woken.wait()
        finally:
            if alarm is not None:
                alarm.cancel()

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._woken.set()

    async def _pause(self, error: ApiError) -> None:
        """The store is away: wait, the longer the longer it is."""
        log.debug("%s: events cannot be written: %s", self._name, error.message)
        self._was_away = True
        wait_s = max(self._pause_s * (0.5 + self._chance() / 2), _asked_for_s(error))
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        await self._clock.sleep(wait_s)

    async def _write(self, batch: Sequence[Record]) -> None:
        """Write the batch; raises where nothing of it could be written."""
        self._under_way = len(batch)
        try:
            answers = await self._client.batch([record.write() for record in batch])
        except (ApiError, asyncio.CancelledError):
            self._put_back(batch)
            raise
        finally:
            self._under_way = 0
        away = _common_fault(batch, answers)
        if away is not None:
            self._put_back(batch)
            raise away
        for record, answer in zip(batch, answers, strict=True):
            self._settle(record, answer)

    def _settle(self, record: Record, answer: bytes | ApiError) -> None:
        if not isinstance(answer, ApiError):
            record.sent, record.tries = True, 0
        elif answer.reason == "AlreadyExists" and not record.sent:
            # An answer was lost; what has happened since is told by a patch.
            record.sent, record.tries = True, 0
            self._put_back([record])
        elif answer.reason == "NotFound" and record.sent:
            record.sent = False
            self._put_back([record])
        elif answer.code >= 500 or answer.code == _TOO_MANY_REQUESTS:
            self._try_later(record, answer)
        else:
            self._refuse(record, answer)

    def _try_later(self, record: Record, answer: ApiError) -> None:
        """Hold up what is about this object, and only that."""
        record.tries += 1
        if record.tries >= MOST_TRIES:
            self._refuse(record, answer)
            return
        wait_s = _asked_for_s(answer) or min(FIRST_PAUSE_S * 2**record.tries, LONGEST_PAUSE_S)
        until = self._clock.monotonic() + wait_s
        self._held_until[record.subject] = max(until, self._held_until.get(record.subject, 0.0))
        self._put_back([record])

    def _refuse(self, record: Record, answer: ApiError) -> None:
        record.tries = 0
        self.refused += 1
        log.debug("%s: event %s is refused: %s", self._name, record.event.metadata.name, answer.message)

    def _put_back(self, records: Iterable[Record]) -> None:
        """Return what was not written to the head of the line."""
        self._waiting = {**dict.fromkeys(records), **self._waiting}

    def _tell_dropped(self) -> None:
        # Half empty, so that what is dropped in one outage is told as one number, and the telling finds room.
        if len(self._waiting) > BUFFERED // 2:
            return
        words = self._dropped_words() if self._unsaid else ""
        self._unsaid, self._was_away = 0, False
        if words:
            log.warning("%s: %s", self._name, words)
            self._say(words)

    def _dropped_words(self) -> str:
        number = "1 event was" if self._unsaid == 1 else f"{self._unsaid} events were"
        if self._was_away:
            return f"{number} dropped while the event store was away"
        return f"{number} dropped: they came faster than they could be written"


def _common_fault(batch: Sequence[Record], answers: Sequence[bytes | ApiError]) -> ApiError | None:
    """Why the store takes nothing at all at present, from no object; None where it takes some, or refuses for good."""
    errors = [answer for answer in answers if isinstance(answer, ApiError)]
    if len(errors) < len(answers):
        return None
    if all(error.code >= 500 for error in errors):
        return errors[0]
    is_crowd = len({record.subject for record in batch}) >= CROWD
    return errors[0] if is_crowd and all(error.code == _TOO_MANY_REQUESTS for error in errors) else None


def _asked_for_s(error: ApiError) -> float:
    """The seconds for which the answer asks the caller to wait; 0 where it does not."""
    return float(error.details.retryAfterSeconds or 0) if error.details is not None else 0.0
