"""Who may connect to a real nats-server, and what readers can and cannot do there."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from barque.client import pki
from barque.client.clock import SystemClock
from barque.client.pki import Identity, Subject
from barque.client.subjects import EVERYTHING, Pattern
from barque.master.auth.ca import MasterPki
from barque.master.auth.identity import User
from barque.master.bus import callout
from barque.master.bus.access import MastersAccess
from barque.master.bus.accounts import AUTH_TIMEOUT_S, READERS_CONNECTIONS, READERS_SUBSCRIPTIONS, render_accounts
from barque.master.bus.callout import Admission, issuer_of
from barque.master.bus.config import BusSettings, user_of
from barque.master.bus.consumers import Consumers
from barque.master.bus.link import Link
from barque.master.bus.permissions import Watchable, api_prefix, inbox_prefix, watchable_by
from barque.master.bus.server import NatsServer
from barque.master.bus.subjects import CHANGE_STREAM, EVENT_STREAM
from barque.master.bus.topology import ServerPlace, Topology
from tests.support.expecting import expect_soon_async
from tests.support.nats_cluster import STEADY, WITHIN_S, admitted, expect_refusal
from tests.support.nats_servers import NatsServers
from tests.support.ports import free_ports

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "follow_the_feed.py"
CHANGES = "barque.barque.change"
API = api_prefix("barque")
JANE = Subject("jane@example.org", ("dev",))
BOB = Subject("bob", ("dev",))
pytestmark = pytest.mark.timeout(300)


class Harbour:
    """A master's nats-server with streams, and what admits readers; the masters are m1, and m2 which has no server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = datetime.datetime.now(datetime.UTC)
        self.pki = MasterPki.open(directory / "pki", "m1", [], self.now)
        port, route_port = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        place = ServerPlace("m1-1", "m1", "127.0.0.1", port, route_port)
        self.topology = Topology(place, (place,), ("m2",))
        self.rights: dict[str, Watchable] = {}
        clock, issuer = SystemClock(), issuer_of(self.pki.account_key)
        settings = BusSettings(directory / "bus", self.address, patience=STEADY)
        self.server = NatsServer(settings, lambda: self.pki.master, clock, lambda: self.topology, issuer.name)
        self.link = Link(MastersAccess(self.address, lambda: self.topology, lambda: self.pki.master), clock)
        admission = Admission(self.link, issuer, self.pki.ca_pem, "barque", clock, self.masters, self.watchable)
        consumers = Consumers(self.link, "barque", clock)
        parts: dict[str, Any] = {
            "server": self.server.run(),
            "link": self.link.run(),
            "admission": admission.run(),
            "consumers": consumers.run(),
        }
        self.tasks = {name: asyncio.create_task(part) for name, part in parts.items()}

    def masters(self) -> tuple[str, ...]:
        return self.topology.masters

    def watchable(self, user: User) -> Watchable:
        return self.rights.get(user.name, watchable_by(user))

    async def open(self) -> None:
        async def streams_are_there() -> bool:
            self.jetstream = (await self.link.up()).jetstream
            for name, kind in ((CHANGE_STREAM, "change"), (EVENT_STREAM, "event")):
                await self.jetstream.add_stream(StreamConfig(name=name, subjects=[f"barque.barque.{kind}.>"]))
            return True

        await expect_soon_async(streams_are_there, WITHIN_S, "streams")
        # Whoever comes before the masters listen is refused.
        await (await self.connect(self.pki.admin)).close()

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    def identity(self, subject: Subject) -> Identity:
        return self.pki.authority.identity(subject, self.now)

    async def connect(self, identity: Identity, **options: Any) -> Any:
        """As one who is admitted."""
        return await admitted(lambda: self.knock(identity, **options))

    async def knock(self, identity: Identity, **options: Any) -> Any:
        """Try once. Raises what nats-py does."""
        prefix = inbox_prefix(User(*identity.subject)).encode()
        return await connect(self.address, identity, **{"inbox_prefix": prefix} | options)

    async def change(self, place: str, text: str = "") -> None:
        await self.jetstream.publish(
            f"{CHANGES}.{place}", json.dumps({"verb": "ADDED", "revision": 1, "o": text}).encode()
        )

    async def count(self, stream: str) -> int:
        return (await self.jetstream.stream_info(stream)).state.messages


