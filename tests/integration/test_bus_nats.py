"""The bus with a real nats-server: events, the change feed, certificates, and everything going on while it is away."""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import nats
import nats.errors
import pytest
from nats.js.errors import APIError

from barque.api.errors import ApiError
from barque.client import pki
from barque.client.clock import SystemClock
from barque.client.pki import Identity
from barque.master.auth.ca import MasterPki
from barque.master.bus import process
from barque.master.bus.binary import find_nats_server
from barque.master.bus.bus import Bus
from barque.master.bus.changes import FeedMessage, Position
from barque.master.bus.config import BusSettings
from barque.master.bus.subjects import CHANGE_STREAM
from barque.master.store.port import (
    Absent,
    Change,
    Committed,
    Filter,
    HistoryGoneError,
    Key,
    Op,
    Result,
    Stored,
)
from tests.support.expecting import expect_soon_async
from tests.support.nats_cluster import admitted, expect_refusal
from tests.support.ports import free_port

# Long enough for a busy machine, and no test waits that long where all is well.
WITHIN_S = 90.0
pytestmark = pytest.mark.timeout(300)


class FakeStore:
    """A store that only has changes."""

    cluster_id = "c1"

    def __init__(self) -> None:
        self.revision = 0
        self.forgotten = 0
        self.asked: list[int] = []
        self._changes: list[Change] = []
        self._changed = asyncio.Event()

    def write(self, count: int, name: str = "a") -> None:
        for _ in range(count):
            self.revision += 1
            json = b'{"metadata":{"resourceVersion":"%d"}}' % self.revision
            after = Stored(Key("pods", "default", name), json, self.revision, {}, {})
            self._changes.append(Change(self.revision, None, after))
        self._changed.set()

    def forget(self) -> None:
        self.forgotten = self.revision
        self._changes.clear()

    async def barrier(self) -> int:
        return self.revision

    async def changes(self, since: int) -> AsyncIterator[list[Change]]:
        self.asked.append(since)
        while True:
            if since < self.forgotten:
                raise HistoryGoneError(str(since))
            batch = [change for change in self._changes if change.revision > since]
            if batch:
                since = batch[-1].revision
                yield batch
            else:
                self._changed.clear()
                await self._changed.wait()


class Ship:
    """One master's bus, its certificates and its store."""

    def __init__(self, directory: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.pki = MasterPki.open(directory / "pki", "m1", [], datetime.datetime.now(datetime.UTC))
        self.directory = directory / "bus"
        self.store = FakeStore()
        self.tasks: list[asyncio.Task[None]] = []
        self.bus = self.launch()

    def launch(self) -> Bus:
        """A master's start."""
        settings = BusSettings(self.directory, self.address, cluster="lab")
        self.bus = Bus(
            settings, lambda: self.pki.master, self.store, SystemClock(),  # type: ignore[arg-type]
            account_key=self.pki.account_key,
        )  # fmt: skip
        self.tasks += [asyncio.create_task(self.bus.run()), asyncio.create_task(self.bus.lead())]
        return self.bus

    async def healthy(self) -> None:
        def healthy() -> bool:
            health = self.bus.health()
            assert health.healthy, health.message
            return True

        await expect_soon_async(healthy, WITHIN_S, "the bus is well")

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self.tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError)
        self.tasks.clear()

    async def connect(self, identity: Identity) -> Any:
        return await nats.connect(
            f"tls://{self.address}",
            tls=identity.client_context(),
            tls_hostname=pki.MASTER_HOST,
            allow_reconnect=False,
            connect_timeout=10,
            error_cb=_quiet,
        )

    async def feed(self) -> list[FeedMessage]:
        """All messages of the change feed. Raises what the client does, also where there is no stream yet."""
        connection = await self.connect(self.pki.master)
        try:
            jetstream = connection.jetstream()
            state = (await jetstream.stream_info(CHANGE_STREAM)).state
            found = [await jetstream.get_msg(CHANGE_STREAM, n) for n in range(state.first_seq, state.last_seq + 1)]
        finally:
            await connection.close()
        return [msgspec.json.decode(message.data, type=FeedMessage) for message in found]

    async def fed(self, revision: int) -> list[int]:
        """The revisions in the feed, once it has come to this one."""
        found: list[list[FeedMessage]] = []

        async def come() -> bool:
            found.append(await self.feed())
            return bool(found[-1]) and found[-1][-1].revision >= revision

        await expect_soon_async(come, WITHIN_S, f"revision {revision} in the feed", pause_s=0.05)
        return [message.revision for message in found[-1]]

    async def commit(self, *ops: Op) -> Sequence[Result]:
        return await self.bus.events.commit(ops)

    async def names(self, selected: Filter = Filter()) -> list[str]:
        return [stored.key.name for stored in (await self.bus.events.list("events", selected)).items]


