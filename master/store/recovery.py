"""From files to state at start, and the rule of which files are kept for it. Blocking; runs in a lane.

Two snapshots are kept, and the log after the older. A start begins at the *older* one and replays the log from there,
so the history of changes is rebuilt on the way and watches resume across the restart; should one snapshot not read, the
other still gives the whole state. A log that reaches back to entry 1 counts as a snapshot of the empty state.

What is replayed is what is known to be committed: up to the newest snapshot and the commit that the log's hard state
names. What follows may yet be replaced, so it is left to the group; a member that is the only one has nobody to ask,
and replays all of it.

A snapshot that took the place of another state (`Head.restored`) is a border: nothing before it is read again. Putting
it under its name is what makes it hold, so a start may find it with the log still ending before it, or still holding
other entries there: that log is void then.

With a snapshot every 24 MiB of log the log is two such stretches long, one segment at the front, and what is written
while a snapshot is taken: 24 to 64 MiB at what the API writes, which bounds the time of a start.
"""

from __future__ import annotations

import gc
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, KeyMissingError, StoreStartError
from barque.master.raft.messages import Configuration, Entry, Kind
from barque.master.raft.ready import Start
from barque.master.raft.segment import Record
from barque.master.raft.wal import Wal, open_wal
from barque.master.store.directory import Directory
from barque.master.store.fsm import StateMachine
from barque.master.store.hub import Hub
from barque.master.store.keyring import KeyRing, UnknownKeyError
from barque.master.store.membership import is_alone
from barque.master.store.records import Content, SealedOpError, encode_content, open_payload
from barque.master.store.replica import Replica
from barque.master.store.snapshot import Head, SnapshotFile, find_snapshots, load_section, read_head, read_sections

log = logging.getLogger(__name__)

T = TypeVar("T")

KEPT_SNAPSHOTS = 2
# Of the entries before the last that is applied, so many bytes stay at hand for members that lack them.
_RECENT_BYTES = 8 * 1024 * 1024


class Recovered(NamedTuple):
    """`unsaved_bytes`: the size of the entries after the newest snapshot. `start` is what Raft begins with."""

    replica: Replica
    start: Start
    wal: Wal
    snapshots: list[SnapshotFile]
    unsaved_bytes: int


def recover(
    directory: Directory, disk: Disk, hub: Hub, ring: KeyRing, segment_bytes: int, first: Configuration
) -> Recovered:
    """The state after the last entry known to be committed, with `hub`'s history filled; `first` is the configuration
    where neither log nor snapshots tell of one. Raises `StoreStartError` or `OSError`.
    """
    path = directory.path
    snapshots = find_snapshots(path, disk)
    wal = open_wal(path, disk, create=directory.first_start, segment_bytes=segment_bytes, remedy=directory.remedy)
    try:
        if directory.first_start and (snapshots or wal.last_index):
            raise StoreStartError(f"{path} has data but no identity file: put that file alone back from a backup")
        reader = Reader(wal, directory, disk, ring, first)
        border = _pass_border(snapshots, reader)
        newest = snapshots[-1].index if snapshots else 0
        if wal.last_index < newest:
            raise StoreStartError(
                f"{path}: the log ends at entry {wal.last_index}, before the snapshot at {newest}: files are missing; "
                f"{directory.remedy}"
            )
        replica, start, unsaved_bytes = _without_collector(lambda: _rebuild(snapshots, border, reader, hub))
    except BaseException:
        wal.close()
        raise
    return Recovered(replica, start, wal, snapshots, unsaved_bytes)


def discard_old(wal: Wal, snapshots: list[SnapshotFile], disk: Disk) -> None:
    """Remove the snapshots beyond those kept, then the log that only they needed. Raises `OSError`; may be called
    again.
    """
    while len(snapshots) > KEPT_SNAPSHOTS:
        disk.remove(snapshots[0].path)
        del snapshots[0]
    if len(snapshots) == KEPT_SNAPSHOTS:
        wal.release(snapshots[0].index)


def discard_all_but_newest(wal: Wal, snapshots: list[SnapshotFile], disk: Disk) -> None:
    """Remove every snapshot but the newest and the log it does not need, durably. Raises `OSError`; may be called
    again.
    """
    while len(snapshots) > 1:
        disk.remove(snapshots[0].path)
        del snapshots[0]
    wal.release(snapshots[0].index)
    disk.sync_directory(wal.directory)


class Reader(NamedTuple):
    """What a start reads from."""

    wal: Wal
    directory: Directory
    disk: Disk
    ring: KeyRing
    first: Configuration

    def replica(self, base: SnapshotFile | None) -> Replica:
        """The state in a snapshot; None is the empty one."""
        machine = StateMachine()
        if base is None:
            return Replica(machine, 0, 0, self.first)
        head: Head | None = None
        try:
            for section in read_sections(base.path, self.disk.read(base.path), self.ring):
                if isinstance(section, Head):
                    self._check(section, base)
                    head = section
                load_section(machine, section)
        except CorruptFileError as e:
            raise self.directory.damaged(e) from e
        assert head is not None, "a snapshot begins with its head"
        return Replica(machine, head.index, head.term, head.configuration or self.first)

    def content(self, record: Record) -> Content | None:
        """What an entry of the log holds; None for those that are Raft's own."""
        if record.kind != Kind.DATA:
            return None
        try:
            return open_payload(record.data, record.index, self.ring)
        except SealedOpError as e:
            path = self.wal.segment_of(record.index)
            if isinstance(e.cause, UnknownKeyError):
                raise KeyMissingError(path, record.offset, str(e.key), e.cause.key_id, self.ring.path) from e
            raise CorruptFileError(path, record.offset, str(e), str(self.directory.remedy)) from e

    def entries(self, after: int) -> list[Entry]:
        """The entries after index `after`, as members send them."""
        return [_entry(record, self.content(record)) for record in self.wal.entries(after)]

    def _check(self, head: Head, base: SnapshotFile) -> None:
        if head.cluster_id != self.directory.cluster_id or head.index != base.index:
            raise StoreStartError(
                f"{base.path} is of entry {head.index} of cluster {head.cluster_id}, here is "
                f"{self.directory.cluster_id}: remove the file; if that is not enough, {self.directory.remedy}"
            )


