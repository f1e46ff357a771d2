"""The `resize` subresource of pods (KEP-1287): cpu and memory of containers change, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.memory_store import Bench, a_bench, refusal

SUB = "resize"


async def with_pod(resources: dict[str, Any] | None = None, **container: Any) -> tuple[Bench, dict[str, Any]]:
    bench = await a_bench()
    asked = resources or {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}
    main = {"name": "main", "image": "web:1", "resources": asked, **container}
    return bench, await bench.create("pods", {"metadata": {"name": "web"}, "spec": {"containers": [main]}})


def asking(**resources: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "main", "resources": resources}]}}


async def test_cpu_and_memory_change_and_count_for_the_generation() -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    bench, old = await with_pod(resizePolicy=policy)
    new = await bench.patch("pods", "web", asking(requests={"cpu": "150m"}, limits={"memory": "256Mi"}), SUB)
    (main,) = new["spec"]["containers"]
    assert main["resources"] == {
        "requests": {"cpu": "150m", "memory": "64Mi"},
        "limits": {"cpu": "200m", "memory": "256Mi"},
    }
    assert main["resizePolicy"] == policy
    assert new["metadata"]["generation"] == old["metadata"]["generation"] + 1
    assert await bench.get("pods", "web", sub=SUB) == new


async def test_nothing_else_is_changed_through_it() -> None:
    bench, old = await with_pod()
    (main,) = old["spec"]["containers"]
    body = {
        **old,
        "metadata": {**old["metadata"], "labels": {"a": "b"}},
        "spec": {**old["spec"], "activeDeadlineSeconds": 5, "containers": [{**main, "image": "web:2"}]},
        "status": {"phase": "Running"},
    }
    new = await bench.update("pods", body, SUB)
    assert "labels" not in new["metadata"]
    assert (new["spec"], new["status"]) == (old["spec"], old["status"])


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (
            {"requests": {"cpu": "200m", "memory": "128Mi"}},
            'spec: Invalid value: "Guaranteed": Pod QOS Class may not change as a result of resizing',
        ),
        (
            {"limits": {"cpu": None}},
            "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
        ),
        (
            {"requests": {"ephemeral-storage": "1Gi"}},
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            {"requests": {"cpu": "1"}},
            'spec.containers[0].resources.requests: Invalid value: "1": '
            "must be less than or equal to cpu limit of 200m",
        ),
    ],
)
async def test_what_is_refused(resources: dict[str, Any], words: str) -> None:
    bench, _ = await with_pod()
    error = await refusal(bench.patch("pods", "web", asking(**resources), SUB))
    assert error.message == f'Pod "web" is invalid: {words}'


async def test_a_plain_update_still_leaves_resources_alone() -> None:
    bench, _ = await with_pod()
    error = await refusal(bench.patch("pods", "web", asking(requests={"cpu": "150m"})))
    assert "pod updates may not change fields other than" in error.message
