"""Frames that no honest client sends, at the streams of the REST door: each ends its own connection as the protocol has
it, with the stream to the worker, and nothing else; what a client does not read or does not let be read stays bounded.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from barque.master.apiserver.rest import websockets
from barque.master.apiserver.streams import spdy_forwarding, wires
from barque.master.apiserver.streams import spdy_frames as spdy
from barque.master.apiserver.streams.channels import MAX_MESSAGE_BYTES, V4, V4_BASE64, V5
from barque.master.apiserver.streams.inflow import CONNECTION_BYTES, Backlog
from barque.master.apiserver.streams.service import PodStreams
from barque.master.apiserver.streams.spdy_forwarding import PROTOCOL as FORWARD
from barque.master.apiserver.streams.spdy_forwarding import TUNNEL_PROTOCOL
from tests.support.clock import FakeClock
from tests.support.expecting import expect_soon_async
from tests.support.raw_websocket import BINARY, CLOSE, CONTINUATION, PING, TEXT, connect, frame
from tests.support.spdy_client import UpgradedClient, break_off, upgrade
from tests.support.stream_door import StreamDoor

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS = "/api/v1/namespaces/default/pods/alone"
CAT = f"{PODS}/exec?command=cat&stdin=1&stdout=1"


async def until(holds: Callable[[], object]) -> None:
    await expect_soon_async(holds, 30, "what the test waits for")


async def idle_to_its_end(door: StreamDoor, clock: FakeClock) -> None:
    """Have time pass until the stream is given up: what was still on its way begins its idleness anew."""

    async def ended() -> bool:
        await clock.advance(5)
        return door.worker.ended.is_set()

    await expect_soon_async(ended, 30, "the stream is given up", pause_s=0.2)


def no_streams_left(door: StreamDoor) -> bool:
    return not door.bounds._running


@asynccontextmanager
async def nothing_else_is_hurt(door: StreamDoor, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Another client's command goes on, nothing is logged as an error, and no stream stays."""
    other = await connect(door.port, CAT, V5)
    assert await other.receive() == (BINARY, b"\x01")
    yield
    await other.send(frame(BINARY, b"\x00still here"))
    async with asyncio.timeout(30):
        assert await other.receive() == (BINARY, b"\x01still here")
    break_off(other.writer.transport)
    await until(lambda: no_streams_left(door))
    own = [record for record in caplog.records if not record.name.startswith("grpc")]
    assert [record.getMessage() for record in own if record.levelno >= logging.WARNING] == []
    assert not door.unexpected


# WebSocket frames.

ABUSES = {
    "no mask": (frame(BINARY, b"\x00x", masked=False), 1002),
    "no mask, after one that has": (frame(BINARY, b"\x00x") + frame(BINARY, b"\x00x", masked=False), 1002),
    "an opcode that is none": (frame(3), 1002),
    "a control opcode that is none": (frame(11), 1002),
    "reserved bits": (b"\xc2\x81\0\0\0\0x", 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a message in the midst of another": (frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"), 1002),
    "a ping in pieces": (frame(PING, b"x", fin=False), 1002),
    "a ping that is too long": (frame(PING, b"x" * 126), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a close code that is none": (frame(CLOSE, b"\x03\xed"), 1002),
    "a close whose words are no text": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "a frame that claims to be too large": (frame(BINARY, length=MAX_MESSAGE_BYTES), 1009),
    "a frame of more than there are bytes": (frame(BINARY, length=2**63), 1009),
    "pieces that never end": (frame(BINARY, b"x" * 65536, fin=False)
                              + frame(CONTINUATION, b"x" * 65536, fin=False) * 63, 1009),
}  # fmt: skip


