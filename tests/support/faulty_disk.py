"""Disks that fail when the test says so: one refuses, one stops with the machine."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

from barque.master.raft.disk import Disk


class FaultyDisk(Disk):
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

    def rename(self, old: Path, new: Path) -> None:
        self._fail("rename")
        super().rename(old, new)

    def _fail(self, method: str) -> None:
        if method in self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class Crash(Exception):
    """The machine has stopped; nothing after this happens."""


class CrashingDisk(Disk):
    """Stops before its `stop_at`th change (None: never), a write half-way through; every later call stops, too.

    It remembers what is certain to be on the medium: the bytes of a file at its last sync, the names in a directory at
    its last sync. `power_cut(to)` writes that image elsewhere; the files themselves are what a SIGKILL leaves.
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

    def power_cut(self, to: Path) -> Path:
        """The files that are certain, in the directory `to` in the place of this disk's root."""
        for directory, names in self._synced_names.items():
            image = to / directory.relative_to(self._root)
            image.mkdir(parents=True, exist_ok=True)
            for name, number in names.items():
                (image / name).write_bytes(self._synced.get(number, b""))
        return to

    def _change(self) -> None:
        if self.stop_at is not None and self.changes >= self.stop_at:
            raise Crash
        self.changes += 1
