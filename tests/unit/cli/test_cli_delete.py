"""`barque delete`: what is deleted, how it is waited for, and what is refused."""

from __future__ import annotations

import json

from tests.support.builders import DeploymentBuilder, PodBuilder, ServiceBuilder
from tests.unit.cli.fake_cluster import FakeCluster, run


def pods(*names: str) -> FakeCluster:
    return FakeCluster(*(PodBuilder(name, "default").labelled(app=name[:3]).build() for name in names))


def test_by_type_and_name() -> None:
    cluster = pods("web-1", "web-2")
    cluster.put(DeploymentBuilder("web", "default").build())
    result = run(cluster, "delete", "pod/web-1", "deploy/web")
    assert result.stdout == 'pod "web-1" deleted\ndeployment.apps "web" deleted\n'
    assert [key[2] for key in cluster.objects] == ["web-2"]
    assert cluster.deletes == [b"", b""]


def test_it_waits_until_the_pod_is_gone() -> None:
    cluster = pods("web-1")
    cluster.graceful = True
    steps: list[str] = []

    def still_stopping() -> None:
        steps.append("stopping")
        cluster.put(cluster.one("pods", "web-1") | {"status": {"phase": "Running"}})

    cluster.on_idle = [still_stopping, cluster.break_watches, lambda: cluster.remove("pods", "web-1")]
    result = run(cluster, "delete", "pod", "web-1")
    assert (result.stdout, result.exit_code) == ('pod "web-1" deleted\n', 0)
    assert steps == ["stopping"]
    assert cluster.objects == {}
    assert cluster.on_idle == []


def test_a_new_object_of_the_same_name_is_not_waited_for() -> None:
    cluster = pods("web-1")
    cluster.graceful = True

    def replaced() -> None:
        cluster.remove("pods", "web-1")
        cluster.put(PodBuilder("web-1", "default").uid("another").build())
        cluster.compact()

    cluster.on_idle = [replaced]
    assert run(cluster, "delete", "pod", "web-1").exit_code == 0


def test_gone_while_the_history_was_lost() -> None:
    cluster = pods("web-1")
    cluster.graceful = True

    def gone() -> None:
        cluster.remove("pods", "web-1")
        cluster.compact()

    cluster.on_idle = [gone]
    assert run(cluster, "delete", "pod", "web-1").exit_code == 0


def test_without_waiting() -> None:
    for flag in ("--wait=false", "--no-wait"):
        cluster = pods("web-1")
        cluster.graceful = True
        assert run(cluster, "delete", "pod", "web-1", flag).stdout == 'pod "web-1" deleted\n'
        assert "watch" not in cluster.verbs_called()


def test_by_label_and_all() -> None:
    cluster = pods("web-1", "web-2", "api-1")
    assert run(cluster, "delete", "pods", "-l", "app=web").stdout == 'pod "web-1" deleted\npod "web-2" deleted\n'
    assert run(cluster, "delete", "pods,svc", "--all").stdout == 'pod "api-1" deleted\n'
    nothing = run(cluster, "delete", "pods", "--all")
    assert (nothing.stdout, nothing.stderr, nothing.exit_code) == ("", "No resources found\n", 0)


def test_the_objects_of_a_manifest() -> None:
    cluster = FakeCluster(ServiceBuilder("web", "default").port(80).build())
    manifest = "\n---\n".join(
        f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: web}}" for kind in ("Service", "ConfigMap")
    )
    result = run(cluster, "delete", "-f", "-", stdin=manifest)
    assert result.stdout == 'service "web" deleted\n'
    assert result.stderr == 'Error from server (NotFound): configmaps "web" not found\n'
    assert result.exit_code == 1
    ignored = run(cluster, "delete", "-f", "-", "--ignore-not-found", stdin=manifest)
    assert (ignored.stderr, ignored.exit_code) == ("", 0)


def test_options_travel() -> None:
    def sent(*arguments: str) -> dict[str, object]:
        cluster = pods("web-1")
        assert run(cluster, "delete", "pod", "web-1", *arguments).exit_code == 0
        options: dict[str, object] = json.loads(cluster.deletes[0])
        return options

    assert sent("--grace-period", "5") == {"gracePeriodSeconds": 5}
    assert sent("--grace-period=0") == {"gracePeriodSeconds": 1}
    assert sent("--now") == {"gracePeriodSeconds": 1}
    assert sent("--cascade", "orphan") == {"propagationPolicy": "Orphan"}
    assert sent("--force") == {"gracePeriodSeconds": 0}


def test_force_says_what_it_risks() -> None:
    result = run(pods("web-1"), "delete", "pod", "web-1", "--force")
    assert result.stdout == 'pod "web-1" force deleted\n'
    assert result.stderr.startswith("Warning: Immediate deletion does not wait for confirmation")


def test_what_makes_no_sense_is_refused() -> None:
    def error(*arguments: str) -> str:
        cluster = pods("web-1")
        result = run(cluster, "delete", *arguments)
        assert result.exit_code == 1
        assert len(cluster.objects) == 1
        return result.stderr

    assert error("pods") == "error: which of them? Give names, -l LABELS or --all\n"
    assert error("pods", "web-1", "--all") == "error: name cannot be provided when a selector or --all is specified\n"
    assert error("pod", "web-1", "--force", "--grace-period=3").startswith("error: --force and --grace-period")
    assert error("pod", "web-1", "-f", "x.yaml").startswith("error: -f names the objects by itself")
    assert error("pod", "web-1", "--timeout", "soon").startswith("error: 'soon' is not a duration")
