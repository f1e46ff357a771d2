"""A group of members in memory: configurations change at once, and the test says who answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from barque.master.raft.messages import Configuration, MemberInfo
from barque.master.raft.ports import GroupFigures, PeerFigures
from barque.master.store.group import GroupError
from barque.master.store.port import Restored, StoreUnavailableError


def a_member(name: str, host: str = "", **ports: int) -> MemberInfo:
    """`m1` is at 10.0.0.1 and has the id 0000000000000001."""
    number = int(name.strip("m") or 0)
    return MemberInfo(f"{number:016x}", name, host or f"10.0.0.{number}", **ports)


def a_configuration(*names: str) -> Configuration:
    members = tuple(a_member(name) for name in names)
    return Configuration(voters=tuple(member.id for member in members), members=members)


@dataclass
class MemoryGroup:
    """Implements `barque.master.store.group.Group`. `refusal` is raised by every change; `silent` are names of members
    that do not answer.
    """

    configuration: Configuration = field(default_factory=lambda: a_configuration("m1"))
    member_id: str = f"{1:016x}"
    leader: str = f"{1:016x}"
    silent: set[str] = field(default_factory=set)
    refusal: Exception | None = None
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    faults: dict[str, Any] = field(default_factory=dict)

    def group_figures(self) -> GroupFigures:
        peers = [
            PeerFigures(
                info=info,
                voter=info.id in self.configuration.voters,
                leader=info.id == self.leader,
                match=0 if info.name in self.silent else 90,
                silent_s=0.0 if info.id == self.member_id else None if info.name in self.silent else 0.25,
                snapshot=False,
            )
            for info in self.configuration.members
        ]
        return GroupFigures(
            member=self.member_id, term=7, leader=self.leader, last_index=100, commit=95, applied=94, election_s=1.0,
            stall_s=0.012, fsync_s=0.004, peers=peers, faults=self.faults,
        )  # fmt: skip

    async def add_member(self, info: MemberInfo) -> None:
        self._asked("add", info)
        had = self.configuration
        if had.info(info.id) == info:
            return
        if any(member.name == info.name for member in had.members):
            raise GroupError(f"the name {info.name} is taken")
        self._change(learners=(*had.learners, info.id), members=(*had.members, info))

    async def remove_member(self, member: str) -> None:
        self._asked("remove", member)
        had = self.configuration
        gone = self._find(member)
        if had.voters == (gone.id,):
            raise GroupError(f"{gone.name} is the last voter")
        self._change(
            voters=tuple(each for each in had.voters if each != gone.id),
            learners=tuple(each for each in had.learners if each != gone.id),
            members=tuple(each for each in had.members if each != gone),
            removed=(*had.removed, gone.id),
        )

    async def transfer(self, to: str = "") -> str:
        self._asked("transfer", to)
        others = [info for info in self.configuration.members if info.id != self.leader]
        if not others:
            raise GroupError("there is no other voter to hand over to")
        taking = self._find(to) if to else others[0]
        self.leader = taking.id
        return taking.name

    async def recover_quorum(self) -> Restored:
        self._asked("recover")
        own = self._find(self.member_id)
        others = tuple(info.id for info in self.configuration.members if info != own)
        self.configuration = Configuration((own.id,), members=(own,), removed=others)
        self.leader = own.id
        return Restored(1_000_000_042, 12)

    def promote(self, name: str) -> None:
        """What the leader does once a learner has caught up."""
        member = self._find(name).id
        had = self.configuration
        self._change(voters=(*had.voters, member), learners=tuple(e for e in had.learners if e != member))

    def _asked(self, *what: Any) -> None:
        self.asked.append(what)
        if self.refusal is not None:
            raise self.refusal

    def _find(self, member: str) -> MemberInfo:
        found = next((info for info in self.configuration.members if member in (info.id, info.name)), None)
        if found is None:
            raise GroupError(f"{member} is not a member")
        return found

    def _change(self, **changes: Any) -> None:
        self.configuration = msgspec.structs.replace(self.configuration, **changes)


NO_QUORUM = StoreUnavailableError("no leader: 1 of 3 masters answer")
