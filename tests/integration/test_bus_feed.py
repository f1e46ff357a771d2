"""The change feed with real nats-servers: every change in order and exactly once, whatever happens to bus and store;
and what a master relays of it.
"""

from __future__ import annotations

import asyncio
import datetime
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import msgspec
import nats
import pytest

from barque.api.errors import ApiError
from barque.client import feed as following
from barque.client import pki, subjects, wire
from barque.client import profile as profiles
from barque.client.clock import SystemClock
from barque.client.pki import MASTER_HOST, Identity
from barque.client.profile import Profile
from barque.client.remote import connect
from barque.master.apiserver import feed_service
from barque.master.apiserver.backend import StoreBackend
from barque.master.apiserver.feed_service import FeedService
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.messages import Registrar
from barque.master.audit.audit import Audit
from barque.master.audit.events import Line
from barque.master.audit.policy import METADATA_OF_ALL
from barque.master.auth.authorizer import Authorizer
from barque.master.auth.ca import MasterPki
from barque.master.bus import feed as publishing
from barque.master.bus import relay as relaying
from barque.master.bus.changes import FeedMessage
from barque.master.bus.feed import ChangeFeed
from barque.master.bus.link import Link
from barque.master.bus.relay import FeedRelay, Page
from barque.master.bus.streams import Streams
from barque.master.bus.subjects import CHANGE_STREAM
from barque.master.store.port import Change, FutureRevisionError, HistoryGoneError, Key, Stored
from barque.proto import feed_pb2_grpc
from tests.support.expecting import expect_soon_async
from tests.support.memory_store import MemoryStore
from tests.support.nats_servers import NatsServers
from tests.support.ports import free_ports

# Two elections of nats-server take up to 20 s, and on a busy machine there is a third.
TIMEOUT_S = 120.0
pytestmark = pytest.mark.timeout(400)
FILLER = "x" * 500


class FakeStore:
    """A store that only has changes. `apart` is how far this master's copy lags behind what is newest."""

    cluster_id = "c1"

    def __init__(self) -> None:
        self.revision = 0
        self.apart = 0
        self.forgotten = 0
        self._changes: list[Change] = []
        self._news = asyncio.Event()

    def write(self, count: int, name: str = "a") -> None:
        for _ in range(count):
            self.revision += 1
            json = b'{"kind":"Pod","metadata":{"resourceVersion":"%d"},"x":"%b"}' % (self.revision, FILLER.encode())
            after = Stored(Key("pods", "default", name), json, self.revision, {}, {})
            self._changes.append(Change(self.revision, None, after))
        self._news.set()
        self._news = asyncio.Event()

    def restore(self) -> None:
        self.revision += 10**9
        self.forgotten = self.revision
        self._changes.clear()
        self._news.set()
        self._news = asyncio.Event()

    async def barrier(self) -> int:
        return self.revision + self.apart

    async def changes(self, since: int) -> AsyncIterator[list[Change]]:
        if since > self.revision:
            raise FutureRevisionError(str(since))
        while True:
            if since < self.forgotten:
                raise HistoryGoneError(str(since))
            news = self._news
            batch = [change for change in self._changes if change.revision > since]
            if batch:
                since = batch[-1].revision
                yield batch
            else:
                await news.wait()


