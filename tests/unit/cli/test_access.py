"""`auth can-i`, `auth reconcile`, `create role` and its kin, and what `get` and `describe` show of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.registry_cluster import RegistryCluster, run

RULE = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}


def a_role(*rules: dict[str, Any], kind: str = "Role", name: str = "reader", **meta: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": "default"} if kind == "Role" else {}), **meta}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": list(rules)}


def test_yes_and_no() -> None:
    cluster = RegistryCluster()
    assert (run(cluster, "auth", "can-i", "get", "pods").stdout) == "yes\n"
    no = run(cluster, "auth", "can-i", "delete", "deploy/web", "--as", "jane", "--as-group", "devs")
    assert (no.stdout, no.exit_code) == ("no\n", 1)
    assert run(cluster, "auth", "can-i", "-q", "get", "pods", "--as", "jane").stdout == ""
    assert run(cluster, "auth", "can-i", "get", "/metrics").stdout == "yes\n"
    node = run(cluster, "auth", "can-i", "get", "nodes")
    assert (node.stdout, node.stderr) == ("yes\n", "Warning: resource 'nodes' is not namespace scoped\n\n")
    stray = run(cluster, "auth", "can-i", "get", "ships.example.org")
    assert "doesn't have a resource type 'ships.example.org'" in stray.stderr
    wrong = run(cluster, "auth", "can-i", "get")
    assert wrong.stderr == "error: you must specify two arguments: verb resource or verb resource/resourceName\n"


def test_for_somebody_with_a_role() -> None:
    cluster = RegistryCluster()
    run(cluster, "create", "role", "reader", "--verb=get,list", "--resource=pods")
    run(cluster, "create", "rolebinding", "b", "--role=reader", "--user=jane")
    assert run(cluster, "auth", "can-i", "list", "pods", "--as", "jane").stdout == "yes\n"
    assert run(cluster, "auth", "can-i", "list", "pods", "--as", "jane", "-A").stdout == "no\n"
    assert run(cluster, "auth", "can-i", "get", "pods/p", "--subresource=log", "--as", "jane").stdout == "no\n"


def test_everything_that_is_allowed() -> None:
    cluster = RegistryCluster()
    run(cluster, "create", "clusterrole", "r", "--verb=get", "--verb=list", "--resource=pods,deployments.apps")
    run(cluster, "create", "clusterrole", "p", "--verb=get", "--non-resource-url=/healthz")
    for role in ("r", "p"):
        run(cluster, "create", "clusterrolebinding", role, f"--clusterrole={role}", "--group=system:masters")
    assert run(cluster, "auth", "can-i", "--list").stdout == (
        "Resources          Non-Resource URLs   Resource Names   Verbs\n"
        "deployments.apps   []                  []               [get list]\n"
        "pods               []                  []               [get list]\n"
        "                   [/healthz]          []               [get]\n"
    )


def test_what_create_makes() -> None:
    cluster = RegistryCluster()
    made = run(
        cluster, "create", "role", "r", "--verb=get,*", "--resource=pods/log,deploy/scale", "--resource-name=web"
    )
    assert made.stdout == "role.rbac.authorization.k8s.io/r created\n"
    assert cluster.one("roles", "r")["rules"] == [
        {"apiGroups": [""], "resourceNames": ["web"], "resources": ["pods/log"], "verbs": ["*"]},
        {"apiGroups": ["apps"], "resourceNames": ["web"], "resources": ["deployments/scale"], "verbs": ["*"]},
    ]
    run(cluster, "create", "clusterrole", "all", "--aggregation-rule=a=b,c=d")
    rule = cluster.one("clusterroles", "all")["aggregationRule"]
    assert rule == {"clusterRoleSelectors": [{"matchLabels": {"a": "b", "c": "d"}}]}
    run(cluster, "create", "rolebinding", "b", "--clusterrole=edit", "--group=g", "--serviceaccount=shop:robot")
    binding = cluster.one("rolebindings", "b")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
    assert binding["subjects"] == [
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "g"},
        {"kind": "ServiceAccount", "name": "robot", "namespace": "shop"},
    ]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("role", "r"), "at least one verb must be specified"),
        (("role", "r", "--verb=get"), "at least one resource must be specified"),
        (("rolebinding", "b", "--user=a"), "exactly one of clusterrole or role must be specified"),
        (
            ("clusterrolebinding", "b", "--clusterrole=c", "--serviceaccount=robot"),
            "serviceaccount must be <namespace>:<name>",
        ),
    ],
)
def test_what_create_refuses(words: tuple[str, ...], why: str) -> None:
    result = run(RegistryCluster(), "create", *words)
    assert (result.stderr, result.exit_code) == (f"error: {why}\n", 1)


def test_tables_and_pages() -> None:
    cluster = RegistryCluster(a_role(RULE))
    run(cluster, "create", "rolebinding", "b", "--role=reader", "--user=jane", "--serviceaccount=shop:robot")
    wide = run(cluster, "get", "rolebindings", "-o", "wide").stdout.splitlines()
    assert wide[0].split("  ")[0] == "NAME"
    assert [cell for cell in wide[1].split("  ") if cell][1:2] == ["Role/reader"]
    assert wide[1].endswith("shop/robot")
    assert run(cluster, "get", "roles").stdout.splitlines()[0].split() == ["NAME", "CREATED", "AT"]
    assert run(cluster, "describe", "role", "reader").stdout == (
        "Name:         reader\n"
        "Labels:       <none>\n"
        "Annotations:  <none>\n"
        "PolicyRule:\n"
        "  Resources  Non-Resource URLs  Resource Names  Verbs\n"
        "  ---------  -----------------  --------------  -----\n"
        "  pods       []                 []              [get list]\n"
    )
    assert run(cluster, "describe", "rolebinding", "b").stdout == (
        "Name:         b\n"
        "Labels:       <none>\n"
        "Annotations:  <none>\n"
        "Role:\n"
        "  Kind:  Role\n"
        "  Name:  reader\n"
        "Subjects:\n"
        "  Kind            Name   Namespace\n"
        "  ----            ----   ---------\n"
        "  User            jane\n"
        "  ServiceAccount  robot  shop\n"
    )


MANIFEST = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{verbs: [get, watch], apiGroups: [""], resources: [pods]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: b}
roleRef: {kind: Role, name: reader}
subjects: [{kind: User, name: jane}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
"""


