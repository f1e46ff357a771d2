"""The verbs over real gRPC and TLS: failing over, refusing, watching, and following a renewed certificate."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest

from barque.api.errors import ApiError, already_exists, expired, not_found
from barque.api.types.core_v1 import ConfigMap
from barque.api.types.meta_v1 import ObjectMeta
from barque.client import pki, wire
from barque.client.client import target_of
from barque.client.clock import SystemClock
from barque.client.pki import ADMIN
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.client.renewal import RenewingIdentity
from barque.client.verbs import Create
from barque.master.auth.ca import MasterPki
from barque.master.auth.identity import user_of_call
from barque.proto import cluster_pb2, cluster_pb2_grpc, resources_pb2, resources_pb2_grpc
from tests.support.ports import free_port

Context = grpc.aio.ServicerContext[Any, Any]
TARGET = target_of(ConfigMap, "a", "default")


class FakeMaster(resources_pb2_grpc.ResourcesServicer, cluster_pb2_grpc.ClusterServicer):
    """A master that keeps objects by name; `behaviour` makes it misbehave."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.behaviour = ""
        self.calls: list[str] = []
        self.callers: list[str] = []
        self.watch_ended = asyncio.Event()
        self.port = 0
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, credentials: grpc.ServerCredentials, port: int = 0) -> FakeMaster:
        self._server = grpc.aio.server(options=wire.SERVER_OPTIONS)
        resources_pb2_grpc.add_ResourcesServicer_to_server(self, self._server)
        cluster_pb2_grpc.add_ClusterServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        await self._server.start()
        return self

    async def stop(self) -> None:
        if self._stopping is not None and asyncio.current_task() is not self._stopping:
            await self._stopping
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def Status(self, request: Any, context: Context) -> cluster_pb2.StatusReply:
        return cluster_pb2.StatusReply(version="1")

    async def Get(self, request: Any, context: Context) -> resources_pb2.Object:
        await self._come("get", context)
        if request.target.name not in self.objects:
            await _abort(context, grpc.StatusCode.NOT_FOUND, not_found("configmaps", "", request.target.name))
        return resources_pb2.Object(json=self.objects[request.target.name], warnings=["mind the gap"])

    async def List(self, request: Any, context: Context) -> AsyncIterator[resources_pb2.ListChunk]:
        await self._come("list", context)
        for item in self.objects.values():
            yield resources_pb2.ListChunk(items=[item])
            if self.behaviour == "half a list":
                return
        yield resources_pb2.ListChunk(resource_version="7")

    async def Create(self, request: Any, context: Context) -> resources_pb2.Object:
        await self._come("create", context)
        name = msgspec.json.decode(request.json)["metadata"]["name"]
        if name in self.objects:
            await _abort(context, grpc.StatusCode.ALREADY_EXISTS, already_exists("configmaps", "", name))
        self.objects[name] = request.json
        if self.behaviour == "stops before answering":
            # In a task of its own: the stop ends this very call, and what it waits for would be cancelled with it.
            self._stopping = asyncio.create_task(self.stop())
            await asyncio.Event().wait()
        return resources_pb2.Object(json=request.json)

    async def Batch(self, request: Any, context: Context) -> resources_pb2.BatchReply:
        refused = msgspec.json.encode(already_exists("configmaps", "", "b").status())
        ok = resources_pb2.WriteResult(json=request.writes[0].create.json)
        return resources_pb2.BatchReply(results=[ok, resources_pb2.WriteResult(error=refused)])

    async def Watch(self, request: Any, context: Context) -> AsyncIterator[resources_pb2.WatchBatch]:
        await self._come("watch", context)
        if request.resource_version == "1":
            await _abort(context, grpc.StatusCode.OUT_OF_RANGE, expired("too old resource version: 1"))
        try:
            for revision in itertools.count(5):
                event = resources_pb2.WatchEvent(type="ADDED", json=b"{}", revision=revision)
                yield resources_pb2.WatchBatch(events=[event])
                if self.behaviour == "ends the watch":
                    return
                if revision == 6:
                    await asyncio.sleep(60)
        finally:
            self.watch_ended.set()

    async def _come(self, verb: str, context: Context) -> None:
        self.calls.append(verb)
        self.callers.append(str(user_of_call(context).name))  # type: ignore[arg-type]
        if self.behaviour == "hangs":
            await asyncio.sleep(60)


async def _abort(context: Context, code: grpc.StatusCode, error: ApiError) -> None:
    await context.abort(code, error.message, wire.status_metadata(error))


