"""tmpfs and bind mounts: made, found and unmounted, straight through the kernel's calls."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Protocol

_MNT_DETACH = 2
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_BIND = 4096
_ESCAPE = re.compile(r"\\([0-7]{3})")
MOUNTINFO = Path("/proc/self/mountinfo")


class Mounter(Protocol):
    """What volumes need of mounting; blocking."""

    def mount_tmpfs(self, path: Path, *, mode: int, size_bytes: int = 0, executable: bool = False) -> None: ...

    def bind(self, source: Path, target: Path) -> None:
        """Show what is at `source`, without the mounts in it, at `target` too."""
        ...

    def unmount(self, path: Path) -> None: ...

    def is_tmpfs(self, path: Path) -> bool:
        """Whether a tmpfs is mounted at this directory; asked often."""
        ...

    def mounts_under(self, path: Path) -> list[Path]:
        """Mount points at or below `path`, the deepest first."""
        ...


class KernelMounter:
    """Implements `Mounter` with mount(2) and umount2(2). Raises OSError."""

    def __init__(self, mountinfo: Path = MOUNTINFO) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._mountinfo = mountinfo

    def mount_tmpfs(self, path: Path, *, mode: int, size_bytes: int = 0, executable: bool = False) -> None:
        options = f"mode={mode:o}" + (f",size={size_bytes}" if size_bytes else "")
        flags = _MS_NOSUID | _MS_NODEV | (0 if executable else _MS_NOEXEC)
        target = os.fsencode(path)
        self._check(self._libc.mount(b"tmpfs", target, b"tmpfs", ctypes.c_ulong(flags), options.encode()), path)

    def bind(self, source: Path, target: Path) -> None:
        where = os.fsencode(target)
        self._check(self._libc.mount(os.fsencode(source), where, None, ctypes.c_ulong(_MS_BIND), None), target)

    def unmount(self, path: Path) -> None:
        # Detached: gone from the tree at once, even while some process still stands in it.
        self._check(self._libc.umount2(os.fsencode(path), _MNT_DETACH), path)

    def is_tmpfs(self, path: Path) -> bool:
        # Each tmpfs is a device of its own; the table of all mounts would take longer to read the more pods there are.
        return path.lstat().st_dev != path.parent.lstat().st_dev

    def mounts_under(self, path: Path) -> list[Path]:
        found = parse_mountinfo(self._mountinfo.read_text(errors="surrogateescape"))
        root = os.path.realpath(path)
        below = (Path(m) for m in found if m == root or m.startswith(f"{root}/"))
        return sorted(below, key=lambda m: len(m.parts), reverse=True)

    def _check(self, result: int, path: Path) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))


def parse_mountinfo(text: str) -> list[str]:
    """The mount points of /proc/self/mountinfo (proc_pid_mountinfo(5): the fifth field, octal escapes)."""
    fields = (line.split(" ") for line in text.splitlines())
    return [_ESCAPE.sub(lambda m: chr(int(m.group(1), 8)), f[4]) for f in fields if len(f) > 4]
