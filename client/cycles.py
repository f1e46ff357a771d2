"""Keeps Python's cycle collector from holding the event loop, and from looking too often.

A full collection visits every container there is, whatever it finds: with the objects of a loaded master in memory it
held the loop for 40 to 60 ms, and with 10,000 services a worker's for 0.3 s, against the 20 ms that one callback may
take. So what has survived is frozen every second: moved out of the collector's sight, which takes no time. What is
frozen is freed by its reference count as before; only a cycle that becomes garbage after it was frozen stays. So that a
process which runs for months does not gather those, all is thawed and collected once an hour, at the price of one such
pause.

A young collection costs as much as there are young containers, and pays only where they have become garbage in cycles.
At Python's own 700 a master with 64 requests under way spent 8 % of its time on visiting what they were about to free
by themselves. So it begins at ten thousand, and what a second has left behind is looked through before it is frozen.
"""

from __future__ import annotations

import gc
from typing import Protocol

from barque.client.clock import Clock

# What a second of full load adds is visited in well below 10 ms.
PERIOD_S = 1.0
_PERIODS_PER_COLLECTION = 3600
# The generations that hold what came since the last freeze.
_YOUNG = 1
# New containers, beyond those freed, that begin a young collection: at some 0.4 µs each it takes 4 ms.
_MOST_YOUNG = 10_000


class Collector(Protocol):
    """What is asked of the module `gc`."""

    def set_threshold(self, threshold0: int, /) -> None: ...

    def freeze(self) -> None: ...

    def unfreeze(self) -> None: ...

    def collect(self, generation: int = 2, /) -> int: ...


async def freeze_survivors(clock: Clock, collector: Collector = gc) -> None:
    """Freeze what is there at once, and every second what has survived since; collect everything once an hour. Until
    cancelled.
    """
    collector.set_threshold(_MOST_YOUNG)
    periods = 0
    while True:
        if periods == _PERIODS_PER_COLLECTION:
            collector.unfreeze()
            collector.collect()
            periods = 0
        elif periods:
            collector.collect(_YOUNG)
        collector.freeze()
        await clock.sleep(PERIOD_S)
        periods += 1
