"""The namespace controller: empties a namespace that is being deleted, then lets it go.

In: informer of Namespaces. Out: deletes of everything in a Terminating namespace, its condition saying what is left,
and, once nothing is, an update that takes `kubernetes` out of `spec.finalizers`. The lists are live, not cached:
nothing created in the last moment may be left behind. The registry admits no creates into a Terminating namespace.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter

import msgspec

from barque.api import conditions, resources
from barque.api.errors import ApiError
from barque.api.types.core_v1 import Namespace, NamespaceCondition
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.views import PodView
from barque.client.client import Client
from barque.client.clock import Clock, timestamp
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.client.verbs import Delete, Target

log = logging.getLogger(__name__)

FINALIZER = "kubernetes"
# Pods stop in their own time; each that goes wakes us, and this looks after what has gone unseen.
LOOK_AGAIN_S = 2.0
BATCH = 200


class _Item(msgspec.Struct):
    metadata: ObjectMeta


_items = msgspec.json.Decoder(_Item)


class NamespaceController:
    """Reconciles Namespaces by name."""

    name = "namespace"

    def __init__(self, client: Client, informers: Informers, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._clock = clock
        self._namespaces = informers.of(Namespace)
        self._namespaces.add_handler(self._handle_namespace)
        informers.of(PodView).add_handler(self._handle_pod)

    def _handle_namespace(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and new.metadata.deletionTimestamp:
            self.queue.add(new.metadata.name)

    def _handle_pod(self, old: PodView | None, new: PodView | None) -> None:
        if new is None and old is not None:
            namespace = self._namespaces.get(old.metadata.namespace)
            if namespace is not None and namespace.metadata.deletionTimestamp:
                self.queue.add(namespace.metadata.name)

    async def reconcile(self, key: str) -> float | None:
        cached = self._namespaces.get(key)
        if cached is None or not cached.metadata.deletionTimestamp or FINALIZER not in cached.spec.finalizers:
            return None
        left = await self._empty(key)
        try:
            namespace = await self._client.get(Namespace, key)
            if left:
                await self._say_left(namespace, left)
                return LOOK_AGAIN_S
            changed = copy.deepcopy(namespace)
            changed.spec.finalizers = [f for f in namespace.spec.finalizers if f != FINALIZER]
            await self._client.update(changed)
        except ApiError as error:
            if error.reason != "NotFound":
                raise
        log.info("namespace %s is empty and gone", key)
        return None

    async def _empty(self, namespace: str) -> Counter[str]:
        """Delete all there is; returns what remains, by resource: things that stop slowly or hold finalizers."""
        left: Counter[str] = Counter()
        for resource in resources.RESOURCES:
            if not resource.namespaced or resource.storage != "store" or "delete" not in resource.verbs:
                continue
            listed = await self._client.verbs.list(Target(resource, namespace))
            metas = [_items.decode(item).metadata for item in listed.items]
            left[f"{resource.plural}.{resource.group}"] += len(metas)
            doomed = [m for m in metas if not m.deletionTimestamp]
            for start in range(0, len(doomed), BATCH):
                deletes = [_delete(Target(resource, namespace, m.name), m.uid) for m in doomed[start : start + BATCH]]
                for answer in await self._client.batch(deletes):
                    if isinstance(answer, ApiError):
                        if answer.reason not in ("NotFound", "Conflict"):
                            raise answer
                    elif not _items.decode(answer).metadata.deletionTimestamp:
                        left[f"{resource.plural}.{resource.group}"] -= 1
        return +left

    async def _say_left(self, namespace: Namespace, left: Counter[str]) -> None:
        counts = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(left.items()))
        condition = NamespaceCondition(
            type="NamespaceContentRemaining",
            status="True",
            reason="SomeResourcesRemain",
            message=f"Some resources are remaining: {counts}",
            lastTransitionTime=timestamp(self._clock.wall()),
        )
        changed = copy.deepcopy(namespace)
        if conditions.set_condition(changed.status.conditions, condition):
            await self._client.update_status(changed)


def _delete(target: Target, uid: str) -> Delete:
    options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
    return Delete(target, msgspec.json.encode(options))
