"""A disk that refuses when the test says so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from barque.master.store.disk import Disk


class FaultyDisk(Disk):
    """`space` bytes may still be written (None: any number); `failing` names methods that raise EIO.

    A refused sync loses what was not synced, as Linux does: the file keeps its length, the lost bytes read as zeros.
    """

    def __init__(self) -> None:
        self.space: int | None = None
        self.failing: set[str] = set()
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
        if "sync" in self.failing:
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
