"""`barque apply`: its three outcomes, what goes away and what stays, who owns what, and what stops it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from barque.api.errors import conflict, outcome_unknown, unavailable
from barque.client.verbs import APPLY_PATCH, STRATEGIC_MERGE_PATCH, Target, WriteOptions
from tests.support.memory_store import target
from tests.support.registry_cluster import RegistryCluster, run

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web, tier: front}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: web:1
        env:
        - {name: COLOUR, value: red}
        - {name: SIZE, value: big}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
"""
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, labels: {app: web}}\ndata: {colour: red}\n"


def apply(cluster: RegistryCluster, manifest: str, *arguments: str) -> str:
    result = run(cluster, "apply", "-f", "-", *arguments, stdin=manifest)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def applied() -> RegistryCluster:
    cluster = RegistryCluster()
    assert apply(cluster, WEB) == "deployment.apps/web created\n"
    return cluster


def web(cluster: RegistryCluster) -> dict[str, Any]:
    return cluster.one("deployments", "web")


def container(cluster: RegistryCluster) -> dict[str, Any]:
    found: dict[str, Any] = web(cluster)["spec"]["template"]["spec"]["containers"][0]
    return found


def by_another(cluster: RegistryCluster, patch: dict[str, Any], manager: str = "other") -> None:
    """Someone else changes the deployment."""
    import asyncio

    body, options = msgspec.json.encode(patch), WriteOptions(field_manager=manager)
    asyncio.run(cluster.bench.admin.patch(target("deployments", "web"), STRATEGIC_MERGE_PATCH, body, options))


def test_created_unchanged_configured() -> None:
    cluster = applied()
    revision = cluster.revision
    assert apply(cluster, WEB) == "deployment.apps/web unchanged\n"
    assert cluster.revision == revision
    assert apply(cluster, WEB.replace("web:1", "web:2")) == "deployment.apps/web configured\n"
    assert container(cluster)["image"] == "web:2"


def test_it_is_server_side_apply_by_barque() -> None:
    cluster = applied()
    (sent,) = [sent for sent in cluster.calls if sent.verb == "patch"]
    assert sent.options == WriteOptions(field_manager="barque", field_validation="Strict")
    managers = [(e["manager"], e["operation"]) for e in web(cluster)["metadata"]["managedFields"]]
    assert managers == [("barque", "Apply")]
    assert "annotations" not in web(cluster)["metadata"]


def test_a_removed_field_goes_away_and_what_others_set_stays() -> None:
    cluster = applied()
    env = [{"name": "ADDED", "value": "by another"}]
    by_another(
        cluster,
        {
            "metadata": {"labels": {"team": "blue"}},
            "spec": {
                "progressDeadlineSeconds": 700,
                "template": {"spec": {"containers": [{"name": "main", "env": env}]}},
            },
        },
    )
    without = (
        WEB.replace(", tier: front", "")
        .replace("  replicas: 3\n", "")
        .replace("        - {name: SIZE, value: big}\n", "")
    )
    assert apply(cluster, without) == "deployment.apps/web configured\n"
    assert web(cluster)["metadata"]["labels"] == {"app": "web", "team": "blue"}
    assert web(cluster)["spec"]["replicas"] == 1
    assert web(cluster)["spec"]["progressDeadlineSeconds"] == 700
    assert {e["name"] for e in container(cluster)["env"]} == {"COLOUR", "ADDED"}


def test_a_conflict_names_the_owner_and_the_ways_out() -> None:
    cluster = applied()
    by_another(cluster, {"spec": {"replicas": 5}}, "autoscaler")
    result = run(cluster, "apply", "-f", "-", stdin=WEB)
    assert result.exit_code == 1
    first, *ways = result.stderr.splitlines()
    assert first.startswith('Error from server (Conflict): error when applying "standard input": Apply failed with 1')
    assert 'conflict with "autoscaler" using apps/v1: .spec.replicas' in first
    assert [way[0] for way in ways if way.startswith("*")] == ["*", "*", "*"]
    assert "--force-conflicts" in result.stderr
    assert web(cluster)["spec"]["replicas"] == 5
    assert apply(cluster, WEB, "--force-conflicts") == "deployment.apps/web configured\n"
    assert web(cluster)["spec"]["replicas"] == 3


