"""What members write and say: entries, terms and votes, configurations, and the messages between peers.

Everything here is a plain value. A member is named by its id (16 hexadecimal digits, made once, never reused); names
and addresses are only how people and sockets find it.
"""

from __future__ import annotations

import enum

import msgspec


class Kind(enum.IntEnum):
    """What an entry holds; also the kind of its record in the log (2 is the record of a `HardState`)."""

    DATA = 1
    CONFIGURATION = 3
    # A new leader's first entry: by committing it, it learns what was committed before.
    EMPTY = 4


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One entry of the log. `kind` is a `Kind` as a plain number; `data` is the application's bytes, or a
    `Configuration` encoded with `encode_configuration`.
    """

    index: int
    term: int
    kind: int = 1
    data: bytes = b""


class HardState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What must be durable before a vote or an answer leaves the member. `commit` is only a hint for the next start:
    it may lag, it is never ahead.
    """

    term: int = 0
    vote: str = ""
    commit: int = 0


class MemberInfo(msgspec.Struct, frozen=True, array_like=True):
    """Who a member is and where its doors are."""

    id: str
    name: str
    host: str
    peer_port: int = 7444
    grpc_port: int = 7443
    https_port: int = 6443
    bus_port: int = 4222
    route_port: int = 6222

    @property
    def peer_address(self) -> str:
        return f"{self.host}:{self.peer_port}"

    @property
    def grpc_address(self) -> str:
        return f"{self.host}:{self.grpc_port}"


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Who votes. With `outgoing` it is a joint one: a majority of `voters` and one of `outgoing` are needed for
    everything (Ongaro's dissertation, section 4.3). `members` tells of each voter and learner; `removed` are the ids
    that were members, newest last, a bounded number.
    """

    voters: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    members: tuple[MemberInfo, ...] = ()
    removed: tuple[str, ...] = ()

    def info(self, member: str) -> MemberInfo | None:
        return next((info for info in self.members if info.id == member), None)

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)


class _Message(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`to` and `sender` are ids. `term` is the sender's, but for a pre-vote and its grant, which carry the term that
    would be.
    """

    to: str
    sender: str
    term: int


class VoteRequest(_Message, frozen=True, tag=1):
    """`pre` asks whether the vote would be given (dissertation, section 9.6). `forced`: a leader has handed over, so
    hearing from it lately is no reason to refuse.
    """

    last_index: int
    last_term: int
    pre: bool = False
    forced: bool = False


class VoteReply(_Message, frozen=True, tag=2):
    granted: bool
    pre: bool = False


class Append(_Message, frozen=True, tag=3):
    previous_index: int
    previous_term: int
    commit: int
    entries: tuple[Entry, ...] = ()


class AppendReply(_Message, frozen=True, tag=4):
    """`index`: all up to it is durable here and the sender's; or, `rejected`, the previous_index that did not match,
    and the hint where to look instead.
    """

    index: int
    rejected: bool = False
    hint_index: int = 0
    hint_term: int = 0


class Heartbeat(_Message, frozen=True, tag=5):
    """`context` numbers the newest round of reads that this heartbeat confirms; 0 for none."""

    commit: int
    context: int = 0


class HeartbeatReply(_Message, frozen=True, tag=6):
    context: int = 0


class ReadRequest(_Message, frozen=True, tag=7):
    """A follower asks the leader for an index at which it may read. No run of a member uses a `context` twice, nor one
    of an earlier run.
    """

    context: int


class ReadReply(_Message, frozen=True, tag=8):
    """`index` is 0 where the leader cannot say."""

    context: int
    index: int


class TimeoutNow(_Message, frozen=True, tag=9):
    """Stand for election at once: the leader hands over."""


class SnapshotOffer(_Message, frozen=True, tag=10):
    """A snapshot of everything up to `index` follows in chunks; `transfer` names the offer."""

    transfer: str
    index: int
    snapshot_term: int
    configuration: Configuration


class SnapshotChunk(_Message, frozen=True, tag=11):
    """Piece `number` of it, counted from 0; `last` ends it."""

    transfer: str
    number: int
    data: bytes
    last: bool = False


class SnapshotReply(_Message, frozen=True, tag=12):
    """The receiver has all pieces before `next`. `done`: the snapshot is installed, durably, or was not needed."""

    transfer: str
    next: int
    done: bool = False
    refused: str = ""


class Parcel(_Message, frozen=True, tag=13):
    """Bytes for the application of the other member; may be lost like any message."""

    data: bytes


Message = (
    VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | ReadRequest
    | ReadReply
    | TimeoutNow
    | SnapshotOffer
    | SnapshotChunk
    | SnapshotReply
    | Parcel
)

_KINDS = frozenset(Kind)
_encoder = msgspec.msgpack.Encoder()
_messages = msgspec.msgpack.Decoder(list[Message])
_configurations = msgspec.msgpack.Decoder(Configuration)


def encode_messages(messages: list[Message]) -> bytes:
    return _encoder.encode(messages)


def decode_messages(data: bytes) -> list[Message]:
    """Raises `msgspec.DecodeError` for anything that is none."""
    return _messages.decode(data)


def flaw_of(message: Message) -> str:
    """What no member sends, and what would harm whoever believed it; "" where there is nothing of that."""
    if message.term < 0:
        return f"a term of {message.term}"
    if not isinstance(message, Append):
        return ""
    index, term = message.previous_index, message.previous_term
    if index < 0 or term < 0:
        return f"entries after entry {index} of term {term}"
    for entry in message.entries:
        if entry.index != index + 1 or not term <= entry.term <= message.term or entry.kind not in _KINDS:
            return f"entry {entry.index} of kind {entry.kind} and term {entry.term} after {index} of term {term}"
        index, term = entry.index, entry.term
        if entry.kind == Kind.CONFIGURATION:
            try:
                decode_configuration(entry.data)
            except msgspec.DecodeError as error:
                return f"a configuration that does not read: {error}"
    return ""


def encode_configuration(configuration: Configuration) -> bytes:
    return _encoder.encode(configuration)


def decode_configuration(data: bytes) -> Configuration:
    """Raises `msgspec.DecodeError`."""
    return _configurations.decode(data)
