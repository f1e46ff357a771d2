"""The namespace controller: empties a namespace that is being deleted, then lets it go.

In: informer of Namespaces. Out: everything in a Terminating namespace deleted, the pods first and the rest once they
have stopped, as in Kubernetes; five conditions that say what is left and why; and, once nothing is, an update that
takes `kubernetes` out of `spec.finalizers`. The lists are live, not cached: nothing created in the last moment may be
left behind. The registry admits no creates into a Terminating namespace.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from barque.api import codec, conditions, resources
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.api.types.core_v1 import Event, Namespace, NamespaceCondition, Pod
from barque.api.views import PodView
from barque.client.client import Client, target_of_object
from barque.client.clock import Clock, timestamp
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.client.verbs import Target

log = logging.getLogger(__name__)

FINALIZER = "kubernetes"
# What stops or is let go in its own time is looked after this often.
LOOK_AGAIN_S = 2.0
# A pod that has gone may have been the last; of many that go together only one look comes.
POD_GONE_S = 0.1
# Objects whose metadata is read before other tasks get the loop.
SLICE = 500
_BACKGROUND = msgspec.json.encode({"propagationPolicy": "Background"})


class Remains(NamedTuple):
    """What is left in a namespace: objects by `plural.group`, objects by finalizer, and refusals met while deleting."""

    objects: Counter[str]
    finalizers: Counter[str]
    failures: list[ApiError]


class _Meta(msgspec.Struct, gc=False):
    deletionTimestamp: str = ""
    finalizers: tuple[str, ...] = ()


class _Item(msgspec.Struct, gc=False):
    metadata: _Meta


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
        pods = resources.by_type(Pod)
        others = [r for r in resources.stored_resources() if r.namespaced and r is not pods]
        self._stages = ([pods], others)

    def _handle_namespace(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and new.metadata.deletionTimestamp:
            self.queue.add(new.metadata.name)

    def _handle_pod(self, old: PodView | None, new: PodView | None) -> None:
        if new is None and old is not None:
            namespace = self._namespaces.get(old.metadata.namespace)
            if namespace is not None and namespace.metadata.deletionTimestamp:
                self.queue.add_after(namespace.metadata.name, POD_GONE_S)

    async def reconcile(self, key: str) -> float | None:
        cached = self._namespaces.get(key)
        if cached is None or not cached.metadata.deletionTimestamp or FINALIZER not in cached.spec.finalizers:
            return None
        remains = await self._empty(key)
        try:
            namespace = await self._client.get(Namespace, key)
            if remains.objects or remains.failures:
                await self._say(namespace, remains)
            else:
                await self._finish(namespace)
        except ApiError as error:
            if error.reason != "NotFound":
                raise
        if remains.failures:
            raise remains.failures[0]
        return LOOK_AGAIN_S if remains.objects else None

    async def _empty(self, namespace: str) -> Remains:
        """Delete all there is, as far as its turn has come."""
        remains = Remains(Counter(), Counter(), [])
        for stage in self._stages:
            for resource in stage:
                try:
                    await self._empty_of(resource, namespace, remains)
                except ApiError as error:
                    remains.failures.append(error)
            if remains.objects or remains.failures:
                break
        return remains

    async def _empty_of(self, resource: Resource, namespace: str, remains: Remains) -> None:
        target = Target(resource, namespace)
        metas = await self._metas(target)
        if any(not meta.deletionTimestamp for meta in metas):
            await self._client.verbs.delete_collection(target, options=_BACKGROUND)
            metas = await self._metas(target)
        if metas:
            remains.objects[f"{resource.plural}.{resource.group}"] = len(metas)
            remains.finalizers.update(finalizer for meta in metas for finalizer in meta.finalizers)

    async def _metas(self, target: Target) -> list[_Meta]:
        listed = (await self._client.verbs.list(target)).items
        metas: list[_Meta] = []
        for start in range(0, len(listed), SLICE):
            metas += [_items.decode(item).metadata for item in listed[start : start + SLICE]]
            await asyncio.sleep(0)
        return metas

    async def _say(self, namespace: Namespace, remains: Remains) -> None:
        changed = copy.deepcopy(namespace)
        stamp = timestamp(self._clock.wall())
        for condition in plan_conditions(remains, stamp):
            conditions.set_condition(changed.status.conditions, condition)
        if changed != namespace:
            await self._client.update_status(changed)

    async def _finish(self, namespace: Namespace) -> None:
        """Let the namespace go, its Events before it."""
        try:
            events = Target(resources.by_type(Event), namespace.metadata.name)
            await self._client.verbs.delete_collection(events)
        except ApiError as error:
            # They end by themselves within the hour, and the bus may be away: no reason to keep a namespace.
            log.info("namespace %s: its events stay for a while: %s", namespace.metadata.name, error.message)
        changed = copy.deepcopy(namespace)
        changed.spec.finalizers = [f for f in namespace.spec.finalizers if f != FINALIZER]
        await self._client.verbs.update(target_of_object(changed, "finalize"), codec.encode(changed))
        log.info("namespace %s is empty and gone", namespace.metadata.name)


def plan_conditions(remains: Remains, stamp: str) -> list[NamespaceCondition]:
    """How far the deletion of a namespace has come, in Kubernetes' words."""
    failed = sorted(error.message for error in remains.failures)
    failures = f"Failed to delete all resource types, {len(failed)} remaining: {', '.join(failed)}" if failed else ""
    objects = _listed("Some resources are remaining", "{} has {} resource instances", remains.objects)
    finalizers = _listed(
        "Some content in the namespace has finalizers remaining", "{} in {} resource instances", remains.finalizers
    )
    deleted = "All content successfully deleted, may be waiting on finalization"
    rows = (
        ("NamespaceDeletionDiscoveryFailure", "", "", "ResourcesDiscovered", "All resources successfully discovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", "", "", "ParsedGroupVersions", _PARSED),
        ("NamespaceDeletionContentFailure", failures, "ContentDeletionFailed", "ContentDeleted", deleted),
        ("NamespaceContentRemaining", objects, "SomeResourcesRemain", "ContentRemoved", _REMOVED),
        ("NamespaceFinalizersRemaining", finalizers, "SomeFinalizersRemain", "ContentHasNoFinalizers", _FINISHED),
    )
    return [
        NamespaceCondition(
            type=type,
            status="True" if trouble else "False",
            reason=bad if trouble else good,
            message=trouble or fine,
            lastTransitionTime=stamp,
        )
        for type, trouble, bad, good, fine in rows
    ]


_PARSED = "All legacy kube types successfully parsed"
_REMOVED = "All content successfully removed"
_FINISHED = "All content-preserving finalizers finished"


def _listed(head: str, form: str, counts: Mapping[str, int]) -> str:
    """One sentence that names every count; "" where there is none."""
    told = ", ".join(form.format(name, count) for name, count in sorted(counts.items()))
    return f"{head}: {told}" if told else ""