async def connect(address: str, identity: Identity, **options: Any) -> Any:
    given: dict[str, Any] = {
        "tls": identity.client_context(), "tls_hostname": pki.MASTER_HOST, "allow_reconnect": False,
        "max_reconnect_attempts": 1, "reconnect_time_wait": 0, "connect_timeout": 10, "error_cb": _quiet,
    }  # fmt: skip
    return await nats.connect(f"tls://{address}", **given | options)


async def _quiet(_: Exception) -> None:
    return None


@pytest.fixture
async def harbour(tmp_path: Path) -> AsyncIterator[Harbour]:
    harbour = Harbour(tmp_path)
    try:
        await harbour.open()
        yield harbour
    finally:
        await harbour.close()


async def refused(connecting: Any) -> None:
    with pytest.raises((nats.errors.Error, OSError, TimeoutError)):
        await (await connecting).close()


async def complaints_of(reader: Any, work: Any) -> list[str]:
    """What the server says to a reader of what it does."""
    said: list[str] = []

    async def hear(error: Exception) -> None:
        said.append(str(error))

    reader._error_cb = hear
    await work
    await reader.flush(timeout=WITHIN_S)
    await expect_soon_async(lambda: said, WITHIN_S, "a complaint", pause_s=0.005)
    return said


def feed_of(reader: Any) -> Any:
    return reader.jetstream(prefix=API, timeout=WITHIN_S)


async def a_consumer(reader: Any, name: str, filter_subject: str) -> Any:
    config = ConsumerConfig(name=name, filter_subject=filter_subject, ack_policy=AckPolicy.NONE)
    await feed_of(reader).add_consumer(CHANGE_STREAM, config)
    return await feed_of(reader).pull_subscribe_bind(consumer=name, stream=CHANGE_STREAM)


async def test_the_example_follows_the_feed(harbour: Harbour) -> None:
    await harbour.change("core.pods.default.a")
    await harbour.change("apps.deployments.default.web")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), harbour.address, str(harbour.pki.directory), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(2 * WITHIN_S):
            assert await process.stdout.readline() == b"2 ADDED 1 barque.barque.change.apps.deployments.default.web\n"
            await harbour.change("apps.deployments.default.db")
            assert await process.stdout.readline() == b"3 ADDED 1 barque.barque.change.apps.deployments.default.db\n"
    finally:
        process.kill()
        await process.wait()


async def test_the_administrator_reads_everything_and_writes_nothing(harbour: Harbour) -> None:
    admin = await harbour.connect(harbour.pki.admin)
    heard = [await admin.subscribe(f"barque.barque.{kind}.>") for kind in ("change", "event", "usage")]
    await admin.flush()
    assert (await feed_of(admin).stream_info(CHANGE_STREAM)).config.name == CHANGE_STREAM
    assert harbour.link.session is not None
    for kind in ("change", "event", "usage"):
        await harbour.link.session.tell(f"barque.barque.{kind}.x", b"seen")
    assert [(await subscription.next_msg(WITHIN_S)).data for subscription in heard] == [b"seen"] * 3

    before = await harbour.count(CHANGE_STREAM), await harbour.count(EVENT_STREAM)
    forbidden = (
        f"{CHANGES}.x", "barque.barque.event.x", "barque.barque.usage.n1", "barque.barque.consumer.x",
        f"$JS.API.STREAM.DELETE.{CHANGE_STREAM}", f"$JS.API.STREAM.PURGE.{CHANGE_STREAM}",
        f"{API}.STREAM.DELETE.{CHANGE_STREAM}", f"{API}.STREAM.UPDATE.{CHANGE_STREAM}",
        f"{API}.STREAM.INFO.{EVENT_STREAM}", callout.SUBJECT, "_INBOX_bob.x",
    )  # fmt: skip
    for subject in forbidden:
        assert "permissions violation" in str(await complaints_of(admin, admin.publish(subject, b"{}"))), subject
    for subject in (">", "*.>", "_INBOX.>", "_INBOX_bob.>", "$SYS.>", callout.SUBJECT, "$JS.>"):
        assert "permissions violation" in str(await complaints_of(admin, admin.subscribe(subject))), subject
    assert (await harbour.count(CHANGE_STREAM), await harbour.count(EVENT_STREAM)) == before
    await admin.close()


