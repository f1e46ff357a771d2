"""The store's directory: one process at a time, and the cluster's identity made at the first start and kept.

`lock` is held with flock, which ends with the process however it ends; `identity` is a small JSON file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, DirectoryInUseError, NewerFormatError

FORMAT = 1

_LOCK = "lock"
_IDENTITY = "identity"


class _Identity(msgspec.Struct, frozen=True):
    format: int
    cluster_id: str


class Directory:
    """A directory held by this process until `release`."""

    def __init__(self, path: Path, lock_fd: int, disk: Disk, cluster_id: str, *, first_start: bool) -> None:
        self.path = path
        self.cluster_id = cluster_id
        # No start has been completed here; `keep_identity` ends that.
        self.first_start = first_start
        self._lock_fd = lock_fd
        self._disk = disk

    def keep_identity(self) -> None:
        """Once the log exists: from now on a directory without one is damaged, not new. Raises `OSError`."""
        identity = _Identity(FORMAT, self.cluster_id)
        self._disk.write_file(self.path / _IDENTITY, msgspec.json.encode(identity))
        self.first_start = False

    def release(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def open_directory(path: Path, disk: Disk, new_cluster_id: Callable[[], str]) -> Directory:
    """Lock `path`, creating it if need be; `new_cluster_id` is asked at the first start.

    Raises `StoreStartError` or `OSError`.
    """
    disk.make_directory(path)
    lock_fd = _lock(path)
    try:
        kept = _kept_identity(path / _IDENTITY, disk)
        return Directory(path, lock_fd, disk, kept or new_cluster_id(), first_start=kept is None)
    except BaseException:
        os.close(lock_fd)
        raise


def _lock(path: Path) -> int:
    fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise DirectoryInUseError(
            f"{path} is in use by another master (process {holder}): stop that one, or give this one its own directory"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def _kept_identity(file: Path, disk: Disk) -> str | None:
    try:
        identity = msgspec.json.decode(disk.read(file), type=_Identity)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as e:
        raise CorruptFileError(file, 0, str(e), "restore it from a backup") from e
    if identity.format > FORMAT:
        raise NewerFormatError(str(file), identity.format, FORMAT)
    return identity.cluster_id
