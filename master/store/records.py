"""Entries: the ops of one proposal as bytes, what the log carries and, later, what members send each other.

An entry is msgpack `[1, [op, …]]`. Encoding checks that the bytes decode to valid ops, because an entry that is
durable but cannot be applied would stop every member at every start.

On disk an entry that writes Secrets is `[2, [op, …], [[position, sealed], …]]`: the JSON of the ops at these positions
is empty and stands sealed after them. Sealing is the disk's matter alone: the state machine, its hash and what members
send each other stay plain, and each member seals with keys of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from barque.master.raft.errors import NewerFormatError
from barque.master.store.keyring import KeyRing, SealError, log_context
from barque.master.store.port import Key, Op

ENTRY_FORMAT = 1
SEALED_FORMAT = 2

# What is sealed: the whole JSON of these objects. Their keys, labels and selectable fields stay readable.
SEALED_RESOURCES = frozenset({"secrets"})

# Far above any object the API admits (etcd's limit is 1.5 MiB); keeps an entry within one frame of the log.
MAX_OBJECT_BYTES = 8 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, list[Op]])
_sealed_decoder = msgspec.msgpack.Decoder(tuple[int, list[Op], list[tuple[int, bytes]]])
# msgpack's first bytes of an array of three that begins with the number 2.
_SEALED_START = bytes((0x93, SEALED_FORMAT))


class SealedOpError(Exception):
    """A Secret in an entry does not open: `key` names it, `cause` says why."""

    def __init__(self, key: Key, cause: SealError) -> None:
        super().__init__(f"{key} {cause}")
        self.key = key
        self.cause = cause


def encode_entry(ops: Sequence[Op]) -> tuple[bytes, list[Op]]:
    """The entry's bytes, and its ops as every member will decode them. Raises `ValueError` for an op that breaks the
    port's contract: nothing of the entry is written then.
    """
    for op in ops:
        if len(op.json) > MAX_OBJECT_BYTES:
            raise ValueError(f"{_named(op)}: {len(op.json)} bytes, the store takes {MAX_OBJECT_BYTES}")
        if op.verb == "put" and not 0 < op.slot <= len(op.json):
            raise ValueError(f"{_named(op)}: slot {op.slot} lies outside {len(op.json)} bytes")
        if op.verb == "delete" and (op.json or op.reserve):
            raise ValueError(f"{_named(op)}: a delete carries neither bytes nor reservations")
    data = _encoder.encode((ENTRY_FORMAT, ops))
    try:
        return data, _decoder.decode(data)[1]
    except msgspec.ValidationError as e:
        raise ValueError(f"{_named(ops[0])}: {e}") from e


def decode_entry(data: bytes) -> list[Op]:
    """The ops of an entry. Raises `NewerFormatError`; any other failure is a fault of ours and propagates."""
    try:
        found, ops = _decoder.decode(data)
    except msgspec.ValidationError:
        found = int(msgspec.msgpack.decode(data)[0])
        if found > ENTRY_FORMAT:
            raise NewerFormatError("a log entry", found, SEALED_FORMAT) from None
        raise
    if found > ENTRY_FORMAT:
        raise NewerFormatError("a log entry", found, SEALED_FORMAT)
    return ops


def holds_secrets(ops: Sequence[Op]) -> bool:
    return any(op.key.resource in SEALED_RESOURCES and op.json for op in ops)


def seal_entry(ops: Sequence[Op], index: int, ring: KeyRing) -> bytes:
    """The bytes of the entry for the log, where it is number `index`."""
    plain: list[Op] = []
    sealed: list[tuple[int, bytes]] = []
    for position, op in enumerate(ops):
        if op.key.resource in SEALED_RESOURCES and op.json:
            sealed.append((position, ring.seal(op.json, log_context(index, position, op.key, op.slot))))
            op = msgspec.structs.replace(op, json=b"")
        plain.append(op)
    return _encoder.encode((SEALED_FORMAT, plain, sealed))


def open_entry(data: bytes, index: int, ring: KeyRing) -> list[Op]:
    """The ops of entry `index` of the log, sealed or not. Raises `SealedOpError`, and as `decode_entry`."""
    if not data.startswith(_SEALED_START):
        return decode_entry(data)
    _, ops, sealed = _sealed_decoder.decode(data)
    for position, value in sealed:
        op = ops[position]
        try:
            json = ring.open(value, log_context(index, position, op.key, op.slot))
        except SealError as e:
            raise SealedOpError(op.key, e) from e
        ops[position] = msgspec.structs.replace(op, json=json)
    return ops


def _named(op: Op) -> str:
    return f"{op.verb} {op.key}"
