"""One seed, from a first master that founds a cluster to the judgement over what its clients were told.

A run: found, join, let clients work while faults come (`chaos`), mend everything, see that the group goes on and
agrees, read everything back, judge the history. The whole stack above the seams of `ports.Ground` and `Connector` is
the real one. `simulate` gives the same `Outcome`, to the last line of its trace, whenever it is called with the same
seed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any, NamedTuple

from barque.master.raft.errors import CorruptFileError
from barque.master.raft.messages import Configuration, Message
from barque.master.store.group import MemberRemovedError
from tests.simulation.harness.chaos import Chaos
from tests.simulation.harness.clients import Clients
from tests.simulation.harness.fleet import Fleet, Master
from tests.simulation.harness.linearizability import UndecidedError, check
from tests.simulation.harness.loop import SimLoop
from tests.simulation.harness.objects import KEYS, RESOURCES
from tests.simulation.harness.settings import SETTINGS
from tests.simulation.harness.world import BrokenError, Object, World, observing

# Seconds of virtual time: of faults, and within which a mended group must be well again.
_RAGE_S = 40.0
_WELL_S = 30.0
_LIMIT_S = 400.0
# A run takes a fraction of a second.
_STUCK_CPU_S = 20.0

_CLIENTS = 6
_WATCHERS = 2


# What a run of many seeds must have seen.
MUST_FIRE = (
    "bit flipped", "churn", "clock jump", "damage found at a start", "disk full", "figure 8",
    "file unsynced at a power cut", "kill", "leadership transferred", "member added", "member removed",
    "message cut off", "message doubled", "message late", "message lost", "net split", "old member returned",
    "one cut off", "one-way cut", "pause", "power cut", "power cut after a vote", "power cut inside a change",
    "power cut of all", "restore", "snapshot installed", "snapshot taken", "state hash told", "sync failed",
    "sync slow", "voters reshaped", "watch gone", "watch resumed",
)  # fmt: skip


class Outcome(NamedTuple):
    """`failure` is "" where all was right. `fired` counts faults and other things that must have happened."""

    seed: int
    failure: str
    fired: dict[str, int]
    virtual_s: float
    calls: int
    acknowledged: int
    events: int
    messages: int
    trace: list[str]


class Simulation:
    def __init__(self, seed: int, *, verbose: bool) -> None:
        self.loop = SimLoop()
        self.fired: Counter[str] = Counter()
        self.trace: list[str] = []
        self.messages = 0
        self._verbose = verbose
        choice = random.Random(seed)
        self._choice = choice
        self.fleet = Fleet(self.loop, random.Random(choice.random()), SETTINGS, self.fired, self.note)
        self.world = World(self.loop, self.fired)
        self.clients = Clients(self.fleet, self.world, random.Random(choice.random()))
        self.chaos = Chaos(self.fleet, self.world, self.clients, random.Random(choice.random()))
        self.fleet.network.observe = self._delivered
        self.fleet.stopped = self._stopped
        self.world.led = lambda *of: self.loop.enter(self.loop.conductor, self.chaos.led, *of)

    def note(self, text: str) -> None:
        self.trace.append(f"{self.loop.time():9.4f} {text}")

    async def run(self) -> None:
        await self._begin(self._choice.choice((1, 3, 3, 3, 5)))
        working = [self._start(self.clients.work(f"client{n}", 0.25), f"client{n}") for n in range(_CLIENTS)]
        watching = [self._start(self.clients.watch(f"watcher{n}"), f"watcher{n}") for n in range(_WATCHERS)]
        checking = self._start(self._compare_often(), "compare")
        await self.chaos.rage(_RAGE_S)
        await self.chaos.heal()
        await self._well()
        self.clients.asking = False
        await asyncio.wait(working)
        await self._agree()
        for task in (*watching, checking):
            task.cancel()
        await asyncio.wait([*watching, checking])
        await self._read_back()
        self._judge()

    def _start(self, doing: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self.loop.spawn(self.loop.conductor, doing, name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None and self.world.broken is None:
            self.world.broken = BrokenError(f"{task.get_name()}: {failure!r}")

    async def _begin(self, masters: int) -> None:
        """One master founds the cluster, the others join it one by one."""
        first = self.fleet.add_machine()
        assert await first.start()
        assert first.engine is not None
        self.fleet.cluster_id = first.engine.cluster_id
        for _ in range(masters - 1):
            joined = await self.chaos.join(self.fleet.add_machine())
            if not joined:
                raise BrokenError("a master cannot join on a fair day")

    async def _well(self) -> None:
        """A mended group must lead, answer everywhere and agree before long."""
        try:
            async with asyncio.timeout(_WELL_S):
                while (leader := self.fleet.leader()) is None or leader.engine is None:
                    await asyncio.sleep(0.1)
                for master in self.fleet.masters:
                    self._let_go_of_removed(master, leader.engine.configuration)
                    while master.state not in ("blank", "removed") and not await self._answers(master):
                        await asyncio.sleep(0.25)
        except TimeoutError:
            raise BrokenError(f"not well {_WELL_S:.0f} s after everything was mended: {self._standings()}") from None

    def _let_go_of_removed(self, master: Master, configuration: Configuration) -> None:
        """A removal whose answer was lost may hold; whoever was down meanwhile is not told of it."""
        if master.info.id in self.world.leaving and master.info.id in configuration.removed:
            master.crash(power=False)
            master.state = "removed"

    async def _answers(self, master: Master) -> bool:
        return all([await self.clients.read("end", key, {}, 5.0, at=master) for key in KEYS[:2]])

    async def _agree(self) -> None:
        """All members come to the same state, and watches reach it."""
        try:
            async with asyncio.timeout(_WELL_S):
                while not self._agreed():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            due = {name: watcher.due() for name, watcher in self.world.watchers.items()}
            raise BrokenError(
                f"members or watches stay behind revision {self.world.revision}: watches want {due}, "
                f"{self._standings()}"
            ) from None
        self._compare()

    def _agreed(self) -> bool:
        revision = self.world.revision
        members = [master.engine.revision == revision for master in self.fleet.serving() if master.engine]
        return all(members) and not any(watcher.due() for watcher in self.world.watchers.values())

    async def _read_back(self) -> None:
        for master in self.fleet.serving():
            for key in KEYS:
                if not await self.clients.read("end", key, {}, 5.0, at=master):
                    raise BrokenError(f"{master.name} does not answer in peace")

    async def _compare_often(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self._compare()

    def _compare(self) -> None:
        """The state of each member that stands where the world stands is the world's."""
        for master in self.fleet.serving():
            engine = master.engine
            if engine is None or engine.revision != self.world.revision:
                continue
            listed = [stored for resource in RESOURCES for stored in engine.list(resource).items]
            found = {stored.key: Object(stored.revision, stored.json) for stored in listed}
            if found != self.world.state:
                self.world.breaks(f"{master.name} at revision {engine.revision} has {found}, not {self.world.state}")

    def _judge(self) -> None:
        try:
            verdict = check(self.clients.history)
        except UndecidedError as e:
            raise BrokenError(f"the history could not be judged: {e}") from e
        if not verdict.ok:
            raise BrokenError(str(verdict))

    def _stopped(self, master: Master, failure: Exception) -> None:
        if isinstance(failure, MemberRemovedError) and master.info.id in self.world.leaving:
            self.note(f"{master.name} has learned that it was removed")
            master.crash(power=False)
            master.state = "removed"
        elif isinstance(failure, CorruptFileError) and master.unflip is not None:
            self.note(f"{master.name} stops: {failure}")
            self.fired["damage found while it ran"] += 1
            master.crash(power=False)
            master.state, master.damage = "damaged", str(failure)
        elif self.world.broken is None:
            trace = "".join(traceback.format_exception(failure)[-3:])
            self.world.broken = BrokenError(f"{master.name} has stopped: {failure!r}\n{trace}")

    def _standings(self) -> str:
        said = []
        for master in self.fleet.masters:
            if master.engine is None:
                said.append(f"{master.name} {master.state}")
            else:
                figures = master.engine.group_figures()
                said.append(
                    f"{master.name} term {figures.term} leader {figures.leader or '-'} commit {figures.commit} "
                    f"applied {figures.applied} revision {master.engine.revision}"
                )
        return "; ".join(said)

    def _delivered(self, sender: str, receiver: str, message: Message) -> None:
        self.messages += 1
        self.world.delivers(sender, receiver, message)
        self.chaos.sees(message)
        if self._verbose:
            text = repr(message)
            self.note(f"{sender} > {receiver} {text if len(text) < 300 else text[:300] + '…'}")


