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
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class Recorded:
    """A collector that notes what is asked of it, and when."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.asked: list[tuple[float, str]] = []

    def set_threshold(self, threshold0: int, /) -> None:
        self.asked.append((self._clock.monotonic(), f"look at {threshold0}"))

    def freeze(self) -> None:
        self.asked.append((self._clock.monotonic(), "freeze"))

    def unfreeze(self) -> None:
        self.asked.append((self._clock.monotonic(), "unfreeze"))

    def collect(self, generation: int = 2, /) -> int:
        self.asked.append((self._clock.monotonic(), "collect" if generation == 2 else "collect the young"))
        return 0


async def test_survivors_are_frozen_at_once_and_every_second_when_their_garbage_has_gone() -> None:
    clock = FakeClock()
    collector = Recorded(clock)
    task = asyncio.create_task(freeze_survivors(clock, collector))
    await clock.advance(2.5)
    task.cancel()
    second = ["collect the young", "freeze"]
    assert collector.asked == [
        (0, "look at 10000"), (0, "freeze"), *((1, what) for what in second), *((2, what) for what in second),
    ]  # fmt: skip


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
