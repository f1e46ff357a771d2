"""What a store does with its whole state: Secrets sealed on disk, new keys, saving and restoring; and a stop at any
moment of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, KeyMissingError, StoreStartError
from barque.master.raft.messages import Entry, Kind
from barque.master.raft.segment import pack_entries, read_records
from barque.master.store import keyring
from barque.master.store.engine_raft import EngineRaft, Settings
from barque.master.store.port import (
    Absent,
    Committed,
    HistoryGoneError,
    Refused,
    SnapshotRefusedError,
    StoreUnavailableError,
)
from barque.master.store.records import encode_entry
from tests.support.clock import FakeClock
from tests.support.faulty_disk import Crash, CrashingDisk, FaultyDisk
from tests.support.raft_group import open_store
from tests.support.store import Reading, a_pod, a_secret, a_service, entropy, unpacked

SMALL = Settings(segment_bytes=20_000, snapshot_log_bytes=50_000)

VALUE = "correct horse battery staple"
ENCODED = base64.b64encode(VALUE.encode()).decode()
db = a_secret("db").saying(ENCODED)


async def store_at(root: Path, disk: Disk | None = None, settings: Settings = SMALL, seed: int = 1) -> EngineRaft:
    return await open_store(root / "store", FakeClock(), settings, disk=disk, entropy=entropy(seed))


async def at_rest(store: EngineRaft) -> None:
    while store._upkeep.task is not None:
        await asyncio.wait([store._upkeep.task])


async def churned(store: EngineRaft, rounds: int, label: str = "p") -> None:
    """Each round is about one snapshot's worth of log."""
    for n in range(rounds):
        await store.commit([a_pod(f"{label}{n}-{m}").sized(1000).put() for m in range(50)])
        await at_rest(store)


async def saved(store: EngineRaft) -> list[bytes]:
    return [chunk async for chunk in store.save_snapshot()]


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def exposed(root: Path) -> list[Path]:
    """Files under `root` that show the value, as it is, in base64, or in an encoding of either."""
    shown = (VALUE.encode(), ENCODED.encode(), ENCODED[4:-8].encode(), base64.b64encode(ENCODED.encode())[4:-8])
    files = [file for file in root.rglob("*") if file.is_file()]
    assert files
    return [file for file in files if any(form in unpacked(file) for form in shown)]


