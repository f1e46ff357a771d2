"""The worker's gRPC door on loopback: masters are served, nobody else; logs, commands and connections of its pods."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

from barque.client import wire
from barque.client.clock import SystemClock
from barque.client.pki import ADMIN, Authority, create_authority, master_subject, node_host, node_subject
from barque.proto import node_pb2, node_pb2_grpc
from barque.proto import pods_pb2 as pb
from barque.worker.server import calls
from barque.worker.server.door import serve
from barque.worker.server.images import NodeImagesService
from barque.worker.server.service import NodeService
from barque.worker.stats.disks import Disks
from barque.worker.stats.gauges import Gauges
from barque.worker.stats.meter import Meter
from tests.support.ports import free_port
from tests.support.worker_world import World, a_container, a_pod, a_world

NOW = SystemClock().wall()
LINE = b"log of barque_web_p_default_uid-p_0\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority(NOW)


class Door(NamedTuple):
    world: World
    port: int


async def dial_host(netns: str, port: int, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Stands for the pod's network namespace: this one."""
    assert netns.startswith("/proc/")
    return await asyncio.open_connection("127.0.0.1", port)


async def in_place(work: Any, *args: Any) -> Any:
    return work(*args)


@contextlib.asynccontextmanager
async def a_door(tmp_path: Path, authority: Authority, *containers: Any) -> AsyncIterator[Door]:
    """A worker with one running pod."""
    async with a_world(tmp_path) as world:
        await world.want(a_pod("p", *containers))
        identity = authority.identity(node_subject("n1"), NOW, [node_host("n1")])
        gauges, disks = Gauges(world.clock, tmp_path), Disks(world.runtime, world.clock, in_place)
        meter = Meter(gauges, disks, world.clock, in_place)
        service = NodeService(world.manager, world.runtime, meter, world.clock, dial_host)
        images = NodeImagesService(world.runtime, lambda _: None)
        server, port = await serve(service, images, "127.0.0.1:0", identity.server_credentials())
        try:
            yield Door(world, port)
        finally:
            await server.stop(None)


def a_channel(port: int, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, wire.channel_options(node_host("n1")))


@contextlib.asynccontextmanager
async def a_master(tmp_path: Path, authority: Authority, *containers: Any) -> AsyncIterator[tuple[World, Any]]:
    """A worker, and a master's stub on it."""
    credentials = authority.identity(master_subject("m1"), NOW).channel_credentials()
    async with a_door(tmp_path, authority, *containers) as door, a_channel(door.port, credentials) as channel:
        yield door.world, node_pb2_grpc.NodeStub(channel)


async def refusal(call: Any) -> str:
    """The words of the refusal a stream ends with, and its Kubernetes reason."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async with asyncio.timeout(30):
            await anext(aiter(call))
    error = wire.api_error(refused.value)
    return f"{error.reason}: {error.message}"


def logs(**fields: Any) -> pb.LogsRequest:
    return pb.LogsRequest(**({"namespace": "default", "pod": "p", "tail_lines": -1} | fields))


async def opened(call: Any) -> tuple[AsyncIterator[pb.LogsChunk], str]:
    """A followed log that is open, and its position."""
    stream = aiter(call)
    first = await anext(stream)
    assert first.data == b""
    return stream, first.position


async def text(call: Any) -> bytes:
    return b"".join([chunk.data async for chunk in call])


class Speaker:
    """The caller's side of a two-way stream; what is said is sent in order."""

    def __init__(self, *messages: Any) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        for message in messages:
            self.say(message)

    def say(self, message: Any) -> None:
        self._queue.put_nowait(message)

    def __aiter__(self) -> Speaker:
        return self

    async def __anext__(self) -> Any:
        if (message := await self._queue.get()) is None:
            raise StopAsyncIteration
        return message


def starting(**fields: Any) -> pb.ExecInput:
    return pb.ExecInput(start=pb.ExecInput.Start(**({"namespace": "default", "pod": "p"} | fields)))


# Who is served.


async def silence() -> AsyncIterator[pb.ExecInput]:
    """Says nothing: gRPC's client takes a refusal that comes while it sends for a fault of its own."""
    await asyncio.Event().wait()
    yield pb.ExecInput()


@pytest.mark.parametrize("who", [node_subject("n1"), node_subject("n2"), ADMIN], ids=["itself", "another", "admin"])
async def test_nobody_but_masters_is_served(tmp_path: Path, authority: Authority, who: object) -> None:
    other = authority.identity(who, NOW)  # type: ignore[arg-type]
    async with a_door(tmp_path, authority) as door, a_channel(door.port, other.channel_credentials()) as channel:
        stub = node_pb2_grpc.NodeStub(channel)
        streams = (stub.Logs(logs()), stub.Exec(silence()), stub.Attach(silence()), stub.PortForward(silence()))
        for call in streams:
            assert (await refusal(call)).startswith("Forbidden: ")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Stats(node_pb2.StatsRequest())
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "a worker serves masters only" in str(refused.value.details())


