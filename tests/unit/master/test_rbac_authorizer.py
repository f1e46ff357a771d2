"""Who may do what by roles and bindings: decisions, their words, escalation, reviews, and rights that end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.client.pki import ADMINS_GROUP, NODES_GROUP
from barque.client.subjects import EVERYTHING, Pattern
from barque.client.verbs import MERGE_PATCH, Selection
from barque.master.apiserver.registry import UserVerbs
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import User
from barque.master.auth.rbac import rbac_authorizer
from barque.master.bus.permissions import watchable_by
from tests.support.memory_store import Bench, a_bench, refusal, target

JANE = User("jane", ("devs", "system:authenticated"))
ROBOT = User("system:serviceaccount:default:robot", ("system:serviceaccounts", "system:authenticated"))
READ_PODS = {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}
RBAC = "rbac.authorization.k8s.io"


async def grant(
    bench: Bench, subject: dict[str, str], *rules: dict[str, Any], namespace: str = "", name: str = "r"
) -> None:
    """Bind a new role of these rules, in the namespace or everywhere."""
    meta, kind = {"name": name}, "Role" if namespace else "ClusterRole"
    roles, bindings = ("roles", "rolebindings") if namespace else ("clusterroles", "clusterrolebindings")
    await bench.create(roles, {"metadata": meta, "rules": list(rules)}, namespace or "default")
    binding = {"metadata": meta, "roleRef": {"kind": kind, "name": name}, "subjects": [subject]}
    await bench.create(bindings, binding, namespace or "default")


USER, GROUP = {"kind": "User", "name": "jane"}, {"kind": "Group", "name": "devs"}
ACCOUNT = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}


async def decide(bench: Bench, user: User, verb: str, resource: str, group: str = "", **more: Any) -> bool:
    asked = Attributes(user, verb, group, resource=resource, **more)
    return (await bench.registry.environment.authorizer.decide(asked)).allowed


def as_user(bench: Bench, user: User) -> UserVerbs:
    return bench.registry.as_user(user)


@pytest.mark.parametrize(("subject", "user"), [(USER, JANE), (GROUP, JANE), (ACCOUNT, ROBOT)])
async def test_a_role_binding_holds_in_its_namespace_for_its_subject_alone(subject: dict[str, str], user: User) -> None:
    bench = await a_bench()
    await grant(bench, subject, READ_PODS, namespace="default")
    await as_user(bench, user).list(target("pods"))
    assert not await decide(bench, user, "list", "pods", namespace="kube-system")
    assert not await decide(bench, user, "list", "pods")
    assert not await decide(bench, user, "delete", "pods", namespace="default")
    other = ROBOT if user is JANE else JANE
    assert not await decide(bench, other, "list", "pods", namespace="default")


async def test_an_account_without_a_namespace_is_of_the_binding_s_own() -> None:
    bench = await a_bench()
    await grant(bench, {"kind": "ServiceAccount", "name": "robot"}, READ_PODS, namespace="default")
    assert await decide(bench, ROBOT, "get", "pods", namespace="default")


async def test_a_refusal_is_in_kubernetes_words() -> None:
    bench = await a_bench()
    refused = await refusal(as_user(bench, JANE).list(target("pods")))
    assert (refused.code, refused.reason) == (403, "Forbidden")
    assert refused.message == (
        'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"'
    )
    refused = await refusal(as_user(bench, JANE).get(target("nodes", "n1", "")))
    assert refused.message == (
        'nodes "n1" is forbidden: User "jane" cannot get resource "nodes" in API group "" at the cluster scope'
    )
    refused = await refusal(bench.registry.environment.authorizer.authorize_path(JANE, "get", "/metrics"))
    assert refused.message == 'forbidden: User "jane" cannot get path "/metrics"'
    await bench.create(
        "clusterrolebindings",
        {"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "gone"}, "subjects": [USER]},
    )
    refused = await refusal(as_user(bench, JANE).list(target("pods")))
    assert refused.message.endswith(': RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found')


async def test_the_reason_names_the_binding() -> None:
    bench = await a_bench()
    await grant(bench, GROUP, READ_PODS, name="readers")
    await grant(bench, ACCOUNT, READ_PODS, namespace="default", name="pods")
    authorizer = bench.registry.environment.authorizer
    of_group = await authorizer.decide(Attributes(JANE, "get", resource="pods"))
    assert of_group.reason == ('RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "readers" to Group "devs"')
    of_account = await authorizer.decide(Attributes(ROBOT, "get", resource="pods", namespace="default"))
    assert of_account.reason == (
        'RBAC: allowed by RoleBinding "pods/default" of Role "pods" to ServiceAccount "robot/default"'
    )


async def test_certain_names_only() -> None:
    bench = await a_bench()
    verbs = ["get", "list", "watch", "deletecollection"]
    named = {"verbs": verbs, "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]}
    await grant(bench, USER, named, namespace="default")
    for _ in range(2):  # from the memory the second time
        assert await decide(bench, JANE, "get", "configmaps", namespace="default", name="a")
        assert not await decide(bench, JANE, "get", "configmaps", namespace="default", name="b")
        assert not await decide(bench, JANE, "list", "configmaps", namespace="default")
    await as_user(bench, JANE).list(target("configmaps"), Selection(fields="metadata.name=a"))
    assert (await refusal(as_user(bench, JANE).list(target("configmaps")))).code == 403
    assert (
        await refusal(as_user(bench, JANE).list(target("configmaps"), Selection(fields="metadata.name=b")))
    ).code == 403
    # That verb has no name, whatever it selects.
    collection = as_user(bench, JANE).delete_collection(target("configmaps"), Selection(fields="metadata.name=a"))
    assert (await refusal(collection)).code == 403


async def test_a_namespace_is_in_itself() -> None:
    bench = await a_bench()
    read = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["namespaces"]}
    await grant(bench, USER, read, namespace="default")
    await as_user(bench, JANE).get(target("namespaces", "default", ""))
    refused = await refusal(as_user(bench, JANE).get(target("namespaces", "kube-system", "")))
    assert refused.message.endswith('in API group "" in the namespace "kube-system"')
    assert (await refusal(as_user(bench, JANE).list(target("namespaces", "", "")))).code == 403


async def test_what_was_acknowledged_counts_at_once() -> None:
    bench = await a_bench()
    authorizer = bench.registry.environment.authorizer
    assert not await decide(bench, JANE, "get", "pods", namespace="default")
    before = authorizer.generation
    await grant(bench, USER, READ_PODS, namespace="default")
    assert authorizer.generation != before
    assert await decide(bench, JANE, "get", "pods", namespace="default")
    allowed_at = authorizer.generation
    await bench.create("configmaps", {"metadata": {"name": "c"}})
    assert authorizer.generation == allowed_at
    await bench.admin.patch(target("roles", "r"), MERGE_PATCH, b'{"rules":[]}')
    assert not await decide(bench, JANE, "get", "pods", namespace="default")
    await bench.admin.patch(target("roles", "r"), MERGE_PATCH, msgspec.json.encode({"rules": [READ_PODS]}))
    assert await decide(bench, JANE, "get", "pods", namespace="default")
    await bench.delete("rolebindings", "r")
    assert not await decide(bench, JANE, "get", "pods", namespace="default")


async def test_a_watch_ends_once_it_is_no_longer_allowed() -> None:
    bench = await a_bench()
    await grant(bench, USER, {**READ_PODS, "resources": ["configmaps"]}, namespace="default")
    watch = as_user(bench, JANE).watch(target("configmaps"))
    await anext(watch)
    await bench.create("configmaps", {"metadata": {"name": "seen"}})
    assert b"seen" in (await anext(watch))[0].json
    await bench.delete("rolebindings", "r")
    await bench.create("configmaps", {"metadata": {"name": "unseen"}})
    with pytest.raises(ApiError) as ended:
        await anext(watch)
    assert ended.value.code == 403


async def test_the_memory_of_decisions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbac_authorizer, "MOST_REMEMBERED", 10)
    bench = await a_bench()
    rbac = bench.registry.environment.authorizer.rbac
    for number in range(50):
        rbac.decide(Attributes(JANE, "get", resource="pods", namespace=f"n{number}"))
        assert len(rbac._decided) <= 10
    rbac.decide(Attributes(JANE, "get", path="/" + "x" * rbac_authorizer.LONGEST_REMEMBERED))
    assert not any("xxx" in str(key) for key in rbac._decided)


# --- escalation


WRITE_ROLES = {
    "verbs": ["create", "update", "patch"],
    "apiGroups": [RBAC],
    "resources": ["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
}


def a_role(*rules: dict[str, Any], name: str = "new", **more: Any) -> bytes:
    return msgspec.json.encode({"metadata": {"name": name}, "rules": list(rules), **more})


def a_binding(role: str, kind: str = "Role", name: str = "new") -> bytes:
    return msgspec.json.encode(
        {"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": [ACCOUNT]}
    )


async def test_nobody_writes_a_role_of_more_than_they_have() -> None:
    bench = await a_bench()
    await grant(bench, USER, READ_PODS, WRITE_ROLES)
    jane = as_user(bench, JANE)
    await jane.create(target("roles"), a_role({**READ_PODS, "verbs": ["get"]}))
    more = {**READ_PODS, "verbs": ["get", "delete"]}
    refused = await refusal(jane.create(target("roles"), a_role(more, name="more")))
    assert refused.message == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "jane" (groups=["devs" "system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}'
    )
    patch = msgspec.json.encode({"rules": [more]})
    assert (await refusal(jane.patch(target("roles", "new"), MERGE_PATCH, patch))).code == 403
    await bench.admin.patch(target("roles", "new"), MERGE_PATCH, patch)
    labelled = b'{"metadata":{"labels":{"rbac.authorization.k8s.io/aggregate-to-view":"true"}}}'
    assert (await refusal(jane.patch(target("roles", "new"), MERGE_PATCH, labelled))).code == 403
    await jane.patch(target("roles", "new"), MERGE_PATCH, b'{"metadata":{"finalizers":["example.org/x"]}}')


async def test_who_may_escalate_may() -> None:
    bench = await a_bench()
    await grant(
        bench, USER, {**WRITE_ROLES, "verbs": ["create", "escalate"], "resources": ["roles"]}, namespace="default"
    )
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    made = msgspec.json.decode(await as_user(bench, JANE).create(target("roles"), a_role(everything)))
    assert made["rules"] == [everything]


async def test_an_aggregation_rule_needs_everything() -> None:
    bench = await a_bench()
    await grant(bench, USER, WRITE_ROLES)
    rule = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}
    refused = await refusal(as_user(bench, JANE).create(target("clusterroles", "", ""), a_role(**rule)))
    assert refused.message == (
        'clusterroles.rbac.authorization.k8s.io "new" is forbidden: must have cluster-admin privileges to use the '
        "aggregationRule"
    )


async def test_nobody_binds_a_role_of_more_than_they_have() -> None:
    bench = await a_bench()
    await grant(bench, USER, READ_PODS, WRITE_ROLES, name="own")
    jane = as_user(bench, JANE)
    await bench.create("roles", {"metadata": {"name": "less"}, "rules": [READ_PODS]})
    await bench.create("roles", {"metadata": {"name": "more"}, "rules": [{**READ_PODS, "verbs": ["delete"]}]})
    await jane.create(target("rolebindings"), a_binding("less"))
    refused = await refusal(jane.create(target("rolebindings"), a_binding("more", name="other")))
    assert "is attempting to grant RBAC permissions not currently held" in refused.message
    refused = await refusal(jane.create(target("rolebindings"), a_binding("gone", name="other")))
    assert (refused.code, refused.message) == (404, 'role.rbac.authorization.k8s.io "gone" not found')
    bind = {"verbs": ["bind"], "apiGroups": [RBAC], "resources": ["roles"], "resourceNames": ["more", "gone"]}
    await grant(bench, USER, bind, namespace="default", name="binder")
    await jane.create(target("rolebindings"), a_binding("more", name="other"))
    await jane.create(target("rolebindings"), a_binding("gone", name="third"))


async def test_the_role_of_a_binding_never_changes() -> None:
    bench = await a_bench()
    await grant(bench, USER, READ_PODS, namespace="default")
    other = b'{"roleRef":{"kind":"Role","name":"other"}}'
    refused = await refusal(bench.admin.patch(target("rolebindings", "r"), MERGE_PATCH, other))
    assert refused.code == 422
    assert "roleRef: Invalid value: " in refused.message
    assert refused.message.endswith(": cannot change roleRef")


async def test_streams_that_act_need_create_however_they_are_asked_for() -> None:
    bench = await a_bench()
    reading = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec", "pods/log"]}
    await grant(bench, USER, reading, namespace="default")
    authorizer = bench.registry.environment.authorizer
    await authorizer.authorize_connect(JANE, "get", target("pods", "p", "default", "log"))
    refused = await refusal(authorizer.authorize_connect(JANE, "get", target("pods", "p", "default", "exec")))
    assert 'cannot create resource "pods/exec"' in refused.message


async def test_a_node_has_what_rbac_gives_it_besides() -> None:
    bench = await a_bench()
    node = User("system:node:n1", (NODES_GROUP,))
    assert not await decide(bench, node, "list", "pods")
    await grant(bench, {"kind": "Group", "name": NODES_GROUP}, READ_PODS)
    assert await decide(bench, node, "list", "pods")
    lease = {"group": "coordination.k8s.io", "namespace": "kube-node-lease"}
    assert await decide(bench, node, "update", "leases", name="n1", **lease)
    assert not await decide(bench, node, "update", "leases", name="n2", **lease)
    assert not await decide(bench, node, "update", "leases", name="n1", **{**lease, "namespace": "default"})
    refused = await refusal(
        as_user(bench, node).create(target("leases", "", "kube-node-lease"), b'{"metadata":{"name":"n2"}}')
    )
    assert "can only access node lease with the same name as the requesting node" in refused.message


# --- reviews


async def review(bench: Bench, user: User, kind: str, spec: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    at = target(f"{kind.lower()}s", "", namespace)
    answer = await as_user(bench, user).create(at, msgspec.json.encode({"spec": spec}))
    status: dict[str, Any] = msgspec.json.decode(answer)["status"]
    return status


async def test_reviews_answer_for_the_caller_and_for_others() -> None:
    bench = await a_bench()
    admin = User("admin", (ADMINS_GROUP,))
    asking = {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["*"]}
    await grant(bench, USER, READ_PODS, asking)
    may = {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}
    may_not = {"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": "default"}}
    allowed = await review(bench, JANE, "SelfSubjectAccessReview", may)
    assert allowed == {
        "allowed": True,
        "reason": 'RBAC: allowed by ClusterRoleBinding "r" of ClusterRole "r" to User "jane"',
    }
    assert await review(bench, JANE, "SelfSubjectAccessReview", may_not) == {"allowed": False}
    assert (await review(bench, admin, "SubjectAccessReview", {**may, "user": "jane"}))["allowed"] is True
    assert (await review(bench, admin, "SubjectAccessReview", {**may, "groups": ["devs"]}))["allowed"] is False
    local = await review(bench, admin, "LocalSubjectAccessReview", {**may, "user": "jane"}, "default")
    assert local["allowed"] is True
    path = {"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}
    assert (await review(bench, JANE, "SelfSubjectAccessReview", path))["allowed"] is False


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        (
            "SelfSubjectAccessReview",
            {},
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes "
            "must be specified",
        ),
        (
            "SubjectAccessReview",
            {"resourceAttributes": {"verb": "get"}},
            'spec.user: Invalid value: "": at least one of user or group must be specified',
        ),
        (
            "LocalSubjectAccessReview",
            {"resourceAttributes": {"verb": "get", "namespace": "other"}, "user": "a"},
            'spec.resourceAttributes.namespace: Invalid value: "other": must match metadata.namespace',
        ),
    ],
)
async def test_a_review_that_asks_nothing_is_refused(kind: str, spec: dict[str, Any], words: str) -> None:
    bench = await a_bench()
    namespace = "default" if kind.startswith("Local") else ""
    refused = await refusal(review(bench, User("admin", (ADMINS_GROUP,)), kind, spec, namespace))
    assert refused.code == 422
    assert words in refused.message


async def test_all_rules_of_the_caller() -> None:
    bench = await a_bench()
    asking = {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectrulesreviews"]}
    await grant(bench, USER, asking, {"verbs": ["get"], "nonResourceURLs": ["/healthz"]})
    await grant(bench, GROUP, READ_PODS, namespace="default", name="pods")
    await grant(bench, GROUP, READ_PODS, namespace="kube-system", name="others")
    status = await review(bench, JANE, "SelfSubjectRulesReview", {"namespace": "default"})
    assert status["incomplete"] is False
    assert status["nonResourceRules"] == [{"nonResourceURLs": ["/healthz"], "verbs": ["get"]}]
    assert [rule["resources"] for rule in status["resourceRules"]] == [["selfsubjectrulesreviews"], ["pods"]]


# --- the change feed


async def test_who_may_watch_may_follow_exactly_that() -> None:
    bench = await a_bench()
    rbac = bench.registry.environment.authorizer.rbac
    assert watchable_by(JANE, rbac.granted(JANE)) == ()
    await grant(bench, USER, READ_PODS, namespace="default")
    await grant(bench, GROUP, {**READ_PODS, "verbs": ["get"]}, name="readers")
    assert watchable_by(JANE, rbac.granted(JANE)) == (Pattern("core", "pods", "default"),)
    await grant(bench, GROUP, READ_PODS, name="watchers")
    assert watchable_by(JANE, rbac.granted(JANE)) == (Pattern("core", "pods"),)
    await grant(bench, GROUP, {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, name="all")
    assert watchable_by(JANE, rbac.granted(JANE)) == (EVERYTHING,)
    node = User("system:node:n1", (NODES_GROUP, "devs"))
    assert watchable_by(node, rbac.granted(node)) == ()
