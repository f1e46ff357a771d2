"""The gRPC door over a real socket with real certificates: the verbs, who may what, and streams into pods."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest

from barque.api.errors import ApiError
from barque.api.types.core_v1 import ConfigMap, Pod, Secret, Service
from barque.api.types.meta_v1 import ObjectMeta
from barque.client import pki, wire
from barque.client.client import target_of
from barque.client.clock import SystemClock
from barque.client.pki import Identity
from barque.client.verbs import MERGE_PATCH, Create, RawEvent, Selection
from barque.master.apiserver.cluster_service import ClusterService, ClusterState
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.grpc_server import serve
from barque.master.apiserver.node_channels import dialer
from barque.master.apiserver.sessions import Sessions
from barque.master.auth.ca import MasterPki
from barque.master.auth.tokens import JoinTokens
from barque.proto import cluster_pb2, pods_pb2, resources_pb2, resources_pb2_grpc
from tests.support.expecting import expect_soon_async
from tests.support.harbour import NOW, Harbour, a_harbour


@pytest.fixture
async def harbour(tmp_path: Path) -> AsyncIterator[Harbour]:
    async with a_harbour(tmp_path) as harbour:
        yield harbour


async def refusal(work: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await work
    return refused.value


async def next_of(watch: Any) -> RawEvent:
    """The next event that is no bookmark."""
    while True:
        found: list[RawEvent] = [event for event in await anext(watch) if event.type != "BOOKMARK"]
        if found:
            (event,) = found
            return event


async def _held_open(message: Any) -> AsyncIterator[Any]:
    """Goes on: gRPC's client takes a refusal that comes while it ends its side for a fault of its own."""
    yield message
    await asyncio.Event().wait()


async def _drained(stream: Any) -> list[Any]:
    return [message async for message in stream]


async def rpc_refusal(call: Any) -> tuple[grpc.StatusCode, ApiError]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await (_drained(call) if hasattr(call, "__aiter__") else call)
    return refused.value.code(), wire.api_error(refused.value)


def a_config(name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=data)


async def test_every_verb_goes_through(harbour: Harbour) -> None:
    warnings: list[str] = []
    connection = harbour.connect(on_warning=warnings.append)
    client, verbs = connection.client, connection.verbs
    made = await client.create(a_config("a", k="v"))
    assert (await client.get(ConfigMap, "a", "default")) == made
    made.data["k"] = "w"
    updated = await client.update(made)
    assert updated.data == {"k": "w"}
    patched = await client.patch(ConfigMap, "a", "default", {"data": {"l": "x"}}, content_type=MERGE_PATCH)
    assert patched.data == {"k": "w", "l": "x"}
    listed = await client.list(ConfigMap, "default")
    assert ([c.metadata.name for c in listed.items], listed.resource_version) == (["a"], str(harbour.store.revision))
    target = target_of(ConfigMap, "", "default")
    ok, bad = await verbs.batch([Create(target, b'{"metadata":{"name":"b"}}'), Create(target, b"{")])
    assert isinstance(ok, bytes)
    assert isinstance(bad, ApiError)
    assert bad.code == 400
    await client.delete(ConfigMap, "a", "default")
    assert (await refusal(client.get(ConfigMap, "a", "default"))).code == 404


async def test_refusals_travel_whole(harbour: Harbour) -> None:
    client = harbour.connect().client
    await client.create(a_config("a"))
    again = await refusal(client.create(a_config("a")))
    assert (again.code, again.reason, again.message) == (409, "AlreadyExists", 'configmaps "a" already exists')
    faulty = await refusal(client.create(a_config("A_")))
    assert (faulty.code, faulty.reason) == (422, "Invalid")
    assert faulty.details is not None
    assert faulty.details.causes[0].field == "metadata.name"
    many = a_config("b")
    many.data = {f"ä/{i}": "x" for i in range(2000)}
    assert (await refusal(client.create(many))).code == 422
    large = await refusal(client.create(a_config("large", k="x" * (1536 * 1024))))
    assert (large.code, large.reason) == (413, "RequestEntityTooLarge")


