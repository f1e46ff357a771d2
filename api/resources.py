"""The registry of resources: which kinds Barque serves, under which names, and what may be done with them.

A kind is listed here once its behaviour exists. Types are imported on first use, so that a process pays only for the
groups it touches.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from barque.api.errors import ApiError
from barque.api.types.base import Object

ALL_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")


@dataclass(frozen=True)
class Resource:
    """One served resource.

    `fields` are the selectable fields besides metadata.name and metadata.namespace, as dotted JSON paths; an op carries
    their values so that the store never parses JSON. `storage` is "store" (replicated state) or "bus" (Event records).
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

    @property
    def group_resource(self) -> str:
        """`pods`, `deployments.apps`: the name in messages and the first part of a store key."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def type(self) -> type[Object]:
        """The struct of this kind; imports its module on first use."""
        module = self.types_module or f"{self.group.split('.')[0] or 'core'}_{self.version}"
        found: type[Object] = getattr(importlib.import_module(f"barque.api.types.{module}"), self.kind)
        return found


RESOURCES: tuple[Resource, ...] = (
    Resource("", "v1", "Namespace", "namespaces", "namespace", ("ns",), (), False, ALL_VERBS, ("status",), ("status.phase",)),
    Resource("", "v1", "Node", "nodes", "node", ("no",), (), False, ALL_VERBS, ("status",), ("spec.unschedulable",)),
    Resource(
        "", "v1", "Pod", "pods", "pod", ("po",), ("all",), True, ALL_VERBS, ("status", "binding"),
        ("spec.nodeName", "status.phase", "status.podIP", "spec.restartPolicy", "spec.schedulerName"),
    ),
    Resource("", "v1", "ConfigMap", "configmaps", "configmap", ("cm",)),
    Resource("", "v1", "Secret", "secrets", "secret", fields=("type",)),
    Resource(
        "", "v1", "Service", "services", "service", ("svc",), ("all",), True, ALL_VERBS, ("status",),
        ("spec.clusterIP", "spec.type"),
    ),
    Resource(
        "", "v1", "Event", "events", "event", ("ev",),
        fields=(
            "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
            "reason", "type", "reportingComponent",
        ),
        storage="bus",
    ),
    Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice"),
    Resource(
        "apps", "v1", "ReplicaSet", "replicasets", "replicaset", ("rs",), ("all",), True, ALL_VERBS, ("status", "scale"),
        ("status.replicas",),
    ),
    Resource(
        "apps", "v1", "Deployment", "deployments", "deployment", ("deploy",), ("all",), True, ALL_VERBS, ("status", "scale"),
    ),
)  # fmt: skip

_BY_PLURAL = {(r.group, r.plural): r for r in RESOURCES}
_BY_KIND = {(r.api_version, r.kind): r for r in RESOURCES}


def by_plural(group: str, plural: str) -> Resource:
    """The resource of a target. Raises 404 in Kubernetes' words where it is not served."""
    found = _BY_PLURAL.get((group, plural))
    if found is None:
        raise ApiError(404, "NotFound", f"barque does not serve resource {plural}{f'.{group}' if group else ''}")
    return found


def by_kind(api_version: str, kind: str) -> Resource:
    """The resource of a manifest's `apiVersion` and `kind`. Raises 404 naming near kinds."""
    found = _BY_KIND.get((api_version, kind))
    if found is None:
        raise ApiError(404, "NotFound", f"barque does not serve kind {kind} of {api_version}{_hint(kind)}")
    return found


def by_type(kind: type[Object]) -> Resource:
    """The resource whose struct this is."""
    found = next((r for r in RESOURCES if r.kind == kind.__name__ and r.type is kind), None)
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
    raise ApiError(404, "NotFound", f"barque does not serve resource type {word!r}{_hint(word)}")


def by_category(category: str) -> list[Resource]:
    return [r for r in RESOURCES if category in r.categories]


def _hint(word: str) -> str:
    names: Iterable[str] = (n for r in RESOURCES for n in (r.kind, r.plural, r.singular))
    near = difflib.get_close_matches(word, list(names), n=3, cutoff=0.6)
    return (
        f"; did you mean {' or '.join(dict.fromkeys(near))}?"
        if near
        else "; `barque api-resources` lists what it serves"
    )