async def test_no_file_shows_a_secret(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    await store.commit([db.put(), a_pod("visible").saying(ENCODED).put()])
    assert [file.suffix for file in exposed(tmp_path)] == [".wal"]
    await store.commit([a_pod("visible").delete()])
    await store.rotate_key()
    assert exposed(tmp_path) == []
    await store.commit([a_secret("other").saying(VALUE).put(), db.saying(ENCODED + "!").put(), db.put()])
    await churned(store, 4)
    (tmp_path / "saved.snap").write_bytes(b"".join(await saved(store)))
    assert len(list(tmp_path.rglob("*.snap"))) == 3
    assert exposed(tmp_path) == []
    await store.close()
    assert exposed(tmp_path) == []
    store = await store_at(tmp_path)
    found = store.get(db.key)
    assert found is not None
    assert found.json == db.json_at(found.revision)
    await store.close()


async def test_what_an_older_release_wrote_plain_is_read_and_sealed_at_once(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    payload, _ = encode_entry([db.put()])
    await store.in_log(lambda: store._wal.append([Entry(1, 0, data=payload)]))
    await store.close()
    (tmp_path / "keys" / "ring.json").unlink()
    assert len(exposed(tmp_path)) == 1
    store = await store_at(tmp_path)
    assert store.get(db.key) is not None
    await at_rest(store)
    assert exposed(tmp_path) == []
    await store.close()
    store = await store_at(tmp_path)
    assert store.get(db.key) is not None
    assert store._ring.settled
    await store.close()


async def test_a_start_without_the_key_says_which_and_where(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    await store.commit([a_pod("first").put()])
    await store.commit([db.put()])
    key_id = store.figures().key_id
    await store.close()
    ring = tmp_path / "keys" / "ring.json"
    kept = ring.read_bytes()
    ring.unlink()
    with pytest.raises(KeyMissingError) as caught:
        await store_at(tmp_path, seed=2)
    (segment,) = tmp_path.rglob("*.wal")
    assert f"{segment} at offset {caught.value.offset}: secrets/default/db is sealed with key {key_id}" in str(
        caught.value
    )
    assert caught.value.offset > 24
    assert f"not in {ring}: put the ring file that holds it there" in str(caught.value)
    assert not ring.exists()
    await other_cluster(tmp_path / "other")
    ring.write_bytes((tmp_path / "other" / "keys" / "ring.json").read_bytes())
    with pytest.raises(KeyMissingError):
        await store_at(tmp_path)
    (ring.parent / "old.json").write_bytes(kept)
    store = await store_at(tmp_path)
    assert store.get(db.key) is not None
    await store.close()


async def other_cluster(root: Path) -> None:
    await (await store_at(root, seed=9)).close()


async def test_a_snapshot_without_its_key_stops_the_start_too(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    await store.commit([db.put()])
    await store.rotate_key()
    await store.close()
    (tmp_path / "keys" / "ring.json").unlink()
    with pytest.raises(KeyMissingError, match=r"\.snap at offset \d+: secrets/default/db is sealed with key"):
        await store_at(tmp_path, seed=2)


async def test_a_swapped_record_stops_the_start(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    await store.commit([a_secret("a").put()])
    await store.commit([a_secret("b").put()])
    await store.close()
    (segment,) = tmp_path.rglob("*.wal")
    # Both names are as long, so one record's payload fits in the other's place; its checksum is made to agree.
    data = segment.read_bytes()
    first, second = (record for record, _ in read_records(data) if record.kind == Kind.DATA)
    entries = [Entry(2, first.term, data=second.data), Entry(3, first.term, data=first.data)]
    swapped = pack_entries(entries, first.offset)
    segment.write_bytes(data[: first.offset] + swapped)
    where = f"{segment} is damaged at offset {first.offset}"
    with pytest.raises(CorruptFileError, match=f"{where}: secrets/default/b does not open"):
        await store_at(tmp_path)


async def test_a_new_key_is_the_only_one_and_all_is_sealed_with_it(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    await churned(store, 3)
    await store.commit([db.put(), a_secret("other").put()])
    before, state = store.figures(), store.machine.view()
    reading = Reading(store.watch("secrets", state.revision))
    rotated = await store.rotate_key()
    assert rotated.secrets == 2
    assert rotated.key_id == store.figures().key_id != before.key_id
    assert store.figures().log_bytes < 1000
    assert len(list(tmp_path.rglob("*.snap"))) == 1
    assert before.key_id not in (tmp_path / "keys" / "ring.json").read_text()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or bytes.fromhex(before.key_id) not in unpacked(file)
    assert store.machine.view() == state
    await store.commit([db.saying("2").put()])
    assert await reading.until(1) == [f"MODIFIED db {state.revision + 1}"]
    await reading.stop()
    await store.close()
    store = await store_at(tmp_path)
    assert store.revision == state.revision + 1
    assert len(store.machine) == len(state.objects)
    await store.close()


async def test_writes_go_on_while_a_key_is_rotated(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    old = bytes.fromhex(store.figures().key_id)
    await churned(store, 2)
    await store.commit([db.put()])
    written = [db.key.name]

    async def write(worker: int) -> None:
        while not rotating.done():
            secret = a_secret(f"s{worker}-{len(written)}").saying(ENCODED)
            (result,) = await store.commit([secret.put()])
            assert isinstance(result, Committed)
            written.append(secret.key.name)

    rotating = asyncio.ensure_future(store.rotate_key())
    await asyncio.gather(*(write(n) for n in range(4)))
    assert len(written) > 5
    await store.close()
    assert [file for file in tmp_path.rglob("*") if file.is_file() and old in unpacked(file)] == []
    store = await store_at(tmp_path)
    assert {s.key.name for s in store.list("secrets").items} == set(written)
    assert exposed(tmp_path) == []
    await store.close()


async def test_a_worn_key_is_replaced_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "MAX_USES", 20)
    monkeypatch.setattr(keyring, "_USES_BLOCK", 10)
    store = await store_at(tmp_path)
    first = store.figures().key_id
    for n in range(25):
        await store.commit([db.saying(str(n)).put()])
    await at_rest(store)
    assert store.figures().key_id != first
    await store.close()
    store = await store_at(tmp_path)
    assert store.revision == 25
    await store.close()


async def test_a_disk_that_refuses_a_rotation_keeps_both_keys(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await store_at(tmp_path, disk)
    await store.commit([db.put()])
    first = store.figures().key_id
    for failing in ("create", "write", "sync", "rename"):
        disk.failing = {failing}
        with pytest.raises(StoreUnavailableError, match="try again"):
            await store.rotate_key()
        disk.failing = set()
        assert first in (tmp_path / "keys" / "ring.json").read_text()
        await store.commit([db.saying(failing).put()])
        await at_rest(store)
    rotated = await store.rotate_key()
    assert (tmp_path / "keys" / "ring.json").read_text().count('"id"') == 1
    assert rotated.key_id == store.figures().key_id
    await store.close()
    store = await store_at(tmp_path)
    assert store.revision == 5
    await store.close()


async def test_figures(tmp_path: Path) -> None:
    store = await store_at(tmp_path)
    assert store.figures().fsync_p50_ms == 0.0
    await store.commit([db.put(), a_pod("a").put()])
    figures = store.figures()
    files = {suffix: sum(f.stat().st_size for f in tmp_path.rglob(f"*{suffix}")) for suffix in (".wal", ".snap")}
    assert (figures.objects, figures.log_bytes, figures.snapshot_bytes) == (2, files[".wal"], 0)
    assert figures.key_created == "2026-01-01T00:00:00Z"
    await store.rotate_key()
    assert store.figures().snapshot_bytes == next(tmp_path.rglob("*.snap")).stat().st_size
    await store.close()
    store = await store_at(tmp_path)
    assert store.figures().snapshot_bytes == next(tmp_path.rglob("*.snap")).stat().st_size
    await store.close()


async def a_past(root: Path) -> tuple[EngineRaft, list[bytes]]:
    """A store, and a snapshot of it from before its last changes."""
    store = await store_at(root)
    await churned(store, 1)
    await store.commit([db.put(), a_service("s").put(reserve=["ip/1"])])
    chunks = await saved(store)
    await store.commit([db.saying("newer").put(), a_service("s").delete(), a_pod("later").put()])
    await store.commit([a_service("t").put(reserve=["ip/1"])])
    return store, chunks


async def test_a_restore_replaces_the_whole_state(tmp_path: Path) -> None:
    store, chunks = await a_past(tmp_path)
    before, cluster_id = store.revision, store.cluster_id
    restored = await store.restore_snapshot(chunks_of(*chunks))
    assert restored.revision == store.revision == before + 10**9
    assert restored.objects == len(store.machine) == 52
    for _ in range(2):
        found = store.get(db.key)
        assert found is not None
        assert found.json == db.json_at(51)
        assert store.get(a_pod("later").key) is None
        assert store.get(a_service("t").key) is None
        assert store.reserved("") == {"ip/1": a_service("s").key}
        assert store.cluster_id == cluster_id
        with pytest.raises(HistoryGoneError):
            await anext(store.watch("pods", before))
        with pytest.raises(HistoryGoneError):
            store.list("pods", revision=before)
        assert len(list((tmp_path / "store").glob("*.snap"))) == 1
        await store.close()
        store = await store_at(tmp_path)
    revision = store.revision
    assert await store.commit([a_pod("after").put()]) == [Committed(revision + 1)]
    await store.close()
    store = await store_at(tmp_path)
    assert store.revision == revision + 1
    reading = Reading(store.watch("pods", revision))
    assert await reading.until(1) == [f"ADDED after {revision + 1}"]
    await reading.stop()
    await store.close()


async def test_every_watch_ends_with_a_restore_and_writes_go_on_after_it(tmp_path: Path) -> None:
    store, chunks = await a_past(tmp_path)
    readings = [Reading(store.watch("pods", store.revision)), Reading(store.changes(store.revision))]
    await asyncio.sleep(0)
    restoring = asyncio.ensure_future(store.restore_snapshot(chunks_of(*chunks)))
    writes = [asyncio.ensure_future(store.commit([a_pod(f"w{n}").put()])) for n in range(20)]
    restored = await restoring
    assert all(isinstance(result, Committed) for (result,) in await asyncio.gather(*writes))
    for reading in readings:
        assert isinstance(await reading.ended(), HistoryGoneError)
    (result,) = await store.commit([a_pod("after").put()])
    assert result == Committed(store.revision)
    assert store.revision > restored.revision
    await churned(store, 3, "q")
    await store.close()
    store = await store_at(tmp_path)
    assert store.get(a_pod("after").key) is not None
    await store.close()


async def test_the_same_file_restored_twice_never_repeats_a_revision(tmp_path: Path) -> None:
    store, chunks = await a_past(tmp_path)
    first = await store.restore_snapshot(chunks_of(*chunks))
    await store.commit([a_pod("between").put()])
    second = await store.restore_snapshot(chunks_of(*chunks))
    assert second.revision == first.revision + 1 + 10**9
    await store.close()


async def test_an_op_sent_again_after_a_restore_is_not_applied_again(tmp_path: Path) -> None:
    store, chunks = await a_past(tmp_path)
    create = a_pod("once").put(Absent(a_pod("once").key), boot_id="m", sequence=1)
    first = await store.commit([create])
    await store.restore_snapshot(chunks_of(*chunks))
    for _ in range(2):
        assert await store.commit([create]) == first
        assert store.get(a_pod("once").key) is None
        await store.close()
        store = await store_at(tmp_path)
    assert await store.commit([a_pod("once").put(Absent(db.key))]) == [Refused(0, revision=51)]
    await store.close()


async def test_a_file_that_is_not_whole_changes_nothing(tmp_path: Path) -> None:
    store, chunks = await a_past(tmp_path)
    whole, state = b"".join(chunks), store.machine.view()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for wrong in (b"", b"hello", whole[:-1], whole[: len(whole) // 2], bytes(flipped), whole + whole[16:]):
        with pytest.raises(SnapshotRefusedError, match=r"^the file is damaged at offset \d+: "):
            await store.restore_snapshot(chunks_of(wrong))
    assert store.machine.view() == state

    async def broken_off() -> AsyncIterator[bytes]:
        yield whole[:100]
        raise ConnectionError("the client went away")

    with pytest.raises(ConnectionError):
        await store.restore_snapshot(broken_off())
    await store.commit([a_pod("after").put()])
    assert store.machine.view().revision == state.revision + 1
    await store.close()
    assert list(tmp_path.rglob("*.tmp")) == []


async def test_a_file_from_another_cluster_needs_the_key_that_sealed_it(tmp_path: Path) -> None:
    away, chunks = await a_past(tmp_path / "away")
    key_id = away.figures().key_id
    await away.close()
    store = await store_at(tmp_path / "here", seed=5)
    await store.commit([a_pod("old").put()])
    with pytest.raises(SnapshotRefusedError, match=f"secrets/default/db is sealed with key {key_id}, which is not in"):
        await store.restore_snapshot(chunks_of(*chunks))
    assert store.get(a_pod("old").key) is not None
    ring = tmp_path / "away" / "keys" / "ring.json"
    guest = tmp_path / "here" / "keys" / "away.json"
    guest.write_bytes(ring.read_bytes())
    assert (await store.restore_snapshot(chunks_of(*chunks))).objects == 52
    guest.unlink()
    await store.close()
    store = await store_at(tmp_path / "here")
    assert store.get(db.key) is not None
    assert store.get(a_pod("old").key) is None
    await store.close()


async def test_a_full_disk_refuses_a_restore(tmp_path: Path) -> None:
    store, chunks = await a_past(tmp_path)
    await store.close()
    disk = FaultyDisk()
    store = await store_at(tmp_path, disk)
    state = store.machine.view()
    for space in (0, 100, sum(map(len, chunks)) + 1000):
        disk.space = space
        with pytest.raises(StoreUnavailableError, match="No space left on device; nothing was restored"):
            await store.restore_snapshot(chunks_of(*chunks))
    disk.space = None
    assert store.machine.view() == state
    assert await store.commit([a_pod("after").put()]) == [Committed(state.revision + 1)]
    await store.close()
    store = await store_at(tmp_path)
    assert store.revision == state.revision + 1
    await store.close()


async def test_one_thing_at_a_time_and_none_once_the_store_stops(tmp_path: Path) -> None:
    store, chunks = await a_past(tmp_path)
    saving = store.save_snapshot()
    await anext(saving)
    for refused in (store.rotate_key(), store.restore_snapshot(chunks_of(*chunks)), anext(store.save_snapshot())):
        with pytest.raises(StoreUnavailableError, match="a snapshot is being saved: try again"):
            await refused
    await saving.aclose()  # type: ignore[attr-defined]
    await store.rotate_key()
    await store.close()
    for refused in (store.rotate_key(), store.restore_snapshot(chunks_of(*chunks)), anext(store.save_snapshot())):
        with pytest.raises(StoreUnavailableError, match="the store is stopping"):
            await refused


async def test_a_caller_that_goes_away_leaves_nothing_half_done(tmp_path: Path) -> None:
    store, chunks = await a_past(tmp_path)
    restoring = asyncio.ensure_future(store.restore_snapshot(chunks_of(*chunks)))
    while not store._upkeep._at_work:
        await asyncio.sleep(0)
    restoring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await restoring
    await store.close()
    store = await store_at(tmp_path)
    assert store.revision > 10**9
    await store.close()


Work = Callable[[EngineRaft], Awaitable[object]]


async def stopped_at(root: Path, prepare: Work, work: Work, step: int) -> tuple[CrashingDisk, bool]:
    """Run `work` on a machine that stops at its change number `step`; whether it got to its end."""
    disk = CrashingDisk(root)
    store = await store_at(root, disk)
    await prepare(store)
    await at_rest(store)
    disk.stop_at = disk.changes + step
    done = False
    with contextlib.suppress(Crash, StoreUnavailableError):
        await work(store)
        done = True
    disk.stop_at = disk.changes
    with contextlib.suppress(Crash):
        await store.close()
    return disk, done


async def with_secrets(store: EngineRaft) -> None:
    await churned(store, 3)
    await store.commit([a_secret(f"s{n}").saying(f"{ENCODED} {n}").put() for n in range(3)])


@pytest.mark.parametrize("stop", ["kill", "power cut"])
async def test_a_stop_at_any_moment_of_a_rotation_leaves_a_store_that_reads(tmp_path: Path, stop: str) -> None:
    step, done = 0, False
    while not done:
        root = tmp_path / str(step)
        root.mkdir()
        disk, done = await stopped_at(root, with_secrets, EngineRaft.rotate_key, step)
        step += 1
        if stop == "power cut":
            root = disk.power_cut(tmp_path / f"{step} cut")
        store = await store_at(root, seed=3)
        assert [s.json for s in store.list("secrets").items] == [
            a_secret(f"s{n}").saying(f"{ENCODED} {n}").json_at(151 + n) for n in range(3)
        ]
        assert len(store.machine) == 153
        await store.commit([a_secret("more").put()])
        await at_rest(store)
        assert store._ring.settled
        await store.close()
        assert (root / "keys" / "ring.json").read_text().count('"id"') == 1
        assert exposed(root) == []
    assert step > 15


@pytest.mark.parametrize("stop", ["kill", "power cut"])
async def test_a_stop_at_any_moment_of_a_restore_leaves_the_old_state_or_the_new(tmp_path: Path, stop: str) -> None:
    source = await store_at(tmp_path / "source")
    await source.commit([a_pod("restored").put(), db.put()])
    chunks = await saved(source)
    await source.close()

    async def prepare(store: EngineRaft) -> None:
        await churned(store, 3)
        await store.commit([a_secret("old").put()])

    async def restore(store: EngineRaft) -> object:
        return await store.restore_snapshot(chunks_of(*chunks))

    step, done, seen = 0, False, set()
    while not done:
        root = tmp_path / str(step)
        root.mkdir()
        disk, done = await stopped_at(root, prepare, restore, step)
        step += 1
        if stop == "power cut":
            root = disk.power_cut(tmp_path / f"{step} cut")
        for _ in range(2):
            store = await store_at(root, seed=3)
            names = {s.key.name for s in (*store.list("secrets").items, *store.list("pods").items)}
            assert names == {"restored", "db"} or len(names) == 151
            restored = "restored" in names
            assert restored == (store.revision > 10**9)
            seen.add(restored)
            assert restored or not done
            await store.close()
        store = await store_at(root, seed=3)
        await store.commit([a_pod("more").put()])
        await churned(store, 2, "q")
        revision = store.revision
        await store.close()
        store = await store_at(root, seed=3)
        assert store.revision == revision
        await store.close()
    assert seen == {True, False}


@pytest.mark.parametrize("stop", ["kill", "power cut"])
async def test_a_stop_at_any_moment_of_a_snapshot_loses_no_acknowledged_write(tmp_path: Path, stop: str) -> None:
    step, done = 0, False
    while not done:
        root = tmp_path / str(step)
        root.mkdir()
        acknowledged: list[str] = []

        async def write(store: EngineRaft, acknowledged: list[str] = acknowledged) -> None:
            for n in range(100):
                pod = a_pod(f"w{n}").sized(1000)
                (result,) = await store.commit([pod.put()])
                if not isinstance(result, Committed):
                    raise Crash
                acknowledged.append(pod.key.name)
            await at_rest(store)

        disk, done = await stopped_at(root, with_secrets, write, step)
        step += 7
        if stop == "power cut":
            root = disk.power_cut(tmp_path / f"{step} cut")
        store = await store_at(root, seed=3)
        names = {s.key.name for s in store.list("pods").items}
        assert names >= set(acknowledged)
        assert len(names) <= 150 + len(acknowledged) + 1
        await store.close()


async def test_a_damaged_ring_stops_the_start(tmp_path: Path) -> None:
    await (await store_at(tmp_path)).close()
    ring = tmp_path / "keys" / "ring.json"
    content = msgspec.json.decode(ring.read_bytes())
    content["keys"][0]["key"] = "A" * 43 + "="
    ring.write_bytes(msgspec.json.encode(content))
    with pytest.raises(StoreStartError, match=f"{ring} is damaged at offset .* was changed; put it back from a backup"):
        await store_at(tmp_path)
