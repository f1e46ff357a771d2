"""`Disk`: every file operation of the store, and nothing decided.

The lock, the log, the snapshots and the cluster's identity go through it, so that a test or a simulator can stand in
for the machine: full, failing, losing what was not synced, flipping bits. All methods block; the shell calls them off
the event loop. All raise `OSError`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path


class Disk:
    """The machine's own disk."""

    def make_directory(self, path: Path) -> None:
        """Create `path` and its parents, readable by us alone, and make its name durable."""
        if path.is_dir():
            return
        path.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.sync_directory(path.parent)

    def lock(self, path: Path) -> int:
        """Hold the file `path`, creating it if need be, until the descriptor is closed or the process ends.

        Raises `BlockingIOError` where another process holds it; its `strerror` says which.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise BlockingIOError(errno.EWOULDBLOCK, f"process {holder}", str(path)) from None
        except OSError:
            os.close(fd)
            raise
        return fd

    def names(self, directory: Path) -> list[str]:
        return sorted(os.listdir(directory))

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path, size: int = -1) -> bytes:
        """The whole file, or its first `size` bytes."""
        with path.open("rb") as file:
            return file.read(size)

    def create(self, path: Path) -> int:
        """An empty file open for writing; whatever stood at `path` is gone. Objects may be secret, hence 0600."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data`; on an error some of it may stand in the file."""
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            written += os.pwrite(fd, data[written:], offset + written)

    def sync(self, fd: int) -> None:
        """The bytes, and the size that is needed to read them, are on the medium."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file and make the cut durable (fsync: a smaller size is not certain to follow from fdatasync)."""
        os.ftruncate(fd, size)
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        """Put `old` in the place of `new`, atomically and durably."""
        os.replace(old, new)
        self.sync_directory(new.parent)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a whole small file so that `path` holds either the old bytes or the new, whatever happens."""
        temporary = path.with_name(path.name + TEMPORARY)
        fd = self.create(temporary)
        try:
            self.write(fd, data, 0)
            self.sync(fd)
        finally:
            self.close(fd)
        self.rename(temporary, path)


# Files with this ending were being written when the process ended; they hold nothing that was acknowledged.
TEMPORARY = ".tmp"