def _pass_border(snapshots: list[SnapshotFile], reader: Reader) -> bool:
    """Where there is a snapshot that took the place of another state, forget those before it and see that the log goes
    on after it; whether there is one.
    """
    wal, disk = reader.wal, reader.disk
    for position in range(len(snapshots) - 1, -1, -1):
        head = read_head(snapshots[position], disk)
        if head is None or not head.restored:
            continue
        for old in snapshots[:position]:
            disk.remove(old.path)
        del snapshots[:position]
        if wal.last_index < head.index or _differs(wal, head):
            wal.skip_to(head.index)
        return True
    return False


def _differs(wal: Wal, head: Head) -> bool:
    """The log has another entry where the snapshot ends, so nothing of it belongs to this state."""
    if wal.first_index > head.index:
        return False
    return next(wal.entries(head.index - 1)).term != head.term


def _rebuild(snapshots: list[SnapshotFile], border: bool, reader: Reader, hub: Hub) -> tuple[Replica, Start, int]:
    wal = reader.wal
    bases: list[SnapshotFile | None] = [s for s in snapshots if s.index + 1 >= wal.first_index]
    if wal.first_index == 1 and not border:
        bases.insert(0, None)
    # The older of the two first; then the newest; older ones only if neither reads.
    order = [*bases[-2:], *reversed(bases[:-2])]
    newest = snapshots[-1].index if snapshots else 0
    failure: CorruptFileError | None = None
    for base in order:
        try:
            replica = reader.replica(base)
        except CorruptFileError as e:
            log.error("%s; trying another snapshot", e)
            failure = failure or e
            continue
        hub.reset(replica.machine.revision)
        return _replay(replica, reader, hub, newest)
    raise failure or StoreStartError(
        f"{wal.directory} has log entries from {wal.first_index} on but no snapshot before them: "
        f"files are missing; {reader.directory.remedy}"
    )


def _replay(replica: Replica, reader: Reader, hub: Hub, newest: int) -> tuple[Replica, Start, int]:
    """Bring the replica up to what is known to be committed."""
    wal, hard_state = reader.wal, reader.wal.hard_state
    recent = _Recent(replica.index, replica.term)
    unknown: list[tuple[Record, Content | None]] = []
    unsaved_bytes = 0
    for record in wal.entries(replica.index):
        content = reader.content(record)
        if record.index > newest:
            unsaved_bytes += len(record.data)
        if record.index <= max(newest, hard_state.commit):
            _apply(replica, hub, record, content)
            recent.add(record, content)
        else:
            unknown.append((record, content))
    member = reader.directory.identity.member_id
    if is_alone(replica.configuration, member) and all(r.kind != Kind.CONFIGURATION for r, _ in unknown):
        for record, content in unknown:
            _apply(replica, hub, record, content)
        recent, unknown = _Recent(replica.index, replica.term), []
    entries = [*recent.entries(), *(_entry(record, content) for record, content in unknown)]
    hard_state = msgspec.structs.replace(hard_state, commit=max(hard_state.commit, replica.index))
    start = Start(hard_state, replica.configuration, recent.base_index, recent.base_term, entries, replica.index)
    return replica, start, unsaved_bytes


def _apply(replica: Replica, hub: Hub, record: Record, content: Content | None) -> None:
    entry = Entry(record.index, record.term, record.kind, record.data)
    applied, turn = replica.apply(entry, content)
    if turn.restarted:
        hub.reset(replica.machine.revision)
    else:
        hub.publish(applied.changes, replica.machine.revision)


class _Recent:
    """The newest entries that were replayed, for members that lack them."""

    def __init__(self, base_index: int, base_term: int) -> None:
        self.base_index = base_index
        self.base_term = base_term
        self._kept: deque[tuple[Record, Content | None]] = deque()
        self._bytes = 0

    def add(self, record: Record, content: Content | None) -> None:
        self._kept.append((record, content))
        self._bytes += len(record.data)
        while self._bytes > _RECENT_BYTES:
            oldest, _ = self._kept.popleft()
            self._bytes -= len(oldest.data)
            self.base_index, self.base_term = oldest.index, oldest.term

    def entries(self) -> list[Entry]:
        return [_entry(record, content) for record, content in self._kept]


def _entry(record: Record, content: Content | None) -> Entry:
    """As members send it: plain."""
    data = record.data if content is None else encode_content(content)
    return Entry(record.index, record.term, record.kind, data)


def _without_collector(build: Callable[[], T]) -> T:
    """Run `build` without the cycle collector: it makes hundreds of thousands of objects and no garbage cycle, and the
    collector would walk them all again and again (a third of the start).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return build()
    finally:
        if enabled:
            gc.enable()
