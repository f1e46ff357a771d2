"""When a stream is given up: its client is gone, or it has been idle for as long as Kubernetes' may be, four hours."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from barque.client.clock import Clock

IDLE_S = 4 * 3600.0
# A connection that is not read, because what came is not taken, does not tell by itself that its client is gone.
CHECK_S = 10.0


class Idleness:
    """`touch` at each sign of life in either direction; `run` ends what shows none for `limit_s` seconds, or whose
    client `is_gone`. After a `rest` no sign is expected, until the next `touch`.
    """

    def __init__(self, clock: Clock, limit_s: float = IDLE_S, is_gone: Callable[[], bool] = lambda: False) -> None:
        self._clock = clock
        self._is_gone = is_gone
        self._limit_s = limit_s
        self._last_s = clock.monotonic()

    def touch(self) -> None:
        self._last_s = self._clock.monotonic()

    def rest(self) -> None:
        self._last_s = math.inf

    async def run(self, session: Coroutine[Any, Any, None]) -> bool:
        """The session until it ends or is given up; whether it ended by itself. Raises what it raises."""
        task = asyncio.create_task(session, name="a stream into a pod")
        watch = asyncio.create_task(self._expire(), name="idleness of a stream into a pod")
        try:
            await asyncio.wait([task, watch], return_when=asyncio.FIRST_COMPLETED)
            ended = task.done()
            if not ended:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            return ended
        finally:
            for each in (task, watch):
                each.cancel()
            await asyncio.gather(task, watch, return_exceptions=True)

    async def _expire(self) -> None:
        while (left_s := self._last_s + self._limit_s - self._clock.monotonic()) > 0 and not self._is_gone():
            await self._clock.sleep(min(left_s, CHECK_S))
