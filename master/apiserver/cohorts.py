"""Requests that are under way together take their steps together.

A request that goes through all of its steps at one go finds at each that the step before has thrown that one's code and
data out of the processor's caches. Where it gives way between two steps, the loop runs the same step of every request
that is ready, and all but the first find things where they need them: with 64 creates at once a third of their time.
A request that is alone pays some microseconds for its turns of the loop. After Larus and Parkes, "Using Cohort
Scheduling to Enhance Server Performance" (USENIX ATC 2002).
"""

from __future__ import annotations

import asyncio


async def in_step() -> None:
    """Let others who are as far as this request come first. Whatever was read before may have changed after."""
    await asyncio.sleep(0)