class _StuckError(SystemExit):
    """A callback does not come back. Of its kind, since nothing that a member does may catch it."""


def _stuck(_: int, frame: FrameType | None) -> None:
    raise _StuckError(f"no end after {_STUCK_CPU_S:.0f} s of CPU: {''.join(traceback.format_stack(frame, 3))}")


class _Lines(logging.Handler):
    """What the members log becomes part of the trace."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def emit(self, record: logging.LogRecord) -> None:
        loop = self._simulation.loop
        self._simulation.note(f"{loop.process.name} {record.levelname.lower()}: {record.getMessage()}")


def simulate(
    seed: int, *, verbose: bool = False, planted: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Outcome:
    """Run one seed; with `planted` within that fault. The trace tells of faults and starts; `verbose`: of messages and
    of what members log as well.
    """
    collecting = gc.isenabled()
    # A collection would run clean-up of killed processes at moments of its own.
    gc.disable()
    simulation = Simulation(seed, verbose=verbose)
    logger = logging.getLogger("barque")
    handler, before = _Lines(simulation), (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.CRITICAL)
    logger.propagate = False
    failure = ""
    signal.signal(signal.SIGVTALRM, _stuck)
    signal.setitimer(signal.ITIMER_VIRTUAL, _STUCK_CPU_S)
    try:
        with planted(), observing(simulation.world):
            try:
                simulation.loop.run(_until_broken(simulation), _LIMIT_S)
            except (AssertionError, _StuckError) as e:
                failure = str(e) or repr(e)
            simulation.loop.close()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        if collecting:
            gc.enable()
    failure = failure or "; ".join(simulation.loop.failures[:3])
    clients = simulation.clients
    return Outcome(
        seed, failure, dict(simulation.fired), simulation.loop.time(), len(clients.history), clients.acknowledged,
        clients.events, simulation.messages, simulation.trace,
    )  # fmt: skip


async def _until_broken(simulation: Simulation) -> None:
    """The run, ended by the first thing that is wrong."""
    running = simulation.loop.spawn(simulation.loop.conductor, simulation.run(), "run")
    while not running.done():
        await asyncio.wait([running], timeout=0.1)
        if simulation.world.broken is not None:
            raise simulation.world.broken
        if simulation.loop.failures:
            raise BrokenError(simulation.loop.failures[0])
    running.result()
