"""Payloads: what one entry of the log carries, as bytes; and how they are kept on disk.

What members send each other is plain: `[1, [op, …]]`, the ops of one proposal, or `[3, command]`, one of the few other
things that every member does at the same entry. Encoding checks that the bytes decode to valid ops, because an entry
that is durable but cannot be applied would stop every member at every start.

On disk Secrets are sealed: `[2, [op, …], [[position, sealed], …]]` is a `[1, …]` whose ops at these positions have
their JSON sealed after them, `[4, command]` a `[3, …]` whose Secrets are sealed in their places. Sealing is the matter
of the disk alone: the state machine, its hash and what members send stay plain, and each member has keys of its own.

A number that is not known here was written by a newer release: the leader writes only what all members understand, so
only a member that came back after an upgrade of the others meets one, and it stops (`NewerFormatError`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from barque.master.raft.errors import NewerFormatError
from barque.master.store.keyring import KeyRing, SealError, log_context, state_context
from barque.master.store.port import Key, Op, Stored

OPS_FORMAT = 1
SEALED_OPS_FORMAT = 2
COMMAND_FORMAT = 3
SEALED_COMMAND_FORMAT = 4
# What this release understands, and what every release that forms groups does.
NEWEST_FORMAT = 4
FIRST_FORMAT = 4

# What is sealed: the whole JSON of these objects. Their keys, labels and selectable fields stay readable.
SEALED_RESOURCES = frozenset({"secrets"})

# Far above any object the API admits (etcd's limit is 1.5 MiB); keeps an entry within one frame of the log.
MAX_OBJECT_BYTES = 8 * 1024 * 1024


# A commit of more ops is several entries: so many are applied in one turn of the loop, in a few milliseconds.
_ENTRY_OPS = 256
# And it carries so many bytes, or one op: an entry must fit in a message between members.
_ENTRY_BYTES = 4 * 1024 * 1024


class RestoreBegin(msgspec.Struct, frozen=True, gc=False, tag=1, array_like=True):
    """A saved state follows, section by section; `restore` names it."""

    restore: str


class RestoreSection(msgspec.Struct, frozen=True, gc=False, tag=2, array_like=True):
    """Section `number`, counted from 0: as it stands in a snapshot, packed; or `secrets`, whose JSON is plain."""

    restore: str
    number: int
    packed: bytes = b""
    secrets: list[Stored] = []


class RestoreEnd(msgspec.Struct, frozen=True, gc=False, tag=3, array_like=True):
    """It was `sections` sections with `objects` objects: let it take the place of the state."""

    restore: str
    sections: int
    objects: int


class Inspect(msgspec.Struct, frozen=True, gc=False, tag=4, array_like=True):
    """Compare the states as they are at this entry; `asked` makes the bytes differ from those of the last one."""

    asked: str


class QuorumRecovered(msgspec.Struct, frozen=True, gc=False, tag=5, array_like=True):
    """`member` goes on alone: what only the others had is lost, so no revision may be handed out twice."""

    member: str


Command = RestoreBegin | RestoreSection | RestoreEnd | Inspect | QuorumRecovered
# What a payload holds.
Content = list[Op] | Command

_encoder = msgspec.msgpack.Encoder()
_ops_decoder = msgspec.msgpack.Decoder(tuple[int, list[Op]])
_sealed_decoder = msgspec.msgpack.Decoder(tuple[int, list[Op], list[tuple[int, bytes]]])
_command_decoder = msgspec.msgpack.Decoder(tuple[int, Command])

# msgpack's first two bytes: an array of so many, that begins with this number.
_OPS = bytes((0x92, OPS_FORMAT))
_SEALED_OPS = bytes((0x93, SEALED_OPS_FORMAT))
_COMMAND = bytes((0x92, COMMAND_FORMAT))
_SEALED_COMMAND = bytes((0x92, SEALED_COMMAND_FORMAT))
# How the keys of what is sealed begin in a payload: whoever lacks these bytes holds no Secret, and need not be decoded
# to know it.
_MARKS = tuple(b"\x93" + _encoder.encode(resource) for resource in sorted(SEALED_RESOURCES))


class SealedOpError(Exception):
    """A Secret in an entry does not open: `key` names it, `cause` says why."""

    def __init__(self, key: Key, cause: SealError) -> None:
        super().__init__(f"{key} {cause}")
        self.key = key
        self.cause = cause


def split_ops(ops: Sequence[Op]) -> Iterator[Sequence[Op]]:
    """The ops of one commit, by entry."""
    start = size = 0
    for at, op in enumerate(ops):
        size += len(op.json)
        if at - start == _ENTRY_OPS or (size > _ENTRY_BYTES and at > start):
            yield ops[start:at]
            start, size = at, len(op.json)
    yield ops[start:]


def encode_entry(ops: Sequence[Op]) -> tuple[bytes, list[Op]]:
    """The payload, and its ops as every member will decode them. Raises `ValueError` for an op that breaks the port's
    contract: nothing of the entry is written then.
    """
    for op in ops:
        if len(op.json) > MAX_OBJECT_BYTES:
            raise ValueError(f"{_named(op)}: {len(op.json)} bytes, the store takes {MAX_OBJECT_BYTES}")
        if op.verb == "put" and not 0 < op.slot <= len(op.json):
            raise ValueError(f"{_named(op)}: slot {op.slot} lies outside {len(op.json)} bytes")
        if op.verb == "delete" and (op.json or op.reserve):
            raise ValueError(f"{_named(op)}: a delete carries neither bytes nor reservations")
    data = _encoder.encode((OPS_FORMAT, ops))
    try:
        return data, _ops_decoder.decode(data)[1]
    except msgspec.ValidationError as e:
        raise ValueError(f"{_named(ops[0])}: {e}") from e


def encode_command(command: Command) -> bytes:
    """The payload of a command."""
    return _encoder.encode((COMMAND_FORMAT, command))


def decode_payload(data: bytes) -> Content:
    """What a plain payload holds. Raises `NewerFormatError`; any other failure is a fault of ours and propagates."""
    if data.startswith(_OPS):
        return _ops_decoder.decode(data)[1]
    if data.startswith(_COMMAND):
        return _command_decoder.decode(data)[1]
    raise _unknown(data)


def seal_payload(data: bytes, index: int, ring: KeyRing) -> bytes:
    """The bytes of the payload for the log, where it is entry `index`; the same ones where it holds no Secret."""
    if not any(mark in data for mark in _MARKS):
        return data
    content = decode_payload(data)
    if isinstance(content, list):
        return _sealed_ops(content, index, ring) if any(map(_holds_secret, content)) else data
    if isinstance(content, RestoreSection) and content.secrets:
        ring.reserve_uses()
        sealed = [seal_stored(stored, ring) for stored in content.secrets]
        return _encoder.encode((SEALED_COMMAND_FORMAT, msgspec.structs.replace(content, secrets=sealed)))
    return data


def open_payload(data: bytes, index: int, ring: KeyRing) -> Content:
    """What entry `index` of the log holds, sealed or not. Raises `SealedOpError`, and as `decode_payload`."""
    if data.startswith(_SEALED_OPS):
        return _opened_ops(data, index, ring)
    if data.startswith(_SEALED_COMMAND):
        command = _command_decoder.decode(data)[1]
        assert isinstance(command, RestoreSection), "only sections of a restore hold Secrets"
        return msgspec.structs.replace(command, secrets=[_opened_secret(stored, ring) for stored in command.secrets])
    return decode_payload(data)


def encode_content(content: Content) -> bytes:
    """The plain payload that holds this."""
    return _encoder.encode((OPS_FORMAT, content)) if isinstance(content, list) else encode_command(content)


def seal_stored(stored: Stored, ring: KeyRing) -> Stored:
    """The object of a state with its JSON sealed."""
    context = state_context(stored.revision, stored.key, stored.slot)
    return msgspec.structs.replace(stored, json=ring.seal(stored.json, context))


def open_stored(stored: Stored, ring: KeyRing) -> Stored:
    """The object as it was. Raises `SealError`."""
    json = ring.open(stored.json, state_context(stored.revision, stored.key, stored.slot))
    return msgspec.structs.replace(stored, json=json)


def _sealed_ops(ops: Sequence[Op], index: int, ring: KeyRing) -> bytes:
    ring.reserve_uses()
    plain: list[Op] = []
    sealed: list[tuple[int, bytes]] = []
    for position, op in enumerate(ops):
        if _holds_secret(op):
            sealed.append((position, ring.seal(op.json, log_context(index, position, op.key, op.slot))))
            op = msgspec.structs.replace(op, json=b"")
        plain.append(op)
    return _encoder.encode((SEALED_OPS_FORMAT, plain, sealed))


def _opened_ops(data: bytes, index: int, ring: KeyRing) -> list[Op]:
    _, ops, sealed = _sealed_decoder.decode(data)
    for position, value in sealed:
        op = ops[position]
        try:
            json = ring.open(value, log_context(index, position, op.key, op.slot))
        except SealError as e:
            raise SealedOpError(op.key, e) from e
        ops[position] = msgspec.structs.replace(op, json=json)
    return ops


def _opened_secret(stored: Stored, ring: KeyRing) -> Stored:
    try:
        return open_stored(stored, ring)
    except SealError as e:
        raise SealedOpError(stored.key, e) from e


def _holds_secret(op: Op) -> bool:
    return op.key.resource in SEALED_RESOURCES and bool(op.json)


def _unknown(data: bytes) -> Exception:
    try:
        found = int(msgspec.msgpack.decode(data)[0])
    except (msgspec.DecodeError, TypeError, ValueError, IndexError, KeyError):
        return ValueError(f"a log entry holds what no release writes: {data[:16].hex()}")
    if found > NEWEST_FORMAT:
        return NewerFormatError("a log entry", found, NEWEST_FORMAT)
    return ValueError(f"a log entry of format {found} is sealed where it must be plain")


def _named(op: Op) -> str:
    return f"{op.verb} {op.key}"
