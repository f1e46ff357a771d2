"""A stream's batches come fewer and larger, in order, and lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from barque.client.gathering import gathered
from tests.support.clock import FakeClock, settle


class Source:
    """A stream that the test feeds; `None` ends it, an exception breaks it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[list[int] | Exception | None] = asyncio.Queue()
        self.closed = False

    async def batches(self) -> AsyncIterator[list[int]]:
        try:
            while (batch := await self.queue.get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            self.closed = True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_lone_batch_comes_at_once_and_what_follows_comes_together(clock: FakeClock) -> None:
    source, seen = Source(), list[list[int]]()

    async def read() -> None:
        async for batch in gathered(source.batches(), clock, 0.05):
            seen.append(batch)

    reading = asyncio.create_task(read())
    source.queue.put_nowait([1])
    await settle()
    assert seen == [[1]]
    for number in range(2, 6):
        source.queue.put_nowait([number])
        await settle()
    assert seen == [[1]]
    await clock.advance(0.05)
    assert seen == [[1], [2, 3, 4, 5]]
    source.queue.put_nowait(None)
    await clock.advance(0.05)
    assert reading.done()


async def test_what_came_before_a_break_is_handed_over_first(clock: FakeClock) -> None:
    source = Source()
    source.queue.put_nowait([1])
    stream = gathered(source.batches(), clock, 0.0)
    assert await anext(stream) == [1]
    for batch in ([2], [3], ConnectionError("gone")):
        source.queue.put_nowait(batch)
    await settle()
    assert await anext(stream) == [2, 3]
    with pytest.raises(ConnectionError, match="gone"):
        await anext(stream)


async def test_a_reader_that_falls_behind_stops_the_stream(clock: FakeClock) -> None:
    source = Source()
    for number in range(5):
        source.queue.put_nowait([number, number])
    stream = gathered(source.batches(), clock, 0.0, most=4)
    assert await anext(stream) == [0, 0, 1, 1]
    await settle()
    assert source.queue.qsize() == 1
    assert await anext(stream) == [2, 2, 3, 3]
    await stream.aclose()


@pytest.mark.parametrize("most", [1, 100])
async def test_closing_it_closes_the_stream(clock: FakeClock, most: int) -> None:
    """Also one that is not being read at that moment, since enough waits."""
    source = Source()
    for number in range(3):
        source.queue.put_nowait([number])
    batches = source.batches()
    stream = gathered(batches, clock, 0.0, most)
    await anext(stream)
    await settle()
    await stream.aclose()
    assert source.closed
