"""`gathered`: batches of a stream, fewer and larger, for a reader that is in no hurry.

A watch hands over one batch for each commit. Whoever pays for every batch rather than for every change reads it through
this: a lone change comes at once; what arrives during the pause after it, or while the reader is busy, comes as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TypeVar

from barque.client.clock import Clock

T = TypeVar("T")

# What may wait here; beyond it the stream is not read, and has bounds of its own.
MOST_WAITING = 10_000


async def gathered(
    batches: AsyncIterator[Sequence[T]],
    clock: Clock,
    pause_s: float | Callable[[int], float],
    most: int = MOST_WAITING,
) -> AsyncGenerator[list[T], None]:
    """Everything of `batches`, in order, with at least `pause_s` between two lists; it may depend on how long the list
    before the pause was.

    Ends, or raises, as `batches` does once all before it has been handed over; closing this closes `batches`.
    """
    waiting: list[T] = []
    news, room = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        try:
            async for batch in batches:
                waiting.extend(batch)
                news.set()
                if len(waiting) >= most:
                    room.clear()
                    await room.wait()
        finally:
            news.set()

    reader = asyncio.create_task(read())
    try:
        while waiting or not reader.done():
            await news.wait()
            news.clear()
            taken, waiting[:] = waiting[:], []
            room.set()
            if taken:
                yield taken
                await clock.sleep(pause_s if isinstance(pause_s, float) else pause_s(len(taken)))
            if reader.done():
                news.set()
        reader.result()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        close = getattr(batches, "aclose", None)
        if close is not None:
            await close()
