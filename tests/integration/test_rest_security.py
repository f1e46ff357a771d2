"""What somebody who means harm tries at the doors of a real master: rights that they have not, and odd requests."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from barque.api.types.core_v1 import ConfigMap, Service
from barque.client import wire
from barque.client.client import target_of
from barque.client.pki import Identity
from barque.client.profile import Profile
from barque.client.remote import connect
from barque.client.verbs import Create
from barque.proto import cluster_pb2
from tests.support.expecting import expect_soon
from tests.support.rest_master import RestMaster, a_rest_master

RBAC = "/apis/rbac.authorization.k8s.io/v1"
JSON = {"Content_Type": "application/json"}
# A second try of a test meets what the first one has left.
TRIES = itertools.count(1)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestMaster]:
    with a_rest_master(tmp_path_factory.mktemp("security")) as made:
        yield made


def make(master: RestMaster, path: str, obj: dict[str, Any], identity: Identity | None = None) -> int:
    return master.ask(path, "POST", json.dumps(obj).encode(), identity=identity, **JSON).status


def bind(master: RestMaster, user: str, role: str, namespace: str = "") -> None:
    """Bind the cluster role to the user, in the namespace or everywhere."""
    where = f"/namespaces/{namespace}/rolebindings" if namespace else "/clusterrolebindings"
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    subjects = [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}]
    obj = {"metadata": {"name": f"{user}-{role}"}, "roleRef": reference, "subjects": subjects}
    assert make(master, RBAC + where, obj) in (201, 409)


@contextmanager
def connected(master: RestMaster, identity: Identity) -> Iterator[ssl.SSLSocket]:
    context = identity.client_context()
    with (
        socket.create_connection(("127.0.0.1", master.master.https_port), 60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def raw(master: RestMaster, data: bytes, identity: Identity) -> bytes:
    """All that is answered to these bytes."""
    with connected(master, identity) as connection:
        connection.sendall(data)
        return connection.makefile("rb").read()


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version", "/cacerts"])
def test_nobody_sees_what_is_public(master: RestMaster, path: str) -> None:
    # Ready is only whoever could serve a current read at that very moment.
    expect_soon(lambda: master.ask_as_nobody(path).status == 200, 30, "it is told")


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/apis", "/metrics", "/openapi/v2", "/readyz/store", "/healthz/..", "/healthz/%2e%2e/metrics",
     "//healthz", "/HEALTHZ", "/api/../healthz", "/API/v1/pods", "/api/v1/pods", "/apis/none/v1/things",
     "/version/../metrics", "/cacerts/../metrics", "/barque/v1/cluster/snapshots/save"],
)  # fmt: skip
def test_nobody_sees_anything_else(master: RestMaster, path: str) -> None:
    """Also not whether there is such a thing."""
    refused = master.ask_as_nobody(path)
    assert (refused.status, json.loads(refused.body)["reason"]) == (403, "Forbidden")


@pytest.mark.parametrize(
    "head", ["OPTIONS * HTTP/1.1", "CONNECT 127.0.0.1:22 HTTP/1.1", "GET https://x/%2e%2e/metrics HTTP/1.1"]
)
def test_a_request_for_no_path_is_not_found(master: RestMaster, head: str) -> None:
    answer = raw(
        master, f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n".encode(), master.identity("root", "system:masters")
    )
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")


@pytest.mark.parametrize(
    "head",
    ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Content-Length: 4\r\nContent-Length: 0",
     "Transfer-Encoding: xchunked\r\nContent-Length: 4", "Transfer-Encoding : chunked", "Host: y"],
)  # fmt: skip
def test_a_request_that_two_would_read_differently_is_refused(master: RestMaster, head: str) -> None:
    data = f"POST /version HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n0\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = raw(master, data.encode(), master.identity("root", "system:masters"))
    assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.") == 1


def test_a_worker_gets_nowhere_through_proxies(master: RestMaster) -> None:
    make(master, "/api/v1/nodes", {"metadata": {"name": "n2"}})
    ports = [{"port": 80}]
    make(master, "/api/v1/namespaces/default/services", {"metadata": {"name": "web"}, "spec": {"ports": ports}})
    worker = master.identity("system:node:n1", "system:nodes")
    for path in (
        "nodes/n2/proxy/logs/",
        "nodes/n1/proxy/pods",
        "nodes/n2:22/proxy/",
        "namespaces/default/services/web/proxy/",
    ):
        assert master.ask(f"/api/v1/{path}", identity=worker).status == 403, path
    assert master.ask("/api/v1/nodes/n2", identity=worker).status == 200


def test_a_redirect_keeps_the_query_as_it_came(master: RestMaster) -> None:
    head = b"GET /api/v1/nodes/none/proxy?a=%26b&c=%0d%0aX:y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(master, head, master.identity("root", "system:masters"))
    assert answer.startswith(b"HTTP/1.1 301 ")
    assert b"\r\nLocation: /api/v1/nodes/none/proxy/?a=%26b&c=%0d%0aX:y\r\n" in answer


def test_who_may_view_a_namespace_sees_the_namespace_itself(master: RestMaster) -> None:
    bind(master, "viewer", "view", "default")
    viewer = master.identity("viewer")
    assert master.ask("/api/v1/namespaces/default", identity=viewer).status == 200
    refused = master.ask("/api/v1/namespaces/kube-system", identity=viewer)
    assert json.loads(refused.body)["message"] == (
        'namespaces "kube-system" is forbidden: User "viewer" cannot get resource "namespaces" in API group "" '
        'in the namespace "kube-system"'
    )


def test_a_watch_ends_with_the_right_to_it(master: RestMaster) -> None:
    watcher, unseen = (f"{name}-{next(TRIES)}" for name in ("watcher", "unseen"))
    bind(master, watcher, "view")
    path = "/api/v1/namespaces/default/configmaps"
    with connected(master, master.identity(watcher)) as connection:
        connection.sendall(f"GET {path}?watch=1&resourceVersion=0 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        stream = connection.makefile("rb")
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        make(master, path, {"metadata": {"name": "seen"}})
        while b'"seen"' not in (line := stream.readline()):
            assert line, "the watch has ended"
        assert master.ask(f"{RBAC}/clusterrolebindings/{watcher}-view", "DELETE").status == 200
        make(master, path, {"metadata": {"name": unseen}})
        rest = stream.read()
    assert unseen.encode() not in rest
    assert b'"type":"ERROR"' in rest
    assert b'"code":403' in rest


async def test_the_audit_log_tells_by_what_a_request_was_allowed(master: RestMaster) -> None:
    """At both doors, and of each write of a batch."""
    bind(master, "editor", "edit", "default")
    editor = master.identity("editor")
    assert master.ask("/api/v1/namespaces/default/pods", identity=editor).status == 200
    assert master.ask("/api/v1/namespaces/kube-system/pods", identity=editor).status == 403
    async with connect(Profile.of([master.master.door], editor)) as connection:
        await connection.verbs.list(target_of(Service, "", "default"))
        elsewhere, here = target_of(ConfigMap, "", "kube-system"), target_of(ConfigMap, "", "default")
        await connection.verbs.batch([Create(at, b'{"metadata":{"name":"c"}}') for at in (elsewhere, here)])

    def told() -> dict[tuple[str, str], tuple[str, str]] | None:
        lines = map(json.loads, (master.master.directory / "audit.log").read_text().splitlines())
        found = {
            (event["objectRef"]["resource"], event["objectRef"]["namespace"]): (
                event["annotations"]["authorization.k8s.io/decision"],
                event["annotations"]["authorization.k8s.io/reason"],
            )
            for event in lines
            if event["user"]["username"] == "editor" and event["stage"] == "ResponseComplete"
        }
        return found if len(found) == 5 else None

    found = expect_soon(told, 30, "the requests are in the log")
    allowed = ("allow", 'RBAC: allowed by RoleBinding "editor-edit/default" of ClusterRole "edit" to User "editor"')
    assert found["pods", "default"] == found["services", "default"] == found["configmaps", "default"] == allowed
    assert found["pods", "kube-system"][0] == found["configmaps", "kube-system"][0] == "forbid"


async def test_an_administrator_by_role_rules_the_cluster_and_a_reader_of_all_does_not(master: RestMaster) -> None:
    everything = {"metadata": {"name": "reader-of-all"}, "rules": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]},
        {"nonResourceURLs": ["*"], "verbs": ["get", "list", "watch"]},
    ]}  # fmt: skip
    assert make(master, f"{RBAC}/clusterroles", everything) in (201, 409)
    bind(master, "curious", "reader-of-all")
    bind(master, "captain", "cluster-admin")
    doors = [master.master.door]
    async with (
        connect(Profile.of(doors, master.identity("captain"))) as captain,
        connect(Profile.of(doors, master.identity("curious"))) as curious,
    ):
        issued = await captain.cluster.CreateJoinToken(cluster_pb2.CreateJoinTokenRequest())
        assert issued.token
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(curious.cluster.SaveSnapshot(cluster_pb2.SaveSnapshotRequest())))
    error = wire.api_error(refused.value)
    words = 'forbidden: User "curious" cannot post path "/barque/v1/cluster/snapshots/save"'
    assert (error.code, error.message) == (403, words)
