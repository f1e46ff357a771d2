"""The external etcd engine against real etcd: what it does when etcd, the line to it, or another master misbehaves.

What it keeps as every engine does is in `test_store_conformance`, how it starts in `test_store_etcd_start`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from barque.master.raft.errors import StoreStartError
from barque.master.raft.messages import MemberInfo
from barque.master.store.engine_etcd import EngineEtcd, member_id
from barque.master.store.etcd.client import EtcdRefusedError
from barque.master.store.etcd.layout import Keys
from barque.master.store.group import GroupError
from barque.master.store.port import (
    Absent,
    Committed,
    FieldIs,
    HistoryGoneError,
    Refused,
    RevisionIs,
    StoreUnavailableError,
    Unknown,
)
from tests.support import etcd
from tests.support.etcd_world import World, create, ctl, names, refused, until
from tests.support.store import AnObject, Reading, a_node, a_pod, a_secret, a_service

pytestmark = pytest.mark.skipif(bool(etcd.missing()), reason=etcd.missing())

web = a_pod("web")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.end()


def _etcds_revision() -> int:
    return int(ctl("get", "nothing", "--write-out=fields").split('"Revision" : ')[1].split()[0])


async def test_a_watch_goes_on_after_etcd_was_killed_and_writes_are_refused_meanwhile(tmp_path: Path) -> None:
    with etcd.running() as own:
        store = await etcd.open_engine(own.urls, "/b", tmp_path, patience_s=1)
        try:
            reading = Reading(store.watch("pods", store.revision))
            first = await create(store, web)
            own.members[0].kill()
            # Whether it was sent depends on what is noticed first.
            with suppress(StoreUnavailableError):
                (doubtful,) = await store.commit([a_pod("doubtful").put()])
                assert isinstance(doubtful, Unknown)
            why = await refused(store.commit([a_pod("lost").put()]))
            assert "etcd does not answer at 127.0.0.1:" in why
            assert why.endswith("nothing was written")
            assert "etcd does not answer" in await refused(store.barrier())
            assert store.fault
            assert store.get(web.key) is not None
            own.start()
            await until(lambda: store.leads, "it leads again")
            last = await create(store, a_pod("after"))
            await store.barrier()
            assert store.fault == ""
            events = await reading.until(2)
            assert events[0] == f"ADDED web {first.revision}"
            await until(lambda: reading.events[-1].revision == last.revision, "the newest came")
            revisions = [event.revision for event in reading.events]
            assert revisions == list(range(first.revision, last.revision + 1))
            assert names(store) - {"doubtful"} == {"web", "after"}
            await reading.stop()
        finally:
            await store.close()


@pytest.mark.flaky(reruns=0)  # What is lost is lost: no second try.
async def test_no_acknowledged_write_is_lost_when_etcds_leader_is_killed(tmp_path: Path) -> None:
    with etcd.running(3) as own:
        one = await etcd.open_engine(own.urls, "/b", tmp_path / "1", name="m1")
        other = await etcd.open_engine(own.urls[::-1], "/b", tmp_path / "2", name="m2")
        acknowledged: dict[str, int] = {}
        stop = asyncio.Event()

        async def write(store: EngineEtcd, worker: str) -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                pod = a_pod(f"w{worker}-{number}")
                with suppress(StoreUnavailableError):
                    (result,) = await store.commit([pod.put(Absent(pod.key))])
                    assert not isinstance(result, Refused)
                    if isinstance(result, Committed):
                        acknowledged[pod.key.name] = result.revision

        try:
            base = one.revision
            feed = Reading(other.changes(base))
            writing = asyncio.gather(*(write(s, f"{s.member_id}-{n}") for s in (one, other) for n in range(4)))
            for _ in range(2):
                await asyncio.sleep(0.4)
                victim = await asyncio.to_thread(own.leader)
                victim.kill()
                before = len(acknowledged)
                await until(lambda before=before: len(acknowledged) > before + 20, "writes go on")  # type: ignore[misc]
                await asyncio.to_thread(own.start, victim)
            stop.set()
            await writing
            await one.barrier()
            await other.barrier()
            found = {stored.key.name: stored.revision for stored in one.list("pods").items}
            assert {name: found.get(name) for name in acknowledged} == acknowledged
            # What nobody has heard of any more may still come.
            await until(lambda: one.list("pods") == other.list("pods"), "both have the same")
            await until(lambda: feed.events and feed.events[-1].revision == other.revision, "the feed is complete")
            assert [change.revision for change in feed.events] == list(range(base + 1, other.revision + 1))
            await feed.stop()
        finally:
            stop.set()
            await one.close()
            await other.close()


async def test_masters_see_each_others_writes_and_share_reservations(world: World) -> None:
    one, other = await world.master("m1"), await world.master("m2")
    reading = Reading(other.watch("pods", other.revision))
    written = await create(one, web)
    assert await reading.until(1) == [f"ADDED web {written.revision}"]
    assert await other.barrier() == written.revision
    assert other.get(web.key) == one.get(web.key)
    update = web.saying("newer").put(RevisionIs(web.key, written.revision))
    assert await other.commit([update]) == [Committed(written.revision + 1)]
    assert await one.commit([update]) == [Refused(0, written.revision + 1)]

    dice = random.Random(3)
    held: dict[str, str] = {}

    async def allocate(store: EngineEtcd, name: str) -> None:
        service = a_service(name)
        for _ in range(8):
            address = f"clusterip/10.96.0.{dice.randrange(12)}"
            (result,) = await store.commit([service.put(Absent(service.key), reserve=[address])])
            if isinstance(result, Committed):
                assert held.setdefault(address, name) == name
                return
            assert result == Refused(-1, reservation=address)

    await asyncio.gather(*(allocate(store, f"s{store.member_id}{n}") for n in range(12) for store in (one, other)))
    for store in (one, other):
        await store.barrier()
        assert {r: key.name for r, key in store.reserved("").items()} == held
    await reading.stop()


async def test_a_master_far_from_etcd_has_its_turn_while_a_near_one_writes_all_the_time(world: World) -> None:
    _, url = await world.line(delay_s=0.004)
    near, far = await world.master("m1"), await world.master("m2", (url,))
    count = {"near": 0, "far": 0}

    async def write(store: EngineEtcd, name: str, worker: int) -> None:
        while count["far"] < 20:
            (result,) = await store.commit([a_pod(f"{name}-{worker}").saying(str(count[name])).put()])
            assert isinstance(result, Committed)
            count[name] += 1

    async with asyncio.timeout(60):
        await asyncio.gather(*(write(near, "near", n) for n in range(16)), *(write(far, "far", n) for n in range(2)))
    await near.barrier()
    assert near.revision == sum(count.values())
    assert count["near"] > count["far"]


async def test_a_master_cut_off_stops_leading_and_its_late_write_is_refused(world: World) -> None:
    line, url = await world.line()
    old = await world.master("m1", (url,))
    await until(lambda: old.leads, "the first leads")
    new = await world.master("m2")
    assert not new.leads
    await until(lambda: [info.name for info in new.configuration.members] == ["m1", "m2"], "both are told of")
    assert new.group_figures().leader == member_id("m1")
    epoch = a_node("epoch")
    await old.commit([epoch.labelled(a="b").put()])
    fence = AnObject(epoch.key)
    first = fence.put()
    fields = {**first.fields, "epoch": "1"}
    await old.commit([_with_fields(fence, fields)])
    losing = asyncio.create_task(old.led(leads=False))
    began = asyncio.get_running_loop().time()
    line.cut()
    await asyncio.wait_for(losing, 30)
    assert asyncio.get_running_loop().time() - began < 10.0
    await asyncio.wait_for(new.led(leads=True), 30)
    assert not old.leads
    await new.commit([_with_fields(fence, {**first.fields, "epoch": "2"})])
    line.mend()
    late = await old.commit([web.put(FieldIs(epoch.key, "epoch", "1"))])
    assert late == [Refused(0, new.revision)]
    assert new.get(web.key) is None
    assert await new.commit([web.put(FieldIs(epoch.key, "epoch", "2"))]) == [Committed(new.revision)]


def _with_fields(made: AnObject, fields: dict[str, str]) -> object:
    op = made.saying(fields["epoch"]).put()
    return type(op)(op.verb, op.key, op.json, op.slot, op.labels, fields)


async def test_a_leader_that_stops_hands_over_at_once(world: World) -> None:
    one = await world.master("m1", lease_s=30)
    await until(lambda: one.leads, "the first leads")
    other = await world.master("m2", lease_s=30)
    await one.close()
    await asyncio.wait_for(other.led(leads=True), 20)
    assert not one.leads
    with pytest.raises(StoreUnavailableError):
        await one.led(leads=True)
    await until(lambda: len(other.configuration.members) == 1, "the first has gone")
    await other.add_member(MemberInfo("1", "m3", "10.0.0.3"))
    with pytest.raises(GroupError, match="a master named m2 runs already"):
        await other.add_member(MemberInfo("1", "m2", "10.0.0.2"))
    with pytest.raises(GroupError, match="a leading master that is stopped hands over"):
        await other.transfer()


async def test_a_write_whose_answer_is_lost_holds_once(world: World) -> None:
    line, url = await world.line()
    store, witness = await world.master("m1", (url,)), await world.master("m2")
    await create(store, web)
    base = store.revision
    line.mute = True
    writing = asyncio.create_task(store.commit([a_pod("once").put(Absent(a_pod("once").key), reserve=["ip/1"])]))
    await until(lambda: witness.revision == base + 1, "the write has reached etcd")
    assert not writing.done()
    line.cut()
    line.mend()
    assert await writing == [Committed(base + 1)]
    await store.barrier()
    assert (store.revision, store.reserved("")) == (base + 1, {"ip/1": a_pod("once").key})


async def test_reads_that_no_endpoint_answers_are_refused_in_time(world: World) -> None:
    lines = [await world.line() for _ in range(3)]
    store = await world.master("m1", tuple(url for _, url in lines), patience_s=0.5)
    for line, _ in lines:
        line.mute = True
    # One endpoint alone may take a second, and the second reader's question is asked after the first one's.
    told = await asyncio.gather(refused(store.barrier()), refused(store.barrier()))
    assert told == ["etcd has not answered within 0.5 s"] * 2
    for line, _ in lines:
        line.cut()
        line.mend()
    await until(lambda: not store.fault, "it answers")
    await store.barrier()


async def test_history_that_etcd_compacted_under_a_cut_off_master_is_410(world: World) -> None:
    line, url = await world.line()
    away, present = await world.master("m1", (url,)), await world.master("m2")
    await create(away, web)
    reading = Reading(away.watch("pods", away.revision))
    await asyncio.sleep(0)
    line.cut()
    await present.commit([web.delete()])
    await present.commit([a_pod(f"p{n}").put() for n in range(20)])
    # The newest transaction stays; the one before it is forgotten.
    ctl("compact", str(_etcds_revision()))
    line.mend()
    await until(lambda: away.revision == present.revision, "it has caught up")
    assert away.list("pods") == present.list("pods")
    assert isinstance(await reading.ended(), HistoryGoneError)
    resumed = Reading(away.watch("pods", away.revision))
    last = await create(present, a_pod("last"))
    assert await resumed.until(1) == [f"ADDED last {last.revision}"]
    await reading.stop()
    await resumed.stop()


async def test_the_leader_lets_etcd_forget_and_a_restart_finds_what_is_left(world: World) -> None:
    store = await world.master("m1", compaction_s=0.4)
    await until(lambda: store.leads, "it leads")
    for n in range(5):
        await store.commit([web.saying(str(n)).put()])
    oldest = _etcds_revision()

    def compacted() -> bool:
        done = etcd.shared().members[0].says("get", "nothing", f"--rev={oldest}")
        return "has been compacted" in done.stderr

    async with asyncio.timeout(30):
        while not await asyncio.to_thread(compacted):
            await store.commit([web.saying("again").put(), web.saying("and again").put()])
            await asyncio.sleep(0.2)
    before = store.list("pods")
    await store.close()
    again = await world.master("m1")
    assert again.list("pods") == before


async def test_keys_of_others_are_left_alone_and_none_of_ours_is_theirs(world: World) -> None:
    foreign = f"{world.prefix}s/head", f"{world.prefix}-more/state/x", "/registry/pods/default/web"
    for key in foreign:
        ctl("put", key, "theirs")
    store = await world.master()
    await create(store, web)
    for key in foreign:
        ctl("put", key, "theirs too")
    await store.barrier()
    assert (names(store), store.revision) == ({"web"}, 1)
    assert ctl("get", foreign[0], "--print-value-only").strip() == "theirs too"
    listed = ctl("get", "--prefix", f"{world.prefix}/", "--keys-only").split()
    assert {key.split("/")[2] for key in listed} == {
        "head",
        "ring",
        "generation",
        "leader",
        "members",
        "results",
        "state",
    }


async def test_a_restore_reaches_the_other_masters_and_leaves_nothing_of_the_old_state(world: World) -> None:
    one, other = await world.master("m1"), await world.master("m2")
    await one.commit([a_pod(f"p{n}").put() for n in range(250)])
    await one.commit([a_secret("db").put(), a_service("s").put(reserve=["ip/1"])])
    data = b"".join([chunk async for chunk in one.save_snapshot()])
    await one.commit([a_pod("later").put(), a_service("s").delete()])
    await other.barrier()
    reading = Reading(other.watch("pods", other.revision))

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    restored = await one.restore_snapshot(chunks())
    assert restored.objects == 252
    assert await other.barrier() == restored.revision
    assert other.list("pods") == one.list("pods")
    assert "later" not in names(other)
    assert list(other.reserved("")) == ["ip/1"]
    assert isinstance(await reading.ended(), HistoryGoneError)
    await until(
        lambda: len(ctl("get", "--prefix", f"{world.prefix}/state/", "--keys-only").split()) == 252, "the old has gone"
    )
    assert await create(other, a_pod("next")) == Committed(restored.revision + 1)
    await one.barrier()
    assert "next" in names(one)
    await reading.stop()


async def test_what_a_killed_restore_left_is_removed_by_the_next_leader(world: World) -> None:
    keys = Keys(world.prefix)
    one = await world.master("m1")
    await create(one, web)
    await one.close()
    ctl("put", (keys.state("abandoned") + b"pods/default/x").decode(), "half")
    store = await world.master("m1")
    await until(
        lambda: not ctl("get", "--prefix", keys.state("abandoned").decode(), "--keys-only").strip(), "it is removed"
    )
    assert names(store) == {"web"}


async def test_secrets_are_sealed_in_etcd_and_a_new_key_reaches_all_masters(world: World) -> None:
    one, other = await world.master("m1"), await world.master("m2")
    secrets = [a_secret(f"s{n}").saying("hushhush") for n in range(120)]
    await one.commit([secret.put() for secret in secrets])
    rotated = await one.rotate_key()
    assert rotated.secrets == 120
    await other.barrier()
    await until(lambda: other.figures().key_id == rotated.key_id, "the other has the key")
    await other.commit([secrets[0].saying("hushhush again").put()])
    await one.barrier()
    stored = one.get(secrets[0].key)
    assert stored is not None
    assert b"hushhush again" in stored.json
    assert "hushhush" not in ctl("get", "--prefix", f"{world.prefix}/")
    third = await world.master("m3")
    assert third.list("secrets") == one.list("secrets")
    with pytest.raises(StoreStartError, match="does not open with this master's keys"):
        await etcd.open_engine(etcd.shared().urls, world.prefix, world.path / "m4", wrapping=bytes(32))


async def test_a_rotation_that_was_stopped_is_finished_by_the_leader(world: World) -> None:
    store = await world.master("m1")
    await store.commit([a_secret(f"s{n}").put() for n in range(300)])
    before = store.list("secrets")
    rotating = asyncio.create_task(store.rotate_key())
    key_id = store.figures().key_id
    await until(lambda: store.figures().key_id != key_id, "the new key is there")
    rotating.cancel()
    await asyncio.wait([rotating])
    await until(lambda: store._reader.ring.settled, "it is finished")
    again = await world.master("m2")
    assert again.list("secrets") == before


async def test_an_object_that_etcd_does_not_take_is_refused_alone(world: World) -> None:
    store = await world.master()
    large = store.commit([web.sized(2_000_000).put()])
    small = store.commit([a_pod("small").put()])
    results = await asyncio.gather(large, small, return_exceptions=True)
    assert isinstance(results[0], StoreUnavailableError)
    assert "max-request-bytes" in str(results[0])
    assert results[1] == [Committed(store.revision)]
    assert names(store) == {"small"}


async def test_an_etcd_without_space_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with etcd.running() as own:
        own.members[0].kill()
        own.members[0].start(own.members, ["--quota-backend-bytes", "1000000"])
        store = await etcd.open_engine(own.urls, "/b", tmp_path)
        try:
            why = ""
            for n in range(1000):  # etcd looks at the size of what it has written out, ten times a second
                try:
                    await store.commit([a_pod(f"p{n}").sized(200_000).put()])
                except StoreUnavailableError as error:
                    why = str(error)
                    break
            assert "etcd refuses the write" in why
            assert "database space exceeded" in why
            await store.barrier()
            assert len(names(store)) == n
        finally:
            await store.close()


async def test_a_write_that_etcd_does_and_yet_refuses_is_told_as_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does the one that uses up its space, where it has not come to count the ones before it."""
    store = await world.master()
    client = store._writer._client
    carry_out, refusals = client.txn, []

    async def filling(request: Any) -> Any:
        reply = await carry_out(request)
        if b"/pods/" in request.SerializeToString():
            refusals.append(EtcdRefusedError("etcdserver: mvcc: database space exceeded"))
            raise refusals[-1]
        return reply

    async def refusing(request: Any) -> Any:
        if b"/pods/" in request.SerializeToString():
            raise EtcdRefusedError("etcdserver: mvcc: database space exceeded")
        return await carry_out(request)

    monkeypatch.setattr(client, "txn", filling)
    await create(store, web)
    assert len(refusals) == 1
    monkeypatch.setattr(client, "txn", refusing)
    assert "database space exceeded; nothing was written" in await refused(store.commit([a_pod("x").put()]))
    monkeypatch.undo()
    await store.barrier()
    assert names(store) == {"web"}


async def test_a_head_that_somebody_removed_stops_the_store(world: World) -> None:
    store = await world.master()
    await create(store, web)
    ctl("del", f"{world.prefix}/head")
    with pytest.raises(StoreStartError, match="has removed"):
        await asyncio.wait_for(store.run(), 30)
    assert "has stopped" in await refused(store.commit([a_pod("x").put()]))


async def test_a_paused_etcd_makes_reads_wait_or_fail_and_never_stale(tmp_path: Path) -> None:
    with etcd.running() as own:
        store = await etcd.open_engine(own.urls, "/b", tmp_path)
        try:
            await create(store, web)
            own.members[0].signal(signal.SIGSTOP)
            process = own.members[0].process
            assert process is not None
            await until(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T", "it is paused")
            assert "etcd does not answer" in await refused(store.barrier())
            assert store.fault
            own.members[0].signal(signal.SIGCONT)
            await until(lambda: not store.fault, "it answers again")
            assert await store.barrier() == store.revision
        finally:
            own.members[0].signal(signal.SIGCONT)
            await store.close()
