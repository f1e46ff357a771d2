"""How long the event loop was held, as the master counts and says it."""

from __future__ import annotations

import asyncio

from barque.master.stalls import INTERVAL_S, StallMonitor
from tests.support.clock import FakeClock


def test_the_999th_of_a_thousand_is_told_by_its_class_and_the_longest_exactly() -> None:
    monitor = StallMonitor(FakeClock())
    for _ in range(2000):
        monitor.note(0.2)
    monitor.note(17.5)
    monitor.note(130.25)
    assert monitor.figures() == (0.5, 130.25)
    monitor.note(17.5)
    assert monitor.figures() == (18, 130.25)
    assert monitor.classes() == "0.5:2000 18:2 150:1"


def test_a_delay_beyond_all_classes_counts() -> None:
    monitor = StallMonitor(FakeClock())
    monitor.note(9000.0)
    assert monitor.figures() == (9000.0, 9000.0)
    assert monitor.classes() == "inf:1"


async def test_a_loop_that_nobody_holds_is_never_late() -> None:
    clock = FakeClock()
    monitor = StallMonitor(clock)
    task = asyncio.create_task(monitor.run())
    await clock.advance(100.5 * INTERVAL_S)
    task.cancel()
    assert monitor.figures().max_ms < 0.5
    assert monitor.classes() == "0.5:100"
