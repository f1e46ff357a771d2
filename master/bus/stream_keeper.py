"""What the leader does for the Event records: the stream is there as it is to be, and every Event ends after its hour.

An Event lives one hour from its last write. Its end is a written deletion, so that watches see it in order; the
stream's own age limit, a little later, only clears up. The hour is told by the bus's own clock, which has also stamped
the beginning. Where memory is short the oldest go before their time.
"""

from __future__ import annotations

import asyncio
import logging

from nats.js import api
from nats.js.errors import APIError

from barque.api.errors import ApiError
from barque.client.clock import Clock
from barque.master.bus.event_writer import EventWriter
from barque.master.bus.link import BusAwayError, Link, Session
from barque.master.bus.records import ANSWER_S, PAUSE_S, EventRecords
from barque.master.bus.streams import Streams
from barque.master.bus.subjects import EVENT_STREAM, event_subjects
from barque.master.store.port import Committed, Op, Refused, RevisionIs

log = logging.getLogger(__name__)

LIFE_S = 3600.0
# The stream keeps deletions and what they delete a little longer than an Event lives.
STREAM_AGE_S = 2 * LIFE_S
STREAM_BYTES = 128 * 1024 * 1024
ENSURE_S = 2.0
SWEEP_S = 2.0
SWEEP_AT_MOST = 500
# Above all that an earlier stream gave out, even one that nobody remembers: milliseconds outrun its writes.
_AHEAD = 1_000_000


class StreamKeeper:
    """`run()` is for the leader alone, for one term. `fault` says why the stream cannot be as it is to be, or ""."""

    def __init__(
        self,
        link: Link,
        records: EventRecords,
        writer: EventWriter,
        cluster: str,
        clock: Clock,
        streams: Streams,
    ) -> None:
        self._link = link
        self._records = records
        self._writer = writer
        self._cluster = cluster
        self._clock = clock
        self._streams = streams
        self.fault = ""

    async def run(self) -> None:
        """See to the stream and end what has had its time, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ensure(), name="events: stream")
                group.create_task(self._sweep(), name="events: sweep")
        finally:
            self.fault = ""

    async def _ensure(self) -> None:
        while True:
            session = await self._link.up()
            try:
                await self._ensure_stream(session)
                self.fault = ""
            except (BusAwayError, APIError) as error:
                self.fault = f"the stream of Event records cannot be made: {_said(error)}"
                log.debug("events: %s", self.fault)
                await self._clock.sleep(PAUSE_S)
            self._records.missing.clear()
            try:
                async with asyncio.timeout(ENSURE_S):
                    await self._records.missing.wait()
            except TimeoutError:
                pass

    async def _ensure_stream(self, session: Session) -> None:
        first = max(int(self._clock.wall().timestamp() * 1000), self._records.cache.revision + _AHEAD)
        wanted = api.StreamConfig(
            name=EVENT_STREAM,
            subjects=[event_subjects(self._cluster)],
            max_age=STREAM_AGE_S,
            max_bytes=STREAM_BYTES,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.OLD,
        )
        await self._streams.ensure(session, wanted, first)

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_S)
            session = self._link.session
            if session is None or not self._records.following:
                continue
            try:
                state = await session.stream_state(EVENT_STREAM, ANSWER_S)
                if state is not None and state.ts is not None:
                    await self._end_overdue(state.ts.timestamp() - LIFE_S)
            except (BusAwayError, APIError, ApiError) as error:
                log.debug("events: the old ones stay for now: %s", error)

    async def _end_overdue(self, born_before: float) -> None:
        """Write the end of all that are overdue; stops where one cannot be written. Raises 503."""
        while overdue := self._records.cache.overdue(born_before, SWEEP_AT_MOST):
            ops = [Op("delete", stored.key, compares=(RevisionIs(stored.key, stored.revision),)) for stored in overdue]
            if not all(isinstance(result, Committed | Refused) for result in await self._writer.write(ops)):
                return


def _said(error: Exception) -> str:
    return (error.description if isinstance(error, APIError) else "") or str(error) or type(error).__name__
