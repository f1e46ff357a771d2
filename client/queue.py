"""`WorkQueue`: keys waiting to be reconciled, and the workers that take them.

The contract is client-go's workqueue: a key added many times before it is taken is taken once; a single key is never
processed concurrently; a key added while it is processed is taken again afterwards. The queue is bounded by the number
of distinct keys, so a storm of events costs one entry per object. Units are seconds; the clock is injected.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from barque.api.errors import ApiError
from barque.client.clock import Clock

log = logging.getLogger(__name__)

# A failing key comes back after 5 ms, 10 ms, 20 ms …; a minute at most: what it waits for may be mended by hand.
FIRST_RETRY_S = 0.005
LONGEST_RETRY_S = 60.0


class QueueObserver(Protocol):
    """Is told what a queue does, for whoever measures it; must be quick."""

    def added(self) -> None: ...

    def taken(self, waited_s: float) -> None: ...

    def done(self, worked_s: float) -> None: ...

    def retried(self) -> None: ...


class WorkQueue:
    """Distinct keys in order of arrival, each held by at most one worker. `observer` may be set before it is used."""

    def __init__(self, clock: Clock, *, first_retry_s: float = FIRST_RETRY_S, longest_retry_s: float = LONGEST_RETRY_S):
        self._clock = clock
        self._first_retry_s = first_retry_s
        self._longest_retry_s = longest_retry_s
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._dirty: set[str] = set()
        self._processing: set[str] = set()
        self._failures: dict[str, int] = {}
        self._later: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._timer: asyncio.Task[None] | None = None
        self.observer: QueueObserver | None = None
        # When a key was added or taken, whichever came last; kept for the observer alone.
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        """Keys that could be taken now."""
        return self._ready.qsize()

    def add(self, key: str) -> None:
        if key in self._dirty:
            return
        self._dirty.add(key)
        if self.observer is not None:
            self.observer.added()
        if key not in self._processing:
            self._put(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Add the key once `seconds` have passed; of several such wishes for one key the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._later, (due, key))
        if self._later[0] == (due, key):
            self.shut_down()
            self._timer = asyncio.create_task(self._wait_due())

    def next_retry_s(self, key: str) -> float:
        """Count one more failure of the key; return how long to wait."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        if self.observer is not None:
            self.observer.retried()
        return float(min(self._first_retry_s * 2 ** min(failures, 32), self._longest_retry_s))

    def failures(self, key: str) -> int:
        return self._failures.get(key, 0)

    def forget(self, key: str) -> None:
        """The key has succeeded: its next failure starts the pauses anew."""
        self._failures.pop(key, None)

    async def get(self) -> str:
        """The next key. The caller must call `done(key)` when it has been processed."""
        key = await self._ready.get()
        self._dirty.discard(key)
        self._processing.add(key)
        if self.observer is not None:
            self.observer.taken(self._lap_s(key))
        return key

    def done(self, key: str) -> None:
        self._processing.discard(key)
        if self.observer is not None:
            self.observer.done(self._lap_s(key))
            del self._since[key]
        if key in self._dirty:
            self._put(key)

    def shut_down(self) -> None:
        """End the timer of delayed keys; called when the workers end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _put(self, key: str) -> None:
        if self.observer is not None:
            self._since[key] = self._clock.monotonic()
        self._ready.put_nowait(key)

    def _lap_s(self, key: str) -> float:
        """Since the key was last noted; notes it anew."""
        now = self._clock.monotonic()
        before, self._since[key] = self._since.get(key, now), now
        return now - before

    async def _wait_due(self) -> None:
        while self._later:
            due, key = self._later[0]
            left_s = due - self._clock.monotonic()
            if left_s > 0:
                await self._clock.sleep(left_s)
                continue
            heapq.heappop(self._later)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)


async def run_workers(
    queue: WorkQueue, reconcile: Callable[[str], Awaitable[float | None]], *, workers: int, name: str
) -> None:
    """Take keys and reconcile them with so many concurrent workers, until cancelled.

    `reconcile(key)` returns None, or after how many seconds it wants the key again. An `ApiError` is ordinary: it is
    logged and the key retried with back-off. Any other exception is a fault of the program and ends the workers.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(_work(queue, reconcile, name))
    finally:
        queue.shut_down()


async def _work(queue: WorkQueue, reconcile: Callable[[str], Awaitable[float | None]], name: str) -> None:
    while True:
        key = await queue.get()
        try:
            again_s = await reconcile(key)
        except ApiError as error:
            pause_s = queue.next_retry_s(key)
            # A conflict only means that the cache was behind: the next attempt sees the newer object.
            level = logging.DEBUG if error.reason in ("Conflict", "AlreadyExists") else logging.WARNING
            log.log(level, "%s %s: %s; trying again in %.3g s", name, key, error.message, pause_s)
            queue.add_after(key, pause_s)
        except Exception as error:
            error.add_note(f"{name}: while reconciling {key}")
            raise
        else:
            queue.forget(key)
            if again_s is not None:
                queue.add_after(key, again_s)
        finally:
            queue.done(key)
        # Keys that are at hand and wait for nothing must not hold the loop, however many there are.
        await asyncio.sleep(0)
