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


class NewerFormatError(StoreStartError):
    """The files were written by a newer release."""

    def __init__(self, where: str, found: int, known: int) -> None:
        super().__init__(
            f"{where} has format {found}, this release reads up to {known}: start the release that wrote it"
        )
