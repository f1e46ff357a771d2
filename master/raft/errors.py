"""Why a store does not start. Each message is one line that names the file and what to do; the daemon prints it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from barque.client.supervise import StopError


class Remedy(NamedTuple):
    """What a user does about files that were lost or changed; `member` names the master where the group has several.

    A master that is alone comes back from a backup. A member of several must not: a copy has forgotten votes and
    acknowledgements that the others count on, so it leaves the group and joins anew, empty.
    """

    member: str = ""

    def __str__(self) -> str:
        if self.member:
            return (
                "the other masters have the data, and a copy must never be put back here: run `barque cluster "
                f"remove-member {self.member}` on one of them, move this master's data directory away, and run "
                "`barque master join` here"
            )
        return "restore the directory from a backup"

    def without(self, index: int, *, whole_file: bool = False) -> str:
        """For a log that does not read from entry `index` on; `whole_file`: nothing of that file does."""
        if self.member:
            return str(self)
        cut = "removing the file and" if whole_file else "cutting the file at this offset and removing"
        return f"{self}; without one, {cut} the later log-*.wal loses every write from entry {index} on"


class StoreStartError(StopError):
    """The store's directory cannot be served."""


class DirectoryInUseError(StoreStartError):
    """Another process holds the directory."""


class CorruptFileError(StoreStartError):
    """Bytes that were acknowledged no longer read as they were written; nothing is skipped or repaired silently."""

    def __init__(self, path: Path, offset: int, why: str, remedy: str) -> None:
        super().__init__(f"{path} is damaged at offset {offset}: {why}; {remedy}")
        self.path = path
        self.offset = offset
        self.why = why


class KeyMissingError(StoreStartError):
    """A Secret on disk is sealed with a key that is not in the key ring."""

    def __init__(self, path: Path, offset: int, what: str, key_id: str, ring: Path) -> None:
        why = (
            f"{what} is sealed with key {key_id}, which is not in {ring}: put the ring file that holds it there from a "
            "backup, or beside it under another name ending in .json; without it these Secrets cannot be read"
        )
        super().__init__(f"{path} at offset {offset}: {why}")
        self.path = path
        self.offset = offset
        self.why = why


class NewerFormatError(StoreStartError):
    """The files were written by a newer release."""

    def __init__(self, where: str, found: int, known: int) -> None:
        super().__init__(
            f"{where} has format {found}, this release reads up to {known}: start the release that wrote it"
        )