async def test_answers_cannot_be_turned_into_writes(harbour: Harbour) -> None:
    """JetStream answers wherever it is asked to: in the reader's account, where no stream listens."""
    await harbour.change("core.pods.default.a")
    admin = await harbour.connect(harbour.pki.admin)
    await a_consumer(admin, "c", f"{CHANGES}.>")
    for target in ("barque.barque.event.x", f"{CHANGES}.RESYNC", f"$JS.API.STREAM.PURGE.{EVENT_STREAM}"):
        await admin.publish(f"{API}.STREAM.INFO.{CHANGE_STREAM}", b"", reply=target)
        await admin.publish(f"{API}.CONSUMER.MSG.NEXT.{CHANGE_STREAM}.c", b"1", reply=target)
    push = {"name": "p", "deliver_subject": "barque.barque.event.y", "filter_subject": f"{CHANGES}.>"}
    asked = json.dumps({"stream_name": CHANGE_STREAM, "config": push}).encode()
    answer = await admin.request(f"{API}.CONSUMER.CREATE.{CHANGE_STREAM}.p.{CHANGES}.>", asked, timeout=WITHIN_S)
    assert "pull consumers" in json.loads(answer.data)["error"]["description"]
    # The same answers come to an inbox, so what went elsewhere has gone by now.
    await feed_of(admin).stream_info(CHANGE_STREAM)
    assert (await harbour.count(CHANGE_STREAM), await harbour.count(EVENT_STREAM)) == (1, 0)
    await admin.close()


async def test_who_may_not_connect(harbour: Harbour) -> None:
    worker = harbour.pki.authority.identity(pki.node_subject("n1"), harbour.now, [pki.node_host("n1")])
    stranger = pki.create_authority(harbour.now).identity(pki.ADMIN, harbour.now)
    forged = Identity(stranger.cert_pem, stranger.key_pem, harbour.pki.ca_pem)
    expired = harbour.pki.authority.identity(pki.ADMIN, harbour.now - datetime.timedelta(days=400))
    posing = harbour.identity(Subject("barque:master:m1", ("dev",)))
    for identity in (worker, harbour.identity(JANE), posing):
        await expect_refusal(lambda identity=identity: harbour.knock(identity))  # type: ignore[misc]
    for identity in (forged, expired):
        await refused(harbour.knock(identity))
    # A name in the words of the protocol, instead of in the certificate, is no way in.
    await expect_refusal(lambda: harbour.knock(worker, user=user_of(pki.master_subject("m1")), password=""))


async def test_a_removed_master_is_refused_and_cut_off(harbour: Harbour, monkeypatch: pytest.MonkeyPatch) -> None:
    # They end at whole seconds, and are used once before.
    monkeypatch.setattr(callout, "MASTERS_RIGHTS_LAST_S", 4)
    m2 = harbour.pki.authority.identity(pki.master_subject("m2"), harbour.now, [pki.MASTER_HOST])

    async def publishing() -> Any:
        """On a busy machine the rights may have run out by then."""
        connection = await harbour.knock(m2)
        try:
            await connection.jetstream().publish("barque.barque.event.x", b"")
        except BaseException:
            await connection.close()
            raise
        return connection

    connection = await expect_soon_async(publishing, WITHIN_S, "m2 publishes", pause_s=0.1)
    written = await harbour.count(EVENT_STREAM)
    harbour.topology = harbour.topology._replace(learners=())
    await expect_refusal(lambda: harbour.knock(m2))
    await expect_soon_async(lambda: not connection.is_connected, WITHIN_S, "m2 is cut off")
    assert await harbour.count(EVENT_STREAM) == written
    await connection.close()


