"""Linearisable reads without writing to the log (dissertation, section 6.4).

A leader that was deposed without knowing it must not answer. So it notes its commit index, asks everyone whether it is
still the leader by a heartbeat with the number of the round, and once a quorum has confirmed that round, whoever has
applied up to the noted index may read. Reads that arrive while a round is under way wait for the next, together.
"""

from __future__ import annotations

from typing import NamedTuple

# Reads that wait in one member; more than that are told to ask again. The shell gathers, so few are ever there.
_MOST_WAITING = 4096


class Asked(NamedTuple):
    """A read of the member, under its own number for it."""

    member: str
    context: int


class ReadRounds:
    """The leader's side. `number` is the newest round."""

    def __init__(self) -> None:
        self.number = 0
        self._gathered: list[Asked] = []
        self._asked: list[Asked] = []
        self._index = 0

    @property
    def under_way(self) -> bool:
        return bool(self._asked)

    @property
    def gathered(self) -> bool:
        return bool(self._gathered)

    def gather(self, asked: Asked) -> bool:
        """False where too many wait."""
        if len(self._gathered) >= _MOST_WAITING:
            return False
        self._gathered.append(asked)
        return True

    def begin(self, commit: int) -> None:
        """All that has gathered becomes a round, to be read at `commit`."""
        self.number += 1
        self._asked, self._gathered, self._index = self._gathered, [], commit

    def confirmed(self, number: int) -> tuple[int, list[Asked]]:
        """A quorum has confirmed that round: the reads that this answers, and the index they may read at."""
        if number < self.number:
            return 0, []
        asked, self._asked = self._asked, []
        return self._index, asked

    def waiting(self) -> list[Asked]:
        return [*self._asked, *self._gathered]


class AskedReads:
    """A follower's side: what it has asked the leader, and until when it waits for each."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    @property
    def deadline(self) -> float:
        return next(iter(self._until.values()), float("inf"))

    def add(self, context: int, until: float) -> bool:
        """False where too many wait."""
        if len(self._until) >= _MOST_WAITING:
            return False
        self._until[context] = until
        return True

    def answered(self, context: int) -> bool:
        """False for an answer to what nobody waits for any more."""
        return self._until.pop(context, None) is not None

    def expired(self, now: float) -> list[int]:
        """Those whose time is up; they are not waited for any more."""
        contexts = [context for context, until in self._until.items() if until <= now]
        for context in contexts:
            del self._until[context]
        return contexts

    def abandon(self) -> list[int]:
        contexts = list(self._until)
        self._until.clear()
        return contexts
