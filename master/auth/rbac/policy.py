"""The roles and bindings that every cluster has: Kubernetes' bootstrap policy, as data.

A rule is a line `VERBS GROUPS RESOURCES [NAMES]`, each a list with commas; `core` is the core group, `READ`, `WRITE`
and `ALL` stand for lists of verbs. A line `VERBS PATHS` is about paths. Rules about kinds that this release does not
serve yet are there too: they allow nothing until then. The roles of controllers are in `policy_controllers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from barque.api.defaults.rbac import GROUP
from barque.api.reconciliation import AUTO_UPDATE
from barque.api.types.meta_v1 import LabelSelector, ObjectMeta
from barque.api.types.rbac_v1 import (
    AggregationRule,
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleRef,
    Subject,
)
from barque.master.auth.rbac.policy_controllers import BINDING_NAMES, CONTROLLERS, EVENTS, NAMESPACED

LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
CONTROLLER = "system:controller:"
_VERBS = {
    "READ": "get,list,watch",
    "WRITE": "create,delete,deletecollection,patch,update",
    "ALL": "*",
}

_PATHS_PUBLIC = "/healthz,/livez,/readyz,/version,/version/"
_PATHS_DISCOVERY = "/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/"
_PATHS_ISSUER = "/.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/"
_APPS = (
    "daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,statefulsets,"
    "statefulsets/scale"
)
_POLICY = "poddisruptionbudgets"
_CONFIG = "configmaps,events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets"

# Roles that are put together of those labelled for them, and for which one each of these is labelled itself: who may
# edit may view.
AGGREGATED = {"admin": "", "edit": "admin", "view": "edit"}
# The parts of such a role: what each is labelled for, and its rules.
_PARTS: dict[str, tuple[str, str]] = {
    "system:aggregate-to-admin": (
        "admin",
        """
        create authorization.k8s.io localsubjectaccessreviews
        create,delete,deletecollection,get,list,patch,update,watch rbac.authorization.k8s.io roles,rolebindings
        """,
    ),
    "system:aggregate-to-edit": (
        "edit",
        f"""
        READ core pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy
        impersonate core serviceaccounts
        WRITE core pods,pods/attach,pods/exec,pods/portforward,pods/proxy
        create core pods/eviction
        WRITE core {_CONFIG},serviceaccounts,services,services/proxy
        create core serviceaccounts/token
        WRITE apps {_APPS}
        WRITE autoscaling horizontalpodautoscalers
        WRITE batch cronjobs,jobs
        WRITE policy {_POLICY}
        WRITE networking.k8s.io ingresses,networkpolicies
        create,delete,deletecollection,get,list,patch,update,watch coordination.k8s.io leases
        """,
    ),
    "system:aggregate-to-view": (
        "view",
        f"""
        READ core configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods
        READ core replicationcontrollers,replicationcontrollers/scale,replicationcontrollers/status
        READ core serviceaccounts,services,services/status
        READ core bindings,events,limitranges,namespaces/status,pods/log,pods/status,resourcequotas
        READ core resourcequotas/status,namespaces
        READ discovery.k8s.io endpointslices
        READ apps controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status
        READ apps replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status
        READ autoscaling horizontalpodautoscalers,horizontalpodautoscalers/status
        READ batch cronjobs,cronjobs/status,jobs,jobs/status
        READ policy {_POLICY},{_POLICY}/status
        READ networking.k8s.io ingresses,ingresses/status,networkpolicies
        """,
    ),
    # Kubernetes leaves this to whoever installs its metrics server, which labels its own role so.
    "system:aggregated-metrics-reader": ("view", "READ metrics.k8s.io nodes,pods"),
}

_ROLES: dict[str, str] = {
    "cluster-admin": """
        ALL * *
        ALL *
        """,
    "system:discovery": f"get {_PATHS_DISCOVERY}",
    "system:public-info-viewer": f"get {_PATHS_PUBLIC}",
    "system:monitoring": "get /healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*",
    "system:basic-user": """
        create authorization.k8s.io selfsubjectaccessreviews,selfsubjectrulesreviews
        create authentication.k8s.io selfsubjectreviews
        """,
    "system:auth-delegator": """
        create authentication.k8s.io tokenreviews
        create authorization.k8s.io subjectaccessreviews
        """,
    "system:heapster": "READ core events,namespaces,nodes,pods",
    "system:node-problem-detector": f"""
        get core nodes
        patch core nodes/status
        {EVENTS}
        """,
    "system:kubelet-api-admin": """
        READ core nodes
        proxy core nodes
        ALL core nodes/configz,nodes/healthz,nodes/log,nodes/metrics,nodes/pods,nodes/proxy,nodes/stats
        """,
    "system:node-bootstrapper": "create,get,list,watch certificates.k8s.io certificatesigningrequests",
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": """
        create certificates.k8s.io certificatesigningrequests/nodeclient
        """,
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": """
        create certificates.k8s.io certificatesigningrequests/selfnodeclient
        """,
    "system:certificates.k8s.io:kube-apiserver-client-approver": """
        approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client
        """,
    "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver": """
        approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet
        """,
    "system:certificates.k8s.io:kubelet-serving-approver": """
        approve certificates.k8s.io signers kubernetes.io/kubelet-serving
        """,
    "system:certificates.k8s.io:legacy-unknown-approver": """
        approve certificates.k8s.io signers kubernetes.io/legacy-unknown
        """,
    "system:service-account-issuer-discovery": f"get {_PATHS_ISSUER}",
    "system:persistent-volume-provisioner": """
        create,delete,get,list,watch core persistentvolumes
        get,list,update,watch core persistentvolumeclaims
        READ storage.k8s.io storageclasses
        watch core events
        create,patch,update core,events.k8s.io events
        """,
    "system:kube-aggregator": "READ core endpoints,services",
    "system:kube-dns": "list,watch core endpoints,services",
    "system:volume-scheduler": """
        get,list,patch,update,watch core persistentvolumes
        READ storage.k8s.io storageclasses
        get,list,patch,update,watch core persistentvolumeclaims
        """,
    "system:node-proxier": f"""
        list,watch core services,endpoints
        READ core nodes
        {EVENTS}
        list,watch networking.k8s.io servicecidrs
        list,watch discovery.k8s.io endpointslices
        """,
    "system:node": """
        create authentication.k8s.io tokenreviews
        create authorization.k8s.io localsubjectaccessreviews,subjectaccessreviews
        READ core services
        create,get,list,watch core nodes
        patch,update core nodes/status
        patch,update core nodes
        create,patch,update core events
        READ core pods
        create,delete core pods
        patch,update core pods/status
        create core pods/eviction
        READ core configmaps,secrets
        get core persistentvolumeclaims,persistentvolumes
        get core endpoints,serviceaccounts
        create,get,list,watch certificates.k8s.io certificatesigningrequests
        create,delete,get,patch,update coordination.k8s.io leases
        get storage.k8s.io volumeattachments
        create core serviceaccounts/token
        get,patch,update core persistentvolumeclaims/status
        READ storage.k8s.io csidrivers
        create,delete,get,patch,update storage.k8s.io csinodes
        READ node.k8s.io runtimeclasses
        """,
    "system:kube-scheduler": f"""
        {EVENTS}
        create coordination.k8s.io leases
        get,list,update,watch coordination.k8s.io leases kube-scheduler
        READ core nodes
        delete,get,list,watch core pods
        create core bindings,pods/binding
        patch,update core pods/status
        READ core replicationcontrollers,services
        READ apps,extensions replicasets
        READ apps statefulsets
        READ policy poddisruptionbudgets
        READ core persistentvolumeclaims,persistentvolumes
        create authentication.k8s.io tokenreviews
        create authorization.k8s.io subjectaccessreviews
        READ storage.k8s.io csinodes,volumeattachments
        READ core namespaces
        READ storage.k8s.io csidrivers,csistoragecapacities
        """,
    "system:kube-controller-manager": f"""
        {EVENTS}
        create coordination.k8s.io leases
        get,update coordination.k8s.io leases kube-controller-manager
        create core secrets,serviceaccounts
        delete core secrets
        get core configmaps,namespaces,secrets,serviceaccounts
        update core secrets,serviceaccounts
        create authentication.k8s.io tokenreviews
        create authorization.k8s.io subjectaccessreviews
        list,watch * *
        create core serviceaccounts/token
        """,
}

# Cluster role → the groups, users or accounts in kube-system it is bound to, by a binding of the same name.
_AUTHENTICATED, _UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"
_BOUND: dict[str, tuple[tuple[str, str], ...]] = {
    "cluster-admin": (("Group", "system:masters"),),
    "system:monitoring": (("Group", "system:monitoring"),),
    "system:discovery": (("Group", _AUTHENTICATED),),
    "system:basic-user": (("Group", _AUTHENTICATED),),
    "system:public-info-viewer": (("Group", _AUTHENTICATED), ("Group", _UNAUTHENTICATED)),
    "system:kube-dns": (("ServiceAccount", "kube-dns"),),
    "system:node-proxier": (("User", "system:kube-proxy"),),
    "system:kube-controller-manager": (("User", "system:kube-controller-manager"),),
    "system:kube-scheduler": (("User", "system:kube-scheduler"),),
    "system:volume-scheduler": (("User", "system:kube-scheduler"),),
    # Workers have what they need by their own authoriser.
    "system:node": (),
    "system:service-account-issuer-discovery": (("Group", "system:serviceaccounts"),),
}


class Policy(NamedTuple):
    """Everything that is made and mended, roles first."""

    cluster_roles: list[ClusterRole]
    cluster_bindings: list[ClusterRoleBinding]
    roles: list[Role]
    bindings: list[RoleBinding]


def bootstrap_policy() -> Policy:
    """The whole policy, made anew each time."""
    roles = [_cluster_role(name, rules) for name, rules in _ROLES.items()]
    roles += [_aggregated(name, larger) for name, larger in AGGREGATED.items()]
    roles += [_cluster_role(name, rules, {f"{AGGREGATE}{part}": "true"}) for name, (part, rules) in _PARTS.items()]
    roles += [_cluster_role(CONTROLLER + name, rules) for name, rules in CONTROLLERS.items()]
    bindings = [_cluster_binding(role, subjects) for role, subjects in _BOUND.items()]
    bindings += [_cluster_binding(CONTROLLER + name, [("ServiceAccount", name)]) for name in CONTROLLERS]
    namespaced = [_namespaced(*one) for one in NAMESPACED]
    return Policy(roles, bindings, [role for role, _ in namespaced], [binding for _, binding in namespaced])


def rules_of(text: str) -> list[PolicyRule]:
    """The rules of lines as the module's text says."""
    return [_rule(line.split()) for line in text.strip().splitlines()]


