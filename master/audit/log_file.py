"""The file of the audit log, rotated: full ones become `audit-2026-01-31T12-00-00.000.log` beside it.

In: whole lines. Out: they are in the file, in order, no line torn between two files; after a write that failed half-way
the file ends where it ended before. Blocks; raises `OSError`. Names, units and the meaning of 0 are those of
kube-apiserver's --audit-log-* flags.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

_MIB = 1024 * 1024
_DAY_S = 86_400
_STAMP = "%Y-%m-%dT%H-%M-%S"
STDOUT = "-"


class Rotation(NamedTuple):
    """`max_size_mib` of one file, `max_backups` full ones that are kept, for `max_age_days`; 0 is without end."""

    max_size_mib: int = 100
    max_backups: int = 10
    max_age_days: int = 30


class Sink(Protocol):
    """Where lines go to."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Write as many lines from the first on as there is room for, at least one; how many. Raises `OSError`."""
        ...

    def close(self) -> None: ...


class StandardOutput:
    """Lines on the daemon's standard output, for whoever collects that."""

    def write(self, lines: Sequence[bytes]) -> int:
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()
        return len(lines)

    def close(self) -> None: ...


class LogFile:
    """The file at `path`; `now` is the time of day, for the names of full files and their age."""

    def __init__(self, path: Path, rotation: Rotation, now: Callable[[], datetime.datetime]) -> None:
        self._path = path
        self._rotation = rotation
        self._now = now
        self._limit = rotation.max_size_mib * _MIB or sys.maxsize
        self._fd = -1
        self._size = 0

    def write(self, lines: Sequence[bytes]) -> int:
        """The lines that fit into this file; the next call goes on in a new one. Raises `OSError`, nothing written."""
        if self._fd < 0:
            self._open()
        if self._size and self._size + len(lines[0]) > self._limit:
            self._rotate()
        count, size = 0, self._size
        for line in lines:
            if count and size + len(line) > self._limit:
                break
            count, size = count + 1, size + len(line)
        self._append(b"".join(lines[:count]))
        return count

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            # A line that a crash tore ends here, so that the next is whole.
            self._append(b"\n")
        self._remove_old()

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            self.close()
            raise
        self._size += len(data)

    def _rotate(self) -> None:
        self.close()
        moment = self._now()
        full = self._named(moment)
        while full.exists():
            moment += datetime.timedelta(milliseconds=1)
            full = self._named(moment)
        self._path.rename(full)
        self._open()

    def _named(self, moment: datetime.datetime) -> Path:
        stamp = f"{moment.strftime(_STAMP)}.{moment.microsecond // 1000:03}"
        return self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")

    def _full_files(self) -> list[tuple[datetime.datetime, Path]]:
        """Those that are full, newest first; files of other names are nobody's business here."""
        prefix, found = f"{self._path.stem}-", []
        for path in self._path.parent.iterdir():
            if path.name.startswith(prefix) and path.suffix == self._path.suffix:
                stamp = path.name.removeprefix(prefix).removesuffix(self._path.suffix)
                with contextlib.suppress(ValueError):
                    moment = datetime.datetime.strptime(stamp, f"{_STAMP}.%f")
                    found.append((moment.replace(tzinfo=datetime.UTC), path))
        return sorted(found, reverse=True)

    def _remove_old(self) -> None:
        rotation, now = self._rotation, self._now()
        for index, (moment, path) in enumerate(self._full_files()):
            too_many = 0 < rotation.max_backups <= index
            too_old = 0 < rotation.max_age_days * _DAY_S < (now - moment).total_seconds()
            if too_many or too_old:
                with contextlib.suppress(OSError):
                    path.unlink()
