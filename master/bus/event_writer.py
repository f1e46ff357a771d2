"""Writes Event records: each is one message, and the stream decides its compares.

A compare becomes the sequence that the stream must have as the last of the object's subject, so any master may write
and a cache that lags decides nothing wrongly. What is answered is known: 503 where nothing was written, `Unknown` only
where a message went out and no answer came. An answer is waited for until `WRITE_S` after the call, to read it back
three seconds more; what has not been sent by then is not sent any more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import NamedTuple

from nats.aio.msg import Msg
from nats.js import api

from barque.api.errors import ApiError, unavailable
from barque.client.clock import Clock
from barque.master.bus.cache import FULL_BYTES, EventCache, Living, record_of, unslotted
from barque.master.bus.link import BusAwayError, Link, Session
from barque.master.bus.records import EventRecords
from barque.master.bus.replies import UNHEARD, Refusal, read_reply
from barque.master.bus.subjects import event_subject
from barque.master.store.port import (
    NAME_FIELD,
    NAMESPACE_FIELD,
    Absent,
    Committed,
    Key,
    Op,
    Refused,
    Result,
    RevisionIs,
    Stored,
    Unknown,
)

# Writes of one commit under way at once.
IN_FLIGHT = 256
WRITE_S = 4.5
_ATTEMPTS = 4
# nats-server's refusals of a compare: with the sequence that the subject is at, and without one, where another write
# to the subject is under way.
WRONG_LAST_SEQUENCE = 10071
WRITE_UNDER_WAY = 10164
_UNDER_WAY_S = 0.02
# A stream that has just been made, or whose leader has just changed, is heard of everywhere within so much.
_UNHEARD_S = 0.1
# How long a refusal is worth a word when nobody has written since.
_FAULT_S = 30.0
# And how long the lack of an answer is, which a change of the stream's leader explains too.
_SILENCE_S = 5.0
_EXPECTED = api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value


class _Sent(NamedTuple):
    """The write with this number in its group, and what will hold the answer."""

    number: int
    answer: asyncio.Future[Msg]


class EventWriter:
    """Writes through the link as it is; decides by `records` what those can decide."""

    def __init__(self, link: Link, records: EventRecords, cluster: str, clock: Clock) -> None:
        self._link = link
        self._records = records
        self._cluster = cluster
        self._clock = clock
        self._refused = ""
        self._refused_until = 0.0

    @property
    def fault(self) -> str:
        """Why the bus has lately not taken what was written, or ""."""
        return self._refused if self._clock.monotonic() < self._refused_until else ""

    async def write(self, ops: Sequence[Op]) -> list[Result | ApiError]:
        """Each op is answered alone. Raises 503 where nothing can be written."""
        session = self._session()
        until = self._clock.monotonic() + WRITE_S
        results: list[Result | ApiError] = []
        for group in groups(ops):
            results += await self._write_group(session, group, until)
        return results

    def _is_late(self, until: float) -> bool:
        return self._clock.monotonic() >= until

    async def carry_over(self, living: Sequence[Living]) -> list[Living]:
        """Write objects of an earlier stream, each where this one knows nothing better; return those that could not
        be written. Raises 503 where none can.
        """
        session = self._session()
        until = self._clock.monotonic() + WRITE_S
        left: list[Living] = []
        sent: list[_Sent] = []
        for number, one in enumerate(living):
            if not self._records.cache.lacks(one):
                continue
            key = one.stored.key
            try:
                sent.append(_Sent(number, await self._post(session, key, one.record(), self._revision_of(key))))
            except BusAwayError:
                left.append(one)
        await self._await(sent, until)
        for number, answer in sent:
            error = None if answer.cancelled() or answer.exception() else read_reply(answer.result()).error
            unanswered = answer.cancelled() or answer.exception() is not None
            if unanswered or (error is not None and not await self._is_settled(living[number], error)):
                left.append(living[number])
        return left

    async def end_outlived(self, earlier: EventCache) -> None:
        """Delete what others have carried over although it had been deleted in the earlier stream. Raises 503."""
        gone = self._records.cache.outlived(earlier)
        await self.write([Op("delete", one.key, compares=(RevisionIs(one.key, one.revision),)) for one in gone])

    async def _is_settled(self, one: Living, error: Refusal) -> bool:
        """Whether what the stream has of the object instead is to stay."""
        if not _is_compare(error) or not await self._records.reached(_actual(error)):
            return False
        return self._records.cache.get(one.stored.key) is None or not self._records.cache.lacks(one)

    def _session(self) -> Session:
        session = self._link.session
        if session is None or not self._records.following:
            why = self._link.fault or self._records.fault or "the connection broke"
            raise unavailable(f"events cannot be written: the bus is away ({why})")
        return session

    async def _write_group(self, session: Session, ops: Sequence[Op], until: float) -> list[Result | ApiError]:
        """Ops of different objects, side by side."""
        await self._records.reached(max((_compared(op) for op in ops), default=0))
        if any(self._decide(op) is not None for op in ops):
            # What another master has written meanwhile may decide otherwise.
            await self._records.catch_up()
        results: dict[int, Result | ApiError] = {}
        stands: dict[int, int] = {}
        left: Sequence[int] = range(len(ops))
        for _ in range(_ATTEMPTS):
            if self._is_late(until):
                late = unavailable("events cannot be written: the bus does not answer in time")
                return [results.get(number, late) for number in range(len(ops))]
            sent: list[_Sent] = []
            for number in left:
                op = ops[number]
                decided = self._decide(op)
                if decided is not None:
                    results[number] = decided
                    continue
                expected = stands.get(number, self._revision_of(op.key)) if op.compares else None
                try:
                    sent.append(_Sent(number, await self._post(session, op.key, record_of(op), expected)))
                except BusAwayError as error:
                    results[number] = unavailable(f"events cannot be written: the bus is away ({error})")
            left = await self._settle(sent, results, stands, until)
            if not left:
                break
        for number in left:
            results.setdefault(number, unavailable("the event is being written by too many at once"))
        return [results[number] for number in range(len(ops))]

    async def _post(self, session: Session, key: Key, payload: bytes, expected: int | None) -> asyncio.Future[Msg]:
        headers = None if expected is None else {_EXPECTED: str(expected)}
        return await session.post(event_subject(self._cluster, key), payload, headers)

    async def _settle(
        self, sent: list[_Sent], results: dict[int, Result | ApiError], stands: dict[int, int], until: float
    ) -> list[int]:
        """Note what came of each; return which are to be decided anew, on the state that this master has then."""
        await self._await(sent, until)
        again: list[int] = []
        newest = 0
        under_way = unheard = False
        for number, answer in sent:
            if answer.cancelled():
                self._note("the bus does not answer writers of Events", _SILENCE_S)
                results[number] = Unknown("the bus did not answer in time")
            elif (broken := answer.exception()) is not None:
                results[number] = Unknown(f"the bus went away while the event was written: {broken}")
            else:
                reply = read_reply(answer.result())
                if reply.error is None:
                    newest = max(newest, reply.seq)
                    results[number] = Committed(reply.seq) if reply.seq else Unknown("the bus's answer cannot be read")
                    self._refused = ""
                elif _is_compare(reply.error):
                    again.append(number)
                    stands[number] = _actual(reply.error)
                    under_way |= reply.error.err_code == WRITE_UNDER_WAY
                    newest = max(newest, stands[number])
                else:
                    results[number] = self._refuse(reply.error)
                    if reply.error == UNHEARD:
                        again.append(number)
                        unheard = True
        if under_way or unheard:
            await self._clock.sleep(_UNHEARD_S if unheard else _UNDER_WAY_S)
        # What is written through this master is read back at once.
        if not await self._records.reached(newest):
            results.update((number, unavailable("the bus is ahead of this master")) for number in again)
            return []
        for number in again:
            if not stands.get(number):
                stands.pop(number, None)
        return again

    async def _await(self, sent: list[_Sent], until: float) -> None:
        """Wait for the answers; those that do not come are cancelled."""
        if not sent:
            return
        answers = [answer for _, answer in sent]
        await asyncio.wait(answers, timeout=max(0.0, until - self._clock.monotonic()))
        for answer in answers:
            if not answer.done():
                answer.cancel()

    def _refuse(self, error: Refusal) -> ApiError:
        """503: the stream has said no, so nothing was written."""
        self._note(f"the bus does not take Events: {error.description}", _FAULT_S)
        return unavailable(self._refused)

    def _note(self, fault: str, for_s: float) -> None:
        self._refused = fault
        self._refused_until = self._clock.monotonic() + for_s

    def _decide(self, op: Op) -> Result | ApiError | None:
        """What the cache alone can answer: a failed compare, nothing to change, no room."""
        stored = self._records.cache.get(op.key)
        revision = stored.revision if stored is not None else 0
        for number, compare in enumerate(op.compares):
            if compare.key != op.key:
                continue  # another object's state is the registry's to check: `guards` is False
            absent_fails = isinstance(compare, Absent) and stored is not None
            if absent_fails or (isinstance(compare, RevisionIs) and compare.revision != revision):
                return Refused(number, revision)
        if op.verb == "delete":
            return Committed(self._records.cache.revision, changed=False) if stored is None else None
        if stored is not None and _is_same(op, stored):
            return Committed(revision, changed=False)
        if self._records.cache.bytes > FULL_BYTES:
            return unavailable("there are too many events: the oldest must go first")
        return None

    def _revision_of(self, key: Key) -> int:
        stored = self._records.cache.get(key)
        return stored.revision if stored is not None else 0


def groups(ops: Sequence[Op]) -> list[list[Op]]:
    """Ops that may be written side by side: in order, bounded, and no object twice in one group."""
    found: list[list[Op]] = []
    keys: set[Key] = set()
    for op in ops:
        if not found or op.key in keys or len(found[-1]) >= IN_FLIGHT:
            found.append([])
            keys = set()
        found[-1].append(op)
        keys.add(op.key)
    return found


def _compared(op: Op) -> int:
    """The newest revision that the op was decided on."""
    return max((compare.revision for compare in op.compares if isinstance(compare, RevisionIs)), default=0)


def _is_same(op: Op, stored: Stored) -> bool:
    fields = {field: value for field, value in op.fields.items() if field not in (NAME_FIELD, NAMESPACE_FIELD)}
    return (op.json, op.slot) == unslotted(stored) and (op.labels, fields) == (stored.labels, stored.other_fields)


def _is_compare(error: Refusal) -> bool:
    """Whether it is the compare that failed, not the write."""
    return error.err_code in (WRONG_LAST_SEQUENCE, WRITE_UNDER_WAY)


def _actual(error: Refusal) -> int:
    """`wrong last sequence: 17`: the last sequence the stream has for the subject; 0 where it does not say."""
    found = re.search(r"(\d+)\s*$", error.description)
    return int(found.group(1)) if found else 0
