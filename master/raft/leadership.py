"""`Leadership`: all that a member knows and does because it leads. It is made with each term won and dropped with it.

Entries are not sent when they are proposed but when the shell asks what to do: what came together goes out together,
one `Append` per follower. The leader's own copy counts like a follower's: once it is durable. An entry is committed by
counting copies only if it is of the leader's own term; older ones are committed with it (Raft paper, section 5.4.2,
figure 8). So nothing is read, and no configuration changed, before the first entry of the term is committed.
"""

from __future__ import annotations

from collections.abc import Sequence

from barque.master.raft import configuration as configurations
from barque.master.raft import quorum
from barque.master.raft.messages import (
    Append,
    AppendReply,
    Configuration,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Kind,
    Message,
    ReadReply,
    ReadRequest,
    TimeoutNow,
    encode_configuration,
)
from barque.master.raft.progress import Flow, Progress
from barque.master.raft.reading import Asked, ReadRounds
from barque.master.raft.ready import BusyError, ReadState
from barque.master.raft.state import State


class Leadership:
    """`lost`: a quorum has been silent for an election timeout. `over`: a configuration without this member as a voter
    is committed. In both cases the core steps down. `grounded`: the term is known to be durable here.
    """

    def __init__(self, state: State, *, grounded: bool) -> None:
        self._state = state
        self._log = state.log
        self._grounded = grounded
        self._rounds = ReadRounds()
        self._heartbeat_at = state.now + state.settings.heartbeat_s
        self._heir = ""
        self._heir_until = 0.0
        # Something has happened that may allow to send.
        self.pending = True
        self.lost = False
        self.progress: dict[str, Progress] = {}
        self._meet_members(state.log.last_index + 1)
        self._append(Kind.EMPTY, [b""])

    @property
    def over(self) -> bool:
        log = self._log
        return (
            log.configuration_index <= log.commit
            and not log.configuration.joint
            and self._state.member not in log.configuration.voters
        )

    @property
    def deadline(self) -> float:
        return min(self._heartbeat_at, self._heir_until) if self._heir else self._heartbeat_at

    @property
    def _settled(self) -> bool:
        """An entry of this term is committed."""
        return self._log.term_at(self._log.commit) == self._state.term

    # Proposals

    def propose(self, payloads: Sequence[bytes]) -> int:
        """Raises `BusyError`."""
        self._refuse_if_handing_over()
        if self._log.uncommitted_bytes > self._state.settings.uncommitted_bytes:
            raise BusyError("too much waits for a majority of the members")
        return self._append(Kind.DATA, payloads)

    def propose_configuration(self, wanted: Configuration) -> int:
        """Raises `BusyError`, `ValueError`."""
        self._refuse_if_handing_over()
        if not self._settled or self._log.configuration_index > self._log.commit or self._log.configuration.joint:
            raise BusyError("another change of the members is under way")
        return self._configure(configurations.next_step(self._log.configuration, wanted))

    def _configure(self, configuration: Configuration) -> int:
        index = self._append(Kind.CONFIGURATION, [encode_configuration(configuration)])
        self._meet_members(index)
        return index

    def _append(self, kind: Kind, payloads: Sequence[bytes]) -> int:
        """The index of the first."""
        term, number, first = self._state.term, int(kind), self._log.last_index + 1
        self._log.extend([Entry(index, term, number, data) for index, data in enumerate(payloads, first)])
        self.pending = True
        return first

    def _meet_members(self, next_index: int) -> None:
        """Follow the configuration in force. Who leaves is still sent the entry that says so, until it has it, or an
        election timeout has passed since that was committed: so that a removed member learns of it.
        """
        members = configurations.members_of(self._log.configuration)
        for member in members:
            if member != self._state.member:
                self.progress.setdefault(member, Progress(next_index, self._state.now)).leaving = 0
        for member, progress in self.progress.items():
            if member not in members and not progress.leaving:
                progress.leaving = self._log.configuration_index

    # Replication

    def replicate(self) -> None:
        """Send each member what it may be sent now."""
        self.pending = False
        self._begin_reads()
        for member, progress in self.progress.items():
            self._send_entries(member, progress)

    def _send_entries(self, member: str, progress: Progress) -> None:
        state, log, settings = self._state, self._log, self._state.settings
        while self._has_something_for(progress):
            previous = progress.next - 1
            previous_term = log.term_at(previous)
            if previous_term is None:
                self._ask_for_snapshot(member, progress)
                return
            limit_bytes = settings.append_bytes if progress.has_room(settings) else 0
            entries, size = log.after(previous, limit_bytes)
            self._send(Append(member, state.member, state.term, previous, previous_term, log.commit, entries))
            progress.sent(previous + len(entries), size, log.commit)

    def _has_something_for(self, progress: Progress) -> bool:
        if progress.flow is Flow.PROBE:
            return not progress.probed and self._state.now >= progress.paused_until
        if progress.flow is Flow.SNAPSHOT:
            return False
        if progress.nudged or self._log.commit > progress.told_commit:
            return True
        return progress.next <= self._log.last_index and progress.has_room(self._state.settings)

    def _ask_for_snapshot(self, member: str, progress: Progress) -> None:
        """Only for a member that is there to take it; otherwise its next answer brings us here again."""
        if self._state.now - progress.heard_at < self._state.election_s:
            progress.await_snapshot()
            self._state.out.behind.append(member)
        else:
            progress.probed = True

    def reported(self, member: str, ok: bool) -> None:
        progress = self.progress.get(member)
        if progress is None or progress.flow is not Flow.SNAPSHOT:
            return
        if ok:
            # Its answer may have been lost: ask where it is. A snapshot reaches at least to where our log begins.
            progress.probe(self._log.base_index + 1)
        else:
            progress.probe(progress.match + 1)
            progress.paused_until = self._state.now + self._state.election_s
        self.pending = True

    def append_answered(self, reply: AppendReply) -> None:
        progress = self._heard(reply.sender)
        if progress is None or reply.index > self._log.last_index:
            return
        if reply.rejected:
            shared_at_most = self._log.last_at_most(reply.hint_index, reply.hint_term)
            self.pending |= progress.rejected(reply.index, shared_at_most)
            return
        if progress.accepted(reply.index):
            self.pending = True
            if progress.flow is not Flow.REPLICATE and progress.match >= self._log.base_index:
                progress.replicate()
            self.count_copies()
            self._call_heir(reply.sender, progress)

    def persisted(self, term: int) -> None:
        """More of the leader's own log is durable, up to an entry of `term`."""
        self._grounded |= term == self._state.term
        self.count_copies()

    def count_copies(self) -> None:
        """Commit what a quorum has."""
        log = self._log
        index = quorum.agreed(log.configuration, self._match_of)
        if index > log.commit and log.term_at(index) == self._state.term:
            log.commit_to(index)
            self.pending = True
            if log.configuration.joint and log.configuration_index <= index:
                self._configure(configurations.left(log.configuration))

    def _match_of(self, member: str) -> int:
        return self._log.durable if member == self._state.member else self.progress[member].match

    # Heartbeats

    def tick(self) -> None:
        now = self._state.now
        if self._heir and now >= self._heir_until:
            self._heir = ""
        if now < self._heartbeat_at:
            return
        self._heartbeat_at = now + self._state.settings.heartbeat_s
        self.lost = now - quorum.agreed(self._log.configuration, self._heard_at) >= self._state.election_s
        if not self.lost:
            self._begin_reads()
            self._send_heartbeats()
            self._part()

    def _send_heartbeats(self) -> None:
        state, commit = self._state, self._log.commit
        for member, progress in self.progress.items():
            self._send(Heartbeat(member, state.member, state.term, min(progress.match, commit), self._rounds.number))

    def _part(self) -> None:
        """Stop telling those that have left."""
        for member, progress in list(self.progress.items()):
            if not progress.leaving or progress.leaving > self._log.commit:
                continue
            progress.leave_at = progress.leave_at or self._state.now + self._state.election_s
            knows = min(progress.match, progress.told_commit) >= progress.leaving
            if knows or self._state.now >= progress.leave_at:
                del self.progress[member]

    def heartbeat_answered(self, reply: HeartbeatReply) -> None:
        progress = self._heard(reply.sender)
        if progress is None:
            return
        if progress.flow is Flow.PROBE:
            progress.probed = False
            self.pending = True
        elif progress.flow is Flow.REPLICATE and progress.match < self._log.last_index:
            # Entries or their answer may have been lost: an Append without any finds out.
            progress.nudged = self.pending = True
        if reply.context > progress.read_round:
            progress.read_round = reply.context
            self._answer_reads()
        self._call_heir(reply.sender, progress)

    def _heard(self, member: str) -> Progress | None:
        progress = self.progress.get(member)
        if progress is not None:
            progress.heard_at, progress.answered = self._state.now, True
        return progress

    def _heard_at(self, member: str) -> float:
        return self._state.now if member == self._state.member else self.progress[member].heard_at

    # Reads

    def read(self, asked: Asked) -> None:
        self.pending = True
        if not self._rounds.gather(asked):
            self._answer(asked, 0)

    def read_requested(self, request: ReadRequest) -> None:
        self.read(Asked(request.sender, request.context))

    def _begin_reads(self) -> None:
        if self._rounds.gathered and not self._rounds.under_way and self._settled:
            self._rounds.begin(self._log.commit)
            self._send_heartbeats()
            self._answer_reads()

    def _answer_reads(self) -> None:
        confirmed = quorum.agreed(self._log.configuration, self._read_round_of)
        index, reads = self._rounds.confirmed(confirmed)
        for asked in reads:
            self._answer(asked, index)
            self.pending = True

    def _read_round_of(self, member: str) -> int:
        return self._rounds.number if member == self._state.member else self.progress[member].read_round

    def _answer(self, asked: Asked, index: int) -> None:
        state = self._state
        if asked.member == state.member:
            state.out.reads.append(ReadState(asked.context, index or -1))
        else:
            state.out.now.append(ReadReply(asked.member, state.member, state.term, asked.context, index))

    def abandon(self) -> None:
        """It leads no more: its own reads cannot be answered. Followers notice by themselves."""
        for asked in self._rounds.waiting():
            if asked.member == self._state.member:
                self._answer(asked, 0)

    # Handing over

    def transfer(self, to: str) -> None:
        """Raises `BusyError`, `ValueError`."""
        state = self._state
        if to == state.member:
            raise ValueError(f"{to} leads already")
        if to not in self._log.configuration.voters:
            raise ValueError(f"{to} is not a voter")
        if self._heir == to:
            return
        self._refuse_if_handing_over()
        self._heir, self._heir_until = to, state.now + state.election_s
        self.pending = True
        self._call_heir(to, self.progress[to])

    def hand_over(self) -> None:
        """A removed leader's last act: let the voter that is furthest stand at once, rather than after a timeout."""
        voters = self._log.configuration.voters
        heir = max(voters, key=lambda voter: (self.progress[voter].match, -voters.index(voter)))
        self._send(TimeoutNow(heir, self._state.member, self._state.term))

    def _call_heir(self, member: str, progress: Progress) -> None:
        """It stands for election as soon as it has the whole log, so that it can win."""
        if member == self._heir and progress.match == self._log.last_index:
            self._send(TimeoutNow(member, self._state.member, self._state.term))

    def _refuse_if_handing_over(self) -> None:
        if self._heir:
            raise BusyError(f"leadership is being handed to {self._heir}")

    def _send(self, message: Message) -> None:
        """A sole voter leads before its term is durable; until it is, nothing of that term may be heard elsewhere:
        after a crash it would lead in the same term again, with other entries.
        """
        (self._state.out.now if self._grounded else self._state.out.durable).append(message)