def test_the_other_two_ways_out_of_a_conflict() -> None:
    cluster = applied()
    by_another(cluster, {"spec": {"replicas": 5}}, "autoscaler")
    assert apply(cluster, WEB.replace("  replicas: 3\n", "")) == "deployment.apps/web unchanged\n"
    assert web(cluster)["spec"]["replicas"] == 5
    assert apply(cluster, WEB.replace("replicas: 3", "replicas: 5")) == "deployment.apps/web configured\n"
    assert web(cluster)["spec"]["replicas"] == 5


def test_a_conflict_stops_all_before_anything_is_changed() -> None:
    cluster = applied()
    by_another(cluster, {"spec": {"replicas": 5}}, "autoscaler")
    revision = cluster.revision
    result = run(cluster, "apply", "-f", "-", stdin=f"{SERVICE}---\n{WEB}")
    assert 'conflict with "autoscaler"' in result.stderr
    assert result.stderr.endswith("Nothing was applied: mend the manifest first.\n")
    assert (result.stdout, cluster.revision) == ("", revision)


def test_managers_of_ones_own() -> None:
    cluster = applied()
    result = run(cluster, "apply", "-f", "-", "--field-manager=team", stdin=WEB.replace("web:1", "web:2"))
    assert 'conflict with "barque"' in result.stderr
    assert apply(cluster, WEB, "--field-manager=team") == "deployment.apps/web configured\n"
    assert {e["manager"] for e in web(cluster)["metadata"]["managedFields"]} == {"barque", "team"}


def test_what_an_older_client_applied_is_taken_over() -> None:
    cluster = RegistryCluster()
    document = yaml.safe_load(WEB)
    last = json.dumps(document | {"metadata": {**document["metadata"], "namespace": "default", "annotations": {}}})
    document["metadata"] |= {"namespace": "default", "annotations": {LAST_APPLIED: last, "note": "kept"}}
    cluster.put(document)
    without = WEB.replace(", tier: front", "").replace("        - {name: SIZE, value: big}\n", "")
    assert apply(cluster, without.replace("web:1", "web:2")) == "deployment.apps/web configured\n"
    assert web(cluster)["metadata"]["labels"] == {"app": "web"}
    assert web(cluster)["metadata"]["annotations"] == {"note": "kept"}
    assert container(cluster)["env"] == [{"name": "COLOUR", "value": "red"}]
    assert container(cluster)["image"] == "web:2"


def test_every_document_of_a_file_namespaces_first() -> None:
    manifest = f"{SERVICE.replace('{name: web}', '{name: web, namespace: shop}')}---\n{WEB}---\n"
    manifest += "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
    cluster = RegistryCluster()
    assert apply(cluster, manifest) == "namespace/shop created\nservice/web created\ndeployment.apps/web created\n"
    assert cluster.exists("services", "web", "shop")


def test_a_wrong_document_in_a_namespace_of_the_same_run_is_found_before() -> None:
    manifest = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n"
    manifest += SERVICE.replace("{name: web}", "{name: web, namespace: shop}").replace(
        "port: 80", "port: 80, protocol: ICMP"
    )
    cluster = RegistryCluster()
    result = run(cluster, "apply", "-f", "-", stdin=manifest)
    assert result.stderr == (
        'The Service "web" is invalid: spec.ports[0].protocol: Unsupported value: "ICMP": '
        'supported values: "SCTP", "TCP", "UDP"\nNothing was applied: mend the manifest first.\n'
    )
    assert not cluster.exists("namespaces", "shop", "")


