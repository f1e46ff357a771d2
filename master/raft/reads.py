"""Linearisable reads of one member: many that wait share one question to the leader, and one question is out at a time.

In: readers, the core's answers, how far the state is. Out: the reader's index, once that is applied; or why not.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from barque.master.raft.ports import UnavailableError
from barque.master.raft.ready import ReadState


class _Reader(NamedTuple):
    """`context` is the number of the first question that was asked for it, 0 before."""

    answer: asyncio.Future[int]
    expires: float
    context: int = 0


class Reads:
    """`first_context` must be another in every run: an answer that was meant for an earlier one is told by it.

    A question without an answer is asked again after `retry_s`.
    """

    def __init__(self, first_context: int, timeout_s: float, retry_s: float, why: Callable[[], str]) -> None:
        self._contexts = itertools.count(first_context)
        self._newest = first_context - 1
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._why = why
        self._waiting: deque[_Reader] = deque()
        self._asked: deque[_Reader] = deque()
        self._ask_again = 0.0
        # Those whose index is known but not applied yet; indexes rise.
        self._known: deque[tuple[int, _Reader]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._asked or self._known)

    def add(self, now: float) -> asyncio.Future[int]:
        """The index at which the reader may read, when it may. Fails with `UnavailableError`."""
        reader = _Reader(asyncio.get_running_loop().create_future(), now + self._timeout_s)
        self._waiting.append(reader)
        return reader.answer

    def turn(self, now: float) -> int | None:
        """The number of the question to ask now, if one is due."""
        self._expire(now)
        if (self._asked and now < self._ask_again) or not (self._waiting or self._asked):
            return None
        self._newest = next(self._contexts)
        self._asked.extend(reader._replace(context=self._newest) for reader in self._waiting)
        self._waiting.clear()
        self._ask_again = now + self._retry_s
        return self._newest

    def answered(self, state: ReadState) -> None:
        """The leader has answered: all that asked by then may read at `state.index`."""
        if state.index < 0 or state.context > self._newest:
            return
        while self._asked and self._asked[0].context <= state.context:
            self._known.append((state.index, self._asked.popleft()))

    def ask_again(self) -> None:
        """There is another leader: who has asked need not wait for the answer of the last."""
        self._ask_again = 0.0

    def applied(self, index: int) -> None:
        """The state stands at `index`."""
        while self._known and self._known[0][0] <= index:
            answer = self._known.popleft()[1].answer
            if not answer.done():
                answer.set_result(index)

    def close(self, why: str) -> None:
        for reader in (*self._waiting, *self._asked, *[reader for _, reader in self._known]):
            if not reader.answer.done():
                reader.answer.set_exception(UnavailableError(why))
        self._waiting.clear()
        self._asked.clear()
        self._known.clear()

    def _expire(self, now: float) -> None:
        late: list[_Reader] = []
        for queue in (self._waiting, self._asked):
            while queue and (queue[0].expires <= now or queue[0].answer.done()):
                late.append(queue.popleft())
        while self._known and (self._known[0][1].expires <= now or self._known[0][1].answer.done()):
            late.append(self._known.popleft()[1])
        for reader in late:
            if not reader.answer.done():
                reader.answer.set_exception(UnavailableError(self._why()))
