"""Carrying records over: the oldest first, a few at a time, each until it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from barque.api.errors import unavailable
from barque.master.bus.cache import EventCache, Living
from barque.master.bus.seeding import AWAY_PAUSE_S, BATCH, PAUSE_S, Seeding
from barque.master.store.port import Key, Stored
from tests.support.clock import FakeClock


class Writer:
    """What the stream takes; names in `refused` it does not."""

    def __init__(self) -> None:
        self.away = False
        self.refused: set[str] = set()
        self.batches: list[list[str]] = []
        self.ended: list[EventCache] = []

    async def carry_over(self, living: Sequence[Living]) -> list[Living]:
        if self.away:
            raise unavailable("away")
        left = [one for one in living if one.stored.key.name in self.refused]
        self.batches.append([one.stored.key.name for one in living if one not in left])
        return left

    async def end_outlived(self, earlier: EventCache) -> None:
        if self.away:
            raise unavailable("away")
        self.ended.append(earlier)


def living(*names: str, revision: int = 1) -> list[Living]:
    return [Living(Stored(Key("events", "default", name), b"", revision, {}, {}), n) for n, name in enumerate(names)]


@asynccontextmanager
async def running(seeding: Seeding, writer: Writer) -> AsyncIterator[None]:
    task = asyncio.create_task(seeding.run(writer))  # type: ignore[arg-type]  # carries over, as the writer does
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_oldest_first_and_no_more_at_a_time_than_the_bound() -> None:
    clock, writer = FakeClock(), Writer()
    seeding = Seeding(clock)
    names = [f"e{n:03}" for n in range(2 * BATCH + 5)]
    async with running(seeding, writer):
        seeding.add(living(*names))
        await clock.advance(0)
        assert writer.batches == [names[:BATCH]]
        await clock.advance(PAUSE_S)
        assert writer.batches == [names[:BATCH], names[BATCH : 2 * BATCH]]
        await clock.advance(PAUSE_S)
        assert ([name for batch in writer.batches for name in batch], len(seeding)) == (names, 0)


async def test_while_the_bus_is_away_nothing_is_lost() -> None:
    clock, writer = FakeClock(), Writer()
    seeding = Seeding(clock)
    writer.away = True
    async with running(seeding, writer):
        seeding.add(living("a", "b"))
        await clock.advance(5 * AWAY_PAUSE_S)
        assert len(seeding) == 2
        writer.away = False
        await clock.advance(AWAY_PAUSE_S)
        assert (writer.batches, len(seeding)) == ([["a", "b"]], 0)


async def test_one_that_is_not_taken_does_not_hold_up_the_others() -> None:
    clock, writer = FakeClock(), Writer()
    seeding = Seeding(clock)
    names = [f"e{n:03}" for n in range(2 * BATCH)]
    writer.refused = set(names[:BATCH])
    async with running(seeding, writer):
        seeding.add(living(*names))
        await clock.advance(AWAY_PAUSE_S)
        assert writer.batches == [[], names[BATCH:]]
        writer.refused.clear()
        await clock.advance(2 * AWAY_PAUSE_S)
        assert (writer.batches[-1], len(seeding)) == (names[:BATCH], 0)


async def test_a_newer_state_takes_the_place_of_one_that_waits() -> None:
    seeding = Seeding(FakeClock())
    seeding.add(living("a", "b"))
    seeding.add(living("a", revision=2))
    assert [(one.stored.key.name, one.stored.revision) for one in seeding._orphans.values()] == [("b", 1), ("a", 2)]


async def test_what_others_should_not_have_carried_over_is_ended_once_all_is_written() -> None:
    clock, writer = FakeClock(), Writer()
    seeding = Seeding(clock)
    earlier = EventCache("earlier", 7)
    writer.away = True
    async with running(seeding, writer):
        seeding.take_over(earlier)
        await clock.advance(AWAY_PAUSE_S)
        assert writer.ended == []
        writer.away = False
        await clock.advance(5 * AWAY_PAUSE_S)
        assert writer.ended == [earlier]
