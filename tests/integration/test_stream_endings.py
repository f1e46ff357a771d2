"""A stream that its server ends while the client still sends: the client hears the server's words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from barque.api.errors import ApiError, bad_request
from barque.api.types.core_v1 import Node
from barque.client import pki, wire
from barque.client.clock import SystemClock
from barque.client.endings import answered
from barque.client.podstreams import Process
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.proto import images_pb2, images_pb2_grpc, pods_pb2, pods_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from barque.worker.sessions import Heartbeat

# More than the connection takes at once, so that a message is under way whenever the server ends the stream.
LARGE = bytes(256 * 1024)
# How it goes depends on who is faster.
TURNS = 20
WHY = "the archive is larger than was announced"


class Peer(images_pb2_grpc.ImagesServicer, pods_pb2_grpc.PodsServicer, sessions_pb2_grpc.SessionsServicer):
    """Reads one message of each stream, and ends it: an upload and a heartbeat with a refusal, a process well."""

    async def Load(self, request_iterator: Any, context: Any) -> None:
        await anext(request_iterator)
        await self._refuse(context)

    async def Heartbeat(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        beat = await anext(request_iterator)
        yield sessions_pb2.BeatReply(sequence=beat.sequence, interval_ms=1)
        await self._refuse(context)

    async def Exec(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        first = await anext(request_iterator)
        if first.start.container == "none":
            await self._refuse(context)
        for piece in (b"one", b"two"):
            yield pods_pb2.ExecOutput(stdout=piece)

    async def _refuse(self, context: Any) -> None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, WHY, wire.status_metadata(bad_request(WHY)))


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    now = SystemClock().wall()
    authority = pki.create_authority(now)
    master = authority.identity(pki.Subject("m1", ()), now, [pki.MASTER_HOST])
    server, peer = grpc.aio.server(options=wire.SERVER_OPTIONS), Peer()
    images_pb2_grpc.add_ImagesServicer_to_server(peer, server)
    pods_pb2_grpc.add_PodsServicer_to_server(peer, server)
    sessions_pb2_grpc.add_SessionsServicer_to_server(peer, server)
    port = wire.listen(server, "127.0.0.1:0", master.server_credentials())
    await server.start()
    client = authority.identity(pki.Subject("someone", ()), now)
    async with connect(Profile.of([f"127.0.0.1:{port}"], client)) as made:
        await made.ready()
        yield made
    await server.stop(None)


async def an_archive() -> AsyncIterator[images_pb2.LoadInput]:
    while True:
        yield images_pb2.LoadInput(data=LARGE)


async def test_a_door_without_such_calls_is_told_from_a_masters(connection: Connection) -> None:
    """As the masters' own is, on the next port."""
    with pytest.raises(ApiError) as refused:
        await connection.client.list(Node)
    assert (refused.value.code, refused.value.reason) == (405, "MethodNotAllowed")
    assert "door for clients, whose port is 7443 where nothing else was said" in refused.value.message


async def test_an_upload_that_is_refused_tells_why(connection: Connection) -> None:
    for _ in range(TURNS):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await answered(connection.images.Load(an_archive()))
        told = wire.api_error(refused.value)
        assert (told.code, told.message) == (400, WHY)


async def outputs(connection: Connection, container: str) -> list[bytes]:
    """Of a process that is sent more than it reads."""
    process = Process(pods_pb2.ExecInput.Start(namespace="default", pod="web", container=container))

    async def feed() -> None:
        while True:
            await process.send(LARGE)

    feeding = asyncio.create_task(feed())
    try:
        return [output.stdout async for output in process.outputs(connection.pods.Exec)]
    finally:
        feeding.cancel()


async def test_a_process_that_ends_before_it_has_read_all_has_ended_well(connection: Connection) -> None:
    for _ in range(TURNS):
        assert await outputs(connection, "web") == [b"one", b"two"]


async def test_a_process_that_is_refused_tells_why(connection: Connection) -> None:
    for _ in range(TURNS):
        with pytest.raises(ApiError) as refused:
            await outputs(connection, "none")
        assert (refused.value.code, refused.value.message) == (400, WHY)


class AnotherPace(SystemClock):
    """Pauses so long, whatever it is asked for."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(self._pause_s)


@pytest.mark.parametrize("pause_s", [0.0, 0.01], ids=["while it beats", "between two beats"])
async def test_a_worker_hears_why_its_sessions_end(
    connection: Connection, pause_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [
            r.getMessage() for r in caplog.records if (r.name, r.levelname) == ("barque.worker.sessions", "WARNING")
        ]

    heartbeat = Heartbeat(connection, "n1", lambda: "uid", lambda up: None, AnotherPace(pause_s))
    beating = asyncio.create_task(heartbeat.run())
    async with asyncio.timeout(20):
        while len(told()) < TURNS:
            await asyncio.sleep(0.005)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    assert set(told()) == {f"no session with a master, and keep trying; pods go on: {WHY}"}
