"""The seams of a member: what it replicates for, what it talks through, and the ground it stands on.

Production hands in gRPC, threads and the machine's disk; the simulator its own. Nothing in `raft` and nothing in
`store.engine_raft` reaches around them.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from barque.client.clock import Clock
from barque.master.raft.disk import Disk
from barque.master.raft.messages import Configuration, Entry, MemberInfo, Message
from barque.master.raft.ready import Standing

T = TypeVar("T")

# What an entry may hold: one message must hold any entry (`wire.MAX_MESSAGE_BYTES`).
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024


class UnavailableError(Exception):
    """It cannot be done now, and was not: no leader, no quorum, or no answer in time. The message says which."""


class Lane(Protocol):
    """Jobs done one after another away from the event loop: a thread, or simulated time."""

    def put(self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Do `job` after those before it, then call `done(result, failure)` on the loop."""
        ...

    def close(self) -> None:
        """Wait for what was put in; what is `done` comes in the loop's next turn. May be called again."""
        ...


class Ground(NamedTuple):
    """What a member stands on. `lanes(name)` makes a lane; `random` decides election timeouts and nothing else."""

    clock: Clock
    disk: Disk
    lanes: Callable[[str], Lane]
    random: random.Random
    entropy: Callable[[int], bytes]


class Transport(Protocol):
    """Messages to peers: may be lost, doubled, late and out of order; never block."""

    def send(self, message: Message) -> None:
        """Send it soon, or drop it where its receiver is away or its queue is full. Who speaks to this member can be
        answered, even if it is none of the peers: a learner's first leader, say.
        """
        ...

    def connect(self, peers: Sequence[MemberInfo]) -> None:
        """These are the members from now on, this one among them: reach for the others, let go of who is none."""
        ...

    def faults(self) -> dict[str, str]:
        """What keeps messages from their receivers now: a sentence for each peer (its name) that is in trouble."""
        ...

    async def close(self) -> None: ...


# Starts a transport whose incoming messages go to the callable, never from within the call itself.
Connector = Callable[[Callable[[Message], None]], Transport]


class SnapshotHead(msgspec.Struct, frozen=True):
    """What a snapshot holds: everything up to entry `index` of `term`, and the configuration in force there."""

    index: int
    term: int
    configuration: Configuration


class SnapshotSource(Protocol):
    """A complete snapshot that is being sent; its pieces are the same at every reading."""

    @property
    def head(self) -> SnapshotHead: ...

    def pieces(self, start: int) -> AsyncIterator[bytes]:
        """The pieces from number `start` on, at most some 256 KiB each (one large object may exceed it)."""
        ...

    def close(self) -> None: ...


class SnapshotSink(Protocol):
    """A snapshot that is being received."""

    async def add(self, piece: bytes) -> None:
        """Raises `ValueError` for a piece that is none, `OSError`."""
        ...

    async def install(self) -> None:
        """It is complete: make it durable, let log and state begin anew after it. The member calls it with its log
        at rest. Raises `ValueError` where it does not hold together, `OSError`; nothing has changed then.
        """
        ...

    def abort(self) -> None: ...


class Application(Protocol):
    """What a member replicates for. Everything is called on the loop unless it says otherwise."""

    def apply(self, entries: Sequence[Entry]) -> None:
        """Committed entries of all kinds, in order, a few milliseconds' worth. Any exception stops the member."""
        ...

    def seal(self, entry: Entry) -> bytes:
        """The data of a DATA entry as it is kept on disk; called in the log's lane."""
        ...

    def retracted(self, entries: Sequence[Entry], why: str, *, undone: bool) -> None:
        """The log refused these proposals of ours and nobody else has them. `undone`: certainly they will never be
        read; otherwise that is unknown.
        """
        ...

    def drained(self) -> None:
        """The log has nothing in hand: a good moment to propose what waits."""
        ...

    def receive(self, sender: str, data: bytes) -> None:
        """A `Parcel` of another member's application."""
        ...

    def stands(self, standing: Standing) -> None:
        """Leader, term, role or configuration have changed."""
        ...

    async def offer(self, after: int) -> SnapshotSource:
        """A snapshot of an entry >= `after` for a member that is too far behind; takes one where none is. Raises
        `OSError`.
        """
        ...

    async def accept(self, head: SnapshotHead) -> SnapshotSink:
        """Room for a snapshot. Raises `OSError`."""
        ...

    def failed(self, failure: BaseException) -> None:
        """A fault that must not be worked around: the member has stopped."""
        ...


class PeerFigures(NamedTuple):
    """How one member is doing, as this one knows. `match` (0 where not known) is how far its log agrees;
    `silent_s` since it was last heard, None for never; `snapshot` says it is being sent one.
    """

    info: MemberInfo
    voter: bool
    leader: bool
    match: int
    silent_s: float | None
    snapshot: bool


class GroupFigures(NamedTuple):
    """`election_s` is the timeout in force, after the slowest of stalls and syncs; `stall_s`, `fsync_s` those."""

    member: str
    term: int
    leader: str
    last_index: int
    commit: int
    applied: int
    election_s: float
    stall_s: float
    fsync_s: float
    peers: Sequence[PeerFigures]
    faults: dict[str, Any]