async def test_what_is_not_served_is_said(harbour: Harbour) -> None:
    verbs = harbour.connect().verbs
    target = target_of(ConfigMap, "a", "default")
    assert (await refusal(verbs.get(target._replace(subresource="scale")))).code == 404
    gadgets = dataclasses.replace(target.resource, plural="gadgets")
    refused = await refusal(verbs.get(target._replace(resource=gadgets)))
    assert (refused.code, refused.message) == (404, "barque does not serve resource gadgets")
    v2 = dataclasses.replace(target.resource, version="v2")
    refused = await refusal(verbs.get(target._replace(resource=v2)))
    assert (refused.code, refused.message) == (404, "barque serves configmaps as v1 only")
    assert (await refusal(verbs.watch(target, Selection("a in")).__anext__())).code == 400
    no_verb = resources_pb2.BatchRequest(writes=[resources_pb2.Write()])
    reply = await resources_pb2_grpc.ResourcesStub(harbour.connect().channels.channel).Batch(no_verb)
    assert b"names no verb" in reply.results[0].error


async def test_a_large_list_comes_in_chunks_of_one_revision(harbour: Harbour) -> None:
    connection = harbour.connect()
    for index in range(12):
        await harbour.admin.create(a_config(f"c{index:02}", k="x" * 300_000))
    await harbour.admin.create(a_config("d", k="x" * 1_048_000))
    listed = await connection.client.list(ConfigMap)
    assert [len(c.data["k"]) for c in listed.items] == [300_000] * 12 + [1_048_000]
    assert listed.resource_version == str(harbour.store.revision)
    watch = connection.verbs.watch(target_of(ConfigMap))
    events: list[RawEvent] = []
    async with aclosing(watch) as batches:  # type: ignore[type-var]
        async for batch in batches:
            assert sum(len(e.json) for e in batch) < 1_500_000
            events += batch
            if batch[-1].type == "BOOKMARK":
                break
    assert len(events) == 14


async def test_a_watch_follows_and_resumes(harbour: Harbour) -> None:
    verbs = harbour.connect().verbs
    target = target_of(ConfigMap)
    async with aclosing(verbs.watch(target)) as watch:  # type: ignore[type-var]
        assert [e.type for e in await anext(watch)] == ["BOOKMARK"]
        await harbour.admin.create(a_config("a"))
        added = await next_of(watch)
        assert added.type == "ADDED"
    last = await harbour.admin.create(a_config("b"))
    async with aclosing(verbs.watch(target, Selection(), str(added.revision))) as watch:  # type: ignore[type-var]
        event = await next_of(watch)
        assert msgspec.json.decode(event.json)["metadata"]["name"] == "b"
    late = verbs.watch(target, Selection(), "999999")
    refused = await refusal(anext(late))
    current = last.metadata.resourceVersion
    assert (refused.code, refused.message) == (504, f"Timeout: Too large resource version: 999999, current: {current}")


async def test_a_worker_s_certificate_opens_its_own_pods_only(harbour: Harbour) -> None:
    for node in ("n1", "n2"):
        await harbour.node(node, 1)
        await harbour.admin.create(Secret(metadata=ObjectMeta(name=f"of-{node}", namespace="default")))
        await harbour.pod(f"on-{node}", node, volumes=({"name": "v", "secret": {"secretName": f"of-{node}"}},))
    client = harbour.as_node("n1").client
    assert (await client.get(Pod, "on-n1", "default")).spec.nodeName == "n1"
    await client.get(Secret, "of-n1", "default")
    listed = await client.list(Pod, fields="spec.nodeName=n1")
    assert [p.metadata.name for p in listed.items] == ["on-n1"]
    await client.patch(Pod, "on-n1", "default", {"status": {"phase": "Running"}}, subresource="status")
    forbidden = [
        client.get(Pod, "on-n2", "default"),
        client.get(Secret, "of-n2", "default"),
        client.list(Pod),
        client.list(Secret),
        client.patch(Pod, "on-n2", "default", {"status": {"phase": "Failed"}}, subresource="status"),
        client.delete(Pod, "on-n2", "default"),
        client.create(a_config("mine")),
        client.verbs.watch(target_of(Pod), Selection(fields="spec.nodeName=n2")).__anext__(),
    ]
    for call in forbidden:
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (403, "Forbidden")
        assert 'User "system:node:n1" cannot' in refused.message


