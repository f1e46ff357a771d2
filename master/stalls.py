"""How long the event loop was held: a timer that measures how late it is woken.

Rule 8 of the house bounds what one callback may take; `StallMonitor.run`, a task of the daemon, is how anyone sees
whether it holds. It costs a hundred wake-ups a second and a fixed table of counts.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

from barque.client.clock import Clock

# How often the loop is asked. A callback that holds it for `h` delays the next answer by h minus, at most, this.
INTERVAL_S = 0.01
# Upper bounds (ms) of the classes that delays are counted in: fine where the bound of 20 ms lies, coarse above.
_BOUNDS_MS = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 25, 30, 40, 50, 75, 100, 150, 200, 500, 1000, 5000)
_BOUNDS_S = tuple(bound / 1000 for bound in _BOUNDS_MS)


class Stalls(NamedTuple):
    """Delays of the loop so far, in ms: the 999th of a thousand (its class's upper bound) and the longest."""

    p999_ms: float
    max_ms: float


class Delays(NamedTuple):
    """All delays so far: `counts` of each class by its upper bound, the last of what lies above all; and their sum."""

    bounds_s: Sequence[float]
    counts: Sequence[int]
    total_s: float


class StallMonitor:
    """Counts from its first `run` on. `heard`, where given, is told each delay in seconds."""

    def __init__(self, clock: Clock, heard: Callable[[float], None] | None = None) -> None:
        self._heard = heard
        self._clock = clock
        self._counts = [0] * (len(_BOUNDS_MS) + 1)
        self._total = 0
        self._sum_ms = 0.0
        self._max_ms = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            asked = self._clock.monotonic()
            await self._clock.sleep(INTERVAL_S)
            late_s = self._clock.monotonic() - asked - INTERVAL_S
            self.note(late_s * 1000)
            if self._heard is not None:
                self._heard(max(0.0, late_s))

    def note(self, late_ms: float) -> None:
        """Count one delay."""
        self._counts[bisect_left(_BOUNDS_MS, late_ms)] += 1
        self._total += 1
        self._sum_ms += late_ms
        self._max_ms = max(self._max_ms, late_ms)

    def figures(self) -> Stalls:
        """What was measured so far."""
        within = self._total - self._total // 1000
        seen = 0
        for count, bound_ms in zip(self._counts, _BOUNDS_MS, strict=False):
            seen += count
            if seen >= within:
                return Stalls(min(bound_ms, self._max_ms), self._max_ms)
        return Stalls(self._max_ms, self._max_ms)

    def delays(self) -> Delays:
        """The same by class, as a histogram has them."""
        return Delays(_BOUNDS_S, tuple(self._counts), self._sum_ms / 1000)

    def classes(self) -> str:
        """How many delays fell into each class, as `upper bound in ms:count`, so that several runs can be added up."""
        bounds = (*_BOUNDS_MS, math.inf)
        return " ".join(f"{bound:g}:{count}" for bound, count in zip(bounds, self._counts, strict=True) if count)