def test_reconcile_adds_what_is_missing(tmp_path: Path) -> None:
    cluster = RegistryCluster(a_role(RULE))
    file = tmp_path / "roles.yaml"
    file.write_text(MANIFEST)
    trial = run(cluster, "auth", "reconcile", "-f", str(file), "--dry-run=client")
    assert trial.stdout.startswith("role.rbac.authorization.k8s.io/reader reconciled (dry run)\n")
    assert not cluster.exists("rolebindings", "b")
    result = run(cluster, "auth", "reconcile", "-f", str(file))
    assert result.stdout == (
        "role.rbac.authorization.k8s.io/reader reconciled\nrolebinding.rbac.authorization.k8s.io/b reconciled\n"
    )
    assert result.stderr == (
        "\treconciliation required update\n"
        "\tmissing rules added:\n"
        "\t\t{[watch] [] [pods] [] []}\n"
        "\treconciliation required create\n"
        "\tmissing subjects added:\n"
        "\t\t{User rbac.authorization.k8s.io jane }\n"
        "skipping ConfigMap c: it is neither role nor binding\n"
    )
    assert [rule["verbs"] for rule in cluster.one("roles", "reader")["rules"]] == [["get", "list"], ["watch"]]
    again = run(cluster, "auth", "reconcile", "-f", str(file))
    assert "required" not in again.stderr
    run(cluster, "auth", "reconcile", "-f", str(file), "--remove-extra-permissions")
    assert [rule["verbs"] for rule in cluster.one("roles", "reader")["rules"]] == [["get", "watch"]]
