"""`barque cordon`, `uncordon`, `drain`, `taint` and `node rm`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from barque.api.types import apps_v1, core_v1
from barque.cli.draining import DrainPlan, Flags, plan_drain
from barque.cli.output import CliError
from barque.cli.tainting import apply_changes, parse_changes
from tests.support.builders import PodBuilder, a_node, a_pod, a_replica_set
from tests.support.registry_cluster import RegistryCluster, run

OWNER = a_replica_set("web").build()


def owned(name: str) -> PodBuilder:
    return a_pod(name).on("n1").owned_by(OWNER).running()


def of_daemon_set(name: str) -> PodBuilder:
    return a_pod(name).on("n1").owned_by(apps_v1.DaemonSet(metadata=a_node("agent").build().metadata)).running()


def with_empty_dir(name: str) -> PodBuilder:
    return owned(name).volume("scratch", emptyDir=core_v1.EmptyDirVolumeSource())


def cluster_of(*pods: Any) -> RegistryCluster:
    return RegistryCluster(a_node("n1").ready().build(), a_node("n2").ready().build(), *(pod.build() for pod in pods))


def unschedulable(cluster: RegistryCluster, name: str = "n1") -> bool:
    return bool(cluster.one("nodes", name)["spec"].get("unschedulable"))


def test_cordon_and_uncordon() -> None:
    cluster = cluster_of()
    assert run(cluster, "cordon", "n1").stdout == "node/n1 cordoned\n"
    assert unschedulable(cluster)
    assert run(cluster, "cordon", "n1", "node/n2").stdout == "node/n1 already cordoned\nnode/n2 cordoned\n"
    assert run(cluster, "uncordon", "n1", "--dry-run=server").stdout == "node/n1 uncordoned (server dry run)\n"
    assert unschedulable(cluster)
    assert run(cluster, "uncordon", "-l", "kubernetes.io/hostname=n1").stdout == "node/n1 uncordoned\n"
    assert not unschedulable(cluster)
    missing = run(cluster, "cordon", "n9")
    assert missing.stderr == 'Error from server (NotFound): nodes "n9" not found\n'
    assert missing.exit_code == 1
    assert run(cluster, "cordon").stderr.startswith("error: give the name of a node")
    assert run(cluster, "cordon", "n1", "-l", "a=b").stderr == (
        "error: cannot specify both a node name and a --selector option\n"
    )


def test_drain_evicts_waits_and_says_so() -> None:
    cluster = cluster_of(owned("web-1"), owned("web-2"), owned("far").on("n2"))
    cluster.on_idle = [
        lambda: cluster.remove("pods", "web-1"),
        lambda: cluster.remove("pods", "web-2"),
    ]
    result = run(cluster, "drain", "n1")
    assert result.stdout.splitlines() == [
        "node/n1 cordoned",
        "evicting pod default/web-1",
        "evicting pod default/web-2",
        "pod/web-1 evicted",
        "pod/web-2 evicted",
        "node/n1 drained",
    ]
    assert result.exit_code == 0
    assert unschedulable(cluster)
    assert cluster.names("pods") == ["far"]


def test_drain_refuses_what_would_be_lost_and_touches_nothing() -> None:
    cluster = cluster_of(owned("web-1"), a_pod("bare").on("n1").running(), with_empty_dir("scratch"))
    result = run(cluster, "drain", "n1")
    assert result.stderr == (
        'error: unable to drain node "n1": '
        "cannot delete Pods that declare no controller (use --force to override): default/bare\n"
        "cannot delete Pods with local storage (use --delete-emptydir-data to override): default/scratch\n"
    )
    assert result.exit_code == 1
    assert len(cluster.names("pods")) == 3
    assert unschedulable(cluster)


def test_drain_as_a_rehearsal() -> None:
    cluster = cluster_of(a_pod("bare").on("n1").running())
    result = run(cluster, "drain", "n1", "--force", "--dry-run=client")
    assert result.stdout.splitlines() == [
        "node/n1 cordoned (dry run)",
        "evicting pod default/bare (dry run)",
        "node/n1 drained (dry run)",
    ]
    assert result.stderr == "Warning: deleting Pods that declare no controller: default/bare\n"
    assert not unschedulable(cluster)
    assert run(cluster, "drain", "n1", "--force", "--dry-run=server").exit_code == 0
    assert cluster.names("pods") == ["bare"]


def test_drain_goes_on_with_the_next_node_and_gives_up_in_time() -> None:
    cluster = cluster_of(a_pod("bare").on("n1").running(), owned("slow").on("n2"))
    # The pod's worker never confirms.
    cluster.on_idle = [asyncio.Event().wait]
    result = run(cluster, "drain", "n1", "n2", "--timeout=50ms")
    assert 'error: unable to drain node "n1"' in result.stderr
    assert 'error: unable to drain node "n2": global timeout reached: 0.05s; still there: default/slow' in result.stderr
    assert "There are pending nodes to be drained:\n n1\n n2\n" in result.stderr
    assert result.exit_code == 1


def test_which_pods_a_drain_takes() -> None:
    daemon, mirror = of_daemon_set("agent-1").build(), a_pod("static").annotated({"kubernetes.io/config.mirror": "x"})
    known = Flags(daemon_sets={("default", "agent")})

    def planned(flags: Flags, *pods: Any) -> tuple[list[str], DrainPlan]:
        plan = plan_drain(pods, flags)
        return [pod.metadata.name for pod in plan.doomed], plan

    assert planned(known, daemon)[1].refusals == (
        "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/agent-1",
    )
    ignoring = planned(known._replace(ignore_daemon_sets=True), daemon)
    assert ignoring == ([], DrainPlan((), ("ignoring DaemonSet-managed Pods: default/agent-1",), ()))
    # Nothing would make it again, so it is as any pod.
    assert planned(Flags(force=True), daemon)[0] == ["agent-1"]
    assert planned(Flags(), mirror.build()) == ([], DrainPlan((), (), ()))
    ended = a_pod("job").succeeded().volume("scratch", emptyDir=core_v1.EmptyDirVolumeSource()).build()
    assert planned(Flags(), ended)[0] == ["job"]
    allowed = planned(Flags(delete_empty_dir_data=True), with_empty_dir("scratch").build())
    assert allowed[0] == ["scratch"]
    assert allowed[1].warnings == ("deleting Pods with local storage: default/scratch",)


def test_taints_are_set_changed_and_taken_off() -> None:
    cluster = cluster_of()
    first = run(cluster, "taint", "nodes", "n1", "dedicated=db:NoSchedule", "slow:PreferNoSchedule")
    assert (first.stdout, first.stderr) == ("node/n1 tainted\n", "")
    again = run(cluster, "taint", "nodes", "n1", "dedicated=web:NoSchedule")
    assert (
        again.stderr == "error: node n1 already has dedicated taint(s) with same effect(s) and --overwrite is false\n"
    )
    assert again.exit_code == 1
    assert run(cluster, "taint", "node", "n1", "dedicated=web:NoSchedule", "--overwrite").stdout == "node/n1 modified\n"
    assert {"key": "dedicated", "value": "web", "effect": "NoSchedule"} in cluster.one("nodes", "n1")["spec"]["taints"]
    assert run(cluster, "taint", "nodes", "--all", "new:NoExecute").stdout == "node/n1 tainted\nnode/n2 tainted\n"
    assert run(cluster, "taint", "nodes", "n1", "dedicated-", "slow:PreferNoSchedule-").stdout == "node/n1 untainted\n"
    assert cluster.one("nodes", "n1")["spec"]["taints"] == [{"key": "new", "effect": "NoExecute"}]
    assert run(cluster, "taint", "nodes", "n1", "gone-").stderr == 'error: taint "gone" not found\n'
    assert run(cluster, "taint", "nodes", "n1", "new-").stdout == "node/n1 untainted\n"
    assert "taints" not in cluster.one("nodes", "n1")["spec"]


def test_a_taint_that_someone_else_sets_meanwhile_stays() -> None:
    cluster = cluster_of()
    raced = [False]

    def on_call(verb: str, _: Any) -> None:
        if verb == "patch" and not raced[0]:
            raced[0] = True
            node = cluster.one("nodes", "n1")
            cluster.put(node | {"spec": {**node["spec"], "taints": [{"key": "theirs", "effect": "NoSchedule"}]}})

    cluster.on_call = on_call
    assert run(cluster, "taint", "nodes", "n1", "ours:NoSchedule").stdout == "node/n1 tainted\n"
    assert [taint["key"] for taint in cluster.one("nodes", "n1")["spec"]["taints"]] == ["ours", "theirs"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nodes", "n1"], "error: at least one taint update is required, as in key=value:NoSchedule or key-\n"),
        (["nodes", "n1", "a=b"], "error: invalid taint spec: a=b; it lacks an effect, as in a=b:NoSchedule\n"),
        (["pods", "n1", "a=b:NoSchedule"], "error: invalid resource type pods, only node type is supported\n"),
        (
            ["nodes", "n1", "a=b:Never"],
            "error: invalid taint effect: Never, unsupported taint effect; it is one of NoSchedule, PreferNoSchedule, "
            "NoExecute\n",
        ),
        (
            ["nodes", "n1", "a=b:NoExecute", "a:NoExecute-"],
            "error: can not both modify and remove the following taint(s) in the same command: a:NoExecute\n",
        ),
    ],
)
def test_taints_that_make_no_sense(words: list[str], said: str) -> None:
    assert run(cluster_of(), "taint", *words).stderr == said


def test_an_effect_apart_is_another_taint() -> None:
    present = [{"key": "a", "value": "1", "effect": "NoExecute"}]
    taints, became = apply_changes("n1", present, parse_changes(["a=2:NoSchedule"]), overwrite=False)
    assert [taint["effect"] for taint in taints] == ["NoSchedule", "NoExecute"]
    assert became == "tainted"
    assert apply_changes("n1", taints, parse_changes(["a-"]), overwrite=False) == ([], "untainted")
    with pytest.raises(CliError, match="not found"):
        apply_changes("n1", present, parse_changes(["a:NoSchedule-"]), overwrite=False)


def test_a_node_is_removed_once_its_pods_are_gone() -> None:
    cluster = RegistryCluster(a_node("n1").unknown().build())
    cluster.put(owned("web-1").deleting(grace_s=30).finalizers("example.com/hold").build())
    cluster.on_idle = [lambda: cluster.remove("pods", "web-1")]
    result = run(cluster, "node", "rm", "n1")
    assert result.stdout == 'node "n1" removed\n'
    assert not cluster.exists("nodes", "n1")


def test_a_node_in_use_stays() -> None:
    living = run(cluster_of(), "node", "rm", "n1")
    assert living.stderr.startswith("error: node n1 is ready, so its worker runs")
    cluster = RegistryCluster(a_node("n1").unknown().build(), owned("web-1").build(), of_daemon_set("agent-1").build())
    busy = run(cluster, "node", "rm", "n1")
    assert busy.stderr.startswith("error: node n1 still has 1 pods: default/web-1; `barque drain n1` moves them away")
    assert busy.exit_code == 1
    assert cluster.exists("nodes", "n1")


def test_a_node_that_never_comes_back_is_removed_with_its_pods() -> None:
    cluster = RegistryCluster(a_node("n1").ready().build(), owned("web-1").build())
    result = run(cluster, "node", "rm", "n1", "--force")
    assert result.stdout == 'pod "web-1" force deleted from default namespace\nnode "n1" removed\n'
    assert result.stderr == "Warning: whether pods of node n1 still run there is no longer known\n"
    assert (cluster.names("pods"), cluster.exists("nodes", "n1")) == ([], False)
