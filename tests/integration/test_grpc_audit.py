"""The audit log of the gRPC door: each call as the request it is, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest

from barque.api.errors import ApiError
from barque.api.types.core_v1 import ConfigMap, Pod
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import target_of
from barque.client.clock import SystemClock
from barque.client.verbs import MERGE_PATCH, Create, Delete
from barque.master.audit.audit import AuditSettings, open_audit
from barque.proto import cluster_pb2, sessions_pb2
from tests.support.harbour import Harbour, a_harbour

POLICY = b"""
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:node:n1"], verbs: [list]}
- {level: RequestResponse, resources: [{group: "", resources: [configmaps]}]}
- {level: Metadata}
"""
EVERY_STAGE = b"""
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: Metadata, nonResourceURLs: ["/barque.v1.Sessions/*"]}
"""


@asynccontextmanager
async def audited(directory: Path, policy: bytes) -> AsyncIterator[tuple[Harbour, Path]]:
    """A door whose log is complete once it is closed."""
    log = directory / "audit.log"
    (directory / "policy.yaml").write_bytes(policy)
    opened = open_audit(AuditSettings(str(log), directory / "policy.yaml"), SystemClock())
    assert opened is not None
    audit, writer = opened
    writer.start()
    async with a_harbour(directory) as harbour:
        await harbour.door.stop(0)
        await harbour.open(audit=audit)
        yield harbour, log
    writer.close()


def events_in(log: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in log.read_bytes().splitlines()]


async def test_calls_are_recorded_as_requests(tmp_path: Path) -> None:
    async with audited(tmp_path, POLICY) as (harbour, log):
        connection = harbour.connect()
        client, verbs = connection.client, connection.verbs
        await client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="default"), data={"k": "v"}))
        await client.patch(ConfigMap, "a", "default", {"data": {"k": "w"}}, content_type=MERGE_PATCH)
        with pytest.raises(ApiError):
            await client.get(ConfigMap, "b", "default")
        target = target_of(ConfigMap, "", "default")
        await verbs.batch([Create(target, b'{"metadata":{"name":"c"}}'), Delete(target._replace(name="d"))])
        async with aclosing(verbs.watch(target_of(Pod))) as changes:  # type: ignore[type-var]
            await anext(changes)
        worker = harbour.as_node("n1")
        with pytest.raises(ApiError):
            await worker.client.list(ConfigMap, "default")
        with pytest.raises(ApiError):
            await worker.client.delete(ConfigMap, "a", "default")
        await connection.cluster.Status(cluster_pb2.StatusRequest())
    events = events_in(log)
    assert [_summary(event) for event in events if event["verb"] != "watch"] == [
        ("create", "configmaps", "a", 201, "Create", {"k": "v"}),
        ("patch", "configmaps", "a", 200, "Patch", {"k": "w"}),
        ("get", "configmaps", "b", 404, "Get", None),
        ("create", "configmaps", "c", 201, "Batch", None),
        ("delete", "configmaps", "d", 404, "Batch", None),
        ("delete", "configmaps", "a", 403, "Delete", None),
        ("post", None, None, 200, "Status", None),
    ]
    watched = [event["stage"] for event in events if event["verb"] == "watch"]
    assert watched == ["ResponseStarted", "ResponseComplete"]
    first, refused = events[0], next(event for event in events if event["responseStatus"]["code"] == 403)
    assert first["requestObject"]["data"] == {"k": "v"}
    assert first["sourceIPs"] == ["127.0.0.1"]
    assert first["userAgent"].startswith("grpc-python")
    assert refused["user"]["username"] == "system:node:n1"
    assert refused["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert refused["responseStatus"]["reason"] == "Forbidden"


async def test_a_workers_heartbeats_are_one_request_and_the_masters_own_talk_is_none(tmp_path: Path) -> None:
    beat, heard = sessions_pb2.Beat(node="n1"), sessions_pb2.Heard()
    async with audited(tmp_path, EVERY_STAGE) as (harbour, log):
        worker = harbour.as_node("n1").sessions
        other = harbour.as_node("n2").sessions
        master = harbour.connect(harbour.pki.master).sessions
        beats = worker.Heartbeat()
        for _ in range(2):
            await beats.write(beat)
            await beats.read()
        await beats.done_writing()
        assert await beats.read() is grpc.aio.EOF
        for _ in range(2):
            await master.Relay(heard)
        with pytest.raises(grpc.aio.AioRpcError):
            await other.Relay(heard)
        in_anothers_name = other.Heartbeat()
        await in_anothers_name.write(beat)
        with pytest.raises(grpc.aio.AioRpcError):
            await in_anothers_name.read()
        with pytest.raises(grpc.aio.AioRpcError):
            await master.Heartbeat(iter([beat])).read()
    events = events_in(log)
    assert {(event["verb"], event.get("objectRef")) for event in events} == {("post", None)}
    assert [
        (e["user"]["username"], e["requestURI"], e["stage"], e.get("responseStatus", {}).get("code")) for e in events
    ] == [
        ("system:node:n1", "/barque.v1.Sessions/Heartbeat", "RequestReceived", None),
        ("system:node:n1", "/barque.v1.Sessions/Heartbeat", "ResponseStarted", 200),
        ("system:node:n1", "/barque.v1.Sessions/Heartbeat", "ResponseComplete", 200),
        ("system:node:n2", "/barque.v1.Sessions/Relay", "RequestReceived", None),
        ("system:node:n2", "/barque.v1.Sessions/Relay", "ResponseComplete", 403),
        ("system:node:n2", "/barque.v1.Sessions/Heartbeat", "RequestReceived", None),
        ("system:node:n2", "/barque.v1.Sessions/Heartbeat", "ResponseStarted", 200),
        ("system:node:n2", "/barque.v1.Sessions/Heartbeat", "ResponseComplete", 403),
        ("barque:master:m1", "/barque.v1.Sessions/Heartbeat", "RequestReceived", None),
        ("barque:master:m1", "/barque.v1.Sessions/Heartbeat", "ResponseComplete", 403),
    ]
    assert len({event["auditID"] for event in events}) == 4
    assert events[4]["annotations"]["authorization.k8s.io/decision"] == "forbid"


def _summary(event: dict[str, Any]) -> tuple[Any, ...]:
    about, method = event.get("objectRef", {}), event["requestURI"].rpartition("/")[2]
    data = event.get("responseObject", {}).get("data")
    return event["verb"], about.get("resource"), about.get("name"), event["responseStatus"]["code"], method, data
