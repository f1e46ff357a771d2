"""Coroutines that wait for something that only turns of the member bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from barque.master.raft.ports import UnavailableError


class _Waiter(NamedTuple):
    holds: Callable[[], bool]
    met: asyncio.Future[None]


class Waits:
    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []
        self._closed = ""

    async def until(self, holds: Callable[[], bool], timeout_s: float, why: str) -> None:
        """Wait until `holds`. Raises `UnavailableError` with `why` after `timeout_s`, or when the member stops."""
        if self._closed:
            raise UnavailableError(self._closed)
        if holds():
            return
        waiter = _Waiter(holds, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.met
        except TimeoutError:
            raise UnavailableError(why) from None
        finally:
            self._waiters.remove(waiter)

    def turn(self) -> None:
        """Ask all of them; whatever a `holds` does when it is true is in force at once."""
        for waiter in self._waiters:
            if not waiter.met.done() and waiter.holds():
                waiter.met.set_result(None)

    def close(self, why: str) -> None:
        self._closed = why
        for waiter in self._waiters:
            if not waiter.met.done():
                waiter.met.set_exception(UnavailableError(why))
