"""Snapshots, entries and the start: what is written is what comes back, and what does not read is said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import msgspec
import pytest

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, DirectoryInUseError, NewerFormatError, StoreStartError
from barque.master.raft.messages import Configuration, Entry
from barque.master.raft.segment import read_records
from barque.master.raft.wal import open_wal
from barque.master.store.directory import Identity, open_directory
from barque.master.store.engine_raft import EngineRaft, Settings
from barque.master.store.fsm import StateMachine
from barque.master.store.hub import Hub
from barque.master.store.port import (
    Absent,
    Committed,
    FieldIs,
    HistoryGoneError,
    Key,
    Op,
    RevisionIs,
    StoreUnavailableError,
    Unknown,
)
from barque.master.store.proposals import ProposalSettings
from barque.master.store.records import decode_payload, encode_entry
from barque.master.store.recovery import recover
from barque.master.store.snapshot import (
    End,
    Head,
    Objects,
    Section,
    SnapshotFile,
    SnapshotWriter,
    encode_sections,
    find_snapshots,
    load_section,
    read_sections,
)
from tests.support.clock import FakeClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.raft_group import open_store
from tests.support.store import Reading, a_pod, a_ring, a_service

SMALL = Settings(segment_bytes=20_000, snapshot_log_bytes=50_000)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A directory with room beside it for the key ring."""
    store = tmp_path / "store"
    store.mkdir()
    return store


def a_full_machine() -> StateMachine:
    machine = StateMachine()
    ops = [a_pod(f"p{n:04}").on(f"n{n % 7}").labelled(app=f"a{n % 3}").sized(500).put() for n in range(3000)]
    ops += [a_service("s").put(reserve=["ip/1", "port/2"], boot_id="m1", sequence=1)]
    ops += [a_service("t").put(Absent(a_service("s").key), boot_id="m2", sequence=8)]
    machine.apply(ops)
    return machine


def saved(path: Path, machine: StateMachine, index: int = 3002, cluster_id: str = "c") -> SnapshotFile:
    writer = SnapshotWriter(path, Disk(), index)
    for section in sections_of(machine, path, index, cluster_id):
        writer.add(section)
    return writer.finish()


def sections_of(machine: StateMachine, path: Path, index: int = 1, cluster_id: str = "c") -> Iterator[bytes]:
    return encode_sections(machine.view(), Head(index, 0, machine.revision, cluster_id), a_ring(path.parent / "keys"))


def read(file: SnapshotFile) -> Iterator[Section]:
    return read_sections(file.path, file.path.read_bytes(), a_ring(file.path.parents[1] / "keys"))


def loaded(file: SnapshotFile) -> StateMachine:
    machine = StateMachine()
    for section in read(file):
        load_section(machine, section)
    return machine


def test_a_snapshot_holds_the_whole_state(tmp_path: Path) -> None:
    machine = a_full_machine()
    file = saved(tmp_path, machine)
    assert loaded(file).view() == machine.view()
    assert find_snapshots(tmp_path, Disk()) == [file]


def test_a_snapshot_is_encoded_in_slices_and_is_small(tmp_path: Path) -> None:
    machine = a_full_machine()
    sections = list(sections_of(machine, tmp_path))
    assert max(map(len, sections)) < 600_000
    assert sum(isinstance(s, Objects) for s in read(saved(tmp_path, machine))) > 5
    assert saved(tmp_path, machine).path.stat().st_size < sum(map(len, sections)) / 4


def test_a_snapshot_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, Disk(), 7)
    writer.add(next(sections_of(StateMachine(), tmp_path, 7)))
    assert [p.suffix for p in tmp_path.iterdir()] == [".tmp"]
    assert find_snapshots(tmp_path, Disk()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_anywhere_in_a_snapshot_is_noticed(tmp_path: Path) -> None:
    machine = StateMachine()
    machine.apply([a_pod("web").put()])
    file = saved(tmp_path, machine)
    whole = file.path.read_bytes()
    for offset in range(len(whole)):
        for wrong in (bytes([whole[offset] ^ 1]), b""):
            file.path.write_bytes(whole[:offset] + wrong + (whole[offset + 1 :] if wrong else b""))
            with pytest.raises(StoreStartError, match=str(file.path)):
                loaded(file)


def test_a_newer_snapshot_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, StateMachine())
    whole = file.path.read_bytes()
    header = whole[:8] + (9).to_bytes(4, "little")
    file.path.write_bytes(header + google_crc32c.value(header).to_bytes(4, "little") + whole[16:])
    with pytest.raises(NewerFormatError, match="format 9"):
        loaded(file)


