"""The worker's gRPC door on loopback: masters are served, nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from barque.client import wire
from barque.client.clock import SystemClock
from barque.client.pki import ADMIN, Authority, create_authority, master_subject, node_host, node_subject
from barque.proto import pods_pb2 as pb
from barque.proto import pods_pb2_grpc
from barque.worker.server import NodeService, serve
from tests.support.worker_world import a_pod, a_world

NOW = SystemClock().wall()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority(NOW)


@contextlib.asynccontextmanager
async def a_door(tmp_path: Path, authority: Authority) -> AsyncIterator[int]:
    """A worker with one running pod; its port."""
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        identity = authority.identity(node_subject("n1"), NOW, [node_host("n1")])
        service = NodeService(world.manager, world.runtime)
        server, port = await serve(service, "127.0.0.1:0", identity.server_credentials())
        try:
            yield port
        finally:
            await server.stop(None)


def a_channel(port: int, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, wire.channel_options(node_host("n1")))


async def test_a_master_reads_logs_and_runs_commands(tmp_path: Path, authority: Authority) -> None:
    master = authority.identity(master_subject("m1"), NOW)
    async with a_door(tmp_path, authority) as port, a_channel(port, master.channel_credentials()) as channel:
        stub = pods_pb2_grpc.NodeStub(channel)
        request = pb.LogsRequest(namespace="default", pod="p", tail_lines=-1)
        assert b"".join([c.data async for c in stub.Logs(request)]) == b"log of barque_web_p_default_uid-p_0\n"
        start = pb.ExecInput(start=pb.ExecInput.Start(namespace="default", pod="p", command=["ls"]))
        outputs = [o async for o in stub.Exec(iter([start]))]
        assert [o.WhichOneof("output") for o in outputs] == ["stdout", "exit_code"]


async def silence() -> AsyncIterator[pb.ExecInput]:
    """Says nothing: gRPC's client takes a refusal that comes while it sends for a fault of its own."""
    await asyncio.Event().wait()
    yield pb.ExecInput()


@pytest.mark.parametrize("who", [node_subject("n1"), node_subject("n2"), ADMIN], ids=["itself", "another", "admin"])
async def test_nobody_else_is_served(tmp_path: Path, authority: Authority, who: object) -> None:
    other = authority.identity(who, NOW)  # type: ignore[arg-type]
    async with a_door(tmp_path, authority) as port, a_channel(port, other.channel_credentials()) as channel:
        stub = pods_pb2_grpc.NodeStub(channel)
        for call in (stub.Logs(pb.LogsRequest(namespace="default", pod="p")), stub.Exec(silence())):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await anext(aiter(call))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "a worker serves masters only" in str(refused.value.details())


async def test_a_certificate_of_another_authority_does_not_connect(tmp_path: Path, authority: Authority) -> None:
    stranger = create_authority(NOW).identity(master_subject("m1"), NOW)
    credentials = grpc.ssl_channel_credentials(
        authority.identity(ADMIN, NOW).ca_pem, stranger.key_pem, stranger.cert_pem
    )
    async with a_door(tmp_path, authority) as port, a_channel(port, credentials) as channel:
        call = pods_pb2_grpc.NodeStub(channel).Logs(pb.LogsRequest(namespace="default", pod="p"), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(call))
        assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_what_is_not_there_is_told_in_kubernetes_words(tmp_path: Path, authority: Authority) -> None:
    master = authority.identity(master_subject("m1"), NOW)
    async with a_door(tmp_path, authority) as port, a_channel(port, master.channel_credentials()) as channel:
        stub = pods_pb2_grpc.NodeStub(channel)
        for request, words in [
            (pb.LogsRequest(namespace="default", pod="q"), 'pods "q" not found'),
            (pb.LogsRequest(namespace="default", pod="p", container="x"), "container x is not valid for pod p"),
            (
                pb.LogsRequest(namespace="default", pod="p", previous=True),
                'previous terminated container "web" in pod "p"',
            ),
        ]:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await anext(aiter(stub.Logs(request)))
            assert words in wire.api_error(refused.value).message


async def test_a_taken_port_is_said(tmp_path: Path, authority: Authority) -> None:
    identity = authority.identity(node_subject("n1"), NOW, [node_host("n1")])
    async with a_door(tmp_path, authority) as port, a_world(tmp_path / "other") as world:
        service = NodeService(world.manager, world.runtime)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await serve(service, f"127.0.0.1:{port}", identity.server_credentials())
