"""Objects to JSON bytes and back, and the slot in those bytes where the store writes the revision.

The encoded form of every root object begins `{"apiVersion":…,"kind":…,"metadata":{"resourceVersion":"`; the revision
stands there. The store cuts and fills that slot without parsing.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import msgspec

from barque.api.bulk import check_bulk
from barque.api.types.base import Object

T = TypeVar("T", bound=Object)

_encoder = msgspec.json.Encoder()
_decoders: dict[type[Object], msgspec.json.Decoder[Any]] = {}
_MEMBER_START = b'"resourceVersion":"'
_SLOT_START = b'"metadata":{' + _MEMBER_START


class Slotted(NamedTuple):
    """An object's JSON without a revision: `json[:slot] + b"12" + json[slot:]` is the object at revision 12."""

    json: bytes
    slot: int

    def at(self, revision: int) -> bytes:
        json, slot = self.json, self.slot
        return b"%b%d%b" % (json[:slot], revision, json[slot:])

    def unstored(self) -> bytes:
        """The object as one that stands nowhere: with a uid, say, but without a revision."""
        before, after = self.json[: self.slot - len(_MEMBER_START)], self.json[self.slot + len(b'"') :]
        return before + after.removeprefix(b",")


def encode(obj: Object) -> bytes:
    return _encoder.encode(obj)


def decode(kind: type[T], data: bytes) -> T:
    """Decode stored bytes. Raises `msgspec.ValidationError` where they are not of this kind: our fault, no user's."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    decoded: T = decoder.decode(data)
    return decoded


def from_document(kind: type[T], document: Any) -> T:
    """A struct from a JSON document in memory. Raises `msgspec.ValidationError` as `decode` does, and `ApiError` 413
    for one of too many values: a patch may have copied them.

    By way of bytes, since only these fill the fields that stay undecoded (`msgspec.Raw`).
    """
    data = _encoder.encode(document)
    check_bulk(data)
    return decode(kind, data)


def to_document(obj: Object) -> dict[str, Any]:
    """The JSON document of a struct, shared with nothing."""
    document: dict[str, Any] = msgspec.json.decode(_encoder.encode(obj))
    return document


def to_builtins(value: Any) -> Any:
    """A struct, or what one holds, as dictionaries, lists and scalars; what stays undecoded in it (`msgspec.Raw`), too.

    Quicker than `to_document`, but lists and dictionaries of scalars may be the struct's own: not to be written to.
    """
    return msgspec.to_builtins(value, enc_hook=msgspec.json.decode)


def encode_slotted(obj: Any) -> Slotted:
    """Encode a root object for the store. Leaves `metadata.resourceVersion` of `obj` empty."""
    obj.metadata.resourceVersion = "0"
    data = _encoder.encode(obj)
    obj.metadata.resourceVersion = ""
    slot = data.index(_SLOT_START) + len(_SLOT_START)
    return Slotted(data[:slot] + data[slot + 1 :], slot)
