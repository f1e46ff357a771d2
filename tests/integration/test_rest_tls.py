"""TLS at the REST door: what goes through it unchanged, and what becomes of those who do not keep to it."""

import asyncio
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509

from barque.client.clock import SystemClock
from barque.client.pki import Identity
from barque.client.renewal import RenewingIdentity
from barque.master.apiserver.rest.limits import BoundedServer, Limits
from barque.master.apiserver.rest.tls import TlsConnection, secured
from barque.master.auth.ca import MasterPki
from tests.support.clock import FakeClock
from tests.support.expecting import expect_soon_async

LARGE = bytes(range(256)) * 4096 * 5


class Door:
    """A server behind TLS: `/subject` tells whose certificate came, `/large` five megabytes, anything else the body."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[TlsConnection] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        transport: Any = request.transport
        if request.path == "/subject":
            assert request.secure
            certificate = transport.get_extra_info("ssl_object").getpeercert() or {"subject": ()}
            subject = dict(pair for (pair,) in certificate["subject"])
            return web.Response(text=subject.get("commonName", "nobody"))
        if request.path == "/large":
            return web.Response(body=LARGE)
        return web.Response(body=await request.content.read())

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    directory: Path = tmp_path_factory.mktemp("pki")
    return MasterPki.open(directory, "m1", ["127.0.0.1"], SystemClock().wall(), "lab").master


@asynccontextmanager
async def a_door(identity: Identity | RenewingIdentity, handshake_s: float = 60.0) -> AsyncIterator[Door]:
    door = Door()
    server = BoundedServer(door.answer)
    make = secured(server, identity.server_context(), handshake_s)

    def kept() -> TlsConnection:
        door.connections.append(make())
        return door.connections[-1]

    site = await asyncio.get_running_loop().create_server(kept, "127.0.0.1", 0)
    door.port = site.sockets[0].getsockname()[1]
    try:
        yield door
    finally:
        site.close()
        await server.shutdown(0.1)


@asynccontextmanager
async def a_session(context: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


def anonymous(identity: Identity) -> ssl.SSLContext:
    """A client that shows no certificate."""
    return ssl.create_default_context(cadata=identity.ca_pem.decode())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_and_answers_of_any_size(identity: Identity, version: ssl.TLSVersion) -> None:
    context = identity.client_context()
    context.maximum_version = version
    async with a_door(identity) as door, a_session(context) as session:
        for body in (b"", b"x", LARGE):
            async with session.post(door.url("/echo"), data=body) as answer:
                assert await answer.read() == body
        assert len(door.connections) == 1


async def test_certificates_are_seen_and_may_be_missing(identity: Identity) -> None:
    async with a_door(identity) as door:
        for context, name in ((identity.client_context(), identity.subject.name), (anonymous(identity), "nobody")):
            async with a_session(context) as session, session.get(door.url("/subject")) as answer:
                assert await answer.text() == name


async def test_a_foreign_certificate_ends_the_handshake(identity: Identity, tmp_path: Path) -> None:
    foreign = MasterPki.open(tmp_path, "m9", ["127.0.0.1"], SystemClock().wall(), "other").master
    context = anonymous(identity)
    foreign.install(context)
    async with a_door(identity) as door, a_session(context) as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.get(door.url("/subject")):
                pass


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"], ids=["nothing", "a beginning"])
async def test_a_handshake_has_its_time(identity: Identity, said: bytes) -> None:
    async with a_door(identity, handshake_s=0.3) as door:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(said)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        assert 0.2 < time.monotonic() - began < 20
        writer.close()


async def test_what_is_no_tls_is_told_so_and_closed(identity: Identity) -> None:
    async with a_door(identity) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 30)
        assert reader.at_eof() or reader.exception() is not None
        writer.close()


async def test_bytes_that_are_tampered_with_end_the_connection(identity: Identity) -> None:
    async with a_door(identity) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=identity.client_context())
        writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"\x00" * 32)
        with suppress(ConnectionError, ssl.SSLError):
            await asyncio.wait_for(reader.read(), 30)
        assert reader.at_eof() or reader.exception() is not None
        assert door.connections[0].is_closing()
        writer.close()


async def test_the_end_of_an_answer_is_the_end_of_tls_too(identity: Identity) -> None:
    """Without a goodbye a client could not tell a whole answer from one that was cut off."""
    async with a_door(identity) as door:
        context = identity.client_context()
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        client = await asyncio.to_thread(_ask, door.port, context)
        assert client.endswith(LARGE)


async def test_a_client_that_does_not_read_holds_back_the_writer(identity: Identity) -> None:
    async with a_door(identity) as door:
        _, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=identity.client_context(), limit=1024)
        for _ in range(20):
            writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await expect_soon_async(
            lambda: door.connections and door.connections[0].get_write_buffer_size(), 30, "something waits"
        )
        await asyncio.sleep(0.3)
        assert 0 < door.connections[0].get_write_buffer_size() < 2 * len(LARGE)
        writer.transport.abort()


async def test_reading_may_be_paused_between_two_records(identity: Identity) -> None:
    """What OpenSSL has already must not be forgotten when reading goes on."""
    got: list[bytes] = []

    class Hesitant(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            got.append(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.01, self.transport.resume_reading)

    loop = asyncio.get_running_loop()
    site = await loop.create_server(secured(Hesitant, identity.server_context(), 60.0), "127.0.0.1", 0)
    port = site.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=identity.client_context())
    sent = [bytes([n]) * 1000 for n in range(20)]
    for record in sent:
        writer.write(record)
    async with asyncio.timeout(30):
        while sum(map(len, got)) < 20_000:
            await asyncio.sleep(0.01)
    assert b"".join(got) == b"".join(sent)
    writer.close()
    site.close()


def _ask(port: int, context: ssl.SSLContext) -> bytes:
    """A blocking client that takes an end without TLS's goodbye for an error."""
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 60), server_hostname="127.0.0.1",
                             suppress_ragged_eofs=False) as client:  # fmt: skip
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        parts = []
        while part := client.recv(65536):
            parts.append(part)
        return b"".join(parts)


