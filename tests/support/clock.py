"""A clock that only moves when the test says so."""

from __future__ import annotations

import asyncio
import datetime
import heapq
import itertools


class FakeClock:
    """Implements `barque.client.clock.Clock`; `await advance(s)` wakes every sleeper that is due, in order."""

    def __init__(self, start: str = "2026-01-01T00:00:00+00:00") -> None:
        self._start = datetime.datetime.fromisoformat(start)
        self._now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> datetime.datetime:
        return self._start + datetime.timedelta(seconds=self._now)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move time on, waking sleepers at their own moments and letting what they start settle."""
        await settle()
        end = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            self._now = due
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._now = end


class ImpatientClock:
    """Implements `barque.client.clock.Clock` on a fake one: a sleep moves it on instead of waiting."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def wall(self) -> datetime.datetime:
        return self._clock.wall()

    async def sleep(self, seconds: float) -> None:
        await self._clock.advance(seconds)


async def settle(turns: int = 50) -> None:
    """Let every task that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
