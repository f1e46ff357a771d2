"""A saved state as a file: written whole or not at all, read back in pieces.

What stands in the file is the masters' own business: they check it when it is restored, and refuse it as a whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType

from barque.cli.output import CliError

# The masters take messages of up to 4 MiB; a quarter of that keeps the event loop free.
CHUNK_BYTES = 1024 * 1024

RESTORING = """\
This replaces the whole state of cluster {cluster}, on all of its masters, by that of {file}:
  * objects made or changed since it was saved are lost; pods that it does not know are stopped by their workers
  * every resource version moves ahead by a thousand million, and every watch begins anew with a list
  * where it holds Secrets and no master has their key any more, it is refused and nothing changes
  * Events are kept as they are"""
UNKNOWN_RESTORE = "the state was restored where `barque cluster status` shows a revision a thousand million higher"


class SnapshotFile:
    """A file of mode 0600 that appears only once it is written, flushed and read back; else nothing stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> SnapshotFile:
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        except OSError as error:
            raise CliError(f"cannot write to {self._path.parent}: {error.strerror}") from None
        self._temporary = Path(name)
        self._file = os.fdopen(handle, "wb")
        return self

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def finish(self) -> str:
        """Check what stands on the disk and give it its name; its SHA-256. Raises `CliError`."""
        if not self.size:
            raise CliError("the master sent nothing; nothing was saved")
        self._file.flush()
        os.fsync(self._file.fileno())
        with self._temporary.open("rb") as file:
            written = hashlib.file_digest(file, "sha256").hexdigest()
        if written != self._digest.hexdigest():
            raise CliError(f"the disk under {self._path.parent} gives back other bytes than were written to it")
        os.replace(self._temporary, self._path)
        return written

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    """The file's bytes, read off the event loop."""
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield data


def size_text(size: int) -> str:
    """Bytes for people: `12.3 MiB`."""
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{size} bytes" if value == size else f"{value:.1f} {units[0]}"
