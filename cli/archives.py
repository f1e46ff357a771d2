"""Tar archives on their way between this machine and a container, for `cp`. Blocking; to be run in threads.

What is unpacked is never believed: nothing is written outside the target, through no symbolic link that the archive
brought or that leads out of the target, and no device, socket or link comes to be.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import posixpath
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO, cast

Warn = Callable[[str], None]


class ArchiveError(Exception):
    """What was received is no archive that can be unpacked."""


class Packing:
    """A packed file or directory, chunk by chunk as the event loop takes it; packed in a thread of its own."""

    def __init__(self, source: Path, name: str) -> None:
        self._source = source
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        self._waiting: concurrent.futures.Future[None] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._pack, name="packing", daemon=True)
        self.failed: OSError | None = None

    def start(self) -> None:
        self._thread.start()

    async def get(self) -> bytes:
        """The next chunk; empty at the end, and where packing `failed`."""
        return await self._chunks.get()

    def stop(self) -> None:
        """Nobody wants the rest."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    def write(self, data: bytes) -> int:
        """For `tarfile`, in the thread."""
        if self._stopped:
            raise BrokenPipeError
        self._waiting = asyncio.run_coroutine_threadsafe(self._chunks.put(bytes(data)), self._loop)
        self._waiting.result()
        return len(data)

    def _pack(self) -> None:
        # The event loop has ended, or nobody wants the rest: there is nobody to tell.
        with suppress(RuntimeError, concurrent.futures.CancelledError, BrokenPipeError):
            try:
                pack(self._source, self._name, cast(BinaryIO, self))
            except BrokenPipeError:
                raise
            except OSError as error:
                self.failed = error
            self.write(b"")


def pack(source: Path, name: str, out: IO[bytes]) -> None:
    """Write a file, or a directory with all that is below it, as `name`. Symbolic links stay what they are.

    Raises OSError.
    """
    # In so large blocks that each is worth a message.
    with tarfile.open(fileobj=out, mode="w|", bufsize=64 * 1024, format=tarfile.GNU_FORMAT) as tar:
        tar.add(source, name, filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Files, directories and links; this machine's users mean nothing in a container."""
    if not (entry.isfile() or entry.isdir() or entry.issym() or entry.islnk()):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def unpack(archive: BinaryIO, source: str, target: Path, warn: Warn, *, keep_modes: bool = True) -> int:
    """Unpack `source`, a path as it was given to tar, as `target`; how many files and directories came.

    Raises `ArchiveError`, OSError.
    """
    root = posixpath.normpath(source).lstrip("/")
    base = Path(os.path.realpath(target))
    found = 0
    try:
        with tarfile.open(fileobj=archive, mode="r|") as tar:
            for entry in tar:
                inside = _below(posixpath.normpath(entry.name.lstrip("/")), root)
                place = base / inside if inside is not None else None
                if place is None or not _is_within(place, base):
                    warn(f"warning: file {entry.name!r} is outside target destination, skipping")
                elif entry.issym() or entry.islnk():
                    warn(f"warning: skipping symlink: {entry.name!r} -> {entry.linkname!r}")
                elif entry.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                    found += 1
                elif entry.isfile():
                    _write(tar, entry, place, keep_modes)
                    found += 1
                else:
                    warn(f"warning: skipping {entry.name!r}: it is neither a file nor a directory")
    except tarfile.TarError as error:
        raise ArchiveError(str(error)) from error
    return found


def _below(name: str, root: str) -> str | None:
    """The name relative to `root`; None for one that is not below it."""
    if root in (".", ""):
        return None if name.startswith("../") or name == ".." else name
    if name == root:
        return ""
    return name[len(root) + 1 :] if name.startswith(f"{root}/") else None


def _is_within(place: Path, base: Path) -> bool:
    """Whether a file written there ends up in the target, whatever links are on the way."""
    if place == base:
        return True
    return Path(os.path.realpath(place.parent)).is_relative_to(base)


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, place: Path, keep_modes: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(entry)
    assert content is not None
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(handle, "wb") as out:
        while data := content.read(64 * 1024):
            out.write(data)
        if keep_modes:
            os.fchmod(out.fileno(), entry.mode & 0o777)
