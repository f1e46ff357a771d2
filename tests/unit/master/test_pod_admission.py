"""What a new pod is given: its account, the volume with the token, and patience with lost nodes. And eviction."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from barque.master.apiserver.settings import ApiSettings
from tests.support.memory_store import Bench, a_bench, refusal, target

PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def a_pod(name: str = "web", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "bb:1"}]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"containers": containers, **spec}}


@pytest.fixture
async def bench() -> Bench:
    return await a_bench()


def account(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **more}


async def test_a_pod_that_names_no_account_is_the_default_ones(bench: Bench) -> None:
    spec = (await bench.create("pods", a_pod()))["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")


async def test_its_token_the_ca_and_the_namespace_are_mounted_as_kubernetes_does(bench: Bench) -> None:
    pod = a_pod()
    pod["spec"]["initContainers"] = [{"name": "first", "image": "bb:1"}]
    spec = (await bench.create("pods", pod))["spec"]
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert len(volume["name"]) == len("kube-api-access-xxxxx")
    assert volume["projected"] == {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {
                "downwardAPI": {
                    "items": [
                        {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                    ]
                }
            },
        ],
    }
    mount = {"name": volume["name"], "mountPath": PATH, "readOnly": True}
    assert [c["volumeMounts"] for c in (*spec["initContainers"], *spec["containers"])] == [[mount], [mount]]


@pytest.mark.parametrize(
    ("of_pod", "of_account", "mounted"),
    [(None, None, True), (None, False, False), (True, False, True), (False, None, False), (False, True, False)],
)
async def test_the_pods_word_goes_before_the_accounts(
    bench: Bench, of_pod: bool | None, of_account: bool | None, mounted: bool
) -> None:
    said = {} if of_account is None else {"automountServiceAccountToken": of_account}
    await bench.create("serviceaccounts", account("robot", **said))
    pod = a_pod(serviceAccountName="robot")
    if of_pod is not None:
        pod["spec"]["automountServiceAccountToken"] = of_pod
    assert bool((await bench.create("pods", pod))["spec"].get("volumes")) is mounted


async def test_a_mount_of_its_own_at_that_path_stays(bench: Bench) -> None:
    pod = a_pod()
    own = {"name": "mine", "mountPath": PATH}
    pod["spec"]["volumes"] = [{"name": "mine", "emptyDir": {}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [own]
    spec = (await bench.create("pods", pod))["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["mine"]
    assert spec["containers"][0]["volumeMounts"] == [own]


async def test_an_account_lends_its_pull_secrets_to_pods_without(bench: Bench) -> None:
    await bench.create("serviceaccounts", account("robot", imagePullSecrets=[{"name": "hub"}]))
    pod = a_pod("a", serviceAccountName="robot")
    assert (await bench.create("pods", pod))["spec"]["imagePullSecrets"] == [{"name": "hub"}]
    pod = a_pod("b", serviceAccountName="robot")
    pod["spec"]["imagePullSecrets"] = [{"name": "own"}]
    assert (await bench.create("pods", pod))["spec"]["imagePullSecrets"] == [{"name": "own"}]


async def test_an_account_that_is_not_there_is_refused(bench: Bench) -> None:
    error = await refusal(bench.create("pods", a_pod("web", serviceAccountName="x")))
    assert error.code == 403
    assert error.message == (
        'pods "web" is forbidden: error looking up service account default/x: serviceaccount "x" not found'
    )
    assert await bench.names("pods") == []


async def test_a_pod_waits_for_the_default_account_of_a_newborn_namespace(bench: Bench) -> None:
    await bench.create("namespaces", {"metadata": {"name": "new"}}, "")
    made, _ = await asyncio.gather(
        bench.create("pods", a_pod("web", "new"), "new"), bench.create("serviceaccounts", account("default"), "new")
    )
    assert made["spec"]["serviceAccountName"] == "default"
    assert 0 < bench.clock.monotonic() < 1


async def test_it_does_not_wait_for_ever_nor_in_older_namespaces(bench: Bench) -> None:
    await bench.create("namespaces", {"metadata": {"name": "new"}}, "")
    error = await refusal(bench.create("pods", a_pod("web", "new"), "new"))
    assert "error looking up service account new/default" in error.message
    waited = bench.clock.monotonic()
    assert 2 < waited < 4
    await refusal(bench.create("pods", a_pod("web", "new"), "new"))
    assert bench.clock.monotonic() == waited


async def test_where_the_namespace_is_missing_that_is_what_is_said(bench: Bench) -> None:
    error = await refusal(bench.create("pods", a_pod("web", "nowhere"), "nowhere"))
    assert error.message == 'namespaces "nowhere" not found'


async def test_a_mirror_pod_has_no_account(bench: Bench) -> None:
    mirror = a_pod("static")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    mirror["spec"]["nodeName"] = "n1"
    spec = (await bench.create("pods", msgspec.json.encode(mirror)))["spec"]
    assert "volumes" not in spec
    assert "serviceAccountName" not in spec
    mirror["metadata"]["name"], mirror["spec"]["serviceAccountName"] = "other", "default"
    error = await refusal(bench.create("pods", mirror))
    assert error.message.endswith("a mirror pod may not reference service accounts")


# --- tolerations


def tolerated(pod: dict[str, Any]) -> list[tuple[str, Any]]:
    listed = pod["spec"].get("tolerations", [])
    return [(t.get("key", "").removeprefix("node.kubernetes.io/"), t.get("tolerationSeconds")) for t in listed]


async def test_pods_bear_with_lost_nodes_for_a_while(bench: Bench) -> None:
    made = await bench.create("pods", a_pod())
    assert tolerated(made) == [("not-ready", 5), ("unreachable", 5)]
    assert {(t["operator"], t["effect"]) for t in made["spec"]["tolerations"]} == {("Exists", "NoExecute")}


async def test_what_a_pod_says_itself_counts() -> None:
    bench = await a_bench(ApiSettings(not_ready_toleration_s=300, unreachable_toleration_s=60))
    pod = a_pod("a")
    pod["spec"]["tolerations"] = [
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}
    ]
    assert tolerated(await bench.create("pods", pod)) == [("unreachable", 9), ("not-ready", 300)]
    pod = a_pod("b")
    pod["spec"]["tolerations"] = [{"operator": "Exists"}]
    assert tolerated(await bench.create("pods", pod)) == [("", None)]
    pod = a_pod("c")
    pod["spec"]["tolerations"] = [
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert tolerated(await bench.create("pods", pod))[1:] == [("not-ready", 300), ("unreachable", 60)]


def test_a_toleration_below_zero_is_no_setting() -> None:
    with pytest.raises(ValueError, match="unreachable_toleration_s"):
        ApiSettings(unreachable_toleration_s=-1)


@pytest.mark.parametrize(("status", "taints"), [("True", []), ("False", ["node.kubernetes.io/not-ready"])])
async def test_no_pod_comes_to_a_new_node_before_it_is_ready(bench: Bench, status: str, taints: list[str]) -> None:
    node = {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": status}]}}
    made = await bench.create("nodes", node, "")
    assert [taint["key"] for taint in made["spec"].get("taints", [])] == taints


# --- eviction


async def evict(bench: Bench, name: str = "web", **more: Any) -> dict[str, Any]:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}, **more}
    answer = await bench.admin.create(target("pods", name, "default", "eviction"), msgspec.json.encode(body))
    return msgspec.json.decode(answer, type=dict[str, Any])


async def test_an_evicted_pod_ends_with_its_grace_and_says_why(bench: Bench) -> None:
    await bench.create("pods", a_pod("web"))
    await bench.bind("web", "n1")
    assert (await evict(bench))["status"] == "Success"
    pod = await bench.get("pods", "web")
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 30
    (marked,) = [c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert (marked["reason"], marked["message"]) == ("EvictionByEvictionAPI", "Eviction API: evicting")
    assert (await evict(bench, deleteOptions={"gracePeriodSeconds": 3}))["status"] == "Success"
    assert (await bench.get("pods", "web"))["metadata"]["deletionGracePeriodSeconds"] == 3


async def test_a_pod_that_waits_for_a_node_is_gone_at_once(bench: Bench) -> None:
    await bench.create("pods", a_pod("web"))
    await evict(bench)
    assert await bench.names("pods") == []
    assert (await refusal(evict(bench))).code == 404


async def test_older_clients_evict_too(bench: Bench) -> None:
    await bench.create("pods", a_pod("web"))
    assert (await evict(bench, apiVersion="policy/v1beta1"))["status"] == "Success"
    assert await bench.names("pods") == []
    await bench.create("pods", a_pod("web"))
    refused = await refusal(evict(bench, apiVersion="policy/v1alpha1"))
    assert (refused.code, "policy/v1alpha1" in refused.message) == (400, True)


async def test_an_eviction_keeps_its_preconditions_and_dry_runs_do_nothing(bench: Bench) -> None:
    await bench.create("pods", a_pod("web"))
    await evict(bench, deleteOptions={"dryRun": ["All"]})
    assert (await refusal(evict(bench, deleteOptions={"preconditions": {"uid": "other"}}))).code == 409
    assert (await refusal(evict(bench, deleteOptions={"propagationPolicy": "Sideways"}))).code == 422
    assert await bench.names("pods") == ["web"]
