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
    had no other members when this was written; `name` is what it is called among them. `authority` names the cluster's
    CA, "" where that is not known: nothing else tells the directories of two founders apart.
    """

    cluster_id: str
    member_id: str
    name: str
    founded: bool
    alone: bool
    authority: str = ""


class _File(msgspec.Struct, frozen=True):
    format: int
    cluster_id: str
    member_id: str = ""
    name: str = ""
    founded: bool = True
    alone: bool = True
    authority: str = ""


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

    def damaged(self, found: CorruptFileError) -> CorruptFileError:
        """The same with what is to be done here."""
        return CorruptFileError(found.path, found.offset, found.why, str(self.remedy))

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
        member_id, name, authority = (
            kept.member_id or new.member_id, new.name or kept.name, kept.authority or new.authority,
        )  # fmt: skip
        identity = Identity(kept.cluster_id, member_id, name, kept.founded, kept.alone, authority)
        directory = Directory(path, lock_fd, disk, identity, first_start=False)
        if kept.format < FORMAT or (kept.name, kept.authority) != (name, authority):
            directory.keep_identity()
        return directory
    except BaseException:
        disk.close(lock_fd)
        raise


def _check(path: Path, kept: _File, new: Identity) -> None:
    away = f"put back what belongs into {path}, or give this master a data directory of its own"
    if kept.authority and new.authority and kept.authority != new.authority:
        raise StoreStartError(
            f"{path} holds the data of cluster {kept.cluster_id}, whose CA is {kept.authority}, and this master is of "
            f"the cluster whose CA is {new.authority}: {away}"
        )
    if new.founded:
        if not kept.founded and kept.member_id != new.member_id:
            raise StoreStartError(
                f"{path} holds the data of the master {kept.name}, which has joined cluster {kept.cluster_id}, and "
                f"this one has not: {away}"
            )
        return
    if kept.cluster_id != new.cluster_id:
        raise StoreStartError(
            f"{path} holds the data of cluster {kept.cluster_id}, and this master is to join {new.cluster_id}: {away}"
        )
    if kept.member_id != new.member_id:
        other = f"the master {kept.name} ({kept.member_id})" if kept.member_id else "a master"
        raise StoreStartError(
            f"{path} holds the data of {other} that is in cluster {kept.cluster_id} already, and this one is member "
            f"{new.member_id}: {away}"
        )


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
