"""Work on large bodies: what would hold the event loop is done in a thread, in turns that are fair between users.

A megabyte of JSON takes a tenth of a second to decode, validate and track, and more where it is made to. One thread
does such work for all: the interpreter is its own for half a millisecond at a time, so the loop waits for no more than
that, and a second thread would make it wait for both. A single call into C shares the interpreter with nobody, however
long it takes; so how much a body may make of its bytes is bounded (`barque.api.bulk`). Each user has at most one piece
of work waiting for the thread, and these are taken in the order they came in: whoever sends a hundred large bodies
waits for them alone.
"""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# Work on less than this is done at once: some milliseconds at worst, where a change of threads costs a tenth of one.
AT_ONCE_BYTES = 16 * 1024
# To read YAML costs so many times as much as JSON, and more where aliases make much of little.
YAML_COSTS = 8


class _Turn:
    """A user's place in the queue; `waiting` counts the requests that hold it or wait for it."""

    __slots__ = ("lock", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


class LengthyWork:
    """The thread, which is started at the first large body, and those who wait for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "lengthy-work")
        self._turns: dict[str, _Turn] = {}

    async def do(self, user: str, size_bytes: int, work: Callable[[], T]) -> T:
        """The outcome of `work`, whose cost is that of so many bytes. It must touch nothing that others change."""
        if size_bytes < AT_ONCE_BYTES:
            return work()
        turn = self._turns.setdefault(user, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                return await asyncio.get_running_loop().run_in_executor(self._thread, _uncollected, work)
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._turns.pop(user, None)


def _uncollected(work: Callable[[], T]) -> T:
    """Without the collector of cycles: it would go through all the new objects again and again, and in one go."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return work()
    except BaseException as failure:
        # A refused body and all its faults would stay in these frames, to be freed by the loop.
        traceback.clear_frames(failure.__traceback__)
        raise
    finally:
        if was_enabled:
            gc.enable()
