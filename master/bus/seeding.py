"""Carrying Event records over into a stream that was made anew.

Every master holds all living Events and writes those that the new stream lacks, the oldest first, each only where the
stream knows nothing of the object: so masters that do so side by side write each once, and what was written or deleted
meanwhile stays as it is. Of masters that had come differently far in the earlier stream the one that had come furthest
is right: its states take the place of the others', what it knows to be deleted goes again, and the others stop. A
record keeps the moment of its birth. Slowly enough that nothing else waits behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import islice

from barque.api.errors import ApiError
from barque.client.clock import Clock
from barque.master.bus.cache import EventCache, Living
from barque.master.bus.event_writer import EventWriter
from barque.master.store.port import Key

log = logging.getLogger(__name__)

# At most some 1,300 records a second.
BATCH = 64
PAUSE_S = 0.05
AWAY_PAUSE_S = 1.0


class Seeding:
    """`add` what an earlier stream held; `run()` writes it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._orphans: dict[Key, Living] = {}
        self._earlier: EventCache | None = None
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """How many records wait to be written."""
        return len(self._orphans)

    def take_over(self, earlier: EventCache) -> None:
        """The picture of a stream that has been made anew."""
        self._earlier = earlier
        self.add(earlier.living())
        self._news.set()

    def add(self, orphans: Sequence[Living]) -> None:
        """Objects, the oldest first; a newer state takes the place of one that waits."""
        for one in orphans:
            self._orphans.pop(one.stored.key, None)
            self._orphans[one.stored.key] = one
        if orphans:
            log.info("carrying %d Event records over into the new stream", len(orphans))
            self._news.set()

    async def run(self, writer: EventWriter) -> None:
        """Write what was added, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._orphans:
                pause_s = PAUSE_S if await self._write_some(writer) else AWAY_PAUSE_S
                await self._clock.sleep(pause_s)
            await self._end_outlived(writer)

    async def _end_outlived(self, writer: EventWriter) -> None:
        while (earlier := self._earlier) is not None:
            try:
                await writer.end_outlived(earlier)
            except ApiError:
                await self._clock.sleep(AWAY_PAUSE_S)
                continue
            if self._earlier is earlier:
                self._earlier = None

    async def _write_some(self, writer: EventWriter) -> bool:
        """Write the oldest; False where they are to be tried again later."""
        some = list(islice(self._orphans.values(), BATCH))
        try:
            left = await writer.carry_over(some)
        except ApiError:
            return False
        remain = {one.stored.key for one in left}
        for one in some:
            key = one.stored.key
            # A still newer state may have been added meanwhile.
            if self._orphans.get(key) is one:
                del self._orphans[key]
                if key in remain:
                    self._orphans[key] = one  # behind the others, lest one that is never taken holds them up
        return not left
