"""The cycle collector is kept away from what has survived."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from barque.client.cycles import freeze_survivors
from tests.support.clock import FakeClock


@pytest.fixture
def unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


class Recorded:
    """A collector that notes what is asked of it, and when."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.asked: list[tuple[float, str]] = []

    def freeze(self) -> None:
        self.asked.append((self._clock.monotonic(), "freeze"))

    def unfreeze(self) -> None:
        self.asked.append((self._clock.monotonic(), "unfreeze"))

    def collect(self, generation: int = 2, /) -> int:
        self.asked.append((self._clock.monotonic(), "collect" if generation == 2 else "collect the young"))
        return 0


async def test_survivors_are_frozen_at_once_and_every_second() -> None:
    clock = FakeClock()
    collector = Recorded(clock)
    task = asyncio.create_task(freeze_survivors(clock, collector))
    await clock.advance(2.5)
    task.cancel()
    assert collector.asked == [(0, "freeze"), (1, "freeze"), (2, "freeze")]


async def test_what_came_since_is_swept_before_it_is_frozen() -> None:
    clock = FakeClock()
    collector = Recorded(clock)
    task = asyncio.create_task(freeze_survivors(clock, collector, sweep=True))
    await clock.advance(1.5)
    task.cancel()
    assert collector.asked == [(0, "freeze"), (1, "collect the young"), (1, "freeze")]


async def test_once_an_hour_all_is_collected_and_frozen_again() -> None:
    clock = FakeClock()
    collector = Recorded(clock)
    task = asyncio.create_task(freeze_survivors(clock, collector))
    await clock.advance(2 * 3600 + 0.5)
    task.cancel()
    hour = [(3600, "unfreeze"), (3600, "collect"), (3600, "freeze")]
    assert [asked for asked in collector.asked if asked[0] == 3600] == hour
    assert [at for at, what in collector.asked if what == "collect"] == [3600, 7200]


async def test_a_full_collection_no_longer_visits_what_is_frozen(unfrozen: None) -> None:
    clock = FakeClock()
    kept: list[object] = [[]]
    task = asyncio.create_task(freeze_survivors(clock))
    await clock.advance(0.5)
    assert not any(seen is kept for seen in gc.get_objects())
    task.cancel()
