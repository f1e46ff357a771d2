"""Supervision of never-ending tasks: whichever ends, ends all, and the error names it.

In: coroutines by name. Out: `run_all` returns only when cancelled, or by raising `UnexpectedEndError` or a task's own
`StopError`; its message is the one line a daemon prints before it stops. Supervised groups nest: the names are joined
by `/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any


class StopError(Exception):
    """The daemon must stop for a reason that is no fault of its own; the message is the line that says what to do."""


class UnexpectedEndError(Exception):
    """A task that should run for ever has ended; `task` is its name; `__cause__`, if any, has the traceback."""

    def __init__(self, task: str, why: str) -> None:
        super().__init__(f"{task} {why}")
        self.task = task
        self.why = why


async def run_all(named: Mapping[str, Coroutine[Any, Any, object]]) -> None:
    """Run them together until cancelled; the first one to end or fail cancels the others and is named by the error,
    unless that is a `StopError`.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for name, work in named.items():
                group.create_task(_guard(name, work), name=name)
    except BaseExceptionGroup as failed:
        first = _first(failed)
        raise first from first.__cause__


async def _guard(name: str, work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nobody cancelled this task: something it waited for was cancelled under its hands.
        raise UnexpectedEndError(name, "was cancelled from within") from error
    except Exception as error:
        inner = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(inner, StopError):
            raise inner from None
        if isinstance(inner, UnexpectedEndError):
            raise UnexpectedEndError(f"{name}/{inner.task}", inner.why) from (inner.__cause__ or inner)
        notes = "".join(f" ({note})" for note in getattr(inner, "__notes__", ()))
        raise UnexpectedEndError(name, f"failed: {type(inner).__name__}: {inner}{notes}") from inner
    raise UnexpectedEndError(name, "ended unexpectedly")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first fault of a group, however deep."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