async def _quiet(_: Exception) -> None:
    return None


@pytest.fixture
async def ship(tmp_path: Path) -> AsyncIterator[Ship]:
    ship = Ship(tmp_path)
    try:
        await ship.healthy()
        yield ship
    finally:
        await ship.stop()


async def events_of(watch: Any, count: int) -> list[str]:
    """The types of the next events of a watch, bookmarks apart."""
    seen: list[str] = []
    async with asyncio.timeout(WITHIN_S):
        while len(seen) < count:
            seen += [event.type for event in await anext(watch) if event.type != "BOOKMARK"]
    return seen


JSON = '{"metadata":{"resourceVersion":"","name":"%s"},"message":"%s"}'


def a_put(name: str, message: str = "", *compares: Any, **fields: str) -> Op:
    json = (JSON % (name, message)).encode()
    return Op("put", key_of(name), json, json.index(b'""') + 1, {}, fields, tuple(compares))


def a_create(name: str, message: str = "", **fields: str) -> Op:
    return a_put(name, message, Absent(key_of(name)), **fields)


def key_of(name: str) -> Key:
    return Key("events", "default", name)


async def test_killed_midway_it_comes_back_and_everything_catches_up(ship: Ship) -> None:
    """SIGKILL of the nats-server: reads go on, writes say 503 at once, nothing acknowledged is lost."""
    await ship.commit(*(a_create(f"e{n}") for n in range(20)))
    ship.store.write(10)
    await ship.fed(10)
    since = (await ship.bus.events.list("events")).revision
    waiting = asyncio.create_task(events_of(ship.bus.events.watch("events", since), 1))
    assert ship.bus.pid is not None
    os.kill(ship.bus.pid, signal.SIGKILL)
    await expect_soon_async(lambda: not ship.bus.health().healthy, WITHIN_S, "it is missed")
    assert len(await ship.names()) == 20
    with pytest.raises(ApiError) as refused:
        async with asyncio.timeout(20):
            await ship.commit(a_create("lost"))
    assert refused.value.code == 503
    ship.store.write(90)
    await ship.healthy()
    (written,) = await ship.commit(a_create("after"))
    assert isinstance(written, Committed)
    assert await waiting == ["ADDED"]
    assert len(await ship.names()) == 21
    assert await ship.fed(100) == list(range(1, 101))


async def test_a_restarted_master_finds_its_events_and_its_place_in_the_feed(ship: Ship) -> None:
    (created,) = await ship.commit(a_create("kept"))
    assert isinstance(created, Committed)
    ship.store.write(30)
    await ship.fed(30)
    await ship.stop()
    ship.store.write(30)
    earlier = len(ship.store.asked)
    ship.launch()
    await ship.healthy()
    stored = await ship.bus.events.get(key_of("kept"))
    assert stored is not None
    assert stored.revision == created.revision
    assert await ship.fed(60) == list(range(1, 61))
    assert ship.store.asked[earlier] == 30
    async with aclosing(ship.bus.events.watch("events", created.revision - 1)) as watch:  # type: ignore[type-var]
        assert await events_of(watch, 1) == ["ADDED"]


async def test_a_history_that_is_gone_is_said_in_the_feed(ship: Ship) -> None:
    ship.store.write(3)
    await ship.fed(3)
    await ship.stop()
    ship.store.write(5)
    ship.store.forget()
    ship.store.write(2)
    ship.launch()
    await ship.healthy()
    await ship.fed(10)
    ship.store.write(1)
    await ship.fed(11)
    said = [(message.verb, message.revision) for message in await ship.feed()]
    assert said == [("ADDED", 1), ("ADDED", 2), ("ADDED", 3), ("RESYNC", 10), ("ADDED", 11)]


async def test_a_publisher_that_was_overtaken_is_refused(ship: Ship) -> None:
    """A master that thinks that it still leads cannot put a change behind newer ones."""
    ship.store.write(5)
    await ship.fed(5)
    assert ship.bus.link.session is not None
    with pytest.raises(APIError, match="wrong last sequence"):
        await ship.bus._feed._publish_all(ship.bus.link.session, Position(2, 2, 9, "c1"))
    ship.store.write(1)
    assert await ship.fed(6) == [1, 2, 3, 4, 5, 6]