class Sea:
    """A cluster of nats-servers, a store, and whoever publishes its changes there."""

    def __init__(self, cluster: NatsServers) -> None:
        self.cluster = cluster
        self.store = FakeStore()
        self._tasks: list[asyncio.Task[Any]] = []

    def link(self, first: int = 0) -> Link:
        """A master's way to the servers, its own first."""
        others = (number for number in range(len(self.cluster.ports)) if number != first)
        link = Link(self.cluster.access(first, *others), SystemClock())
        self.run(link.run())
        return link

    def publisher(self, first: int = 0) -> ChangeFeed:
        """A master that publishes until the test's end."""
        streams = Streams(lambda: len(self.cluster.ports))
        return ChangeFeed(self.link(first), cast(Any, self.store), "lab", SystemClock(), streams)

    def run(self, work: Any) -> asyncio.Task[Any]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def connect(self) -> Any:
        """A consumer's connection."""
        tls = self.cluster.identity.client_context()
        servers = [f"tls://127.0.0.1:{port}" for port in self.cluster.ports]
        return await nats.connect(
            servers, tls=tls, tls_hostname=MASTER_HOST, error_cb=_quiet, reconnect_time_wait=0.1,
            max_reconnect_attempts=-1,
        )  # fmt: skip

    async def told(self) -> list[tuple[str, int]]:
        """What stands in the stream: verbs and revisions. Raises what the client does."""
        connection = await self.connect()
        try:
            jetstream = connection.jetstream()
            state = (await jetstream.stream_info(CHANGE_STREAM)).state
            found = [await jetstream.get_msg(CHANGE_STREAM, n) for n in range(state.first_seq, state.last_seq + 1)]
        finally:
            await connection.close()
        messages = [msgspec.json.decode(message.data, type=FeedMessage) for message in found]
        return [(message.verb, message.revision) for message in messages]

    async def store_told(self, revision: int) -> None:
        """Wait until the last message is of this revision."""
        connection = await self.connect()

        async def told() -> bool:
            last = await connection.jetstream().get_last_msg(CHANGE_STREAM, "barque.lab.change.>")
            return msgspec.json.decode(last.data, type=FeedMessage).revision >= revision

        try:
            await expect_soon_async(told, TIMEOUT_S, f"revision {revision} in the feed", pause_s=0.05)
        finally:
            await connection.close()

    async def fed(self, *expected: tuple[str, int]) -> None:
        """Wait until the stream ends with the last of these; then it holds exactly these."""
        found: list[list[tuple[str, int]]] = []

        async def ends() -> bool:
            found.append(await self.told())
            return found[-1][-1:] == [expected[-1]]

        await expect_soon_async(ends, TIMEOUT_S, f"the feed ends with {expected[-1]}", pause_s=0.05)
        assert found[-1] == list(expected)

    async def leader(self) -> int:
        """The number of the server that leads the stream, once it is there."""
        connection = await self.connect()

        async def named() -> str:
            info = await connection.jetstream().stream_info(CHANGE_STREAM)
            return str(info.cluster.leader or "")

        try:
            return int((await expect_soon_async(named, TIMEOUT_S, "a leader of the stream")).removeprefix("n"))
        finally:
            await connection.close()


@asynccontextmanager
async def sea_of(directory: Path, servers: int) -> AsyncIterator[Sea]:
    cluster = NatsServers(directory, servers)
    sea = Sea(cluster)
    try:
        await cluster.start()
        yield sea
    finally:
        await sea.close()
        cluster.stop()


@pytest.fixture
async def sea(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sea]:
    monkeypatch.setattr(publishing, "CHECK_S", 0.2)
    async with sea_of(tmp_path, 1) as sea:
        yield sea


def added(first: int, last: int) -> list[tuple[str, int]]:
    return [("ADDED", revision) for revision in range(first, last + 1)]


async def test_in_order_and_once_while_servers_die_and_two_publish(tmp_path: Path) -> None:
    """Three servers; the old leader does not know yet that it is none; the stream's leader is killed meanwhile."""
    async with sea_of(tmp_path, 3) as sea:
        for first in (0, 1):
            sea.run(sea.publisher(first).run())
        for step in range(40):
            sea.store.write(10)
            if step == 10:
                killed = await sea.leader()
                sea.cluster.send(killed, signal.SIGKILL)
            if step == 20:
                sea.cluster.launch(killed)
            await asyncio.sleep(0.02)
        await sea.fed(*added(1, 400))