class Sea:
    """Some masters of one cluster, and connections to them."""

    def __init__(self, directory: Path) -> None:
        self.pki = MasterPki.open(directory, "m1", ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
        self.masters: list[FakeMaster] = []
        self.connections: list[Connection] = []

    async def master(self, port: int = 0) -> FakeMaster:
        master = await FakeMaster().start(self.pki.master.server_credentials(), port)
        self.masters.append(master)
        return master

    def connect(self, *ports: int, **options: Any) -> Connection:
        profile = Profile.of([f"127.0.0.1:{port}" for port in ports], self.pki.admin)
        self.connections.append(connect(profile, **options))
        return self.connections[-1]

    async def at_first(self, *ports: int) -> Connection:
        """A connection that uses the first of these masters: one that is slow to connect loses to the next."""
        async with asyncio.timeout(60):
            while True:
                connection = self.connect(*ports)
                await connection.ready()
                if connection.master == f"127.0.0.1:{ports[0]}":
                    return connection

    async def close(self) -> None:
        for connection in self.connections:
            await connection.close()
        for master in self.masters:
            await master.stop()


@pytest.fixture
async def sea(tmp_path: Path) -> AsyncIterator[Sea]:
    sea = Sea(tmp_path)
    try:
        yield sea
    finally:
        await sea.close()


def a_config(name: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data={"k": "v"})


async def refusal(work: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await work
    return refused.value


async def test_objects_errors_and_warnings_travel(sea: Sea) -> None:
    warnings: list[str] = []
    master = await sea.master()
    connection = sea.connect(master.port, on_warning=warnings.append)
    await connection.client.create(a_config("a"))
    assert (await connection.client.get(ConfigMap, "a", "default")).data == {"k": "v"}
    assert warnings == ["mind the gap"]
    assert set(master.callers) == {"barque-admin"}
    missing = await refusal(connection.client.get(ConfigMap, "b", "default"))
    assert (missing.code, missing.reason, missing.message) == (404, "NotFound", 'configmaps "b" not found')
    assert missing.details is not None
    assert missing.details.name == "b"
    again = await refusal(connection.client.create(a_config("a")))
    assert (again.code, again.reason) == (409, "AlreadyExists")


async def test_a_list_is_gathered_and_a_batch_answered_one_by_one(sea: Sea) -> None:
    connection = sea.connect((await sea.master()).port)
    await connection.client.create(a_config("a"))
    await connection.client.create(a_config("b"))
    listed = await connection.client.list(ConfigMap)
    assert ([c.metadata.name for c in listed.items], listed.resource_version) == (["a", "b"], "7")
    first, second = await connection.client.batch([Create(TARGET, b"{}"), Create(TARGET, b"{}")])
    assert first == b"{}"
    assert isinstance(second, ApiError)
    assert second.code == 409
    assert await connection.client.batch([]) == []


async def test_half_a_list_is_no_list(sea: Sea) -> None:
    master = await sea.master()
    connection = sea.connect(master.port)
    await connection.client.create(a_config("a"))
    master.behaviour = "half a list"
    assert (await refusal(connection.client.list(ConfigMap))).code == 503


async def test_nobody_there_is_one_sentence_at_once(sea: Sea) -> None:
    one, two = free_port(), free_port()
    async with asyncio.timeout(20):
        refused = await refusal(sea.connect(one, two).client.get(ConfigMap, "a", "default"))
    assert (refused.code, refused.reason) == (503, "ServiceUnavailable")
    assert refused.message == (
        f"no master is reachable (127.0.0.1:{one}: connection refused; 127.0.0.1:{two}: connection refused)"
    )


async def test_a_master_of_another_cluster_is_named_as_such(sea: Sea, tmp_path: Path) -> None:
    other = Sea(tmp_path / "other")
    try:
        refused = await refusal(sea.connect((await other.master()).port).client.get(ConfigMap, "a", "default"))
    finally:
        await other.close()
    assert "its certificate is not of this cluster's CA" in refused.message


async def test_a_worker_cannot_pose_as_a_master(sea: Sea) -> None:
    worker = sea.pki.authority.identity(
        pki.node_subject("n1"), datetime.datetime.now(datetime.UTC), [pki.node_host("n1"), "127.0.0.1"]
    )
    master = await FakeMaster().start(worker.server_credentials())
    sea.masters.append(master)
    refused = await refusal(sea.connect(master.port).client.get(ConfigMap, "a", "default"))
    assert "its certificate is not a master's" in refused.message
    assert master.calls == []


async def test_reads_and_unsent_writes_move_on_to_a_living_master(sea: Sea) -> None:
    dead, alive = free_port(), await sea.master()
    connection = sea.connect(dead, alive.port)
    await connection.client.create(a_config("a"))
    assert (await connection.client.get(ConfigMap, "a", "default")).metadata.name == "a"
    assert connection.master == f"127.0.0.1:{alive.port}"


async def test_a_read_survives_the_end_of_its_master(sea: Sea) -> None:
    first, second = await sea.master(), await sea.master()
    second.objects["a"] = msgspec.json.encode(a_config("a"))
    connection = await sea.at_first(first.port, second.port)
    first.behaviour = "hangs"
    reading = asyncio.create_task(connection.client.get(ConfigMap, "a", "default"))
    while not first.calls:
        await asyncio.sleep(0.01)
    await first.stop()
    assert (await reading).metadata.name == "a"


async def test_a_write_that_may_have_happened_is_not_repeated(sea: Sea) -> None:
    first, second = await sea.master(), await sea.master()
    first.behaviour = "stops before answering"
    connection = await sea.at_first(first.port, second.port)
    refused = await refusal(connection.client.create(a_config("a")))
    assert (refused.code, refused.reason) == (504, "Timeout")
    assert refused.message.startswith("outcome unknown: ")
    assert (first.calls, second.calls) == (["create"], [])


async def test_a_restarted_master_is_found_again(sea: Sea) -> None:
    master = await sea.master(free_port())
    connection = sea.connect(master.port)
    await connection.client.create(a_config("a"))
    await master.stop()
    assert (await refusal(connection.client.list(ConfigMap))).code == 503
    again = await sea.master(master.port)
    async with asyncio.timeout(30):
        while True:
            try:
                await connection.client.list(ConfigMap)
                break
            except ApiError:
                await asyncio.sleep(0.05)
    assert again.calls == ["list"]


async def test_a_watch_yields_ends_with_503_and_closes_cleanly(sea: Sea) -> None:
    master = await sea.master()
    connection = sea.connect(master.port)
    async with aclosing(connection.verbs.watch(TARGET, resource_version="4")) as watch:  # type: ignore[type-var]
        first = await anext(watch)
        assert [(e.type, e.json, e.revision) for e in first] == [("ADDED", b"{}", 5)]
    async with asyncio.timeout(30):
        await master.watch_ended.wait()
    assert (await refusal(anext(connection.verbs.watch(TARGET, resource_version="1")))).code == 410
    master.behaviour = "ends the watch"
    watch = connection.verbs.watch(TARGET, resource_version="4")
    await anext(watch)
    assert (await refusal(anext(watch))).code == 503


async def test_a_watch_on_a_stopping_master_is_503_and_not_a_cancellation(sea: Sea) -> None:
    master = await sea.master()
    watch = sea.connect(master.port).verbs.watch(TARGET)
    await anext(watch)
    await anext(watch)
    waiting = asyncio.create_task(refusal(anext(watch)))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    await master.stop()
    assert (await waiting).code == 503


async def test_cancelling_the_caller_cancels(sea: Sea) -> None:
    master = await sea.master()
    master.behaviour = "hangs"
    task = asyncio.create_task(sea.connect(master.port).client.get(ConfigMap, "a", "default"))
    while not master.calls:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_ends_follow_a_renewed_certificate(sea: Sea) -> None:
    """The server shows its new certificate, and the client its new one, on new connections and without a restart."""
    now = datetime.datetime.now(datetime.UTC)
    old = sea.pki.authority.identity(sea.pki.master.subject, now - datetime.timedelta(days=300), sea.pki.hosts)

    async def never(_: bytes) -> bytes:
        raise AssertionError

    renewing = RenewingIdentity(old, never, lambda _: None, SystemClock(), random.Random(1))
    master = await FakeMaster().start(renewing.server_credentials())
    sea.masters.append(master)
    who = [sea.pki.authority.identity(pki.node_subject("n1"), now)]
    connection = sea.connect(master.port, identity=lambda: who[0])
    await connection.client.list(ConfigMap)
    assert await shown_serial(master.port, sea.pki.admin) == old.certificate.serial_number

    await renewing.replace(sea.pki.master)
    who[0] = sea.pki.authority.identity(ADMIN, now)
    await connection.client.list(ConfigMap)
    await connection.renew()
    await connection.client.list(ConfigMap)
    assert master.callers == ["system:node:n1", "system:node:n1", "barque-admin"]
    assert await shown_serial(master.port, sea.pki.admin) == sea.pki.master.certificate.serial_number


async def shown_serial(port: int, client: pki.Identity) -> int:
    """The serial number of the certificate a server shows."""
    context = client.client_context()
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=pki.MASTER_HOST)
    shown = writer.get_extra_info("ssl_object").getpeercert()
    writer.close()
    return int(shown["serialNumber"], 16)


class Cable:
    """A connection to a port that can be frozen: nothing passes, nothing is closed."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open = asyncio.Event()
        self._open.set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def lay(self) -> int:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def freeze(self) -> None:
        self._open.clear()

    async def cut(self) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            self._pumps.add(asyncio.create_task(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._open.wait()
                sink.write(data)
        finally:
            sink.close()


async def test_a_master_that_falls_silent_is_left_within_seconds(sea: Sea) -> None:
    """Paused or cut off: no connection breaks, only nothing answers any more."""
    silent, alive = await sea.master(), await sea.master()
    for master in (silent, alive):
        master.objects["a"] = msgspec.json.encode(a_config("a"))
    cable = Cable(silent.port)
    connection = await sea.at_first(await cable.lay(), alive.port)
    watch = connection.verbs.watch(TARGET)
    await anext(watch)
    await anext(watch)
    cable.freeze()
    try:
        async with asyncio.timeout(30):  # 3 s of silence, and what a busy machine adds
            watching = asyncio.create_task(refusal(anext(watch)))  # type: ignore[arg-type]
            writing = asyncio.create_task(refusal(connection.client.create(a_config("b"))))
            assert (await connection.client.get(ConfigMap, "a", "default")).metadata.name == "a"
            assert (await watching).code == 503
            assert (await writing).message == "outcome unknown: it stopped answering"
    finally:
        await cable.cut()
    assert set(alive.calls) == {"get"}, "a write is not repeated"
