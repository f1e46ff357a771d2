"""The `ephemeralcontainers` subresource of pods: containers come to a pod that exists, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest

from barque.client.verbs import MERGE_PATCH
from tests.support.memory_store import Bench, a_bench, refusal, target

SUB = "ephemeralcontainers"


async def with_pod() -> tuple[Bench, dict[str, Any]]:
    bench = await a_bench()
    pod = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}}
    return bench, await bench.create("pods", pod)


def debugger(name: str = "debugger-1", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", **fields}


def adding(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"ephemeralContainers": list(containers)}}


async def test_containers_are_added_one_after_the_other() -> None:
    bench, old = await with_pod()
    # kubectl sends the resources that it has not set.
    first = debugger(stdin=True, tty=True, targetContainerName="main", resources={})
    new = await bench.patch("pods", "web", adding(first), SUB)
    (added,) = new["spec"]["ephemeralContainers"]
    assert (added["name"], added["stdin"], added["targetContainerName"]) == ("debugger-1", True, "main")
    assert (added["imagePullPolicy"], added["terminationMessagePath"]) == ("Always", "/dev/termination-log")
    assert new["metadata"]["generation"] == old["metadata"]["generation"] + 1
    order = {"$setElementOrder/ephemeralContainers": [{"name": "debugger-1"}, {"name": "debugger-2"}]}
    newer = await bench.patch("pods", "web", {"spec": {**adding(debugger("debugger-2"))["spec"], **order}}, SUB)
    assert [c["name"] for c in newer["spec"]["ephemeralContainers"]] == ["debugger-1", "debugger-2"]
    assert await bench.get("pods", "web", sub=SUB) == newer


async def test_nothing_else_is_changed_through_it() -> None:
    bench, old = await with_pod()
    body = {
        **old,
        "metadata": {**old["metadata"], "labels": {"a": "b"}},
        "spec": {**old["spec"], "activeDeadlineSeconds": 5, "ephemeralContainers": [debugger()]},
        "status": {"phase": "Running"},
    }
    new = await bench.update("pods", body, SUB)
    assert "labels" not in new["metadata"]
    assert "activeDeadlineSeconds" not in new["spec"]
    assert new["status"] == old["status"]
    assert [c["name"] for c in new["spec"]["ephemeralContainers"]] == ["debugger-1"]


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ([], 'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debugger-1" may not be removed'),
        (
            [debugger(image="other:1", imagePullPolicy="Always")],
            'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debugger-1" may not be changed',
        ),
        ([debugger(), debugger("main")], 'spec.ephemeralContainers[1].name: Duplicate value: "main"'),
        (
            [debugger(), debugger("two", targetContainerName="x")],
            'spec.ephemeralContainers[1].targetContainerName: Not found: "x"',
        ),
        (
            [debugger(), debugger("two", ports=[{"containerPort": 80}])],
            "spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
    ],
)
async def test_only_valid_additions_are_taken(after: list[dict[str, Any]], words: str) -> None:
    bench, _ = await with_pod()
    await bench.patch("pods", "web", adding(debugger()), SUB)
    refused = await refusal(bench.patch("pods", "web", adding(*after), SUB, MERGE_PATCH))
    assert (refused.code, refused.reason) == (422, "Invalid")
    assert words in refused.message


async def test_they_come_through_no_other_door() -> None:
    bench, _ = await with_pod()
    refused = await refusal(bench.patch("pods", "web", adding(debugger())))
    assert "pod updates may not change fields other than" in refused.message
    pod = {"metadata": {"name": "b"}, "spec": {"containers": [debugger("main")], "ephemeralContainers": [debugger()]}}
    assert (
        "spec.ephemeralContainers: Forbidden: cannot be set on create"
        in (await refusal(bench.create("pods", pod))).message
    )


async def test_whose_pod_it_is_not_may_not() -> None:
    bench, _ = await with_pod()
    await bench.bind("web", "n1")
    where = target("pods", "web", "default", SUB)
    refused = await refusal(bench.as_node("n1").patch(where, MERGE_PATCH, b'{"spec": {"ephemeralContainers": []}}'))
    assert refused.code == 403
    assert (await refusal(bench.admin.create(where, b"{}"))).code == 405