async def test_a_lagging_publisher_says_no_resync(sea: Sea) -> None:
    """What it has not applied yet the newer leader may have told already."""
    first = sea.run(sea.publisher().run())
    sea.store.write(5)
    await sea.fed(*added(1, 5))
    first.cancel()
    newest, sea.store = sea.store, FakeStore()
    sea.store.write(3)
    sea.store.apart = 2
    late = sea.run(sea.publisher().run())
    await asyncio.sleep(0.5)
    await sea.fed(*added(1, 5))
    sea.store.write(4)
    await sea.fed(*added(1, 7))
    late.cancel()
    newest.write(1)


async def test_every_gap_is_said(sea: Sea) -> None:
    """A restored store; a purge and a new stream while the publisher looks on, and while none does."""
    publisher = sea.publisher()
    running = sea.run(publisher.run())
    connection = await sea.connect()
    jetstream = connection.jetstream(timeout=TIMEOUT_S)
    try:
        sea.store.write(2)
        await sea.fed(*added(1, 2))
        sea.store.restore()
        high = sea.store.revision
        await sea.fed(*added(1, 2), ("RESYNC", high))
        sea.store.write(1)
        await sea.fed(*added(1, 2), ("RESYNC", high), ("ADDED", high + 1))
        first = (await jetstream.stream_info(CHANGE_STREAM)).state.last_seq

        await jetstream.delete_stream(CHANGE_STREAM)
        await sea.fed(("RESYNC", high + 1))
        sea.store.write(1)
        await sea.fed(("RESYNC", high + 1), ("ADDED", high + 2))
        assert (await jetstream.stream_info(CHANGE_STREAM)).state.first_seq > first
        await expect_soon_async(lambda: publisher.fault == "", TIMEOUT_S, "the publisher is well")

        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await jetstream.purge_stream(CHANGE_STREAM)
        sea.run(sea.publisher().run())
        await sea.fed(("RESYNC", high + 2))
    finally:
        await connection.close()


class Caller:
    """Someone who follows through a master's relay."""

    def __init__(self, relay: FeedRelay, subject: str = ">", after: int = 0) -> None:
        self.pages = cast(Any, relay.follow(subjects.parse(subject), after))
        self.seen: list[tuple[str, int]] = []
        self.sequence = 0

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not done():
                page: Page = await anext(self.pages)
                messages = [msgspec.json.decode(entry.message, type=FeedMessage) for entry in page.entries]
                self.seen += [(message.verb, message.revision) for message in messages]
                self.sequence = page.sequence

    async def saw(self, revision: int) -> list[tuple[str, int]]:
        await self.until(lambda: bool(self.seen) and self.seen[-1][1] >= revision)
        return self.seen

    async def ended(self) -> ApiError:
        with pytest.raises(ApiError) as ended:
            await self.until(lambda: False)
        return ended.value


