"""`barque apply`: its three outcomes, what goes away and what stays, and other writers in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from barque.api.errors import conflict, invalid, invalid_object, not_found, outcome_unknown, refused, required
from barque.cli.commands.apply import LAST_APPLIED
from barque.client.verbs import Target
from tests.unit.cli.fake_cluster import FakeCluster, run

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


def apply(cluster: FakeCluster, manifest: str, *arguments: str) -> str:
    result = run(cluster, "apply", "-f", "-", *arguments, stdin=manifest)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def applied() -> FakeCluster:
    cluster = FakeCluster()
    assert apply(cluster, WEB) == "deployment.apps/web created\n"
    return cluster


def container(cluster: FakeCluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.one("deployments.apps", "web")["spec"]["template"]["spec"]["containers"][0]
    return found


def test_created_unchanged_configured() -> None:
    cluster = applied()
    revision = cluster.revision
    assert apply(cluster, WEB) == "deployment.apps/web unchanged\n"
    assert cluster.revision == revision
    assert apply(cluster, WEB.replace("web:1", "web:2")) == "deployment.apps/web configured\n"
    assert container(cluster)["image"] == "web:2"


def test_the_annotation_is_kubectls_own() -> None:
    cluster = FakeCluster()
    apply(cluster, SERVICE)
    annotations = cluster.one("services", "web")["metadata"]["annotations"]
    assert annotations == {
        LAST_APPLIED: '{"apiVersion":"v1","kind":"Service",'
        '"metadata":{"annotations":{},"name":"web","namespace":"default"},'
        '"spec":{"ports":[{"port":80}],"selector":{"app":"web"}}}\n'
    }


def test_a_removed_field_goes_away_and_what_others_set_stays() -> None:
    cluster = applied()
    deployment = cluster.one("deployments.apps", "web")
    deployment["metadata"]["labels"]["team"] = "blue"
    deployment["spec"]["progressDeadlineSeconds"] = 600
    container(cluster)["env"].append({"name": "ADDED", "value": "by another"})
    without = (
        WEB.replace(", tier: front", "")
        .replace("  replicas: 3\n", "")
        .replace("        - {name: SIZE, value: big}\n", "")
    )
    assert apply(cluster, without) == "deployment.apps/web configured\n"
    deployment = cluster.one("deployments.apps", "web")
    assert deployment["metadata"]["labels"] == {"app": "web", "team": "blue"}
    assert "replicas" not in deployment["spec"]
    assert deployment["spec"]["progressDeadlineSeconds"] == 600
    assert [e["name"] for e in container(cluster)["env"]] == ["COLOUR", "ADDED"]
    assert "replicas" not in json.loads(deployment["metadata"]["annotations"][LAST_APPLIED])["spec"]


def test_every_document_of_a_file_in_order() -> None:
    assert apply(FakeCluster(), f"{WEB}---\n{SERVICE}") == "deployment.apps/web created\nservice/web created\n"


def test_dry_runs_change_nothing() -> None:
    cluster = FakeCluster()
    assert apply(cluster, WEB, "--dry-run=client") == "deployment.apps/web created (dry run)\n"
    assert apply(cluster, WEB, "--dry-run=server") == "deployment.apps/web created (server dry run)\n"
    assert cluster.objects == {}
    cluster = applied()
    changed = WEB.replace("web:1", "web:2")
    assert apply(cluster, changed, "--dry-run=client") == "deployment.apps/web configured (dry run)\n"
    assert apply(cluster, changed, "--dry-run=server") == "deployment.apps/web configured (server dry run)\n"
    assert apply(cluster, WEB, "--dry-run=server") == "deployment.apps/web unchanged (server dry run)\n"
    assert container(cluster)["image"] == "web:1"


def test_what_the_server_writes_in_its_own_form_is_unchanged() -> None:
    cluster = applied()
    served = cluster.patch

    async def patch(target: Target, content_type: str, change: bytes, options: Any) -> bytes:
        return await served(target, content_type, b"{}", options)

    cluster.patch = patch  # type: ignore[assignment,method-assign]
    assert apply(cluster, WEB.replace("value: big", "value: large")) == "deployment.apps/web unchanged\n"


def test_a_conflict_is_tried_again_on_the_fresh_object() -> None:
    cluster = applied()
    refusals = [conflict("deployments", "apps", "web", "the object has been modified"), outcome_unknown("broken")]

    def on_call(verb: str, _: Target) -> None:
        if verb == "patch" and refusals:
            cluster.one("deployments.apps", "web")["metadata"]["labels"]["team"] = "blue"
            raise refusals.pop()

    cluster.on_call = on_call
    assert apply(cluster, WEB.replace("web:1", "web:2")) == "deployment.apps/web configured\n"
    assert cluster.verbs_called()[-6:] == ["get", "patch"] * 3
    assert cluster.one("deployments.apps", "web")["metadata"]["labels"]["team"] == "blue"


def test_conflicts_without_end_are_reported() -> None:
    cluster = applied()

    def on_call(verb: str, _: Target) -> None:
        if verb == "patch":
            raise conflict("deployments", "apps", "web", "the object has been modified")

    cluster.on_call = on_call
    result = run(cluster, "apply", "-f", "-", stdin=WEB.replace("web:1", "web:2"))
    assert result.exit_code == 1
    assert result.stderr.startswith(
        'Error from server (Conflict): error when applying "standard input": Operation cannot'
    )
    assert cluster.verbs_called().count("patch") == 5


def test_one_that_was_made_meanwhile_is_changed_instead() -> None:
    cluster = FakeCluster()

    def on_call(verb: str, _: Target) -> None:
        if verb == "create":
            cluster.on_call = lambda verb, target: None
            cluster.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}})

    cluster.on_call = on_call
    result = run(cluster, "apply", "-f", "-", stdin=SERVICE)
    assert result.stdout == "service/web configured\n"
    assert result.stderr.startswith("Warning: services/web was not made by apply:")
    assert cluster.one("services", "web")["spec"]["ports"] == [{"port": 80}]


def test_a_wrong_document_stops_all_before_anything_is_changed() -> None:
    cluster = FakeCluster()
    faults = [invalid("spec.replicas", -1, "must be at least 0"), required("spec.selector")]

    def on_call(verb: str, target: Target) -> None:
        if verb == "create" and target.resource.kind == "Deployment":
            raise invalid_object("Deployment", "apps", "web", faults)

    cluster.on_call = on_call
    result = run(cluster, "apply", "-f", "-", stdin=f"{SERVICE}---\n{WEB}")
    assert result.stdout == ""
    assert not cluster.objects
    assert result.stderr == (
        'The Deployment "web" is invalid:\n'
        "* spec.replicas: Invalid value: -1: must be at least 0\n"
        "* spec.selector: Required value\n"
        "Nothing was applied: mend the manifest first.\n"
    )
    assert result.exit_code == 1


def test_what_the_cluster_forbids_does_not_stop_the_next() -> None:
    cluster = FakeCluster()

    def on_call(verb: str, target: Target) -> None:
        if verb == "create" and target.resource.kind == "Deployment":
            raise refused("deployments", "apps", "web", "the namespace is being deleted")

    cluster.on_call = on_call
    result = run(cluster, "apply", "-f", "-", stdin=f"{WEB}---\n{SERVICE}")
    assert result.stdout == "service/web created\n"
    assert "is forbidden: the namespace is being deleted" in result.stderr
    assert result.exit_code == 1


def test_a_missing_namespace_is_named() -> None:
    cluster = FakeCluster()

    def on_call(verb: str, _: Target) -> None:
        if verb == "create":
            raise not_found("namespaces", "", "shop")

    cluster.on_call = on_call
    result = run(cluster, "apply", "-n", "shop", "-f", "-", stdin=SERVICE)
    assert result.stderr == (
        'Error from server (NotFound): error when applying "standard input": namespaces "shop" not found\n'
    )
    assert cluster.verbs_called() == ["get", "create"]


def test_namespaces_of_option_and_manifest_must_agree() -> None:
    manifest = SERVICE.replace("{name: web}", "{name: web, namespace: shop}")
    cluster = FakeCluster()
    assert apply(cluster, manifest) == "service/web created\n"
    assert ("services", "shop", "web") in cluster.objects
    result = run(cluster, "apply", "-n", "other", "-f", "-", stdin=manifest)
    assert result.exit_code == 1
    assert 'the namespace from the provided object "shop" does not match the namespace "other"' in result.stderr


def test_a_malformed_document_stops_all_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE)
    (tmp_path / "b.yaml").write_text(WEB.replace("replicas: 3", "replica: 3").replace("image:", "imag:"))
    cluster = FakeCluster()
    result = run(cluster, "apply", "-f", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == (
        f'error: {tmp_path}/b.yaml:2: Deployment "web": Deployment in version "v1" cannot be handled as a Deployment: '
        'strict decoding error: unknown field "spec.replica", unknown field "spec.template.spec.containers[0].imag"\n'
    )
    assert cluster.calls == []


def test_status_in_a_manifest_is_the_systems_business() -> None:
    cluster = FakeCluster()
    apply(cluster, SERVICE + "status: {loadBalancer: {}}\n")
    assert "status" not in cluster.one("services", "web")


def test_nothing_to_apply() -> None:
    assert run(FakeCluster(), "apply").stderr == "error: say which manifests with -f FILE; - is standard input\n"
    assert run(FakeCluster(), "apply", "-f", "-", stdin="# nothing\n").stderr == "error: no objects in -\n"
