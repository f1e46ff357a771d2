"""Entries: the ops of one proposal as bytes, what the log carries and, later, what members send each other.

An entry is msgpack `[format, [op, …]]`. Encoding checks that the bytes decode to valid ops, because an entry that is
durable but cannot be applied would stop every member at every start.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from barque.master.store.errors import NewerFormatError
from barque.master.store.port import Op

ENTRY_FORMAT = 1

# Far above any object the API admits (etcd's limit is 1.5 MiB); keeps an entry within one frame of the log.
MAX_OBJECT_BYTES = 8 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, list[Op]])


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
            raise NewerFormatError("a log entry", found, ENTRY_FORMAT) from None
        raise
    if found > ENTRY_FORMAT:
        raise NewerFormatError("a log entry", found, ENTRY_FORMAT)
    return ops


def _named(op: Op) -> str:
    return f"{op.verb} {op.key}"
