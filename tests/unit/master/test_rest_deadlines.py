"""Deadlines that tasks share: who is ended, when, and what stays of it."""

from __future__ import annotations

import asyncio

import pytest

from barque.master.apiserver.rest.deadlines import Deadlines, _moment


async def test_what_takes_longer_ends_without_an_error_and_the_task_goes_on() -> None:
    deadlines, said = Deadlines(), list[str]()

    async def wait() -> None:
        with deadlines.within(0):
            await asyncio.Event().wait()
            said.append("not reached")
        await asyncio.sleep(0)
        said.append("after")

    tasks = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert said == ["after"] * 3
    assert [task.cancelling() for task in tasks] == [0, 0, 0]


async def test_what_is_done_in_time_leaves_no_timer_behind() -> None:
    deadlines = Deadlines()
    with deadlines.within(3600):
        assert len(deadlines._moments) == 1
    assert not deadlines._moments


async def test_whoever_is_cancelled_by_another_stays_cancelled() -> None:
    deadlines = Deadlines()

    async def wait() -> None:
        with deadlines.within(3600):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines._moments


async def test_an_error_of_the_body_is_raised() -> None:
    with pytest.raises(ValueError, match="of the body"), Deadlines().within(3600):
        raise ValueError("of the body")


@pytest.mark.parametrize("seconds", [0.0, 1.0, 60.0, 300.0, 1799.5, 86400.0])
def test_a_moment_is_not_early_and_little_late(seconds: float) -> None:
    late = _moment(12345.678, seconds) - 12345.678 - seconds
    assert 0 <= late <= max(0.25, seconds / 256)


def test_watches_opened_one_after_the_other_share_moments() -> None:
    assert len({_moment(1000 + second / 10, 1800) for second in range(600)}) <= 16
