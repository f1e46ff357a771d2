"""What a simulated member stands on: its clocks, its lanes, and the `Ground` made of them."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from barque.master.raft.ports import Ground
from tests.simulation.harness.disk import SimDisk
from tests.simulation.harness.loop import Process, SimLoop

T = TypeVar("T")

_DAWN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
# From the hand-over of a job until a thread has begun with it.
_HAND_OVER_S = 0.0002


class SimClock:
    """Implements `barque.client.clock.Clock`. `wall_offset_s` may jump at any moment; the monotonic clock goes at the
    process's own rate and begins where it likes. Within a lane's job it moves on by what the disk took.
    """

    def __init__(self, loop: SimLoop, process: Process, disk: SimDisk, begins: float) -> None:
        self.wall_offset_s = 0.0
        self._loop = loop
        self._process = process
        self._disk = disk
        self._begins = begins
        self._began = loop.time()

    def monotonic(self) -> float:
        return self._begins + (self._loop.time() - self._began) * self._process.rate + self._disk.spent_s

    def wall(self) -> datetime.datetime:
        return _DAWN + datetime.timedelta(seconds=self._loop.time() + self.wall_offset_s)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimLane:
    """Implements `ports.Lane`: the job is done at once at some moment after it was put in, its answer comes once the
    time that the disk took has passed. So a stop may fall before a job, after it, or (see `Medium.stop_in`) inside.
    """

    def __init__(self, loop: SimLoop, process: Process, disk: SimDisk, choice: random.Random) -> None:
        self._loop = loop
        self._process = process
        self._disk = disk
        self._choice = choice
        self._jobs: deque[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]] = deque()
        self._busy = False
        # What the job in hand has answered, and what will tell.
        self._answer: Callable[[], None] | None = None

    def put(self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        self._jobs.append((job, done))
        if not self._busy:
            self._busy = True
            self._begin()

    def close(self) -> None:
        self._tell(soon=True)
        while self._jobs:
            self._work()
            self._tell(soon=True)
        self._busy = False

    def _begin(self) -> None:
        self._loop.call_in(self._process, self._choice.random() * _HAND_OVER_S, self._work_in_turn)

    def _work_in_turn(self) -> None:
        if self._jobs:
            took = self._work()
            self._loop.call_in(self._process, took, self._tell_in_turn)
        else:
            self._busy = False

    def _tell_in_turn(self) -> None:
        self._tell()
        if self._jobs:
            self._begin()
        else:
            self._busy = False

    def _work(self) -> float:
        """Do the next job; returns the seconds it took."""
        job, done = self._jobs.popleft()
        result, failure = None, None
        disk = self._disk
        disk.metered = True
        try:
            result = job()
        except Exception as e:
            failure = e
        took, disk.spent_s, disk.metered = disk.spent_s, 0.0, False
        self._answer = lambda: done(result, failure)
        return took

    def _tell(self, *, soon: bool = False) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if soon:
            self._loop.call_soon(answer)
        else:
            answer()


def a_ground(loop: SimLoop, process: Process, disk: SimDisk, choice: random.Random) -> Ground:
    """The ground of one run of a member; all that it decides comes from `choice`."""
    clock = SimClock(loop, process, disk, begins=choice.uniform(0, 1e6))
    lanes = random.Random(choice.random())
    return Ground(
        clock=clock,
        disk=disk,
        lanes=lambda _: SimLane(loop, process, disk, lanes),
        random=random.Random(choice.random()),
        entropy=random.Random(choice.random()).randbytes,
    )
