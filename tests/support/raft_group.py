"""Stores of the Raft engine without a network: one alone, or several in one process, whose links a test can cut.

`open_store` opens a group of one, as most tests need it. `Links` carries messages between the members of one process,
in the loop's next turn; `cut(a, b)` drops those between two of them, one way or both. `RaftGroup` is a group on them.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from barque.client.clock import Clock, SystemClock
from barque.master.raft.disk import Disk
from barque.master.raft.lanes import ThreadLane
from barque.master.raft.member import MemberSettings
from barque.master.raft.messages import MemberInfo, Message
from barque.master.raft.ports import Connector, Ground, Transport
from barque.master.raft.ready import CoreSettings
from barque.master.store.engine_raft import EngineRaft, Joining, Settings, open_raft_store

TIMEOUT_S = 60.0
# One process, no network: who has not been heard for so long is away.
QUICK = MemberSettings(core=CoreSettings(heartbeat_s=0.04, election_s=0.3))


class Links:
    """In-memory connections. Members are named by their ids; `dropped` counts what a cut has swallowed."""

    def __init__(self) -> None:
        self.dropped = 0
        self._receivers: dict[str, Callable[[Message], None]] = {}
        self._cuts: dict[tuple[str, str], None] = {}

    def connector(self, member: str) -> Connector:
        def connect(receive: Callable[[Message], None]) -> Transport:
            self._receivers[member] = receive
            return _Transport(self, member)

        return connect

    def cut(self, one: str, other: str, *, both: bool = True) -> None:
        """Nothing comes from `one` to `other` any more; nor back, if `both`."""
        self._cuts[one, other] = None
        if both:
            self._cuts[other, one] = None

    def isolate(self, member: str) -> None:
        for other in self._receivers:
            if other != member:
                self.cut(member, other)

    def mend(self) -> None:
        self._cuts.clear()

    def carry(self, message: Message) -> None:
        if (message.sender, message.to) in self._cuts:
            self.dropped += 1
            return
        asyncio.get_running_loop().call_soon(self._deliver, message)

    def forget(self, member: str) -> None:
        self._receivers.pop(member, None)

    def _deliver(self, message: Message) -> None:
        receive = self._receivers.get(message.to)
        if receive is not None:
            receive(message)


class _Transport:
    """Implements `ports.Transport`."""

    def __init__(self, links: Links, member: str) -> None:
        self._links = links
        self._member = member

    def send(self, message: Message) -> None:
        self._links.carry(message)

    def connect(self, peers: Sequence[MemberInfo]) -> None:
        pass

    def faults(self) -> dict[str, str]:
        return {}

    async def close(self) -> None:
        self._links.forget(self._member)


def a_ground(
    clock: Clock | None = None,
    disk: Disk | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
    seed: int | None = None,
) -> Ground:
    return Ground(clock or SystemClock(), disk or Disk(), ThreadLane, random.Random(seed), entropy)


def an_info(name: str, member_id: str = "") -> MemberInfo:
    return MemberInfo(member_id, name, "127.0.0.1")


async def open_store(
    path: Path,
    clock: Clock,
    settings: Settings = Settings(),
    *,
    disk: Disk | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> EngineRaft:
    """A group of one in the directory `path`."""
    ground = a_ground(clock, disk, entropy)
    return await open_raft_store(path, ground, Links().connector("m1"), settings, founding=an_info("m1"))


class RaftGroup:
    """Members `m1`, `m2`, … in one process, each with its directory below `path`."""

    def __init__(self, path: Path, settings: Settings = Settings(), count: int = 3) -> None:
        self.links = Links()
        self.members: dict[str, EngineRaft] = {}
        self._path = path
        self._settings = settings._replace(member=QUICK, hand_over_s=0.2)
        self._names = [f"m{number}" for number in range(1, count + 1)]
        self._disks: dict[str, Disk] = {}

    def id(self, name: str) -> str:
        """Ids are made of names, so that tests can tell them apart."""
        return f"{name:0>16}"

    def use(self, name: str, disk: Disk) -> None:
        """The disk of a member from its next start on."""
        self._disks[name] = disk

    async def found(self) -> None:
        """A group of all of them, each a voter; `m1` has begun it."""
        first, *others = self._names
        leader = await self.start(first)
        for name in others:
            await self.join(name, leader)
        await self.settled()

    async def open(self) -> None:
        """The group as it was left, or a new one."""
        if not (self._path / self._names[-1]).exists():
            await self.found()
            return
        await asyncio.gather(*(self.start(name) for name in self._names))
        await self.settled()

    async def join(self, name: str, leader: EngineRaft) -> EngineRaft:
        joined = await self.start(name, joining=leader.cluster_id)
        await leader.add_member(an_info(name, self.id(name)))
        async with asyncio.timeout(TIMEOUT_S):
            while self.id(name) not in leader.configuration.voters or leader.configuration.joint:
                await asyncio.sleep(0.01)
        return joined

    async def start(self, name: str, joining: str = "") -> EngineRaft:
        info = an_info(name, self.id(name))
        ground = a_ground(disk=self._disks.get(name), seed=int(name[1:]))
        engine = await open_raft_store(
            self._path / name / "store",
            ground,
            self.links.connector(info.id),
            self._settings,
            founding=None if joining else info,
            joining=Joining(joining, info) if joining else None,
        )
        self.members[name] = engine
        return engine

    async def stop(self, name: str) -> None:
        await self.members.pop(name).close()

    async def close(self) -> None:
        for name in list(self.members):
            await self.stop(name)

    async def leader(self) -> EngineRaft:
        """Whoever leads, of those who are up."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                leading = [engine for engine in self.members.values() if engine.leads]
                if leading:
                    return max(leading, key=lambda engine: engine.group_figures().term)
                await asyncio.sleep(0.01)

    async def follower(self) -> EngineRaft:
        leader = await self.leader()
        return next(engine for engine in self.members.values() if engine is not leader)

    async def settled(self) -> EngineRaft:
        """The leader, once every member has applied the same."""
        leader = await self.leader()
        async with asyncio.timeout(TIMEOUT_S):
            while len({engine.group_figures().applied for engine in self.members.values()}) > 1 or any(
                engine.group_figures().leader != leader.member_id for engine in self.members.values()
            ):
                await asyncio.sleep(0.01)
        return leader
