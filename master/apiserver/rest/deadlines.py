"""The ends of many tasks that mostly wait: those that end at about the same moment share one timer.

`asyncio.timeout` keeps a timer for each, which with what belongs to it is more than half a KiB: a good part of what an
idle watch costs. Guarantees: a task is not interrupted before its time, and later by no more than a 256th of it, or a
quarter of a second where that is more.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Any, Protocol

_SHARE = 256
_FINEST_S = 0.25


class Interrupted(Protocol):
    def interrupt(self) -> None:
        """The time is over."""
        ...


class Deadlines:
    """Those of one event loop. `with deadlines.within(seconds):` ends its body, without an error, once they are over.

    Whatever is no task says itself what to do then: `begin`, and `leave` if it ends before.
    """

    def __init__(self) -> None:
        self._moments: dict[float, _Moment] = {}

    def within(self, seconds: float) -> Within:
        """For the task that enters it."""
        return Within(self, _moment(asyncio.get_running_loop().time(), seconds))

    def begin(self, seconds: float, body: Interrupted) -> float:
        """Interrupt it then, at the moment returned."""
        at = _moment(asyncio.get_running_loop().time(), seconds)
        self.enter(at, body)
        return at

    def enter(self, at: float, body: Interrupted) -> None:
        moment = self._moments.get(at)
        if moment is None:
            timer = asyncio.get_running_loop().call_at(at, self._end, at)
            moment = self._moments[at] = _Moment(timer)
        moment.bodies.add(body)

    def leave(self, at: float, body: Interrupted) -> None:
        moment = self._moments.get(at)
        if moment is None:
            return
        moment.bodies.discard(body)
        if not moment.bodies:
            moment.timer.cancel()
            del self._moments[at]

    def _end(self, at: float) -> None:
        for body in self._moments.pop(at).bodies:
            body.interrupt()


class _Moment:
    __slots__ = ("bodies", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.bodies: set[Interrupted] = set()


class Within:
    """One body; enter it once."""

    __slots__ = ("_at", "_cancelling", "_of", "_over", "_task")

    def __init__(self, of: Deadlines, at: float) -> None:
        self._of = of
        self._at = at
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._over = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._of.enter(self._at, self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        self._of.leave(self._at, self)
        if not self._over or task is None:
            return False
        # Where somebody else has cancelled it as well, that is what counts.
        return task.uncancel() <= self._cancelling and kind is asyncio.CancelledError

    def interrupt(self) -> None:
        """The time is over."""
        if self._task is not None:
            self._over = True
            self._task.cancel()


def _moment(now: float, seconds: float) -> float:
    """When to end what lasts so long from now. Steps are powers of two, so that different times share moments too."""
    step = max(_FINEST_S, 2.0 ** math.floor(math.log2(seconds / _SHARE))) if seconds > 0 else _FINEST_S
    return math.ceil((now + seconds) / step) * step
