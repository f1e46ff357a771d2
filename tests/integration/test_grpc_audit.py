"""The audit log of the gRPC door: each call as the request it is, over a real socket."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.api.types.core_v1 import ConfigMap, Pod
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import target_of
from barque.client.clock import SystemClock
from barque.client.verbs import MERGE_PATCH, Create, Delete
from barque.master.audit.audit import AuditSettings, open_audit
from barque.proto import cluster_pb2
from tests.support.harbour import a_harbour

POLICY = b"""
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:node:n1"], verbs: [list]}
- {level: RequestResponse, resources: [{group: "", resources: [configmaps]}]}
- {level: Metadata}
"""


async def test_calls_are_recorded_as_requests(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_bytes(POLICY)
    log = tmp_path / "audit.log"
    opened = open_audit(AuditSettings(str(log), tmp_path / "policy.yaml"), SystemClock())
    assert opened is not None
    audit, writer = opened
    writer.start()
    async with a_harbour(tmp_path) as harbour:
        await harbour.door.stop(0)
        await harbour.open(audit=audit)
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
    writer.close()
    events = [msgspec.json.decode(line) for line in log.read_bytes().splitlines()]
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


def _summary(event: dict[str, Any]) -> tuple[Any, ...]:
    about, method = event.get("objectRef", {}), event["requestURI"].rpartition("/")[2]
    data = event.get("responseObject", {}).get("data")
    return event["verb"], about.get("resource"), about.get("name"), event["responseStatus"]["code"], method, data
