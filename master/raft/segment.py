"""The bytes of one segment of the log: a header, then records. Pure: bytes in, records or a judgement out.

Header: magic, format number, index of the first entry, CRC32C; this much is alike in every format, so that each
release can name one it does not know. Then the segment's own number, the number of the segment that it goes on from
(0: none), CRC32C. Numbers rise with every segment that is written, so they tell which of two segments is the later word
where their entries overlap, and a segment that is missing leaves a number that nobody bears.

Record: magic, length, kind, index, term, the offset up to which the segment was durable when the record was written,
CRC32C of the payload, CRC32C of the header so far; then the payload. An entry's record has the entry's `Kind`, index
and term. A hard state's has the index of the entry before it and consumes none; the newest one holds. The first record
of a segment is the hard state that was newest when the segment was begun, so none is lost with older segments.

Format 1, of logs without elections, is read and never written: its header has no numbers (such a segment is numbered
by its first index, for these logs only ever grew), all its records are entries with data and of term 0, none is a hard
state, and a record says which *index* was durable.

What does not read is one of two things, and `BadRecordError.torn` says which. *Torn*: the machine stopped while the
record was being written, so nobody was told that it holds; it is cut. *Damaged*: it was acknowledged and has changed
since; the start stops. Torn is only what a stop can leave behind in a file that only grows: a record that ends after
the file, or one with a disk sector of zeros (sectors are written whole or not at all, and fresh ones read as zeros);
and never a record that a later one states to have been durable, nor the first hard state, which was synced before the
file had its name. (The sector rule is etcd's, wal/decoder.go.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import google_crc32c
import msgspec

from barque.master.raft.messages import Entry, HardState, Kind

FORMAT = 2
HARD_STATE = 2

_MAGIC = b"BARQUEWL"
_START = struct.Struct("<8sIQ")
_NUMBERS = struct.Struct("<QQ")
_RECORD_MAGIC = b"\xb5rec"
_RECORD = struct.Struct("<4sIIQQQI")
_CRC = struct.Struct("<I")

_START_BYTES = _START.size + _CRC.size
HEADER_BYTES = _START_BYTES + _NUMBERS.size + _CRC.size
RECORD_HEADER_BYTES = _RECORD.size + _CRC.size

_SECTOR_BYTES = 512
_KINDS = frozenset({*Kind, HARD_STATE})

_encoder = msgspec.msgpack.Encoder()
_hard_states = msgspec.msgpack.Decoder(HardState)


class Header(NamedTuple):
    """Of a segment: `number` is its own, `after` that of the one it goes on from, 0 where the log begins with it."""

    format: int
    first_index: int
    number: int
    after: int

    @property
    def size(self) -> int:
        return HEADER_BYTES if self.format > 1 else _START_BYTES


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record, `offset` bytes into its segment; `kind` is a `Kind` or `HARD_STATE`."""

    index: int
    term: int
    kind: int
    data: bytes
    offset: int


class BadRecordError(Exception):
    """The record at `offset` does not read; `torn` as above."""

    def __init__(self, offset: int, why: str, *, torn: bool) -> None:
        super().__init__(why)
        self.offset = offset
        self.torn = torn


class BadHeaderError(Exception):
    """The segment's own header does not read."""


def pack_header(first_index: int, number: int, after: int) -> bytes:
    return _checked(_START.pack(_MAGIC, FORMAT, first_index)) + _checked(_NUMBERS.pack(number, after))


def read_header(data: bytes) -> Header:
    """Of a newer format, only format and first index mean anything. Raises `BadHeaderError`."""
    magic, found, first_index = _unpack(_START, data, 0)
    if magic != _MAGIC:
        raise BadHeaderError("it does not begin as a segment of the log")
    if found == 1:
        return Header(found, first_index, first_index, 0)
    if found > FORMAT:
        return Header(found, first_index, 0, 0)
    return Header(found, first_index, *_unpack(_NUMBERS, data, _START_BYTES))


def pack_hard_state(state: HardState, last_index: int, durable: int) -> bytes:
    """The record of a hard state that follows entry `last_index`; the segment is durable through offset `durable`."""
    return pack_entries([Entry(last_index, state.term, HARD_STATE, _encoder.encode(state))], durable)


def pack_entries(entries: Sequence[Entry], durable: int) -> bytes:
    """The records of the entries; the segment is durable through offset `durable`."""
    parts: list[bytes] = []
    checksum, pack, pack_crc = google_crc32c.value, _RECORD.pack, _CRC.pack
    for entry in entries:
        data = entry.data
        header = pack(_RECORD_MAGIC, len(data), entry.kind, entry.index, entry.term, durable, checksum(data))
        parts += (header, pack_crc(checksum(header)), data)
    return b"".join(parts)