async def test_a_certificate_of_another_authority_does_not_connect(tmp_path: Path, authority: Authority) -> None:
    stranger = create_authority(NOW).identity(master_subject("m1"), NOW)
    credentials = grpc.ssl_channel_credentials(
        authority.identity(ADMIN, NOW).ca_pem, stranger.key_pem, stranger.cert_pem
    )
    async with a_door(tmp_path, authority) as door, a_channel(door.port, credentials) as channel:
        call = node_pb2_grpc.NodeStub(channel).Logs(logs(), timeout=20)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(call))
        assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_a_taken_port_is_said(tmp_path: Path, authority: Authority) -> None:
    identity = authority.identity(node_subject("n1"), NOW, [node_host("n1")])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = node_pb2_grpc.NodeServicer()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {address}"):
            await serve(service, NodeImagesService(None, print), address, identity.server_credentials())  # type: ignore[arg-type]


async def test_too_many_streams_are_refused(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(calls.MAX_CALLS, "streams", 1)
    async with a_master(tmp_path, authority) as (_, stub):
        first = stub.Logs(logs(follow=True))
        await opened(first)
        assert await refusal(stub.Logs(logs())) == "TooManyRequests: this worker serves 1 streams already"
        first.cancel()
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    assert await text(stub.Logs(logs())) == LINE
                    break


# Logs.


async def test_logs_are_cut_as_asked(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        web = world.runtime.running("web").id
        await world.pass_time(60)
        world.runtime.write_log(web, b"one\n", b"two\n")
        stamp = f"{world.clock.wall():%Y-%m-%dT%H:%M:%S.%f}000Z"
        assert await text(stub.Logs(logs())) == LINE + b"one\ntwo\n"
        assert await text(stub.Logs(logs(tail_lines=1))) == b"two\n"
        assert await text(stub.Logs(logs(tail_lines=0))) == b""
        assert await text(stub.Logs(logs(since_s=59))) == b"one\ntwo\n"
        assert await text(stub.Logs(logs(since_time=stamp))) == b"one\ntwo\n"
        assert await text(stub.Logs(logs(limit_bytes=5))) == LINE[:5]
        assert await text(stub.Logs(logs(limit_bytes=len(LINE) + 6))) == LINE + b"one\ntw"
        stamped = await text(stub.Logs(logs(timestamps=True, tail_lines=2)))
        assert stamped.decode() == f"{stamp} one\n{stamp} two\n"


async def test_a_long_line_has_one_timestamp(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        world.runtime.write_log(world.runtime.running("web").id, b"x" * 16384, b"y\n", b"z\n")
        shown = (await text(stub.Logs(logs(timestamps=True, tail_lines=2)))).splitlines()
        assert [len(line.split(b" ", 1)[1]) for line in shown] == [16385, 1]


async def test_a_followed_log_is_taken_up_again_without_loss_or_repetition(
    tmp_path: Path, authority: Authority
) -> None:
    """Also where several lines are of one moment, and where a line's pieces come apart."""
    async with a_master(tmp_path, authority) as (world, stub):
        web = world.runtime.running("web").id
        written = [b"b\n", b"c\n", b"d", b"d\n", b"e\n"]
        world.runtime.write_log(web, *written)
        whole = [LINE, *written]
        for cut in range(len(whole)):
            first = stub.Logs(logs(follow=True, timestamps=True))
            stream, position = await opened(first)
            seen = [await anext(stream) for _ in range(cut)]
            first.cancel()
            position = seen[-1].position if seen else position
            again = stub.Logs(logs(follow=True, timestamps=True, position=position))
            rest = aiter(again)
            seen += [await anext(rest) for _ in range(len(whole) - cut)]
            assert b"".join(chunk.data.split(b"Z ")[-1] for chunk in seen) == b"".join(whole)
            assert b"".join(chunk.data for chunk in seen).count(b"Z ") == 5
            again.cancel()


async def test_a_log_is_taken_up_again_at_the_same_container(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        web = world.runtime.running("web").id
        call = stub.Logs(logs(follow=True))
        stream, _ = await opened(call)
        position = (await anext(stream)).position
        call.cancel()
        world.runtime.write_log(web, b"last words\n")
        world.runtime.exit(web, 1)
        await world.pass_time(30)
        assert world.runtime.running("web").id != web
        assert await text(stub.Logs(logs(follow=True, position=position))) == b"last words\n"
        assert await refusal(stub.Logs(logs(position="c9 2026-01-01T00:00:00Z 1 1"))) == (
            'NotFound: containers "web" not found'
        )


async def test_following_ends_with_the_container(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        web = world.runtime.running("web").id
        call = stub.Logs(logs(follow=True))
        stream, _ = await opened(call)
        assert (await anext(stream)).data == LINE
        world.runtime.write_log(web, b"bye\n")
        world.runtime.exit(web, 0)
        assert [chunk.data async for chunk in stream] == [b"bye\n"]
        await world.pass_time(30)
        assert await text(stub.Logs(logs(previous=True))) == LINE + b"bye\n"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (logs(pod="q"), 'NotFound: pods "q" not found'),
        (logs(container="x"), "BadRequest: container x is not valid for pod p"),
        (logs(previous=True), 'BadRequest: previous terminated container "web" in pod "p" not found'),
        (logs(position="?"), "BadRequest: the log's position cannot be read"),
        (logs(since_time="noon"), "BadRequest: 'noon' is not a time; write it as 2006-01-02T15:04:05Z"),
        (
            logs(since_s=1, since_time="2026-01-01T00:00:00Z"),
            "BadRequest: at most one of sinceTime or sinceSeconds may be specified",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
async def test_logs_that_cannot_be_are_refused_in_kubernetes_words(
    tmp_path: Path, authority: Authority, request_: pb.LogsRequest, words: str
) -> None:
    async with a_master(tmp_path, authority) as (_, stub):
        assert await refusal(stub.Logs(request_)) == words


async def test_a_container_that_waits_says_why(tmp_path: Path, authority: Authority) -> None:
    pair = a_container("web"), a_container("absent", "nowhere:1")
    async with a_master(tmp_path, authority, *pair) as (world, stub):
        waiting = 'BadRequest: container "absent" in pod "p" is waiting to start: '
        assert await refusal(stub.Logs(logs(container="absent"))) == waiting + "image can't be pulled"
        await world.pass_time(5)
        assert await refusal(stub.Logs(logs(container="absent"))) == waiting + "trying and failing to pull image"
        assert await refusal(stub.Logs(logs())) == (
            "BadRequest: a container name must be specified for pod p, choose one of: [web absent]"
        )


async def test_a_log_without_its_past_is_taken_up_again_where_it_was_opened(
    tmp_path: Path, authority: Authority
) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        await world.pass_time(1)
        call = stub.Logs(logs(follow=True, tail_lines=0))
        _, position = await opened(call)
        call.cancel()
        world.runtime.write_log(world.runtime.running("web").id, b"meanwhile\n")
        again = aiter(stub.Logs(logs(follow=True, tail_lines=0, position=position)))
        assert (await anext(again)).data == b"meanwhile\n"


async def test_a_worker_that_has_just_started_asks_for_patience(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        world.manager._listed = False
        assert await refusal(stub.Logs(logs())) == (
            "ServiceUnavailable: this worker has just started and does not know its containers yet"
        )


# Commands.


async def test_a_command_is_run_and_its_code_comes_last(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        world.runtime.exec_code = 3
        outputs = [o async for o in stub.Exec(Speaker(starting(command=["ls"]), None))]
        assert outputs == [pb.ExecOutput(stdout=b"ok\n"), pb.ExecOutput(exit_code=3)]
        assert world.runtime.calls[-1].endswith(" ls")


async def test_input_and_sizes_reach_the_command(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        size = pb.TerminalSize(columns=100, rows=40)
        speaker = Speaker(
            starting(command=["cat"], stdin=True, tty=True), pb.ExecInput(resize=size), pb.ExecInput(stdin=b"abc")
        )
        call = stub.Exec(speaker)
        stream = aiter(call)
        assert (await anext(stream)).stdout == b"abc"
        speaker.say(pb.ExecInput(stdin_end=True))
        assert [o async for o in stream] == [pb.ExecOutput(exit_code=0)]
        (session,) = world.runtime.sessions
        assert (session.sizes, session.closed) == ([(100, 40)], True)


async def test_a_caller_that_goes_away_lets_go_of_the_process(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        call = stub.Exec(Speaker(starting(command=["cat"], stdin=True), pb.ExecInput(stdin=b"abc")))
        assert (await anext(aiter(call))).stdout == b"abc"
        call.cancel()
        async with asyncio.timeout(30):
            while not world.runtime.sessions[0].closed:
                await asyncio.sleep(0.01)


async def test_a_slow_reader_holds_the_writer_back(tmp_path: Path, authority: Authority) -> None:
    sent = 0

    async def flood() -> AsyncIterator[pb.ExecInput]:
        nonlocal sent
        yield starting(command=["cat"], stdin=True)
        while True:
            yield pb.ExecInput(stdin=b"x" * 65536)
            sent += 1

    async with a_master(tmp_path, authority) as (_, stub):
        call = stub.Exec(flood())
        await anext(aiter(call))
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        # What HTTP/2's windows of both directions hold, and no more: gRPC widens them where answers take long.
        assert sent * 65536 < 64 * 1024 * 1024
        call.cancel()


async def test_a_dead_container_is_not_entered(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (world, stub):
        world.runtime.exit(world.runtime.running("web").id, 1)
        await world.settle()
        await world.pass_time(1)
        world.runtime.images_here.pop("web:1")
        for fake in world.runtime.named("web"):
            if fake.record.state == "running":
                world.runtime.exit(fake.record.id, 1)
        await world.settle()
        for call in (stub.Exec, stub.Attach):
            assert await refusal(call(Speaker(starting(command=["ls"])))) == 'NotFound: container not found ("web")'


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (pb.ExecInput(stdin=b"x"), "the first message of an exec stream must say what is wanted"),
        (starting(), "you must specify at least one command for the container"),
        (starting(command=["ls"], container="x"), "container x is not valid for pod p"),
    ],
)
async def test_what_is_not_a_command_is_refused(
    tmp_path: Path, authority: Authority, first: pb.ExecInput, words: str
) -> None:
    async with a_master(tmp_path, authority) as (_, stub):
        assert await refusal(stub.Exec(Speaker(first))) == f"BadRequest: {words}"


async def test_a_caller_that_says_nothing_is_not_waited_for(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "START_TIMEOUT_S", 0.05)
    async with a_master(tmp_path, authority) as (_, stub):
        assert "did not say within" in await refusal(stub.Exec(silence()))


async def test_attach_gives_input_to_those_that_have_one(tmp_path: Path, authority: Authority) -> None:
    pair = a_container("web"), a_container("shell", stdin=True, tty=True)
    async with a_master(tmp_path, authority, *pair) as (_, stub):
        speaker = Speaker(starting(container="shell", stdin=True), pb.ExecInput(stdin=b"hi"))
        stream = aiter(stub.Attach(speaker))
        assert (await anext(stream)).stdout == b"hi"
        speaker.say(None)
        assert [o async for o in stream] == []
        deaf = [o async for o in stub.Attach(Speaker(starting(container="web", stdin=True), None))]
        assert deaf == [pb.ExecOutput(stdout=b"ok\n")]


# Connections.


def forwarding(port: int, **fields: Any) -> pb.PortForwardInput:
    start = pb.PortForwardInput.Start(**({"namespace": "default", "pod": "p", "port": port} | fields))
    return pb.PortForwardInput(start=start)


@contextlib.asynccontextmanager
async def an_echo() -> AsyncIterator[int]:
    """A server in the pod that answers in capitals once it has heard everything; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_each_direction_of_a_connection_ends_by_itself(tmp_path: Path, authority: Authority) -> None:
    async with a_master(tmp_path, authority) as (_, stub), an_echo() as port:

        async def ask(word: bytes) -> list[pb.PortForwardOutput]:
            said = [forwarding(port), pb.PortForwardInput(data=word), pb.PortForwardInput(end=True), None]
            return [o async for o in stub.PortForward(Speaker(*said))]

        answers = await asyncio.gather(*(ask(b"ship %d" % n) for n in range(40)))
        for n, outputs in enumerate(answers):
            assert [o.WhichOneof("output") for o in outputs] == ["connected", "data", "end"]
            assert outputs[1].data == b"SHIP %d" % n


async def test_a_closed_port_is_told_for_that_connection(tmp_path: Path, authority: Authority) -> None:
    port = free_port()
    async with a_master(tmp_path, authority) as (_, stub):
        assert await refusal(stub.PortForward(Speaker(forwarding(port)))) == (
            f"BadRequest: error forwarding port {port} to pod p: failed to connect to localhost:{port} inside the "
            "pod's network namespace: connection refused"
        )
        assert await refusal(stub.PortForward(Speaker(forwarding(70000)))) == "BadRequest: 70000 is not a port"
        assert await refusal(stub.PortForward(Speaker(forwarding(1, pod="q")))) == ('NotFound: pods "q" not found')


# Usage.


async def test_usage_names_the_pods_and_the_node(tmp_path: Path, authority: Authority) -> None:
    """The fake's processes do not exist: they are left out, and the rest is told."""
    async with a_master(tmp_path, authority) as (_, stub):
        reply = await stub.Stats(node_pb2.StatsRequest())
        assert [(pod.namespace, pod.name, pod.uid, len(pod.containers)) for pod in reply.pods] == [
            ("default", "p", "uid-p", 0)
        ]
        assert reply.node.cpu.usage_core_ns > 0
        assert 0 < reply.node.memory.working_set_bytes <= reply.node.memory.usage_bytes
        assert reply.node.filesystem.capacity_bytes > 0
