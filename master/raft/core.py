"""`Core`: one member of a Raft group, as a machine without I/O. Events go in, a `Ready` of instructions comes out.

It follows Ongaro's dissertation "Consensus: Bridging Theory and Practice" with the refinements that etcd's library has
made common: pre-votes, a leader that steps down without a quorum, flow control per follower. The parts:

    core           terms, elections, following; which of the rest has its turn
    leadership     what a leader does: replicate, commit, heartbeats, reads, handing over
    log            the entries in memory, and how far they are written, committed, applied
    progress       a leader's view of one follower, and what it may send there
    reading        reads in rounds: one heartbeat confirms many
    configuration  the steps from one set of members to the next
    quorum         majorities, also of two sets

**A term** has at most one leader, because a member votes once per term, durably, and a leader needs a quorum. A member
that hears of a higher term follows it. Before it raises the term itself, it asks whether it would win (*pre-vote*), and
whoever has heard its leader within an election timeout refuses: so a member that was cut off or removed, and comes
back, disturbs nobody. A leader that has not heard a quorum for an election timeout steps down (*check quorum*).

**What is durable.** `Ready.durable` (votes and their requests, answers to entries) waits for the hard state and entries
of its own Ready and of all earlier ones. An answer that the log has since outrun stays right: its sender leads an older
term then, and what was overwritten had never been committed.

**Configurations are in force as soon as they are in the log**, committed or not, as in the dissertation; one that is
overwritten gives way to the one before it. A joint one needs both majorities; its leader, or the next one, proposes the
plain one after it as soon as the joint one is committed. Only one change is under way at a time, and none begins before
an entry of the leader's own term is committed. A leader outside the configuration replicates without counting itself;
when that configuration is committed it lets another member stand and steps down; until then a removed voter may even
stand. Learners never stand for election, but they vote when asked: the asker's configuration may be the newer one.

No method blocks, and none reads a clock: the time is an argument, in monotonic seconds. The same calls with the same
`random` give the same instructions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from barque.master.raft import configuration as configurations
from barque.master.raft import quorum
from barque.master.raft.leadership import Leadership
from barque.master.raft.log import Log
from barque.master.raft.messages import (
    Append,
    AppendReply,
    Configuration,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadReply,
    ReadRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from barque.master.raft.progress import Progress
from barque.master.raft.reading import Asked, AskedReads
from barque.master.raft.ready import (
    CoreSettings,
    DivergedError,
    NotLeaderError,
    ReadState,
    Ready,
    Role,
    Standing,
    Start,
)
from barque.master.raft.state import State

_NEVER = float("inf")


class Core:
    def __init__(self, member: str, start: Start, settings: CoreSettings, random: random.Random, now: float) -> None:
        self._state = State(member, start, settings, now)
        self._random = random
        # The election timeout is this many times the shortest one; drawn anew whenever the role or the term changes.
        self._patience = 1.0 + random.random()
        # When a leader was last heard, or a vote was last given.
        self._calm_since = now
        self._votes: dict[str, bool] = {}
        self._leadership: Leadership | None = None
        self._asked = AskedReads()
        self._handed = start.hard_state
        self._told: Standing | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            VoteRequest: self._vote_requested,
            VoteReply: self._vote_answered,
            Append: self._append_received,
            Heartbeat: self._heartbeat_received,
            AppendReply: self._append_answered,
            HeartbeatReply: self._heartbeat_answered,
            ReadRequest: self._read_requested,
            ReadReply: self._read_answered,
            TimeoutNow: self._timeout_received,
        }

    # What is known

    @property
    def member(self) -> str:
        return self._state.member

    @property
    def term(self) -> int:
        return self._state.term

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def leader(self) -> str:
        """The member that leads, "" while none is known."""
        return self._state.leader

    @property
    def configuration(self) -> Configuration:
        """The one in force: the newest in the log."""
        return self._log.configuration

    @property
    def standing(self) -> Standing:
        state = self._state
        return Standing(state.role, state.term, state.leader, state.log.configuration)

    @property
    def last_index(self) -> int:
        return self._log.last_index

    @property
    def base_index(self) -> int:
        """Entries up to here are not in memory any more."""
        return self._log.base_index

    @property
    def commit(self) -> int:
        return self._log.commit

    @property
    def durable_index(self) -> int:
        return self._log.durable

    @property
    def applied_index(self) -> int:
        return self._log.applied

    @property
    def log_bytes(self) -> int:
        """Payload bytes of the entries in memory."""
        return self._log.bytes

    def bytes_index(self, limit: int) -> int:
        """The index to compact to so that at most `limit` payload bytes stay, never beyond what is applied."""
        return self._log.index_within(limit)

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None where it is not known any more (before the base), or there is none."""
        return self._log.term_at(index)

    def progress(self, member: str) -> Progress | None:
        """What the leader knows of another member, to read only; None elsewhere."""
        return self._leadership.progress.get(member) if self._leadership else None

    def needs(self, head_index: int, head_term: int) -> bool:
        """Whether a snapshot up to that entry would bring anything. Ask right before one is installed: taking one that
        the log covers already would drop entries that were promised to be durable here.
        """
        log = self._log
        return head_index > log.commit and log.term_at(head_index) != head_term

    @property
    def deadline(self) -> float:
        """When `tick` has something to do, in monotonic seconds."""
        if self._leadership is not None:
            return self._leadership.deadline
        return min(self._stand_at, self._asked.deadline)

    # Events

    def tick(self, now: float) -> None:
        """Time has passed. Too early is harmless."""
        self._state.now = now
        for context in self._asked.expired(now):
            self._state.out.reads.append(ReadState(context, -1))
        if self._leadership is not None:
            self._leadership.tick()
            if self._leadership.lost:
                self._follow(self.term, "")
        elif now >= self._stand_at:
            self._stand(pre=True)

    def step(self, message: Message, now: float) -> None:
        """A message has come, from whomever. Raises `DivergedError`."""
        self._state.now = now
        handle = self._handlers.get(type(message))
        if handle is None or message.to != self.member or message.sender == self.member:
            return
        if message.term < self.term:
            self._answer_from_the_past(message)
        elif message.term == self.term or self._raises_term(message):
            handle(message)

    def propose(self, payloads: Sequence[bytes]) -> int:
        """Append the payloads as DATA entries; the index of the first. Raises `NotLeaderError`, `BusyError`."""
        return self._leading().propose(payloads)

    def propose_configuration(self, configuration: Configuration) -> int:
        """Begin to change who the members are; the index of the entry. Where the voters change, a joint configuration
        is appended, whether or not `configuration` names the present ones as outgoing, and left again by itself. Ids
        that go are added to `removed`. Raises `NotLeaderError`, `BusyError`, `ValueError`.
        """
        return self._leading().propose_configuration(configuration)

    def read(self, context: int) -> None:
        """Ask for an index to read at. `context` must never have been used by this member before, not even by an
        earlier run of it: a late answer to that would be taken for this one's.
        """
        state = self._state
        if self._leadership is not None:
            self._leadership.read(Asked(self.member, context))
        elif state.leader and self._asked.add(context, state.now + state.election_s):
            state.out.now.append(ReadRequest(state.leader, state.member, state.term, context))
        else:
            state.out.reads.append(ReadState(context, -1))

    def transfer(self, to: str) -> None:
        """Let `to` catch up and lead; proposals are refused meanwhile. After one election timeout it is given up.
        Raises `NotLeaderError`, `BusyError`, `ValueError`.
        """
        self._leading().transfer(to)

    def campaign(self) -> None:
        """Do not wait for the timeout. A sole voter leads at once."""
        if self._leadership is None:
            self._stand(pre=True)

    def persisted(self, index: int, term: int) -> None:
        """Entries of a `Ready` are on the medium, up to this, its last. Call it for each Ready that had entries, in
        their order (of several that were written in one go, for the last at least).
        """
        if self._log.persisted(index, term) and self._leadership is not None:
            self._leadership.persisted(term)

    def applied(self, index: int) -> None:
        """The application's state holds everything up to `index`."""
        self._log.applied = max(self._log.applied, index)

    def retract(self, index: int) -> list[Entry]:
        """The disk has refused: forget the entries from `index` on that are not durable; they are returned. Only for a
        sole voter without learners: nobody else has them. Raises `ValueError` elsewhere.
        """
        if configurations.members_of(self._log.configuration) != (self.member,):
            raise ValueError("entries that others may have cannot be taken back")
        forgotten = self._log.truncate(max(index, self._log.durable + 1))
        # The hard state that went with them goes again with the next ones.
        self._handed = HardState(self._handed.term, self._handed.vote, -1)
        if self._leadership is not None and self._log.last_term != self.term:
            # The term's first entry is gone, without which nothing of it can be read.
            self._follow(self.term, "")
        return forgotten

    def installed(self, head_index: int, head_term: int, configuration: Configuration) -> None:
        """A snapshot of everything up to that entry has taken the place of log and state, durably, with no append under
        way. Raises `DivergedError` unless `needs` was true.
        """
        if not self.needs(head_index, head_term):
            raise DivergedError(f"a snapshot up to entry {head_index} has replaced a log that held it")
        self._log.restart(head_index, head_term, configuration)
        if self.leader:
            self._state.out.durable.append(AppendReply(self.leader, self.member, self.term, head_index))

    def reported(self, member: str, ok: bool) -> None:
        """The sending of a snapshot to `member` has ended."""
        if self._leadership is not None:
            self._leadership.reported(member, ok)

    def compact(self, index: int) -> None:
        """Drop the entries up to `index` from memory, as far as they are applied."""
        self._log.compact(index)

    def set_election(self, election_s: float) -> None:
        """The shortest election timeout, from now on."""
        self._state.election_s = election_s

    # Instructions

    @property
    def has_ready(self) -> bool:
        log = self._log
        return (
            bool(self._state.out)
            or log.unwritten
            or log.undelivered
            or (self._leadership is not None and (self._leadership.pending or self._leadership.over))
            or self._is_hard_state_new()
            or self._is_standing_new()
        )

    def ready(self) -> Ready:
        """Everything to do since the last call."""
        state, log = self._state, self._log
        if self._leadership is not None:
            self._leadership.replicate()
            if self._leadership.over:
                self._leadership.hand_over()
                self._follow(self.term, "")
        entries = log.take_unwritten()
        hard_state = None
        if self._is_hard_state_new() or (entries and self._handed.commit != min(log.commit, log.durable)):
            hard_state = self._handed = HardState(state.term, state.vote, min(log.commit, log.durable))
        standing = None
        if self._is_standing_new():
            standing = self._told = self.standing
        out, committed = state.out, log.take_committed()
        now, durable, reads, behind = out.now, out.durable, out.reads, out.behind
        out.now, out.durable, out.reads, out.behind = [], [], [], []
        return Ready(now, hard_state, entries, durable, committed, reads, behind, standing)

    def _is_hard_state_new(self) -> bool:
        return self._state.term != self._handed.term or self._state.vote != self._handed.vote

    def _is_standing_new(self) -> bool:
        told, state = self._told, self._state
        return (
            told is None
            or told.role is not state.role
            or told.term != state.term
            or told.leader != state.leader
            or told.configuration is not state.log.configuration
        )

    # Terms

    @property
    def _log(self) -> Log:
        return self._state.log

    @property
    def _stand_at(self) -> float:
        return self._calm_since + self._patience * self._state.election_s

    @property
    def _leased(self) -> bool:
        """A leader is known, and was heard within the shortest election timeout."""
        state = self._state
        return self._leadership is not None or (state.leader != "" and state.now - self._calm_since < state.election_s)

    def _leading(self) -> Leadership:
        if self._leadership is None:
            raise NotLeaderError(self.leader)
        return self._leadership

    def _raises_term(self, message: Message) -> bool:
        """A message of a higher term: follow that term, unless it is only asked about, or only a disturbance. False:
        the message is not to be heard.
        """
        if isinstance(message, VoteRequest):
            if self._leased and not message.forced:
                return False
            if message.pre:
                return True
        if isinstance(message, VoteReply) and message.pre and message.granted:
            return True
        self._follow(message.term, message.sender if isinstance(message, Append | Heartbeat) else "")
        return True

    def _answer_from_the_past(self, message: Message) -> None:
        """A message of a lower term says nothing, but its sender should hear of the higher one: a leader that was
        overtaken steps down, whoever asks for votes catches up.
        """
        state = self._state
        if isinstance(message, Append | Heartbeat):
            state.out.now.append(HeartbeatReply(message.sender, state.member, state.term))
        elif isinstance(message, VoteRequest):
            state.out.now.append(VoteReply(message.sender, state.member, state.term, False, message.pre))
        elif isinstance(message, ReadRequest):
            state.out.now.append(ReadReply(message.sender, state.member, state.term, message.context, 0))

    def _follow(self, term: int, leader: str) -> None:
        """Be a follower in `term`, of `leader` where it is known."""
        state = self._state
        if self._leadership is not None:
            self._leadership.abandon()
            self._leadership = None
        if term != state.term:
            state.term, state.vote = term, ""
        state.role = Role.FOLLOWER
        self._votes = {}
        self._know_leader(leader)
        self._be_calm()
        self._patience = 1.0 + self._random.random()

    def _know_leader(self, leader: str) -> None:
        if leader != self._state.leader:
            self._state.leader = leader
            for context in self._asked.abandon():
                self._state.out.reads.append(ReadState(context, -1))

    def _be_calm(self) -> None:
        self._calm_since = self._state.now

    # Elections

    @property
    def _may_stand(self) -> bool:
        """Its vote counts, or did in a configuration that may still be the last committed one: then this log may be the
        only one that can win, be it just to commit the configuration that removes the member.
        """
        return any(configurations.votes(each, self.member) for each in self._log.configurations)

    def _stand(self, *, pre: bool, forced: bool = False) -> None:
        """Ask for votes; with `pre` only whether they would be given. Who may not vote forgets its leader instead."""
        state, log = self._state, self._log
        self._follow(state.term if pre else state.term + 1, "")
        if not self._may_stand:
            return
        state.role = Role.PRE_CANDIDATE if pre else Role.CANDIDATE
        if not pre:
            state.vote = state.member
        self._votes = {state.member: True}
        if quorum.outcome(log.configuration, self._votes):
            self._win()
            return
        # A vote that is asked for is one's own given: it must outlast a crash.
        outbox = state.out.now if pre else state.out.durable
        term = state.term + 1 if pre else state.term
        for member in configurations.members_of(log.configuration):
            if member != state.member and configurations.votes(log.configuration, member):
                outbox.append(VoteRequest(member, state.member, term, log.last_index, log.last_term, pre, forced))

    def _win(self) -> None:
        if self.role is Role.PRE_CANDIDATE:
            self._stand(pre=False)
            return
        state = self._state
        # Others vote only once the request, and so the term, was durable here. A sole voter needs nobody.
        grounded = len(self._votes) > 1
        state.role, self._votes = Role.LEADER, {}
        self._know_leader(state.member)
        self._leadership = Leadership(state, grounded=grounded)

    def _vote_requested(self, request: VoteRequest) -> None:
        state = self._state
        free = state.vote == request.sender or (state.vote == "" and state.leader == "")
        would_be = request.pre and request.term > state.term
        granted = (free or would_be) and self._log.is_no_newer_than(request.last_index, request.last_term)
        if granted and not request.pre:
            state.vote = request.sender
            self._be_calm()
        term = request.term if granted else state.term
        outbox = state.out.durable if granted and not request.pre else state.out.now
        outbox.append(VoteReply(request.sender, state.member, term, granted, request.pre))

    def _vote_answered(self, reply: VoteReply) -> None:
        standing_for = {Role.PRE_CANDIDATE: self.term + reply.granted, Role.CANDIDATE: self.term}
        # A pre-vote must never count as a vote: it is given more than once.
        if reply.term != standing_for.get(self.role) or reply.pre != (self.role is Role.PRE_CANDIDATE):
            return
        self._votes.setdefault(reply.sender, reply.granted)
        won = quorum.outcome(self._log.configuration, self._votes)
        if won:
            self._win()
        elif won is False:
            self._follow(self.term, "")

    def _timeout_received(self, message: TimeoutNow) -> None:
        """The leader hands over: no pre-vote, and its lease does not count."""
        if message.sender == self.leader and self._may_stand:
            self._stand(pre=False, forced=True)

    # Following

    def _hear_leader(self, leader: str) -> None:
        if self.role is not Role.FOLLOWER or self.leader != leader:
            if self.leader or self._leadership is not None:
                raise DivergedError(f"{leader} and {self.leader} both lead in term {self.term}")
            self._follow(self.term, leader)
        self._be_calm()

    def _append_received(self, append: Append) -> None:
        self._hear_leader(append.sender)
        state, log = self._state, self._log
        previous, previous_term, entries = append.previous_index, append.previous_term, append.entries
        last = previous + len(entries)
        if previous < log.commit:
            # What is committed is the same everywhere; only what follows may bring news.
            self._check_committed(entries[: log.commit - previous])
            entries = entries[log.commit - previous :]
            previous, last = log.commit, max(last, log.commit)
        elif log.term_at(previous) != previous_term:
            # Whatever is shared lies before the first entry of a higher term than theirs.
            hint = log.last_at_most(min(previous, log.last_index), previous_term)
            state.out.now.append(
                AppendReply(append.sender, state.member, state.term, previous, True, hint, log.term_at(hint) or 0)
            )
            return
        log.accept(previous, entries)
        log.commit_to(min(append.commit, last))
        state.out.durable.append(AppendReply(append.sender, state.member, state.term, last))

    def _check_committed(self, entries: Sequence[Entry]) -> None:
        if entries and self._log.term_at(entries[-1].index) not in (entries[-1].term, None):
            raise DivergedError(f"the leader has another entry {entries[-1].index} than was committed here")

    def _heartbeat_received(self, heartbeat: Heartbeat) -> None:
        self._hear_leader(heartbeat.sender)
        state, log = self._state, self._log
        # The leader names no more than what it knows to be durable here.
        log.commit_to(min(heartbeat.commit, log.last_index))
        state.out.now.append(HeartbeatReply(heartbeat.sender, state.member, state.term, heartbeat.context))

    # Leading

    def _append_answered(self, reply: AppendReply) -> None:
        if self._leadership is not None:
            self._leadership.append_answered(reply)

    def _heartbeat_answered(self, reply: HeartbeatReply) -> None:
        if self._leadership is not None:
            self._leadership.heartbeat_answered(reply)

    # Reads

    def _read_requested(self, request: ReadRequest) -> None:
        if self._leadership is not None:
            self._leadership.read_requested(request)
        else:
            state = self._state
            state.out.now.append(ReadReply(request.sender, state.member, state.term, request.context, 0))

    def _read_answered(self, reply: ReadReply) -> None:
        if self._asked.answered(reply.context):
            self._state.out.reads.append(ReadState(reply.context, reply.index or -1))