def read_hard_state(record: Record) -> HardState:
    """Raises `BadRecordError`."""
    try:
        return _hard_states.decode(record.data)
    except msgspec.DecodeError as e:
        raise BadRecordError(record.offset, f"the hard state does not read: {e}", torn=False) from e


def read_records(data: bytes) -> Iterator[tuple[Record, int]]:
    """Each record of a segment with the offset after it, to the end of `data`, whose header is known to read.

    Raises `BadRecordError`.
    """
    header = read_header(data)
    offset, index = header.size, header.first_index
    if header.format > 1 and len(data) == offset:
        raise BadRecordError(offset, "the hard state that the file was begun with is missing", torn=False)
    while offset < len(data):
        start = offset + RECORD_HEADER_BYTES
        found = _read_record_header(data, offset)
        if found is None:
            raise _bad(data, header, offset, min(start, len(data)), index, "the head of the record does not read")
        length, kind, found_index, term, _, crc = found
        if kind not in _KINDS:
            raise BadRecordError(offset, f"a newer release wrote a record of kind {kind}", torn=False)
        expected, what = index, f"entry {index}"
        if kind == HARD_STATE:
            expected, what = index - 1, f"the hard state before entry {index}"
        elif offset == header.size and header.format > 1:
            raise BadRecordError(offset, "the hard state that the file was begun with is missing", torn=False)
        if found_index != expected:
            raise BadRecordError(offset, f"entry {expected} is expected and {found_index} stands there", torn=False)
        payload = data[start : start + length]
        if len(payload) < length or google_crc32c.value(payload) != crc:
            raise _bad(data, header, offset, start + length, index, f"the checksum of {what} is wrong")
        record, offset = Record(found_index, term, kind, payload, offset), start + length
        yield record, offset
        index = found_index + 1


def _checked(data: bytes) -> bytes:
    return data + _CRC.pack(google_crc32c.value(data))


def _unpack(layout: struct.Struct, data: bytes, offset: int) -> tuple[Any, ...]:
    end = offset + layout.size
    if len(data) < end + _CRC.size:
        raise BadHeaderError("it is shorter than its header")
    if _CRC.unpack_from(data, end)[0] != google_crc32c.value(data[offset:end]):
        raise BadHeaderError("its header does not read")
    return layout.unpack_from(data, offset)


def _read_record_header(data: bytes, offset: int) -> tuple[int, int, int, int, int, int] | None:
    """Length, kind, index, term, what was durable and payload CRC; None where no record begins."""
    if offset + RECORD_HEADER_BYTES > len(data):
        return None
    magic, length, kind, index, term, durable, crc = _RECORD.unpack_from(data, offset)
    end = offset + _RECORD.size
    if magic != _RECORD_MAGIC or _CRC.unpack_from(data, end)[0] != google_crc32c.value(data[offset:end]):
        return None
    return length, kind, index, term, durable, crc


def _bad(data: bytes, header: Header, offset: int, end: int, index: int, why: str) -> BadRecordError:
    """Judge the record that should stand in `data[offset:end]`, where entry `index` is next."""
    if header.format > 1 and offset == header.size:
        return BadRecordError(offset, f"{why}, and the file was begun with it", torn=False)
    if _was_durable(data, offset, offset + 1 if header.format > 1 else index):
        return BadRecordError(offset, f"{why}, and later entries state that it was written", torn=False)
    torn = end > len(data) or len(data) - offset < RECORD_HEADER_BYTES or _has_unwritten_sector(data, offset, end)
    return BadRecordError(offset, why, torn=torn)


def _was_durable(data: bytes, offset: int, least: int) -> bool:
    """A record after `offset` says that what was durable reached `least`."""
    at = data.find(_RECORD_MAGIC, offset + 1)
    while at >= 0:
        found = _read_record_header(data, at)
        if found is not None and found[4] >= least:
            return True
        at = data.find(_RECORD_MAGIC, at + 1)
    return False


def _has_unwritten_sector(data: bytes, offset: int, end: int) -> bool:
    """A sector's share of `data[offset:end]` is all zeros."""
    while offset < end:
        border = min(end, (offset // _SECTOR_BYTES + 1) * _SECTOR_BYTES)
        if not any(data[offset:border]):
            return True
        offset = border
    return False
