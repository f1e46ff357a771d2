"""`barque get`: tables, documents, and following changes across a break."""

from __future__ import annotations

import json

import yaml

from tests.support.builders import DeploymentBuilder, PodBuilder, ServiceBuilder
from tests.unit.cli.fake_cluster import FakeCluster, run


def a_pod(name: str, namespace: str = "default") -> PodBuilder:
    return PodBuilder(name, namespace).on("n1").ready().ip("10.244.0.5")


def two_pods() -> FakeCluster:
    return FakeCluster(
        a_pod("web-1").labelled(app="web").build(),
        PodBuilder("db-with-a-long-name", "default")
        .labelled(app="db", tier="back")
        .waiting("ImagePullBackOff")
        .build(),
    )


def test_a_table_is_aligned_as_kubectl_does_it() -> None:
    result = run(two_pods(), "get", "pods")
    assert result.stdout == (
        "NAME                  READY   STATUS             RESTARTS   AGE\n"
        "db-with-a-long-name   0/1     ImagePullBackOff   0          0s\n"
        "web-1                 1/1     Running            0          0s\n"
    )
    assert result.exit_code == 0


def test_wide_adds_columns() -> None:
    result = run(two_pods(), "get", "po", "web-1", "-o", "wide")
    assert result.stdout == (
        "NAME    READY   STATUS    RESTARTS   AGE   IP           NODE   NOMINATED NODE   READINESS GATES\n"
        "web-1   1/1     Running   0          0s    10.244.0.5   n1     <none>           <none>\n"
    )


def test_all_namespaces_labels_and_label_columns() -> None:
    cluster = two_pods()
    cluster.put(a_pod("web-1", "shop").build())
    result = run(cluster, "get", "pods", "-A", "--show-labels", "-L", "tier", "--no-headers")
    assert result.stdout.splitlines() == [
        "default   db-with-a-long-name   0/1   ImagePullBackOff   0     0s    back   app=db,tier=back",
        "default   web-1                 1/1   Running            0     0s           app=web",
        "shop      web-1                 1/1   Running            0     0s           <none>",
    ]


def test_selectors_choose() -> None:
    assert run(two_pods(), "get", "pods", "-l", "app=web", "-o", "name").stdout == "pod/web-1\n"
    chosen = run(two_pods(), "get", "pods", "--field-selector", "spec.nodeName=n1", "-o", "name")
    assert chosen.stdout == "pod/web-1\n"


def test_nothing_found_is_said_on_standard_error() -> None:
    empty = run(FakeCluster(), "get", "pods")
    assert (empty.stdout, empty.stderr, empty.exit_code) == ("", "No resources found in default namespace.\n", 0)
    assert run(FakeCluster(), "get", "pods", "-n", "shop").stderr == "No resources found in shop namespace.\n"
    assert run(FakeCluster(), "-n", "shop", "get", "pods").stderr == "No resources found in shop namespace.\n"
    assert run(FakeCluster(), "get", "pods", "-A").stderr == "No resources found\n"
    assert run(FakeCluster(), "get", "nodes").stderr == "No resources found\n"


def test_a_missing_name_is_an_error_but_the_others_are_shown() -> None:
    result = run(two_pods(), "get", "pods", "web-1", "gone")
    assert result.stdout.splitlines()[1].startswith("web-1")
    assert result.stderr == 'Error from server (NotFound): pods "gone" not found\n'
    assert result.exit_code == 1
    ignored = run(two_pods(), "get", "pods", "gone", "--ignore-not-found")
    assert (ignored.stdout, ignored.stderr, ignored.exit_code) == ("", "", 0)


def test_several_types_in_blocks_with_typed_names() -> None:
    cluster = FakeCluster(
        a_pod("web-1").build(),
        ServiceBuilder("web", "default").cluster_ip("10.96.0.7").port(80).build(),
        DeploymentBuilder("web", "default").replicas(1).has(1, ready=1, available=1).build(),
    )
    result = run(cluster, "get", "all")
    assert result.stdout == (
        "NAME        READY   STATUS    RESTARTS   AGE\n"
        "pod/web-1   1/1     Running   0          0s\n"
        "\n"
        "NAME          TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE\n"
        "service/web   ClusterIP   10.96.0.7    <none>        80/TCP    0s\n"
        "\n"
        "NAME                  READY   UP-TO-DATE   AVAILABLE   AGE\n"
        "deployment.apps/web   1/1     0            1           0s\n"
    )
    slashed = run(cluster, "get", "svc/web", "deploy/web", "-o", "name")
    assert slashed.stdout == "service/web\ndeployment.apps/web\n"


