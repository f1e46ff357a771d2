"""A stream of restore texts: in order, each made while the one before is at work, and none after a failure."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from barque.network.iptables.driver import IptablesError
from tests.support.packet_tracer import MemoryIptables


class Slow(MemoryIptables):
    """Lets everything else happen while it is at work; `told` is what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    async def restore(self, text: str) -> None:
        self.told.append(f"begin {text}")
        for _ in range(10):
            await asyncio.sleep(0)
        if self.fail:
            raise IptablesError(self.fail.pop(0))
        self.told.append(f"end {text}")

    async def stream(self, *names: str) -> AsyncIterator[str]:
        for name in names:
            self.told.append(f"make {name}")
            yield name


async def test_the_next_text_is_made_while_one_is_at_work() -> None:
    slow = Slow()
    await slow.restore_stream(slow.stream("a", "b"))
    assert slow.told == ["make a", "begin a", "make b", "end a", "begin b", "end b"]


async def test_after_a_failure_nothing_more_is_written() -> None:
    slow = Slow()
    slow.fail = ["the lock is held"]
    with pytest.raises(IptablesError, match="the lock is held"):
        await slow.restore_stream(slow.stream("a", "b"))
    assert slow.told == ["make a", "begin a", "make b"]


async def test_what_is_at_work_ends_before_a_fault_of_the_maker_is_heard() -> None:
    slow = Slow()

    async def faulty() -> AsyncIterator[str]:
        yield "a"
        raise ValueError("cannot be rendered")

    with pytest.raises(ValueError, match="cannot be rendered"):
        await slow.restore_stream(faulty())
    assert slow.told == ["begin a", "end a"]
