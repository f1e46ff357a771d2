"""A Binding created by itself, as older clients do: the same word as at `pods/binding`, under the pod's name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from barque.master.auth.identity import User
from tests.support.builders import a_pod
from tests.support.memory_store import Bench, a_bench, refusal, target

PLACER = User("placer", ("system:authenticated",))


def binding(name: str = "web", **more: Any) -> bytes:
    return msgspec.json.encode({"metadata": {"name": name, **more}, "target": {"kind": "Node", "name": "n1"}})


async def with_pod() -> Bench:
    bench = await a_bench()
    await bench.create("pods", msgspec.to_builtins(a_pod("web").build()))
    return bench


async def test_a_binding_by_itself_binds_the_pod_of_its_name() -> None:
    bench = await with_pod()
    before = (await bench.get("pods", "web"))["metadata"]
    await bench.create("bindings", binding())
    bound = await bench.get("pods", "web")
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["metadata"].get("managedFields") == before.get("managedFields")
    again = await refusal(bench.create("bindings", binding()))
    assert (again.code, again.message) == (
        409,
        'Operation cannot be fulfilled on pods/binding "web": pod web is already assigned to node "n1"',
    )


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (binding(""), 400, "Name parameter required."),
        (binding("other"), 404, 'pods "other" not found'),
        (
            binding(namespace="kube-system"), 400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            b'{"metadata":{"name":"web"},"target":{"kind":"Pod","name":"n1"}}', 422,
            'Binding "web" is invalid: target.kind: Unsupported value: "Pod": supported values: "Node"',
        ),
    ],
)  # fmt: skip
async def test_a_binding_of_what_cannot_be_bound(body: bytes, code: int, message: str) -> None:
    bench = await with_pod()
    refused = await refusal(bench.create("bindings", body))
    assert (refused.code, refused.message) == (code, message)
    assert "nodeName" not in (await bench.get("pods", "web"))["spec"]


async def test_who_may_create_bindings_binds_and_who_may_not_is_told_of_them() -> None:
    bench = await with_pod()
    placer = bench.registry.as_user(PLACER)
    refused = await refusal(placer.create(target("bindings"), binding()))
    assert (refused.code, refused.message) == (
        403,
        'bindings is forbidden: User "placer" cannot create resource "bindings" in API group "" '
        'in the namespace "default"',
    )
    rule = {"verbs": ["create"], "apiGroups": [""], "resources": ["bindings"]}
    await bench.create("roles", {"metadata": {"name": "r"}, "rules": [rule]})
    subject = {"kind": "User", "name": "placer"}
    role = {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}
    await bench.create("rolebindings", {"metadata": {"name": "r"}, "roleRef": role, "subjects": [subject]})
    await placer.create(target("bindings"), binding())
    assert (await bench.get("pods", "web"))["spec"]["nodeName"] == "n1"
    below = await refusal(placer.create(target("pods", "web", subresource="binding"), binding()))
    assert below.code == 403
