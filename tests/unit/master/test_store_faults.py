"""A disk that refuses this and that at random: what the store answered is what a start finds, whatever came between."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from pathlib import Path

import msgspec
import pytest

from barque.master.raft.disk import Disk
from barque.master.store.engine_raft import EngineRaft, Settings
from barque.master.store.port import Committed, Op, StoreUnavailableError, Unknown
from tests.support.clock import FakeClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.raft_group import open_store
from tests.support.store import a_pod, a_secret, entropy

SEEDS = range(30)
RESOURCES = ("pods", "secrets")
FAULTS = ("write", "sync", "truncate", "rename", "create")

# Segments of a few writes, snapshots of a few segments.
TINY = Settings(segment_bytes=3_000, snapshot_log_bytes=6_000)


class Voyage:
    """One store on one disk, and per object the texts it may have by what was answered; None is "not there"."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._dice = random.Random(seed)
        self._disk = FaultyDisk()
        self._clock = FakeClock()
        self._may_be: dict[str, set[str | None]] = {}
        self.acknowledged = 0

    async def sail(self) -> None:
        store = await self._open(self._root, self._disk)
        for _ in range(self._dice.randrange(5, 60)):
            await self._one_step(store)
        self._disk.failing, self._disk.space = set(), None
        before = self.acknowledged
        await self._commit(store)
        assert self.acknowledged > before, "it goes on by itself once the disk does"
        await store.close()
        await self._find(self._root)

    async def _one_step(self, store: EngineRaft) -> None:
        fate = self._dice.random()
        if fate < 0.25:
            self._disk.failing = set(self._dice.sample(FAULTS, self._dice.randrange(3)))
            self._disk.loses = self._dice.random() < 0.5
            self._disk.space = None if self._dice.random() < 0.6 else self._dice.randrange(2_500)
        elif fate < 0.32:
            with contextlib.suppress(StoreUnavailableError):
                await store.rotate_key()
        elif fate < 0.42:
            await self._kill(store)
        await self._commit(store)
        await self._clock.advance(31)  # A snapshot that failed is tried again.

    async def _commit(self, store: EngineRaft) -> None:
        written: list[tuple[str, str | None, Op]] = []
        for number in self._dice.sample(range(12), self._dice.randrange(1, 4)):
            found = (a_pod if number % 2 else a_secret)(f"o{number}")
            said = found.saying(self._dice.randbytes(self._dice.randrange(5, 200)).hex())
            deleted = self._dice.random() < 0.2
            written.append((found.key.name, None if deleted else said.text, said.delete() if deleted else said.put()))
        try:
            results = await store.commit([op for _, _, op in written])
        except StoreUnavailableError:
            return
        for (name, text, _), result in zip(written, results, strict=True):
            if isinstance(result, Committed):
                self._may_be[name] = {text}
                self.acknowledged += 1
            else:
                assert isinstance(result, Unknown)
                self._may_be.setdefault(name, {None}).add(text)

    async def _kill(self, store: EngineRaft) -> None:
        """What SIGKILL would leave now."""
        while store._upkeep.task is not None:
            await asyncio.wait([store._upkeep.task])
        left = self._root / "killed"
        half_made = shutil.ignore_patterns("*.tmp")  # A failed snapshot's may be on its way out.
        for name in ("store", "keys"):
            shutil.copytree(self._root / name, left / name, ignore=half_made)
        await self._find(left)
        shutil.rmtree(left)

    async def _find(self, root: Path) -> None:
        store = await self._open(root, Disk())
        there = {s.key.name: _text(s.json) for resource in RESOURCES for s in store.list(resource).items}
        await store.close()
        assert set(there) <= set(self._may_be)
        assert {name: there.get(name) for name, may_be in self._may_be.items() if there.get(name) not in may_be} == {}

    async def _open(self, root: Path, disk: Disk) -> EngineRaft:
        return await open_store(root / "store", self._clock, TINY, disk=disk, entropy=entropy(1))


def _text(json: bytes) -> str:
    found: str = msgspec.json.decode(json)["metadata"]["rest"]["text"]
    return found


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_was_answered_is_what_a_start_finds(tmp_path: Path, seed: int) -> None:
    voyage = Voyage(tmp_path, seed)
    await voyage.sail()
    assert voyage.acknowledged > 0