async def test_only_masters_and_the_administrator_may_connect(ship: Ship) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for identity in (ship.pki.master, ship.pki.admin):
        await (await admitted(lambda identity=identity: ship.connect(identity))).close()  # type: ignore[misc]
    worker = ship.pki.authority.identity(pki.node_subject("n1"), now, [pki.node_host("n1")])
    await expect_refusal(lambda: ship.connect(worker))
    stranger = pki.create_authority(now).identity(pki.master_subject("m1"), now, [pki.MASTER_HOST])
    forged = Identity(stranger.cert_pem, stranger.key_pem, ship.pki.ca_pem)
    with pytest.raises((nats.errors.Error, OSError)):
        await ship.connect(forged)


async def test_a_renewed_certificate_is_shown_without_a_restart(ship: Ship) -> None:
    pid = ship.bus.pid
    ship.pki.master = ship.pki.authority.identity(
        ship.pki.master.subject, datetime.datetime.now(datetime.UTC), ship.pki.hosts
    )
    await ship.bus.renewed(ship.pki.master)

    async def renewed() -> bool:
        return await shown(ship) == ship.pki.master.certificate.serial_number

    await expect_soon_async(renewed, WITHIN_S, "the new certificate is shown", pause_s=0.1)
    assert ship.bus.pid == pid


async def shown(ship: Ship) -> int:
    connection = await ship.connect(ship.pki.admin)
    certificate = connection._transport._io_writer.get_extra_info("ssl_object").getpeercert()
    await connection.close()
    return int(certificate["serialNumber"], 16)


async def test_a_taken_port_is_said_and_waited_out(tmp_path: Path) -> None:
    ship = Ship(tmp_path)
    await ship.stop()
    host, _, port = ship.address.partition(":")
    held = await asyncio.start_server(lambda _r, w: w.close(), host, int(port))
    try:
        ship.launch()
        words = "address already in use"
        await expect_soon_async(lambda: words in ship.bus.health().message, WITHIN_S, words)
        held.close()
        await ship.healthy()
    finally:
        held.close()
        await ship.stop()


async def test_no_nats_server_is_left_when_the_master_is_killed(tmp_path: Path) -> None:
    """A master in a process of its own, killed with SIGKILL: the kernel takes its nats-server along."""
    port = free_port()
    master = start_master(tmp_path, port)
    pid_file = tmp_path / "bus" / "nats.pid"
    try:

        def runs() -> int:
            pid: int = msgspec.json.decode(pid_file.read_bytes())["pid"]
            return pid if is_listening(port) and b"nats-server" in command_of(pid) else 0

        pid = await expect_soon_async(runs, WITHIN_S, "a nats-server")
    finally:
        master.kill()
        master.wait()
    await expect_soon_async(lambda: not command_of(pid), WITHIN_S, "it is gone")


async def test_a_nats_server_left_behind_is_replaced(tmp_path: Path) -> None:
    """An earlier master has gone without taking it along; it holds the port and the store."""
    ship = Ship(tmp_path)
    await ship.healthy()
    await ship.stop()
    binary = await find_nats_server()
    left = await asyncio.create_subprocess_exec(str(binary), "-c", str(ship.directory / "nats.conf"))
    try:
        process.write_pid(ship.directory / "nats.pid", left.pid)
        ship.launch()
        await ship.healthy()
        async with asyncio.timeout(WITHIN_S):
            await left.wait()
        assert ship.bus.pid != left.pid
    finally:
        if left.returncode is None:
            left.kill()
        await left.wait()
        await ship.stop()


async def test_a_stranger_that_got_the_pid_is_left_alone(tmp_path: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        process.write_pid(tmp_path / "nats.pid", stranger.pid)
        written = msgspec.json.decode((tmp_path / "nats.pid").read_bytes())
        for changed in ({"start_ticks": written["start_ticks"] - 1}, {"boot_id": "an earlier boot"}):
            (tmp_path / "nats.pid").write_bytes(msgspec.json.encode(written | changed))
            await process.remove_left_over(tmp_path / "nats.pid", SystemClock())
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


def start_master(directory: Path, port: int) -> subprocess.Popen[bytes]:
    script = f"""
        import datetime
        from pathlib import Path
        import uvloop
        from barque.client.clock import SystemClock
        from barque.master.auth.ca import MasterPki
        from barque.master.bus.config import BusSettings
        from barque.master.bus.server import NatsServer

        pki = MasterPki.open(Path({str(directory)!r}) / "pki", "m1", [], datetime.datetime.now(datetime.UTC))
        settings = BusSettings(Path({str(directory)!r}) / "bus", "127.0.0.1:{port}")
        uvloop.run(NatsServer(settings, lambda: pki.master, SystemClock()).run())
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
