"""Event records of three masters on three nats-servers: any may write, each serves, and what befalls NATS heals."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import pytest
from nats.js import api

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Event, ObjectReference
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client, target_of
from barque.client.clock import SystemClock
from barque.client.pki import MASTERS_GROUP
from barque.client.verbs import Page, Selection
from barque.master.apiserver import event_turns
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.identity import User
from barque.master.bus import event_writer, link, records, seeding, stream_keeper
from barque.master.bus.events import EventBackend
from barque.master.bus.link import Link, Session
from barque.master.bus.streams import Streams
from barque.master.bus.subjects import EVENT_STREAM, event_subjects
from barque.master.store.port import (
    Absent,
    Committed,
    Filter,
    Key,
    Op,
    Refused,
    Result,
    RevisionIs,
    Unknown,
    Watched,
)
from tests.support.expecting import expect_soon_async
from tests.support.memory_store import MemoryStore
from tests.support.nats_servers import NatsServers

CLUSTER = "lab"
JSON = '{"metadata":{"resourceVersion":"","name":"%s"},"message":"%s"}'
# The longest that a write may take is 4.5 s; on a busy machine it ends later, but ends.
WRITE_BOUND_S = 20.0
# Two elections of nats-server take up to 20 s, and on a busy machine there is a third.
HEALED_S = 120.0
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServers]:
    servers = NatsServers(tmp_path_factory.mktemp("nats"))
    try:
        asyncio.run(servers.start())
        yield servers
    finally:
        servers.stop()


class Master:
    """The Event records of one master; its link tries its own server first."""

    def __init__(self, servers: NatsServers, number: int) -> None:
        self.link = Link(servers.access(*((number + step) % 3 for step in range(3))), SystemClock())
        self.events = EventBackend(self.link, CLUSTER, SystemClock(), Streams(lambda: 3))
        self.following = asyncio.create_task(self.events.run())
        self._connecting = asyncio.create_task(self.link.run())
        self._leading: asyncio.Task[None] | None = None

    def lead(self) -> None:
        self._leading = asyncio.create_task(self.events.lead())

    async def depose(self) -> None:
        await _end(self._leading)

    async def stop_following(self) -> None:
        await _end(self.following)

    def follow(self) -> None:
        self.following = asyncio.create_task(self.events.run())

    async def stop(self) -> None:
        await _end(self._leading, self.following, self._connecting)

    async def session(self) -> Session:
        return await self.link.up()

    async def commit(self, *ops: Op) -> Sequence[Result | ApiError]:
        return await self.events.commit(ops)

    async def write(self, name: str, message: str = "") -> int:
        """A put that goes through; its revision."""
        (result,) = await self.commit(a_put(name, message))
        assert isinstance(result, Committed), result
        return result.revision

    async def names(self, selected: Filter = Filter()) -> list[str]:
        return [stored.key.name for stored in (await self.events.list("events", selected)).items]

    async def revision(self) -> int:
        return (await self.events.list("events")).revision

    async def next_of_watch(self, since: int, count: int = 1) -> list[Watched]:
        """The first events of a watch."""
        async with asyncio.timeout(HEALED_S), aclosing(self.events.watch("events", since)) as watch:  # type: ignore[type-var]
            return await events_of(watch, count)


async def _end(*tasks: asyncio.Task[None] | None) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        assert isinstance(outcome, asyncio.CancelledError), outcome


@asynccontextmanager
async def three_masters(servers: NatsServers, *, led: bool = True) -> AsyncIterator[list[Master]]:
    """On servers without streams; the first master leads."""
    await forget_streams(servers)
    masters = [Master(servers, number) for number in range(3)]
    try:
        if led:
            masters[0].lead()
            await well(*masters)
        yield masters
    finally:
        for master in masters:
            await master.stop()


async def forget_streams(servers: NatsServers) -> None:
    """Before any master that would fill them again. The servers may be electing one of them yet."""
    way = Link(servers.access(0, 1, 2), SystemClock())
    connecting = asyncio.create_task(way.run())

    async def forgotten() -> bool:
        jetstream = (await way.up()).jetstream
        for stream in await jetstream.streams_info():
            await jetstream.delete_stream(stream.config.name or "")
        return True

    try:
        await expect_soon(forgotten, "the streams are deleted")
    finally:
        await _end(connecting)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is given up, and no write, however long a busy machine keeps it."""
    monkeypatch.setattr(link, "PING_INTERVAL_S", 30)
    monkeypatch.setattr(link, "REQUEST_TIMEOUT_S", 30.0)
    monkeypatch.setattr(event_writer, "WRITE_S", 60.0)
    monkeypatch.setattr(records, "CURRENT_S", 60.0)


