"""Snapshots: the whole state at one entry of the log, in one file.

Taking one never stops writes: `fsm.view()` holds references, `encode_sections` turns them into bytes slice by slice on
the event loop (objects are immutable), and `SnapshotWriter` compresses and writes each slice in a thread. The file
appears under its name only when it is complete and durable. A snapshot saved for a user has the same bytes.

File: magic, format number, their CRC32C; then frames, each length, CRC32C, zlib-compressed msgpack of one section. The
first section is the `Head`, the last is `End` with the number of objects, so that a file cut between two frames is
noticed. Secrets stand in sections of their own, the JSON of each sealed. Format 1, which had none, and format 2, whose
head told of no configuration, are still read.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import msgspec

from barque.master.raft.disk import TEMPORARY, Disk
from barque.master.raft.errors import CorruptFileError, KeyMissingError, NewerFormatError, Remedy
from barque.master.raft.messages import Configuration
from barque.master.store.fsm import StateMachine, View
from barque.master.store.keyring import KeyRing, SealError, UnknownKeyError
from barque.master.store.port import Key, Refused, Stored
from barque.master.store.records import SEALED_RESOURCES, open_stored, seal_stored

log = logging.getLogger(__name__)

FORMAT = 3

_MAGIC = b"BARQUESN"
_HEADER = struct.Struct("<8sI")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _CRC.size
_FRAME = struct.Struct("<II")
_PREFIX, _SUFFIX = "state-", ".snap"

# A millisecond or two of encoding per slice; sealing a value costs as much as encoding ten.
_SLICE_BYTES = 256 * 1024
_SLICE_ROWS = 1000
_SLICE_SECRETS = 250
# More than a head with all that it may tell of members.
_HEAD_BYTES = 64 * 1024
# More than a slice and the largest object in it: a file from elsewhere must not unpack without bound.
_SECTION_BYTES = 64 * 1024 * 1024


class Head(msgspec.Struct, frozen=True, tag="head", array_like=True):
    """`index` and `term` of the last entry in the state; `revision` after it, `configuration` in force there.

    `restored`: this state took the place of the one before it, whatever the log says: it came from another member (or
    from a file, before format 3). Nothing up to `index` may be replayed.
    """

    index: int
    term: int
    revision: int
    cluster_id: str
    restored: bool = False
    configuration: Configuration | None = None


class Objects(msgspec.Struct, frozen=True, tag="objects", array_like=True):
    rows: list[Stored]


class Secrets(msgspec.Struct, frozen=True, tag="secrets", array_like=True):
    """As `Objects`, the JSON of each row sealed."""

    rows: list[Stored]


class Reserved(msgspec.Struct, frozen=True, tag="reserved", array_like=True):
    rows: list[tuple[str, Key]]


class Results(msgspec.Struct, frozen=True, tag="results", array_like=True):
    boot_id: str
    floor: int
    rows: list[tuple[int, int | Refused]]


class End(msgspec.Struct, frozen=True, tag="end", array_like=True):
    objects: int


Section = Head | Objects | Secrets | Reserved | Results | End

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Section)


@dataclass(frozen=True)
class SnapshotFile:
    """A complete snapshot; `index` is the last entry in it."""

    path: Path
    index: int
    size_bytes: int = field(default=0, compare=False)


def find_snapshots(directory: Path, disk: Disk) -> list[SnapshotFile]:
    """The complete snapshots, oldest first; what a killed process left half-written is removed."""
    found = []
    for name in disk.names(directory):
        if name.startswith(_PREFIX) and name.endswith(TEMPORARY):
            disk.remove(directory / name)
        elif name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            digits = name[len(_PREFIX) : -len(_SUFFIX)]
            if digits.isdigit():
                found.append(SnapshotFile(directory / name, int(digits), disk.size(directory / name)))
    return sorted(found, key=lambda s: s.index)


def snapshot_path(directory: Path, index: int) -> Path:
    return directory / f"{_PREFIX}{index:020d}{_SUFFIX}"


def spool_path(directory: Path) -> Path:
    """Where a snapshot from elsewhere is kept while it is read; a start removes it."""
    return directory / f"{_PREFIX}restore{TEMPORARY}"


def encode_sections(view: View, head: Head, ring: KeyRing) -> Iterator[bytes]:
    """The sections of a snapshot; each costs a millisecond or two."""
    secrets: list[Stored] = []

    def others() -> Iterator[Stored]:
        for stored in view.objects:
            if stored.key.resource in SEALED_RESOURCES:
                secrets.append(stored)
            else:
                yield stored

    yield _encoder.encode(head)
    for rows in _slices(others(), _SLICE_ROWS):
        yield _encoder.encode(Objects(rows))
    for rows in secret_slices(secrets):
        yield seal_secrets(rows, ring)
    for start in range(0, len(view.reserved), _SLICE_ROWS):
        yield _encoder.encode(Reserved(view.reserved[start : start + _SLICE_ROWS]))
    for boot_id, floor, kept in view.results:
        yield _encoder.encode(Results(boot_id, floor, list(kept.items())))
    yield _encoder.encode(End(len(view.objects)))


def encode_section(section: Section) -> bytes:
    return _encoder.encode(section)


def holds_secrets(section: Section) -> bool:
    """Whether Secrets stand plain in it: opened ones, or those of a file of format 1."""
    return isinstance(section, Objects) and any(row.key.resource in SEALED_RESOURCES for row in section.rows)


def secret_slices(rows: Iterable[Stored]) -> Iterator[list[Stored]]:
    """Secrets by section: however large they are, each section of them can be read, sent and proposed."""
    return _slices(rows, _SLICE_SECRETS)


def seal_secrets(rows: Sequence[Stored], ring: KeyRing) -> bytes:
    """A section of Secrets as it stands in a file."""
    return _encoder.encode(Secrets([seal_stored(stored, ring) for stored in rows]))


def pack_header() -> bytes:
    header = _HEADER.pack(_MAGIC, FORMAT)
    return header + _CRC.pack(google_crc32c.value(header))


def pack_section(section: bytes) -> bytes:
    """The section compressed."""
    # Level 1: JSON shrinks some sixfold, and the CPU is shared with the writes going on.
    return zlib.compress(section, 1)


def pack_frame(packed: bytes) -> bytes:
    """A compressed section with its length and checksum before it."""
    return _FRAME.pack(len(packed), google_crc32c.value(packed)) + packed


class SnapshotWriter:
    """Writes one snapshot file. All methods block and raise `OSError`; after one, call `abort`."""

    def __init__(self, directory: Path, disk: Disk, index: int) -> None:
        self.path = snapshot_path(directory, index)
        self._index = index
        self._temporary = self.path.with_name(self.path.name + TEMPORARY)
        self._disk = disk
        self._fd = disk.create(self._temporary)
        self._offset = 0

    def add(self, section: bytes) -> None:
        self.add_packed(pack_section(section))

    def add_packed(self, packed: bytes) -> None:
        if self._offset == 0:
            self._write(pack_header())
        self._write(pack_frame(packed))

    def finish(self) -> SnapshotFile:
        """Put the file under its name, complete and durable."""
        self._disk.sync(self._fd)
        self._close()
        self._disk.rename(self._temporary, self.path)
        return SnapshotFile(self.path, self._index, self._offset)

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


def read_sections(path: Path, data: bytes, ring: KeyRing) -> Iterator[Section]:
    """The sections of a snapshot, `data` of the file `path`, with its Secrets opened; the last one is an `End` that
    agrees with the objects seen. Raises `StoreStartError`.
    """
    for section, _ in read_packed(path, data, ring):
        yield section


def read_packed(path: Path, data: bytes, ring: KeyRing) -> Iterator[tuple[Section, bytes]]:
    """As `read_sections`, each with the bytes it is packed in; b"" where these hold it sealed."""
    offset, objects = _read_header(path, data), 0
    section: Section | None = None
    while offset < len(data):
        start = offset + _FRAME.size
        length, frame_crc = _FRAME.unpack_from(data, offset) if start <= len(data) else (0, -1)
        packed = data[start : start + length]
        if len(packed) < length or google_crc32c.value(packed) != frame_crc:
            raise _damaged(path, offset, "the checksum of a frame is wrong")
        before, section = section, unpack_section(packed)
        if section is None or isinstance(section, Head) != (before is None):
            raise _damaged(path, offset, "a frame holds what does not belong there")
        if isinstance(section, Secrets):
            section, packed = Objects([_opened(stored, ring, path, offset) for stored in section.rows]), b""
        if isinstance(section, Objects):
            objects += len(section.rows)
        yield section, packed
        offset = start + length
    if not isinstance(section, End) or section.objects != objects:
        raise _damaged(path, offset, "its end is missing")


def read_head(file: SnapshotFile, disk: Disk) -> Head | None:
    """The head alone; None where it does not read, which `read_sections` would say."""
    data = disk.read(file.path, _HEADER_BYTES + _FRAME.size + _HEAD_BYTES)
    if len(data) < _HEADER_BYTES + _FRAME.size:
        return None
    length, crc = _FRAME.unpack_from(data, _HEADER_BYTES)
    packed = data[_HEADER_BYTES + _FRAME.size :][:length]
    section = unpack_section(packed) if google_crc32c.value(packed) == crc else None
    return section if isinstance(section, Head) else None


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


def _slices(rows: Iterable[Stored], most: int) -> Iterator[list[Stored]]:
    """At most so many at once; fewer where they are large."""
    some: list[Stored] = []
    size = 0
    for stored in rows:
        some.append(stored)
        size += len(stored.json)
        if size >= _SLICE_BYTES or len(some) >= most:
            yield some
            some, size = [], 0
    if some:
        yield some


def _opened(stored: Stored, ring: KeyRing, path: Path, offset: int) -> Stored:
    try:
        return open_stored(stored, ring)
    except UnknownKeyError as e:
        raise KeyMissingError(path, offset, str(stored.key), e.key_id, ring.path) from e
    except SealError as e:
        raise _damaged(path, offset, f"{stored.key} {e}") from e


def unpack_section(packed: bytes) -> Section | None:
    """None where it is none, or one larger than any that is written."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, _SECTION_BYTES)
        return _decoder.decode(data) if unpacker.eof else None
    except (zlib.error, msgspec.DecodeError):
        return None


def _read_header(path: Path, data: bytes) -> int:
    """The offset after it."""
    header, crc = data[: _HEADER.size], data[_HEADER.size : _HEADER_BYTES]
    if not data.startswith(_MAGIC) or crc != _CRC.pack(google_crc32c.value(header)):
        raise _damaged(path, 0, "its header does not read")
    found = _HEADER.unpack(header)[1]
    if found > FORMAT:
        raise NewerFormatError(str(path), found, FORMAT)
    return _HEADER_BYTES


def _damaged(path: Path, offset: int, why: str) -> CorruptFileError:
    # Whose the file is, and so what else may be done, is not known here.
    return CorruptFileError(path, offset, why, str(Remedy()))
