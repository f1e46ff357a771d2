"""hostPath volumes: what must stand at the path, made where its type says so. Blocking.

The checks and their words are those of Kubernetes' host-path plugin.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from barque.api.types import core_v1
from barque.worker.pods.env import ConfigError

_DIRECTORY_MODE, _FILE_MODE = 0o755, 0o644

_Check = Callable[[int], bool]
_CHECKS: dict[str, tuple[_Check, str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def ensure_host_path(source: core_v1.HostPathVolumeSource) -> None:
    """Make what is to be made, check the rest. Raises `ConfigError` where something else stands there, or OSError."""
    path, kind = source.path, source.type or ""
    if not os.path.exists(path):
        if kind in ("", "DirectoryOrCreate"):
            # Without a type nothing is checked; the engine would make a directory, as Kubernetes' runtimes do.
            _make_directory(path)
        elif kind == "FileOrCreate":
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE))
    if not kind:
        return
    if kind not in _CHECKS:
        raise ConfigError(f"{kind} is an invalid volume type")
    holds, what = _CHECKS[kind]
    if not os.path.exists(path) or not holds(os.stat(path).st_mode):
        raise ConfigError(f"hostPath type check failed: {path} is not {what}")


def _make_directory(path: str) -> None:
    os.makedirs(path, exist_ok=True)
    os.chmod(path, _DIRECTORY_MODE)
