"""The indexes of the controllers' shared informers: by which values objects are found, and under which names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from barque.api.types.apps_v1 import Deployment, ReplicaSet
from barque.api.types.base import Object
from barque.api.types.core_v1 import Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.api.views import PodView
from barque.client.informers import Informers
from barque.master.controllers.owners import controller_uid

# Of pods and replica sets: the uid of the controller; "" in "orphan", by namespace, where there is none.
BY_CONTROLLER = "controller"
BY_ORPHANAGE = "orphan"
# Of pods, deployments and replica sets.
BY_NAMESPACE = "namespace"
# Of pods: the node they are bound to, `UNBOUND` for none.
BY_NODE = "node"
UNBOUND = ""
# Of pods: each of their labels; of services: the first label of their selector, both as `label_key` writes them.
BY_LABEL = "label"
# Of endpoint slices: `namespace/service`.
BY_SERVICE = "service"

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


def label_key(namespace: str, key: str, value: str) -> str:
    return f"{namespace}/{key}={value}"


def _controller(obj: Any) -> Iterable[str]:
    uid = controller_uid(obj)
    return (uid,) if uid else ()


def _orphanage(obj: Any) -> Iterable[str]:
    return () if controller_uid(obj) else (obj.metadata.namespace,)


def _namespace(obj: Any) -> Iterable[str]:
    return (obj.metadata.namespace,)


def _node(pod: Any) -> Iterable[str]:
    return (pod.spec.nodeName or UNBOUND,)


def _labels(pod: Any) -> Iterable[str]:
    meta = pod.metadata
    return [label_key(meta.namespace, key, value) for key, value in meta.labels.items()]


def _selector(service: Any) -> Iterable[str]:
    selector = service.spec.selector
    return [label_key(service.metadata.namespace, *min(selector.items()))] if selector else ()


def _service(obj: Any) -> Iterable[str]:
    service = obj.metadata.labels.get(SERVICE_NAME_LABEL)
    return (f"{obj.metadata.namespace}/{service}",) if service else ()


_INDEXES: dict[type[Object], dict[str, Callable[[Any], Iterable[str]]]] = {
    PodView: {
        BY_CONTROLLER: _controller,
        BY_ORPHANAGE: _orphanage,
        BY_NAMESPACE: _namespace,
        BY_NODE: _node,
        BY_LABEL: _labels,
    },
    Deployment: {BY_NAMESPACE: _namespace},
    ReplicaSet: {BY_CONTROLLER: _controller, BY_ORPHANAGE: _orphanage, BY_NAMESPACE: _namespace},
    Service: {BY_LABEL: _selector},
    EndpointSlice: {BY_SERVICE: _service},
}


def add_indexes(informers: Informers) -> None:
    """Give the informers the indexes that controllers ask for."""
    for kind, indexes in _INDEXES.items():
        for name, key in indexes.items():
            informers.of(kind).add_index(name, key)
