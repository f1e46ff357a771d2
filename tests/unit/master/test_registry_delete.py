"""Delete: at once, after a grace period, after finalizers, after a namespace is emptied."""

from typing import Any

import msgspec
import pytest

from tests.support.memory_store import Bench, a_bench, refusal, target

SPEC = {"containers": [{"name": "main", "image": "web:1"}]}


async def with_pod(node: str = "n1", **meta: Any) -> Bench:
    bench = await a_bench()
    await bench.create("pods", {"metadata": {"name": "p", **meta}, "spec": SPEC})
    if node:
        await bench.bind("p", node)
    return bench


async def test_a_bound_pod_waits_for_its_worker() -> None:
    bench = await with_pod()
    going = await bench.delete("pods", "p")
    assert going["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    assert going["metadata"]["deletionGracePeriodSeconds"] == 30
    assert going["metadata"]["generation"] == 2
    assert await bench.get("pods", "p") == going
    await bench.delete("pods", "p", gracePeriodSeconds=0)
    assert await bench.names("pods") == []


async def test_unbound_and_finished_pods_go_at_once() -> None:
    bench = await with_pod(node="")
    gone = await bench.delete("pods", "p")
    assert gone["metadata"]["name"] == "p"
    assert await bench.names("pods") == []
    bench = await with_pod()
    await bench.patch("pods", "p", {"status": {"phase": "Succeeded"}}, "status")
    await bench.delete("pods", "p")
    assert await bench.names("pods") == []


async def test_the_grace_period_may_be_asked_for_and_shortened_but_not_lengthened() -> None:
    bench = await with_pod()
    going = await bench.delete("pods", "p", gracePeriodSeconds=60)
    assert going["metadata"]["deletionTimestamp"] == "2026-01-01T00:01:00Z"
    going = await bench.delete("pods", "p", gracePeriodSeconds=5)
    assert going["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:05Z"
    assert going["metadata"]["deletionGracePeriodSeconds"] == 5
    assert await bench.delete("pods", "p", gracePeriodSeconds=90) == going
    assert await bench.delete("pods", "p") == going


async def test_a_finalizer_keeps_the_object_until_it_is_taken_out() -> None:
    bench = await a_bench()
    made = {"metadata": {"name": "c", "finalizers": ["example.com/wait"]}}
    await bench.create("configmaps", made)
    going = await bench.delete("configmaps", "c")
    assert going["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"
    refused = await refusal(bench.patch("configmaps", "c", {"metadata": {"finalizers": ["example.com/more"]}}))
    assert "no new finalizers can be added" in refused.message
    assert await bench.names("configmaps") == ["c"]
    await bench.patch("configmaps", "c", {"metadata": {"finalizers": None}})
    assert await bench.names("configmaps") == []


@pytest.mark.parametrize(
    ("options", "finalizers"),
    [
        ({"propagationPolicy": "Foreground"}, ["foregroundDeletion"]),
        ({"propagationPolicy": "Orphan"}, ["orphan"]),
        ({"orphanDependents": True}, ["orphan"]),
    ],
)
async def test_the_garbage_collector_is_told_by_a_finalizer(options: dict[str, Any], finalizers: list[str]) -> None:
    bench = await a_bench()
    await bench.create("configmaps", {"metadata": {"name": "c"}})
    going = await bench.delete("configmaps", "c", **options)
    assert going["metadata"]["finalizers"] == finalizers


async def test_background_deletes_at_once() -> None:
    bench = await a_bench()
    await bench.create("configmaps", {"metadata": {"name": "c"}})
    await bench.delete("configmaps", "c", propagationPolicy="Background")
    assert await bench.names("configmaps") == []


async def test_preconditions_name_the_very_object() -> None:
    bench = await with_pod(node="")
    refused = await refusal(bench.delete("pods", "p", preconditions={"uid": "another"}))
    pod = await bench.get("pods", "p")
    uid, revision = pod["metadata"]["uid"], pod["metadata"]["resourceVersion"]
    assert (refused.code, refused.message) == (
        409,
        f'Operation cannot be fulfilled on Pod "p": the UID in the precondition (another) does not match the UID in '
        f"record ({uid}). The object might have been deleted and then recreated",
    )
    refused = await refusal(bench.delete("pods", "p", preconditions={"resourceVersion": "1"}))
    assert (refused.code, refused.message) == (
        409,
        f'Operation cannot be fulfilled on Pod "p": the ResourceVersion in the precondition (1) does not match the '
        f"ResourceVersion in record ({revision}). The object might have been modified",
    )
    await bench.delete("pods", "p", preconditions={"uid": pod["metadata"]["uid"]})
    assert await bench.names("pods") == []


async def test_a_pod_bound_at_the_same_moment_is_not_torn_from_its_worker() -> None:
    bench = await with_pod(node="")
    bench.store.before_commit = lambda: bench.bind("p", "n1")
    going = await bench.delete("pods", "p")
    assert going["metadata"]["deletionGracePeriodSeconds"] == 30
    assert await bench.names("pods") == ["p"]


@pytest.mark.parametrize("options", [b"{", b"[]", b'{"gracePeriodSeconds":"x"}', b'{"dryRun":["Some"]}'])
async def test_bad_options_delete_nothing(options: bytes) -> None:
    bench = await with_pod(node="")
    assert (await refusal(bench.admin.delete(target("pods", "p"), options))).code in (400, 422)
    policy = msgspec.json.encode({"propagationPolicy": "Sideways"})
    assert (await refusal(bench.admin.delete(target("pods", "p"), policy))).code == 422
    assert await bench.names("pods") == ["p"]


@pytest.mark.parametrize("grace_s", [2**31, 10**12, 2**62, 10**30])
async def test_no_grace_ends_beyond_all_dates(grace_s: int) -> None:
    bench = await with_pod()
    refused = await refusal(bench.admin.delete(target("pods", "p"), b'{"gracePeriodSeconds":%d}' % grace_s))
    assert refused.code == 422
    assert f"gracePeriodSeconds: Invalid value: {grace_s}: must be less than or equal to 2147483647" in refused.message
    assert "deletionTimestamp" not in (await bench.get("pods", "p"))["metadata"]
    going = await bench.delete("pods", "p", gracePeriodSeconds=2**31 - 1)
    assert going["metadata"]["deletionTimestamp"].startswith("2094-")


@pytest.mark.parametrize("version", ["v1", "meta.k8s.io/v1", "coordination.k8s.io/v1", "policy/v1"])
async def test_options_are_of_any_group(version: str) -> None:
    bench = await with_pod(node="")
    await bench.delete("pods", "p", apiVersion=version, kind="DeleteOptions")
    assert await bench.names("pods") == []


@pytest.mark.parametrize(("version", "kind"), [("nobody.io/v1", "DeleteOptions"), ("v1", "Pod"), ("apps/v7", "")])
async def test_what_are_no_options_delete_nothing(version: str, kind: str) -> None:
    bench = await with_pod(node="")
    refused = await refusal(bench.delete("pods", "p", apiVersion=version, kind=kind))
    assert (refused.code, "cannot be converted to DeleteOptions" in refused.message) == (400, True)
    assert await bench.names("pods") == ["p"]


async def test_a_dry_run_deletes_nothing() -> None:
    bench = await with_pod(node="")
    await bench.delete("pods", "p", dryRun=["All"])
    assert await bench.names("pods") == ["p"]


async def test_what_is_gone_is_404() -> None:
    bench = await a_bench()
    assert (await refusal(bench.delete("pods", "p"))).code == 404


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
async def test_three_namespaces_stay(name: str) -> None:
    bench = await a_bench()
    refused = await refusal(bench.delete("namespaces", name))
    assert refused.code == 403
    assert refused.message == f'namespaces "{name}" is forbidden: this namespace may not be deleted'


async def test_a_namespace_goes_when_it_is_empty_and_its_controller_lets_it() -> None:
    bench = await a_bench()
    await bench.create("namespaces", {"metadata": {"name": "n"}})
    await bench.create("configmaps", {"metadata": {"name": "c"}}, "n")
    going = await bench.delete("namespaces", "n")
    assert going["status"]["phase"] == "Terminating"
    assert going["spec"]["finalizers"] == ["kubernetes"]
    assert "deletionTimestamp" in going["metadata"]
    assert "deletionGracePeriodSeconds" not in going["metadata"]
    finalize, without = target("namespaces", "n", "", "finalize"), b'{"metadata":{"name":"n"},"spec":{"finalizers":[]}}'
    refused = await refusal(bench.admin.update(finalize, without))
    assert (refused.code, refused.message) == (409, 'namespaces "n" is terminating and still holds 1 configmaps')
    await bench.delete("configmaps", "c", "n")
    await bench.patch("namespaces", "n", {"spec": {"finalizers": None}})
    assert "n" in await bench.names("namespaces"), "who may change a namespace may not yet let it go"
    await bench.admin.update(finalize, without)
    assert "n" not in await bench.names("namespaces")
