"""`Proposals`: the commits of this member from the call to the answer.

A commit is one or more payloads. On the leader they wait with all others of their moment and are proposed together; a
follower sends them to the leader in one letter. Either way they are answered when this member applies them, which it
knows by their bytes: each op of a group bears the name of who sent it, so no two payloads are alike.

A group of proposals costs much the same whatever its size, from the hand-over to the disk to the waking of every
watcher. So where several commits came together a moment ago, the next group waits for as many again, for some
milliseconds at most: a lone writer never waits, and many writers cost half as much each.

What was handed on may get lost with a leader or a letter, and is then handed on again, the same bytes: should it hold
already, each of its ops returns its first result. After `deadline_s` the caller hears how it stands: that nothing was
written, where nothing was ever handed on; otherwise that the outcome is not known. A master that is alone hands nothing
on and waits for its disk as long as it takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from barque.client.clock import Clock
from barque.master.raft.ports import MAX_PAYLOAD_BYTES
from barque.master.raft.ready import BusyError, NotLeaderError
from barque.master.store.letters import Forward, encode_letter
from barque.master.store.port import Op, Result, StoreUnavailableError, Unknown
from barque.master.store.records import Content, decode_payload
from barque.master.store.replica import Turn

log = logging.getLogger(__name__)

# What a follower hands on is sent again after this time, and then after twice as long each time.
_RESEND_S = 1.0
# How often overdue ones are looked for.
_SWEEP_S = 0.25
# One letter carries so many bytes, or one payload.
_LETTER_BYTES = 1024 * 1024
# A leader that has too much in hand is asked again so soon.
_BUSY_S = 0.02


class ProposalSettings(NamedTuple):
    """Bounds. `group_bytes`: what is proposed at once; `waiting_bytes`: what may wait for it; more is refused.

    `gather_commits` is how many commits a group waits for at most, and `gather_s` for how long.
    """

    group_bytes: int = 4 * 1024 * 1024
    waiting_bytes: int = 64 * 1024 * 1024
    gather_commits: int = 24
    gather_s: float = 0.01
    deadline_s: float = 5.0


class Way(Protocol):
    """Where proposals go."""

    def propose(self, payloads: Sequence[bytes]) -> None:
        """Raises `NotLeaderError`, `BusyError`."""
        ...

    def send(self, to: str, data: bytes) -> None: ...

    def trouble(self) -> str:
        """What is wrong where nobody answers."""
        ...


class Proposal:
    """One call: its payloads, and what came of those that are applied."""

    __slots__ = ("_left", "answer", "handed_on", "outcomes", "until")

    def __init__(self, payloads: int, until: float) -> None:
        self.until = until
        # A part of it has been proposed, or sent to who may propose it.
        self.handed_on = False
        self.outcomes: list[list[Result] | Turn] = [[] for _ in range(payloads)]
        self._left = payloads
        self.answer: asyncio.Future[list[list[Result] | Turn]] = asyncio.get_running_loop().create_future()

    def settle(self, position: int, outcome: list[Result] | Turn) -> None:
        self.outcomes[position] = outcome
        self._left -= 1
        if not self._left and not self.answer.done():
            self.answer.set_result(self.outcomes)

    def refuse(self, why: str) -> None:
        """Nothing of it was written, and nothing will be."""
        if not self.answer.done():
            self.answer.set_exception(StoreUnavailableError(why))

    def leave_open(self, why: str) -> None:
        """It may hold."""
        if not self.answer.done():
            self.answer.set_exception(OutcomeUnknownError(why))


class OutcomeUnknownError(Exception):
    """Whether the proposal holds, or will, is not known."""


class _Part:
    """One payload on its way. `proposal` is None where another member sent it; `queued` until it is handed on."""

    __slots__ = ("content", "following", "next_send", "payload", "position", "proposal", "queued", "resend_s")

    def __init__(self, payload: bytes, content: Content, proposal: Proposal | None, position: int) -> None:
        self.payload = payload
        self.content = content
        self.proposal = proposal
        self.position = position
        self.queued = True
        self.next_send = 0.0
        self.resend_s = _RESEND_S
        # Another part with the same bytes, of a later call.
        self.following: _Part | None = None


class Proposals:
    """`alone`: this member is the only one. `leader` is who leads, `member` this one; both are told by `stands`."""

    def __init__(self, member: str, way: Callable[[], Way], clock: Clock, settings: ProposalSettings) -> None:
        self._member = member
        self._way = way
        self._clock = clock
        self._settings = settings
        self._alone = False
        self._leader = ""
        self._term = -1
        self._queue: deque[_Part] = deque()
        # What is not applied yet, by its bytes, oldest first; and how many bytes that are.
        self._under_way: dict[bytes, _Part] = {}
        self._bytes = 0
        self._in_hand = 0
        self._expected = 1
        self._patience: asyncio.TimerHandle | None = None
        self._soon = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def named(self) -> bool:
        """Ops must bear a name: they may be handed on more than once."""
        return not self._alone

    def add(self, parts: Sequence[tuple[bytes, Content]]) -> Proposal:
        """Propose these payloads, in this order. Raises `StoreUnavailableError` where too much waits, and `ValueError`
        where one is larger than an entry may be.
        """
        if any(len(payload) > MAX_PAYLOAD_BYTES for payload, _ in parts):
            raise ValueError(f"an entry takes {MAX_PAYLOAD_BYTES} bytes")
        size = sum(len(payload) for payload, _ in parts)
        if self._bytes and self._bytes + size > self._settings.waiting_bytes:
            raise StoreUnavailableError(f"{self._bytes} bytes already wait to be written")
        proposal = Proposal(len(parts), self._clock.monotonic() + self._settings.deadline_s)
        for position, (payload, content) in enumerate(parts):
            self._enqueue(_Part(payload, content, proposal, position))
        self._idle.clear()
        self._awake()
        return proposal

    def take(self, payloads: Iterable[bytes]) -> None:
        """What another member has handed on to us, who lead; bytes that we have in hand are passed over."""
        if self._leader != self._member:
            return
        for payload in payloads:
            if payload in self._under_way or len(payload) > MAX_PAYLOAD_BYTES:
                continue
            if self._bytes + len(payload) > self._settings.waiting_bytes:
                break  # Its sender tries again.
            try:
                content = decode_payload(payload)
            except Exception as e:  # What must not reach the log, where it would stop every member.
                log.error("another master asks to write what cannot be applied: %r", e)
                continue
            self._enqueue(_Part(payload, content, None, 0))
        if self._queue:
            self._awake()

    def stands(self, leader: str, term: int, *, alone: bool) -> None:
        """Who leads now, or nobody. What an earlier one had in hand is handed on again."""
        self._alone = alone
        if leader == self._leader and term == self._term:
            # Others may be waited for from now on.
            self._awake()
            return
        self._leader, self._term = leader, term
        self._in_hand, self._expected = 0, 1
        parts = self._all()
        self._queue.clear()
        for part in parts:
            part.queued = False
            if part.proposal is None:
                self._drop(part)
            elif part.proposal.handed_on and not _is_named(part.content):
                self._drop(part)
                part.proposal.leave_open("the leader changed while it was being written")
            else:
                self._queue_up(part)
        self._awake()

    def drained(self) -> None:
        """The log has nothing in hand."""
        self._expected = max(1, min(self._settings.gather_commits, self._in_hand + len(self._queue)))
        self._in_hand = 0
        if self._queue:
            self._gather()

    def content(self, payload: bytes) -> Content:
        """What a payload that is applied now holds; known without decoding where it came from here."""
        part = self._under_way.get(payload)
        return decode_payload(payload) if part is None else part.content

    def applied(self, payload: bytes, outcome: list[Result] | Turn) -> None:
        """The payload was applied: whoever waits for it has the answer."""
        part = self._under_way.get(payload)
        if part is None:
            return
        self._drop(part)
        if part.proposal is not None:
            part.proposal.settle(part.position, outcome)
        if part.following is not None and _is_named(part.content):
            self.applied(payload, outcome)

    def retracted(self, payloads: Sequence[bytes], why: str, *, undone: bool) -> None:
        """The log refused them and nobody else has them."""
        refused: dict[Proposal, int] = {}
        for payload in payloads:
            part = self._under_way.get(payload)
            if part is not None:
                self._drop(part)
                if part.proposal is not None:
                    refused[part.proposal] = refused.get(part.proposal, 0) + 1
        for proposal, parts in refused.items():
            if undone and parts == len(proposal.outcomes):
                proposal.refuse(f"{why}; nothing was written")
            elif undone:
                proposal.leave_open(f"{why}; a part of it was written")
            else:
                proposal.leave_open(f"{why}; whether the write holds is known once the disk works again")

    def found(self, result_of: Callable[[Op], Result | None]) -> None:
        """Another state has come in one piece: what of ours is in it already is answered."""
        for part in list(self._under_way.values()):
            if part.proposal is None or not isinstance(part.content, list) or not _is_named(part.content):
                continue
            results = [result_of(op) for op in part.content]
            if all(result is not None and not isinstance(result, Unknown) for result in results):
                self.applied(part.payload, [result for result in results if result is not None])

    async def idle(self) -> None:
        """Wait until every call is answered."""
        await self._idle.wait()

    def fail(self, why: str) -> None:
        """The store has stopped: answer everyone."""
        for part in self._all():
            self._drop(part)
            if part.proposal is not None and part.proposal.handed_on:
                part.proposal.leave_open(why)
            elif part.proposal is not None:
                part.proposal.refuse(why)
        for timer in (self._patience, self._sweeper):
            if timer is not None:
                timer.cancel()

    def hurry(self) -> None:
        """Nothing more comes: wait for nobody."""
        self._expected = 1
        self._awake()

    def _all(self) -> list[_Part]:
        """All that is not applied, oldest first."""
        parts: list[_Part] = []
        for part in self._under_way.values():
            following: _Part | None = part
            while following is not None:
                parts.append(following)
                following = following.following
        return parts

    def _enqueue(self, part: _Part) -> None:
        self._queue_up(part)
        self._bytes += len(part.payload)
        first = self._under_way.setdefault(part.payload, part)
        if first is not part:
            while first.following is not None:
                first = first.following
            first.following = part

    def _queue_up(self, part: _Part) -> None:
        part.queued = True
        self._queue.append(part)

    def _drop(self, part: _Part) -> None:
        """It is no longer under way; one with the same bytes takes its place."""
        first = self._under_way[part.payload]
        if first is not part:
            while first.following is not part:
                assert first.following is not None, "what is under way stands in its row"
                first = first.following
            first.following = part.following
        elif part.following is None:
            del self._under_way[part.payload]
        else:
            self._under_way[part.payload] = part.following
        self._bytes -= len(part.payload)
        if part.queued:
            part.queued = False
            self._queue.remove(part)
        if not self._under_way:
            self._idle.set()

    @property
    def _own_disk_alone(self) -> bool:
        """Nothing but the own disk is waited for."""
        return self._alone and self._leader == self._member

    def _awake(self) -> None:
        """See to the queue in the loop's next turn, with whatever else comes in this one."""
        if not self._soon and (not self._in_hand or self._leader != self._member):
            self._soon = True
            asyncio.get_running_loop().call_soon(self._gather)
        if self._sweeper is None and self._under_way and not self._own_disk_alone:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _gather(self) -> None:
        """Propose what waits once as many are there as came together a moment ago, or patience ends."""
        self._soon = False
        if not self._queue:
            return
        if self._leader != self._member:
            if self._leader:
                self._hand_on()
        elif len(self._queue) >= self._expected:
            self._propose()
        elif self._patience is None and not self._in_hand:
            # The loop's own time: how long requests take to arrive is not for a test's clock to say.
            self._patience = asyncio.get_running_loop().call_later(self._settings.gather_s, self._propose)

    def _propose(self) -> None:
        """Give the leader's log what waits, unless it has work."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._in_hand or not self._queue or self._leader != self._member:
            return
        group: list[_Part] = []
        size = 0
        for part in self._queue:
            # A proposal goes as a whole, so that it is refused as a whole.
            if group and part.position == 0 and size + len(part.payload) > self._settings.group_bytes:
                break
            size += len(part.payload)
            group.append(part)
        try:
            self._way().propose([part.payload for part in group])
        except NotLeaderError:
            return  # `stands` tells who leads, and all of it goes there.
        except BusyError as busy:
            if self._alone:
                self._refuse(str(busy))
                return
            self._patience = asyncio.get_running_loop().call_later(_BUSY_S, self._propose)
            return
        for part in group:
            self._queue.popleft()
            self._handed_on(part)
        self._in_hand = len(group)

    def _refuse(self, why: str) -> None:
        """Nobody but the own disk could take it, and that does not work."""
        for part in list(self._queue):
            self._drop(part)
            if part.proposal is not None:
                part.proposal.refuse(f"{why}; nothing was written")

    def _hand_on(self) -> None:
        """Send the leader all that waits."""
        now = self._clock.monotonic()
        payloads: list[bytes] = []
        size = 0
        while self._queue:
            part = self._queue.popleft()
            if payloads and size + len(part.payload) > _LETTER_BYTES:
                self._way().send(self._leader, encode_letter(Forward(payloads)))
                payloads, size = [], 0
            payloads.append(part.payload)
            size += len(part.payload)
            self._handed_on(part)
            part.next_send = now + part.resend_s
            part.resend_s *= 2
        self._way().send(self._leader, encode_letter(Forward(payloads)))

    def _sweep(self) -> None:
        """Answer those whose time is up; hand on again what was not heard of for long."""
        self._sweeper = None
        if self._own_disk_alone:
            return
        now = self._clock.monotonic()
        overdue: list[_Part] = []
        for part in self._all():
            if part.proposal is None:
                continue
            if part.proposal.until <= now:
                overdue.append(part)
            elif self._leader not in ("", self._member) and not part.queued and part.next_send <= now:
                self._queue_up(part)
        for part in overdue:
            self._give_up(part)
        self._awake()

    def _give_up(self, part: _Part) -> None:
        self._drop(part)
        proposal = part.proposal
        assert proposal is not None, "only our own are overdue"
        why = f"{self._way().trouble()} (waited {self._settings.deadline_s:g} s)"
        if proposal.handed_on:
            proposal.leave_open(f"{why}; whether the write holds is not known")
        else:
            proposal.refuse(f"{why}; nothing was written")

    def _handed_on(self, part: _Part) -> None:
        part.queued = False
        if part.proposal is not None:
            part.proposal.handed_on = True


def _is_named(content: Content) -> bool:
    """Whether the payload is the only one with its bytes."""
    return not isinstance(content, list) or all(op.boot_id for op in content)
