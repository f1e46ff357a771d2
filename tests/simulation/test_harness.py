"""The simulator's own parts: time, processes, what a disk forgets. The real log runs on the disk here, alone."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from barque.master.raft.errors import CorruptFileError
from barque.master.raft.messages import Entry, HardState
from barque.master.raft.wal import LogWriteError, open_wal
from tests.simulation.harness.disk import MachineStoppedError, Medium, SimDisk
from tests.simulation.harness.loop import HangError, Process, SimLoop

DIRECTORY = Path("/store")


def a_medium(seed: int = 1) -> Medium:
    medium = Medium(random.Random(seed), Counter())
    medium.make_directory(DIRECTORY)
    return medium


def test_time_passes_only_when_nothing_is_ready() -> None:
    loop = SimLoop()
    said: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        said.append((name, loop.time()))

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.gather(sleeper("a", 60), sleeper("b", 5), sleeper("never", 7200))

    loop.run(main(), limit_s=1e6)
    loop.close()
    assert said == [("b", 5.0), ("a", 60.0)]
    assert loop.failures == []


def test_a_killed_process_runs_no_further_not_even_its_clean_up() -> None:
    loop = SimLoop()
    said: list[str] = []

    async def work() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                said.append("works")
        finally:
            said.append("cleans up")

    async def main() -> None:
        process = loop.new_process("one")
        loop.spawn(process, work())
        await asyncio.sleep(2.5)
        loop.kill(process)
        await asyncio.sleep(10)

    loop.run(main(), limit_s=60)
    assert said == ["works", "works"]
    loop.close()


def test_a_paused_process_goes_on_later_and_its_clock_has_its_own_rate() -> None:
    loop = SimLoop()
    woken: list[float] = []

    async def work() -> None:
        for _ in range(2):
            await asyncio.sleep(1)
            woken.append(loop.time())

    async def main() -> None:
        process = loop.new_process("slow", rate=0.5)
        loop.spawn(process, work())
        loop.pause(process)
        await asyncio.sleep(7)
        loop.resume(process)
        await asyncio.sleep(7)

    loop.run(main(), limit_s=60)
    loop.close()
    assert woken == [9.0, 11.0]


def test_real_threads_and_endless_turns_are_refused() -> None:
    loop = SimLoop()

    async def main() -> None:
        with pytest.raises(NotImplementedError):
            await asyncio.to_thread(int)

        def again() -> None:
            loop.call_soon(again)

        again()
        await asyncio.sleep(1)

    with pytest.raises(HangError):
        loop.run(main(), limit_s=60)
    loop.close()


def test_a_power_cut_keeps_what_was_synced_and_of_the_rest_any_part() -> None:
    seen: Counter[str] = Counter()
    for seed in range(200):
        medium = a_medium(seed)
        disk = SimDisk(medium, Process("one"))
        fd = disk.create(DIRECTORY / "file")
        disk.write(fd, b"a" * 700, 0)
        disk.sync(fd)
        disk.sync_directory(DIRECTORY)
        disk.write(fd, b"b" * 1500, 700)
        disk.create(DIRECTORY / "unsynced")
        medium.power_cut()
        content = disk.read(DIRECTORY / "file")
        assert content[:700] == b"a" * 700
        rest = content[700:]
        assert set(rest) <= {0, ord("b")}
        seen["whole" if rest == b"b" * 1500 else "torn" if rest.strip(b"\0") else "lost"] += 1
        seen["name kept" if "unsynced" in disk.names(DIRECTORY) else "name lost"] += 1
    assert set(seen) == {"whole", "torn", "lost", "name kept", "name lost"}


def test_a_failed_sync_marks_pages_clean_so_the_next_one_promises_nothing() -> None:
    lost = 0
    for seed in range(50):
        medium = a_medium(seed)
        disk = SimDisk(medium, Process("one"))
        fd = disk.create(DIRECTORY / "file")
        disk.sync_directory(DIRECTORY)
        disk.write(fd, b"a" * 2000, 0)
        medium.failing = True
        with pytest.raises(OSError, match="Input/output"):
            disk.sync(fd)
        medium.failing = False
        disk.sync(fd)
        assert disk.read(DIRECTORY / "file") == b"a" * 2000
        medium.power_cut()
        lost += disk.read(DIRECTORY / "file") != b"a" * 2000
    assert lost > 10


def test_the_log_loses_nothing_that_it_acknowledged_on_this_disk() -> None:
    """Power cuts between and inside its changes, full disks, failing syncs, entries replaced: what `append` returned
    from is read back, and of what it refused as undone nothing ever is.
    """
    for seed in range(60):
        choice = random.Random(seed)
        medium = a_medium(seed)
        kept: dict[int, tuple[int, bytes]] = {}
        open_ended: dict[int, set[tuple[int, bytes]]] = {}
        hard_states = [HardState()]
        for life in range(6):
            process = Process(f"life {life}")
            medium.stop = lambda process=process, medium=medium: (  # type: ignore[misc]
                setattr(process, "alive", False), medium.power_cut(),
            )  # fmt: skip
            disk = SimDisk(medium, process)
            medium.failing, medium.space = False, None
            wal = open_wal(DIRECTORY, disk, create=True, segment_bytes=2000)
            found = {r.index: (r.term, r.data) for r in wal.entries(0)}
            assert wal.hard_state in hard_states
            for index, entry in kept.items():
                assert found.get(index) == entry or found.get(index) in open_ended.get(index, ()), (seed, life, index)
            assert all(index in kept or found[index] in open_ended.get(index, ()) for index in found), (seed, life)
            kept, open_ended, hard_states = found, {}, [wal.hard_state]
            medium.stop_in = choice.randint(1, 60)
            try:
                for turn in range(40):
                    medium.failing, medium.space = choice.random() < 0.1, choice.choice((None, None, None, 300))
                    first = (
                        wal.last_index + 1 - (choice.randint(0, min(3, wal.last_index)) if choice.random() < 0.2 else 0)
                    )
                    term = life * 100 + turn
                    entries = [
                        Entry(index, term, 1, b"%d" % index * choice.choice((1, 200)))
                        for index in range(first, first + choice.randint(1, 4))
                    ]
                    hard_state = HardState(term, "x", 0) if choice.random() < 0.3 else None
                    trial = {entry.index: (entry.term, entry.data) for entry in entries}
                    if hard_state is not None:
                        hard_states.append(hard_state)
                    for index, entry in trial.items():
                        open_ended.setdefault(index, set()).add(entry)
                    before = {index: entry for index, entry in kept.items() if index < first}
                    for index in kept.keys() - before.keys():
                        open_ended.setdefault(index, set()).add(kept[index])
                    kept = before
                    try:
                        wal.append(entries, hard_state)
                    except LogWriteError as e:
                        if e.undone:
                            for index, entry in trial.items():
                                open_ended[index].discard(entry)
                    else:
                        kept = {**before, **trial}
                        open_ended.clear()
                        if hard_state is not None:
                            hard_states = [hard_state]
            except MachineStoppedError:
                continue
            process.alive = False
            medium.power_cut()


def test_a_flipped_bit_is_found_at_the_next_start() -> None:
    found = 0
    for seed in range(60):
        medium = a_medium(seed)
        disk = SimDisk(medium, Process("one"))
        wal = open_wal(DIRECTORY, disk, create=True)
        for index in range(1, 8):
            wal.append([Entry(index, 1, 1, b"x" * 100)], HardState(1, "x", 0))
        medium.power_cut()
        assert medium.flip_bit() is not None
        try:
            again = open_wal(DIRECTORY, SimDisk(medium, Process("two")), create=False)
            list(again.entries(0))
        except CorruptFileError:
            found += 1
    assert found == 60