@pytest.fixture
async def masters(servers: NatsServers, patient: None) -> AsyncIterator[list[Master]]:
    async with three_masters(servers) as masters:
        yield masters


@pytest.fixture
async def quick_masters(servers: NatsServers) -> AsyncIterator[list[Master]]:
    """As patient as they are, for tests of servers that die or fall silent."""
    async with three_masters(servers) as masters:
        yield masters


async def well(*masters: Master) -> None:
    await expect_soon(lambda: not any(master.events.fault for master in masters), "Events are well")


async def expect_soon(look: Any, what: str) -> Any:
    return await expect_soon_async(look, HEALED_S, what)


async def events_of(watch: Any, count: int) -> list[Watched]:
    """The next ones of a watch."""
    seen: list[Watched] = []
    while len(seen) < count:
        seen += [event for event in await anext(watch) if event.type != "BOOKMARK"]
    return seen


def key_of(name: str) -> Key:
    return Key("events", "default", name)


def a_put(name: str, message: str = "", *compares: Any, **fields: str) -> Op:
    json = (JSON % (name, message)).encode()
    return Op("put", key_of(name), json, json.index(b'""') + 1, {}, fields, tuple(compares))


def a_create(name: str, message: str = "", **fields: str) -> Op:
    return a_put(name, message, Absent(key_of(name)), **fields)


def message_of(json: bytes) -> Any:
    return msgspec.json.decode(json)["message"]


async def test_events_are_written_read_compared_and_deleted(masters: list[Master]) -> None:
    master = masters[0]
    (created,) = await master.commit(a_create("web.1", "pulled"))
    assert isinstance(created, Committed)
    stored = await master.events.get(key_of("web.1"))
    assert stored is not None
    assert msgspec.json.decode(stored.json)["metadata"]["resourceVersion"] == str(created.revision)

    assert await master.commit(a_create("web.1")) == [Refused(0, created.revision)]
    (updated,) = await master.commit(a_put("web.1", "started", RevisionIs(key_of("web.1"), created.revision)))
    assert isinstance(updated, Committed)
    stale = a_put("web.1", "late", RevisionIs(key_of("web.1"), created.revision))
    assert await master.commit(stale) == [Refused(0, updated.revision)]
    assert await master.commit(a_put("web.1", "started")) == [Committed(updated.revision, changed=False)]

    (gone,) = await master.commit(
        Op("delete", key_of("web.1"), compares=(RevisionIs(key_of("web.1"), updated.revision),))
    )
    assert isinstance(gone, Committed)
    assert await master.events.get(key_of("web.1")) is None
    # Another master, whose compare must be of the deletion's sequence.
    (back,) = await masters[1].commit(a_create("web.1", "again"))
    assert isinstance(back, Committed)
    assert back.revision > gone.revision


async def test_a_commit_of_many_keeps_the_order_of_one_object(masters: list[Master]) -> None:
    results = await masters[0].commit(a_create("a"), a_create("b"), a_create("a"), a_put("a", "2"), a_put("a", "3"))
    assert [type(result) for result in results] == [Committed, Committed, Refused, Committed, Committed]
    stored = await masters[0].events.get(key_of("a"))
    assert stored is not None
    assert message_of(stored.json) == "3"


