"""The roles and bindings that every cluster has: made, mended, and put together."""

from __future__ import annotations

from typing import Any

import msgspec

from barque.api.policyrules import Rule
from barque.api.types.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding, Subject
from barque.api.validation import validate
from barque.client.client import Client
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import User
from barque.master.auth.rbac.bootstrap import ensure_policy
from barque.master.auth.rbac.policy import bootstrap_policy
from barque.master.controllers.clusterroleaggregation import aggregated_rules
from tests.support.memory_store import Bench, a_bench

AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"


async def a_cluster() -> Bench:
    bench = await a_bench()
    await ensure_policy(bench.client)
    return bench


def allowed(bench: Bench, user: User, verb: str, resource: str = "", group: str = "", **more: Any) -> bool:
    return bench.registry.environment.authorizer.rbac.decide(
        Attributes(user, verb, group, resource=resource, **more)
    ).allowed


def test_the_whole_policy_is_valid_and_marked_as_kubernetes_does() -> None:
    for objects in bootstrap_policy():
        assert objects
        for obj in objects:
            assert validate(obj) == [], obj.metadata.name
            assert obj.metadata.labels["kubernetes.io/bootstrapping"] == "rbac-defaults"
            assert obj.metadata.annotations == {AUTO_UPDATE: "true"}


def test_every_binding_names_a_role_that_is_there_and_every_name_is_there_once() -> None:
    policy = bootstrap_policy()
    names = [role.metadata.name for role in policy.cluster_roles]
    assert len(names) == len(set(names))
    assert {binding.roleRef.name for binding in policy.cluster_bindings if binding.roleRef} <= set(names)
    assert [b.roleRef.name for b in policy.bindings if b.roleRef] == [r.metadata.name for r in policy.roles]


async def test_who_gets_what_of_a_new_cluster() -> None:
    bench = await a_cluster()
    anonymous = User("system:anonymous", ("system:unauthenticated",))
    somebody = User("jane", ("system:authenticated",))
    admin = User("root", ("system:masters",))
    assert allowed(bench, anonymous, "get", path="/healthz")
    assert allowed(bench, anonymous, "get", path="/version")
    assert not allowed(bench, anonymous, "get", path="/apis")
    assert allowed(bench, somebody, "get", path="/apis/apps/v1")
    assert not allowed(bench, somebody, "get", path="/metrics")
    assert allowed(bench, User("x", ("system:monitoring",)), "get", path="/metrics")
    assert allowed(bench, somebody, "create", "selfsubjectaccessreviews", "authorization.k8s.io")
    assert not allowed(bench, somebody, "list", "pods", namespace="default")
    assert allowed(bench, admin, "anything", "secrets", "x.example.org")
    scheduler = User("system:kube-scheduler")
    assert allowed(bench, scheduler, "create", "pods", subresource="binding", namespace="default")
    account = User("system:serviceaccount:kube-system:deployment-controller")
    assert allowed(bench, account, "create", "replicasets", "apps", namespace="default")
    assert not allowed(bench, User("system:node:n1", ("system:nodes",)), "list", "secrets")


async def test_what_is_missing_is_added_and_what_was_added_stays() -> None:
    bench = await a_cluster()
    roles: Client = bench.client
    view = await roles.get(ClusterRole, "system:basic-user")
    extra = msgspec.structs.replace(view.rules[0], apiGroups=["example.org"], resources=["ships"], verbs=["get"])
    await roles.update(msgspec.structs.replace(view, rules=[extra]))
    bound = await roles.get(ClusterRoleBinding, "system:discovery")
    other = Subject(kind="User", apiGroup="rbac.authorization.k8s.io", name="jane")
    await roles.update(msgspec.structs.replace(bound, subjects=[other]))
    await roles.delete(ClusterRole, "system:discovery")
    await ensure_policy(roles)
    mended = await roles.get(ClusterRole, "system:basic-user")
    assert mended.rules[0] == extra
    assert Rule.of(mended.rules[-1]).groups == {"authentication.k8s.io"}
    assert [s.name for s in (await roles.get(ClusterRoleBinding, "system:discovery")).subjects] == [
        "jane",
        "system:authenticated",
    ]
    await roles.get(ClusterRole, "system:discovery")


async def test_what_opted_out_is_left_alone_and_what_is_right_is_not_written() -> None:
    bench = await a_cluster()
    binding = await bench.client.get(ClusterRoleBinding, "system:discovery")
    binding.metadata.annotations[AUTO_UPDATE] = "false"
    binding.subjects = []
    await bench.client.update(binding)
    before = bench.store.revision
    await ensure_policy(bench.client)
    assert bench.store.revision == before
    assert (await bench.client.get(ClusterRoleBinding, "system:discovery")).subjects == []


async def test_a_binding_of_another_role_is_made_anew() -> None:
    bench = await a_cluster()
    await bench.client.delete(ClusterRoleBinding, "system:discovery")
    await bench.create(
        "clusterrolebindings",
        {"metadata": {"name": "system:discovery"}, "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}},
    )
    await ensure_policy(bench.client)
    binding = await bench.client.get(ClusterRoleBinding, "system:discovery")
    assert binding.roleRef is not None
    assert binding.roleRef.name == "system:discovery"
    assert [subject.name for subject in binding.subjects] == ["system:authenticated"]


def test_aggregated_roles_hold_the_rules_of_those_that_are_labelled_for_them() -> None:
    roles = {role.metadata.name: role for role in bootstrap_policy().cluster_roles}
    for name in ("view", "edit", "admin"):
        roles[name].rules = aggregated_rules(roles[name], list(roles.values()))

    def may(name: str, verb: str, group: str, resource: str, subresource: str = "") -> bool:
        return any(Rule.of(rule).allows(verb, group, resource, subresource) for rule in roles[name].rules)

    assert may("view", "list", "", "pods")
    assert not may("view", "list", "", "secrets")
    assert not may("view", "create", "", "pods", "exec")
    assert may("edit", "create", "", "pods", "exec")
    assert may("edit", "list", "", "pods")
    assert not may("edit", "create", "rbac.authorization.k8s.io", "roles")
    assert may("admin", "create", "rbac.authorization.k8s.io", "rolebindings")
    assert may("admin", "delete", "apps", "deployments")
    assert not may("admin", "update", "", "namespaces")


def test_roles_of_namespaces_are_there() -> None:
    policy = bootstrap_policy()
    assert {type(role) for role in policy.roles} == {Role}
    assert {type(binding) for binding in policy.bindings} == {RoleBinding}
    assert ("kube-public", "system:controller:bootstrap-signer") in {
        (role.metadata.namespace, role.metadata.name) for role in policy.roles
    }
