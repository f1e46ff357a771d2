"""Clients of streams that do not read, over every protocol: what a pod says waits in the pod, and the stream ends in
its time; at once where they have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp
import pytest

from barque.master.apiserver.rest import websockets
from barque.master.apiserver.streams import spdy_connection, wires
from barque.master.apiserver.streams.channels import V4, V5
from barque.master.apiserver.streams.service import PodStreams
from barque.master.apiserver.streams.spdy_forwarding import PROTOCOL as FORWARD
from barque.master.apiserver.streams.spdy_forwarding import TUNNEL_PROTOCOL
from barque.proto import pods_pb2 as pb
from tests.support.clock import FakeClock
from tests.support.expecting import expect_soon_async
from tests.support.spdy_client import SpdyClient, break_off, upgrade
from tests.support.stream_door import FLOODS, StreamDoor

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS = "/api/v1/namespaces/default/pods/alone"
FLOOD = "command=flood&stdout=1"
# What sockets and HTTP/2's windows hold, and no more.
MOST_CHUNKS = 64 * 1024 * 1024 // 65536


class Peer(NamedTuple):
    """A client that reads no more; `keep` is what must not be collected meanwhile."""

    transport: Any
    keep: object = None


async def log(door: StreamDoor, http: aiohttp.ClientSession) -> Peer:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    request = f"GET {PODS}/log?follow=true&tailLines={FLOODS} HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(request.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    return Peer(writer.transport, (reader, writer))


async def websocket(door: StreamDoor, http: aiohttp.ClientSession, subresource: str, query: str, protocol: str) -> Peer:
    socket = await http.ws_connect(door.url("alone", subresource, query), protocols=[protocol], max_msg_size=0)
    connection = socket._response.connection
    assert connection is not None
    if protocol == TUNNEL_PROTOCOL:
        client = SpdyClient(socket.send_bytes, socket.receive_bytes)
        await forward(client)
    return Peer(connection.transport, socket)


async def forward(client: SpdyClient) -> None:
    for kind in ("error", "data"):
        await client.open(streamType=kind, port="83", requestID="1")


async def exec_by_websocket(door: StreamDoor, http: aiohttp.ClientSession) -> Peer:
    return await websocket(door, http, "exec", FLOOD, V5)


async def ports_by_channels(door: StreamDoor, http: aiohttp.ClientSession) -> Peer:
    return await websocket(door, http, "portforward", "ports=83", V4)


async def ports_in_a_tunnel(door: StreamDoor, http: aiohttp.ClientSession) -> Peer:
    return await websocket(door, http, "portforward", "", TUNNEL_PROTOCOL)


async def exec_by_spdy(door: StreamDoor, http: aiohttp.ClientSession) -> Peer:
    client = await upgrade(door.port, f"{PODS}/exec?{FLOOD}", V4)
    for kind in ("error", "stdout"):
        await client.open(streamType=kind)
    return Peer(client._writer.transport, client)


async def ports_by_spdy(door: StreamDoor, http: aiohttp.ClientSession) -> Peer:
    client = await upgrade(door.port, f"{PODS}/portforward", FORWARD)
    await forward(client)
    return Peer(client._writer.transport, client)


PEERS: list[Callable[[StreamDoor, aiohttp.ClientSession], Awaitable[Peer]]] = [
    log, exec_by_websocket, ports_by_channels, ports_in_a_tunnel, exec_by_spdy, ports_by_spdy,
]  # fmt: skip


async def stands_still(door: StreamDoor) -> int:
    """How many chunks the pod has said, once it waits."""
    sent = -1
    async with asyncio.timeout(30):
        while sent < 10 or sent != door.worker.sent:
            sent = door.worker.sent
            await asyncio.sleep(0.15)
    return sent


async def is_let_go(door: StreamDoor, peer: Peer) -> None:
    """The stream has ended at both ends, and counts no longer."""
    await asyncio.wait_for(door.worker.ended.wait(), 60)
    await expect_soon_async(lambda: not door.bounds._running, 60, "the stream counts no longer")
    own = peer.transport.get_extra_info("sockname")
    await expect_soon_async(lambda: own not in callers(door), 60, "the connection has ended")


def callers(door: StreamDoor) -> list[object]:
    assert door.server is not None
    transports = [connection.transport for connection in door.server.connections]
    return [transport.get_extra_info("peername") for transport in transports if transport is not None]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a goodbye."""
    monkeypatch.setattr(websockets, "CLOSE_S", 0.2)
    monkeypatch.setattr(wires, "CLOSE_S", 0.2)
    monkeypatch.setattr(spdy_connection, "GOODBYE_S", 0.2)


@pytest.mark.parametrize("connect", PEERS)
async def test_a_client_that_never_reads_is_let_go_in_its_time(
    door: StreamDoor, http: aiohttp.ClientSession, connect: Callable[..., Awaitable[Peer]]
) -> None:
    clock = FakeClock()
    door.streams = PodStreams(door.places, door.bounds, clock, idle_s=5.0)
    peer = await connect(door, http)
    peer.transport.pause_reading()
    assert await stands_still(door) < MOST_CHUNKS
    assert not door.worker.ended.is_set()
    await clock.advance(5)
    await is_let_go(door, peer)
    peer.transport.abort()


@pytest.mark.parametrize("connect", PEERS)
async def test_a_client_that_has_left_without_reading_is_noticed(
    door: StreamDoor, http: aiohttp.ClientSession, connect: Callable[..., Awaitable[Peer]]
) -> None:
    peer = await connect(door, http)
    peer.transport.pause_reading()
    await stands_still(door)
    assert not door.worker.ended.is_set()
    own = peer.transport.get_extra_info("sockname")
    assert own in callers(door)
    break_off(peer.transport)
    await asyncio.wait_for(door.worker.ended.wait(), 5)
    await expect_soon_async(lambda: not door.bounds._running, 5, "the stream counts no longer")


async def test_a_log_may_be_silent_for_as_long_as_it_likes(door: StreamDoor, http: aiohttp.ClientSession) -> None:
    clock = FakeClock()
    door.streams = PodStreams(door.places, door.bounds, clock, idle_s=5.0)
    async with http.get(door.url("alone", "log", "follow=true")) as answer:
        assert [await answer.content.readline(), await answer.content.readline()] == [b"line 1\n", b"line 2\n"]
        for _ in range(3):
            await clock.advance(60)
        assert not door.worker.ended.is_set()
        assert not answer.content.at_eof()


async def test_what_a_caller_by_grpc_does_not_read_waits_in_the_pod(door: StreamDoor) -> None:
    connection = door.harbour.connect()
    start = pb.ExecInput.Start(namespace="default", pod="alone", command=["flood"])
    running = connection.pods.Exec()
    await running.write(pb.ExecInput(start=start))
    assert await stands_still(door) < MOST_CHUNKS
    await connection.close()
    await asyncio.wait_for(door.worker.ended.wait(), 5)