async def test_only_one_of_three_masters_creates(masters: list[Master]) -> None:
    """The stream decides, also where a cache lags."""
    for n in range(20):
        done = await asyncio.gather(*(m.commit(a_create(f"e{n}", str(i))) for i, m in enumerate(masters)))
        assert sorted(type(result).__name__ for (result,) in done) == ["Committed", "Refused", "Refused"]


async def test_every_master_serves_what_another_has_written(masters: list[Master]) -> None:
    """Listed at one, written at the second, watched at the third from the first one's revision; read at once."""
    for n in range(30):
        await masters[0].events.current()
        since = await masters[0].revision()
        revision = await masters[1].write(f"e{n}", str(n))
        await masters[0].events.current()
        stored = await masters[0].events.get(key_of(f"e{n}"))
        assert stored is not None
        assert stored.revision == revision
        (seen,) = await masters[2].next_of_watch(since)
        assert (seen.type, seen.revision) == ("ADDED", revision)


async def test_lists_and_watches_select(masters: list[Master]) -> None:
    failed = Filter(matches=lambda labels, fields: fields.get("reason") == "Failed")
    master = masters[0]
    start = await master.revision()
    await master.commit(a_create("a", reason="Failed"), a_create("b", reason="Pulled"))
    assert await master.names(failed) == ["a"]
    async with aclosing(master.events.watch("events", start, failed)) as watch:  # type: ignore[type-var]
        (added,) = await events_of(watch, 1)
        assert (added.type, b'"name":"a"' in added.json) == ("ADDED", True)
        await master.commit(a_put("b", "1", reason="Failed"), a_put("a", "1", reason="Pulled"))
        seen = await events_of(watch, 2)
        assert sorted(event.type for event in seen) == ["ADDED", "DELETED"]


async def test_revisions_of_the_past_and_the_future(masters: list[Master]) -> None:
    master = masters[0]
    before = await master.write("a", "1")
    after = await master.write("a", "2")
    (then,) = (await master.events.list("events", Filter(), before)).items
    assert (message_of(then.json), then.revision) == ("1", before)
    for revision, code in ((after + 5, 504), (1, 410)):
        with pytest.raises(ApiError) as unlisted:
            await master.events.list("events", Filter(), revision)
        assert unlisted.value.code == code
    with pytest.raises(ApiError) as unwatched:
        await anext(master.events.watch("events", 1))
    assert unwatched.value.code == 410


