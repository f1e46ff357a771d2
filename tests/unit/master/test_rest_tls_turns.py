"""Handshakes take turns: however many connections are new, one turn of the loop does a few steps, and all come on."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from barque.client.clock import SystemClock
from barque.client.pki import Identity
from barque.master.apiserver.rest import tls
from barque.master.apiserver.rest.tls import TlsConnection, secured
from barque.master.auth.ca import MasterPki

STEPS = tls._STEPS


class Wire(asyncio.Transport):
    """The plain connection under one of ours: what it writes is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.paused = self.aborted = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Client:
    """The other end of a wire, in memory."""

    def __init__(self, make: Any, identity: Identity) -> None:
        self.wire = Wire()
        self.connection: TlsConnection = make()
        self.connection.connection_made(self.wire)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = identity.client_context().wrap_bio(self._in, self._out, server_hostname="127.0.0.1")

    def shake(self) -> None:
        """Take what the server has said, and answer it."""
        self._in.write(self.wire.written)
        self.wire.written = b""
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.send(self._out.read())

    def read(self) -> bytes:
        """All that the server has said since, up to its goodbye."""
        self._in.write(self.wire.written)
        self.wire.written = b""
        said = b""
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self._tls.read(65536):
                said += piece
        return said

    def send(self, data: bytes) -> None:
        while data and not self.wire.paused:
            into = self.connection.get_buffer(-1)
            count = min(len(into), len(data))
            into[:count] = data[:count]
            data = data[count:]
            self.connection.buffer_updated(count)


class Server(asyncio.Protocol):
    made: list[asyncio.BaseTransport]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.append(transport)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    directory: Path = tmp_path_factory.mktemp("pki")
    return MasterPki.open(directory, "m1", ["127.0.0.1"], SystemClock().wall(), "lab").master


def a_server(identity: Identity, within_s: float = 10.0) -> tuple[Any, list[asyncio.BaseTransport]]:
    made: list[asyncio.BaseTransport] = []

    class Noting(Server):
        pass

    Noting.made = made
    return secured(Noting, identity.server_context(), within_s), made


async def test_one_turn_of_the_loop_does_a_few_steps_in_the_order_they_came(identity: Identity) -> None:
    make, made = a_server(identity)
    clients = [Client(make, identity) for _ in range(3 * STEPS)]
    for client in clients:
        client.shake()
    assert not any(client.wire.written for client in clients)
    for turn in range(1, 4):
        await asyncio.sleep(0)
        answered = [bool(client.wire.written) for client in clients]
        assert answered == [True] * (turn * STEPS) + [False] * ((3 - turn) * STEPS)
    for client in clients:
        client.shake()
    for turn in range(1, 4):
        await asyncio.sleep(0)
        assert made == [client.connection for client in clients[: turn * STEPS]]


async def test_a_connection_that_stands_is_served_between_the_steps_of_others(identity: Identity) -> None:
    make, made = a_server(identity)
    clients = [Client(make, identity) for _ in range(5 * STEPS)]
    for client in clients:
        client.shake()
    served: list[int] = []

    def serve() -> None:
        served.append(sum(bool(client.wire.written) for client in clients))
        if served[-1] < len(clients):
            asyncio.get_running_loop().call_soon(serve)

    asyncio.get_running_loop().call_soon(serve)
    while not served or served[-1] < len(clients):
        await asyncio.sleep(0)
    assert served == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS, 5 * STEPS]
    assert made == []


async def test_those_who_left_while_they_waited_cost_no_turn(identity: Identity) -> None:
    make, _ = a_server(identity)
    clients = [Client(make, identity) for _ in range(3 * STEPS)]
    for client in clients:
        client.shake()
    for client in clients[: 2 * STEPS]:
        client.connection.connection_lost(None)
    await asyncio.sleep(0)
    assert [bool(client.wire.written) for client in clients] == [False] * (2 * STEPS) + [True] * STEPS


async def test_connections_share_what_is_written_through_and_nothing_stays_in_it(identity: Identity) -> None:
    make, made = a_server(identity)
    clients = [Client(make, identity) for _ in range(2)]
    buffers = {client.connection._buffers for client in clients}
    assert len(buffers) == 1
    (shared,) = buffers
    while len(made) < 2:
        for client in clients:
            client.shake()
            await asyncio.sleep(0)
            assert not shared.outgoing.pending
    for number, client in enumerate(clients):
        client.connection.write(b"%d" % number * 40_000)
        assert not shared.outgoing.pending
    for number, client in enumerate(clients):
        assert client.read() == b"%d" % number * 40_000
    clients[0].send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert not shared.outgoing.pending
    assert clients[0].wire.written
    assert clients[0].wire.aborted
    clients[1].connection.close()
    assert not shared.outgoing.pending
    assert clients[1].read() == b""


async def test_waiting_for_a_turn_is_not_the_handshakes_own_time(identity: Identity) -> None:
    make, made = a_server(identity, within_s=0.0)
    client = Client(make, identity)
    client.shake()
    await asyncio.sleep(0)
    assert client.wire.written
    for _ in range(10_000):
        if client.wire.aborted:
            break
        await asyncio.sleep(0)
    assert client.wire.aborted
    assert made == []


async def test_what_comes_meanwhile_is_kept_within_bounds(identity: Identity) -> None:
    make, _ = a_server(identity)
    client = Client(make, identity)
    client.send(b"\x16\x03\x01\x40\x00" + bytes(100_000))
    assert client.wire.paused
    assert len(client.connection._handshake.kept) == tls._KEPT_BYTES
    await asyncio.sleep(0)
    assert not client.wire.paused
    assert client.connection._handshake.kept == b""
