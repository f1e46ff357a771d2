"""The controllers' informers: one per kind, shared, with the indexes that the controllers ask for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from barque.api import resources
from barque.api.types.apps_v1 import ReplicaSet
from barque.api.types.base import Object
from barque.api.types.core_v1 import Pod, Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.master.controllers.owners import controller_uid

T = TypeVar("T", bound=Object)

# The index of every kind: uids of its owners.
BY_OWNER = "owner"
# Of pods and replica sets: the uid of the controller; "" in "orphan", by namespace, where there is none.
BY_CONTROLLER = "controller"
BY_ORPHANAGE = "orphan"
# Of pods and services.
BY_NAMESPACE = "namespace"
# Of pods: the node they are bound to.
BY_NODE = "node"
# Of endpoint slices: `namespace/service`.
BY_SERVICE = "service"

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


def _owners(obj: Any) -> Iterable[str]:
    return [r.uid for r in obj.metadata.ownerReferences]


def _controller(obj: Any) -> Iterable[str]:
    uid = controller_uid(obj)
    return (uid,) if uid else ()


def _orphanage(obj: Any) -> Iterable[str]:
    return () if controller_uid(obj) else (obj.metadata.namespace,)


def _namespace(obj: Any) -> Iterable[str]:
    return (obj.metadata.namespace,)


def _node(pod: Any) -> Iterable[str]:
    return (pod.spec.nodeName,) if pod.spec.nodeName else ()


def _service(obj: Any) -> Iterable[str]:
    service = obj.metadata.labels.get(SERVICE_NAME_LABEL)
    return (f"{obj.metadata.namespace}/{service}",) if service else ()


_INDEXES: dict[type[Object], dict[str, Callable[[Any], Iterable[str]]]] = {
    Pod: {
        BY_CONTROLLER: _controller,
        BY_ORPHANAGE: _orphanage,
        BY_NAMESPACE: _namespace,
        BY_NODE: _node,
    },
    ReplicaSet: {BY_CONTROLLER: _controller, BY_ORPHANAGE: _orphanage},
    Service: {BY_NAMESPACE: _namespace},
    EndpointSlice: {BY_SERVICE: _service},
}


class Informers:
    """An informer for each replicated kind; made on first request, before `runs()`."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._informers: dict[type[Object], Informer[Any]] = {}

    def of(self, kind: type[T]) -> Informer[T]:
        found = self._informers.get(kind)
        if found is None:
            found = self._informers[kind] = Informer(self._client, kind, clock=self._clock)
            found.add_index(BY_OWNER, _owners)
            for name, key in _INDEXES.get(kind, {}).items():
                found.add_index(name, key)
        return found

    def all(self) -> list[Informer[Any]]:
        """Informers of every kind that is kept in the store."""
        return [self.of(r.type) for r in resources.RESOURCES if r.storage == "store"]

    async def wait_synced(self) -> None:
        for informer in self._informers.values():
            await informer.wait_synced()

    def runs(self) -> dict[str, Coroutine[Any, Any, None]]:
        """The tasks that keep them, by name."""
        return {f"informer of {kind.__name__}": informer.run() for kind, informer in self._informers.items()}
