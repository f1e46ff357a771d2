"""The cluster's own roles against what Kubernetes publishes of its own, right by right.

The table says who may do what: a line is verbs, groups, resources and, where it is about some objects alone, their
names; or verbs and paths. What Barque leaves out on purpose, or adds, is in docs/access.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest

from barque.api.types.rbac_v1 import ClusterRoleBinding, PolicyRule, RoleBinding, Subject
from barque.master.auth.rbac.policy import bootstrap_policy

READ = "get,list,watch"
WRITE = "create,delete,deletecollection,patch,update"
EVENTS = "create,patch,update core,events.k8s.io events"
REVIEWS = """
    create authentication.k8s.io tokenreviews
    create authorization.k8s.io subjectaccessreviews
    """
CSR = "certificates.k8s.io certificatesigningrequests"
SLICES = "create,delete,get,list,update,watch discovery.k8s.io endpointslices"
LEADER_LOCK = """
    create,get,list,update,watch coordination.k8s.io leases
    create,get,list,update,watch coordination.k8s.io leasecandidates
    """

VIEW = f"""
    {READ} core configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,pods/log,pods/status
    {READ} core replicationcontrollers,replicationcontrollers/scale,replicationcontrollers/status,serviceaccounts
    {READ} core services,services/status,bindings,events,limitranges,namespaces,namespaces/status
    {READ} core resourcequotas,resourcequotas/status
    {READ} discovery.k8s.io endpointslices
    {READ} apps controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status
    {READ} apps replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status
    {READ} autoscaling horizontalpodautoscalers,horizontalpodautoscalers/status
    {READ} batch cronjobs,cronjobs/status,jobs,jobs/status
    {READ} policy poddisruptionbudgets,poddisruptionbudgets/status
    {READ} networking.k8s.io ingresses,ingresses/status,networkpolicies
    {READ} metrics.k8s.io nodes,pods
    """
EDIT = f"""
    {READ} core pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy
    impersonate core serviceaccounts
    create core serviceaccounts/token,pods/eviction
    {WRITE} core pods,pods/attach,pods/exec,pods/portforward,pods/proxy,services,services/proxy
    {WRITE} core configmaps,events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale
    {WRITE} core secrets,serviceaccounts
    {WRITE} apps daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale
    {WRITE} apps statefulsets,statefulsets/scale
    {WRITE} autoscaling horizontalpodautoscalers
    {WRITE} batch cronjobs,jobs
    {WRITE} policy poddisruptionbudgets
    {WRITE} networking.k8s.io ingresses,networkpolicies
    {READ},{WRITE} coordination.k8s.io leases
    """
ADMIN = f"""
    create authorization.k8s.io localsubjectaccessreviews
    {READ},{WRITE} rbac.authorization.k8s.io roles,rolebindings
    """

ROLES = {
    "cluster-admin": """
        * * *
        * *
        """,
    "system:discovery": "get /api,/api/*,/apis,/apis/*,/healthz,/livez,/readyz,/openapi,/openapi/*,/version,/version/",
    "system:public-info-viewer": "get /healthz,/livez,/readyz,/version,/version/",
    "system:monitoring": "get /healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*",
    "system:service-account-issuer-discovery": """
        get /.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/
        """,
    "system:basic-user": """
        create authorization.k8s.io selfsubjectaccessreviews,selfsubjectrulesreviews
        create authentication.k8s.io selfsubjectreviews
        """,
    "system:auth-delegator": REVIEWS,
    "system:heapster": f"{READ} core events,namespaces,nodes,pods",
    "system:kube-aggregator": f"{READ} core endpoints,services",
    "system:kube-dns": "list,watch core endpoints,services",
    "system:kubelet-api-admin": f"""
        {READ},proxy core nodes
        * core nodes/log,nodes/metrics,nodes/proxy,nodes/stats,nodes/configz,nodes/healthz,nodes/pods
        """,
    "system:node-problem-detector": f"""
        get core nodes
        patch core nodes/status
        {EVENTS}
        """,
    "system:node-bootstrapper": f"create,{READ} {CSR}",
    f"system:{CSR.replace(' ', ':')}:nodeclient": f"create {CSR}/nodeclient",
    f"system:{CSR.replace(' ', ':')}:selfnodeclient": f"create {CSR}/selfnodeclient",
    "system:node-proxier": f"""
        list,watch core endpoints,services
        {READ} core nodes
        {EVENTS}
        list,watch networking.k8s.io servicecidrs
        list,watch discovery.k8s.io endpointslices
        """,
    "system:persistent-volume-provisioner": f"""
        create,delete,{READ} core persistentvolumes
        {READ},update core persistentvolumeclaims
        {READ} storage.k8s.io storageclasses
        watch core events
        {EVENTS}
        """,
    "system:volume-scheduler": f"""
        {READ},patch,update core persistentvolumes,persistentvolumeclaims
        {READ} storage.k8s.io storageclasses
        """,
    "system:node": f"""
        {REVIEWS}
        create authorization.k8s.io localsubjectaccessreviews
        {READ} core services,pods,configmaps,secrets
        create,{READ},patch,update core nodes
        patch,update core nodes/status,pods/status
        create,patch,update core events
        create,delete core pods
        create core pods/eviction,serviceaccounts/token
        get core persistentvolumeclaims,persistentvolumes,endpoints,serviceaccounts
        get,patch,update core persistentvolumeclaims/status
        create,{READ} {CSR}
        create,delete,get,patch,update coordination.k8s.io leases
        get storage.k8s.io volumeattachments
        {READ} storage.k8s.io csidrivers
        create,delete,get,patch,update storage.k8s.io csinodes
        {READ} node.k8s.io runtimeclasses
        """,
    "system:kube-scheduler": f"""
        {EVENTS}
        {REVIEWS}
        create coordination.k8s.io leases
        {READ},update coordination.k8s.io leases kube-scheduler
        {READ} core nodes,pods,replicationcontrollers,services,persistentvolumeclaims,persistentvolumes,namespaces
        delete core pods
        create core bindings,pods/binding
        patch,update core pods/status
        {READ} apps,extensions replicasets
        {READ} apps statefulsets
        {READ} policy poddisruptionbudgets
        {READ} storage.k8s.io csinodes,csidrivers,csistoragecapacities,volumeattachments
        """,
    "system:kube-controller-manager": f"""
        {EVENTS}
        {REVIEWS}
        create coordination.k8s.io leases
        get,update coordination.k8s.io leases kube-controller-manager
        create,get,update core secrets,serviceaccounts
        delete core secrets
        get core configmaps,namespaces
        create core serviceaccounts/token
        list,watch * *
        """,
} | {
    f"system:certificates.k8s.io:{signer}-approver": f"approve certificates.k8s.io signers kubernetes.io/{signer}"
    for signer in ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown")
}  # fmt: skip

CONTROLLERS = {
    "certificate-controller": f"""
        delete,{READ} {CSR}
        update {CSR}/approval,certificatesigningrequests/status
        approve,sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet
        sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client,kubernetes.io/kubelet-serving
        sign certificates.k8s.io signers kubernetes.io/legacy-unknown
        create authorization.k8s.io subjectaccessreviews
        {EVENTS}
        """,
    "clusterrole-aggregation-controller": f"escalate,{READ},patch,update rbac.authorization.k8s.io clusterroles",
    "deployment-controller": f"""
        {READ},update apps,extensions deployments
        update apps,extensions deployments/status,deployments/finalizers
        create,delete,{READ},patch,update apps,extensions replicasets
        {READ},update core pods
        {EVENTS}
        """,
    "endpoint-controller": f"""
        {READ} core pods,services
        create,delete,{READ},update core endpoints
        create core endpoints/restricted
        {EVENTS}
        """,
    "endpointslice-controller": f"""
        {READ} core nodes,pods,services
        update core services/finalizers
        {SLICES}
        {EVENTS}
        """,
    "endpointslicemirroring-controller": f"""
        {READ} core endpoints,services
        update core services/finalizers,endpoints/finalizers
        {SLICES}
        {EVENTS}
        """,
    "generic-garbage-collector": f"""
        delete,{READ},patch,update * *
        {EVENTS}
        """,
    "namespace-controller": f"""
        delete,{READ} core namespaces
        update core namespaces/finalize,namespaces/status
        delete,deletecollection,{READ} * *
        """,
    "node-controller": f"""
        delete,{READ},patch,update core nodes
        patch,update core nodes/status,pods/status
        delete,{READ} core pods
        {EVENTS}
        """,
    "pod-garbage-collector": f"""
        delete,list,watch core pods
        {READ} core nodes
        patch core pods/status
        """,
    "replicaset-controller": f"""
        {READ},update apps,extensions replicasets
        update apps,extensions replicasets/status,replicasets/finalizers
        create,delete,list,patch,watch core pods
        {EVENTS}
        """,
    "root-ca-cert-publisher": f"""
        create,update core configmaps
        {EVENTS}
        """,
    "service-account-controller": f"""
        create core serviceaccounts
        {EVENTS}
        """,
}

# Namespace and name of a Role.
NAMESPACED = {
    "kube-system/extension-apiserver-authentication-reader": (
        f"{READ} core configmaps extension-apiserver-authentication"
    ),
    "kube-system/system::leader-locking-kube-controller-manager": LEADER_LOCK,
    "kube-system/system::leader-locking-kube-scheduler": LEADER_LOCK,
    "kube-system/system:controller:bootstrap-signer": f"{READ} core secrets",
    "kube-system/system:controller:token-cleaner": f"""
        delete,{READ} core secrets
        {EVENTS}
        """,
    "kube-public/system:controller:bootstrap-signer": f"""
        {READ} core configmaps
        update core configmaps cluster-info
        {EVENTS}
        """,
}

# Name of a binding, its role where that is another, and whom it is for.
CLUSTER_BINDINGS = """
    cluster-admin Group:system:masters
    system:basic-user Group:system:authenticated
    system:discovery Group:system:authenticated
    system:kube-controller-manager User:system:kube-controller-manager
    system:kube-dns ServiceAccount:kube-system:kube-dns
    system:kube-scheduler User:system:kube-scheduler
    system:monitoring Group:system:monitoring
    system:node
    system:node-proxier User:system:kube-proxy
    system:public-info-viewer Group:system:authenticated Group:system:unauthenticated
    system:service-account-issuer-discovery Group:system:serviceaccounts
    system:volume-scheduler User:system:kube-scheduler
    """
_SIGNER, _CLEANER = "ServiceAccount:kube-system:bootstrap-signer", "ServiceAccount:kube-system:token-cleaner"
BINDINGS = f"""
    kube-public/system:controller:bootstrap-signer {_SIGNER}
    kube-system/system::extension-apiserver-authentication-reader User:system:kube-controller-manager User:system:kube-scheduler
    kube-system/system::leader-locking-kube-controller-manager User:system:kube-controller-manager ServiceAccount:kube-system:kube-controller-manager
    kube-system/system::leader-locking-kube-scheduler User:system:kube-scheduler ServiceAccount:kube-system:kube-scheduler
    kube-system/system:controller:bootstrap-signer {_SIGNER}
    kube-system/system:controller:token-cleaner {_CLEANER}
    """  # noqa: E501

Right = tuple[str, ...]
POLICY = bootstrap_policy()
CLUSTER_ROLES = {role.metadata.name: role for role in POLICY.cluster_roles}


def rights_said(text: str) -> set[Right]:
    """The rights of the table's lines: one for each verb, group, resource and name, or for each verb and path."""
    rights: set[Right] = set()
    for line in filter(str.strip, text.splitlines()):
        words = [word.split(",") for word in line.split()]
        if len(words) > 2:
            words[1] = ["" if group == "core" else group for group in words[1]]
        rights |= set(product(*words))
    return rights