@pytest.mark.parametrize("abuse", list(ABUSES))
@pytest.mark.parametrize(
    ("path", "protocol"),
    [(CAT, V5), (f"{PODS}/portforward", TUNNEL_PROTOCOL), (f"{PODS}/portforward?ports=80", V4)],
    ids=["exec", "tunnel", "channels"],
)
async def test_frames_that_are_none(
    door: StreamDoor, caplog: pytest.LogCaptureFixture, abuse: str, path: str, protocol: str
) -> None:
    said, code = ABUSES[abuse]
    async with nothing_else_is_hurt(door, caplog):
        socket = await connect(door.port, path, protocol)
        await socket.send(said)
        assert await socket.until_closed() == code
        socket.close()


async def test_an_unmasked_frame_says_nothing_even_right_behind_the_handshake(door: StreamDoor) -> None:
    socket = await connect(door.port, CAT, V5)
    await socket.send(frame(BINARY, b"\x00heard")[:3])
    await socket.send(frame(BINARY, b"\x00heard")[3:] + frame(BINARY, b"\x00not heard", masked=False))
    said = b""
    while (heard := await socket.receive()) is not None:
        said += heard[1] if heard[0] == BINARY else b""
    assert b"not heard" not in said
    assert socket.close_code == 1002
    socket.close()


@pytest.mark.parametrize("number", ["/", "\x00", "~", "9"])
@pytest.mark.parametrize("path", [CAT, f"{PODS}/portforward?ports=80&ports=80"], ids=["exec", "forward"])
async def test_channels_that_there_are_not_are_passed_over(
    door: StreamDoor, caplog: pytest.LogCaptureFixture, path: str, number: str
) -> None:
    """As Kubernetes does; a digit before 0 is not the last channel counted from the end."""
    async with nothing_else_is_hurt(door, caplog):
        socket = await connect(door.port, path, V4_BASE64)
        await socket.send(frame(TEXT, number.encode() + b"d3Jvbmc="))
        await socket.send(frame(TEXT, b"0cmlnaHQ="))
        said: list[bytes] = []
        async with asyncio.timeout(30):
            while not said or said[-1][1:].upper() not in (b"CMLNAHQ=", b"UKLHSFQ="):
                heard = await socket.receive()
                assert heard is not None
                said.append(heard[1])
        assert not any(b"V1JPTkc" in message or b"d3Jvbmc" in message for message in said)
        break_off(socket.writer.transport)


@pytest.mark.parametrize(
    ("path", "protocol", "said", "code"),
    [
        (CAT, V4_BASE64, frame(TEXT, b"0!"), 1007),
        (f"{PODS}/portforward", TUNNEL_PROTOCOL, frame(TEXT, b"x"), 1003),
    ],
)
async def test_payloads_that_are_none(door: StreamDoor, path: str, protocol: str, said: bytes, code: int) -> None:
    socket = await connect(door.port, path, protocol)
    await socket.send(said)
    assert await socket.until_closed() == code
    socket.close()


