"""A process that writes to a store until it is killed or its disk is full. Run: `python -m tests.support.store_writer`.

`load PATH ROUND`: writes pods for ever, 16 at a time; prints `NAME REVISION` after each acknowledgement. `load-three`:
the same through a follower of a group of three in this process. `fill PATH`: writes under a file size limit until
refused, prints what was refused and what still reads, lifts the limit, writes again, and ends without closing anything.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from barque.client.clock import SystemClock
from barque.master.store.engine_raft import Settings
from barque.master.store.port import Absent, Committed, Store, StoreUnavailableError
from barque.master.store.proposals import ProposalSettings
from tests.support.raft_group import RaftGroup, open_store
from tests.support.store import a_pod

# Small, so that segments end and snapshots are taken in the middle of a short run.
SMALL = Settings(segment_bytes=64 * 1024, snapshot_log_bytes=160 * 1024, proposals=ProposalSettings(deadline_s=60.0))


def say(*words: object) -> None:
    # One write per line: a killed process leaves whole lines.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def load(path: Path, turn: str) -> None:
    await write_for_ever(await open_store(path, SystemClock(), SMALL), turn)


async def load_three(path: Path, turn: str) -> None:
    group = RaftGroup(path, SMALL)
    await group.open()
    await write_for_ever(await group.follower(), turn)


async def write_for_ever(store: Store, turn: str) -> None:
    async def write(worker: int) -> None:
        number = 0
        while True:
            pod = a_pod(f"r{turn}-{worker}-{number}").sized(1000)
            (result,) = await store.commit([pod.put(Absent(pod.key))])
            assert isinstance(result, Committed)
            say(pod.key.name, result.revision)
            number += 1

    await asyncio.gather(*(write(worker) for worker in range(16)))


async def fill(path: Path) -> None:
    store = await open_store(path, SystemClock())
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    number = 0
    while True:
        pod = a_pod(f"p{number}").sized(1000)
        try:
            await store.commit([pod.put()])
        except StoreUnavailableError as e:
            say("refused", pod.key.name, e)
            break
        say("written", pod.key.name)
        number += 1
    say("fault", store.fault)
    say("reads", len(store.list("pods").items), store.get(a_pod("p0").key) is not None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for name in ("after1", "after2"):
        await store.commit([a_pod(name).put()])
        say("written", name)
    say("fault", store.fault or "none")
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        asyncio.run(load(Path(sys.argv[2]), sys.argv[3]))
    elif sys.argv[1] == "load-three":
        asyncio.run(load_three(Path(sys.argv[2]), sys.argv[3]))
    else:
        asyncio.run(fill(Path(sys.argv[2])))
