"""`SimLoop`: an event loop on which time is a number. A seed's run is a pure function of the seed.

Callbacks take no time; once none is ready, time jumps to the next timer. Every callback belongs to a `Process`, the one
that is named in its context: a process can be killed (nothing of it ever runs again, no `finally` either), paused (what
is due waits until it goes on) and given a clock that runs too fast or too slow. Whatever a process starts is its own.

Nothing real is behind it: `run_in_executor`, sockets, signals and subprocesses are refused, so code that reaches around
its seams fails here. Callbacks run in the order in which they became ready, timers of one moment in the order in which
they were set; no set is iterated over and nothing depends on addresses or hashes.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# A process that keeps the loop busy for so many callbacks without letting time pass hangs.
_SPIN = 200_000


class HangError(AssertionError):
    """Callbacks follow each other without end at one moment, or nothing is left that could ever happen."""


class Process:
    """One run of a member (or the clients, or the conductor): what a SIGKILL would end.

    `rate` is how fast its monotonic clock goes: 1.01 gains a hundredth.
    """

    __slots__ = ("alive", "context", "held", "name", "paused", "rate", "tasks")

    def __init__(self, name: str, rate: float = 1.0) -> None:
        self.name = name
        self.rate = rate
        self.alive = True
        self.paused = False
        # What became due while it was paused.
        self.held: list[_Handle] = []
        # Kept until the loop is closed, so that no garbage collection runs code of a dead process in between.
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = contextvars.Context()
        self.context.run(_PROCESS.set, self)

    def __repr__(self) -> str:
        return f"<{self.name}{'' if self.alive else ' dead'}{' paused' if self.paused else ''}>"


_PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class _Handle:
    """Stands in for `asyncio.TimerHandle`."""

    __slots__ = ("_when", "args", "callback", "context", "process")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context, process: Process
    ) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self.process = process
        self._when = 0.0

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self._when


class SimLoop(asyncio.AbstractEventLoop):
    """`failures` are exceptions that nobody caught, of processes that were alive."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        # Whose callback runs now.
        self.process = Process("conductor")
        self.conductor = self.process
        self._now = 0.0
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._number = 0
        self._closed = False
        self._running = False
        self._processes: list[Process] = [self.process]
        self.callbacks = 0

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        if context is None:
            process = self.process
            context = process.context
        else:
            process = context.get(_PROCESS, self.conductor)
        handle = _Handle(callback, args, context, process)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        if context is None:
            process = self.process
            context = process.context
        else:
            process = context.get(_PROCESS, self.conductor)
        handle = _Handle(callback, args, context, process)
        handle._when = self._now + max(delay, 0.0) / process.rate
        self._number += 1
        heapq.heappush(self._timers, (handle._when, self._number, handle))
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        return self.call_later(when - self._now, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        process = self.process if context is None else context.get(_PROCESS, self.conductor)
        process.tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def get_exception_handler(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        future = context.get("future") or context.get("task")
        failure = context.get("exception")
        if self._closed and failure is None:
            return
        if any(not process.alive and future in process.tasks for process in self._processes):
            return
        self.failures.append(f"{context.get('message')}: {failure!r} {future or ''}".strip())

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    # What the conductor does with it.

    def new_process(self, name: str, rate: float = 1.0) -> Process:
        process = Process(name, rate)
        self._processes.append(process)
        return process

    def spawn(self, process: Process, coro: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """A task of that process."""
        return self.create_task(coro, name=name or None, context=process.context.copy())

    def call_in(self, process: Process, delay: float, callback: Callable[..., object], *args: Any) -> _Handle:
        """As `call_later` in true time, whatever the process's clock does."""
        handle = _Handle(callback, args, process.context, process)
        handle._when = self._now + delay
        self._number += 1
        heapq.heappush(self._timers, (handle._when, self._number, handle))
        return handle

    def enter(self, process: Process, callback: Callable[..., object], *args: Any) -> None:
        """Run the callback as the process's, now, or once it goes on."""
        if not process.alive:
            return
        if process.paused:
            process.held.append(_Handle(callback, args, process.context, process))
            return
        left, self.process = self.process, process
        try:
            process.context.run(callback, *args)
        except BaseException as e:
            self._raised(process, callback, e)
        self.process = left

    def kill(self, process: Process) -> None:
        """Nothing of it runs any more."""
        process.alive = False
        process.held.clear()

    def pause(self, process: Process) -> None:
        process.paused = True

    def resume(self, process: Process) -> None:
        process.paused = False
        self._ready.extend(process.held)
        process.held.clear()

    def run(self, main: Coroutine[Any, Any, T], limit_s: float) -> T:
        """Run the conductor's `main` to its end. Raises `HangError` after `limit_s` of virtual time."""
        asyncio._set_running_loop(self)
        self._running = True
        try:
            task = self.spawn(self.conductor, main, "main")
            while True:
                self._turn()
                if task.done():
                    break
                self._pass()
                if self._now > limit_s:
                    raise HangError(f"not at its end after {limit_s:.0f} s of virtual time")
            return task.result()
        finally:
            self._running = False
            asyncio._set_running_loop(None)

    def close(self) -> None:
        """Let go of everything, quietly: what is left are tasks of killed processes and of a world that has ended."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()
        for process in self._processes:
            process.alive = False
            for task in process.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                if not task.done():
                    _end(task.get_coro())
            process.tasks.clear()
            process.held.clear()

    def _raised(self, process: Process, callback: Callable[..., object], failure: BaseException) -> None:
        if process.alive:
            if not isinstance(failure, Exception):
                raise failure
            where = traceback.format_exception(failure)[-2:]
            self.failures.append(f"{process.name}: {callback!r} raised {failure!r} {''.join(where)}")

    def _turn(self) -> None:
        """All that is ready now."""
        ready, left = self._ready, _SPIN
        while ready:
            handle = ready.popleft()
            callback, process = handle.callback, handle.process
            if callback is None or not process.alive:
                continue
            if process.paused:
                process.held.append(handle)
                continue
            self.process = process
            try:
                handle.context.run(callback, *handle.args)
            except BaseException as e:
                self._raised(process, callback, e)
            left -= 1
            if not left:
                raise HangError(f"{_SPIN} callbacks at {self._now:.3f} s, the last one {callback!r} of {process.name}")
        self.callbacks += _SPIN - left
        self.process = self.conductor

    def _pass(self) -> None:
        """On to the next moment at which something is due."""
        ready, timers = self._ready, self._timers
        while timers and (timers[0][2].callback is None or not timers[0][2].process.alive):
            heapq.heappop(timers)
        if not timers:
            raise HangError("nothing is left that could happen")
        self._now = now = timers[0][0]
        while timers and timers[0][0] <= now:
            ready.append(heapq.heappop(timers)[2])


def _end(coro: Any) -> None:
    try:
        coro.close()
    except BaseException:
        # Its clean-up ran in a world that is gone.
        return