async def test_a_flood_of_pings_is_answered_in_turns(door: StreamDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, in_turn = 0, collections.Counter[int]()
    loop, answer, count = asyncio.get_running_loop(), web.WebSocketResponse.pong, 5000

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        if in_turn.total() < count:
            loop.call_soon(next_turn)

    async def pong(socket: web.WebSocketResponse, message: bytes = b"") -> None:
        in_turn[turn] += 1
        await answer(socket, message)

    monkeypatch.setattr(web.WebSocketResponse, "pong", pong)
    socket = await connect(door.port, CAT, V5)
    next_turn()
    await socket.send(frame(PING) * count)
    async with asyncio.timeout(60):
        while in_turn.total() < count:
            assert await socket.receive() is not None
    assert max(in_turn.values()) <= websockets.TURN_MESSAGES
    break_off(socket.writer.transport)


async def test_a_client_that_never_reads_is_closed_in_time(
    door: StreamDoor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it is there, for its kernel acknowledges; but a close that it does not take is not waited for."""
    monkeypatch.setattr(websockets, "CLOSE_S", 0.2)
    async with nothing_else_is_hurt(door, caplog):
        clock = FakeClock()
        door.streams = PodStreams(door.places, door.bounds, clock, idle_s=5.0)
        socket = await connect(door.port, f"{PODS}/exec?command=flood&stdout=1", V5)
        socket.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: door.worker.sent > 10)
        await asyncio.sleep(0.3)
        await idle_to_its_end(door, clock)
        # The connection ends as well, and what was on its way with it.
        own = socket.writer.get_extra_info("sockname")
        await until(lambda: own not in peers(door))
        socket.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await socket.until_closed() == 0
        door.streams = PodStreams(door.places, door.bounds, door.clock)
        socket.close()


async def test_a_spdy_client_that_never_reads_is_closed_in_time(
    door: StreamDoor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wires, "CLOSE_S", 0.2)
    async with nothing_else_is_hurt(door, caplog):
        clock = FakeClock()
        door.streams = PodStreams(door.places, door.bounds, clock, idle_s=5.0)
        client = await upgrade(door.port, f"{PODS}/exec?command=flood&stdout=1", V4)
        for kind in ("error", "stdout"):
            await client.open(streamType=kind)
        client._writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent = -1
        while sent < 10 or sent != door.worker.sent:
            sent = door.worker.sent
            await asyncio.sleep(0.3)
        await idle_to_its_end(door, clock)
        own = client._writer.get_extra_info("sockname")
        await until(lambda: own not in peers(door))
        door.streams = PodStreams(door.places, door.bounds, door.clock)
        client.close()


def peers(door: StreamDoor) -> list[object]:
    """Who is connected to the door."""
    assert door.server is not None
    transports = [connection.transport for connection in door.server.connections]
    return [transport.get_extra_info("peername") for transport in transports if transport is not None]


async def test_a_client_that_pauses_is_not_taken_for_gone(door: StreamDoor) -> None:
    """`kubectl exec … | less`: the door's bound for what is not acknowledged would end it after half a minute."""
    client = await connect(door.port, f"{PODS}/exec?command=flood&stdout=1", V5)
    assert await client.receive()
    assert door.server is not None
    own = client.writer.get_extra_info("sockname")
    transports = [connection.transport for connection in door.server.connections if connection.transport is not None]
    held = next(t.get_extra_info("socket") for t in transports if t.get_extra_info("peername") == own)
    assert held.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
    assert not wires._is_left(held)
    break_off(client.writer.transport)
    await until(lambda: wires._is_left(held))


# SPDY frames.


async def forwarding(door: StreamDoor) -> UpgradedClient:
    client = await upgrade(door.port, f"{PODS}/portforward", FORWARD)
    assert client.head.startswith("HTTP/1.1 101 ")
    return client


async def a_pair(client: UpgradedClient, port: int, number: str) -> tuple[int, int]:
    shared = {"port": str(port), "requestID": number}
    return await client.open(streamType="error", **shared), await client.open(streamType="data", **shared)


GOODBYE = spdy.GoAway(0, spdy.GOAWAY_PROTOCOL_ERROR)
_BOMB = zlib.compressobj(zdict=spdy.DICTIONARY)
_BLOCK = _BOMB.compress(b"\0" * 10_000_000) + _BOMB.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    "said",
    [
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x80\3\0\1\0\xff\xff\xff",
        b"\x80\3\0\1" + (10 + len(_BLOCK)).to_bytes(4, "big") + b"\0\0\0\1" + bytes(6) + _BLOCK,
        spdy.Encoder().encode(spdy.WindowUpdate(0, 2**31 - 1)),
        spdy.Encoder().encode(spdy.SynStream(2, {})),
    ],
    ids=["garbage", "HTTP", "a large control frame", "a bomb", "a wide window", "an even stream"],
)
@pytest.mark.parametrize("kind", ["exec", "forward", "tunnel"])
async def test_frames_that_break_spdy(
    door: StreamDoor, caplog: pytest.LogCaptureFixture, kind: str, said: bytes
) -> None:
    async with nothing_else_is_hurt(door, caplog):
        if kind == "tunnel":
            socket = await connect(door.port, f"{PODS}/portforward", TUNNEL_PROTOCOL)
            await socket.send(frame(BINARY, said))
            heard = await socket.receive()
            # What looks like data of no stream gets a reset instead, and the connection may go on.
            assert heard is not None
            assert list(spdy.Decoder().feed(heard[1])) == [GOODBYE] or said.startswith(b"GET")
            break_off(socket.writer.transport)
        else:
            path = f"{PODS}/portforward" if kind == "forward" else CAT
            client = await upgrade(door.port, path, FORWARD if kind == "forward" else V4)
            await client._write(said)
            await client.read(lambda: client.frames)
            assert client.frames[0] == GOODBYE or said.startswith(b"GET")
            client.close()


async def test_one_stream_that_is_reset_leaves_the_others_alone(
    door: StreamDoor, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where all of them wait for a client that does not read."""
    async with nothing_else_is_hurt(door, caplog):
        client = await forwarding(door)
        pairs = [await a_pair(client, 83, str(number)) for number in range(3)]
        await until(lambda: door.worker.sent > 30)
        await asyncio.sleep(0.3)
        await client.send(spdy.RstStream(pairs[0][1], spdy.CANCEL))
        await asyncio.wait_for(door.worker.ended.wait(), 30)
        heard = collections.Counter[int]()
        async with asyncio.timeout(60):
            # More than what was on its way already.
            while min(heard[data] for _, data in pairs[1:]) < 12 * 2**20:
                for said in client._decoder.feed(await client._read_some()):
                    assert not isinstance(said, spdy.RstStream)
                    heard[getattr(said, "stream", 0)] += len(said.data) if isinstance(said, spdy.Data) else 0
        client.close()


async def test_streams_that_are_opened_and_reset_at_once_do_not_pile_up(
    door: StreamDoor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spdy_forwarding, "MAX_PAIRS", 20)
    async with nothing_else_is_hurt(door, caplog):
        client = await forwarding(door)
        for number in range(50):
            stream = await client.open(streamType="error", port="80", requestID=str(number))
            await client.send(spdy.RstStream(stream, spdy.CANCEL))
        await client.send(spdy.Ping(1))
        await client.read(lambda: spdy.Ping(1) in client.frames)
        refused = [f for f in client.frames if f == spdy.RstStream(getattr(f, "stream", 0), spdy.REFUSED_STREAM)]
        assert len(refused) == 30
        client.close()


@pytest.mark.parametrize("kind", ["spdy", "channels"])
async def test_what_no_port_takes_is_held_for_all_of_them_together(
    door: StreamDoor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Port 84 reads nothing. What a client can get rid of is what sockets and calls hold, not so much a stream."""
    backlogs: list[Backlog] = []
    begin = Backlog.__init__

    def noted(backlog: Backlog, *limit: int) -> None:
        begin(backlog, *limit)
        backlogs.append(backlog)

    monkeypatch.setattr(Backlog, "__init__", noted)
    count, most = 30, 0
    async with nothing_else_is_hurt(door, caplog):
        if kind == "spdy":
            client = await forwarding(door)
            pairs = [await a_pair(client, 84, str(number)) for number in range(count)]
            writer, pieces = client._writer, [client._encoder.encode(spdy.Data(d, b"x" * 65536)) for _, d in pairs]
        else:
            ports = "&".join(["ports=84"] * count)
            socket = await connect(door.port, f"{PODS}/portforward?{ports}", V4)
            writer = socket.writer
            pieces = [frame(BINARY, bytes([2 * number]) + b"x" * 65536) for number in range(count)]

        async def flood() -> None:
            while True:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()

        flooding = asyncio.create_task(flood())
        async with asyncio.timeout(60):
            # Full for a while: until the calls to the worker are full too, it comes and goes.
            while not (most and backlogs[0].is_full and most == backlogs[0].held_bytes):
                most = backlogs[0].held_bytes if backlogs else 0
                await asyncio.sleep(0.2)
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        assert CONNECTION_BYTES <= most <= CONNECTION_BYTES + 2 * 65536
        break_off(writer.transport)