@pytest.mark.parametrize(("mode", "suffix"), [("client", " (dry run)"), ("server", " (server dry run)")])
def test_dry_runs_change_nothing_and_say_the_same(mode: str, suffix: str) -> None:
    cluster = RegistryCluster()
    assert apply(cluster, WEB, f"--dry-run={mode}") == f"deployment.apps/web created{suffix}\n"
    assert not cluster.exists("deployments", "web")
    cluster = applied()
    revision = cluster.revision
    changed = WEB.replace("web:1", "web:2")
    assert apply(cluster, changed, f"--dry-run={mode}") == f"deployment.apps/web configured{suffix}\n"
    assert apply(cluster, WEB, f"--dry-run={mode}") == f"deployment.apps/web unchanged{suffix}\n"
    shown = yaml.safe_load(apply(cluster, changed, f"--dry-run={mode}", "-o", "yaml"))
    assert shown["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"
    assert cluster.revision == revision


def test_objects_instead_of_words() -> None:
    cluster = RegistryCluster()
    assert apply(cluster, f"{WEB}---\n{SERVICE}", "-o", "name") == "deployment.apps/web\nservice/web\n"
    listed = json.loads(apply(cluster, f"{WEB}---\n{SERVICE}", "-o", "json"))
    assert [item["kind"] for item in listed["items"]] == ["Deployment", "Service"]
    assert all("managedFields" not in item["metadata"] for item in listed["items"])


def test_an_outcome_that_is_not_known_is_tried_again() -> None:
    cluster = applied()
    refusals = [outcome_unknown("broken"), outcome_unknown("broken")]

    def on_call(verb: str, _: Target) -> None:
        if verb == "patch" and refusals:
            raise refusals.pop()

    cluster.on_call = on_call
    cluster.calls.clear()
    assert apply(cluster, WEB.replace("web:1", "web:2")) == "deployment.apps/web configured\n"
    assert cluster.verbs_called() == ["get", "patch", "patch", "patch"]


def test_a_refusal_without_end_is_reported() -> None:
    cluster = applied()

    def on_call(verb: str, _: Target) -> None:
        if verb == "patch":
            raise conflict("deployments", "apps", "web", "others were quicker too often; try again")

    cluster.on_call = on_call
    result = run(cluster, "apply", "-f", "-", stdin=WEB.replace("web:1", "web:2"))
    assert result.exit_code == 1
    assert result.stderr == (
        'Error from server (Conflict): error when applying "standard input": Operation cannot be fulfilled on '
        'deployments.apps "web": others were quicker too often; try again\n'
    )


def test_a_master_that_is_gone_ends_it() -> None:
    cluster = RegistryCluster()

    def on_call(verb: str, where: Target) -> None:
        if where.resource.kind == "Service":
            raise unavailable("the connection to the master broke: connection closed")

    cluster.on_call = on_call
    result = run(cluster, "apply", "-f", "-", stdin=f"{SERVICE}---\n{WEB}")
    assert result.exit_code == 1
    assert result.stderr.count("connection closed") == 1
    assert not cluster.exists("deployments", "web")


def test_a_wrong_document_stops_all_before_anything_is_changed() -> None:
    cluster = RegistryCluster()
    revision = cluster.revision
    wrong = WEB.replace("replicas: 3", "replicas: -1").replace("image: web:1", "imagePullPolicy: Sometimes")
    result = run(cluster, "apply", "-f", "-", stdin=f"{SERVICE}---\n{wrong}")
    assert (result.stdout, result.exit_code, cluster.revision) == ("", 1, revision)
    first, *faults, last = result.stderr.splitlines()
    assert first == 'The Deployment "web" is invalid:'
    assert any(fault.startswith("* spec.replicas: Invalid value: -1") for fault in faults)
    assert "* spec.template.spec.containers[0].image: Required value" in faults
    assert last == "Nothing was applied: mend the manifest first."


def test_a_missing_namespace_is_named_and_does_not_stop_the_next() -> None:
    cluster = RegistryCluster()
    manifest = f"{SERVICE.replace('{name: web}', '{name: web, namespace: shop}')}---\n{WEB}"
    result = run(cluster, "apply", "-f", "-", stdin=manifest)
    assert result.stderr == (
        'Error from server (NotFound): error when applying "standard input": namespaces "shop" not found\n'
    )
    assert (result.stdout, result.exit_code) == ("deployment.apps/web created\n", 1)


def test_namespaces_of_option_and_manifest_must_agree() -> None:
    manifest = SERVICE.replace("{name: web}", "{name: web, namespace: kube-public}")
    cluster = RegistryCluster()
    assert apply(cluster, manifest) == "service/web created\n"
    assert cluster.exists("services", "web", "kube-public")
    result = run(cluster, "apply", "-n", "other", "-f", "-", stdin=manifest)
    assert result.exit_code == 1
    assert 'the namespace from the provided object "kube-public" does not match the namespace "other"' in result.stderr


def test_a_malformed_document_stops_all_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE)
    (tmp_path / "b.yaml").write_text(WEB.replace("replicas: 3", "replica: 3").replace("image:", "imag:"))
    cluster = RegistryCluster()
    result = run(cluster, "apply", "-f", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == (
        f'error: {tmp_path}/b.yaml:2: Deployment "web": Deployment in version "v1" cannot be handled as a Deployment: '
        'strict decoding error: unknown field "spec.replica", unknown field "spec.template.spec.containers[0].imag"\n'
    )
    assert cluster.calls == []


def test_what_is_the_systems_own_in_a_manifest_is_left_out() -> None:
    cluster = RegistryCluster()
    manifest = SERVICE.replace("{name: web}", "{name: web, creationTimestamp: null}")
    apply(cluster, f"{manifest}status: {{loadBalancer: {{}}}}\n")
    (entry,) = cluster.one("services", "web")["metadata"]["managedFields"]
    assert set(entry["fieldsV1"]) == {"f:spec"}
    apply(cluster, SERVICE.replace("{name: web}", f"{{name: web, annotations: {{{LAST_APPLIED}: '{{}}', note: x}}}}"))
    assert cluster.one("services", "web")["metadata"]["annotations"] == {"note": "x"}


def test_only_those_with_a_label() -> None:
    cluster = RegistryCluster()
    assert apply(cluster, f"{WEB}---\n{SERVICE}", "-l", "tier=front") == "deployment.apps/web created\n"
    none = run(cluster, "apply", "-f", "-", "-l", "tier=back", stdin=WEB)
    assert none.stderr == "error: no object of the manifests has the labels tier=back\n"


def test_prune_deletes_what_the_set_no_longer_has() -> None:
    cluster = RegistryCluster()
    apply(cluster, "---\n".join(MAP % name for name in ("a", "b", "c")))
    run(cluster, "create", "configmap", "made", "--from-literal=k=v")
    run(cluster, "label", "cm/made", "app=web")
    run(cluster, "apply", "-f", "-", "--field-manager=another-set", stdin=MAP % "theirs")
    run(cluster, "apply", "-f", "-", "-n", "kube-public", stdin=MAP % "elsewhere")
    fewer = f"{MAP % 'a'}---\n{SERVICE.replace('{name: web}', '{name: web, labels: {app: web}}')}"
    for mode, suffix in (("client", " (dry run)"), ("server", " (server dry run)")):
        tried = apply(cluster, fewer, "--prune", "-l", "app=web", f"--dry-run={mode}").splitlines()
        assert tried[2:] == [f"configmap/b pruned{suffix}", f"configmap/c pruned{suffix}"]
    assert apply(cluster, fewer, "--prune", "-l", "app=web").splitlines() == [
        "configmap/a unchanged",
        "service/web created",
        "configmap/b pruned",
        "configmap/c pruned",
    ]
    assert cluster.names("configmaps") == ["a", "made", "theirs", "elsewhere"]
    wrong = run(cluster, "apply", "-f", "-", "--prune", stdin=fewer)
    assert wrong.stderr == "error: --prune needs -l LABELS: only what carries them belongs to the set\n"


def test_nothing_is_pruned_when_something_was_refused() -> None:
    cluster = RegistryCluster()
    apply(cluster, f"{MAP % 'a'}---\n{MAP % 'b'}")
    elsewhere = (MAP % "c").replace("{name: c", "{name: c, namespace: nowhere")
    result = run(cluster, "apply", "-f", "-", "--prune", "-l", "app=web", stdin=f"{MAP % 'a'}---\n{elsewhere}")
    assert result.exit_code == 1
    assert cluster.names("configmaps") == ["a", "b"]


def test_an_object_that_is_going_away_is_warned_of() -> None:
    cluster = RegistryCluster()
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, finalizers: [example.org/x]}\n"
    apply(cluster, manifest)
    run(cluster, "delete", "cm/a", "--wait=false")
    result = run(cluster, "apply", "-f", "-", stdin=manifest)
    assert result.stderr.startswith("Warning: configmaps/a is being deleted\n")


def test_nothing_to_apply() -> None:
    assert run(RegistryCluster(), "apply").stderr == "error: say which manifests with -f FILE; - is standard input\n"
    empty = run(RegistryCluster(), "apply", "-f", "-", stdin="# nothing\n")
    assert empty.stderr == "error: no objects in standard input\n"
    unnamed = run(RegistryCluster(), "apply", "-f", "-", stdin=(MAP % "a").replace("name:", "generateName:"))
    assert unnamed.stderr == "error: standard input: metadata.name is missing; apply cannot use generateName\n"


def test_the_patch_is_the_manifest_itself() -> None:
    cluster = RegistryCluster()
    apply(cluster, MAP % "a")
    (sent,) = [sent for sent in cluster.calls if sent.verb == "patch"]
    assert json.loads(sent.body) == yaml.safe_load(MAP % "a") | {
        "metadata": {"name": "a", "labels": {"app": "web"}, "namespace": "default"}
    }
    assert APPLY_PATCH == "application/apply-patch+yaml"
