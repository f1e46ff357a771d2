"""The lock of a data directory: one worker at a time, and no cleanup while it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from barque.worker.settings import Settings, WorkerError


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the lock. Raises `WorkerError` where another process does: two would fight over the same pods."""
    handle = os.open(settings.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkerError(f"another worker runs on {settings.data_dir}: stop it first") from None
        yield
    finally:
        os.close(handle)
