"""What an accepted object's sender should know: fields that are ignored, deprecated, or likely not meant so.

In: objects as they passed validation, defaulted. Out: sentences in Kubernetes' words, which clients print after
"Warning:"; they refuse nothing. Follows the `WarningsOnCreate` and `WarningsOnUpdate` of Kubernetes' strategies, but
for what Barque refuses anyway, and its deprecated APIs. A new kind is a row in `_WARNINGS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from barque.api.resources import Resource
from barque.api.types import apps_v1, core_v1, discovery_v1
from barque.api.types.base import Object
from barque.api.warnings import addresses, config, pods, services, workloads


class _Warnings(NamedTuple):
    """Of a kind: about a new object, and about a changed one as the successor of what it was."""

    create: Callable[[Any], list[str]]
    update: Callable[[Any, Any], list[str]]


def _nothing(_new: Any, _old: Any) -> list[str]:
    return []


_WARNINGS: dict[type[Object], _Warnings] = {
    # As in Kubernetes, where hardly anybody changes pods by hand.
    core_v1.Pod: _Warnings(pods.about_pod, _nothing),
    core_v1.PodTemplate: _Warnings(workloads.about_pod_template, workloads.about_changed_pod_template),
    core_v1.Service: _Warnings(services.about_service, lambda new, _: services.about_service(new)),
    core_v1.ServiceAccount: _Warnings(config.about_account, config.about_changed_account),
    core_v1.Endpoints: _Warnings(addresses.about_endpoints, lambda new, _: addresses.about_endpoints(new)),
    discovery_v1.EndpointSlice: _Warnings(addresses.about_slice, lambda new, _: addresses.about_slice(new)),
    apps_v1.Deployment: _Warnings(workloads.about_workload, workloads.about_changed_workload),
    apps_v1.ReplicaSet: _Warnings(workloads.about_workload, workloads.about_changed_workload),
}
_DEPRECATED = {
    "componentstatuses": "v1 ComponentStatus is deprecated in v1.19+",
    "endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
}


def about_new(obj: Object) -> list[str]:
    """What to say of an object that is being created."""
    known = _WARNINGS.get(type(obj))
    return known.create(obj) if known is not None else []


def about_changed(new: Object, old: Object) -> list[str]:
    """What to say of an object that is being changed."""
    known = _WARNINGS.get(type(new))
    return known.update(new, old) if known is not None else []


def about_resource(resource: Resource) -> str:
    """What to say of any use of a resource, "" for nothing."""
    return _DEPRECATED.get(resource.group_resource, "")
