"""How long an election timeout must be, from how long the loop was held and the disk took lately.

A member whose loop stands still, or whose disk takes long to sync, is late with its heartbeats and votes without being
dead. So the timeout is ten times the slowest of what usually happens, and never less than the one that was set.
"""

from __future__ import annotations

import math
from bisect import bisect_left

_TIMES = 10
# Beyond this a dead leader would not be noticed; a disk that is slower stands still.
_MOST_ELECTION_S = 10.0
# Upper bounds of the classes that times are counted in: from half a millisecond up, each a fifth longer.
_BOUNDS_S = tuple(0.0005 * 1.2**i for i in range(56))
# Two windows are looked at, the present one and the one before, so "lately" is one to two minutes.
_WINDOW_S = 60.0
# Fewer say nothing.
_FEWEST = 8


class RecentTimes:
    """Counts durations and forgets the old ones. `fraction` is what counts as usual: 0.99 for all but one of 100."""

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._counts = [0] * (len(_BOUNDS_S) + 1)
        self._before = list(self._counts)
        self._ends = -math.inf

    def note(self, seconds: float, now: float) -> None:
        self._forget(now)
        self._counts[bisect_left(_BOUNDS_S, seconds)] += 1

    def usual_s(self, now: float) -> float:
        """No more than that (its class's upper bound) is usual; 0.0 where too little is known."""
        self._forget(now)
        counts = [a + b for a, b in zip(self._counts, self._before, strict=True)]
        total = sum(counts)
        if total < _FEWEST:
            return 0.0
        within, seen = math.ceil(total * self._fraction), 0
        for count, bound_s in zip(counts, (*_BOUNDS_S, _BOUNDS_S[-1]), strict=True):
            seen += count
            if seen >= within:
                return bound_s
        raise AssertionError("a fraction is at most one")

    def _forget(self, now: float) -> None:
        if now < self._ends:
            return
        empty = [0] * len(self._counts)
        self._before = self._counts if now < self._ends + _WINDOW_S else empty
        self._counts = list(empty)
        self._ends = now + _WINDOW_S


class Pace:
    """`floor_s` is the election timeout where nothing is slow."""

    def __init__(self, floor_s: float) -> None:
        self._floor_s = floor_s
        self._stalls = RecentTimes(0.999)
        self._syncs = RecentTimes(0.99)

    def note_stall(self, seconds: float, now: float) -> None:
        self._stalls.note(seconds, now)

    def note_sync(self, seconds: float, now: float) -> None:
        self._syncs.note(seconds, now)

    def stall_s(self, now: float) -> float:
        return self._stalls.usual_s(now)

    def sync_s(self, now: float) -> float:
        return self._syncs.usual_s(now)

    def election_s(self, now: float) -> float:
        slowest_s = max(self.stall_s(now), self.sync_s(now))
        return max(self._floor_s, min(_TIMES * slowest_s, _MOST_ELECTION_S))
