"""From files to state at start, and the rule of which files are kept for it. Blocking; runs in a thread.

Two snapshots are kept, and the log after the older. A start begins at the *older* one and replays the log from there,
so the history of changes is rebuilt on the way and watches resume across the restart; should one snapshot not read, the
other still gives the whole state. A log that reaches back to entry 1 counts as a snapshot of the empty state.

A restored snapshot is a border: it stands for an entry of its own, and nothing before it is read again. Putting it
under its name is what makes the restore hold, so a start may find it with the log still ending before it.

With a snapshot every 24 MiB of log the log stays between 24 and 64 MiB (two such stretches, one segment at the front,
what is written while a snapshot is taken), which bounds the time of a start.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, KeyMissingError, StoreStartError
from barque.master.raft.segment import Record
from barque.master.raft.wal import Wal, open_wal
from barque.master.store.directory import Directory
from barque.master.store.fsm import StateMachine
from barque.master.store.hub import Hub
from barque.master.store.keyring import KeyRing, UnknownKeyError
from barque.master.store.port import Op
from barque.master.store.records import SealedOpError, open_entry
from barque.master.store.snapshot import Head, SnapshotFile, find_snapshots, load_section, read_head, read_sections

log = logging.getLogger(__name__)

T = TypeVar("T")

KEPT_SNAPSHOTS = 2


class Recovered(NamedTuple):
    """`unsaved_bytes`: the size of the entries after the newest snapshot."""

    machine: StateMachine
    wal: Wal
    snapshots: list[SnapshotFile]
    unsaved_bytes: int


def recover(directory: Directory, disk: Disk, hub: Hub, ring: KeyRing, segment_bytes: int) -> Recovered:
    """The state after the last durable entry, with `hub`'s history filled. Raises `StoreStartError` or `OSError`."""
    path = directory.path
    snapshots = find_snapshots(path, disk)
    newest = snapshots[-1].index if snapshots else 0
    wal = open_wal(path, disk, create=directory.first_start, segment_bytes=segment_bytes)
    try:
        if directory.first_start and (snapshots or wal.last_index):
            raise StoreStartError(f"{path} has data but no identity file: restore the directory from a backup")
        border = _pass_border(snapshots, wal, disk)
        if wal.last_index < newest:
            raise StoreStartError(
                f"{path}: the log ends at entry {wal.last_index}, before the snapshot at {newest}: files are missing; "
                "restore the directory from a backup"
            )
        reader = _Reader(wal, directory.cluster_id, disk, ring)
        machine, unsaved_bytes = _without_collector(lambda: _rebuild(snapshots, border, reader, hub))
    except BaseException:
        wal.close()
        raise
    return Recovered(machine, wal, snapshots, unsaved_bytes)


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


class _Reader(NamedTuple):
    """What a start reads from."""

    wal: Wal
    cluster_id: str
    disk: Disk
    ring: KeyRing

    def state(self, base: SnapshotFile | None) -> StateMachine:
        """The state in a snapshot; None is the empty one."""
        machine = StateMachine()
        if base is None:
            return machine
        for section in read_sections(base.path, self.disk.read(base.path), self.ring):
            if isinstance(section, Head) and (section.cluster_id != self.cluster_id or section.index != base.index):
                raise StoreStartError(
                    f"{base.path} is of entry {section.index} of cluster {section.cluster_id}, here is "
                    f"{self.cluster_id}: remove the file, or restore the directory from a backup"
                )
            load_section(machine, section)
        return machine

    def ops(self, record: Record) -> list[Op]:
        """The ops of an entry of the log."""
        try:
            return open_entry(record.data, record.index, self.ring)
        except SealedOpError as e:
            path = self.wal.segment_of(record.index)
            if isinstance(e.cause, UnknownKeyError):
                raise KeyMissingError(path, record.offset, str(e.key), e.cause.key_id, self.ring.path) from e
            raise CorruptFileError(path, record.offset, str(e), "restore the directory from a backup") from e


def _pass_border(snapshots: list[SnapshotFile], wal: Wal, disk: Disk) -> bool:
    """Where the newest restored snapshot is, forget those before it and see that the log goes on after it; whether
    there is one.
    """
    for position in range(len(snapshots) - 1, -1, -1):
        head = read_head(snapshots[position], disk)
        if head is None or not head.restored:
            continue
        for old in snapshots[:position]:
            disk.remove(old.path)
        del snapshots[:position]
        if wal.last_index == head.index - 1:
            wal.skip_to(head.index)
        return True
    return False


def _rebuild(snapshots: list[SnapshotFile], border: bool, reader: _Reader, hub: Hub) -> tuple[StateMachine, int]:
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
            machine = reader.state(base)
        except CorruptFileError as e:
            log.error("%s; trying another snapshot", e)
            failure = failure or e
            continue
        hub.reset(machine.revision)
        unsaved_bytes = 0
        for record in wal.entries(base.index if base else 0):
            applied = machine.apply(reader.ops(record))
            hub.publish(applied.changes, machine.revision)
            if record.index > newest:
                unsaved_bytes += len(record.data)
        return machine, unsaved_bytes
    raise failure or StoreStartError(
        f"{wal.directory} has log entries from {wal.first_index} on but no snapshot before them: "
        "files are missing; restore the directory from a backup"
    )


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
