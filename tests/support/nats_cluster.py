"""Several masters' nats-servers in one process: real servers and supervisors, a topology that the test sets, and for
each master a door that shows its certificate, as its HTTPS door does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.js import api
from nats.js.errors import APIError

from barque.client import pki
from barque.client.clock import SystemClock
from barque.client.pki import Identity
from barque.client.supervise import run_all
from barque.master.auth.ca import MasterPki
from barque.master.bus.access import MastersAccess
from barque.master.bus.config import BusSettings, MiB, Patience
from barque.master.bus.link import BusAwayError, Link
from barque.master.bus.peers import Peers
from barque.master.bus.server import NatsServer
from barque.master.bus.streams import Streams
from barque.master.bus.topology import ServerPlace, Topology
from tests.support.expecting import expect_soon_async
from tests.support.ports import free_ports

# Long enough for a busy machine, and no test waits that long where all is well.
WITHIN_S = 60.0
# Quick to notice, and slow to give a server up: one that a busy machine keeps waiting is not restarted for it.
STEADY = Patience(
    look_s=0.1, ask_s=0.3, answer_s=0.6, silence_s=60.0, settle_s=0.3, first_pause_s=0.1, pins_s=0.5, route_s=0.2
)
# For tests of servers that fall silent.
QUICK = dataclasses.replace(STEADY, silence_s=1.5)


class Ship:
    """One master's server, its link, and the door at which it shows its certificate."""

    def __init__(self, cluster: NatsCluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        client_port, route_port, door_port = free_ports(3)
        self.place = ServerPlace(f"{name}-{client_port}", name, "127.0.0.1", client_port, route_port, door_port)
        self.identity = cluster.identity_of(name)
        self.settings = BusSettings(
            cluster.directory / name, self.place.client_address, "lab", self.place.route_address,
            room_bytes=4 * MiB, patience=cluster.patience,
        )  # fmt: skip
        self.server = NatsServer(self.settings, lambda: self.identity, SystemClock(), self.topology)
        access = MastersAccess(self.settings.local_address, self.topology, lambda: self.identity)
        self.link = Link(access, SystemClock())
        self._removing = Peers(self.server, SystemClock(), cluster.patience)
        # What this master believes, where it has not heard of the change.
        self.believed: Topology | None = None
        self._door: asyncio.Server | None = None
        self._task: asyncio.Task[None] | None = None

    def topology(self) -> Topology:
        if self.believed is not None:
            return self.believed
        places = tuple(self.cluster[name].place for name in self.cluster.voters)
        own = self.place if self.name in self.cluster.voters else None
        return Topology(own, places, tuple(self.cluster.learners))

    @property
    def peers(self) -> set[str]:
        """The servers that JetStream counts, as this one knows."""
        vitals = self.server.vitals
        return {self.place.name, *vitals.peers} if vitals is not None else set()

    @property
    def stores(self) -> list[str]:
        """The directories that JetStream has made."""
        return sorted(path.name for path in self.settings.directory.iterdir() if path.is_dir())

    @property
    def fault(self) -> str:
        """What is wrong with its server, or ""."""
        vitals = self.server.vitals
        return self.server.fault or (vitals.fault(self.topology()) if vitals is not None else "it has not told")

    @property
    def well(self) -> bool:
        return not self.fault

    async def start(self) -> None:
        self._door = await asyncio.start_server(_shut, "127.0.0.1", self.place.door_port, ssl=self._context())
        self._task = asyncio.create_task(
            run_all({"server": self.server.run(), "link": self.link.run(), "peers": self._removing.run()})
        )

    def _context(self) -> ssl.SSLContext:
        self._shown = self.identity.server_context()
        return self._shown

    def renew(self) -> None:
        """A new key and certificate, as at a renewal."""
        self.identity = self.cluster.identity_of(self.name)
        self.identity.install(self._shown)
        self.server.reload()

    async def stop(self) -> None:
        if self._door is not None:
            self._door.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None


class NatsCluster:
    """The masters `names`, of whom `voters` have a server and the others are `learners`; whoever a test takes out of
    both is a master no more.
    """

    def __init__(
        self, directory: Path, names: Sequence[str], voters: Sequence[str], patience: Patience = STEADY
    ) -> None:
        self.directory = directory
        self.patience = patience
        self.pki = MasterPki.open(directory / "pki", names[0], [], datetime.datetime.now(datetime.UTC))
        self.voters = list(voters)
        self.learners = [name for name in names if name not in voters]
        self._ships = {name: Ship(self, name) for name in names}

    def __getitem__(self, name: str) -> Ship:
        return self._ships[name]

    @property
    def voting(self) -> list[Ship]:
        return [self[name] for name in self.voters]

    def identity_of(self, master: str) -> Identity:
        now = datetime.datetime.now(datetime.UTC)
        return self.pki.authority.identity(pki.master_subject(master), now, self.pki.hosts)

    def identity_of_worker(self) -> Identity:
        now = datetime.datetime.now(datetime.UTC)
        return self.pki.authority.identity(pki.node_subject("n1"), now, [pki.node_host("n1")])

    async def start(self) -> None:
        for ship in self._ships.values():
            await ship.start()

    async def stop(self) -> None:
        await asyncio.gather(*(ship.stop() for ship in self._ships.values()))

    async def whole(self, within_s: float = WITHIN_S) -> None:
        """Until every voter's server and link are well, and JetStream counts them all."""
        names = {ship.place.name for ship in self.voting}

        def well(ship: Ship) -> bool:
            return ship.well and ship.link.session is not None and ship.peers == names

        def whole() -> bool:
            assert all(map(well, self.voting)), [(ship.name, ship.fault, ship.peers) for ship in self.voting]
            return True

        await expect_soon_async(whole, within_s, "every voter's server and link are well")

    async def put(self, ship: Ship, text: str, within_s: float = WITHIN_S) -> None:
        """Write one message to the stream through this master's link. Two elections of nats-server take up to 20 s."""
        await expect_done(lambda: self._put(ship, text), within_s)

    async def texts(self, ship: Ship, within_s: float = WITHIN_S) -> set[str]:
        """All of the stream's messages, through this master's link."""
        found: set[str] = set()

        async def read() -> None:
            session = await ship.link.up()
            state = (await session.ask(session.jetstream.stream_info("S"))).state
            for sequence in range(state.first_seq, state.last_seq + 1):
                message = await session.ask(session.jetstream.get_msg("S", sequence))
                found.add((message.data or b"").decode())

        await expect_done(read, within_s)
        return found

    async def _put(self, ship: Ship, text: str) -> None:
        session = await ship.link.up()
        streams = Streams(lambda: ship.topology().replicas)
        await streams.ensure(session, api.StreamConfig(name="S", subjects=["s"]), 1)
        await session.publish("s", text.encode(), {})

    async def connect(self, ship: Ship, identity: Identity) -> Any:
        """As a client with this certificate. Raises what nats-py does."""
        return await nats.connect(
            f"tls://{ship.place.client_address}", tls=identity.client_context(), tls_hostname=pki.MASTER_HOST,
            allow_reconnect=False, error_cb=_quiet, connect_timeout=10,
        )  # fmt: skip


async def admitted_as_route(ship: Ship, identity: Identity) -> bool:
    """Whether this server's route port takes a server with this certificate: it then says who it is."""
    context = identity.client_context()
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(
                ship.place.host, ship.place.route_port, ssl=context, server_hostname=pki.MASTER_HOST
            )
            try:
                return (await reader.readline()).startswith(b"INFO ")
            finally:
                writer.transport.abort()
    except (OSError, ssl.SSLError):
        return False


async def admitted(connect: Callable[[], Awaitable[Any]]) -> Any:
    """A connection of whoever may connect so: at once, but for a machine that is too busy for an attempt."""
    return await expect_soon_async(connect, WITHIN_S, "a connection", pause_s=0.1)


async def expect_refusal(connect: Callable[[], Awaitable[Any]], words: str = "Authorization Violation") -> None:
    """Until whoever so connects is refused in these words: the servers hear of a change a moment later, and on a busy
    machine an attempt may fail of something else.
    """

    async def refused() -> bool:
        try:
            connection = await connect()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            if words in str(error):
                return True
            raise
        await connection.close()
        return False

    await expect_soon_async(refused, WITHIN_S, f"a refusal: {words}", pause_s=0.1)


async def expect_done(work: Any, within_s: float) -> None:
    """Try again until it works."""
    fault: Exception = TimeoutError()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while True:
                try:
                    async with asyncio.timeout(5):
                        await work()
                    return
                except (BusAwayError, APIError, TimeoutError) as error:
                    fault = error
                    await asyncio.sleep(0.1)
    raise TimeoutError(f"not within {within_s:g} s: {fault!r}") from fault


async def _shut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _quiet(_: Exception) -> None:
    return None