async def test_a_worker_gets_no_logs_no_shell_and_no_tokens(harbour: Harbour) -> None:
    await harbour.worker("n1")
    await harbour.pod("web", "n1")
    connection = harbour.as_node("n1")
    code, refused = await rpc_refusal(connection.pods.Logs(pods_pb2.LogsRequest(namespace="default", pod="web")))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert 'cannot get resource "pods/log"' in refused.message
    start = pods_pb2.ExecInput(start=pods_pb2.ExecInput.Start(namespace="default", pod="web", command=["sh"]))
    code, _ = await rpc_refusal(connection.pods.Exec(_held_open(start)))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    code, _ = await rpc_refusal(connection.cluster.CreateJoinToken(cluster_pb2.CreateJoinTokenRequest()))
    assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_stranger_does_not_come_in(harbour: Harbour, tmp_path: Path) -> None:
    other = MasterPki.open(tmp_path / "other", "m1", [], NOW)
    stranger = Identity(other.admin.cert_pem, other.admin.key_pem, harbour.pki.ca_pem)
    assert (await refusal(harbour.connect(stranger).client.list(ConfigMap))).code == 503
    nobody = harbour.connect(harbour.identity_of(pki.Subject("someone", ())))
    assert (await refusal(nobody.client.list(ConfigMap))).code == 403


