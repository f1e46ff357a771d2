"""Freed memory goes back to the system, and only when something has happened."""

from __future__ import annotations

import asyncio
from pathlib import Path

from barque.master.allocator import give_back_freed, trim
from tests.support.clock import FakeClock


async def test_memory_is_given_back_after_activity_alone() -> None:
    clock, activity = FakeClock(), [1]
    given = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(
        give_back_freed(clock, lambda: activity[0], lambda: loop.call_soon_threadsafe(given.release) and None)
    )
    await clock.advance(30)
    assert given.locked()
    activity[0] += 1
    await clock.advance(10)
    await given.acquire()
    await clock.advance(30)
    assert given.locked()
    running.cancel()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_what_was_freed_between_what_stays_is_given_back() -> None:
    kept = [bytes(1000) for _ in range(100_000)]
    # One in a hundred stays, so that no allocator gives the rest back by itself.
    kept = kept[::100]
    before = resident_bytes()
    trim()
    assert before - resident_bytes() > 40_000_000
    assert len(kept) == 1000
