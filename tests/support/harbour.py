"""A master's gRPC door on loopback with real certificates and a real store, and workers that answer by themselves.

`async with a_harbour(directory) as harbour` opens it; `harbour.connect()` is an administrator's connection.
"""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Node, Pod
from barque.client import pki, wire
from barque.client.client import Client, target_of
from barque.client.clock import SystemClock
from barque.client.pki import Identity
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.cluster_service import ClusterService, ClusterState
from barque.master.apiserver.component_view import ComponentView
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.grpc_server import GrpcServer, serve
from barque.master.apiserver.node_channels import dialer
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.sessions import Sessions
from barque.master.apiserver.settings import ApiSettings
from barque.master.audit.audit import Audit
from barque.master.auth.ca import MasterPki
from barque.master.auth.tokens import JoinTokens
from barque.master.stalls import StallMonitor
from barque.master.store.engine_raft import EngineRaft
from barque.master.usage.table import UsageTable
from barque.master.usage.view import UsageView
from barque.proto import cluster_pb2, node_pb2_grpc, pods_pb2
from tests.support.clock import FakeClock
from tests.support.memory_store import ADMIN, MemoryEvents, MemoryStore
from tests.support.raft_group import open_store

NOW = datetime.datetime.now(datetime.UTC)


class FakeWorker(node_pb2_grpc.NodeServicer):
    """A worker's node API that answers by itself."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.callers: list[str] = []
        self.sent = 0
        self.ended = asyncio.Event()
        self.port = 0
        self._server = grpc.aio.server(options=wire.SERVER_OPTIONS)

    async def start(self, identity: Identity) -> FakeWorker:
        node_pb2_grpc.add_NodeServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port("127.0.0.1:0", identity.server_credentials())
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(None)

    async def Logs(self, request: Any, context: Any) -> AsyncIterator[pods_pb2.LogsChunk]:
        self.asked.append(request)
        self.callers.append(context.auth_context()["x509_common_name"][0].decode())
        if request.previous:
            error = ApiError(400, "BadRequest", 'previous terminated container "main" in pod "web" not found')
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message, wire.status_metadata(error))
        try:
            while request.follow:
                yield pods_pb2.LogsChunk(data=b"x" * 65536)
                self.sent += 1
            yield pods_pb2.LogsChunk(data=b"line 1\n")
            yield pods_pb2.LogsChunk(data=b"line 2\n")
        finally:
            self.ended.set()

    async def Exec(self, request_iterator: Any, context: Any) -> AsyncIterator[pods_pb2.ExecOutput]:
        try:
            async for message in request_iterator:
                self.asked.append(message)
                if message.WhichOneof("input") == "stdin":
                    yield pods_pb2.ExecOutput(stdout=message.stdin.upper())
            yield pods_pb2.ExecOutput(exit_code=7)
        finally:
            self.ended.set()

    Attach = Exec

    async def PortForward(self, request_iterator: Any, context: Any) -> AsyncIterator[pods_pb2.PortForwardOutput]:
        self.callers.append(context.peer())
        yield pods_pb2.PortForwardOutput(connected=True)
        async for message in request_iterator:
            self.asked.append(message)
            match message.WhichOneof("input"):
                case "data":
                    yield pods_pb2.PortForwardOutput(data=message.data.upper())
                case "end":
                    break
        yield pods_pb2.PortForwardOutput(end=True)


class Harbour:
    """A master's door, its CA, and connections through it."""

    def __init__(self, pki_: MasterPki, store: EngineRaft) -> None:
        self.pki = pki_
        self.store = store
        events = MemoryEvents(MemoryStore(FakeClock()), "bus")
        self.usage = UsageTable(store, SystemClock())
        self.on_usage: Callable[[str, bytes], object] = self.usage.take
        shown = ComponentView(lambda: [cluster_pb2.Component(name="store", healthy=True)])
        views = {"usage": UsageView(store, self.usage), "components": shown}
        self.registry = Registry(store, events, ApiSettings(), SystemClock(), random.Random(1), views=views)
        self.admin = Client(self.registry.as_user(ADMIN))
        self.stalls = StallMonitor(SystemClock())
        self.connections: list[Connection] = []
        self.workers: list[FakeWorker] = []
        self.door: GrpcServer

    async def open(self, bounds: Bounds | None = None, audit: Audit | None = None) -> None:
        clock = SystemClock()
        state = ClusterState("1.2.3", lambda: [cluster_pb2.Member(name="m1")], list, lambda: 6443, self.stalls.figures)
        self.door = await serve(
            self.registry,
            address="127.0.0.1:0",
            credentials=self.pki.master.server_credentials(),
            sessions=Sessions(clock, on_usage=lambda node, sample: self.on_usage(node, sample), audit=audit),
            cluster=ClusterService(state, self.store, JoinTokens(self.admin, clock), self.pki, clock, audit=audit),
            audit=audit,
            dial=dialer(lambda: self.pki.master),
            bounds=bounds,
        )

    def identity_of(self, subject: pki.Subject, hosts: tuple[str, ...] = ()) -> Identity:
        return self.pki.authority.identity(subject, NOW, hosts)

    def connect(self, identity: Identity | None = None, **options: Any) -> Connection:
        profile = Profile.of([f"127.0.0.1:{self.door.port}"], identity or self.pki.admin)
        self.connections.append(connect(profile, **options))
        return self.connections[-1]

    def as_node(self, name: str) -> Connection:
        return self.connect(self.identity_of(pki.node_subject(name)))

    async def worker(self, name: str, host: str = "") -> FakeWorker:
        """A node of this name with a running node API, which shows the certificate of `host`."""
        worker = await FakeWorker().start(self.identity_of(pki.node_subject(name), (host or pki.node_host(name),)))
        self.workers.append(worker)
        await self.node(name, worker.port)
        return worker

    async def node(self, name: str, port: int) -> None:
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        await self.admin.verbs.create(
            target_of(Node), msgspec.json.encode({"metadata": {"name": name}, "status": status})
        )

    async def pod(self, name: str, node: str = "", *containers: str, volumes: tuple[Any, ...] = ()) -> None:
        described = [{"name": c, "image": "web:1"} for c in containers or ("main",)]
        body = {"metadata": {"name": name}, "spec": {"containers": described, "volumes": volumes}}
        await self.admin.verbs.create(target_of(Pod, "", "default"), msgspec.json.encode(body))
        if node:
            binding = msgspec.json.encode({"target": {"kind": "Node", "name": node}})
            await self.admin.verbs.create(target_of(Pod, name, "default", "binding"), binding)

    async def close(self) -> None:
        for connection in self.connections:
            await connection.close()
        await self.door.stop(0)
        for worker in self.workers:
            await worker.stop()


@asynccontextmanager
async def a_harbour(directory: Path) -> AsyncIterator[Harbour]:
    """A door whose store and keys are kept in `directory`, with the namespaces every cluster has."""
    store = await open_store(directory / "store", SystemClock())
    harbour = Harbour(MasterPki.open(directory / "pki", "m1", ["127.0.0.1"], NOW), store)
    await ensure_namespaces(harbour.admin)
    await harbour.open()
    try:
        yield harbour
    finally:
        await harbour.close()
        await store.close()
