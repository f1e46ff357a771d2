"""The work queue keeps client-go's contract."""

from __future__ import annotations

import asyncio

import pytest

from barque.api.errors import unavailable
from barque.client.queue import WorkQueue, run_workers
from tests.support.clock import FakeClock, settle


async def drain(queue: WorkQueue) -> list[str]:
    keys = []
    while len(queue):
        keys.append(await queue.get())
        queue.done(keys[-1])
    return keys


async def test_a_key_added_often_is_taken_once() -> None:
    queue = WorkQueue(FakeClock())
    for key in ["a", "b", "a", "a", "c", "b"]:
        queue.add(key)
    assert await drain(queue) == ["a", "b", "c"]


async def test_a_key_added_while_processed_waits_until_done() -> None:
    queue = WorkQueue(FakeClock())
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert await drain(queue) == ["a"]


async def test_later_keys_come_at_their_time_the_earliest_wish_counts() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock)
    queue.add_after("late", 10)
    queue.add_after("soon", 2)
    queue.add_after("late", 5)
    queue.add_after("late", 20)
    await clock.advance(3)
    assert await drain(queue) == ["soon"]
    await clock.advance(2.5)
    assert await drain(queue) == ["late"]
    await clock.advance(60)
    assert await drain(queue) == []
    queue.shut_down()


async def test_failures_wait_twice_as_long_each_time_until_forgotten() -> None:
    queue = WorkQueue(FakeClock(), first_retry_s=1, longest_retry_s=5)
    assert [queue.next_retry_s("a") for _ in range(5)] == [1, 2, 4, 5, 5]
    assert queue.failures("a") == 5
    queue.forget("a")
    assert queue.next_retry_s("a") == 1


async def test_workers_retry_what_the_cluster_refuses(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    queue = WorkQueue(clock, first_retry_s=1)
    seen: list[float] = []

    async def reconcile(key: str) -> float | None:
        seen.append(clock.monotonic())
        if len(seen) < 3:
            raise unavailable("no master answers")
        return 10.0 if len(seen) == 3 else None

    queue.add("default/web")
    task = asyncio.create_task(run_workers(queue, reconcile, workers=2, name="deployment"))
    await clock.advance(30)
    assert seen == [0, 1, 3, 13]
    assert "deployment default/web: no master answers; trying again in 1 s" in caplog.text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_key_never_runs_twice_at_once() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock)
    running: set[str] = set()
    most = 0

    async def reconcile(key: str) -> float | None:
        nonlocal most
        assert key not in running
        running.add(key)
        most = max(most, len(running))
        await clock.sleep(1)
        running.discard(key)
        return None

    task = asyncio.create_task(run_workers(queue, reconcile, workers=3, name="x"))
    for _ in range(5):
        for key in "abcd":
            queue.add(key)
        await clock.advance(0.5)
    await clock.advance(10)
    assert most == 3
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_fault_of_the_program_ends_the_workers_and_names_the_key() -> None:
    queue = WorkQueue(FakeClock())

    async def reconcile(key: str) -> float | None:
        raise ZeroDivisionError("oops")

    queue.add("default/web")
    with pytest.raises(ExceptionGroup) as caught:
        await run_workers(queue, reconcile, workers=1, name="deployment")
    await settle()
    assert caught.value.exceptions[0].__notes__ == ["deployment: while reconciling default/web"]