def test_documents() -> None:
    one = run(two_pods(), "get", "pod", "web-1", "-o", "yaml")
    assert yaml.safe_load(one.stdout)["metadata"]["name"] == "web-1"
    assert one.stdout.startswith('apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: "2026-01-01T00:00:00Z"\n')
    assert "  containers:\n  - image: web:1\n" in one.stdout
    many = json.loads(run(two_pods(), "get", "pods", "-o", "json").stdout)
    assert (many["kind"], len(many["items"])) == ("List", 2)
    assert run(two_pods(), "get", "pods", "-o", "json").stdout.startswith(
        '{\n    "apiVersion": "v1",\n    "items": [\n'
    )
    assert json.loads(run(FakeCluster(), "get", "pods", "-o", "json").stdout)["items"] == []


def test_managed_fields_are_not_shown() -> None:
    pod = a_pod("web-1").build()
    cluster = FakeCluster(pod)
    cluster.one("pods", "web-1")["metadata"]["managedFields"] = [{"manager": "x"}]
    assert "managedFields" not in run(cluster, "get", "pod", "web-1", "-o", "yaml").stdout


def test_watch_prints_rows_as_they_change_and_ctrl_c_ends_it_with_130() -> None:
    cluster = FakeCluster(a_pod("web-1").build())
    cluster.on_idle = [
        lambda: cluster.put(PodBuilder("web-2", "default").build()),
        lambda: cluster.put(a_pod("web-2").build()),
        lambda: cluster.remove("pods", "web-1"),
    ]
    result = run(cluster, "get", "pods", "-w")
    assert result.stdout == (
        "NAME    READY   STATUS    RESTARTS   AGE\n"
        "web-1   1/1     Running   0          0s\n"
        "web-2   0/1     Pending   0          0s\n"
        "web-2   1/1     Running   0          0s\n"
        "web-1   1/1     Running   0          0s\n"
    )
    assert result.exit_code == 130


def test_watch_goes_on_after_the_master_was_away_without_a_gap_and_without_listing_again() -> None:
    cluster = FakeCluster(a_pod("web-1").build())

    def away() -> None:
        cluster.put(a_pod("web-2").build())
        cluster.break_watches()

    cluster.on_idle = [away, lambda: cluster.put(a_pod("web-3").build())]
    result = run(cluster, "get", "pods", "-w", "-o", "name")
    assert result.stdout == "pod/web-1\npod/web-2\npod/web-3\n"
    assert cluster.verbs_called() == ["list", "watch", "watch"]


def test_watch_begins_anew_only_where_the_history_is_gone() -> None:
    cluster = FakeCluster(a_pod("web-1").build())

    def gone() -> None:
        cluster.put(a_pod("web-2").build())
        cluster.compact()

    cluster.on_idle = [gone]
    result = run(cluster, "get", "pods", "-w", "-o", "name")
    assert result.stdout == "pod/web-1\npod/web-1\npod/web-2\n"


def test_watch_of_one_object_that_is_missing() -> None:
    result = run(FakeCluster(), "get", "pod", "gone", "-w")
    assert result.stderr == 'Error from server (NotFound): pods "gone" not found\n'
    assert result.exit_code == 1


def test_what_makes_no_sense_is_refused() -> None:
    def error(*arguments: str) -> str:
        result = run(FakeCluster(), "get", *arguments)
        assert result.exit_code == 1
        return result.stderr

    assert error("pods", "-o", "table") == (
        'error: unable to match a printer suitable for the output format "table"; use wide, yaml, json, name\n'
    )
    assert error("pods", "a", "-l", "x=y") == "error: a selector cannot be combined with names\n"
    assert error("pods", "a", "-A") == "error: a resource cannot be retrieved by name across all namespaces\n"
    assert error("pods,svc", "-w") == "error: -w follows one resource type or one object at a time\n"
    assert error("pod/a", "b").startswith("error: 'b' is not type/name;")
    assert "did you mean pod" in error("pood")
    assert error("widgets").startswith("error: barque does not serve resource type 'widgets';")
    assert error() == ("error: say which resource type, as in `barque get pods`; `barque api-resources` lists them\n")
