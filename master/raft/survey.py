"""How the group looks from one member: who was heard when, and what that means in words and figures."""

from __future__ import annotations

import math
from collections.abc import Collection

from barque.master.raft.configuration import members_of
from barque.master.raft.core import Core
from barque.master.raft.messages import MemberInfo
from barque.master.raft.ports import PeerFigures


class Survey:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._heard: dict[str, float] = {}

    def heard(self, member: str, now: float) -> None:
        self._heard[member] = now

    def silent_s(self, member: str, now: float) -> float:
        """Since it was last heard; infinite where it never was."""
        return 0.0 if member == self._core.member else now - self._heard.get(member, -math.inf)

    def keep(self, members: Collection[str]) -> None:
        """These are the members now."""
        self._heard = {member: at for member, at in self._heard.items() if member in members}

    def name(self, member: str) -> str:
        info = self._core.configuration.info(member)
        return info.name if info is not None else member

    def furthest_voter(self) -> str:
        """The other voter whose log is known to agree furthest; "" where there is none."""
        core = self._core
        others = [voter for voter in core.configuration.voters if voter != core.member]
        progress = {voter: core.progress(voter) for voter in others}
        return max(others, key=lambda voter: known.match if (known := progress[voter]) else 0, default="")

    def trouble(self, now: float, recent_s: float) -> str:
        """What keeps this member from agreeing with the others, where it is heard of them that something does."""
        core, configuration = self._core, self._core.configuration
        if not configuration.members:
            return "this master waits to be called by the leader"
        if core.member not in members_of(configuration):
            return "this master is no member of the cluster"
        if core.leader not in ("", core.member):
            how = "has not answered in time" if self.silent_s(core.leader, now) <= recent_s else "does not answer"
            return f"the leader {self.name(core.leader)} {how}"
        voters = configuration.voters
        answering = sum(self.silent_s(voter, now) <= recent_s for voter in voters)
        if core.leader and 2 * answering > len(voters):
            return (
                f"{answering} of {len(voters)} masters answer, but no majority of them writes: is a disk full or slow?"
            )
        what = "no majority" if core.leader else "no leader"
        return f"{what}: {answering} of {len(voters)} masters answer"

    def peer(self, info: MemberInfo, now: float, *, snapshot: bool) -> PeerFigures:
        core, progress = self._core, self._core.progress(info.id)
        silent_s = self.silent_s(info.id, now)
        own = info.id == core.member
        return PeerFigures(
            info=info,
            voter=info.id in core.configuration.voters,
            leader=info.id == core.leader,
            match=core.durable_index if own else progress.match if progress is not None else 0,
            silent_s=None if silent_s == math.inf else silent_s,
            snapshot=snapshot,
        )