async def test_the_cluster_says_what_it_is_and_renews_certificates(harbour: Harbour) -> None:
    cluster = harbour.connect().cluster
    status = await cluster.Status(cluster_pb2.StatusRequest())
    assert (status.cluster_id, status.version, status.members[0].name) == (harbour.store.cluster_id, "1.2.3", "m1")
    token = await cluster.CreateJoinToken(cluster_pb2.CreateJoinTokenRequest(ttl_s=60))
    assert token.ca_pin == harbour.pki.pin
    assert len(token.token) == 23
    request = pki.create_request(pki.node_subject("n1"))
    node = harbour.as_node("n1").cluster
    renewed = await node.RenewCertificate(cluster_pb2.RenewCertificateRequest(csr_pem=request.csr_pem))
    assert Identity(renewed.certificate_pem, request.key_pem, harbour.pki.ca_pem).name == "system:node:n1"
    foreign = pki.create_request(pki.node_subject("n2"))
    code, _ = await rpc_refusal(node.RenewCertificate(cluster_pb2.RenewCertificateRequest(csr_pem=foreign.csr_pem)))
    assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_logs_pass_through(harbour: Harbour) -> None:
    worker = await harbour.worker("n1")
    await harbour.pod("web", "n1")
    pods = harbour.connect().pods
    request = pods_pb2.LogsRequest(namespace="default", pod="web", tail_lines=5)
    assert b"".join([c.data async for c in pods.Logs(request)]) == b"line 1\nline 2\n"
    assert (worker.asked[0].container, worker.asked[0].tail_lines) == ("main", 5)
    assert worker.callers == ["barque:master:m1"]
    code, refused = await rpc_refusal(pods.Logs(pods_pb2.LogsRequest(namespace="default", pod="web", previous=True)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message == 'previous terminated container "main" in pod "web" not found'


async def test_logs_nobody_reads_pile_up_nowhere(harbour: Harbour) -> None:
    worker = await harbour.worker("n1")
    await harbour.pod("web", "n1")
    call = harbour.connect().pods.Logs(pods_pb2.LogsRequest(namespace="default", pod="web", follow=True))
    await call.read()
    before = -1
    while worker.sent != before:
        before = worker.sent
        await asyncio.sleep(0.5)
    assert worker.sent * 65536 < 64 * 1024 * 1024
    call.cancel()
    await asyncio.wait_for(worker.ended.wait(), 60)


async def test_a_command_s_streams_pass_through_both_ways(harbour: Harbour) -> None:
    worker = await harbour.worker("n1")
    await harbour.pod("web", "n1", "a", "b")
    call = harbour.connect().pods.Exec()
    start = pods_pb2.ExecInput.Start(namespace="default", pod="web", container="b", command=["sh"], stdin=True)
    await call.write(pods_pb2.ExecInput(start=start))
    for word in (b"one", b"two"):
        await call.write(pods_pb2.ExecInput(stdin=word))
        assert (await call.read()).stdout == word.upper()
    await call.write(pods_pb2.ExecInput(resize=pods_pb2.TerminalSize(columns=80, rows=24)))
    await call.write(pods_pb2.ExecInput(stdin_end=True))
    await call.done_writing()
    assert (await call.read()).exit_code == 7
    assert await call.read() is grpc.aio.EOF
    assert [m.WhichOneof("input") for m in worker.asked] == ["start", "stdin", "stdin", "resize", "stdin_end"]
    assert worker.asked[0].start.container == "b"


async def test_a_client_that_goes_away_ends_the_command(harbour: Harbour) -> None:
    worker = await harbour.worker("n1")
    await harbour.pod("web", "n1")
    call = harbour.connect().pods.Exec()
    start = pods_pb2.ExecInput.Start(namespace="default", pod="web", command=["sh"], stdin=True)
    await call.write(pods_pb2.ExecInput(start=start))
    await call.write(pods_pb2.ExecInput(stdin=b"x"))
    await call.read()
    call.cancel()
    assert await asyncio.wait_for(worker.ended.wait(), 60)


@pytest.mark.parametrize(
    ("pod", "container", "code", "words"),
    [
        ("absent", "", 404, 'pods "absent" not found'),
        ("unbound", "", 400, "pod unbound does not have a host assigned"),
        ("two", "", 400, "a container name must be specified for pod two, choose one of: [a b]"),
        ("two", "c", 400, "container c is not valid for pod two"),
        ("down", "", 503, "node n2 at 127.0.0.1:1 cannot be reached: connection refused"),
        ("false", "", 503, "node n3"),
    ],
)
async def test_a_stream_that_cannot_be_says_why(
    harbour: Harbour, pod: str, container: str, code: int, words: str
) -> None:
    await harbour.worker("n1")
    await harbour.node("n2", 1)
    await harbour.worker("n3", host=pki.node_host("n1"))
    await harbour.pod("unbound")
    await harbour.pod("two", "n1", "a", "b")
    await harbour.pod("down", "n2")
    await harbour.pod("false", "n3")
    request = pods_pb2.LogsRequest(namespace="default", pod=pod, container=container)
    _, refused = await rpc_refusal(harbour.connect().pods.Logs(request))
    assert refused.code == code
    assert words in refused.message


async def test_a_door_that_closes_sends_its_callers_to_another_master(harbour: Harbour) -> None:
    verbs = harbour.connect().verbs
    await verbs.list(target_of(ConfigMap))
    closing = asyncio.create_task(harbour.door.stop(0))
    await asyncio.sleep(0)
    refused = await refusal(verbs.list(target_of(ConfigMap)))
    assert (refused.code, refused.message) == (503, "this master is stopping; nothing was done")
    assert wire.is_undone(refused)
    await closing


async def test_one_caller_s_calls_are_bounded(harbour: Harbour) -> None:
    await harbour.door.stop(0)
    await harbour.open(Bounds(max_calls=10, max_streams=2))
    verbs = harbour.connect().verbs
    watches = [verbs.watch(target_of(ConfigMap)) for _ in range(3)]
    await anext(watches[0])
    await anext(watches[1])
    refused = await refusal(anext(watches[2]))
    assert (refused.code, refused.reason) == (429, "TooManyRequests")
    node = harbour.as_node("n1").verbs.watch(target_of(Service))
    await anext(node)
    for watch in (*watches, node):
        await watch.aclose()  # type: ignore[attr-defined]

    async def admitted() -> bool:
        async with aclosing(verbs.watch(target_of(ConfigMap))) as again:  # type: ignore[type-var]
            return bool(await anext(again))

    # The door hears of a watch that has ended a moment later.
    await expect_soon_async(admitted, 60, "a watch in the place of one that has ended")


async def test_a_fault_of_ours_is_one_sentence(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise KeyError("a secret detail")

    monkeypatch.setattr(harbour.registry.environment.objects, "get", fail)
    refused = await refusal(harbour.connect().client.get(ConfigMap, "a", "default"))
    assert (refused.code, refused.message) == (500, "an internal error occurred; the master's log says which")
    assert "a secret detail" in caplog.text


async def test_a_taken_port_is_an_error(harbour: Harbour) -> None:
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{harbour.door.port}"):
        await serve(
            harbour.registry,
            address=f"127.0.0.1:{harbour.door.port}",
            credentials=harbour.pki.master.server_credentials(),
            sessions=Sessions(SystemClock()),
            cluster=ClusterService(
                ClusterState("1", list, list, lambda: 0, harbour.stalls.figures),
                harbour.store,
                JoinTokens(harbour.admin, SystemClock()),
                harbour.pki,
                SystemClock(),
            ),
            dial=dialer(lambda: harbour.pki.master),
        )
