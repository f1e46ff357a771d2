"""What is told of the group of masters, and what is wrong with it. Pure: a configuration and figures in, messages out.

Only the leader hears every member. A follower hears the leader, and others only while there is none: of members that
have no reason to speak to it, it says that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable

from barque.master.raft.messages import Configuration, MemberInfo
from barque.master.raft.ports import GroupFigures, PeerFigures
from barque.proto import cluster_pb2 as pb

# Members speak ten times in the shortest election timeout; one not heard for two of them is not there.
_SILENT_ELECTIONS = 2


class GroupView:
    """The group as one member sees it at this moment."""

    def __init__(self, configuration: Configuration, figures: GroupFigures) -> None:
        self._configuration = configuration
        self._figures = figures
        self._peers = {peer.info.id: peer for peer in figures.peers}

    def status(self) -> pb.Group:
        figures = self._figures
        return pb.Group(
            member=figures.member,
            leader=figures.leader,
            term=figures.term,
            last_index=figures.last_index,
            commit=figures.commit,
            applied=figures.applied,
            election_timeout_ms=figures.election_s * 1000,
            stall_ms=figures.stall_s * 1000,
            fsync_ms=figures.fsync_s * 1000,
            faults=[f"{name}: {fault}" for name, fault in figures.faults.items()],
            quorum_lost=self._quorum_lost,
            advice=self._advice(),
        )

    def members(self) -> list[pb.Member]:
        """In the order of their names."""
        return [self._member(info) for info in sorted(self._configuration.members, key=lambda info: info.name)]

    def removal_risk(self, member: MemberInfo) -> str:
        """Why taking this member out would leave too few that answer; "" where it would not, or is not known here."""
        if self._figures.leader != self._figures.member:
            return ""
        staying = [voter for voter in self._voters() if voter.id != member.id]
        answering = [voter.name for voter in staying if self._answers(voter.id)]
        if len(answering) >= _majority(len(staying)):
            return ""
        silent = _names(voter for voter in staying if not self._answers(voter.id))
        return (
            f"without {member.name}, only {len(answering)} of {len(staying)} masters would answer ({silent} does not), "
            f"and nothing could be changed any more: start {silent} or remove that one first (--force insists)"
        )

    def _member(self, info: MemberInfo) -> pb.Member:
        peer = self._peers.get(info.id)
        made = pb.Member(
            name=info.name,
            address=info.grpc_address,
            leader=info.id == self._figures.leader,
            id=info.id,
            peer_address=info.peer_address,
            voter=info.id in self._configuration.voters,
            match=self._figures.last_index if info.id == self._figures.member else peer.match if peer else 0,
            state=self._state(info.id, peer),
        )
        if peer is not None and peer.silent_s is not None and info.id != self._figures.member:
            made.silent_s = peer.silent_s
        return made

    def _state(self, member: str, peer: PeerFigures | None) -> str:
        if not self._hears(member):
            return ""
        if not self._answers(member):
            return "silent"
        faulty = "disk" if member == self._figures.member else f"master {peer.info.name}" if peer is not None else ""
        if faulty in self._figures.faults:
            return "failing"
        if peer is not None and peer.snapshot:
            return "receiving a snapshot"
        return "catching up" if member in self._configuration.learners else "ok"

    def _hears(self, member: str) -> bool:
        """Whether this master would hear of that one if it were there."""
        own, leader = self._figures.member, self._figures.leader
        return leader in ("", own) or member in (own, leader)

    def _answers(self, member: str) -> bool:
        if member == self._figures.member:
            return True
        peer = self._peers.get(member)
        silent_s = peer.silent_s if peer is not None else None
        return silent_s is not None and silent_s <= _SILENT_ELECTIONS * self._figures.election_s

    def _voters(self) -> list[MemberInfo]:
        return [info for info in self._configuration.members if info.id in self._configuration.voters]

    @property
    def _quorum_lost(self) -> bool:
        voters = self._voters()
        answering = sum(self._answers(voter.id) for voter in voters)
        return bool(voters) and not self._figures.leader and answering < _majority(len(voters))

    def _advice(self) -> str:
        own, voters = self._figures.member, self._voters()
        if not self._configuration.members:
            return "this master has joined and waits until the leader reaches it: is its address open to the others?"
        if self._configuration.info(own) is None:
            return "this master was removed from the cluster: stop it; to bring it back, empty its data directory first"
        silent = [voter for voter in voters if not self._answers(voter.id)]
        answering = f"{len(voters) - len(silent)} of {len(voters)} masters answer"
        if self._quorum_lost:
            name = next(info.name for info in self._configuration.members if info.id == own)
            return (
                f"no leader: {answering}. Nothing can be changed, and only reads that allow old data succeed "
                f"(resourceVersion=0), until {_majority(len(voters))} of them do: start {_names(silent)} again. Only "
                f"where that is impossible for good: `barque cluster recover-quorum {name}`"
            )
        if not self._figures.leader:
            return f"no leader at this moment: {answering}, an election is under way"
        if self._figures.leader != own or not silent:
            return ""
        barely = len(voters) - len(silent) == _majority(len(voters))
        last = " One more loss, and nothing can be changed." if barely else ""
        return (
            f"{_names(silent)} does not answer.{last} Start it, or replace it: `barque cluster remove-member "
            f"{silent[0].name}`, then `barque cluster add-member`"
        )


def _majority(voters: int) -> int:
    return voters // 2 + 1


def _names(members: Iterable[MemberInfo]) -> str:
    return " and ".join(sorted(member.name for member in members))