def test_the_end_of_a_snapshot_counts_its_objects(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, Disk(), 1)
    for section in (Head(1, 0, 1, "c"), End(1)):
        writer.add(msgspec.msgpack.encode(section))
    with pytest.raises(CorruptFileError, match="its end is missing"):
        loaded(writer.finish())


def test_an_entry_reads_back_as_it_was() -> None:
    key = Key("pods", "default", "web")
    put = a_pod("web").on("n").labelled(a="b").put(
        Absent(key), RevisionIs(key, 3), FieldIs(key, "f", "v"), reserve=["r"], release=["q"], boot_id="m", sequence=4
    )  # fmt: skip
    delete = a_pod("db").delete(RevisionIs(key, 1))
    data, ops = encode_entry([put, delete])
    assert ops == [put, delete]
    assert decode_payload(data) == [put, delete]


def test_an_entry_of_a_newer_format_is_named() -> None:
    for newer in ([5, []], [5, "something else"]):
        with pytest.raises(NewerFormatError, match="a log entry has format 5"):
            decode_payload(msgspec.msgpack.encode(newer))


@pytest.mark.parametrize(
    "op",
    [
        Op("put", Key("pods", "d", "x"), b"{}", 3),
        Op("put", Key("pods", "d", "x"), b"{}", 0),
        Op("put", Key("pods", "d", "x")),
        Op("delete", Key("pods", "d", "x"), b"{}"),
        Op("delete", Key("pods", "d", "x"), reserve=("r",)),
        Op("put", Key("pods", "d", "x"), b"{}", 1, {"a": 1}),  # type: ignore[dict-item]
        Op("put", Key("pods", "d", "x"), b"x" * (9 << 20), 1),
    ],
)
def test_an_op_that_could_not_be_applied_never_reaches_the_log(op: Op) -> None:
    with pytest.raises(ValueError, match="pods/d/x"):
        encode_entry([op])


async def store_at(path: Path, settings: Settings = SMALL, disk: Disk | None = None) -> EngineRaft:
    return await open_store(path, FakeClock(), settings, disk=disk)


async def saving_done(store: EngineRaft) -> None:
    while store._upkeep.task is not None:
        await asyncio.wait([store._upkeep.task])


async def filled(path: Path, rounds: int = 10) -> EngineRaft:
    """Each round is about one snapshot's worth of log."""
    store = await store_at(path)
    for n in range(rounds):
        await store.commit([a_pod(f"p{n}-{m}").sized(1000).put() for m in range(50)])
        await saving_done(store)
    return store