async def test_a_watcher_of_one_place_sees_nothing_else(harbour: Harbour) -> None:
    harbour.rights = {
        JANE.name: (Pattern("core", "pods", "default"), Pattern("apps", "deployments", None)),
        BOB.name: (Pattern("core", "nodes"),),
    }
    own, foreign = "core.pods.default.a", "core.secrets.default.s"
    for place in (own, foreign, "RESYNC"):
        await harbour.change(place)
    jane, bob = await harbour.connect(harbour.identity(JANE)), await harbour.connect(harbour.identity(BOB))
    heard = await jane.subscribe(f"{CHANGES}.core.pods.default.>")
    for subject in (f"{CHANGES}.>", f"{CHANGES}.core.>", f"{CHANGES}.core.*.default.*", f"{CHANGES}.{foreign}",
                    "barque.barque.event.>", "_INBOX_bob.>"):  # fmt: skip
        assert "permissions violation" in str(await complaints_of(jane, jane.subscribe(subject))), subject
    await harbour.change(foreign)
    await harbour.change(own, "live")
    assert b"live" in (await heard.next_msg(WITHIN_S)).data

    name = "jane%40example%2Eorg-1"
    consumer = await a_consumer(jane, name, f"{CHANGES}.core.pods.default.*")
    fetched = [message for _ in range(2) for message in await consumer.fetch(1, timeout=WITHIN_S)]
    assert [message.subject for message in fetched] == [f"{CHANGES}.{own}"] * 2
    with pytest.raises(nats.errors.TimeoutError):
        await consumer.fetch(1, timeout=1)
    for other, subject in ((name, f"{CHANGES}.core.>"), (name, f"{CHANGES}.>"), (name, f"{CHANGES}.{foreign}"),
                           ("bob-1", f"{CHANGES}.{own}")):  # fmt: skip
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await jane.jetstream(prefix=API, timeout=0.2).add_consumer(
                CHANGE_STREAM, ConsumerConfig(name=other, filter_subject=subject, ack_policy=AckPolicy.NONE)
            )
    for request in (f"STREAM.INFO.{CHANGE_STREAM}", f"CONSUMER.MSG.NEXT.{CHANGE_STREAM}.bob-1", "STREAM.NAMES"):
        said = await complaints_of(jane, jane.publish(f"{API}.{request}", b"1"))
        assert "permissions violation" in str(said), request
    # One filter in the subject, another in what the subject carries.
    asked = {"stream_name": CHANGE_STREAM, "config": {"name": name, "filter_subject": f"{CHANGES}.>"}}
    answer = await jane.request(
        f"{API}.CONSUMER.CREATE.{CHANGE_STREAM}.{name}.{CHANGES}.{own}", json.dumps(asked).encode(), timeout=WITHIN_S
    )
    assert "filter" in json.loads(answer.data)["error"]["description"]
    await jane.close()
    await bob.close()


async def test_rights_end_and_are_given_anew(harbour: Harbour, monkeypatch: pytest.MonkeyPatch) -> None:
    # They end at whole seconds: within the last of these two, after a connection took its time.
    monkeypatch.setattr(callout, "RIGHTS_LAST_S", 2)
    harbour.rights = {JANE.name: (EVERYTHING,)}
    ended = {name: asyncio.Event() for name in ("admin", "jane")}

    def on_end(name: str) -> Any:
        async def end() -> None:
            ended[name].set()

        return end

    for name, identity in (("admin", harbour.pki.admin), ("jane", harbour.identity(JANE))):
        await harbour.connect(identity, disconnected_cb=on_end(name))
    harbour.rights = {}
    async with asyncio.timeout(WITHIN_S):
        for end in ended.values():
            await end.wait()
    monkeypatch.undo()
    await expect_refusal(lambda: harbour.knock(harbour.identity(JANE)))
    await (await harbour.connect(harbour.pki.admin)).close()


async def test_where_no_master_answers_readers_are_refused(harbour: Harbour) -> None:
    harbour.tasks["admission"].cancel()
    await asyncio.wait({harbour.tasks["admission"]})
    began = time.monotonic()
    # By the server: the client itself would wait much longer.
    await refused(harbour.knock(harbour.pki.admin, connect_timeout=4 * WITHIN_S))
    assert time.monotonic() - began < AUTH_TIMEOUT_S + WITHIN_S
    assert harbour.link.session is not None
    assert await harbour.count(CHANGE_STREAM) == 0


