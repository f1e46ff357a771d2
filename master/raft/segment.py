"""The bytes of one segment of the log: a header, then records. Pure: bytes in, records or a judgement out.

Header: magic, format number, index of the first record, CRC32C. Record: magic, length, kind, index, term, the index
that was durable when it was written, CRC32C of the payload, CRC32C of the header so far; then the payload.

What does not read is one of two things, and `BadRecordError.torn` says which. *Torn*: the machine stopped while the
record was being written, so nobody was told that it holds; it is cut. *Damaged*: it was acknowledged and has changed
since; the start stops. Torn is only what a stop can leave behind in a file that only grows: a record that ends after
the file, or one with a disk sector of zeros (sectors are written whole or not at all, and fresh ones read as zeros);
and never a record that a later one states to have been durable. (The sector rule is etcd's, wal/decoder.go.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import google_crc32c
import msgspec

FORMAT = 1
ENTRY = 1

_MAGIC = b"BARQUEWL"
_HEADER = struct.Struct("<8sIQ")
_RECORD_MAGIC = b"\xb5rec"
_RECORD = struct.Struct("<4sIIQQQI")
_CRC = struct.Struct("<I")

HEADER_BYTES = _HEADER.size + _CRC.size
RECORD_HEADER_BYTES = _RECORD.size + _CRC.size

_SECTOR_BYTES = 512


class Record(msgspec.Struct, frozen=True, gc=False):
    """One entry of the log, `offset` bytes into its segment. `term` is 0 in a log without elections."""

    index: int
    term: int
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


def pack_header(first_index: int) -> bytes:
    header = _HEADER.pack(_MAGIC, FORMAT, first_index)
    return header + _CRC.pack(google_crc32c.value(header))


def read_header(data: bytes) -> tuple[int, int]:
    """Format number and first index. Raises `BadHeaderError`."""
    if len(data) < HEADER_BYTES:
        raise BadHeaderError("it is shorter than its header")
    magic, found, first_index = _HEADER.unpack_from(data)
    if magic != _MAGIC or _CRC.unpack_from(data, _HEADER.size)[0] != google_crc32c.value(data[: _HEADER.size]):
        raise BadHeaderError("its header does not read")
    return found, first_index


def pack_records(payloads: Sequence[bytes], after: int, term: int) -> bytes:
    """Records for the payloads with indexes `after` + 1, …; the log is durable through `after`."""
    parts: list[bytes] = []
    for index, payload in enumerate(payloads, after + 1):
        crc = google_crc32c.value(payload)
        header = _RECORD.pack(_RECORD_MAGIC, len(payload), ENTRY, index, term, after, crc)
        parts += (header, _CRC.pack(google_crc32c.value(header)), payload)
    return b"".join(parts)


def read_records(data: bytes, first_index: int, offset: int = HEADER_BYTES) -> Iterator[tuple[Record, int]]:
    """Each record with the offset after it, up to the end of `data`. Raises `BadRecordError`."""
    index = first_index
    while offset < len(data):
        start = offset + RECORD_HEADER_BYTES
        found = _read_record_header(data, offset)
        if found is None:
            raise _bad(data, offset, min(start, len(data)), index, "the head of the record does not read")
        length, kind, found_index, term, _, crc = found
        if kind != ENTRY:
            raise BadRecordError(offset, f"a newer release wrote a record of kind {kind}", torn=False)
        if found_index != index:
            raise BadRecordError(offset, f"entry {index} is expected and {found_index} stands there", torn=False)
        payload = data[start : start + length]
        if len(payload) < length or google_crc32c.value(payload) != crc:
            raise _bad(data, offset, start + length, index, f"the checksum of entry {index} is wrong")
        record, offset = Record(index, term, payload, offset), start + length
        yield record, offset
        index += 1


def _read_record_header(data: bytes, offset: int) -> tuple[int, int, int, int, int, int] | None:
    """Length, kind, index, term, durable index and payload CRC; None where no record begins."""
    if offset + RECORD_HEADER_BYTES > len(data):
        return None
    magic, length, kind, index, term, durable, crc = _RECORD.unpack_from(data, offset)
    end = offset + _RECORD.size
    if magic != _RECORD_MAGIC or _CRC.unpack_from(data, end)[0] != google_crc32c.value(data[offset:end]):
        return None
    return length, kind, index, term, durable, crc


def _bad(data: bytes, offset: int, end: int, index: int, why: str) -> BadRecordError:
    """Judge the record `index` that should stand in `data[offset:end]`."""
    if _was_durable(data, offset, index):
        return BadRecordError(offset, f"{why}, and later entries state that it was written", torn=False)
    torn = end > len(data) or len(data) - offset < RECORD_HEADER_BYTES or _has_unwritten_sector(data, offset, end)
    return BadRecordError(offset, why, torn=torn)


def _was_durable(data: bytes, offset: int, index: int) -> bool:
    at = data.find(_RECORD_MAGIC, offset + 1)
    while at >= 0:
        found = _read_record_header(data, at)
        if found is not None and found[4] >= index:
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
