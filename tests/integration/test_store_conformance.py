"""What every engine behind the store's port keeps, whichever it is. An engine joins by its name in `ENGINES`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from barque.client.clock import SystemClock
from barque.master.store.hub import HubSettings
from barque.master.store.log_single import LogSingle, Settings, open_store
from barque.master.store.port import (
    Absent,
    Committed,
    FieldIs,
    Filter,
    HistoryGoneError,
    Refused,
    RevisionIs,
    SlowWatcherError,
    Store,
)
from tests.support.store import Reading, a_node, a_pod, a_service

ROOT = Path(__file__).parents[2]


class Engine(Protocol):
    """One store that can be closed and opened again on what it wrote."""

    async def open(self) -> Store: ...

    async def close(self) -> None: ...

    def writer(self, turn: int) -> list[str]:
        """The command of a process that writes pods for ever and prints each one acknowledged."""
        ...


class SingleLog:
    # History small enough to run out in a test, snapshots often enough to happen in one.
    SETTINGS = Settings(
        segment_bytes=64 * 1024,
        snapshot_log_bytes=160 * 1024,
        hub=HubSettings(history_changes=1000, watcher_changes=100),
    )

    def __init__(self, path: Path) -> None:
        self._path = path / "store"
        self._store: LogSingle | None = None

    async def open(self) -> Store:
        await self.close()
        self._store = await open_store(self._path, SystemClock(), self.SETTINGS)
        return self._store

    async def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    def writer(self, turn: int) -> list[str]:
        return [sys.executable, "-m", "tests.support.store_writer", "load", str(self._path), str(turn)]


ENGINES: dict[str, Callable[[Path], Engine]] = {"log_single": SingleLog}


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    made = ENGINES[request.param](tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def store(engine: Engine) -> Store:
    return await engine.open()


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


async def test_an_op_sent_again_returns_its_first_result_even_after_a_restart(engine: Engine) -> None:
    store = await engine.open()
    create = web.put(Absent(web.key), reserve=["r"], boot_id="m1", sequence=1)
    refused = a_pod("b").put(Absent(web.key), boot_id="m1", sequence=2)
    first = await store.commit([create, refused])
    await store.commit([web.delete()])
    assert await store.commit([create, refused]) == first
    for n in range(10):
        await store.commit([a_pod(f"p{n}-{m}").sized(1000).put() for m in range(100)])
    store = await engine.open()
    revision = store.revision
    assert await store.commit([create, refused]) == first
    assert store.revision == revision
    assert store.get(web.key) is None


async def test_a_restart_finds_everything_as_it_was(engine: Engine) -> None:
    store = await engine.open()
    await store.commit([a_pod(f"p{n}").on(f"n{n % 3}").labelled(app="a").sized(3000).put() for n in range(100)])
    await store.commit([a_service("s").put(reserve=["ip/1"]), a_pod("p7").delete()])
    before = (store.cluster_id, store.revision, store.list("pods"), store.reserved(""))
    assert store.cluster_id
    store = await engine.open()
    assert (store.cluster_id, store.revision, store.list("pods"), store.reserved("")) == before
    assert len(store.list("pods", Filter(node="n1")).items) == 32


async def test_a_watch_resumes_across_a_restart_without_a_gap(engine: Engine) -> None:
    store = await engine.open()
    revisions = [(await commit_one(store, web.sized(1000 + n).put())).revision for n in range(400)]
    reading = Reading(store.watch("pods", revisions[0]))
    await reading.until(250)
    seen = reading.events[249].revision
    await reading.stop()
    store = await engine.open()
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


async def test_a_barrier_returns_what_was_acknowledged(store: Store) -> None:
    last = await commit_one(store, web.put())
    assert await store.barrier() >= last.revision


async def test_every_acknowledged_write_survives_ten_kills(engine: Engine) -> None:
    dice = random.Random(11)
    acknowledged: dict[str, int] = {}
    for turn in range(10):
        process = await asyncio.create_subprocess_exec(
            *engine.writer(turn), stdout=asyncio.subprocess.PIPE, cwd=ROOT, limit=1 << 20
        )
        assert process.stdout is not None
        wanted = dice.randrange(1, 900)
        try:
            async with asyncio.timeout(30):
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
        store = await engine.open()
        found = {s.key.name: s.revision for s in store.list("pods").items}
        assert {name: found.get(name) for name in acknowledged} == acknowledged
        assert len(set(found.values())) == len(found)
        await engine.close()
    assert len(acknowledged) > 1000
