"""`Wal`: the write-ahead log of one member, in segments. What `append` returned from is on the medium.

All methods block; they are called one at a time, in the log's lane (`log_writer`). A new hard state and the entries of
all proposals that wait at one moment come in one `append`: one write, one fdatasync. `segment` describes the bytes.

Entries whose index exists already take the place of that one and of all after it. For this a new segment is begun,
whose header's first index is the durable statement that whatever stands in earlier written segments from that index on
is void; earlier is what its number and the numbers it goes on from say, not the order of the indexes. The log is the
newest segment, the one it goes on from, and so on. Files that are wholly void are removed before any that is still
part of the log, since without the one that voids them they would come back.

When the disk refuses, nothing of that append may ever come back, since its callers hear that it failed:

* The write fails (disk full, file size limit): the segment is cut back to its last durable offset, durably. The next
  append tries again, so the log goes on by itself once there is space.
* The fdatasync fails, or the cut does: Linux has by then marked the pages clean, so a second fdatasync of the same file
  would succeed without writing them, and what the tail holds is unknown until it is read after a restart. The file is
  abandoned: its part up to the last durable offset was confirmed by earlier syncs, a new segment voids the rest. Until
  that segment is durable, the outcome of the failed append is unknown (`LogWriteError.undone` is False).
* A new segment cannot be begun: it may stand under its name nevertheless, and the next start would find it. So nothing
  is written to the segment before; every further append begins by trying again.

What entries of a failed append were to replace may be void already, or not; `last_index` is before them, and the next
entries follow there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from barque.master.raft.disk import TEMPORARY, Disk
from barque.master.raft.errors import CorruptFileError, NewerFormatError, Remedy, StoreStartError
from barque.master.raft.messages import Entry, HardState
from barque.master.raft.segment import (
    FORMAT,
    HARD_STATE,
    BadHeaderError,
    BadRecordError,
    Header,
    Record,
    pack_entries,
    pack_hard_state,
    pack_header,
    read_hard_state,
    read_header,
    read_records,
)

log = logging.getLogger(__name__)

SEGMENT_BYTES = 8 * 1024 * 1024

_PREFIX, _SUFFIX = "log-", ".wal"
# Enough of a file for its header in any format.
_HEADER_BYTES = 64


class LogWriteError(Exception):
    """The append failed. `undone`: certainly none of it will ever be read; otherwise that is unknown."""

    def __init__(self, why: str, *, undone: bool) -> None:
        super().__init__(why)
        self.undone = undone


class _Segment(NamedTuple):
    path: Path
    header: Header

    @property
    def first_index(self) -> int:
        return self.header.first_index


class Wal:
    """Open it with `open_wal`, read `hard_state` and `entries` once, then `append`."""

    def __init__(self, directory: Path, disk: Disk, segment_bytes: int, remedy: Remedy) -> None:
        self.directory = directory
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._remedy = remedy
        # What makes the log, oldest first; the last is the active one. And files of which nothing holds any more.
        self._segments: list[_Segment] = []
        self._void: list[Path] = []
        # Of all files but the active segment, which is `_durable` long.
        self._sizes: dict[Path, int] = {}
        self._next_number = 1
        self._fd = -1
        # The active segment is durable up to this offset, and the next record goes there.
        self._durable = 0
        # Nothing may be written any more before a new segment is begun.
        self._abandoned = False
        # Nothing of what is written is part of the log: it begins anew.
        self._skipped = False
        self.last_index = 0
        # The newest that is durable.
        self.hard_state = HardState()

    @property
    def first_index(self) -> int:
        return self.last_index + 1 if self._skipped else self._segments[0].first_index

    @property
    def size_bytes(self) -> int:
        return sum(self._sizes.values()) + self._durable

    def append(self, entries: Sequence[Entry], hard_state: HardState | None = None) -> None:
        """Write the hard state, if any, and the entries, whose indexes rise by one, and sync them. The `commit` that is
        kept reaches at most to the entry before: no start may take for committed what a torn end has lost.

        Entries from the first one's index on that are there already are replaced. Raises `LogWriteError`, `ValueError`
        for entries that would leave a gap.
        """
        if not entries and hard_state is None:
            return
        try:
            if entries:
                self._make_room(entries[0].index, entries[-1].index, len(entries))
            if self._abandoned or self._durable >= self._segment_bytes:
                self._begin_segment()
        except OSError as e:
            raise LogWriteError(f"cannot begin a new log segment: {e}", undone=True) from e
        data = pack_entries(entries, self._durable)
        if hard_state is not None:
            hard_state = _bounded(hard_state, self.last_index)
            data = pack_hard_state(hard_state, self.last_index, self._durable) + data
        try:
            self._disk.write(self._fd, data, self._durable)
        except OSError as e:
            raise LogWriteError(f"cannot write to the log: {e}", undone=self._cut()) from e
        try:
            self._disk.sync(self._fd)
        except OSError as e:
            raise LogWriteError(f"cannot sync the log: {e}", undone=self._abandon()) from e
        self._durable += len(data)
        self.last_index += len(entries)
        self.hard_state = hard_state or self.hard_state

    def entries(self, after: int) -> Iterator[Record]:
        """The entries after index `after`, in order. Raises `StoreStartError` where one is missing or does not read."""
        if self.first_index > after + 1:
            raise StoreStartError(
                f"{self.directory} lacks log entries {after + 1} to {self.first_index - 1}, which the state needs: "
                f"a file is missing; {self._remedy}"
            )
        if self._skipped:
            return
        for segment, following in zip(self._segments, [*self._segments[1:], None], strict=True):
            end = self.last_index if following is None else following.first_index - 1
            if end > after:
                yield from (record for record in self._read(segment, end) if record.index > after)

    def segment_of(self, index: int) -> Path:
        """The file that holds entry `index`."""
        return next(segment.path for segment in reversed(self._segments) if segment.first_index <= index)

    def roll(self) -> None:
        """Make the next entry begin a segment of its own. Raises `OSError`; may be called again."""
        if self._abandoned or self.last_index >= self._segments[-1].first_index:
            self._begin_segment()

    def skip_to(self, index: int) -> None:
        """The next entry is `index` + 1, and all that is written is void: a snapshot has taken its place.

        It is so for a next start once an append, `roll` or `release` has begun a segment.
        """
        self.last_index = index
        self._abandoned = self._skipped = True

    def release(self, through: int) -> None:
        """Remove the segments that hold no entry after index `through`. Raises `OSError`; may be called again."""
        if self._abandoned:
            self._begin_segment()
        self._remove_void()
        while len(self._segments) > 1 and self._segments[1].first_index <= through + 1:
            # One is gone for certain before the next goes: a gap would look like a loss.
            self._remove(self._segments[0].path)
            del self._segments[0]

    def close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1

    def _read(self, segment: _Segment, end: int) -> Iterator[Record]:
        """The entries of a segment up to index `end`."""
        data = self._disk.read(segment.path)
        records = read_records(data)
        index = segment.first_index - 1
        # What follows `end` is void and need not even read.
        while index < end:
            try:
                record, _ = next(records)
            except StopIteration:
                remedy = self._remedy.without(index + 1)
                raise CorruptFileError(segment.path, len(data), f"entry {index + 1} is missing", remedy) from None
            except BadRecordError as e:
                raise self._damaged(segment, e, index + 1) from e
            index = record.index
            if record.kind != HARD_STATE:
                yield record

    def _make_room(self, first: int, last: int, count: int) -> None:
        """See that the next entry may be number `first`: what stands there is void from now on."""
        if not self.first_index <= first <= self.last_index + 1 or last - first != count - 1:
            raise ValueError(f"{count} entries, {first} to {last}, do not go on from {self.last_index}")
        if first <= self.last_index:
            self.last_index = first - 1
            self._abandoned = True

    def _begin_segment(self) -> None:
        """A new, durable segment without entries, in which the next one goes; it voids what stands from there on."""
        first_index = self.last_index + 1
        path = self.directory / f"{_PREFIX}{first_index:020d}{_SUFFIX}"
        header = Header(FORMAT, first_index, self._next_number, self._goes_on_from(first_index))
        data = pack_header(header.first_index, header.number, header.after)
        data += pack_hard_state(_bounded(self.hard_state, self.last_index), self.last_index, 0)
        temporary = path.with_name(path.name + TEMPORARY)
        # Whatever fails from here on: the segment may stand under its name, the next attempt is the later word.
        self._abandoned = True
        self._next_number += 1
        fd = self._disk.create(temporary)
        try:
            self._disk.write(fd, data, 0)
            self._disk.sync(fd)
            self._sizes.setdefault(path, len(data))
            if path not in self._void:
                self._void.append(path)
            self._disk.rename(temporary, path)
        except BaseException:
            self._disk.close(fd)
            raise
        self.close()
        self._replace_active(_Segment(path, header))
        self._fd, self._durable = fd, len(data)
        self._abandoned = self._skipped = False
        # What cannot be removed now is so with the next `release`.
        with contextlib.suppress(OSError):
            self._remove_void()

    def _goes_on_from(self, index: int) -> int:
        """The number of the segment that holds the entry before `index`."""
        if self._skipped or not self._segments:
            return 0
        before = [segment.header.number for segment in self._segments if segment.first_index < index]
        return before[-1] if before else self._segments[0].header.after

    def _replace_active(self, new: _Segment) -> None:
        if self._segments:
            self._sizes[self._segments[-1].path] = self._durable
        kept = [s for s in self._segments if s.first_index < new.first_index and not self._skipped]
        self._void += [s.path for s in self._segments[len(kept) :] if s.path not in self._void]
        self._void.remove(new.path)
        del self._sizes[new.path]
        self._segments = [*kept, new]

    def _remove_void(self) -> None:
        while self._void:
            self._remove(self._void[-1])
            self._void.pop()

    def _remove(self, path: Path) -> None:
        """Durably; it may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self._disk.remove(path)
        self._disk.sync_directory(self.directory)
        self._sizes.pop(path, None)

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
        found: list[_Segment] = []
        for name in self._disk.names(self.directory):
            if name.startswith(_PREFIX) and name.endswith(TEMPORARY):
                self._disk.remove(self.directory / name)
            elif name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                found.append(self._open_segment(self.directory / name))
        if not found:
            return
        found = _linked(found)
        self._segments = _chain(found)
        oldest, active = self._segments[0], self._segments[-1]
        for segment in found:
            if segment not in self._segments:
                self._void.append(segment.path)
                if not _is_void(segment, oldest):
                    raise StoreStartError(
                        f"{self.directory} lacks log entries from {segment.first_index} on, before "
                        f"{oldest.path.name}: a file is missing; {self._remedy}"
                    )
        self._sizes = {s.path: self._disk.size(s.path) for s in found if s is not active}
        self._next_number = active.header.number + 1
        data = self._read_active(active)
        self._fd = self._disk.open(active.path)
        # Written again, so that the sync finds something to do: after a sync that failed in the last run the pages are
        # marked clean, and what was read came from memory alone.
        self._disk.write(self._fd, data[: self._durable], 0)
        self._disk.truncate(self._fd, self._durable)
        # What voids a file must stand durably under its name before that file goes.
        self._disk.sync_directory(self.directory)
        with contextlib.suppress(OSError):
            self._remove_void()

    def _read_active(self, active: _Segment) -> bytes:
        data = self._disk.read(active.path)
        self._durable, self.last_index = active.header.size, active.first_index - 1
        # Records are appended to a segment of the newest format only.
        self._abandoned = active.header.format < FORMAT
        try:
            for record, offset in read_records(data):
                if record.kind == HARD_STATE:
                    self.hard_state = read_hard_state(record)
                self.last_index, self._durable = record.index, offset
        except BadRecordError as e:
            if not e.torn:
                raise self._damaged(active, e, self.last_index + 1) from e
            cut = len(data) - e.offset
            log.warning(
                "%s: cut %d bytes at offset %d, the torn end of a write that was never acknowledged (%s)",
                active.path, cut, e.offset, e,
            )  # fmt: skip
        return data

    def _open_segment(self, path: Path) -> _Segment:
        try:
            header = read_header(self._disk.read(path, _HEADER_BYTES))
        except BadHeaderError as e:
            raise CorruptFileError(path, 0, str(e), str(self._remedy)) from e
        if header.format > FORMAT:
            raise NewerFormatError(str(path), header.format, FORMAT)
        if path.name != f"{_PREFIX}{header.first_index:020d}{_SUFFIX}":
            raise CorruptFileError(
                path, 0, f"its first entry is {header.first_index}", "give the file its own name back"
            )
        return _Segment(path, header)

    def _damaged(self, segment: _Segment, bad: BadRecordError, index: int) -> CorruptFileError:
        # A file of the newest format does not read without its first record.
        whole_file = segment.header.format == FORMAT and bad.offset == segment.header.size
        return CorruptFileError(segment.path, bad.offset, str(bad), self._remedy.without(index, whole_file=whole_file))


