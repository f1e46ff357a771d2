"""Disks that fail when the test says so: one refuses, one stops with the machine. None waits for the medium."""

from __future__ import annotations

import errno
import itertools
import os
import random
from pathlib import Path

from barque.master.raft.disk import Disk

SECTOR_BYTES = 512


class QuickDisk(Disk):
    """Syncs nothing: to another reader on the same machine, what was written stands there at once."""

    def sync(self, fd: int) -> None:
        pass

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync_directory(self, path: Path) -> None:
        pass


class FaultyDisk(QuickDisk):
    """`space` bytes may still be written (None: any number); `failing` names methods that raise EIO.

    A refused sync loses what was not synced, as Linux may: the file keeps its length, the lost bytes read as zeros.
    With `loses` False it was all written nevertheless.
    """

    def __init__(self) -> None:
        self.space: int | None = None
        self.failing: set[str] = set()
        self.loses = True
        self.syncs = 0
        self._synced: dict[int, int] = {}

    def create(self, path: Path) -> int:
        self._fail("create")
        if self.space is not None and self.space <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fd = super().create(path)
        self._synced[fd] = 0
        return fd

    def open(self, path: Path) -> int:
        fd = super().open(path)
        self._synced[fd] = self.size(path)
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        self._fail("write")
        if self.space is not None and len(data) > self.space:
            super().write(fd, data[: self.space], offset)
            self.space = 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.space is not None:
            self.space -= len(data)
        super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        if "sync" in self.failing and self.loses:
            kept = self._synced.get(fd, 0)
            os.pwrite(fd, bytes(size - kept), kept)
        self._fail("sync")
        self.syncs += 1
        super().sync(fd)
        self._synced[fd] = size

    def truncate(self, fd: int, size: int) -> None:
        self._fail("truncate")
        super().truncate(fd, size)
        self._synced[fd] = size

    def rename(self, old: Path, new: Path) -> None:
        self._fail("rename")
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._fail("remove")
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        """Refused, what was done stands and may be found by the next start."""
        self._fail("sync_directory")
        super().sync_directory(path)

    def _fail(self, method: str) -> None:
        if method in self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class Crash(Exception):
    """The machine has stopped; nothing after this happens."""


class CrashingDisk(QuickDisk):
    """Stops before its `stop_at`th change (None: never), a write half-way through; every later call stops, too.

    It remembers what is certain to be on the medium: the bytes of a file at its last sync, the names in a directory at
    its last sync, and all that stood there before. `power_cut(to)` writes that image elsewhere; the files themselves
    are what a SIGKILL leaves.
    """

    def __init__(self, root: Path, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.changes = 0
        self._root = root
        self._ids = itertools.count()
        self._files: dict[Path, int] = {}
        self._open: dict[int, int] = {}
        self._synced: dict[int, bytes] = {}
        self._synced_names: dict[Path, dict[str, int]] = {root: {}}
        for path in sorted(root.rglob("*")):
            if path.is_dir():
                self._synced_names[path] = {}
            else:
                number = self._files[path] = next(self._ids)
                self._synced[number] = path.read_bytes()
                self._synced_names[path.parent][path.name] = number

    def make_directory(self, path: Path) -> None:
        super().make_directory(path)
        self._synced_names.setdefault(path, {})

    def create(self, path: Path) -> int:
        self._change()
        fd = super().create(path)
        self._open[fd] = self._files.setdefault(path, next(self._ids))
        return fd

    def open(self, path: Path) -> int:
        fd = super().open(path)
        self._open[fd] = self._files[path]
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        try:
            self._change()
        except Crash:
            super().write(fd, data[: len(data) // 2], offset)
            raise
        super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._change()
        super().sync(fd)
        self._synced[self._open[fd]] = os.pread(fd, os.fstat(fd).st_size, 0)

    def truncate(self, fd: int, size: int) -> None:
        self._change()
        super().truncate(fd, size)
        self._synced[self._open[fd]] = os.pread(fd, size, 0)

    def rename(self, old: Path, new: Path) -> None:
        self._change()
        os.replace(old, new)
        self._files[new] = self._files.pop(old)
        self.sync_directory(new.parent)

    def remove(self, path: Path) -> None:
        self._change()
        super().remove(path)
        del self._files[path]

    def sync_directory(self, path: Path) -> None:
        self._change()
        super().sync_directory(path)
        self._synced_names[path] = {file.name: number for file, number in self._files.items() if file.parent == path}

    def power_cut(self, to: Path, dice: random.Random | None = None) -> Path:
        """The files that are certain, in the directory `to` in the place of this disk's root.

        With `dice`, some of what was not synced has reached the medium too, in no order: sectors, names.
        """
        current = {number: path for path, number in self._files.items()}
        for directory, names in self._synced_names.items():
            image = to / directory.relative_to(self._root)
            image.mkdir(parents=True, exist_ok=True)
            if dice is not None:
                present = {path.name: number for path, number in self._files.items() if path.parent == directory}
                either = [(name, dice.choice((names, present))) for name in sorted({*names, *present})]
                names = {name: chosen[name] for name, chosen in either if name in chosen}
            for name, number in names.items():
                data = self._synced.get(number, b"")
                if dice is not None and number in current:
                    data = _partly(data, current[number].read_bytes(), dice)
                (image / name).write_bytes(data)
        return to

    def _change(self) -> None:
        if self.stop_at is not None and self.changes >= self.stop_at:
            raise Crash
        self.changes += 1


def _partly(old: bytes, new: bytes, dice: random.Random) -> bytes:
    """`old` with some sectors of `new`; those between that were never written read as zeros."""
    data = bytearray(old)
    for start in range(0, len(new), SECTOR_BYTES):
        end = min(start + SECTOR_BYTES, len(new))
        if new[start:end] != old[start:end] and dice.random() < 0.5:
            data += bytes(max(0, end - len(data)))
            data[start:end] = new[start:end]
    return bytes(data)