async def test_greedy_readers_are_cut_off_and_masters_go_on(harbour: Harbour) -> None:
    greedy = await harbour.connect(harbour.pki.admin)
    for number in range(1000):
        if not greedy.is_connected:
            break
        await greedy.subscribe(f"{CHANGES}.core.pods.default.p{number}")
        if number % 100 == 99:
            await asyncio.sleep(0.05)
    await expect_soon_async(lambda: not greedy.is_connected, WITHIN_S, "it is cut off")
    assert number > READERS_SUBSCRIPTIONS
    many = [await harbour.connect(harbour.pki.admin) for _ in range(READERS_CONNECTIONS)]
    await expect_refusal(lambda: harbour.knock(harbour.pki.admin), "maximum account active connections")
    await (await harbour.connect(harbour.pki.master)).close()
    await harbour.change("core.pods.default.a")
    await asyncio.gather(*(connection.close() for connection in many))
    assert await harbour.count(CHANGE_STREAM) == 1


async def test_a_reader_that_does_not_read_is_cut_off(harbour: Harbour) -> None:
    sent = 40
    quick = await harbour.connect(harbour.pki.admin)
    heard = await quick.subscribe(f"{CHANGES}.>")
    await quick.flush()
    reader, writer = await a_paused_subscriber(harbour)
    payload = bytes(1024 * 1024)
    assert harbour.link.session is not None
    for _ in range(sent):
        await harbour.link.session.tell(f"{CHANGES}.x", payload)
        # Not a stream's message: what is measured is the server's patience with readers.
        assert len((await heard.next_msg(WITHIN_S)).data) == len(payload)
    async with asyncio.timeout(WITHIN_S):
        got = 0
        while chunk := await read_on(reader):
            got += len(chunk)
    assert got < sent * len(payload)
    writer.close()
    await quick.close()


async def a_paused_subscriber(harbour: Harbour) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that subscribes and then reads nothing."""
    host, _, port = harbour.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=64 * 1024)
    assert (await reader.readline()).startswith(b"INFO")
    context: ssl.SSLContext = harbour.pki.admin.client_context()
    await writer.start_tls(context, server_hostname=pki.MASTER_HOST)
    writer.write(b'CONNECT {"verbose":false}\r\nSUB %b.> 1\r\nPING\r\n' % CHANGES.encode())
    while await reader.readline() != b"PONG\r\n":
        pass
    return reader, writer


async def read_on(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1024 * 1024)
    except OSError:
        return b""


class Accounts(NatsServers):
    """A cluster whose servers ask the masters, wherever those are connected."""

    issuer = ""

    def _config(self, number: int, directory: Path) -> str:
        users = [user_of(self.identity.subject)]
        plain = super()._config(number, directory).replace("verify: true", "verify_and_map: true")
        return plain + render_accounts("barque", users, "CN=nobody", self.issuer)


async def test_a_master_answers_for_every_server_of_the_cluster(tmp_path: Path) -> None:
    cluster = Accounts(tmp_path, servers=2)
    keys = MasterPki.open(tmp_path / "pki", "m1", [], datetime.datetime.now(datetime.UTC))
    issuer = issuer_of(keys.account_key)
    cluster.issuer = issuer.name
    clock = SystemClock()
    link = Link(cluster.access(0), clock)
    tasks: list[asyncio.Task[None]] = []

    async def written() -> bool:
        jetstream = (await link.up()).jetstream
        await jetstream.add_stream(StreamConfig(name=CHANGE_STREAM, subjects=[f"{CHANGES}.>"], num_replicas=2))
        await jetstream.publish(f"{CHANGES}.core.pods.default.a", b"1")
        return True

    try:
        await cluster.start()
        tasks = [
            asyncio.create_task(link.run()),
            asyncio.create_task(Admission(link, issuer, keys.ca_pem, "barque", clock, lambda: ["m1"]).run()),
            asyncio.create_task(Consumers(link, "barque", clock).run()),
        ]
        await expect_soon_async(written, WITHIN_S, "a message in the stream")
        second = f"127.0.0.1:{cluster.ports[1]}"
        admin = await admitted(lambda: connect(second, keys.admin, inbox_prefix=b"_INBOX_barque-admin"))
        consumer = await a_consumer(admin, "c", f"{CHANGES}.>")
        assert [message.data for message in await consumer.fetch(1, timeout=WITHIN_S)] == [b"1"]
        await admin.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        cluster.stop()