async def test_the_relay_goes_on_after_a_kill_and_says_when_it_cannot(
    sea: Sea, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed server forgets what it has not written yet; the same comes again, and no caller sees it twice."""
    monkeypatch.setattr(relaying, "KEPT_ENTRIES", 64)
    sea.run(sea.publisher().run())
    relay = FeedRelay(sea.link(), "lab", SystemClock())
    sea.run(relay.run())
    sea.store.write(50)
    await sea.fed(*added(1, 50))
    live, few = Caller(relay), Caller(relay, "core.services.>")
    for caller in (live, few):
        await caller.until(lambda caller=caller: caller.sequence > 0)  # type: ignore[misc]
    start = live.sequence
    for _ in range(20):
        sea.store.write(20)
        await asyncio.sleep(0.005)
    await live.saw(300)
    sea.cluster.send(0, signal.SIGKILL)
    sea.cluster.launch(0)
    sea.store.write(20)
    assert await live.saw(470) == added(51, 470)

    # Far behind what is kept in memory, and where the stream begins.
    late = Caller(relay, after=start - 40)
    assert await late.saw(470) == added(11, 470)
    assert (await Caller(relay, after=start - 60).ended()).code == 410
    monkeypatch.setattr(relaying, "FUTURE_S", 0.1)
    assert (await Caller(relay, after=start + 10_000).ended()).code == 410

    connection = await sea.connect()
    await connection.jetstream(timeout=TIMEOUT_S).delete_stream(CHANGE_STREAM)
    await connection.close()
    ended = await live.ended()
    assert (ended.code, ended.reason) == (410, "Expired")
    assert few.seen == []


class Lines:
    """Keeps what is audited."""

    def __init__(self) -> None:
        self._lines: list[Line] = []

    def put(self, line: Line) -> None:
        self._lines.append(line)

    def told(self) -> list[tuple[str, str, dict[str, str] | None, str, int]]:
        """Of each event who, what for, about what, which stage, with what code."""
        events = [msgspec.json.decode(line.render()) for line in self._lines]
        assert {event["requestURI"] for event in events} <= {"/barque.v1.Feed/Follow"}
        return [
            (e["user"]["username"], e["verb"], e.get("objectRef"), e["stage"], e["responseStatus"]["code"])
            for e in events
        ]


class Door:
    """A master's gRPC door with nothing behind it but the feed; it may be closed and opened again."""

    def __init__(self, sea: Sea, directory: Path) -> None:
        self.pki = MasterPki.open(directory / "door", "m1", ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
        self.relay = FeedRelay(sea.link(), "lab", SystemClock())
        sea.run(self.relay.run())
        self.audited = Lines()
        (self._port,) = free_ports(1)
        self._server: grpc.aio.Server | None = None

    async def open(self) -> None:
        self._server = grpc.aio.server(options=wire.SERVER_OPTIONS)
        roles = MemoryStore(SystemClock())
        audit = Audit(METADATA_OF_ALL, self.audited, SystemClock())
        service = FeedService(self.relay, Authorizer(StoreBackend(roles, "door"), roles), Bounds(), audit)
        feed_pb2_grpc.add_FeedServicer_to_server(service, Registrar(self._server))
        self._server.add_secure_port(f"127.0.0.1:{self._port}", self.pki.master.server_credentials())
        await self._server.start()

    async def close(self) -> None:
        assert self._server is not None
        await self._server.stop(0.1)

    def profile(self, identity: Identity) -> Profile:
        return Profile.of([f"127.0.0.1:{self._port}"], identity)

    async def refusal(self, subject: str, identity: Identity, after: int = 0) -> ApiError:
        async with connect(self.profile(identity)) as connection:
            with pytest.raises(ApiError) as refused:
                await anext(following.follow(connection, subject, after))
        return refused.value


@pytest.fixture
async def door(sea: Sea, tmp_path: Path) -> AsyncIterator[Door]:
    door = Door(sea, tmp_path)
    sea.run(sea.publisher().run())
    sea.store.write(1)
    await sea.fed(*added(1, 1))
    await door.open()
    yield door
    await door.close()


async def test_who_may_follow_what(door: Door) -> None:
    now = datetime.datetime.now(datetime.UTC)
    node = door.pki.authority.identity(pki.node_subject("n1"), now, [pki.node_host("n1")])
    nobody = door.pki.authority.identity(pki.Subject("jane", ()), now, [])
    words = [
        ("core.services.>", node, 'services is forbidden: User "system:node:n1" cannot watch resource "services" in '
         'API group "" at the cluster scope: the change feed is not for nodes'),
        ("apps.deployments.default.>", nobody, 'deployments.apps is forbidden: User "jane" cannot watch resource '
         '"deployments" in API group "apps" in the namespace "default"'),
        ("*.deployments.default.>", nobody, 'forbidden: User "jane" cannot watch resource "*" in API group "*" at the '
         "cluster scope"),
    ]  # fmt: skip
    for subject, identity, message in words:
        refused = await door.refusal(subject, identity)
        assert (refused.code, refused.reason, refused.message) == (403, "Forbidden", message)
    assert (await door.refusal("core.pods", door.pki.admin)).code == 400
    assert (await door.refusal(">", door.pki.admin, after=1)).code == 410


async def test_a_follower_is_audited_as_a_watch(door: Door) -> None:
    nobody = door.pki.authority.identity(pki.Subject("jane", ()), datetime.datetime.now(datetime.UTC), [])
    async with connect(door.profile(door.pki.admin)) as connection:
        pages = following.follow(connection, "core.pods.default.web%2Ev2", 0)
        await anext(pages)
        await pages.aclose()
    await door.refusal(">", nobody)
    await door.refusal("core.pods", nobody)
    pod = {"resource": "pods", "namespace": "default", "name": "web.v2", "apiVersion": "v1"}
    everything = {"resource": "*", "apiGroup": "*"}
    expected = [
        ("barque-admin", "watch", pod, "ResponseStarted", 200),
        ("barque-admin", "watch", pod, "ResponseComplete", 200),
        ("jane", "watch", everything, "ResponseComplete", 403),
        ("jane", "watch", None, "ResponseComplete", 400),
    ]
    # The door hears of a caller that has gone a moment later.
    await expect_soon_async(lambda: len(door.audited.told()) >= len(expected), TIMEOUT_S, "all is audited")
    assert sorted(door.audited.told(), key=str) == sorted(expected, key=str)


async def test_a_caller_that_does_not_read_is_cut_off(sea: Sea, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_service, "WRITE_S", 0.3)
    async with connect(door.profile(door.pki.admin)) as connection:
        pages = following.follow(connection, ">", 0)
        page = await anext(pages)
        for _ in range(30):
            sea.store.write(1000)
            await asyncio.sleep(0.02)
        await sea.store_told(30_001)
        with pytest.raises(ApiError, match="nothing was read") as cut:
            async for page in pages:  # noqa: B007
                pass
        assert cut.value.code == 503
        # Who reads, however slowly, is not.
        monkeypatch.undo()
        reached = page.sequence
        resumed = following.follow(connection, ">", reached)
        while not (page := await anext(resumed)).entries:
            assert page.sequence == reached
        assert page.entries[0].sequence == reached + 1
        await resumed.aclose()


async def test_the_command_goes_on_over_a_restarted_master(sea: Sea, door: Door, tmp_path: Path) -> None:
    profiles.remember(tmp_path / "config", "lab", door.profile(door.pki.admin))
    # A shell that has put the tests into the background may have them ignore the signal.
    barque = ["env", "--default-signal=INT", sys.executable, "-m", "barque.cli"]
    argv = [*barque, "feed", "core.pods.default.>", "--config", str(tmp_path / "config")]
    command = await asyncio.create_subprocess_exec(*argv, stdout=PIPE, stderr=PIPE)
    assert command.stdout is not None
    assert command.stderr is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            first = asyncio.create_task(command.stdout.readline())
            while not first.done():
                sea.store.write(1)
                await asyncio.sleep(0.1)
            begun = int(first.result().split()[0])
            await door.close()
            sea.store.write(3)
            await door.open()
            sea.store.write(2)
            last = sea.store.revision
            lines = [await command.stdout.readline() for _ in range(begun + 1, last + 1)]
            command.send_signal(signal.SIGINT)
            said = (await command.stderr.read()).decode().splitlines()
            assert await command.wait() == 130
    finally:
        if command.returncode is None:
            command.kill()
            await command.wait()
    assert [line.decode() for line in lines] == [
        f"{revision:<10}  ADDED     pods  default/a\n" for revision in range(begun + 1, last + 1)
    ]
    assert said[-1].startswith("go on with: barque feed 'core.pods.default.>' --after 1")


async def _quiet(_error: Exception) -> None:
    """Servers that are away are what these tests are about."""
