"""`Writers`: who may write the rules of one state directory, told by a lock on a file there.

The holder's `iptables-restore` programs inherit the lock. So it is free only once those that a killed holder has left
behind have ended too, which would otherwise write what its successor, or a cleanup, has just replaced.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

WRITERS_FILE = "writers.lock"
# What a program left behind may take: its wait for the xtables lock, and its own work.
WAIT_S = 15.0
LOOK_S = 0.02


class WritersBusyError(Exception):
    """Another process holds the lock and does not end."""


class Writers:
    """The lock, held; a program that is given `descriptor` holds it too, until it ends."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        os.close(self.descriptor)


async def open_writers(state_dir: Path) -> Writers:
    """Wait until nobody else writes. Raises `WritersBusyError` where that takes too long, `OSError`."""
    descriptor = _open(state_dir)
    try:
        async with asyncio.timeout(WAIT_S):
            # The kernel tells nobody that a lock has become free but those that block on it.
            while not _lock(descriptor):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, TimeoutError):
            raise WritersBusyError(f"another process writes the rules of {state_dir}: stop it first") from None
        raise
    return Writers(descriptor)


def _open(state_dir: Path) -> int:
    state_dir.mkdir(parents=True, exist_ok=True)
    return os.open(state_dir / WRITERS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
