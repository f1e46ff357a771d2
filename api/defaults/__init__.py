"""Defaults: what Kubernetes fills in where a manifest is silent.

In: any served object. Out: the same object, changed in place. Guarantees: idempotent, changes nothing that is set, and
quantities come out canonical. A quantity that is nonsense stays as it is, for validation to name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from barque.api.defaults.config import default_namespace, default_secret
from barque.api.defaults.networking import default_endpoint_slice, default_service
from barque.api.defaults.nodes import default_node
from barque.api.defaults.pods import default_pod
from barque.api.defaults.workloads import default_deployment, default_replica_set
from barque.api.types import apps_v1, core_v1, discovery_v1
from barque.api.types.base import Object

_DEFAULTS: dict[type[Object], Callable[[Any], None]] = {
    core_v1.Namespace: default_namespace,
    core_v1.Node: default_node,
    core_v1.Pod: default_pod,
    core_v1.Secret: default_secret,
    core_v1.Service: default_service,
    discovery_v1.EndpointSlice: default_endpoint_slice,
    apps_v1.ReplicaSet: default_replica_set,
    apps_v1.Deployment: default_deployment,
}


def apply_defaults(obj: Object) -> None:
    """Fill in what `obj` leaves unset; kinds without defaults stay as they are."""
    default = _DEFAULTS.get(type(obj))
    if default is not None:
        default(obj)
