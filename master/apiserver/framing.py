"""Lists and watches as protobuf bytes, joined by hand.

A chunk of a list is many byte strings that exist already; to make a message of them first copies each of them into the
message and then again into its serialisation, some twenty times the cost of joining them. What is joined here is what
`ListChunk` and `WatchBatch` of `proto/resources.proto` would serialise to; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from barque.client.verbs import RawEvent
from barque.proto import resources_pb2 as pb

# One chunk of a list or batch of a watch; an object larger than this travels alone.
CHUNK_BYTES = 1024 * 1024

# Keys of protobuf fields: the number, and how the value is written (0 a varint, 2 a length and bytes).
_CHUNK_ITEM = b"\x0a"
_BATCH_EVENT = b"\x0a"
_EVENT_JSON = b"\x12"
_EVENT_REVISION = b"\x18"
_EVENT_TYPES = {
    name: b"\x08" + bytes((number,))
    for name, number in pb.WatchEvent.Type.items()
    if number != pb.WatchEvent.TYPE_UNSPECIFIED
}


def list_chunks(items: Sequence[bytes], tail: pb.ListChunk) -> Iterator[bytes]:
    """The chunks of a list, the last one ending with what `tail` says of the whole list."""
    parts: list[bytes] = []
    size = 0
    for item in items:
        length = len(item)
        if parts and size + length > CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts += (_CHUNK_ITEM, varint(length), item)
        size += length
    parts.append(tail.SerializeToString())
    yield b"".join(parts)


def watch_batches(events: Iterable[RawEvent]) -> Iterator[bytes]:
    """The messages of some events, in order."""
    parts: list[bytes] = []
    size = 0
    for event in events:
        json = event.json
        length = len(json)
        if parts and size + length > CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        head = _EVENT_TYPES[event.type]
        if json:
            head += _EVENT_JSON + varint(length)
        revision = _EVENT_REVISION + varint(event.revision) if event.revision else b""
        parts += (_BATCH_EVENT, varint(len(head) + length + len(revision)), head, json, revision)
        size += length
    if parts:
        yield b"".join(parts)


def varint(number: int) -> bytes:
    """A number of no sign as protobuf writes it: seven bits a byte, the lowest first."""
    if number < 128:
        return _SHORT[number]
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


_SHORT = [bytes((number,)) for number in range(128)]