async def test_the_hour_ends_in_a_deletion_that_watches_see(
    masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    since = await masters[0].write("old")
    await masters[0].depose()
    monkeypatch.setattr(stream_keeper, "LIFE_S", 0.0)
    monkeypatch.setattr(stream_keeper, "SWEEP_S", 0.05)
    masters[1].lead()
    (deleted,) = await masters[2].next_of_watch(since)
    assert (deleted.type, deleted.revision > since) == ("DELETED", True)


async def test_a_stream_deleted_by_hand_is_filled_again_and_nothing_twice(masters: list[Master]) -> None:
    """Every master writes what it holds, side by side; ages go on, and what was written meanwhile stays."""
    count = 2 * seeding.BATCH + 10
    results = await masters[0].commit(*(a_create(f"e{n:03}", "first") for n in range(count)))
    last = max(result.revision for result in results if isinstance(result, Committed))
    for master in masters:
        await master.events.reach(last)
    born = masters[1].events._records.cache._born.copy()
    watching = [asyncio.create_task(master.next_of_watch(last)) for master in masters]
    jetstream = (await masters[0].session()).jetstream
    await jetstream.delete_stream(EVENT_STREAM)
    for watch in watching:
        with pytest.raises(ApiError) as gone:
            await asyncio.wait_for(watch, HEALED_S)
        assert gone.value.code == 410
    await well(*masters)
    assert await masters[2].write("e009", "second") > last
    await masters[2].commit(Op("delete", key_of("e000")), a_put("new"))
    expected = [f"e{n:03}" for n in range(1, count)] + ["new"]
    for master in masters:
        await expect_soon(lambda master=master: not len(master.events._seeding), "nothing is left to be carried over")
        await master.events.current()
        assert await master.names() == expected
        stored = await master.events.get(key_of("e009"))
        assert stored is not None
        assert message_of(stored.json) == "second"
    again = masters[0].events._records.cache._born
    assert {name for name in expected if again[key_of(name)] != born.get(key_of(name))} == {"e009", "new"}
    with pytest.raises(ApiError) as old:
        await anext(masters[0].events.watch("events", last))
    assert old.value.code == 410
    # One message of each object, and of what was done besides: never one for each master.
    assert (await jetstream.stream_info(EVENT_STREAM)).state.messages <= count + 3


async def test_a_gap_in_the_stream_is_noticed_and_lived_with(masters: list[Master]) -> None:
    """Messages that went before this master had seen them: what it serves is read anew, and watches list again."""
    master = masters[2]
    since = await masters[0].write("kept")
    await master.events.reach(since)
    await master.stop_following()
    lost = [await masters[0].write(f"lost{n}") for n in range(2)]
    last = await masters[0].write("after")
    jetstream = (await masters[0].session()).jetstream
    for sequence in lost:
        await jetstream.delete_msg(EVENT_STREAM, sequence)
    watching = asyncio.create_task(anext(master.events.watch("events", since)))  # type: ignore[arg-type, var-annotated]
    master.follow()
    with pytest.raises(ApiError) as gone:
        await asyncio.wait_for(watching, HEALED_S)
    assert gone.value.code == 410
    await well(master)
    await master.events.reach(last)
    assert await master.names() == ["after", "kept"]
    assert await master.write("more") > last


async def test_a_past_that_is_gone_is_not_waited_for(masters: list[Master]) -> None:
    """The stream is emptied while a master is away, and nothing new comes: it serves what is left."""
    master = masters[2]
    since = await masters[0].write("early")
    await master.events.reach(since)
    await master.stop_following()
    await masters[0].write("late")
    await (await masters[0].session()).jetstream.purge_stream(EVENT_STREAM)
    master.follow()
    await well(master)
    assert await master.names() == []
    with pytest.raises(ApiError) as gone:
        await anext(master.events.watch("events", since))
    assert gone.value.code == 410


async def test_what_the_stream_does_not_take_is_503_and_named(servers: NatsServers, patient: None) -> None:
    """As with a full disk: the stream says no, so nothing was written, and once it takes again all is well."""
    async with three_masters(servers, led=False) as masters:
        jetstream = (await masters[0].session()).jetstream
        config = api.StreamConfig(
            name=EVENT_STREAM, subjects=[event_subjects(CLUSTER)], max_bytes=4096, discard=api.DiscardPolicy.NEW,
            num_replicas=3,
        )  # fmt: skip
        await jetstream.add_stream(config)
        await well(*masters)
        results = await masters[0].commit(*(a_create(f"e{n:02}", "x" * 200) for n in range(40)))
        refused = [result for result in results if isinstance(result, ApiError)]
        assert {error.code for error in refused} == {503}
        assert not [result for result in results if isinstance(result, Unknown)]
        assert masters[0].events.fault == "the bus does not take Events: maximum bytes exceeded"
        taken = [f"e{n:02}" for n, result in enumerate(results) if isinstance(result, Committed)]
        assert (await masters[0].names(), len(taken) + len(refused)) == (taken, 40)
        config.max_bytes = 1024 * 1024
        await jetstream.update_stream(config)
        await write_through(masters[0])
        assert masters[0].events.fault == ""


async def test_without_a_stream_and_a_leader_writes_are_refused_at_once(servers: NatsServers, patient: None) -> None:
    async with three_masters(servers, led=False) as masters:
        await expect_soon(lambda: "there is no stream of them" in masters[1].events.fault, "its lack is said")
        with pytest.raises(ApiError) as refused:
            await masters[1].write("early")
        assert refused.value.code == 503
        masters[2].lead()
        await well(*masters)
        assert await masters[1].write("late") > 1_000_000


@asynccontextmanager
async def registry_on(master: Master) -> AsyncIterator[Client]:
    """The API over a store in memory and this master's Events."""
    store = MemoryStore(SystemClock())
    registry = Registry(store, master.events, ApiSettings(), SystemClock())
    client = Client(registry.as_user(User("m1", (MASTERS_GROUP,))))
    await ensure_namespaces(client)
    yield client


def an_event(name: str, about: str) -> Event:
    reference = ObjectReference(kind="Pod", name=about, namespace="default", uid=about)
    meta = ObjectMeta(name=name, namespace="default")
    return Event(metadata=meta, involvedObject=reference, reason="Pulled", type="Normal", message="pulled", count=1)


async def test_a_flood_from_one_object_is_429_and_leaves_the_others_alone(
    masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 writes about one pod beside 100 about others: the flood gets its share, the others all get in, and nothing
    is left behind.
    """
    # Else 10,000 refusals take a minute.
    monkeypatch.setattr(event_turns, "HOLD_S", 0.0)
    async with registry_on(masters[0]) as client:
        refusals: Counter[str] = Counter()
        began = time.monotonic()

        async def flood(number: int) -> None:
            for n in range(500):
                try:
                    await client.create(an_event(f"flood.{number}.{n}", "noisy"))
                except ApiError as refused:
                    refusals[f"{refused.code} {refused.message}"] += 1

        async def others() -> None:
            for n in range(100):
                await client.create(an_event(f"quiet.{n}", f"pod-{n}"))
                await asyncio.sleep(0)

        await asyncio.gather(others(), *map(flood, range(20)))
        took = time.monotonic() - began
        assert list(refusals) == [
            "429 Too many requests: limit reached on type SourceAndObject for key Poddefaultnoisynoisy"
        ]
        names = Counter(event.metadata.name.partition(".")[0] for event in (await client.list(Event, "default")).items)
        assert names["quiet"] == 100
        assert 50 <= names["flood"] <= 50 + 25 * took + 1
        assert names["flood"] + refusals.total() == 10_000
        session = await masters[0].session()
        assert session._replies is not None
        await expect_soon(lambda: len(session._replies or ()) == 0, "no answer is waited for")
        # Patches count, too: of so many side by side no machine is slow enough to let all in.
        about = [event.metadata.name for event in (await client.list(Event, "default")).items]
        flooded = [name for name in about if name.startswith("flood.")]
        changes = (client.patch(Event, name, "default", {"count": n}) for n in range(2, 14) for name in flooded[:50])
        outcomes = await asyncio.gather(*changes, return_exceptions=True)
        codes = Counter(outcome.code for outcome in outcomes if isinstance(outcome, ApiError))
        # Those of one object that get in side by side may meet.
        assert set(codes) - {409} == {429}


async def test_a_namespaces_events_are_deleted_together(masters: list[Master]) -> None:
    async with registry_on(masters[0]) as client:
        for n in range(3):
            last = await client.create(an_event(f"e.{n}", f"pod-{n}"))
        elsewhere = await client.create(an_event("stays", "pod-9"))
        revision = elsewhere.metadata.resourceVersion
        target = target_of(Event, namespace="default")
        kept = Selection(fields="involvedObject.name!=pod-9")
        deleted = await client.verbs.delete_collection(target, kept)
        assert len(deleted.items) == 3
        assert [event.metadata.name for event in (await client.list(Event, "default")).items] == ["stays"]
        then = await client.verbs.list(target, page=Page(resource_version=revision, match="Exact"))
        assert len(then.items) == 4
        with pytest.raises(ApiError) as old:
            await client.verbs.list(target, page=Page(resource_version="1", match="Exact"))
        assert old.value.code == 410
        with pytest.raises(ApiError) as gone:
            await client.get(Event, last.metadata.name, "default")
        assert gone.value.code == 404
        fresh = await client.create(an_event("e.0", "pod-0"))
        fresh.count = 7
        fresh.metadata.resourceVersion = revision
        with pytest.raises(ApiError) as stale:
            await client.update(fresh)
        assert (stale.value.code, stale.value.reason) == (409, "Conflict")


async def test_the_leader_of_the_stream_dies(servers: NatsServers, quick_masters: list[Master]) -> None:
    """SIGKILL: reads go on, each write is answered within its bound, all heals, and nothing acknowledged is lost."""
    masters = quick_masters
    written = [f"e{n:02}" for n in range(20)]

    async def all_written() -> bool:
        return not {type(result) for result in await masters[0].commit(*(a_put(name) for name in written))} - {
            Committed
        }

    await expect_soon(all_written, "all are written")
    victim = await stream_leader(masters[0])
    observer = masters[(victim + 1) % 3]
    await observer.events.current()
    since = await observer.revision()
    await masters[victim].events.reach(since)
    servers.send(victim, signal.SIGKILL)
    try:
        written += await write_through(observer)
        assert (await observer.names())[:20] == written[:20]
        # Listed at one, watched at the one whose server has died.
        seen = await masters[victim].next_of_watch(since, len(written) - 20)
        assert {event.type for event in seen} == {"ADDED"}
    finally:
        servers.launch(victim)
    await well(*masters)

    async def all_there() -> bool:
        for master in masters:
            await master.events.current()
            assert set(written) <= set(await master.names())
        return True

    await expect_soon(all_there, "every master has them")


async def test_a_paused_server_is_left_for_another(servers: NatsServers, quick_masters: list[Master]) -> None:
    """SIGSTOP of the server that a master is connected to: silence, not an end."""
    leader = await stream_leader(quick_masters[0])
    # One that does not lead the stream; on a busy machine a master may have gone to another server than its own.
    master = await expect_soon(
        lambda: next((master for master in quick_masters if server_of(servers, master) != leader), None),
        "a master at another server than the stream's leader",
    )
    await write_through(master)
    before = await master.names()
    paused = server_of(servers, master)
    servers.send(paused, signal.SIGSTOP)
    try:
        await expect_soon(lambda: master.events.fault, "the silence is noticed")
        assert await master.names() == before
        # Refused at once, unless it is at another server already.
        (result,) = await asyncio.gather(master.commit(a_put("meanwhile")), return_exceptions=True)
        assert not isinstance(result, BaseException) or (isinstance(result, ApiError) and result.code == 503), result
        names = await write_through(master)
        assert set(names) <= set(await master.names())
    finally:
        servers.send(paused, signal.SIGCONT)
    await well(*quick_masters)


def server_of(servers: NatsServers, master: Master) -> int:
    """The number of the server that the master is connected to."""
    session = master.link.session
    assert session is not None
    return servers.ports.index(session._connection.connected_url.port)


async def stream_leader(master: Master) -> int:
    """The number of the server that leads the stream."""

    async def leader() -> str:
        info = await (await master.session()).jetstream.stream_info(EVENT_STREAM)
        return str(info.cluster.leader or "") if info.cluster is not None else ""

    return int((await expect_soon(leader, "a leader of the stream")).removeprefix("n"))


async def write_through(master: Master) -> list[str]:
    """Write until one goes through; each try is answered within its bound. What may have been written."""
    async with asyncio.timeout(HEALED_S):
        for n in range(10_000):
            began = time.monotonic()
            (result,) = await asyncio.gather(master.commit(a_create(f"try{n}")), return_exceptions=True)
            assert time.monotonic() - began < WRITE_BOUND_S
            assert not isinstance(result, ApiError) or result.code == 503
            if not isinstance(result, BaseException) and isinstance(result[0], Committed):
                return [f"try{n}"]
            await asyncio.sleep(0.1)
    raise AssertionError("unreachable")
