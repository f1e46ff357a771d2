"""Streams into pods through a master's door: attach and port-forward pass through, on connections that are shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from barque.client import wire
from barque.client.podstreams import Process, forward
from barque.master.apiserver.node_channels import IDLE_S, MAX_AGE_S, NodeChannels
from barque.proto import pods_pb2 as pb
from tests.support.clock import FakeClock, settle
from tests.support.harbour import Harbour, a_harbour


@pytest.fixture
async def harbour(tmp_path: Path) -> AsyncIterator[Harbour]:
    async with a_harbour(tmp_path) as made:
        await made.worker("n1")
        await made.pod("web", "n1", "a", "b")
        yield made


async def test_attach_passes_through(harbour: Harbour) -> None:
    process = Process(pb.ExecInput.Start(namespace="default", pod="web", container="b", stdin=True))
    outputs = process.outputs(harbour.connect().pods.Attach)
    await process.send(b"hello")
    assert (await anext(outputs)).stdout == b"HELLO"
    process.resize(80, 24)
    await outputs.aclose()
    assert [m.WhichOneof("input") for m in harbour.workers[0].asked][:2] == ["start", "stdin"]
    await asyncio.wait_for(harbour.workers[0].ended.wait(), 30)


async def test_connections_pass_through_and_share_the_masters_own(harbour: Harbour) -> None:
    connection = harbour.connect()
    start = pb.PortForwardInput.Start(namespace="default", pod="web", port=80)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await forward(connection, start, reader, writer)
        writer.close()

    async def ask(port: int, words: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(words)
        writer.write_eof()
        found = await reader.read()
        writer.close()
        return found

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(30):
        port = server.sockets[0].getsockname()[1]
        words = [b"ship %d" % number for number in range(30)]
        assert await asyncio.gather(*(ask(port, each) for each in words)) == [each.upper() for each in words]
        assert await ask(port, b"later") == b"LATER"
    # One connection of the master's for all of them.
    assert len(set(harbour.workers[0].callers)) == 1


async def _held_open(message: Any) -> AsyncIterator[Any]:
    """Goes on: gRPC's client takes a refusal that comes while it ends its side for a fault of its own."""
    yield message
    await asyncio.Event().wait()


async def test_workers_may_neither_attach_nor_forward(harbour: Harbour) -> None:
    pods = harbour.as_node("n1").pods
    for method, first, name in (
        (pods.Attach, pb.ExecInput(start=pb.ExecInput.Start(namespace="default", pod="web")), "attach"),
        (
            pods.PortForward,
            pb.PortForwardInput(start=pb.PortForwardInput.Start(namespace="default", pod="web", port=80)),
            "portforward",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(method(_held_open(first))))
        assert f'cannot create resource "pods/{name}"' in wire.api_error(refused.value).message


class FakeChannel:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


async def test_a_channel_is_closed_soon_after_its_last_stream() -> None:
    made: list[Any] = []

    def dial(address: str, node: str) -> Any:
        made.append(FakeChannel())
        return made[-1]

    clock = FakeClock()
    channels = NodeChannels(dial, clock)
    async with channels.to("a:1", "n1") as first, channels.to("a:1", "n1") as second, channels.to("b:1", "n2"):
        assert first is second
    await settle()
    await clock.advance(IDLE_S - 1)
    async with channels.to("a:1", "n1") as again:
        await clock.advance(IDLE_S + 1)
        assert (again is made[0], made[0].closed, made[1].closed) == (True, False, True)
        await clock.advance(MAX_AGE_S)
        async with channels.to("a:1", "n1") as fresh:
            assert fresh is made[2]
    await settle()
    await clock.advance(IDLE_S + 1)
    assert [channel.closed for channel in made] == [True, True, True]
    async with channels.to("a:1", "n1"):
        await channels.close()
        assert made[3].closed
