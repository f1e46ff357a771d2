"""What callers are told beside the answer: once for each request, and only of what was accepted."""

from __future__ import annotations

from typing import Any

import msgspec

from barque.client.verbs import APPLY_PATCH, MERGE_PATCH, WriteOptions
from tests.support.memory_store import ADMIN, Bench, a_bench, refusal, target

TWICE = [{"name": "X", "value": "a"}, {"name": "X", "value": "b"}]
HIDES = 'env[1]: hides previous definition of "X", which may be dropped when using apply'
DEPRECATED = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"


def template(**container: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "web:1", "env": TWICE, **container}]
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}


def deployment(**container: Any) -> dict[str, Any]:
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template(**container)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def taken(bench: Bench) -> list[str]:
    said = list(bench.warnings)
    bench.warnings.clear()
    return said


async def test_a_create_an_update_and_a_scale_are_remarked_and_writes_of_a_status_are_not() -> None:
    bench = await a_bench()
    await bench.create("deployments", deployment())
    words = f"spec.template.spec.containers[0].{HIDES}"
    assert taken(bench) == [words]
    await bench.patch("deployments", "web", {"spec": {"minReadySeconds": 1}})
    assert taken(bench) == [words]
    await bench.patch("deployments", "web", {"spec": {"replicas": 3}}, sub="scale", kind=MERGE_PATCH)
    assert taken(bench) == [words]
    await bench.patch("deployments", "web", {"metadata": {"labels": {"a": "b"}}})
    await bench.patch("deployments", "web", {"status": {"replicas": 1}}, sub="status")
    assert taken(bench) == []
    applied = msgspec.json.encode({**deployment(env=[]), "metadata": {"name": "my.web", "namespace": "default"}})
    options = WriteOptions(field_manager="me", dry_run=True)
    await bench.admin.patch(target("deployments", "my.web"), APPLY_PATCH, applied, options)
    (named,) = taken(bench)
    assert named.startswith("metadata.name: this is used in Pod names and hostnames")


async def test_what_is_refused_is_not_remarked() -> None:
    bench = await a_bench()
    await refusal(bench.create("deployments", deployment(image="")))
    assert taken(bench) == []


async def test_every_use_of_a_deprecated_resource_is_remarked_once() -> None:
    bench = await a_bench()
    await bench.create("endpoints", {"metadata": {"name": "web"}})
    await bench.get("endpoints", "web")
    await bench.names("endpoints")
    assert taken(bench) == [DEPRECATED]
    await bench.names("endpointslices")
    assert taken(bench) == []


async def test_remarks_that_nobody_reads_are_not_gathered() -> None:
    """Parts of the master keep their verbs for as long as it lives."""
    bench = await a_bench()
    verbs = bench.registry.as_user(ADMIN)
    for name in ("a", "b"):
        named = {**deployment(env=[{**each, "name": name} for each in TWICE]), "metadata": {"name": name}}
        await verbs.create(target("deployments"), msgspec.json.encode(named))
    await verbs.list(target("endpoints"))
    kept = [value for value in vars(verbs).values() if isinstance(value, list)]
    assert kept == []
