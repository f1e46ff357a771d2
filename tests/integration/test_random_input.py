"""Bad input of every sort to every verb: an answer or a clear refusal, never an internal error, and nothing changed.

Objects with the fields of their kind and any values in them go to the registry in this process, in volume; bodies that
are no objects, messages that are no messages and callers without a certificate come through the real door. A failure
prints the requests it takes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from random import Random
from typing import Any, cast

import grpc
import grpc.aio
import msgspec
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from hypothesis import given, note, settings
from hypothesis import strategies as st

from barque.api import resources
from barque.api.errors import ApiError
from barque.api.resources import RESOURCES, Resource
from barque.api.types.core_v1 import ConfigMap
from barque.api.types.meta_v1 import ObjectMeta
from barque.client import pki, wire
from barque.client.remote import Connection
from barque.client.verbs import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    Selection,
    Target,
    Verbs,
    WriteOptions,
)
from barque.proto import cluster_pb2, pods_pb2, resources_pb2, resources_pb2_grpc, sessions_pb2
from tests.support.full_pod import full_document
from tests.support.harbour import Harbour, a_harbour
from tests.support.memory_store import Bench, a_bench
from tests.support.wild_input import BODIES, WORDS, Document, Sent, a_request

# Requests to one cluster, one after the other: what one of them leaves behind, the next ones meet.
REQUESTS = 25
SPEC = {"containers": [{"name": "main", "image": "web:1"}]}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": SPEC}
WORKLOAD = {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE}
RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
ROLE = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "web"}
SUBJECT = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "web"}
ASKED = {"verb": "get", "resource": "pods", "namespace": "default"}
CSR = base64.b64encode(pki.create_request(pki.Subject("web", ())).csr_pem).decode()
# An object of each served kind.
OBJECTS: dict[str, Document] = {
    "namespaces": {},
    "nodes": {},
    "pods": {"spec": SPEC},
    "podtemplates": {"template": TEMPLATE},
    "configmaps": {"data": {"k": "v"}},
    "secrets": {"data": {"k": "QUJD"}},
    "serviceaccounts": {"imagePullSecrets": [{"name": "web"}]},
    "services": {"spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}},
    "endpoints": {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
    "events": {"involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"}},
    "endpointslices.discovery.k8s.io": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]},
    "replicasets.apps": {"spec": WORKLOAD},
    "deployments.apps": {"spec": WORKLOAD},
    "leases.coordination.k8s.io": {"spec": {"holderIdentity": "a"}},
    "roles.rbac.authorization.k8s.io": {"rules": [RULE]},
    "clusterroles.rbac.authorization.k8s.io": {"rules": [RULE]},
    "rolebindings.rbac.authorization.k8s.io": {"roleRef": ROLE, "subjects": [SUBJECT]},
    "clusterrolebindings.rbac.authorization.k8s.io": {"roleRef": ROLE, "subjects": [SUBJECT]},
    "certificatesigningrequests.certificates.k8s.io": {
        "spec": {"request": CSR, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}
    },
    "bindings": {"target": {"kind": "Node", "name": "web"}},
    "tokenreviews.authentication.k8s.io": {"spec": {"token": "web"}},
    "selfsubjectreviews.authentication.k8s.io": {},
    "subjectaccessreviews.authorization.k8s.io": {"spec": {"user": "web", "resourceAttributes": ASKED}},
    "selfsubjectaccessreviews.authorization.k8s.io": {"spec": {"resourceAttributes": ASKED}},
    "localsubjectaccessreviews.authorization.k8s.io": {
        "metadata": {"namespace": "default"},
        "spec": {"user": "web", "resourceAttributes": ASKED},
    },
    "selfsubjectrulesreviews.authorization.k8s.io": {"spec": {"namespace": "default"}},
}


def an_object(resource: Resource) -> bytes:
    """The body of a create; a review has no name."""
    named: Document = {} if resource.storage == "review" else {"metadata": {"name": "web"}}
    return msgspec.json.encode({**named, **OBJECTS[resource.group_resource]})


async def furnished() -> tuple[Bench, dict[str, bytes]]:
    """A cluster with an object named `web` of each kind, and those objects; one namespace is on its way out."""
    bench = await a_bench()
    stored = {}
    for resource in RESOURCES:
        target = Target(resource, "default" if resource.namespaced else "")
        if "create" not in resource.verbs:
            stored[resource.group_resource] = b'{"metadata":{"name":"web"}}'
            continue
        if resource.kept_as:  # one that is there in another version already
            stored[resource.group_resource] = await bench.admin.get(target._replace(name="web"))
            continue
        stored[resource.group_resource] = await bench.admin.create(target, an_object(resource))
    await bench.create("namespaces", {"metadata": {"name": "going"}})
    await bench.create("configmaps", {"metadata": {"name": "web"}}, "going")
    await bench.delete("namespaces", "going")
    # The whole pod's account.
    await bench.create("serviceaccounts", {"metadata": {"name": "robot"}})
    return bench, stored


def with_whole_pods(stored: dict[str, bytes]) -> dict[str, bytes]:
    """The same objects, with a pod that uses every part of its spec wherever one stands."""
    spec = full_document()["spec"]
    places = {
        "pods": (),
        "podtemplates": ("template",),
        "deployments.apps": ("spec", "template"),
        "replicasets.apps": ("spec", "template"),
    }
    whole = dict(stored)
    for name, path in places.items():
        document = holder = msgspec.json.decode(stored[name])
        for part in path:
            holder = holder[part]
        holder["spec"] = spec
        whole[name] = msgspec.json.encode(document)
    return whole


async def send(verbs: Verbs, sent: Sent) -> Any:
    """Send the request; of a watch, wait for its beginning."""
    target, everything = sent.target, sent.target._replace(name="")
    match sent.verb:
        case "create":
            return await verbs.create(target, sent.body, sent.options)
        case "update":
            return await verbs.update(target, sent.body, sent.options)
        case "patch":
            return await verbs.patch(target, sent.content_type, sent.body, sent.options)
        case "delete":
            return await verbs.delete(target, sent.body)
        case "deletecollection":
            return await verbs.delete_collection(everything, sent.selection, sent.body)
        case "get":
            return await verbs.get(target, sent.page.resource_version)
        case "list":
            return await verbs.list(everything, sent.selection, sent.page)
        case "table":
            return await verbs.table(target, sent.selection, sent.page, cast(Any, sent.include))
        case _:
            return await begin_watch(verbs, sent)


async def begin_watch(verbs: Verbs, sent: Sent) -> Any:
    # A watch from a revision in the past says nothing until something happens.
    version = "" if sent.page.resource_version.strip("0").isdecimal() else sent.page.resource_version
    rows = cast(Any, sent.include or None)
    watch = verbs.watch(sent.target._replace(name=""), sent.selection, version, rows)
    try:
        return await anext(watch)
    finally:
        await watch.aclose()  # type: ignore[attr-defined]  # an async generator


async def refusal(call: Awaitable[object]) -> ApiError | None:
    """What a call is refused with, in time; None where it is answered."""
    try:
        await asyncio.wait_for(call, 60)
    except ApiError as refused:
        return refused
    return None


async def well_answered(bench: Bench, sent: Sent) -> None:
    """An answer, or a refusal in order that has changed nothing."""
    before = bench.store.revision, bench.events.revision
    refused = await refusal(send(bench.admin, sent))
    if refused is None:
        return
    assert 400 <= refused.code < 500, refused
    assert refused.message
    msgspec.json.encode(refused.status())
    # A collection is deleted object by object, up to the one that is refused.
    assert sent.verb == "deletecollection" or (bench.store.revision, bench.events.revision) == before


async def readable(bench: Bench) -> int:
    """Whatever was let in can be read in every way; how many objects there are."""
    count = 0
    for resource in RESOURCES:
        if "list" not in resource.verbs:
            continue
        everywhere = Target(resource)
        listed = await bench.admin.list(everywhere)
        assert len((await bench.admin.table(everywhere, include="Object")).rows) == len(listed.items)
        for item in listed.items:
            metadata = msgspec.json.decode(item)["metadata"]
            assert await bench.admin.get(Target(resource, metadata.get("namespace", ""), metadata["name"])) == item
            count += 1
    return count


@pytest.mark.timeout(400)
@settings(max_examples=250)
@given(st.integers(0, 2**64 - 1), st.booleans())
def test_objects_of_every_kind_with_any_values(seed: int, whole: bool) -> None:
    async def run() -> None:
        random = Random(seed)
        bench, stored = await furnished()
        known = with_whole_pods(stored) if whole else stored
        for _ in range(REQUESTS):
            sent = a_request(random, known, min(bench.store.revision, bench.events.revision))
            note(repr(sent))
            await well_answered(bench, sent)
        # The namespaces that nothing can take away are there at least.
        assert await readable(bench) >= 3

    asyncio.run(run())


# --- through the door


@pytest.fixture
async def harbour(tmp_path: Path) -> AsyncIterator[Harbour]:
    async with a_harbour(tmp_path) as harbour:
        for resource in RESOURCES:
            if "create" not in resource.verbs or resource.kept_as:
                continue
            target = Target(resource, "default" if resource.namespaced else "")
            await harbour.admin.verbs.create(target, an_object(resource))
        other = ConfigMap(metadata=ObjectMeta(name="other", namespace="kube-public"), data={"k": "v"})
        await harbour.admin.create(other)
        yield harbour


def bodies_to(target: Target, body: bytes, verbs: Verbs) -> dict[str, Awaitable[object]]:
    """This body in every place that takes one."""
    options = WriteOptions(field_manager="me", force=True)
    return {
        "create": verbs.create(target._replace(name=""), body),
        "update": verbs.update(target, body),
        "status": verbs.update(target._replace(subresource="status"), body),
        "binding": verbs.create(target._replace(subresource="binding"), body),
        "JSON patch": verbs.patch(target, JSON_PATCH, body),
        "merge patch": verbs.patch(target, MERGE_PATCH, body),
        "strategic merge patch": verbs.patch(target, STRATEGIC_MERGE_PATCH, body),
        "apply": verbs.patch(target, APPLY_PATCH, body, options),
        "deletecollection": verbs.delete_collection(target._replace(name=""), Selection("app=none"), body),
        "delete": verbs.delete(target._replace(name="absent"), body),
    }


async def test_what_is_no_object_is_refused_wherever_it_stands(
    harbour: Harbour, caplog: pytest.LogCaptureFixture
) -> None:
    verbs = harbour.connect().verbs
    pod = Target(resources.by_word("pods"), "default", "web")
    for body in BODIES:
        for verb, call in bodies_to(pod, body, verbs).items():
            revision = harbour.store.revision
            refused = await refusal(call)
            if refused is None:
                assert verb not in ("create", "binding"), f"{verb} {body[:80]!r} was taken"
            else:
                assert 400 <= refused.code < 500, f"{verb} {body[:80]!r}: {refused}"
                assert harbour.store.revision == revision
    assert "unexpectedly" not in caplog.text


@pytest.mark.parametrize("size", [1536 * 1024, 8 * 1024 * 1024, 33 * 1024 * 1024])
async def test_what_is_too_large_is_413(harbour: Harbour, size: int) -> None:
    verbs = harbour.connect().verbs
    revision = harbour.store.revision
    config = Target(resources.by_word("configmaps"), "default", "web")
    body = b'{"metadata":{"name":"web"},"data":{"k":"' + b"x" * size + b'"}}'
    for call in (
        verbs.create(config._replace(name=""), body),
        verbs.update(config, body),
        verbs.patch(config, MERGE_PATCH, body),
    ):
        refused = await refusal(call)
        assert refused is not None
        assert (refused.code, refused.reason) == (413, "RequestEntityTooLarge")
        assert refused.message.startswith("Request entity too large: limit is ")
    assert harbour.store.revision == revision


async def test_any_requests_through_the_door(harbour: Harbour, caplog: pytest.LogCaptureFixture) -> None:
    verbs = harbour.connect().verbs
    _, stored = await furnished()
    for seed in range(400):
        sent = a_request(Random(seed), stored, 1)
        refused = await refusal(send(verbs, sent))
        assert refused is None or 400 <= refused.code < 500, f"{sent!r}: {refused}"
    assert "unexpectedly" not in caplog.text


# --- messages that are none


def methods() -> list[tuple[str, bool, bool]]:
    """Path of every method at the door, and whether its request and its answer are streams."""
    services = [module.DESCRIPTOR.services_by_name for module in (resources_pb2, pods_pb2, cluster_pb2, sessions_pb2)]
    return [
        (f"/{service.full_name}/{method.name}", method.client_streaming, method.server_streaming)
        for by_name in services
        for name, service in by_name.items()
        if name != "Node"  # a worker's
        for method in service.methods
    ]


def call_of(channel: grpc.aio.Channel, method: tuple[str, bool, bool], message: bytes) -> Any:
    """The method called with these bytes for its request."""
    path, sends, answers = method
    if sends:
        make = channel.stream_stream if answers else channel.stream_unary
        return make(path)(iter([message]), timeout=60)
    return (channel.unary_stream if answers else channel.unary_unary)(path)(message, timeout=60)


async def test_a_message_cut_short_is_refused_in_order(harbour: Harbour, caplog: pytest.LogCaptureFixture) -> None:
    # The beginning of a message whose first field is longer than what follows.
    cut = b"\x0a\x7fdefault"
    for method in methods():
        refused = await rpc_refusal(method, cut, connection_for(method, harbour))
        if method[0].endswith(("/Status", "/SaveSnapshot", "/RotateKey")):  # no field of their requests is looked at
            assert refused is None, method
        else:
            assert refused is not None, method
            assert (refused.code, refused.reason) == (400, "BadRequest"), method
            assert refused.message.startswith("the request cannot be read: "), method
    assert "exception" not in caplog.text.lower()


def filled(random: Random, message: Message) -> Message:
    """The message with any values in some of its fields."""
    for field in message.DESCRIPTOR.fields:
        if random.random() < 0.4:
            continue
        repeated = field.is_repeated
        if field.message_type is not None:
            inner = getattr(message, field.name)
            filled(random, inner.add() if repeated else inner)
            continue
        signed = field.type in (field.TYPE_INT32, field.TYPE_INT64)
        value: Any = random.choice((0, 1, 2**31 - 1, -1 if signed else 80))
        if field.type == field.TYPE_STRING:
            value = random.choice((*WORDS, *("default", "web", "main") * 20))
        elif field.type == field.TYPE_BYTES:
            value = random.choice(BODIES)[:1000]
        elif field.type == field.TYPE_BOOL:
            value = bool(value)
        if repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


async def test_messages_to_the_other_services_with_any_values(
    harbour: Harbour, caplog: pytest.LogCaptureFixture
) -> None:
    for method in methods():
        if method[0].startswith("/barque.v1.Resources/"):
            continue
        for seed in range(20):
            message = filled(Random(seed), request_of(method[0]))
            refused = await rpc_refusal(method, message.SerializeToString(), connection_for(method, harbour))
            # 503 is a worker that cannot be reached.
            in_order = refused is None or 400 <= refused.code < 500 or refused.code == 503
            assert in_order, f"{method[0]} {message!r}: {refused}"
    assert "unexpectedly" not in caplog.text
    assert (await harbour.connect().client.get(ConfigMap, "other", "kube-public")).data == {"k": "v"}


def connection_for(method: tuple[str, bool, bool], harbour: Harbour) -> Connection:
    """Only a worker may send heartbeats."""
    if not harbour.connections:
        harbour.connect()
        harbour.as_node("n1")
    return harbour.connections[method[0].endswith("/Heartbeat")]


async def rpc_refusal(method: tuple[str, bool, bool], message: bytes, connection: Connection) -> ApiError | None:
    """What the method answers to these bytes for its request, where it refuses them."""
    while True:
        call = call_of(connection.channels.channel, method, message)
        try:
            await (drained(call) if method[2] else call)
        except grpc.aio.AioRpcError as error:
            return wire.api_error(error)
        except asyncio.CancelledError:
            # gRPC's client cancels a call that is refused just when it ends its own side; it is not told why.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
        else:
            return None


def request_of(path: str) -> Message:
    """An empty request of the method."""
    _, service, name = path.split("/")
    method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    request: Message = message_factory.GetMessageClass(method.input_type)()
    return request


async def drained(stream: Any) -> list[Any]:
    return [message async for message in stream]


@settings(max_examples=60)
@given(st.binary(max_size=40))
def test_a_message_of_any_bytes_is_one_or_is_none(data: bytes) -> None:
    """What `UnreadableMessage` stands for is never found out later, while the handler reads its fields."""
    with contextlib.suppress(DecodeError):
        request = resources_pb2.CreateRequest.FromString(data)
        assert isinstance(request.target.resource, str)
        assert isinstance(request.json, bytes)


# --- connections that are none


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def http2_call(message: bytes) -> bytes:
    """The beginning of a connection with one call of Create, ending after `message` (RFC 9113, 7541)."""
    headers = (
        (b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/barque.v1.Resources/Create"),
        (b":authority", b"barque-master"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    )  # fmt: skip
    block = b"".join(bytes((0, len(n))) + n + bytes((len(v),)) + v for n, v in headers)
    settings_, called, sent = http2_frame(4, 0, 0, b""), http2_frame(1, 4, 1, block), http2_frame(0, 1, 1, message)
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings_ + called + sent


WHOLE_CALL = http2_call(b"\0\0\0\0\x04\x0a\x02\x1a\0")


BROKEN = {
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "noise": bytes(range(256)) * 40,
    "less than the prefix announces": http2_call(b"\0\0\0\x03\xe8short"),
    "four gigabytes announced": http2_call(b"\0\xff\xff\xff\xff"),
    "compressed, but in no way that was agreed on": http2_call(b"\x01\0\0\0\x05hello"),
    "half a prefix": http2_call(b"\0\0"),
    "a frame cut short": WHOLE_CALL[:-3],
    "a head cut short": WHOLE_CALL[:40],
}


async def test_broken_connections_harm_no_other(harbour: Harbour, caplog: pytest.LogCaptureFixture) -> None:
    client, revision = harbour.connect().client, harbour.store.revision
    context = harbour.pki.admin.client_context()
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    for data in (*BROKEN.values(), b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", harbour.door.port, ssl=context)
        writer.write(data)
        with contextlib.suppress(TimeoutError, ConnectionError, ssl.SSLError):
            await writer.drain()
            await asyncio.wait_for(reader.read(1), 0.1)
        writer.transport.abort()
        assert (await client.get(ConfigMap, "web", "default")).data == {"k": "v"}
    assert harbour.store.revision == revision
    # What the garbage collector finds of other tests is none of the door's words.
    said = [record.getMessage() for record in caplog.records if record.name != "asyncio"]
    assert "exception" not in "".join(said).lower()


async def test_a_caller_without_a_certificate_is_told_so(harbour: Harbour) -> None:
    credentials = grpc.ssl_channel_credentials(harbour.pki.ca_pem)
    address = f"127.0.0.1:{harbour.door.port}"
    async with grpc.aio.secure_channel(address, credentials, wire.channel_options(pki.MASTER_HOST)) as channel:
        request = resources_pb2.GetRequest(target=resources_pb2.Target(version="v1", resource="pods", name="web"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await resources_pb2_grpc.ResourcesStub(channel).Get(request, timeout=60)
    error = wire.api_error(refused.value)
    assert (error.code, error.reason) == (503, "ServiceUnavailable")
    # Closed or reset, by what the client had sent already.
    assert error.message.startswith("the connection to the master broke: connection ")
