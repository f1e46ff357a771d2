"""Clients of the gRPC door that do not read: what was to be theirs waits at its source, their streams end in their
time, and at once where they have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from barque.api.errors import ApiError
from barque.api.types.core_v1 import ConfigMap
from barque.api.types.meta_v1 import ObjectMeta
from barque.client import wire
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.master.apiserver import pods_service, resources_service
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.messages import Registrar
from barque.master.apiserver.node_channels import NodeChannels, dialer
from barque.master.apiserver.pods_service import PodsService
from barque.master.apiserver.resources_service import ResourcesService
from barque.master.apiserver.streams import idle
from barque.master.apiserver.streams.idle import Idleness
from barque.proto import pods_pb2 as pb
from barque.proto import pods_pb2_grpc, resources_pb2, resources_pb2_grpc
from tests.support.clock import FakeClock
from tests.support.expecting import expect_soon_async
from tests.support.stream_door import FLOODS, StreamDoor

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDLE_S = 5.0
# What HTTP/2's windows hold, and no more.
MOST_CHUNKS = 64 * 1024 * 1024 // 65536
CONFIGMAPS = resources_pb2.Target(version="v1", resource="configmaps", namespace="default")


class Quay:
    """A gRPC door beside the other one, whose streams are idle by `clock`; `connection` leads there."""

    def __init__(self, door: StreamDoor) -> None:
        self.worker = door.worker
        self.clock = FakeClock()
        self.bounds = Bounds()
        self.connection: Connection
        self.admin = door.harbour.admin

    @property
    def streams(self) -> int:
        return self.bounds._running.total()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def moored(opened: StreamDoor) -> AsyncIterator[Quay]:
    harbour, quay = opened.harbour, Quay(opened)
    channels = NodeChannels(dialer(lambda: harbour.pki.master), opened.clock)
    server = grpc.aio.server(options=wire.SERVER_OPTIONS)
    pods = PodsService(harbour.registry, channels, quay.bounds, quay.clock, idle_s=IDLE_S)
    pods_pb2_grpc.add_PodsServicer_to_server(pods, Registrar(server))
    ResourcesService(harbour.registry, quay.bounds).add_to_server(server)
    port = server.add_secure_port("127.0.0.1:0", harbour.pki.master.server_credentials())
    await server.start()
    async with connect(Profile.of([f"127.0.0.1:{port}"], harbour.pki.admin)) as quay.connection:
        yield quay
    await server.stop(0)
    await channels.close()


@pytest_asyncio.fixture(loop_scope="module")
async def quay(moored: Quay, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Quay]:
    moored.worker.forget()
    monkeypatch.setattr(idle, "CHECK_S", 0.5)
    yield moored
    await expect_soon_async(lambda: not moored.streams, 30, "the streams of the test have ended")


async def log(quay: Quay) -> Any:
    return quay.connection.pods.Logs(pb.LogsRequest(namespace="default", pod="alone", follow=True, tail_lines=FLOODS))


async def process(quay: Quay, method: str, *command: str) -> Any:
    call = getattr(quay.connection.pods, method)()
    await call.write(pb.ExecInput(start=pb.ExecInput.Start(namespace="default", pod="alone", command=command)))
    return call


async def exec_(quay: Quay) -> Any:
    return await process(quay, "Exec", "flood")


async def attach(quay: Quay) -> Any:
    return await process(quay, "Attach", "flood")


async def port_forward(quay: Quay, port: int = 83) -> Any:
    call = quay.connection.pods.PortForward()
    start = pb.PortForwardInput.Start(namespace="default", pod="alone", port=port)
    await call.write(pb.PortForwardInput(start=start))
    return call


floods = pytest.mark.parametrize("call", [log, exec_, attach, port_forward])
Calling = Callable[[Quay], Awaitable[Any]]


async def stands_still(quay: Quay) -> int:
    """How many chunks the pod has said, once it waits."""
    sent = -1
    async with asyncio.timeout(30):
        while sent < 10 or sent != quay.worker.sent:
            sent = quay.worker.sent
            await asyncio.sleep(0.15)
    return sent


async def rest_of(call: Any) -> ApiError:
    """Reads to the end; how it ended."""
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(_read_all(call), 30)
    return wire.api_error(ended.value)


async def _read_all(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def logged_by_the_door(caplog: pytest.LogCaptureFixture) -> list[str]:
    """grpc logs of the worker of these tests, which is all gRPC's own, that its stream was broken off."""
    return [message for message in caplog.messages if "/barque.v1.Node/" not in message]


@floods
async def test_a_caller_that_never_reads_is_let_go_in_its_time(quay: Quay, call: Calling) -> None:
    stream = await call(quay)
    assert await stands_still(quay) < MOST_CHUNKS
    await quay.clock.advance(IDLE_S - 1)
    assert not quay.worker.ended.is_set()
    await quay.clock.advance(1)
    await asyncio.wait_for(quay.worker.ended.wait(), 30)
    # The end waits for the caller, and is counted as long as it does.
    assert quay.streams == 1
    ended = await rest_of(stream)
    assert (ended.code, ended.reason, ended.message) == (504, "Timeout", "the stream was idle for 5 s")


