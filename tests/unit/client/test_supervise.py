"""A task that should never end says who it was when it does."""

from __future__ import annotations

import asyncio

import pytest

from barque.client.supervise import StopError, UnexpectedEndError, run_all
from tests.support.clock import settle


async def forever() -> None:
    await asyncio.Event().wait()


async def ends() -> None:
    await asyncio.sleep(0)


async def fails() -> None:
    raise ValueError("bad fact")


async def test_the_one_that_ends_is_named_and_the_others_stop() -> None:
    stopped = False

    async def other() -> None:
        nonlocal stopped
        try:
            await forever()
        finally:
            stopped = True

    with pytest.raises(UnexpectedEndError, match=r"^proxy ended unexpectedly$"):
        await run_all({"pods": other(), "proxy": ends()})
    assert stopped


async def test_a_failure_keeps_its_cause() -> None:
    with pytest.raises(UnexpectedEndError, match=r"^store failed: ValueError: bad fact$") as caught:
        await run_all({"store": fails(), "rest": forever()})
    assert isinstance(caught.value.__cause__, ValueError)


async def test_nested_names_are_joined() -> None:
    with pytest.raises(UnexpectedEndError, match=r"^controllers/node failed: ValueError: bad fact$"):
        await run_all({"controllers": run_all({"node": fails(), "other": forever()}), "rest": forever()})


async def test_what_is_no_fault_is_said_as_it_is() -> None:
    class RemovedError(StopError):
        pass

    async def stops() -> None:
        raise RemovedError("this master was removed")

    with pytest.raises(RemovedError, match=r"^this master was removed$"):
        await run_all({"store": run_all({"group": stops(), "rest": forever()}), "rest": forever()})


async def test_a_cancellation_from_within_is_no_silent_end() -> None:
    async def waits_for_a_cancelled_task() -> None:
        inner = asyncio.ensure_future(forever())
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner

    with pytest.raises(UnexpectedEndError, match=r"^w was cancelled from within$"):
        await run_all({"w": waits_for_a_cancelled_task(), "rest": forever()})


async def test_cancelling_stops_all_quietly() -> None:
    task = asyncio.create_task(run_all({"a": forever(), "b": forever()}))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
