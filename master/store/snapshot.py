"""Snapshots: the whole state at one entry of the log, in one file.

Taking one never stops writes: `fsm.view()` holds references, `encode_sections` turns them into bytes slice by slice on
the event loop (objects are immutable), and `SnapshotWriter` compresses and writes each slice in a thread. The file
appears under its name only when it is complete and durable.

File: magic, format number, their CRC32C; then frames, each length, CRC32C, zlib-compressed msgpack of one section. The
first section is the `Head`, the last is `End` with the number of objects, so that a file cut between two frames is
noticed.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import msgspec

from barque.master.store.disk import TEMPORARY, Disk
from barque.master.store.errors import CorruptFileError, NewerFormatError
from barque.master.store.fsm import StateMachine, View
from barque.master.store.port import Key, Refused, Stored

log = logging.getLogger(__name__)

FORMAT = 1

_MAGIC = b"BARQUESN"
_HEADER = struct.Struct("<8sI")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _CRC.size
_FRAME = struct.Struct("<II")
_PREFIX, _SUFFIX = "state-", ".snap"

# About a millisecond of encoding per slice.
_SLICE_BYTES = 256 * 1024
_SLICE_ROWS = 2000


class Head(msgspec.Struct, frozen=True, tag="head", array_like=True):
    """`index` and `term` of the last entry in the state; `revision` after it."""

    index: int
    term: int
    revision: int
    cluster_id: str


class Objects(msgspec.Struct, frozen=True, tag="objects", array_like=True):
    rows: list[Stored]


class Reserved(msgspec.Struct, frozen=True, tag="reserved", array_like=True):
    rows: list[tuple[str, Key]]


class Results(msgspec.Struct, frozen=True, tag="results", array_like=True):
    boot_id: str
    floor: int
    rows: list[tuple[int, int | Refused]]


class End(msgspec.Struct, frozen=True, tag="end", array_like=True):
    objects: int


Section = Head | Objects | Reserved | Results | End

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Section)


@dataclass(frozen=True)
class SnapshotFile:
    """A complete snapshot; `index` is the last entry in it."""

    path: Path
    index: int


def find_snapshots(directory: Path, disk: Disk) -> list[SnapshotFile]:
    """The complete snapshots, oldest first; what a killed process left half-written is removed."""
    found = []
    for name in disk.names(directory):
        if name.startswith(_PREFIX) and name.endswith(TEMPORARY):
            disk.remove(directory / name)
        elif name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            digits = name[len(_PREFIX) : -len(_SUFFIX)]
            if digits.isdigit():
                found.append(SnapshotFile(directory / name, int(digits)))
    return sorted(found, key=lambda s: s.index)


def encode_sections(view: View, index: int, term: int, cluster_id: str) -> Iterator[bytes]:
    """The sections of a snapshot, encoded one per step, each step about a millisecond."""
    yield _encoder.encode(Head(index, term, view.revision, cluster_id))
    rows: list[Stored] = []
    size = 0
    for stored in view.objects:
        rows.append(stored)
        size += len(stored.json)
        if size >= _SLICE_BYTES or len(rows) >= _SLICE_ROWS:
            yield _encoder.encode(Objects(rows))
            rows, size = [], 0
    if rows:
        yield _encoder.encode(Objects(rows))
    for start in range(0, len(view.reserved), _SLICE_ROWS):
        yield _encoder.encode(Reserved(view.reserved[start : start + _SLICE_ROWS]))
    for boot_id, floor, kept in view.results:
        yield _encoder.encode(Results(boot_id, floor, list(kept.items())))
    yield _encoder.encode(End(len(view.objects)))


class SnapshotWriter:
    """Writes one snapshot file. All methods block and raise `OSError`; after one, call `abort`."""

    def __init__(self, directory: Path, disk: Disk, index: int) -> None:
        self.path = directory / f"{_PREFIX}{index:020d}{_SUFFIX}"
        self._temporary = self.path.with_name(self.path.name + TEMPORARY)
        self._disk = disk
        self._fd = disk.create(self._temporary)
        self._offset = 0

    def add(self, section: bytes) -> None:
        if self._offset == 0:
            header = _HEADER.pack(_MAGIC, FORMAT)
            self._write(header + _CRC.pack(google_crc32c.value(header)))
        # Level 1: JSON shrinks some sixfold, and the CPU is shared with the writes going on.
        packed = zlib.compress(section, 1)
        self._write(_FRAME.pack(len(packed), google_crc32c.value(packed)) + packed)

    def finish(self) -> None:
        self._disk.sync(self._fd)
        self._close()
        self._disk.rename(self._temporary, self.path)

    def abort(self) -> None:
        """Give up; what cannot be removed now is removed at the next start."""
        self._close()
        try:
            self._disk.remove(self._temporary)
        except OSError as e:
            log.warning("cannot remove %s: %s", self._temporary, e)

    def _close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> None:
        self._disk.write(self._fd, data, self._offset)
        self._offset += len(data)


def read_sections(file: SnapshotFile, disk: Disk) -> Iterator[Section]:
    """The sections of a snapshot, the last one an `End` that agrees with the objects seen. Raises `StoreStartError`."""
    path = file.path
    data = disk.read(path)
    header, crc = data[: _HEADER.size], data[_HEADER.size : _HEADER_BYTES]
    if not data.startswith(_MAGIC) or crc != _CRC.pack(google_crc32c.value(header)):
        raise _damaged(path, 0, "its header does not read")
    found = _HEADER.unpack(header)[1]
    if found > FORMAT:
        raise NewerFormatError(str(path), found, FORMAT)
    offset, objects = _HEADER_BYTES, 0
    section: Section | None = None
    while offset < len(data):
        start = offset + _FRAME.size
        length, frame_crc = _FRAME.unpack_from(data, offset) if start <= len(data) else (0, -1)
        packed = data[start : start + length]
        if len(packed) < length or google_crc32c.value(packed) != frame_crc:
            raise _damaged(path, offset, "the checksum of a frame is wrong")
        section = _decoder.decode(zlib.decompress(packed))
        if isinstance(section, Objects):
            objects += len(section.rows)
        yield section
        offset = start + length
    if not isinstance(section, End) or section.objects != objects:
        raise _damaged(path, offset, "its end is missing")


def load_section(machine: StateMachine, section: Section) -> None:
    """Bring a section of a snapshot into an empty state machine."""
    if isinstance(section, Objects):
        machine.load_objects(section.rows)
    elif isinstance(section, Reserved):
        machine.load_reserved(section.rows)
    elif isinstance(section, Results):
        machine.load_results(section.boot_id, section.floor, section.rows)
    elif isinstance(section, Head):
        machine.revision = section.revision


def _damaged(path: Path, offset: int, why: str) -> CorruptFileError:
    return CorruptFileError(path, offset, why, "restore the directory from a backup")
