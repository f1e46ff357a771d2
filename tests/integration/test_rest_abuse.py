"""What may be done to the REST door by those who mean harm: slow, endless, malformed and too many requests."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
from aiohttp import web

from barque.master.apiserver.rest.limits import BoundedConnection, BoundedServer, Limits
from tests.support.expecting import expect_soon_async

PATIENT = Limits(connections=3, reserve=2, headers_s=60, unread_body_s=60, line_bytes=4096, field_bytes=4096, fields=20)
QUICK = PATIENT._replace(headers_s=0.3, unread_body_s=0.3)
GOOD = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


class Door:
    """A bounded server whose every path says ok, but `/wait`, which never answers."""

    def __init__(self) -> None:
        self.port = 0
        self.server: Any = None

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/wait":
            await asyncio.sleep(60)
        return web.Response(text="ok")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def accepted(self, count: int) -> list[BoundedConnection]:
        """The connections, once there are so many."""
        await expect_soon_async(lambda: len(self.server.connections) == count, 30, f"{count} connections")
        connections: list[BoundedConnection] = self.server.connections
        return connections

    async def say(self, data: bytes) -> bytes:
        """All that is answered until the connection is closed."""
        reader, writer = await self.connect()
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def a_door(limits: Limits = PATIENT) -> AsyncIterator[Door]:
    door = Door()
    door.server = BoundedServer(door.answer, limits, keepalive_timeout=60)
    site = await asyncio.get_running_loop().create_server(door.server, "127.0.0.1", 0)
    door.port = site.sockets[0].getsockname()[1]
    looking = asyncio.ensure_future(door.server.run())
    try:
        yield door
    finally:
        looking.cancel()
        site.close()
        await door.server.shutdown(0.1)


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The code and body of one answer."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


@pytest.mark.parametrize("said", [b"", b"GET /x HT", b"GET /x HTTP/1.1\r\nHost: x\r\n"])
async def test_headers_that_never_end_are_not_waited_for(said: bytes) -> None:
    async with a_door(QUICK) as door:
        began = time.monotonic()
        assert await door.say(said) == b""
        assert 0.25 <= time.monotonic() - began < 20


async def test_headers_that_trickle_get_no_more_time() -> None:
    async with a_door(QUICK) as door:
        reader, writer = await door.connect()
        began = time.monotonic()
        writer.write(b"GET /x HTTP/1.1\r\n")
        while time.monotonic() - began < 30 and not reader.at_eof():
            writer.write(b"x")
            with suppress(ConnectionError):
                await writer.drain()
            await asyncio.sleep(0.05)
        assert time.monotonic() - began < 20


async def test_a_connection_between_requests_may_be_idle_but_not_begin_slowly() -> None:
    async with a_door(QUICK) as door:
        reader, writer = await door.connect()
        writer.write(GOOD)
        assert await answered(reader) == (200, b"ok")
        await asyncio.sleep(0.8)
        writer.write(GOOD)
        assert await answered(reader) == (200, b"ok")
        writer.write(GOOD[:9])
        assert await asyncio.wait_for(_rest(reader), 30) == b""


async def test_a_request_that_is_answered_slowly_is_not_cut_off() -> None:
    async with a_door() as door:
        reader, writer = await door.connect()
        writer.write(GOOD.replace(b"/x", b"/wait"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 1)
        writer.close()


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 431, "RequestHeaderFieldsTooLarge"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 10_000 + b"\r\n\r\n", 431, "RequestHeaderFieldsTooLarge"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431, "RequestHeaderFieldsTooLarge"),
        (b"\x16\x03\x01 nothing like HTTP\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "BadRequest"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "BadRequest"),
    ],
    ids=["long line", "long header", "many headers", "no HTTP", "negative length", "two lengths"],
)
async def test_what_is_too_large_or_no_request_is_refused(
    said: bytes, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_door() as door:
        with caplog.at_level(logging.INFO):
            head, _, body = (await door.say(said)).partition(b"\r\n\r\n")
        assert int(head.split()[1]) == code
        status = msgspec.json.decode(body)
        assert (status["kind"], status["code"], status["reason"]) == ("Status", code, reason)
        # What the garbage collector finds of other tests is none of the door's words.
        assert not [record for record in caplog.records if record.name != "asyncio"]
        assert (await door.say(GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))).endswith(b"ok")


async def test_a_body_that_nobody_reads_ends_the_connection() -> None:
    async with a_door(QUICK) as door:
        reader, writer = await door.connect()
        writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert (await answered(reader))[0] == 200
        with pytest.raises(ConnectionError):
            await _pour(writer)


async def test_a_client_reads_why_its_body_was_not_wanted() -> None:
    async with a_door() as door:
        reader, writer = await door.connect()
        for _ in range(2):
            writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
            assert await answered(reader) == (200, b"ok")
            writer.write(b"x" * 3_000_000)
            await asyncio.wait_for(writer.drain(), 30)
        writer.close()


async def test_a_body_that_comes_after_its_headers_is_no_slow_request() -> None:
    async with a_door(QUICK) as door:
        reader, writer = await door.connect()
        connection: Any = (await door.accepted(1))[0]
        # As two records of TLS come, of which the loop handles none in between.
        connection.data_received(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        connection.data_received(b"abc")
        assert await answered(reader) == (200, b"ok")
        await asyncio.sleep(0.8)
        writer.write(GOOD)
        assert await answered(reader) == (200, b"ok")
        writer.close()


async def test_nobody_is_told_what_the_door_is_made_of() -> None:
    async with a_door() as door:
        for said in (GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"no HTTP\r\n\r\n"):
            assert b"\r\nserver:" not in (await door.say(said)).lower()


async def test_too_many_connections_leave_room_for_health_alone() -> None:
    async with a_door() as door:
        held = [await door.connect() for _ in range(3)]
        for reader, writer in held:
            writer.write(GOOD)
            assert (await answered(reader))[0] == 200
        health = await door.say(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert health.startswith(b"HTTP/1.1 200")
        refused = await door.say(GOOD)
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"Retry-After: 1" in refused
        await door.accepted(3)
        reserve = [await door.connect() for _ in range(2)]
        await door.accepted(5)
        assert await door.say(GOOD) == b""
        for _, writer in (*held, *reserve):
            writer.close()
        await door.accepted(0)
        reader, writer = await door.connect()
        writer.write(GOOD)
        assert await answered(reader) == (200, b"ok")
        writer.close()


async def test_a_peer_that_vanishes_is_found_out_by_tcp() -> None:
    async with a_door() as door:
        _, writer = await door.connect()
        (connection,) = await door.accepted(1)
        assert isinstance(connection, BoundedConnection)
        assert connection.transport is not None
        peer = connection.transport.get_extra_info("socket")
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        writer.close()


async def _pour(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(30):
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
