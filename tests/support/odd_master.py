"""`barque` with oddities that no machine has on demand: `python -m tests.support.odd_master ODD … -- ARGUMENTS`.

`inspect=S` has masters compare their states every S seconds; `sync=S` makes each sync take S seconds longer; `hours=H`
sets the clock off; `life=S` has certificates issued here last S seconds; `format=N` is a release that reads entries up
to format N; `deviates=FILE` changes the state of this member alone once FILE is there; `restore=S` prints each part of
a restore, and delays the last by S seconds; `lingers=S` has a joining that was answered print so, and go on S seconds
later.
"""

from __future__ import annotations

import os

# As `barque master run` has it, which gRPC reads as it is imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import asyncio
import datetime
import functools
import sys
import time
from pathlib import Path
from typing import Any

from barque.cli.main import main
from barque.client import pki
from barque.client.clock import SystemClock
from barque.master import enrolment, storage
from barque.master.raft.disk import Disk
from barque.master.raft.errors import NewerFormatError
from barque.master.store import introductions, proposals, upkeep
from barque.master.store.engine import Settings
from barque.master.store.records import RestoreEnd
from barque.master.store.replica import Replica


def inspect(seconds: str) -> None:
    storage.Settings = functools.partial(Settings, inspect_s=float(seconds))  # type: ignore[misc, assignment]


def sync(seconds: str) -> None:
    real = Disk.sync

    def slow(disk: Disk, fd: int) -> None:
        time.sleep(float(seconds))
        real(disk, fd)

    Disk.sync = slow  # type: ignore[method-assign]


def hours(off: str) -> None:
    real = SystemClock.wall
    SystemClock.wall = lambda clock: real(clock) + datetime.timedelta(hours=float(off))  # type: ignore[method-assign]


def life(seconds: str) -> None:
    pki.LEAF_LIFE = datetime.timedelta(seconds=float(seconds))


def format(newest: str) -> None:
    known = int(newest)
    introductions.NEWEST_FORMAT = known
    real = proposals.decode_payload

    def decode(data: bytes) -> Any:
        if data[1] > known:
            raise NewerFormatError("a log entry", data[1], known)
        return real(data)

    proposals.decode_payload = decode


def deviates(file: str) -> None:
    real = Replica.apply_ops

    def apply_ops(replica: Replica, *arguments: Any) -> Any:
        if Path(file).exists():
            replica.machine.revision += 1
        return real(replica, *arguments)

    Replica.apply_ops = apply_ops  # type: ignore[method-assign]


def restore(seconds: str) -> None:
    class SlowRestoring(upkeep.Restoring):
        async def carry_out(self) -> Any:
            propose = self._propose

            async def later(command: Any) -> Any:
                if isinstance(command, RestoreEnd):
                    await asyncio.sleep(float(seconds))
                print(f"restoring: {type(command).__name__}", flush=True)
                return await propose(command)

            self._propose = later
            return await super().carry_out()

    upkeep.Restoring = SlowRestoring  # type: ignore[misc]


def lingers(seconds: str) -> None:
    real = enrolment.ask

    async def ask(*arguments: Any) -> Any:
        answer = await real(*arguments)
        print("answered", flush=True)
        await asyncio.sleep(float(seconds))
        return answer

    enrolment.ask = ask


ODDITIES = {odd.__name__: odd for odd in (inspect, sync, hours, life, format, deviates, restore, lingers)}


if __name__ == "__main__":
    at = sys.argv.index("--")
    for given in sys.argv[1:at]:
        name, _, value = given.partition("=")
        ODDITIES[name](value)
    sys.argv[1 : at + 1] = []
    main()
