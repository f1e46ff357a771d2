"""Work in another network namespace: in a thread that enters it and ends there.

A socket belongs for good to the namespace of the thread that made it, so nothing else of the process has to move.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


async def run_in_own_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread that ends with it. The work must bound its own waits."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if outcome.cancelled():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # a result is present wherever no error is

    def body() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(deliver, None, error)
        else:
            loop.call_soon_threadsafe(deliver, result, None)

    threading.Thread(target=body, name="barque-netns", daemon=True).start()
    return await outcome


def enter_namespace(descriptor: int) -> None:
    """Move the calling thread into a network namespace; let it end there, for it must serve no one else afterwards."""
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot enter the network namespace: {os.strerror(code)}")
