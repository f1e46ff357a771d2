"""Waiting for what comes sooner or later: a look is repeated until it is satisfied, however a look before it went.

While daemons start, die and rename their files a look may fail in any way (a refused connection, a command that ends
with an error, a key, a file or a line that is not there yet, half a document). Each such failure only means "not yet";
when time is up, the last one is told with its traceback. `pytest.fail` and `pytest.skip` end the waiting at once.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")

# What a slow look may take beyond the time that is given to all looks.
_LAST_LOOK_S = 30.0


def expect_soon(look: Callable[[], T], timeout_s: float, what: str, pause_s: float = 0.05) -> T:
    """Look every `pause_s` until the answer is true, and return it.

    The last look begins when `timeout_s` are over, so that a stalled test process has one, too. Raises AssertionError,
    which says that `what` never came, and the last failure or answer.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline
        try:
            found = look()
        except Exception as failure:
            if late:
                _tell(timeout_s, what, failure)
        else:
            if found:
                return found
            if late:
                _tell(timeout_s, what, found)
        time.sleep(pause_s)


async def expect_soon_async(
    look: Callable[[], Awaitable[T] | T], timeout_s: float, what: str, pause_s: float = 0.02
) -> T:
    """The same on an event loop; the look may be a coroutine function. One that hangs is cut off."""
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0) + _LAST_LOOK_S):
                answer = look()
                found = await answer if inspect.isawaitable(answer) else answer
        except Exception as failure:
            if late:
                _tell(timeout_s, what, failure)
        else:
            if found:
                return found
            if late:
                _tell(timeout_s, what, found)
        await asyncio.sleep(pause_s)


def _tell(timeout_s: float, what: str, last: object) -> NoReturn:
    told = f"{type(last).__name__}: {last}" if isinstance(last, Exception) else f"the last answer was {last!r}"
    fault = AssertionError(f"not within {timeout_s:g} s: {what}\n{told}")
    raise fault from (last if isinstance(last, Exception) else None)