@asynccontextmanager
async def a_door_held(identity: Identity, handshake_s: float) -> AsyncIterator[int]:
    """A door's port; as many as it lets in have connected there, and say nothing."""
    server = BoundedServer(Door().answer, Limits(connections=2, reserve=1))
    make = secured(server, identity.server_context(), handshake_s, server.admits)
    site = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    port = site.sockets[0].getsockname()[1]
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    yield port
    for _, writer in held:
        writer.close()
    site.close()
    await server.shutdown(0.1)


async def test_those_who_never_shake_hands_are_counted(identity: Identity) -> None:
    async with a_door_held(identity, 60) as port:
        reader, refused = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        refused.close()


async def test_there_is_room_again_once_handshakes_have_had_their_time(identity: Identity) -> None:
    async with a_door_held(identity, 1) as port, a_session(identity.client_context()) as session:

        async def answered() -> bool:
            async with session.get(f"https://127.0.0.1:{port}/x") as answer:
                return answer.status == 200

        await expect_soon_async(answered, 30, "somebody is let in")


def _serial(writer: asyncio.StreamWriter) -> int:
    """Of the certificate that the server has shown."""
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown).serial_number


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(30):
        return (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_renewed_certificate_is_shown_from_the_next_handshake_on(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """Connections that there are go on, and so does a handshake that had begun."""
    clock = FakeClock(SystemClock().wall().isoformat())
    pki = MasterPki.open(tmp_path, "m1", ["127.0.0.1"], clock.wall(), "lab")
    renewing = pki.renewing(clock, random.Random(1))
    first, context = renewing.current, renewing.current.client_context()
    context.maximum_version = version
    async with a_door(renewing) as door:
        before = await asyncio.open_connection("127.0.0.1", door.port, ssl=context)
        assert (_serial(before[1]), await _answered(*before)) == (first.certificate.serial_number, True)
        begun = asyncio.create_task(asyncio.to_thread(_shake_hands_slowly, door.port, context, renewed := _Later()))
        assert await asyncio.to_thread(renewed.begun.wait, 60)
        await clock.advance(1)
        await renewing.renew_now()
        renewed.set()
        second = renewing.current
        assert second.certificate.serial_number != first.certificate.serial_number
        after = await asyncio.open_connection("127.0.0.1", door.port, ssl=context)
        assert (_serial(after[1]), await _answered(*after)) == (second.certificate.serial_number, True)
        assert await _answered(*before)
        assert await begun == first.certificate.serial_number
        for _, writer in (before, after):
            writer.close()
    assert Identity.load(tmp_path, "master").cert_pem == second.cert_pem


class _Later(threading.Event):
    """A moment to wait for, once `begun`."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()


def _shake_hands_slowly(port: int, context: ssl.SSLContext, later: _Later) -> int:
    """The serial number of a server's certificate, where the handshake is finished only then."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65536))
                later.begun.set()
                assert later.wait(60)
        shown = client.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown).serial_number
