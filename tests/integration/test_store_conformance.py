"""What every engine behind the store's port keeps, whichever it is. An engine joins by its name in `ENGINES`, or in
`DURABLE` where it also keeps everything across a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from barque.client.clock import SystemClock
from barque.master.store.engine_etcd import EngineEtcd
from barque.master.store.engine_raft import EngineRaft, Settings
from barque.master.store.hub import HubSettings
from barque.master.store.port import (
    Absent,
    Committed,
    FieldIs,
    Filter,
    FutureRevisionError,
    HistoryGoneError,
    Refused,
    RevisionIs,
    SlowWatcherError,
    SnapshotRefusedError,
    Store,
    Unknown,
)
from barque.master.store.proposals import ProposalSettings
from tests.support import etcd
from tests.support.memory_store import MemoryStore
from tests.support.raft_group import RaftGroup, open_store
from tests.support.store import Reading, a_node, a_pod, a_secret, a_service

ROOT = Path(__file__).parents[2]


# History small enough to run out in a test, watchers soon too far behind.
HUB = HubSettings(history_changes=1000, watcher_changes=100, watcher_bytes=100_000)


class Engine(Protocol):
    """One store that can be opened and closed."""

    async def open(self) -> Store: ...

    async def close(self) -> None: ...


class Durable(Engine, Protocol):
    """`open` finds what was written before. `kills` is how many deaths one test can afford to show that."""

    kills: int

    def writer(self, turn: int) -> list[str]:
        """The command of a process that writes pods for ever and prints each one acknowledged."""
        ...


class InMemory:
    """What tests of other rooms stand on: it must keep the contract as the real ones do."""

    def __init__(self, path: Path) -> None:
        pass

    async def open(self) -> Store:
        return MemoryStore(SystemClock(), HUB)

    async def close(self) -> None:
        pass


# Snapshots often enough to happen in a test.
SETTINGS = Settings(
    segment_bytes=64 * 1024, snapshot_log_bytes=160 * 1024, hub=HUB, proposals=ProposalSettings(deadline_s=30.0)
)


class RaftAlone:
    kills = 10

    def __init__(self, path: Path) -> None:
        self._path = path / "store"
        self._store: EngineRaft | None = None

    async def open(self) -> Store:
        await self.close()
        self._store = await open_store(self._path, SystemClock(), SETTINGS)
        return self._store

    async def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    def writer(self, turn: int) -> list[str]:
        return [sys.executable, "-m", "tests.support.store_writer", "load", str(self._path), str(turn)]


class RaftOfThree:
    """Three members in one process; the store is one that does not lead."""

    kills = 4

    def __init__(self, path: Path) -> None:
        self._path = path
        self._group: RaftGroup | None = None

    async def open(self) -> Store:
        await self.close()
        self._group = RaftGroup(self._path, SETTINGS)
        await self._group.open()
        return await self._group.follower()

    async def close(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            await group.close()

    def writer(self, turn: int) -> list[str]:
        return [sys.executable, "-m", "tests.support.store_writer", "load-three", str(self._path), str(turn)]


class ExternalEtcd:
    """Each test has a prefix of its own in the one etcd of the run."""

    kills = 5

    def __init__(self, path: Path) -> None:
        self._keys = path / "keys"
        self._prefix = f"/{path.name}"
        self._store: EngineEtcd | None = None

    async def open(self) -> Store:
        await self.close()
        self._store = await etcd.open_engine(etcd.shared().urls, self._prefix, self._keys, hub=HUB)
        return self._store

    async def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    def writer(self, turn: int) -> list[str]:
        where = [*etcd.shared().urls, self._prefix, str(self._keys)]
        return [sys.executable, "-m", "tests.support.etcd", "load", *where, str(turn)]


DURABLE: dict[str, Callable[[Path], Durable]] = {"raft": RaftAlone, "raft-3": RaftOfThree, "etcd": ExternalEtcd}
ENGINES: dict[str, Callable[[Path], Engine]] = {"memory": InMemory, **DURABLE}


@pytest.fixture(params=DURABLE)
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Durable]:
    engine = DURABLE[request.param](tmp_path)
    yield engine
    await engine.close()


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    engine = ENGINES[request.param](tmp_path)
    yield await engine.open()
    await engine.close()


web = a_pod("web")


async def commit_one(store: Store, *ops: object) -> Committed:
    (result,) = await store.commit(ops)  # type: ignore[arg-type]
    assert isinstance(result, Committed)
    return result


def names(store: Store, selected: Filter = Filter()) -> list[str]:
    return [s.key.name for s in store.list("pods", selected).items]


async def test_ops_of_one_commit_have_revisions_in_their_order(store: Store) -> None:
    results = await store.commit([a_pod(f"p{n}").put() for n in range(1000)])
    revisions = [r.revision for r in results if isinstance(r, Committed)]
    assert revisions == list(range(revisions[0], revisions[0] + 1000))
    assert store.revision == revisions[-1]
    stored = store.get(a_pod("p7").key)
    assert stored is not None
    assert stored.json == a_pod("p7").json_at(revisions[7])
    assert await store.commit([]) == []


async def test_commits_of_many_are_each_answered_and_ordered(store: Store) -> None:
    async def write(writer: int) -> list[int]:
        return [(await commit_one(store, a_pod(f"w{writer}").saying(str(n)).put())).revision for n in range(20)]

    answers = await asyncio.gather(*(write(n) for n in range(32)))
    assert all(own == sorted(own) for own in answers)
    assert len({revision for own in answers for revision in own}) == 32 * 20
    assert len(names(store)) == 32


async def test_an_update_that_changes_nothing_keeps_the_revision(store: Store) -> None:
    first = await commit_one(store, web.put())
    assert await commit_one(store, web.put()) == Committed(first.revision, changed=False)
    assert store.revision == first.revision


async def test_compares_refuse_one_op_and_spare_the_others(store: Store) -> None:
    first = await commit_one(store, web.put())
    results = await store.commit(
        [
            web.saying("x").put(Absent(web.key)),
            a_pod("a").put(),
            web.saying("y").put(RevisionIs(web.key, first.revision + 5)),
            a_pod("b").put(FieldIs(a_node("none").key, "f", "")),
            web.saying("z").put(RevisionIs(web.key, first.revision)),
        ]
    )
    at = first.revision
    assert results == [Refused(0, at), Committed(at + 1), Refused(0, at), Refused(0, 0), Committed(at + 2)]


async def test_of_many_who_compare_the_same_revision_one_wins(store: Store) -> None:
    first = await commit_one(store, web.put())
    ops = [web.saying(str(n)).put(RevisionIs(web.key, first.revision)) for n in range(50)]
    results = [r for (r,) in await asyncio.gather(*(store.commit([op]) for op in ops))]
    assert sum(isinstance(r, Committed) for r in results) == 1


async def test_a_reservation_is_never_held_twice(store: Store) -> None:
    dice = random.Random(7)
    addresses = [f"clusterip/10.96.0.{n}" for n in range(20)]
    held: dict[str, str] = {}

    async def create(number: int) -> None:
        service = a_service(f"s{number}")
        for _ in range(10):
            address = dice.choice(addresses)
            (result,) = await store.commit([service.put(Absent(service.key), reserve=[address])])
            if isinstance(result, Committed):
                assert held.setdefault(address, service.key.name) == service.key.name
                if dice.random() < 0.5:
                    return
                del held[address]
                await store.commit([service.delete()])
            else:
                assert result == Refused(-1, reservation=address)

    await asyncio.gather(*(create(n) for n in range(60)))
    assert {r: k.name for r, k in store.reserved("clusterip/").items()} == held


async def test_an_op_sent_again_returns_its_first_result_even_after_a_restart(durable: Durable) -> None:
    store = await durable.open()
    create = web.put(Absent(web.key), reserve=["r"], boot_id="m1", sequence=1)
    refused = a_pod("b").put(Absent(web.key), boot_id="m1", sequence=2)
    first = await store.commit([create, refused])
    await store.commit([web.delete()])
    assert await store.commit([create, refused]) == first
    for n in range(10):
        await store.commit([a_pod(f"p{n}-{m}").sized(1000).put() for m in range(100)])
    store = await durable.open()
    revision = store.revision
    assert await store.commit([create, refused]) == first
    assert store.revision == revision
    assert store.get(web.key) is None


async def test_a_restart_finds_everything_as_it_was(durable: Durable) -> None:
    store = await durable.open()
    await store.commit([a_pod(f"p{n}").on(f"n{n % 3}").labelled(app="a").sized(3000).put() for n in range(100)])
    await store.commit([a_service("s").put(reserve=["ip/1"]), a_pod("p7").delete()])
    before = (store.cluster_id, store.revision, store.list("pods"), store.reserved(""))
    assert store.cluster_id
    store = await durable.open()
    assert (store.cluster_id, store.revision, store.list("pods"), store.reserved("")) == before
    assert len(store.list("pods", Filter(node="n1")).items) == 32


async def test_a_watch_resumes_across_a_restart_without_a_gap(durable: Durable) -> None:
    store = await durable.open()
    revisions = [(await commit_one(store, web.sized(1000 + n).put())).revision for n in range(400)]
    reading = Reading(store.watch("pods", revisions[0]))
    await reading.until(250)
    seen = reading.events[249].revision
    await reading.stop()
    store = await durable.open()
    resumed = Reading(store.watch("pods", seen))
    last = await commit_one(store, web.delete())
    count = len(revisions) - revisions.index(seen)
    await resumed.until(count)
    assert [e.revision for e in resumed.events] == [*revisions[revisions.index(seen) + 1 :], last.revision]
    assert [e.type for e in resumed.events] == ["MODIFIED"] * (count - 1) + ["DELETED"]
    await resumed.stop()


async def test_history_that_is_gone_is_an_error_of_its_own(store: Store) -> None:
    first = await commit_one(store, web.put())
    await store.commit([web.saying(str(n)).put() for n in range(1100)])
    with pytest.raises(HistoryGoneError):
        await anext(store.watch("pods", first.revision))
    with pytest.raises(HistoryGoneError):
        await anext(store.changes(first.revision))


async def test_entering_and_leaving_a_filter(store: Store) -> None:
    base = store.revision
    blue = Filter(node="n1", matches=lambda labels, fields: labels.get("colour") == "blue")
    reading = Reading(store.watch("pods", base, blue))
    await store.commit([web.labelled(colour="blue").put(), web.labelled(colour="blue").on("n1").put()])
    await store.commit([web.labelled(colour="red").on("n1").put(), web.delete()])
    await store.commit([web.labelled(colour="blue").on("n1").put(), web.delete()])
    assert await reading.until(4) == [
        f"ADDED web {base + 2}", f"DELETED web {base + 3}", f"ADDED web {base + 5}", f"DELETED web {base + 6}"
    ]  # fmt: skip
    await reading.stop()


async def test_a_slow_watcher_is_cut_off_and_resumes(store: Store) -> None:
    base = store.revision
    slow = store.watch("pods", base)
    await commit_one(store, web.put())
    await anext(slow)
    await store.commit([web.saying(str(n)).put() for n in range(200)])
    with pytest.raises(SlowWatcherError):
        await anext(slow)
    resumed = Reading(store.watch("pods", base + 1))
    await resumed.until(200)
    assert [e.revision for e in resumed.events] == list(range(base + 2, base + 202))
    await resumed.stop()


async def test_watchers_of_one_filter_get_the_same_batch(store: Store) -> None:
    alike = [store.watch("pods", store.revision, Filter(namespace="default")) for _ in range(3)]
    coming = [asyncio.ensure_future(anext(watch)) for watch in alike]
    await asyncio.sleep(0)
    await commit_one(store, web.put())
    first, *others = await asyncio.gather(*coming)
    assert all(batch is first for batch in others)
    for watch in alike:
        await watch.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_too_many_bytes_behind_is_cut_off(store: Store) -> None:
    slow = store.watch("pods", store.revision)
    await commit_one_while_reading(slow, store)
    for n in range(4):
        await store.commit([web.sized(30_000 + n).put()])
    with pytest.raises(SlowWatcherError, match="100000 bytes behind"):
        await anext(slow)


async def commit_one_while_reading(watch: AsyncIterator[object], store: Store) -> None:
    coming = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await commit_one(store, web.put())
    await coming


async def test_a_list_and_the_watch_after_it_make_the_whole(store: Store) -> None:
    async def churn(worker: int) -> None:
        for n in range(30):
            pod = a_pod(f"w{worker}-{n % 5}")
            await store.commit([pod.delete() if n % 7 == 3 else pod.saying(str(n)).put()])

    writing = asyncio.gather(*(churn(n) for n in range(10)))
    while store.revision < 60:
        await asyncio.sleep(0)
    listing = store.list("pods")
    reading = Reading(store.watch("pods", listing.revision))
    assert max(s.revision for s in listing.items) <= listing.revision
    await writing
    state = {s.key.name: s.json for s in listing.items}
    marker = await commit_one(store, a_pod("marker").put())
    while not reading.events or reading.events[-1].revision < marker.revision:
        await reading.until(len(reading.events) + 1)
    for word, event in zip(reading.said, reading.events, strict=True):
        name = word.split()[1]
        if event.type == "DELETED":
            del state[name]
        else:
            state[name] = event.json
    assert state == {s.key.name: s.json for s in store.list("pods").items}
    await reading.stop()


async def test_all_changes_come_to_the_feed(store: Store) -> None:
    base = store.revision
    feed = Reading(store.changes(base))
    await store.commit([web.put(), a_service("s").put(), web.delete()])
    while len(feed.events) < 3:
        await asyncio.sleep(0)
    assert [(c.revision - base, str(c.key)) for c in feed.events] == [
        (1, "pods/default/web"), (2, "services/default/s"), (3, "pods/default/web")
    ]  # fmt: skip
    await feed.stop()


async def test_a_list_at_an_older_revision_is_what_it_was(store: Store) -> None:
    pods = [a_pod(f"p{n}").on(f"n{n % 2}") for n in range(6)]
    await store.commit([pod.put() for pod in pods])
    selections = (Filter(), Filter(node="n1"), Filter(name="p2"), Filter(namespace="default"))
    then = {chosen: store.list("pods", chosen) for chosen in selections}
    await store.commit([pods[1].saying("x").on("n0").put(), pods[2].delete(), a_pod("p25").on("n1").put()])
    await store.commit([pods[2].saying("again").on("n1").put(), pods[1].saying("y").put(), a_service("s").put()])
    for chosen, listing in then.items():
        assert store.list("pods", chosen, listing.revision) == listing
        assert store.list("pods", chosen, store.revision) == store.list("pods", chosen)


async def test_a_list_of_a_revision_gone_or_to_come_is_an_error_of_its_own(store: Store) -> None:
    first = await commit_one(store, web.put())
    await store.commit([web.saying(str(n)).put() for n in range(1100)])
    with pytest.raises(HistoryGoneError):
        store.list("pods", revision=first.revision)
    with pytest.raises(FutureRevisionError):
        store.list("pods", revision=store.revision + 1)


async def test_a_watch_from_a_revision_to_come_waits_for_it(store: Store) -> None:
    base = store.revision
    reading = Reading(store.watch("pods", base + 1))
    await asyncio.sleep(0)
    await store.commit([web.put(), web.saying("x").put()])
    assert await reading.until(1) == [f"MODIFIED web {base + 2}"]
    await store.wait_for_revision(base + 2)
    await reading.stop()


async def test_an_op_older_than_the_results_kept_is_unknown_and_not_applied(store: Store) -> None:
    create = web.put(Absent(web.key), boot_id="m1", sequence=1)
    await store.commit([create, *(a_pod("b").saying(str(n)).put(boot_id="m1", sequence=n) for n in range(2, 4200))])
    await store.commit([web.delete()])
    revision = store.revision
    (result,) = await store.commit([create])
    assert isinstance(result, Unknown)
    assert (store.revision, store.get(web.key)) == (revision, None)


@pytest.mark.flaky(reruns=0)  # What is lost is lost: no second try.
async def test_a_barrier_returns_what_was_acknowledged(store: Store) -> None:
    last = await commit_one(store, web.put())
    assert await store.barrier() >= last.revision


async def saved(store: Store) -> bytes:
    return b"".join([chunk async for chunk in store.save_snapshot()])


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


async def test_a_saved_snapshot_restored_takes_the_place_of_everything(store: Store) -> None:
    await store.commit([web.put(), a_secret("db").put(), a_service("s").put(reserve=["ip/1"])])
    data = await saved(store)
    kept = store.list("pods").items
    await store.commit([web.saying("later").put(), a_pod("more").put(), a_service("s").delete()])
    later = store.revision
    reading = Reading(store.watch("pods", later))
    await asyncio.sleep(0)
    restored = await store.restore_snapshot(chunks_of(data))
    assert restored == (store.revision, 3)
    assert store.revision >= later + 10**9
    assert store.list("pods").items == kept
    assert store.get(a_secret("db").key) is not None
    assert list(store.reserved("")) == ["ip/1"]
    assert isinstance(await reading.ended(), HistoryGoneError)
    with pytest.raises(HistoryGoneError):
        await anext(store.watch("pods", later))
    assert await commit_one(store, web.saying("on").put()) == Committed(restored.revision + 1)
    await reading.stop()


async def test_a_snapshot_that_is_not_whole_is_refused_and_changes_nothing(store: Store) -> None:
    await store.commit([a_pod(f"p{n}").sized(500).put() for n in range(50)])
    data = await saved(store)
    await commit_one(store, web.put())
    before = store.list("pods")
    for damaged in (data[:-1], data[: len(data) // 2], bytes([data[0] ^ 1]) + data[1:], b"", b"no snapshot at all"):
        with pytest.raises(SnapshotRefusedError):
            await store.restore_snapshot(chunks_of(damaged))
    for offset in range(0, len(data), 97):
        flipped = data[:offset] + bytes([data[offset] ^ 8]) + data[offset + 1 :]
        with pytest.raises(SnapshotRefusedError):
            await store.restore_snapshot(chunks_of(flipped))
    assert store.list("pods") == before


async def test_secrets_are_what_they_were_under_a_new_key(store: Store) -> None:
    await store.commit([a_secret(f"s{n}").saying(str(n)).put() for n in range(3)])
    before, key_id = store.list("secrets"), store.figures().key_id
    rotated = await store.rotate_key()
    assert rotated == (store.figures().key_id, 3)
    assert rotated.key_id != key_id
    assert store.list("secrets") == before


async def test_new_keys_and_a_restore_hold_across_a_restart(durable: Durable) -> None:
    store = await durable.open()
    await store.commit([web.put(), *(a_secret(f"s{n}").saying(str(n)).put() for n in range(20))])
    data = await saved(store)
    await store.rotate_key()
    await store.commit([a_secret("s3").delete(), web.saying("x").put()])
    before = store.list("secrets"), store.list("pods")
    store = await durable.open()
    assert (store.list("secrets"), store.list("pods")) == before
    with pytest.raises(SnapshotRefusedError, match="sealed with key"):
        await store.restore_snapshot(chunks_of(data))
    await store.restore_snapshot(chunks_of(await saved(store)))
    await store.commit([web.delete()])
    before = store.list("secrets"), store.list("pods")
    store = await durable.open()
    assert (store.list("secrets"), store.list("pods")) == before


async def test_a_write_during_a_restore_holds_before_it_or_after_it(durable: Durable) -> None:
    store = await durable.open()
    await store.commit([a_pod(f"p{n}").sized(500).put() for n in range(500)])
    data = await saved(store)
    acknowledged: dict[str, int] = {}

    begun = asyncio.Event()
    over = False

    async def write(worker: int) -> None:
        for number in itertools.count():
            last = over
            pod = a_pod(f"w{worker}-{number}")
            acknowledged[pod.key.name] = (await commit_one(store, pod.put())).revision
            begun.set()
            if last:
                return

    writing = asyncio.gather(*(write(worker) for worker in range(8)))
    await begun.wait()
    restored = await store.restore_snapshot(chunks_of(data))
    over = True
    await writing
    after = {name: revision for name, revision in acknowledged.items() if revision > restored.revision}
    assert 0 < len(after) < len(acknowledged)
    before = store.list("pods")
    assert {s.key.name: s.revision for s in before.items if s.key.name.startswith("w")} == after
    store = await durable.open()
    assert store.list("pods") == before


@pytest.mark.flaky(reruns=0)  # What is lost is lost: no second try.
@pytest.mark.timeout(400)
async def test_every_acknowledged_write_survives_kills(durable: Durable) -> None:
    dice = random.Random(11)
    acknowledged: dict[str, int] = {}
    for turn in range(durable.kills):
        process = await asyncio.create_subprocess_exec(
            *durable.writer(turn), stdout=asyncio.subprocess.PIPE, cwd=ROOT, limit=1 << 20
        )
        assert process.stdout is not None
        wanted = dice.randrange(1, 900)
        try:
            async with asyncio.timeout(120):
                for _ in range(wanted):
                    line = await process.stdout.readline()
                    assert line, "the writer ended by itself"
                    name, revision = line.split()
                    acknowledged[name.decode()] = int(revision)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
        for line in rest.splitlines():
            name, revision = line.split()
            acknowledged[name.decode()] = int(revision)
        store = await durable.open()
        found = {s.key.name: s.revision for s in store.list("pods").items}
        assert {name: found.get(name) for name in acknowledged} == acknowledged
        assert len(set(found.values())) == len(found)
        await durable.close()
    assert len(acknowledged) > 100 * durable.kills
