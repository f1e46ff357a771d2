"""Files that change all at once: how ConfigMap, Secret, downward and projected volumes are written.

As in Kubernetes' AtomicWriter: the files stand in a directory `..<stamp>`, the link `..data` points to it, and each
visible name is a link through `..data`. A new version is written whole beside the old one and one rename of `..data`
puts it in place; a reader sees the old files or the new ones, never a mixture. Blocking.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

DATA_LINK = "..data"
_NEXT_LINK = "..data_tmp"
_DIRECTORY_MODE = 0o755
# What a group that owns a volume may do in it, at the least; the set-group-id bit hands the group down.
_GROUP_READS, _GROUP_ENTERS = 0o440, 0o2550


class FileContent(NamedTuple):
    """`uid` is whose file it is; None leaves it root's."""

    data: bytes
    mode: int
    uid: int | None = None


def publish(directory: Path, files: Mapping[str, FileContent], group: int | None = None) -> bool:
    """Make `directory` show exactly `files` (relative paths); returns whether anything had to change.

    With `group`, everything belongs to it and can be read by it (the pod's fsGroup).
    """
    wanted = {name: _as_written(content, group) for name, content in files.items()}
    link = directory / DATA_LINK
    if link.is_symlink() and read_published(directory) == wanted:
        _link_names(directory, files)
        return False
    version = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    _own_directory(version, group)
    for name, content in wanted.items():
        path = version / name
        _make_parents(version, path.parent, group)
        path.write_bytes(content.data)
        os.chown(path, -1 if content.uid is None else content.uid, -1 if group is None else group)
        # After writing and chown: the mode may forbid it to everyone but root, and chown clears bits of it.
        path.chmod(content.mode)
    _own_directory(directory, group)
    following = directory / _NEXT_LINK
    following.unlink(missing_ok=True)
    following.symlink_to(version.name)
    following.rename(link)
    _link_names(directory, files)
    for stale in directory.glob("..*"):
        if stale.is_dir() and not stale.is_symlink() and stale != version:
            shutil.rmtree(stale)
    return True


def read_published(directory: Path) -> dict[str, FileContent] | None:
    """What `directory` shows now; None where nothing was published yet."""
    root = directory / DATA_LINK
    if not root.is_dir():
        return None
    found: dict[str, FileContent] = {}
    for where, _, names in os.walk(root):
        for name in names:
            path = Path(where) / name
            about = path.stat()
            mode = stat.S_IMODE(about.st_mode)
            found[str(path.relative_to(root))] = FileContent(path.read_bytes(), mode, about.st_uid or None)
    return found


def _as_written(content: FileContent, group: int | None) -> FileContent:
    mode = content.mode if group is None else content.mode | _GROUP_READS
    return FileContent(content.data, mode, content.uid or None)


def _make_parents(version: Path, folder: Path, group: int | None) -> None:
    if folder == version or folder.is_dir():
        return
    _make_parents(version, folder.parent, group)
    folder.mkdir()
    _own_directory(folder, group)


def _own_directory(folder: Path, group: int | None) -> None:
    if group is None:
        folder.chmod(_DIRECTORY_MODE)
    else:
        os.chown(folder, -1, group)
        folder.chmod(_DIRECTORY_MODE | _GROUP_ENTERS)


def _link_names(directory: Path, files: Mapping[str, FileContent]) -> None:
    wanted = {name.split("/", 1)[0] for name in files}
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    for name in wanted:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA_LINK}/{name}")
