"""Event records in a JetStream stream: the `Backend` of kind Event.

Every write is one message; its sequence is the object's revision, and the stream itself decides compares, so any master
may write (`event_writer`). Every master serves reads from a picture that follows the stream (`records`): what was
written through this master is read back at once; a read that asks for the current state waits for what the stream
holds at that moment. The leader sees to the stream and to the end of each Event (`stream_keeper`); a stream made anew
is filled from the masters' pictures (`seeding`), and whoever asks for an older revision gets 410 and lists again.

While the bus is away reads serve the picture, and writes are refused at once with 503: the recorders keep theirs,
bounded, and count what they drop. Nothing else of the control plane notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from barque.api.errors import ApiError, too_large_revision, unavailable
from barque.client.clock import Clock
from barque.master.apiserver.backend import ReadingHistory, Subscribed
from barque.master.bus.cache import RESOURCE
from barque.master.bus.event_writer import EventWriter
from barque.master.bus.link import Link
from barque.master.bus.records import EventRecords
from barque.master.bus.seeding import Seeding
from barque.master.bus.stream_keeper import StreamKeeper
from barque.master.bus.streams import Streams
from barque.master.store.port import Filter, Key, Listing, Op, Result, Stored, Subscription, Watched


class EventBackend:
    """Implements `master.apiserver.backend.Backend`; `run()` on every master, `lead()` on the leader besides.

    `streams` sees to the stream, and says whether it is this cluster's.
    """

    guards = False

    def __init__(self, link: Link, cluster: str, clock: Clock, streams: Streams) -> None:
        self._link = link
        self._seeding = Seeding(clock)
        self._records = EventRecords(link, clock, streams, self._seeding.take_over)
        self._writer = EventWriter(link, self._records, cluster, clock)
        self._keeper = StreamKeeper(link, self._records, self._writer, cluster, clock, streams)

    @property
    def fault(self) -> str:
        """Why Events cannot be read or written, or ""."""
        return self._keeper.fault or self._records.fault or self._writer.fault

    async def run(self) -> None:
        """Follow the stream, send bookmarks, fill a stream that was made anew; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._records.run(), name="events: follow")
            group.create_task(self._records.hub.run(), name="events: bookmarks")
            group.create_task(self._seeding.run(self._writer), name="events: seeding")

    async def lead(self) -> None:
        """See to the stream and to the end of each Event, for one term; until cancelled."""
        await self._keeper.run()

    async def current(self) -> None:
        self._require_records()
        await self._records.catch_up()

    async def get(self, key: Key) -> Stored | None:
        self._require_records()
        return self._records.cache.get(key)

    async def reach(self, revision: int) -> None:
        self._require_records()
        if not await self._records.reached(revision):
            raise too_large_revision(revision, self._records.cache.revision)

    async def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        self._require_records()
        cache, hub = self._records.cache, self._records.hub
        if revision is None:
            return Listing(cache.select(selected), cache.revision)
        with ReadingHistory(revision, hub):
            superseded = hub.superseded(RESOURCE, revision)
        return Listing(cache.select_at(revision, selected, superseded), revision)

    async def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Sequence[Watched]]:
        self._require_records()
        changes = self._records.hub.watch(RESOURCE, since, selected)
        try:
            with ReadingHistory(since, self._records.hub):
                async for batch in changes:
                    yield batch
        finally:
            await changes.aclose()  # type: ignore[attr-defined]  # an async generator

    def subscribe(self, resource: str, since: int, selected: Filter, on_news: Callable[[], None]) -> Subscription:
        self._require_records()
        hub = self._records.hub
        with ReadingHistory(since, hub):
            return Subscribed(hub.subscribe(RESOURCE, since, selected, on_news), since, hub)

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result | ApiError]:
        return await self._writer.write(ops)

    def _require_records(self) -> None:
        if not self._records.served:
            raise unavailable(f"events cannot be read yet: the bus is away ({self._link.fault or self._records.fault})")