def open_wal(
    directory: Path, disk: Disk, *, create: bool, segment_bytes: int = SEGMENT_BYTES, remedy: Remedy = Remedy()
) -> Wal:
    """The log in `directory`, its torn end cut; where there is none, an empty one if `create`.

    Raises `StoreStartError` for a log that is missing or does not read, with the `remedy`; `OSError` for a disk that
    does not work.
    """
    wal = Wal(directory, disk, segment_bytes, remedy)
    try:
        wal._recover()
        if not wal._segments:
            if not create:
                raise StoreStartError(f"{directory} has no log files any more: {remedy}")
            wal._begin_segment()
    except BaseException:
        wal.close()
        raise
    return wal


def _bounded(state: HardState, last_index: int) -> HardState:
    return state if state.commit <= last_index else msgspec.structs.replace(state, commit=last_index)


def _linked(found: list[_Segment]) -> list[_Segment]:
    """In the order in which they were written; those of format 1 go on from one another."""
    linked: list[_Segment] = []
    for segment in sorted(found, key=lambda segment: segment.header.number):
        if segment.header.format == 1 and linked:
            segment = segment._replace(header=segment.header._replace(after=linked[-1].header.number))
        linked.append(segment)
    return linked


def _chain(linked: list[_Segment]) -> list[_Segment]:
    """The segments that make the log, oldest first."""
    by_number = {segment.header.number: segment for segment in linked}
    chain = [linked[-1]]
    while (before := by_number.get(chain[0].header.after)) is not None:
        chain.insert(0, before)
    return chain


def _is_void(segment: _Segment, oldest: _Segment) -> bool:
    """Of a segment that is not part of the log, whose oldest is given. One of lower indexes that were not given up can
    only have come before a segment that is missing.
    """
    return (
        oldest.header.after == 0
        or segment.first_index >= oldest.first_index
        or segment.header.number > oldest.header.number
    )
