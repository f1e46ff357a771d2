"""How commits come together in one append: what was under way a moment ago is waited for, a lone writer never waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from barque.master.raft.disk import Disk
from barque.master.store.engine_raft import EngineRaft, Settings
from barque.master.store.port import Result
from barque.master.store.proposals import ProposalSettings
from tests.support.clock import FakeClock
from tests.support.raft_group import open_store
from tests.support.store import a_pod, entropy

TIMEOUT_S = 60.0
# Longer than any test lasts: a group that is written was complete.
FOR_EVER_S = 600.0


class HeldDisk(Disk):
    """Counts syncs; each waits until `free` is set."""

    def __init__(self) -> None:
        self.syncs = 0
        self.free = threading.Event()
        self.free.set()

    def sync(self, fd: int) -> None:
        self.syncs += 1
        assert self.free.wait(TIMEOUT_S)
        super().sync(fd)


class Bench(NamedTuple):
    store: EngineRaft
    disk: HeldDisk

    def write(self, number: int) -> asyncio.Task[list[Result]]:
        async def commit() -> list[Result]:
            return list(await self.store.commit([a_pod(f"p{number}").put()]))

        return asyncio.create_task(commit())

    async def together(self, count: int) -> list[asyncio.Task[list[Result]]]:
        """One commit whose sync is held until `count` - 1 more wait behind it; all of them."""
        self.disk.free.clear()
        before = self.disk.syncs
        writes = [self.write(0)]
        while self.disk.syncs == before:
            await asyncio.sleep(0)
        writes += [self.write(number) for number in range(1, count)]
        await asyncio.sleep(0)
        self.disk.free.set()
        await writes[0]
        return writes


@contextlib.asynccontextmanager
async def a_store(path: Path, gather_s: float = FOR_EVER_S) -> AsyncIterator[Bench]:
    disk = HeldDisk()
    settings = Settings(proposals=ProposalSettings(gather_commits=5, gather_s=gather_s))
    store = await open_store(path / "store", FakeClock(), settings, disk=disk, entropy=entropy(1))
    disk.syncs = 0
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield Bench(store, disk)
    finally:
        await store.close()


async def test_a_lone_writer_never_waits(tmp_path: Path) -> None:
    async with a_store(tmp_path) as bench:
        for number in range(3):
            await bench.write(number)
        assert bench.disk.syncs == 3


async def test_a_group_waits_for_as_many_as_came_together_before(tmp_path: Path) -> None:
    async with a_store(tmp_path) as bench:
        early = await bench.together(4)
        assert [write.done() for write in early] == [True, False, False, False]
        late = bench.write(4)
        await asyncio.gather(*early, late)
        assert bench.disk.syncs == 2


async def test_no_group_waits_for_more_than_the_bound(tmp_path: Path) -> None:
    async with a_store(tmp_path) as bench:
        writes = await bench.together(6)
        await asyncio.gather(*writes)
        assert bench.disk.syncs == 2


async def test_patience_ends(tmp_path: Path) -> None:
    async with a_store(tmp_path, gather_s=0.001) as bench:
        writes = await bench.together(4)
        await asyncio.gather(*writes)
        assert bench.disk.syncs == 2
        await bench.write(4)
        await bench.write(5)
        assert bench.disk.syncs == 4


async def test_closing_waits_for_nobody(tmp_path: Path) -> None:
    async with a_store(tmp_path) as bench:
        writes = await bench.together(4)
        await bench.store.close()
        assert [write.done() for write in writes] == [True] * 4