async def test_two_snapshots_are_kept_and_the_log_stays_bounded(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    state, cluster_id = store.machine.view(), store.cluster_id
    await store.close()
    snapshots = find_snapshots(tmp_path, Disk())
    assert [s.index for s in snapshots] == [10, 11]
    assert sum(f.stat().st_size for f in tmp_path.glob("*.wal")) < 3 * SMALL.snapshot_log_bytes
    store = await store_at(tmp_path)
    assert store.machine.view() == state
    assert store.cluster_id == cluster_id
    reading = Reading(store.watch("pods", 450))
    assert (await reading.until(50))[0] == "ADDED p9-0 451"
    await reading.stop()
    with pytest.raises(HistoryGoneError):
        await anext(store.watch("pods", 449))
    await store.close()


async def test_of_the_log_not_one_entry_too_many_is_removed(tmp_path: Path) -> None:
    entry_by_entry = SMALL._replace(segment_bytes=1)
    store = await store_at(tmp_path, entry_by_entry)
    for n in range(200):
        await store.commit([a_pod(f"p{n % 20}").sized(1000 + n).put()])
        await saving_done(store)
    assert len(list(tmp_path.glob("*.snap"))) == 2
    oldest = min(int(file.stem.split("-")[1]) for file in tmp_path.glob("*.snap"))
    assert min(int(file.stem.split("-")[1]) for file in tmp_path.glob("*.wal")) == oldest + 1
    before = store.machine.view()
    await store.close()
    store = await store_at(tmp_path, entry_by_entry)
    assert store.machine.view() == before
    await store.close()


async def test_a_log_from_the_first_entry_gives_the_whole_history(tmp_path: Path) -> None:
    store = await filled(tmp_path, rounds=1)
    await store.close()
    assert len(find_snapshots(tmp_path, Disk())) == 1
    store = await store_at(tmp_path)
    reading = Reading(store.watch("pods", 0))
    assert len(await reading.until(50)) == 50
    await reading.stop()
    await store.close()


@pytest.mark.parametrize("which", [0, 1])
async def test_one_snapshot_that_does_not_read_costs_nothing_but_history(
    tmp_path: Path, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = await filled(tmp_path)
    state = store.machine.view()
    await store.close()
    file = find_snapshots(tmp_path, Disk())[which].path
    file.write_bytes(file.read_bytes()[:-3])
    store = await store_at(tmp_path)
    assert store.machine.view() == state
    assert (f"{file} is damaged" in caplog.text) == (which == 0)
    await store.close()


async def test_no_snapshot_that_reads_stops_the_start(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    for file in tmp_path.glob("*.snap"):
        file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CorruptFileError, match="restore the directory from a backup"):
        await store_at(tmp_path)


async def test_missing_files_stop_the_start(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    snapshots = sorted(tmp_path.glob("*.snap"))
    for file in snapshots:
        file.rename(file.with_suffix(".away"))
    with pytest.raises(StoreStartError, match="no snapshot before them"):
        await store_at(tmp_path)
    for file in snapshots:
        file.with_suffix(".away").rename(file)
    last = max(tmp_path.glob("*.wal"))
    data = last.read_bytes()
    _, end = next(read_records(data))
    last.write_bytes(data[:end])
    with pytest.raises(StoreStartError, match=r"the log ends at entry \d+, before the snapshot at 11"):
        await store_at(tmp_path)
    for file in tmp_path.glob("*.wal"):
        file.unlink()
    with pytest.raises(StoreStartError, match="has no log files any more"):
        await store_at(tmp_path)


async def test_a_first_start_that_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    open_wal(tmp_path, Disk(), create=True).close()
    store = await store_at(tmp_path)
    await store.commit([a_pod("a").put()])
    await store.close()
    store = await store_at(tmp_path)
    assert store.revision == 1
    await store.close()


async def test_a_lost_identity_and_a_foreign_snapshot_stop_the_start(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    identity = tmp_path / "identity"
    kept = identity.read_bytes()
    identity.unlink()
    with pytest.raises(StoreStartError, match="has data but no identity file"):
        await store_at(tmp_path)
    cluster_id = msgspec.json.decode(kept)["cluster_id"]
    identity.write_bytes(kept.replace(cluster_id.encode(), b"other"))
    with pytest.raises(StoreStartError, match=f"of cluster {cluster_id}, here is other"):
        await store_at(tmp_path)
    identity.write_bytes(b"{")
    with pytest.raises(CorruptFileError, match="identity"):
        await store_at(tmp_path)
    identity.write_bytes(kept)
    await (await store_at(tmp_path)).close()


async def test_many_short_lives_still_lead_to_a_snapshot(tmp_path: Path) -> None:
    for n in range(8):
        store = await store_at(tmp_path)
        await store.commit([a_pod(f"p{n}").sized(10_000).put()])
        await saving_done(store)
        await store.close()
    assert [s.index for s in find_snapshots(tmp_path, Disk())] == [10]


async def test_a_snapshot_that_fails_is_said_and_tried_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, disk = FakeClock(), FaultyDisk()
    store = await open_store(tmp_path, clock, SMALL, disk=disk)
    disk.failing = {"rename"}
    await store.commit([a_pod(f"p{n}").sized(1000).put() for n in range(60)])
    await saving_done(store)
    assert "snapshot at entry 2: [Errno 5] Input/output error; the log grows until one succeeds" in caplog.text
    disk.failing = set()
    await store.commit([a_pod("a").put()])
    assert store._upkeep.task is None
    await clock.advance(31)
    await store.commit([a_pod("b").put()])
    await saving_done(store)
    assert [s.index for s in find_snapshots(tmp_path, Disk())] == [4]
    assert list(tmp_path.glob("*.tmp")) == []
    await store.close()


async def test_a_refusing_disk_refuses_commits_and_nothing_else(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await store_at(tmp_path, disk=disk)
    await store.commit([a_pod("kept").put()])
    reading = Reading(store.watch("pods", 0))
    disk.space = 100
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="No space left on device; nothing was written"):
            await store.commit([a_pod("lost").sized(500).put(), a_pod("lost2").put()])
    assert store.get(a_pod("kept").key) is not None
    assert store.get(a_pod("lost").key) is None
    disk.space = None
    assert await store.commit([a_pod("again").put()]) == [Committed(2)]
    assert await reading.until(2) == ["ADDED kept 1", "ADDED again 2"]
    await reading.stop()
    await store.close()


async def test_where_the_outcome_is_unknown_it_is_said(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await store_at(tmp_path, disk=disk)
    disk.failing = {"sync"}
    first, second = await store.commit([a_pod("a").put(), a_pod("b").put()])
    assert isinstance(first, Unknown)
    assert isinstance(second, Unknown)
    with pytest.raises(StoreUnavailableError, match="cannot begin a new log segment"):
        await store.commit([a_pod("c").put()])
    disk.failing = set()
    assert await store.commit([a_pod("d").put()]) == [Committed(1)]
    await store.close()
    store = await store_at(tmp_path)
    assert [s.key.name for s in store.list("pods").items] == ["d"]
    await store.close()


async def test_a_fault_of_ours_stops_the_store_and_is_raised_to_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await store_at(tmp_path)
    running = asyncio.create_task(store.run())
    reading = Reading(store.watch("pods", 0))
    await asyncio.sleep(0)

    def broken(self: StateMachine, ops: list[Op]) -> None:
        raise LookupError("a fault")

    monkeypatch.setattr(StateMachine, "apply", broken)
    results = await store.commit([a_pod("a").put()])
    assert isinstance(results[0], Unknown)
    with pytest.raises(LookupError, match="a fault"):
        await running
    with pytest.raises(StoreUnavailableError, match="the store has stopped: LookupError"):
        await store.commit([a_pod("b").put()])
    assert isinstance(await reading.ended(), StoreUnavailableError)
    await store.close()


async def test_more_than_may_wait_is_refused(tmp_path: Path) -> None:
    store = await store_at(tmp_path, SMALL._replace(proposals=ProposalSettings(waiting_bytes=5000)))
    answers = await asyncio.gather(
        *(store.commit([a_pod(f"p{n}").sized(1000).put()]) for n in range(10)), return_exceptions=True
    )
    refused = [a for a in answers if isinstance(a, StoreUnavailableError)]
    assert 1 <= len(refused) <= 6
    assert len(store.list("pods").items) == 10 - len(refused)
    await store.close()


async def test_closing_answers_what_waits_and_refuses_what_comes(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    waiting = [asyncio.create_task(store.commit([a_pod(f"p{n}").put()])) for n in range(20)]
    running = asyncio.create_task(store.run())
    await asyncio.sleep(0)
    await store.close()
    assert [await w for w in waiting] == [[Committed(n)] for n in range(1, 21)]
    await running
    with pytest.raises(StoreUnavailableError, match="the store is stopping"):
        await store.commit([a_pod("late").put()])
    await store.close()


async def test_a_directory_is_held_by_one(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    with pytest.raises(DirectoryInUseError, match=r"in use by another master \(process \d+\)"):
        await store_at(tmp_path)
    await store.close()
    await (await store_at(tmp_path)).close()


def test_recovery_fills_the_hub(tmp_path: Path) -> None:
    directory = open_directory(tmp_path, Disk(), Identity("c", "a", "m1", founded=True, alone=True))
    ring = a_ring(tmp_path.parent / "keys")
    alone = Configuration(voters=("a",))
    recovered = recover(directory, Disk(), Hub(FakeClock()), ring, 1 << 20, alone)
    recovered.wal.append([Entry(1, 0, data=encode_entry([a_pod("a").put(), a_pod("b").put()])[0])])
    recovered.wal.close()
    directory.keep_identity()
    hub = Hub(FakeClock())
    recovered = recover(directory, Disk(), hub, ring, 1 << 20, alone)
    assert (hub.revision, recovered.replica.machine.revision) == (2, 2)
    assert recovered.unsaved_bytes > 0
    recovered.wal.close()
    directory.release()


@pytest.mark.parametrize(("term", "last_index"), [(1, 3), (5, 2)])
def test_a_log_that_differs_where_a_received_snapshot_ends_is_void(tmp_path: Path, term: int, last_index: int) -> None:
    directory = open_directory(tmp_path, Disk(), Identity("c", "a", "m1", founded=False, alone=False))
    ring = a_ring(tmp_path.parent / "keys")
    wal = open_wal(tmp_path, Disk(), create=True)
    wal.append([Entry(n, 1, data=encode_entry([a_pod(f"p{n}").put()])[0]) for n in (1, 2, 3)])
    wal.close()
    directory.keep_identity()
    machine = StateMachine(7)
    writer = SnapshotWriter(tmp_path, Disk(), 2)
    for section in encode_sections(machine.view(), Head(2, term, 7, "c", restored=True), ring):
        writer.add(section)
    writer.finish()
    for _ in range(2):
        recovered = recover(directory, Disk(), Hub(FakeClock()), ring, 1 << 20, Configuration())
        assert recovered.wal.last_index == last_index
        assert [entry.index for entry in recovered.start.entries] == list(range(3, last_index + 1))
        assert (recovered.start.applied, recovered.start.base_term) == (2, term)
        assert len(recovered.replica.machine) == 0
        recovered.wal.close()
    directory.release()
