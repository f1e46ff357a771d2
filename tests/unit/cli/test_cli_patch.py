"""`barque patch` and `barque replace`: what changes, what stays, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.builders import a_config_map, a_deployment, a_service
from tests.support.registry_cluster import RegistryCluster, run


def web() -> RegistryCluster:
    cluster = RegistryCluster(a_config_map("web", colour="red", size="big").build())
    cluster.create(a_deployment("web").replicas(3).build())
    return cluster


def spec(cluster: RegistryCluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.one("deployments", "web")["spec"]
    return found


def test_the_three_kinds_of_patch() -> None:
    cluster = web()
    env = "spec: {template: {spec: {containers: [{name: main, env: [{name: A, value: '1'}]}]}}}"
    assert run(cluster, "patch", "deploy/web", "-p", env).stdout == "deployment.apps/web patched\n"
    assert spec(cluster)["template"]["spec"]["containers"][0]["image"] == "web:1"
    assert spec(cluster)["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    merged = run(cluster, "patch", "cm", "web", "--type=merge", "-p", '{"data": {"size": null, "shape": "round"}}')
    assert merged.stdout == "configmap/web patched\n"
    assert cluster.one("configmaps", "web")["data"] == {"colour": "red", "shape": "round"}
    operations = '[{"op": "test", "path": "/data/colour", "value": "red"}, {"op": "remove", "path": "/data/shape"}]'
    assert run(cluster, "patch", "cm/web", "--type=json", "-p", operations).stdout == "configmap/web patched\n"
    assert cluster.one("configmaps", "web")["data"] == {"colour": "red"}


def test_a_patch_without_effect_says_so() -> None:
    cluster = web()
    revision = cluster.revision
    same = run(cluster, "patch", "deploy/web", "-p", "spec: {replicas: 3}")
    assert (same.stdout, cluster.revision) == ("deployment.apps/web patched (no change)\n", revision)


def test_a_patch_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("data:\n  colour: blue\n")
    cluster = web()
    assert run(cluster, "patch", "cm/web", f"--patch-file={tmp_path}/p.yaml").exit_code == 0
    assert cluster.one("configmaps", "web")["data"]["colour"] == "blue"
    gone = run(cluster, "patch", "cm/web", "--patch-file=/nowhere/p.yaml")
    assert gone.stderr == "error: /nowhere/p.yaml: no such file or directory\n"


def test_a_part_alone() -> None:
    cluster = web()
    assert run(cluster, "patch", "deploy/web", "--subresource=scale", "--type=merge", "-p", "spec: {replicas: 5}")
    assert spec(cluster)["replicas"] == 5
    status = run(cluster, "patch", "deploy/web", "--subresource=status", "--type=merge", "-p",
                 "{spec: {replicas: 7}, status: {observedGeneration: 2}}")  # fmt: skip
    assert status.exit_code == 0, status.stderr
    assert (spec(cluster)["replicas"], cluster.one("deployments", "web")["status"]["observedGeneration"]) == (5, 2)


def test_dry_runs_change_nothing() -> None:
    cluster = web()
    revision = cluster.revision
    for mode, suffix in (("client", " (dry run)"), ("server", " (server dry run)")):
        done = run(cluster, "patch", "deploy/web", "-p", "spec: {replicas: 5}", f"--dry-run={mode}")
        assert done.stdout == f"deployment.apps/web patched{suffix}\n"
        shown = run(cluster, "patch", "deploy/web", "-p", "spec: {replicas: 5}", f"--dry-run={mode}", "-o", "yaml")
        assert yaml.safe_load(shown.stdout)["spec"]["replicas"] == 5
        none = run(cluster, "patch", "deploy/web", "-p", "spec: {replicas: 3}", f"--dry-run={mode}")
        assert none.stdout == f"deployment.apps/web patched (no change){suffix}\n"
    assert cluster.revision == revision


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "must specify one of --patch or --patch-file"),
        (("-p", "{}", "--patch-file", "x"), "must specify one of --patch or --patch-file"),
        (("-p", ""), "the patch is empty"),
        (("-p", "a: 1\n---\nb: 2"), "one patch is wanted, not 2 documents"),
        (("-p", "a: [1"), "the patch:2:1: did not find expected"),
        (("-p", "[]"), "a strategic patch is an object with the fields to change; with --type=json"),
        (("-p", "{}", "--type=json"), "a json patch is a list of operations"),
        (("-p", "spec: {replica: 3}"), 'unknown field "spec.replica"'),
        (("-p", "spec: {replicas: -1}"), 'The Deployment "web" is invalid: spec.replicas: Invalid value: -1'),
        (
            ("--type=json", "-p", '[{"op": "test", "path": "/spec/paused", "value": true}]'),
            "The request is invalid: the server rejected our request due to an error in our request: ",
        ),
        (("-p", "metadata: {name: other}"), "Error from server (BadRequest): the name of the object"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    cluster = web()
    revision = cluster.revision
    result = run(cluster, "patch", "deploy/web", *arguments)
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert cluster.revision == revision


MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {colour: blue}\n"


def test_replace_puts_the_whole_object() -> None:
    cluster = web()
    assert run(cluster, "replace", "-f", "-", stdin=MAP).stdout == "configmap/web replaced\n"
    assert cluster.one("configmaps", "web")["data"] == {"colour": "blue"}
    missing = run(cluster, "replace", "-f", "-", stdin=MAP.replace("web", "gone"))
    assert missing.stderr == (
        'Error from server (NotFound): error when replacing "standard input": configmaps "gone" not found\n'
    )


def test_replace_heeds_the_version() -> None:
    cluster = web()
    stale = MAP.replace("{name: web}", "{name: web, resourceVersion: '1'}")
    refused = run(cluster, "replace", "-f", "-", stdin=stale)
    assert refused.stderr.startswith('Error from server (Conflict): error when replacing "standard input": Operation')
    assert cluster.one("configmaps", "web")["data"]["colour"] == "red"
    current = cluster.one("configmaps", "web")["metadata"]["resourceVersion"]
    assert run(cluster, "replace", "-f", "-", stdin=stale.replace("'1'", f"'{current}'")).exit_code == 0


def test_replace_by_force_makes_another_object() -> None:
    cluster = web()
    before = cluster.one("configmaps", "web")["metadata"]
    manifest = MAP.replace("{name: web}", f"{{name: web, uid: {before['uid']}, resourceVersion: '1'}}")
    result = run(cluster, "replace", "--force", "-f", "-", stdin=manifest)
    assert result.stdout == 'configmap "web" deleted\nconfigmap/web replaced\n'
    after = cluster.one("configmaps", "web")
    assert (after["metadata"]["uid"] != before["uid"], after["data"]) == (True, {"colour": "blue"})
    new = run(cluster, "replace", "--force", "-f", "-", stdin=MAP.replace("web", "new"))
    assert new.stdout == "configmap/new replaced\n"


def test_replace_keeps_what_was_handed_out() -> None:
    cluster = RegistryCluster()
    service = cluster.create(a_service("web").port(80).build())
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 81}]}\n"
    assert run(cluster, "replace", "-f", "-", stdin=manifest).exit_code == 0
    after = cluster.one("services", "web")["spec"]
    assert (after["clusterIP"], after["ports"][0]["port"]) == (service["spec"]["clusterIP"], 81)


def test_replace_wants_manifests() -> None:
    assert run(web(), "replace").stderr == "error: say which manifests with -f FILE; - is standard input\n"
    both = run(web(), "replace", "--force", "--dry-run=server", "-f", "-", stdin=MAP)
    assert both.stderr == "error: --dry-run can not be used when --force is set\n"
