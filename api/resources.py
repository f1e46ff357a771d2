"""The registry of resources: which kinds Barque serves, under which names, and what may be done with them.

A kind is listed here once its behaviour exists; those that Barque knows but does not serve yet stand in
`barque.api.unserved`, so that they are refused by name. Looking up rows imports no types: a struct's module is imported
on first use of `Resource.type`, so that a process pays only for the groups it touches. Which columns the tables of a
resource have is said in `barque.api.columns`, by group and kind.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from barque.api.errors import ApiError
from barque.api.types.base import Object
from barque.api.unserved import UNSERVED

ALL_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
# A namespace takes everything in it along, so they are deleted one by one.
_SINGLE_VERBS = tuple(verb for verb in ALL_VERBS if verb != "deletecollection")
# Of what a master makes of what it knows, and keeps nowhere.
_READING = ("get", "list")


@dataclass(frozen=True)
class Resource:
    """One served resource.

    `fields` are the selectable fields besides metadata.name and metadata.namespace, as dotted JSON paths; an op carries
    their values so that the store never parses JSON. `storage` is "store" (replicated state), "bus" (Event records),
    "review" (questions, answered and kept nowhere), "binding" (the word which node a pod runs on, kept in that pod), or the
    name of a view: objects that a master makes of what it knows at the moment. `kept_as` is the `apiVersion` in which the
    records of this kind are kept where that is another one (`barque.api.conversion`).
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    storage: str = "store"
    types_module: str = field(default="")
    kept_as: str = ""

    @property
    def group_resource(self) -> str:
        """`pods`, `deployments.apps`: the name in messages and the first part of a store key."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def module(self) -> str:
        """The module of `barque.api.types` that holds the struct."""
        return self.types_module or f"{self.group.split('.')[0] or 'core'}_{self.version}"

    @cached_property
    def stored(self) -> Resource:
        """The resource whose records these are: itself, where it is not kept as another."""
        return by_kind(self.kept_as, self.kind) if self.kept_as else self

    @cached_property
    def type(self) -> type[Object]:
        """The struct of this kind; imports its module on first use."""
        found: type[Object] = getattr(importlib.import_module(f"barque.api.types.{self.module}"), self.kind)
        return found


_REFERENCE_FIELDS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_EVENT_FIELDS = (
    *(f"involvedObject.{name}" for name in _REFERENCE_FIELDS), "reason", "reportingComponent", "source", "type",
)  # fmt: skip
_NEW_EVENT_FIELDS = (
    *(f"regarding.{name}" for name in _REFERENCE_FIELDS), "reason", "reportingController", "type",
)  # fmt: skip
_POD_FIELDS = (
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
    "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
)  # fmt: skip


def _review(group: str, kind: str, *, namespaced: bool = False) -> Resource:
    """A question that is put by creating it: the answer is its status, and nothing is kept."""
    word = kind.lower()
    return Resource(group, "v1", kind, f"{word}s", word, (), (), namespaced, ("create",), storage="review")


RESOURCES: tuple[Resource, ...] = (
    Resource("", "v1", "Namespace", "namespaces", "namespace", ("ns",), (), False, _SINGLE_VERBS, ("status", "finalize"), ("status.phase",)),
    Resource("", "v1", "Node", "nodes", "node", ("no",), (), False, ALL_VERBS, ("status", "proxy"), ("spec.unschedulable",)),
    Resource("", "v1", "Pod", "pods", "pod", ("po",), ("all",), True, ALL_VERBS, ("status", "binding", "ephemeralcontainers", "eviction", "resize", "log", "exec", "attach", "portforward", "proxy"), _POD_FIELDS),
    Resource("", "v1", "PodTemplate", "podtemplates", "podtemplate"),
    Resource("", "v1", "ConfigMap", "configmaps", "configmap", ("cm",)),
    Resource("", "v1", "Secret", "secrets", "secret", fields=("type",)),
    Resource("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", ("sa",), subresources=("token",)),
    Resource(
        "", "v1", "Service", "services", "service", ("svc",), ("all",), True, ALL_VERBS, ("status", "proxy"),
        ("spec.clusterIP", "spec.type"),
    ),
    Resource("", "v1", "Endpoints", "endpoints", "endpoints", ("ep",)),
    Resource("", "v1", "Event", "events", "event", ("ev",), fields=_EVENT_FIELDS, storage="bus"),
    Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice"),
    Resource(
        "apps", "v1", "ReplicaSet", "replicasets", "replicaset", ("rs",), ("all",), True, ALL_VERBS, ("status", "scale"),
        ("status.replicas",),
    ),
    Resource(
        "apps", "v1", "Deployment", "deployments", "deployment", ("deploy",), ("all",), True, ALL_VERBS, ("status", "scale"),
    ),
    Resource("coordination.k8s.io", "v1", "Lease", "leases", "lease"),
    Resource(
        "events.k8s.io", "v1", "Event", "events", "event", ("ev",), fields=_NEW_EVENT_FIELDS, storage="bus", kept_as="v1",
    ),
    Resource(
        "certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", "certificatesigningrequest",
        ("csr",), (), False, ALL_VERBS, ("status", "approval"), ("spec.signerName",),
    ),
    Resource("rbac.authorization.k8s.io", "v1", "Role", "roles", "role"),
    Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "clusterrole", namespaced=False),
    Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "rolebinding"),
    Resource("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding", namespaced=False),
    Resource("", "v1", "Binding", "bindings", "binding", verbs=("create",), storage="binding"),
    _review("authentication.k8s.io", "TokenReview"),
    _review("authentication.k8s.io", "SelfSubjectReview"),
    _review("authorization.k8s.io", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "SubjectAccessReview"),
    _review("authorization.k8s.io", "LocalSubjectAccessReview", namespaced=True),
    Resource("", "v1", "ComponentStatus", "componentstatuses", "componentstatus", ("cs",), (), False, _READING, storage="components"),
    # After the core's nodes and pods, which those words mean; these are `nodes.metrics.k8s.io` or `nodemetrics`.
    Resource("metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", "nodemetrics", (), (), False, _READING, storage="usage"),
    Resource("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", "podmetrics", (), (), True, _READING, storage="usage"),
)  # fmt: skip

# Without a version the first one listed is meant.
_BY_PLURAL = {(r.group, r.plural, version): r for r in reversed(RESOURCES) for version in ("", r.version)}
_BY_KIND = {(r.api_version, r.kind): r for r in RESOURCES}
_BY_STRUCT = {(f"barque.api.types.{r.module}", r.kind): r for r in RESOURCES}


def by_plural(group: str, plural: str, version: str = "") -> Resource:
    """The resource of a target. Raises 404 where it is not served."""
    found = _BY_PLURAL.get((group, plural, version))
    if found is None:
        other = _BY_PLURAL.get((group, plural, ""))
        if other is not None:
            raise ApiError(404, "NotFound", f"barque serves {other.group_resource} as {other.api_version} only")
        name = f"{plural}.{group}" if group else plural
        yet = " yet" if any((u.group, u.plural) == (group, plural) for u in UNSERVED) else ""
        raise ApiError(404, "NotFound", f"barque does not serve resource {name}{yet}")
    return found


def is_known(group: str, plural: str) -> bool:
    """Whether there is such a resource in some version, served or not yet."""
    return (group, plural, "") in _BY_PLURAL or any((u.group, u.plural) == (group, plural) for u in UNSERVED)


def by_kind(api_version: str, kind: str) -> Resource:
    """The resource of a manifest's `apiVersion` and `kind`.

    Raises 404: of a kind that Barque does not serve yet, saying so; of any other in Kubernetes' words, naming near ones.
    """
    found = _BY_KIND.get((api_version, kind))
    if found is not None:
        return found
    if any((u.api_version, u.kind) == (api_version, kind) for u in UNSERVED):
        raise ApiError(404, "NotFound", f"barque does not serve {kind} of {api_version} yet")
    raise ApiError(404, "NotFound", f'no matches for kind "{kind}" in version "{api_version}"{_near_kinds(kind)}')


def by_type(kind: type[Object]) -> Resource:
    """The resource whose struct this is."""
    found = _BY_STRUCT.get((kind.__module__, kind.__name__))
    if found is None:
        raise LookupError(f"{kind.__qualname__} is not a served kind")
    return found


def by_word(word: str) -> Resource:
    """The resource a person means: plural, singular, short name, kind, each also as `name.group`, in any case."""
    wanted, _, group = word.lower().partition(".")
    for resource in RESOURCES:
        names = {resource.plural, resource.singular, resource.kind.lower(), *resource.short_names}
        if wanted in names and (not group or group in (resource.group, f"{resource.version}.{resource.group}")):
            return resource
    for known in UNSERVED:
        if wanted in (known.plural, known.kind.lower(), *known.short_names) and group in ("", known.group):
            raise ApiError(404, "NotFound", f"barque does not serve {known.plural} of {known.api_version} yet")
    names = {name for r in RESOURCES for name in (r.kind, r.plural, r.singular)}
    near = difflib.get_close_matches(word, sorted(names), n=3, cutoff=0.6)
    hint = _did_you_mean(near) or "; `barque api-resources` lists those there are"
    raise ApiError(404, "NotFound", f'the server doesn\'t have a resource type "{word}"{hint}')


def stored_resources() -> list[Resource]:
    """Those whose records are replicated state: each kind once, in the version that its records are kept in."""
    return [r for r in RESOURCES if r.storage == "store" and not r.kept_as]


def by_category(category: str) -> list[Resource]:
    return [r for r in RESOURCES if category in r.categories]


def _near_kinds(kind: str) -> str:
    """The versions that this very kind is served in, or else kinds spelt much like it."""
    same = [f"{r.kind} of {r.api_version}" for r in RESOURCES if r.kind.lower() == kind.lower()]
    return _did_you_mean(same or difflib.get_close_matches(kind, [r.kind for r in RESOURCES], n=3, cutoff=0.6))


def _did_you_mean(words: Iterable[str]) -> str:
    listed = " or ".join(dict.fromkeys(words))
    return f"; did you mean {listed}?" if listed else ""
