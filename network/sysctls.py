"""Kernel settings we change for good, with their former values kept on disk so that cleanup can put them back.

Settings of a link of ours need no record: they go with the link.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path

PROC_SYS = Path("/proc/sys")


class SysctlError(Exception):
    """A kernel setting cannot be written; the message says which."""


class SysctlRecord:
    """Writes settings (`net/ipv4/ip_forward`) and remembers in `path` what the first write found."""

    def __init__(self, path: Path, root: Path = PROC_SYS) -> None:
        self._path = path
        self._root = root

    def ensure(self, name: str, value: str) -> bool:
        """Set it; True where it had another value. The former value is on disk before the kernel is told."""
        present = (self._root / name).read_text().strip()
        if present == value:
            return False
        former = self._load()
        if name not in former:
            former[name] = present
            save_json(self._path, former, durable=True)
        write_sysctl(name, value, self._root)
        return True

    def restore(self, keep: Collection[str] = ()) -> list[str]:
        """Put back every remembered value but those to `keep`, forget all, and name what was changed."""
        former = {name: value for name, value in self._load().items() if name not in keep}
        for name, value in former.items():
            write_sysctl(name, value, self._root)
        self._path.unlink(missing_ok=True)
        return sorted(former)

    def _load(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return {}


def write_sysctl(name: str, value: str, root: Path = PROC_SYS) -> None:
    """Write one setting in the network namespace of the calling thread."""
    try:
        (root / name).write_text(value)
    except OSError as error:
        raise SysctlError(f"cannot set {name.replace('/', '.')} to {value}: {error.strerror}") from error


def save_json(path: Path, document: object, *, durable: bool) -> None:
    """Replace a file atomically; with `durable` it also survives a loss of power from here on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w") as file:
        json.dump(document, file, indent=1, sort_keys=True)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(beside, path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
