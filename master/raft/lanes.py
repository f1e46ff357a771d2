"""`ThreadLane`: jobs done one after another in a thread of its own, answered on the event loop.

A job and its answer cost one wake-up each way; a future, a task and their wake-ups in between would cost a single
writer of the log a tenth of its time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from barque.master.raft.ports import Lane

T = TypeVar("T")

_Done = Callable[[Any, BaseException | None], None]


class ThreadLane:
    """Implements `ports.Lane`. Made and called on the running loop's thread; `name` is the thread's."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[tuple[Callable[[], Any], _Done] | None] = SimpleQueue()
        self._closed = False
        # Not waited for when the process ends: what matters is on the medium or was never answered.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """As `Lane.put`. Raises `RuntimeError` after `close`."""
        if self._closed:
            raise RuntimeError(f"the lane {self._thread.name} is closed")
        self._jobs.put((job, done))

    def close(self) -> None:
        """As `Lane.close`."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (work := self._jobs.get()) is not None:
            job, done = work
            result, failure = None, None
            try:
                result = job()
            except BaseException as e:
                failure = e
            self._loop.call_soon_threadsafe(done, result, failure)


async def done_in(lane: Lane, job: Callable[[], T]) -> T:
    """Have `job` done in the lane; returns or raises what it does."""
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def settle(result: T | None, failure: BaseException | None) -> None:
        if answer.done():
            return
        if failure is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # T may be None

    lane.put(job, settle)
    return await answer
