"""The store's directory: one process at a time, and who its data belongs to: which member of which cluster.

`lock` is held with flock, which ends with the process however it ends; `identity` is a small JSON file, made at the
first start. Format 1 of it, of a release without groups, named no member: its data is that of a cluster's only master.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, DirectoryInUseError, NewerFormatError, Remedy, StoreStartError

FORMAT = 2

_LOCK = "lock"
_IDENTITY = "identity"


class Identity(NamedTuple):
    """`founded`: this member began the cluster, so a log that tells of no members means this one alone. `alone`: it
    had no other members when this was written; `name` is what it is called among them.
    """

    cluster_id: str
    member_id: str
    name: str
    founded: bool
    alone: bool


class _File(msgspec.Struct, frozen=True):
    format: int
    cluster_id: str
    member_id: str = ""
    name: str = ""
    founded: bool = True
    alone: bool = True


class Directory:
    """A directory held by this process until `release`."""

    def __init__(self, path: Path, lock_fd: int, disk: Disk, identity: Identity, *, first_start: bool) -> None:
        self.path = path
        self.identity = identity
        # No start has been completed here; `keep_identity` ends that.
        self.first_start = first_start
        self._lock_fd = lock_fd
        self._disk = disk

    @property
    def cluster_id(self) -> str:
        return self.identity.cluster_id

    @property
    def remedy(self) -> Remedy:
        """What to do about data that is lost."""
        return Remedy() if self.identity.alone else Remedy(self.identity.name)

    def keep_identity(self, identity: Identity | None = None) -> None:
        """Write it: once the log exists, and when it changes. From then on a directory without a log is damaged, not
        new. Blocks; raises `OSError`.
        """
        identity = identity or self.identity
        file = _File(FORMAT, **identity._asdict())
        self._disk.write_file(self.path / _IDENTITY, msgspec.json.encode(file))
        self.identity = identity
        self.first_start = False

    def release(self) -> None:
        if self._lock_fd >= 0:
            self._disk.close(self._lock_fd)
            self._lock_fd = -1


def open_directory(path: Path, disk: Disk, new: Identity) -> Directory:
    """Lock `path`, creating it if need be. `new` is who a new directory belongs to; one that is not new is refused
    where it belongs to another cluster or member than `new` names ("" names none).

    Raises `StoreStartError` or `OSError`.
    """
    disk.make_directory(path)
    try:
        lock_fd = disk.lock(path / _LOCK)
    except BlockingIOError as e:
        raise DirectoryInUseError(
            f"{path} is in use by another master ({e.strerror}): stop that one, or give this one its own directory"
        ) from None
    try:
        kept = _kept_identity(path / _IDENTITY, disk)
        if kept is None:
            return Directory(path, lock_fd, disk, new, first_start=True)
        _check(path, kept, new)
        identity = Identity(
            kept.cluster_id, kept.member_id or new.member_id, new.name or kept.name, kept.founded, kept.alone
        )
        directory = Directory(path, lock_fd, disk, identity, first_start=False)
        if kept.format < FORMAT or kept.name != identity.name:
            directory.keep_identity()
        return directory
    except BaseException:
        disk.close(lock_fd)
        raise


def _check(path: Path, kept: _File, new: Identity) -> None:
    away = f"move {path} away, or give this master its own data directory"
    if not new.founded and kept.cluster_id != new.cluster_id:
        raise StoreStartError(
            f"{path} holds the data of cluster {kept.cluster_id}, and this master is to join {new.cluster_id}: {away}"
        )
    if not new.founded and kept.founded and not kept.member_id:
        raise StoreStartError(f"{path} holds the data of a master that is in cluster {kept.cluster_id} already: {away}")


def _kept_identity(file: Path, disk: Disk) -> _File | None:
    try:
        identity = msgspec.json.decode(disk.read(file), type=_File)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as e:
        raise CorruptFileError(file, 0, str(e), "restore it from a backup") from e
    if identity.format > FORMAT:
        raise NewerFormatError(str(file), identity.format, FORMAT)
    return identity