def rights_of(rules: Iterable[PolicyRule]) -> set[Right]:
    rights: set[Right] = set()
    for rule in rules:
        names = [rule.resourceNames] if rule.resourceNames else []
        rights |= set(product(rule.verbs, rule.nonResourceURLs))
        rights |= set(product(rule.verbs, rule.apiGroups, rule.resources, *names))
    return rights


def parts_of(name: str) -> list[str]:
    """The roles that this one is put together of."""
    rule = CLUSTER_ROLES[name].aggregationRule
    selected = [s.matchLabels.items() for s in rule.clusterRoleSelectors] if rule else []
    return sorted(n for n, role in CLUSTER_ROLES.items() if any(s <= role.metadata.labels.items() for s in selected))


def rights_in_all(name: str) -> set[Right]:
    """What a role gives with its parts."""
    return rights_of(CLUSTER_ROLES[name].rules).union(*map(rights_in_all, parts_of(name)))


def said(subjects: Iterable[Subject]) -> list[str]:
    return sorted(":".join(filter(None, (s.kind, s.namespace, s.name))) for s in subjects)


def bound(binding: ClusterRoleBinding | RoleBinding) -> list[str]:
    """A binding as a line of the table."""
    name = "/".join(filter(None, (binding.metadata.namespace, binding.metadata.name)))
    return [name, *said(binding.subjects)]


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_cluster_role_gives_what_kubernetes_gives_and_no_more(name: str) -> None:
    assert rights_of(CLUSTER_ROLES[name].rules) == rights_said(ROLES[name])


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_a_controllers_role_gives_what_kubernetes_gives_and_no_more(name: str) -> None:
    assert rights_of(CLUSTER_ROLES[f"system:controller:{name}"].rules) == rights_said(CONTROLLERS[name])


