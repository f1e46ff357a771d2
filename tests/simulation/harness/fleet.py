"""`Fleet`: the machines, the masters that run on them, and what can be done to both.

A machine keeps its disk; a master's process on it comes and goes. `Master.call` is how clients reach one: over a wire
that takes time, and with an outcome that stays unknown when the process ends in the middle.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from barque.master.raft.errors import StoreStartError
from barque.master.raft.member import Member
from barque.master.raft.messages import MemberInfo
from barque.master.store.engine_raft import EngineRaft, Joining, Settings, open_raft_store
from tests.simulation.harness.disk import Medium, SimDisk
from tests.simulation.harness.ground import SimClock, a_ground
from tests.simulation.harness.loop import Process, SimLoop
from tests.simulation.harness.network import SimNetwork

T = TypeVar("T")

_WIRE_S = 0.0005
PATH = Path("/barque/store")


def member_of(engine: EngineRaft) -> Member:
    """The member below an engine: some faults come from its own side."""
    return engine._member


class DownError(Exception):
    """Nobody listens there: the call was never made."""


class CutOffError(Exception):
    """The connection broke after the call was made: what came of it is not known."""


class Master:
    """One machine and the master on it. `info` names the member that it holds, or shall; `state` is `blank`, `up`,
    `down`, `damaged` (it does not start; `damage` is what it said) or `removed`.
    """

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.medium = Medium(random.Random(fleet.choice.random()), fleet.fired)
        self.medium.stop = lambda: self.crash(power=True)
        self.state = "blank"
        self.damage = ""
        self.info = MemberInfo("", name, name)
        self.engine: EngineRaft | None = None
        self.process: Process | None = None
        self.wall_offset_s = 0.0
        # What puts a flipped bit back.
        self.unflip: Callable[[], None] | None = None
        # The cluster that it has joined, or shall; "" for the master that founded it.
        self.joined = ""
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = iter(range(1, 1 << 62))
        self._clock: SimClock | None = None

    @property
    def serves(self) -> bool:
        return self.state == "up" and self.engine is not None

    def jump(self, seconds: float) -> None:
        """Set the time of day."""
        self.wall_offset_s += seconds
        if self._clock is not None:
            self._clock.wall_offset_s = self.wall_offset_s

    async def start(self) -> bool:
        """Start the master, as its daemon would. Returns whether it serves."""
        fleet = self.fleet
        if self.process is not None:
            return self.serves
        process = self.process = fleet.loop.new_process(self.name, rate=fleet.choice.uniform(0.98, 1.02))
        disk = SimDisk(self.medium, process)
        ground = a_ground(fleet.loop, process, disk, random.Random(fleet.choice.random()))
        assert isinstance(ground.clock, SimClock)
        self._clock = ground.clock
        self._clock.wall_offset_s = self.wall_offset_s
        self.state = "up"
        connector = fleet.network.connector(self.name, process, self.info.id)

        def opened() -> Awaitable[EngineRaft]:
            join = Joining(self.joined, self.info) if self.joined else None
            found = None if self.joined else self.info
            return open_raft_store(PATH, ground, connector, fleet.settings, founding=found, joining=join)

        try:
            engine = await self._within(process, opened)
        except (StoreStartError, OSError) as e:
            # A process that cannot start ends.
            if process.alive:
                fleet.loop.kill(process)
                self.medium.killed()
            self.process, self.state, self.damage = None, "damaged", str(e)
            fleet.note(f"{self.name} does not start: {e}")
            return False
        except CutOffError:
            return False
        self.engine = engine
        fleet.loop.spawn(process, self._supervise(engine), f"{self.name} runs")
        self.info = self.info if self.info.id else MemberInfo(engine.member_id, self.name, self.name)
        fleet.note(f"{self.name} serves as {engine.member_id}")
        return True

    async def _supervise(self, engine: EngineRaft) -> None:
        """A store that stops by itself has found a fault of its own."""
        try:
            await engine.run()
        except Exception as e:
            self.fleet.stopped(self, e)

    def crash(self, *, power: bool) -> None:
        """End the process at this instruction; with `power` the machine, too."""
        process = self.process
        if process is None:
            return
        self.fleet.note(f"{self.name} {'loses its power' if power else 'is killed'}")
        self.fleet.loop.kill(process)
        if power:
            self.medium.power_cut()
        else:
            self.medium.killed()
        self.medium.stop_in = None
        self.process, self.engine, self.state, self._clock = None, None, "down", None
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if not call.done():
                call.set_exception(CutOffError(self.name))

    async def call(self, ask: Callable[[EngineRaft], Awaitable[T]], timeout_s: float) -> T:
        """Ask the master. Raises what it raises, `DownError`, `CutOffError`, `TimeoutError`."""
        await asyncio.sleep(_WIRE_S * (1 + self.fleet.choice.random()))
        process, engine = self.process, self.engine
        if process is None or engine is None:
            raise DownError(self.name)
        async with asyncio.timeout(timeout_s):
            answer = await self._within(process, lambda: ask(engine))
        await asyncio.sleep(_WIRE_S * (1 + self.fleet.choice.random()))
        return answer

    async def _within(self, process: Process, doing: Callable[[], Awaitable[T]]) -> T:
        """Await something as the process; `CutOffError` once it is dead. If we are cancelled, so is it, or not: a
        client's end is not always heard of.
        """
        loop = self.fleet.loop
        answer: asyncio.Future[T] = loop.create_future()
        number = next(self._numbers)
        self._calls[number] = answer

        async def do() -> None:
            try:
                result = await doing()
            except Exception as e:
                if not answer.done():
                    answer.set_exception(e)
            else:
                if not answer.done():
                    answer.set_result(result)

        task = loop.spawn(process, do())
        try:
            return await answer
        except asyncio.CancelledError:
            if self.fleet.choice.random() < 0.5:
                loop.enter(process, task.cancel)
            raise
        finally:
            self._calls.pop(number, None)


class Fleet:
    def __init__(
        self, loop: SimLoop, choice: random.Random, settings: Settings, fired: Counter[str], note: Callable[[str], None]
    ) -> None:
        self.loop = loop
        self.choice = choice
        self.settings = settings
        self.fired = fired
        self.note = note
        self.network = SimNetwork(loop, random.Random(choice.random()), fired)
        # Called for a master whose store has stopped by itself.
        self.stopped: Callable[[Master, Exception], None] = lambda master, failure: None
        self.masters: list[Master] = []
        self.cluster_id = ""

    def add_machine(self) -> Master:
        master = Master(self, f"m{len(self.masters) + 1}")
        self.masters.append(master)
        return master

    def new_member_id(self) -> str:
        return self.choice.randbytes(8).hex()

    def serving(self) -> list[Master]:
        return [master for master in self.masters if master.serves]

    def members(self) -> list[Master]:
        """Machines that hold a member, or should."""
        return [master for master in self.masters if master.state in ("up", "down", "damaged")]

    def leader(self) -> Master | None:
        return next((master for master in self.serving() if master.engine is not None and master.engine.leads), None)

    def pairs(self) -> Iterator[tuple[Master, Master]]:
        for number, one in enumerate(self.masters):
            for other in self.masters[number + 1 :]:
                yield one, other
