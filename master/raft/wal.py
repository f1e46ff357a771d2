"""`Wal`: the write-ahead log of one member, in segments. What `append` returned from is on the medium.

All methods block; the shell calls them one at a time in a thread (`log_single`, later Raft's). The entries of all
proposals that wait at one moment come in one `append`: one write, one fdatasync. The bytes are described in `segment`.

When the disk refuses, nothing of that append may ever come back, since its callers hear that it failed:

* The write fails (disk full, file size limit): the segment is cut back to its last durable offset, durably. The next
  append tries again, so the log goes on by itself once there is space.
* The fdatasync fails, or the cut does: Linux has by then marked the pages clean, so a second fdatasync of the same file
  would succeed without writing them, and what the tail holds is unknown until it is read after a restart. The file is
  abandoned: its part up to the last durable offset was confirmed by earlier syncs, the rest is void. A new segment is
  begun, and its header's first index is the durable statement that whatever stands in earlier segments from that index
  on is void. Until that segment is durable, the outcome of the failed append is unknown (`LogWriteError.undone` is
  False) and every further append begins by trying again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from barque.master.raft.disk import TEMPORARY, Disk
from barque.master.raft.errors import CorruptFileError, NewerFormatError, StoreStartError
from barque.master.raft.segment import (
    FORMAT,
    HEADER_BYTES,
    BadHeaderError,
    BadRecordError,
    Record,
    pack_header,
    pack_records,
    read_header,
    read_records,
)

log = logging.getLogger(__name__)

SEGMENT_BYTES = 8 * 1024 * 1024

_PREFIX, _SUFFIX = "log-", ".wal"


class LogWriteError(Exception):
    """The append failed. `undone`: certainly none of it will ever be read; otherwise that is unknown."""

    def __init__(self, why: str, *, undone: bool) -> None:
        super().__init__(why)
        self.undone = undone


class _Segment(NamedTuple):
    path: Path
    first_index: int


class Wal:
    """Open it with `open_wal`, read `entries` once, then `append`."""

    def __init__(self, directory: Path, disk: Disk, segment_bytes: int) -> None:
        self.directory = directory
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        # Sizes of the closed segments; the active one is `_durable` long.
        self._sizes: dict[Path, int] = {}
        self._fd = -1
        # The active segment is durable up to this offset, and the next record goes there.
        self._durable = 0
        self._abandoned = False
        self.last_index = 0

    @property
    def first_index(self) -> int:
        return self._segments[0].first_index

    @property
    def size_bytes(self) -> int:
        return sum(self._sizes.values()) + self._durable

    def append(self, payloads: Sequence[bytes], term: int = 0) -> None:
        """Write the payloads as the next entries and sync them. Raises `LogWriteError`."""
        try:
            if self._abandoned or self._durable >= self._segment_bytes:
                self._begin_segment()
        except OSError as e:
            raise LogWriteError(f"cannot begin a new log segment: {e}", undone=True) from e
        data = pack_records(payloads, self.last_index, term)
        try:
            self._disk.write(self._fd, data, self._durable)
        except OSError as e:
            raise LogWriteError(f"cannot write to the log: {e}", undone=self._cut()) from e
        try:
            self._disk.sync(self._fd)
        except OSError as e:
            raise LogWriteError(f"cannot sync the log: {e}", undone=self._abandon()) from e
        self._durable += len(data)
        self.last_index += len(payloads)

    def entries(self, after: int) -> Iterator[Record]:
        """The entries after index `after`, in order. Raises `StoreStartError` where one is missing or does not read."""
        if self.first_index > after + 1:
            raise StoreStartError(
                f"{self.directory} lacks log entries {after + 1} to {self.first_index - 1}, which the state needs: "
                "a file is missing; restore the directory from a backup"
            )
        for segment, following in zip(self._segments, [*self._segments[1:], None], strict=True):
            end = self.last_index if following is None else following.first_index - 1
            if end > after:
                yield from (record for record in self._read(segment, end) if record.index > after)

    def segment_of(self, index: int) -> Path:
        """The file that holds entry `index`."""
        return next(segment.path for segment in reversed(self._segments) if segment.first_index <= index)

    def roll(self) -> None:
        """Make the next entry begin a segment of its own. Raises `OSError`; may be called again."""
        if self._abandoned or self._durable > HEADER_BYTES:
            self._begin_segment()

    def skip_to(self, index: int) -> None:
        """The next entry is `index` + 1, and all up to `index` is void: a snapshot has taken its place."""
        self.last_index = index
        self._abandoned = True

    def release(self, through: int) -> None:
        """Remove the segments that hold no entry after index `through`. Raises `OSError`; may be called again."""
        while len(self._segments) > 1 and self._segments[1].first_index <= through + 1:
            oldest = self._segments[0]
            self._disk.remove(oldest.path)
            del self._segments[0]
            self._sizes.pop(oldest.path, None)

    def close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1

    def _read(self, segment: _Segment, end: int) -> Iterator[Record]:
        data = self._disk.read(segment.path)
        offset = HEADER_BYTES
        index = segment.first_index - 1
        records = read_records(data, segment.first_index)
        try:
            while index < end and offset < len(data):
                record, offset = next(records)
                index = record.index
                yield record
        except BadRecordError as e:
            raise _damaged(segment.path, e, index + 1) from e
        if index < end:
            raise CorruptFileError(segment.path, offset, f"entry {index + 1} is missing", _remedy(index + 1))
        if segment is not self._segments[-1] and offset < len(data):
            log.warning("%s: what follows offset %d failed to be written and is void", segment.path, offset)

    def _begin_segment(self) -> None:
        """A new, durable, empty segment in which the next entry goes."""
        path = self.directory / f"{_PREFIX}{self.last_index + 1:020d}{_SUFFIX}"
        temporary = path.with_name(path.name + TEMPORARY)
        fd = self._disk.create(temporary)
        try:
            self._disk.write(fd, pack_header(self.last_index + 1), 0)
            self._disk.sync(fd)
            self._disk.rename(temporary, path)
        except OSError:
            self._disk.close(fd)
            raise
        self.close()
        if self._segments and self._segments[-1].path != path:
            self._sizes[self._segments[-1].path] = self._durable
        if not self._segments or self._segments[-1].path != path:
            self._segments.append(_Segment(path, self.last_index + 1))
        self._fd, self._durable, self._abandoned = fd, HEADER_BYTES, False

    def _cut(self) -> bool:
        """Undo a failed write; True where that is durable."""
        try:
            self._disk.truncate(self._fd, self._durable)
        except OSError as e:
            log.error("cannot cut the log back to offset %d: %s", self._durable, e)
            return self._abandon()
        return True

    def _abandon(self) -> bool:
        """Give the active segment up after its durable part; True where that is durable."""
        self._abandoned = True
        try:
            self._begin_segment()
        except OSError as e:
            log.error("cannot begin a new log segment: %s", e)
            return False
        return True

    def _recover(self) -> None:
        """Find the segments, cut a torn tail, and make durable what was read: a killed process may have left it
        unsynced.
        """
        for name in self._disk.names(self.directory):
            if name.startswith(_PREFIX) and name.endswith(TEMPORARY):
                self._disk.remove(self.directory / name)
            elif name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                self._segments.append(self._open_segment(self.directory / name))
        if not self._segments:
            return
        active = self._segments[-1]
        data = self._disk.read(active.path)
        self._durable, self.last_index = HEADER_BYTES, active.first_index - 1
        try:
            for record, offset in read_records(data, active.first_index):
                self.last_index, self._durable = record.index, offset
        except BadRecordError as e:
            if not e.torn:
                raise _damaged(active.path, e, self.last_index + 1) from e
            cut = len(data) - e.offset
            log.warning(
                "%s: cut %d bytes at offset %d, the torn end of a write that was never acknowledged (%s)",
                active.path, cut, e.offset, e,
            )  # fmt: skip
        self._sizes = {s.path: self._disk.size(s.path) for s in self._segments[:-1]}
        self._fd = self._disk.open(active.path)
        self._disk.truncate(self._fd, self._durable)
        self._disk.sync_directory(self.directory)

    def _open_segment(self, path: Path) -> _Segment:
        try:
            found, first_index = read_header(self._disk.read(path, HEADER_BYTES))
        except BadHeaderError as e:
            raise CorruptFileError(path, 0, str(e), "restore the directory from a backup") from e
        if found > FORMAT:
            raise NewerFormatError(str(path), found, FORMAT)
        if path.name != f"{_PREFIX}{first_index:020d}{_SUFFIX}":
            raise CorruptFileError(path, 0, f"its first entry is {first_index}", "give the file its own name back")
        return _Segment(path, first_index)


def open_wal(directory: Path, disk: Disk, *, create: bool, segment_bytes: int = SEGMENT_BYTES) -> Wal:
    """The log in `directory`, its torn end cut; where there is none, an empty one if `create`.

    Raises `StoreStartError` for a log that is missing or does not read, `OSError` for a disk that does not work.
    """
    wal = Wal(directory, disk, segment_bytes)
    wal._recover()
    if not wal._segments:
        if not create:
            raise StoreStartError(f"{directory} has no log files any more: restore the directory from a backup")
        wal._begin_segment()
    return wal


def _damaged(path: Path, bad: BadRecordError, index: int) -> CorruptFileError:
    return CorruptFileError(path, bad.offset, str(bad), _remedy(index))


def _remedy(index: int) -> str:
    return (
        "restore the directory from a backup; without one, cutting the file at this offset and removing the later "
        f"log-*.wal loses every write from entry {index} on"
    )