def test_view_edit_and_admin_each_hold_the_one_before() -> None:
    assert rights_in_all("view") == rights_said(VIEW)
    assert rights_in_all("edit") == rights_said(VIEW + EDIT)
    assert rights_in_all("admin") == rights_said(VIEW + EDIT + ADMIN)
    assert parts_of("view") == ["system:aggregate-to-view", "system:aggregated-metrics-reader"]
    assert parts_of("edit") == ["system:aggregate-to-edit", "view"]
    assert parts_of("admin") == ["edit", "system:aggregate-to-admin"]


def test_roles_of_a_namespace_give_what_kubernetes_gives_and_no_more() -> None:
    found = {f"{role.metadata.namespace}/{role.metadata.name}": rights_of(role.rules) for role in POLICY.roles}
    assert found == {name: rights_said(text) for name, text in NAMESPACED.items()}


def test_bindings_are_for_those_whom_kubernetes_binds() -> None:
    of_controllers = [[f"system:controller:{name}", f"ServiceAccount:kube-system:{name}"] for name in CONTROLLERS]
    lines = [line.split() for line in CLUSTER_BINDINGS.strip().splitlines()]
    assert sorted(map(bound, POLICY.cluster_bindings)) == sorted(lines + of_controllers)
    lines = [line.split() for line in BINDINGS.strip().splitlines()]
    assert sorted(map(bound, POLICY.bindings)) == sorted([name, *sorted(who)] for name, *who in lines)


def test_there_are_no_other_cluster_roles() -> None:
    put_together = {"view", "edit", "admin", *parts_of("view"), *parts_of("edit"), *parts_of("admin")}
    of_controllers = {f"system:controller:{name}" for name in CONTROLLERS}
    assert set(CLUSTER_ROLES) == set(ROLES) | put_together | of_controllers
