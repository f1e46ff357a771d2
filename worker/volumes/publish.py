"""Files that change all at once: how ConfigMap and Secret volumes are written.

As in Kubernetes' AtomicWriter: the files stand in a directory `..<stamp>`, the link `..data` points to it, and each
visible name is a link through `..data`. A new version is written whole beside the old one and one rename of `..data`
puts it in place; a reader sees the old files or the new ones, never a mixture. Blocking.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

DATA_LINK = "..data"
_NEXT_LINK = "..data_tmp"


class FileContent(NamedTuple):
    data: bytes
    mode: int


def publish(directory: Path, files: Mapping[str, FileContent]) -> bool:
    """Make `directory` show exactly `files` (relative paths); returns whether anything had to change."""
    link = directory / DATA_LINK
    if link.is_symlink() and read_published(directory) == dict(files):
        _link_names(directory, files)
        return False
    old = os.readlink(link) if link.is_symlink() else ""
    version = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    version.chmod(0o755)
    for name, content in files.items():
        path = version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.data)
        # After writing: the mode may forbid it to everyone but root.
        path.chmod(content.mode)
    following = directory / _NEXT_LINK
    following.unlink(missing_ok=True)
    following.symlink_to(version.name)
    following.rename(link)
    _link_names(directory, files)
    for stale in directory.glob("..*"):
        if stale.is_dir() and not stale.is_symlink() and stale != version:
            shutil.rmtree(stale)
    return old != version.name


def read_published(directory: Path) -> dict[str, FileContent] | None:
    """What `directory` shows now; None where nothing was published yet."""
    root = directory / DATA_LINK
    if not root.is_dir():
        return None
    found: dict[str, FileContent] = {}
    for where, _, names in os.walk(root):
        for name in names:
            path = Path(where) / name
            found[str(path.relative_to(root))] = FileContent(path.read_bytes(), path.stat().st_mode & 0o7777)
    return found


def _link_names(directory: Path, files: Mapping[str, FileContent]) -> None:
    wanted = {name.split("/", 1)[0] for name in files}
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    for name in wanted:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA_LINK}/{name}")
