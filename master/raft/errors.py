"""Why a store does not start. Each message is one line that names the file and what to do; the daemon prints it."""

from __future__ import annotations

from pathlib import Path


class StoreStartError(Exception):
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