@floods
async def test_a_caller_that_has_left_without_reading_is_noticed(quay: Quay, call: Calling) -> None:
    stream = await call(quay)
    await stands_still(quay)
    assert not quay.worker.ended.is_set()
    stream.cancel()
    await asyncio.wait_for(quay.worker.ended.wait(), 5)
    await expect_soon_async(lambda: not quay.streams, 5, "the stream counts no longer")


@floods
async def test_a_caller_that_leaves_after_its_time_counts_no_longer(
    quay: Quay, call: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await call(quay)
    await stands_still(quay)
    await quay.clock.advance(IDLE_S)
    await asyncio.wait_for(quay.worker.ended.wait(), 30)
    stream.cancel()
    await expect_soon_async(lambda: not quay.streams, 5, "the stream counts no longer")
    assert logged_by_the_door(caplog) == []


@pytest.mark.parametrize("subresource", ["Exec", "Attach", "PortForward"])
async def test_what_is_said_in_one_direction_keeps_a_stream(quay: Quay, subresource: str) -> None:
    """A pod that reads nothing and says nothing, and a caller that now and then has something to say."""
    if subresource == "PortForward":
        stream, said = await port_forward(quay, 84), pb.PortForwardInput(data=b"x")
    else:
        stream, said = await process(quay, subresource, "deaf"), pb.ExecInput(stdin=b"x")
    await stream.read()
    for _ in range(3):
        await quay.clock.advance(IDLE_S - 1)
        await stream.write(said)
        # The door has it a moment later.
        await asyncio.sleep(0.1)
    assert not quay.worker.ended.is_set()
    await quay.clock.advance(IDLE_S)
    await asyncio.wait_for(quay.worker.ended.wait(), 30)
    assert (await rest_of(stream)).message == "the stream was idle for 5 s"


async def test_a_log_may_be_silent_for_as_long_as_it_likes(quay: Quay) -> None:
    stream = quay.connection.pods.Logs(pb.LogsRequest(namespace="default", pod="alone", follow=True))
    assert [(await stream.read()).data, (await stream.read()).data] == [b"line 1\n", b"line 2\n"]
    for _ in range(3):
        await quay.clock.advance(10 * IDLE_S)
    assert not quay.worker.ended.is_set()
    stream.cancel()


async def test_nor_has_a_log_to_say_anything_at_first() -> None:
    clock = FakeClock()
    idleness = Idleness(clock, IDLE_S)

    async def silent() -> AsyncGenerator[Any, None]:
        await asyncio.Event().wait()
        yield

    context: Any = None
    running = asyncio.create_task(idleness.run(pods_service._pass_log(context, silent(), idleness)))
    for _ in range(3):
        await clock.advance(10 * IDLE_S)
    assert not running.done()
    running.cancel()


def resources(quay: Quay) -> Any:
    return resources_pb2_grpc.ResourcesStub(quay.connection.channels.channel)


async def ensure_large_objects(quay: Quay) -> None:
    """Objects of a megabyte, enough of them to fill the windows."""
    if (await quay.admin.list(ConfigMap, "default")).items:
        return
    for number in range(24):
        meta = ObjectMeta(name=f"large-{number}", namespace="default")
        await quay.admin.create(ConfigMap(metadata=meta, data={"k": "x" * 1_000_000}))


@pytest.mark.parametrize("method", ["Watch", "List"])
async def test_who_does_not_take_events_or_a_list_is_told_so(
    quay: Quay, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_large_objects(quay)
    monkeypatch.setattr(resources_service, "WRITE_S", 0.3)
    calls = resources(quay)
    asked = resources_pb2.WatchRequest if method == "Watch" else resources_pb2.ListRequest
    stream = getattr(calls, method)(asked(target=CONFIGMAPS))
    await asyncio.sleep(1.0)
    assert quay.streams == 1
    ended = await rest_of(stream)
    advice = "resume from the last revision that came" if method == "Watch" else "ask for the list again"
    assert (ended.code, ended.message) == (503, f"nothing was read for 0 s; {advice}")


@pytest.mark.parametrize("method", ["Watch", "List"])
async def test_who_leaves_in_the_midst_of_it_is_no_failure_of_ours(
    quay: Quay, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    await ensure_large_objects(quay)
    asked = resources_pb2.WatchRequest if method == "Watch" else resources_pb2.ListRequest
    stream = getattr(resources(quay), method)(asked(target=CONFIGMAPS))
    await expect_soon_async(lambda: quay.streams, 30, "it has begun")
    await asyncio.sleep(0.2)
    stream.cancel()
    await expect_soon_async(lambda: not quay.streams, 5, "the stream counts no longer")
    assert logged_by_the_door(caplog) == []
