"""subPath mounts that cannot lead out of their volume, whatever a pod does to the volume meanwhile. Blocking.

A path inside a volume is the pod's to change, so that a name checked now may be a link to `/etc` a moment later. As in
Kubernetes' subpath package: the path is resolved, must lie in the volume, and is then walked again from the volume's
root with one openat(2) per component that follows no link. What is mounted is the opened file itself, through
/proc/self/fd, on a path outside the volume that only the worker can change.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from barque.worker.mounts import Mounter
from barque.worker.pods.env import ConfigError

_WALK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class EscapeError(ConfigError):
    """The path leads, or was made to lead, out of its volume."""


def bind_sub_path(volume: Path, sub_path: str, target: Path, mounter: Mounter) -> None:
    """Mount `sub_path` of the volume at `target`; what is missing is made a directory.

    Raises `EscapeError`, or OSError.
    """
    root = os.path.realpath(volume)
    if not os.path.lexists(os.path.join(root, sub_path)):
        make_inside(root, sub_path, stat.S_IMODE(os.stat(root).st_mode))
    resolved = os.path.realpath(os.path.join(root, sub_path), strict=True)
    if os.path.commonpath([root, resolved]) != root:
        raise EscapeError(f"{sub_path} leads out of its volume")
    with open_inside(root, os.path.relpath(resolved, root)) as handle:
        _make_target(target, directory=stat.S_ISDIR(os.fstat(handle).st_mode))
        mounter.bind(Path(f"/proc/self/fd/{handle}"), target)


def make_inside(root: str, sub_path: str, mode: int) -> None:
    """Make the directories of `sub_path` that are missing. A link on the way is followed only within the volume."""
    existing, missing = os.path.join(root, sub_path), []
    while not os.path.lexists(existing):
        existing, name = os.path.split(existing)
        missing.append(name)
    resolved = os.path.realpath(existing, strict=True)
    if os.path.commonpath([root, resolved]) != root:
        raise EscapeError(f"{sub_path} leads out of its volume")
    with open_inside(root, os.path.relpath(resolved, root)) as start:
        handle = os.dup(start)
        try:
            for name in reversed(missing):
                with suppress(FileExistsError):
                    os.mkdir(name, mode, dir_fd=handle)
                following = _step(name, handle)
                os.close(handle)
                handle = following
                # mkdir(2) takes the umask off.
                os.chmod(f"/proc/self/fd/{handle}", mode)
        finally:
            os.close(handle)


@contextmanager
def open_inside(root: str, path: str) -> Iterator[int]:
    """`path`, which holds no links, opened from `root` component by component. Raises `EscapeError` where one is."""
    handle = os.open(root, _WALK)
    try:
        for name in path.split("/"):
            if name in ("", "."):
                continue
            if name == "..":
                raise EscapeError(f"{path} leads out of its volume")
            following = _step(name, handle)
            os.close(handle)
            handle = following
        yield handle
    finally:
        os.close(handle)


def _step(name: str, folder: int) -> int:
    handle = os.open(name, _WALK, dir_fd=folder)
    # O_PATH with O_NOFOLLOW opens a link itself rather than failing.
    if stat.S_ISLNK(os.fstat(handle).st_mode):
        os.close(handle)
        raise EscapeError(f"{name} became a link while the volume was mounted")
    return handle


def _make_target(target: Path, *, directory: bool) -> None:
    """An empty place of the same kind, whatever an earlier attempt left there."""
    if target.is_dir() and not directory:
        target.rmdir()
    elif directory and target.exists() and not target.is_dir():
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if directory:
        target.mkdir(exist_ok=True)
    else:
        target.touch()
