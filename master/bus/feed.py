"""The change feed: every committed change of the store on the bus, for consumers outside of the cluster.

Each change is one JSON message on `barque.<cluster>.change.<group>.<resource>.<namespace>.<name>`, in the order of
revisions, exactly once. The leader publishes. A message names the sequence of its predecessor, so that neither a resent
message nor a second publisher can break the order: the stream refuses it, and whoever is refused reads anew where the
stream ends and goes on from there. Where the store's history does not reach back that far, or the stream does not say
where it ended, a message of verb RESYNC on `barque.<cluster>.change.RESYNC` comes first: a consumer must then read the
state itself.

Of messages that are under way together the first may be refused and another still fit: where the former leader was
paused amid sending them and the new one has written a RESYNC meanwhile. They are of an older generation, and of
revisions that the RESYNC speaks of, since its own comes from a barrier: consumers pass over them, and the publisher
says RESYNC once more. See docs/feed.md.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from nats.js import api
from nats.js.errors import APIError, NotFoundError

from barque.client.clock import Clock
from barque.client.gathering import gathered
from barque.master.bus.changes import Position, chains, read_position, resync, steps
from barque.master.bus.link import BusAwayError, Link, Outgoing, Session
from barque.master.bus.streams import Streams
from barque.master.bus.subjects import CHANGE_STREAM, change_subjects
from barque.master.store.port import (
    FutureRevisionError,
    HistoryGoneError,
    SlowWatcherError,
    Store,
    StoreUnavailableError,
)

log = logging.getLogger(__name__)

STREAM_BYTES = 256 * 1024 * 1024
# What consumers may cost the servers: each is kept track of, those that nobody asks for any more are forgotten. A week
# of absence is more than the stream keeps of a cluster that is used. A limit of unacknowledged messages would shut out
# consumers without acknowledgements, as ordered ones are; they are bounded by what the stream keeps.
MAX_CONSUMERS = 256
CONSUMER_LIMITS = api.StreamConsumerLimits(inactive_threshold=7 * 86400)
# A stream made anew begins so far beyond the end of its predecessor, where that is remembered.
_BEYOND = 1_000_000
_PAUSE_S = 0.2
# So often a quiet feed sees to its stream: that it is there, and has as many copies as there are to be.
CHECK_S = 5.0
# Every chain costs the master an answer to wait for. So after each the changes gather, the longer the more there were
# in it: below a thousand writes a second nothing waits, a stream of them goes in few chains.
GATHER_S = 0.05
GATHER_PER_CHANGE_S = 0.001


class ChangeFeed:
    """Publishes the store's changes while `run()` runs: on the leader; that two do so for a moment does no harm.

    `streams` sees to the stream. `fault` is "" while the stream takes what it is given.
    """

    def __init__(
        self, link: Link, store: Store, cluster: str, clock: Clock, streams: Streams = Streams(lambda: 1)
    ) -> None:
        self._link = link
        self._store = store
        self._cluster = cluster
        self._clock = clock
        self._streams = streams
        self._at: int | None = None
        # Of which stream the end is known, and where that is.
        self._stream: object = None
        self._end = Position(0)
        # Whether it is to begin with a RESYNC, having taken another's place.
        self._made_anew = False
        self.fault = ""

    def lag(self) -> int:
        """How far this publisher is behind, in revisions; 0 where it does not run."""
        return max(0, self._store.revision - self._at) if self._at is not None else 0

    async def run(self) -> None:
        """Follow the store, whatever happens to the bus, until cancelled."""
        try:
            while True:
                session = await self._link.up()
                try:
                    await self._while_whole(session, await self._position(session))
                except (BusAwayError, APIError) as error:
                    self.fault = f"the change feed waits: {_words(error)}"
                    log.debug("%s", self.fault)
                except (SlowWatcherError, StoreUnavailableError) as error:
                    # The bus was slower than the store, or the store is stopping: go on from the stream's end.
                    log.debug("change feed: %s", error)
                await self._clock.sleep(_PAUSE_S)
        finally:
            self._at, self.fault = None, ""

    async def _position(self, session: Session) -> Position:
        """Where the stream ends; it is made where there is none."""
        info = await self._ensure(session)
        end = info.state.last_seq
        known = self._stream == info.created
        self._made_anew |= self._stream not in (None, info.created)
        self._stream = info.created
        if end < max(info.config.first_seq or 0, 1):
            # Nothing has ever stood in it. Whoever followed its predecessor does not know what is missing.
            return Position(end, generation=end + 1, known=not self._made_anew)
        try:
            last = await session.ask(session.jetstream.get_msg(CHANGE_STREAM, end))
        except NotFoundError:
            return self._end if known and self._end.sequence == end else Position(end, known=False)
        found = read_position(end, last.data or b"")
        # A former leader's, come late behind our RESYNC.
        is_late = known and found.generation < self._end.generation
        return found._replace(known=found.known and not is_late)

    async def _ensure(self, session: Session) -> api.StreamInfo:
        """The stream as it is to be."""
        wanted = api.StreamConfig(
            name=CHANGE_STREAM,
            subjects=[change_subjects(self._cluster)],
            max_bytes=STREAM_BYTES,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.OLD,
            max_consumers=MAX_CONSUMERS,
            consumer_limits=CONSUMER_LIMITS,
            # The one copy of a master alone is not synced message by message: what a power cut takes from the end is
            # published again, since the feed goes on from the stream's end.
            persist_mode=api.PersistMode.DEFAULT if self._streams.lasting else api.PersistMode.ASYNC,
        )
        beyond = max(int(self._clock.wall().timestamp() * 1000), self._end.sequence + _BEYOND)
        return await self._streams.ensure(session, wanted, beyond)

    async def _while_whole(self, session: Session, position: Position) -> None:
        """Publish until the bus or the store breaks off, or the stream is not the one of before."""
        work = {asyncio.create_task(self._publish_all(session, position)), asyncio.create_task(self._check(session))}
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _check(self, session: Session) -> None:
        while (await self._ensure(session)).created == self._stream:
            await self._clock.sleep(CHECK_S)

    async def _publish_all(self, session: Session, position: Position) -> None:
        """From `position` on, until the bus or the store breaks off."""
        if not position.known or position.cluster not in ("", self._store.cluster_id):
            position = await self._resync(session, position)
        while True:
            self._note(position)
            try:
                await self._publish_from(session, position)
            except HistoryGoneError:
                position = await self._resync(session, self._end)
            except FutureRevisionError:
                # Only what is newest everywhere can say that the store was set back; this one may only lag.
                if await self._store.barrier() < self._end.revision:
                    position = await self._resync(session, self._end)

    async def _publish_from(self, session: Session, position: Position) -> None:
        """Never returns. Raises what the bus or the store breaks off with."""
        changes = gathered(self._store.changes(position.revision), self._clock, _pause_after)
        try:
            async for batch in changes:
                sent = steps(self._cluster, self._store.cluster_id, position, batch, session.max_payload_bytes)
                for chain in chains(sent):
                    position = chain[-1].position
                    await self._publish(session, [step.message for step in chain], position)
                # Also behind what the feed leaves out.
                self._at = batch[-1].revision
        finally:
            await changes.aclose()

    async def _resync(self, session: Session, position: Position) -> Position:
        # Not below what any publisher may have under way.
        revision = await self._store.barrier()
        step = resync(self._cluster, self._store.cluster_id, position, revision)
        await self._publish(session, [step.message], step.position)
        log.warning(
            "the change feed has a gap, from revision %s to %d; it says RESYNC",
            position.revision if position.known else "unknown", step.position.revision,
        )  # fmt: skip
        return step.position

    async def _publish(self, session: Session, messages: list[Outgoing], position: Position) -> None:
        ack = await session.publish_chain(messages)
        if ack.seq != position.sequence:
            raise BusAwayError(f"a message stands at {ack.seq} instead of {position.sequence}")
        self._note(position)

    def _note(self, position: Position) -> None:
        self._end = position
        self._made_anew = False
        self._at = position.revision
        self.fault = ""


def _pause_after(count: int) -> float:
    return min(GATHER_S, (count - 1) * GATHER_PER_CHANGE_S)


def _words(error: Any) -> str:
    return getattr(error, "description", "") or str(error)
