"""`barque delete`: what is deleted, how it is waited for, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.builders import a_config_map, a_deployment, a_namespace, a_pod, a_service
from tests.support.registry_cluster import RegistryCluster, run


def pods(*names: str, node: str = "") -> RegistryCluster:
    """Pods of their application; with a node they have a grace period to stop in."""
    found = (a_pod(name).labelled(app=name[:3]) for name in names)
    return RegistryCluster(*((pod.on(node) if node else pod).build() for pod in found))


def test_by_type_and_name() -> None:
    cluster = pods("web-1", "web-2")
    cluster.put(a_deployment("web").build())
    result = run(cluster, "delete", "pod/web-1", "deploy/web")
    assert result.stdout == 'pod "web-1" deleted\ndeployment.apps "web" deleted\n'
    assert (cluster.names("pods"), cluster.names("deployments")) == (["web-2"], [])


def test_it_waits_until_the_pod_is_gone() -> None:
    cluster = pods("web-1", node="n1")
    steps: list[str] = []

    def still_stopping() -> None:
        steps.append(cluster.one("pods", "web-1")["metadata"]["deletionTimestamp"])
        cluster.put(cluster.one("pods", "web-1") | {"status": {"phase": "Running"}})

    cluster.on_idle = [still_stopping, cluster.break_watches, lambda: cluster.remove("pods", "web-1")]
    result = run(cluster, "delete", "pod", "web-1")
    assert (result.stdout, result.exit_code) == ('pod "web-1" deleted\n', 0)
    assert len(steps) == 1
    assert not cluster.exists("pods", "web-1")
    assert cluster.on_idle == []


def test_a_new_object_of_the_same_name_is_not_waited_for() -> None:
    cluster = pods("web-1", node="n1")

    def replaced() -> None:
        cluster.remove("pods", "web-1")
        cluster.put(a_pod("web-1").uid("another").build())
        cluster.compact()

    cluster.on_idle = [replaced]
    assert run(cluster, "delete", "pod", "web-1").exit_code == 0
    assert cluster.exists("pods", "web-1")


def test_gone_while_the_history_was_lost() -> None:
    cluster = pods("web-1", node="n1")

    def gone() -> None:
        cluster.remove("pods", "web-1")
        cluster.compact()

    cluster.on_idle = [gone]
    assert run(cluster, "delete", "pod", "web-1").exit_code == 0


def test_without_waiting() -> None:
    for flag in ("--wait=false", "--no-wait"):
        cluster = pods("web-1", node="n1")
        assert run(cluster, "delete", "pod", "web-1", flag).stdout == 'pod "web-1" deleted\n'
        assert "watch" not in cluster.verbs_called()
        assert cluster.exists("pods", "web-1")


def test_by_label_field_and_all() -> None:
    cluster = pods("web-1", "web-2", "api-1", "api-2")
    assert run(cluster, "delete", "pods", "-l", "app=web").stdout == 'pod "web-1" deleted\npod "web-2" deleted\n'
    by_field = run(cluster, "delete", "pods", "--field-selector=metadata.name=api-2")
    assert by_field.stdout == 'pod "api-2" deleted\n'
    assert run(cluster, "delete", "pods,svc", "--all").stdout == 'pod "api-1" deleted\n'
    assert {sent.verb for sent in cluster.calls} <= {"delete_collection", "watch"}
    nothing = run(cluster, "delete", "pods", "--all")
    assert (nothing.stdout, nothing.stderr, nothing.exit_code) == ("", "No resources found\n", 0)


def test_of_every_namespace() -> None:
    cluster = RegistryCluster(a_config_map("a").build(), a_config_map("b", "kube-public").build())
    here = run(cluster, "delete", "cm", "--all")
    assert here.stdout == 'configmap "a" deleted\n'
    cluster.put(a_config_map("a").build())
    everywhere = run(cluster, "delete", "cm", "--all", "-A")
    assert everywhere.stdout == (
        'configmap "a" deleted from default namespace\nconfigmap "b" deleted from kube-public namespace\n'
    )
    assert cluster.names("configmaps") == []


def test_namespaces_go_one_by_one() -> None:
    cluster = RegistryCluster(a_namespace("shop").labelled(team="blue").build())
    result = run(cluster, "delete", "ns", "-l", "team=blue", "--wait=false")
    assert result.stdout == 'namespace "shop" deleted\n'
    assert "delete_collection" not in cluster.verbs_called()


def test_the_objects_of_a_manifest() -> None:
    cluster = RegistryCluster(a_service("web").port(80).build())
    manifest = "\n---\n".join(
        f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: web}}\nmisspelt: 1" for kind in ("Service", "ConfigMap")
    )
    result = run(cluster, "delete", "-f", "-", stdin=manifest)
    assert result.stdout == 'service "web" deleted\n'
    assert result.stderr == 'Error from server (NotFound): configmaps "web" not found\n'
    assert result.exit_code == 1
    ignored = run(cluster, "delete", "-f", "-", "--ignore-not-found", stdin=manifest)
    assert (ignored.stderr, ignored.exit_code) == ("", 0)


@pytest.mark.parametrize("all_of_them", [True, False])
def test_options_travel(all_of_them: bool) -> None:
    def sent(*arguments: str) -> dict[str, object]:
        cluster = pods("web-1")
        which = ("pods", "--all") if all_of_them else ("pod", "web-1")
        assert run(cluster, "delete", *which, "--wait=false", *arguments).exit_code == 0
        options: dict[str, object] = json.loads(cluster.calls[0].body or b"{}")
        return options

    assert sent() == {}
    assert sent("--grace-period", "5") == {"gracePeriodSeconds": 5}
    assert sent("--grace-period=0") == {"gracePeriodSeconds": 1}
    assert sent("--now") == {"gracePeriodSeconds": 1}
    assert sent("--cascade", "orphan") == {"propagationPolicy": "Orphan"}
    assert sent("--cascade=foreground") == {"propagationPolicy": "Foreground"}
    assert sent("--force") == {"gracePeriodSeconds": 0}
    assert sent("--dry-run=server") == {"dryRun": ["All"]}


def test_force_says_what_it_risks() -> None:
    cluster = pods("web-1", node="n1")
    result = run(cluster, "delete", "pod", "web-1", "--force")
    assert result.stdout == 'pod "web-1" force deleted\n'
    assert result.stderr.startswith("Warning: Immediate deletion does not wait for confirmation")
    assert not cluster.exists("pods", "web-1")


def test_dry_runs_delete_nothing() -> None:
    cluster = pods("web-1", "web-2")
    client = run(cluster, "delete", "pods", "--all", "--dry-run=client")
    assert client.stdout == 'pod "web-1" deleted (dry run)\npod "web-2" deleted (dry run)\n'
    for which in (("pods", "--all"), ("pod", "web-1", "web-2")):
        server = run(cluster, "delete", *which, "--dry-run=server")
        assert server.stdout == 'pod "web-1" deleted (server dry run)\npod "web-2" deleted (server dry run)\n'
    assert cluster.names("pods") == ["web-1", "web-2"]
    missing = run(cluster, "delete", "pod", "gone", "--dry-run=client")
    assert (missing.stderr, missing.exit_code) == ('Error from server (NotFound): pods "gone" not found\n', 1)


def test_names_alone() -> None:
    assert run(pods("web-1"), "delete", "pod", "web-1", "-o", "name").stdout == "pod/web-1\n"


def test_a_manifest_need_not_be_valid_but_must_name_its_objects(tmp_path: Path) -> None:
    cluster, manifest = pods("web-1"), tmp_path / "m.yaml"
    manifest.write_text("apiVersion: v1\nkind: Pod\nmetadata: {generateName: web-}\n")
    refused = run(cluster, "delete", "-f", str(manifest))
    assert refused.stderr.startswith(f"error: {manifest}: metadata.name is missing; ")
    assert cluster.names("pods") == ["web-1"]
    manifest.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: web-1}\nspec: {no: such field}\n")
    assert run(cluster, "delete", "-f", str(manifest)).stdout == 'pod "web-1" deleted\n'


def test_it_asks_first() -> None:
    cluster = pods("web-1")
    no = run(cluster, "delete", "pods", "--all", "-i", stdin="n\n")
    assert no.stdout == "You are about to delete the following 1 resource(s):\npod/web-1\n"
    assert no.stderr.endswith("deletion is cancelled\n")
    assert cluster.names("pods") == ["web-1"]
    assert run(cluster, "delete", "pods", "--all", "-i", stdin="").exit_code == 1
    yes = run(cluster, "delete", "pods", "--all", "-i", stdin="y\n")
    assert yes.stdout.endswith('pod "web-1" deleted\n')
    assert cluster.names("pods") == []


def test_what_makes_no_sense_is_refused() -> None:
    def error(*arguments: str) -> str:
        cluster = pods("web-1")
        result = run(cluster, "delete", *arguments)
        assert result.exit_code == 1
        assert cluster.names("pods") == ["web-1"]
        return result.stderr

    assert error("pods") == "error: which of them? Give names, -l LABELS or --all\n"
    assert error("pods", "web-1", "--all") == "error: name cannot be provided when --all is specified\n"
    assert error("pod", "web-1", "--force", "--grace-period=3").startswith("error: --force and --grace-period")
    assert error("pod", "web-1", "-f", "x.yaml").startswith("error: -f names the objects by itself")
    assert error("pod", "web-1", "--timeout", "soon").startswith("error: 'soon' is not a duration")
    assert error("pods", "-l", "a b c").startswith("Error from server (BadRequest): unable to parse requirement")