def _rule(words: Sequence[str]) -> PolicyRule:
    verbs = _VERBS.get(words[0], words[0]).split(",")
    if len(words) == 2:
        return PolicyRule(verbs=verbs, nonResourceURLs=words[1].split(","))
    groups = ["" if group == "core" else group for group in words[1].split(",")]
    names = words[3].split(",") if len(words) > 3 else []
    return PolicyRule(verbs=verbs, apiGroups=groups, resources=words[2].split(","), resourceNames=names)


def _meta(name: str, labels: dict[str, str] | None = None, namespace: str = "") -> ObjectMeta:
    return ObjectMeta(name=name, namespace=namespace, labels=LABELS | (labels or {}), annotations={AUTO_UPDATE: "true"})


def _cluster_role(name: str, rules: str, labels: dict[str, str] | None = None) -> ClusterRole:
    return ClusterRole(metadata=_meta(name, labels), rules=rules_of(rules))


def _aggregated(name: str, larger: str) -> ClusterRole:
    labels = {f"{AGGREGATE}{larger}": "true"} if larger else {}
    selector = LabelSelector(matchLabels={f"{AGGREGATE}{name}": "true"})
    return ClusterRole(metadata=_meta(name, labels), aggregationRule=AggregationRule(clusterRoleSelectors=[selector]))


def _cluster_binding(role: str, subjects: Sequence[tuple[str, str]]) -> ClusterRoleBinding:
    reference = RoleRef(kind="ClusterRole", apiGroup=GROUP, name=role)
    return ClusterRoleBinding(
        metadata=_meta(role), roleRef=reference, subjects=[_subject(kind, who) for kind, who in subjects]
    )


def _namespaced(namespace: str, name: str, rules: str, subjects: Sequence[tuple[str, str]]) -> tuple[Role, RoleBinding]:
    role = Role(metadata=_meta(name, namespace=namespace), rules=rules_of(rules))
    binding = RoleBinding(
        metadata=_meta(BINDING_NAMES.get(name, name), namespace=namespace),
        roleRef=RoleRef(kind="Role", apiGroup=GROUP, name=name),
        subjects=[_subject(kind, who) for kind, who in subjects],
    )
    return role, binding


def _subject(kind: str, name: str) -> Subject:
    if kind == "ServiceAccount":
        return Subject(kind=kind, name=name, namespace="kube-system")
    return Subject(kind=kind, apiGroup=GROUP, name=name)
