"""`Groups`: whose pods are spread over nodes and zones, as PodTopologySpread's default constraints have it.

In: services as the watch shows them. Out: the group of a pod: its controller's uid; of a pod on its own, that of the
service that selects it, the oldest where several do; "" where nobody keeps several of its kind.
"""

from __future__ import annotations

from barque.api.types.core_v1 import Service
from barque.api.views import PodView


class Groups:
    """Selectors of services, by namespace."""

    def __init__(self) -> None:
        self._services: dict[str, dict[str, Service]] = {}

    def note(self, old: Service | None, new: Service | None) -> bool:
        """A service has changed; returns whether pods of its namespace may belong to another group now."""
        known = new or old
        assert known is not None
        held = self._services.setdefault(known.metadata.namespace, {})
        held.pop(known.metadata.uid, None)
        if new is not None and new.spec.selector:
            held[new.metadata.uid] = new
        if not held:
            del self._services[known.metadata.namespace]
        return (old.spec.selector if old else {}) != (new.spec.selector if new else {})

    def of(self, pod: PodView) -> str:
        """The group of a pod."""
        controller = controller_of(pod)
        if controller:
            return controller
        services = self._services.get(pod.metadata.namespace, {}).values()
        labels = pod.metadata.labels.items()
        selecting = (s.metadata for s in services if s.spec.selector.items() <= labels)
        oldest = min(((meta.creationTimestamp, meta.uid) for meta in selecting), default=("", ""))
        return oldest[1]


def controller_of(pod: PodView) -> str:
    """The uid of the pod's controller, "" for a pod on its own."""
    return next((r.uid for r in pod.metadata.ownerReferences if r.controller), "")
