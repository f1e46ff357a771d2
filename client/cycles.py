"""Keeps Python's cycle collector from holding the event loop.

A full collection visits every container there is, whatever it finds: with the objects of a loaded master in memory it
held the loop for 40 to 60 ms, and with 10,000 services a worker's for 0.3 s, against the 20 ms that one callback may
take. So what has survived is frozen every
second: moved out of the collector's sight, which takes no time. What is frozen is freed by its reference count as
before. Only a cycle that became garbage after it was frozen stays; measured over 35,000 creates and 5,000 deletes,
those are a few hundred small objects, which a broken watch leaves behind. So that a master which runs for months does
not gather them, all is thawed and collected once an hour, at the price of one such pause.
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


class Collector(Protocol):
    """What is asked of the module `gc`."""

    def freeze(self) -> None: ...

    def unfreeze(self) -> None: ...

    def collect(self, generation: int = 2, /) -> int: ...


async def freeze_survivors(clock: Clock, collector: Collector = gc, *, sweep: bool = False) -> None:
    """Freeze what is there, at once and every second, until cancelled; collect everything once an hour.

    With `sweep`, for a daemon whose libraries leave cycles behind, what has come since is collected before it is
    frozen.
    """
    periods = 0
    while True:
        if periods == _PERIODS_PER_COLLECTION:
            collector.unfreeze()
            collector.collect()
            periods = 0
        if sweep and periods:
            collector.collect(_YOUNG)
        collector.freeze()
        await clock.sleep(PERIOD_S)
        periods += 1
