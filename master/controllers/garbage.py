"""The garbage collector: what has lost its owners goes, and owners wait for, or let go of, what they own.

In: informers of every stored kind. Out: deletes and updates of `ownerReferences` and `finalizers`. Follows Kubernetes'
garbage collector: an owner is the uid in a reference, looked up live before anything is deleted for its absence;
`foregroundDeletion` on an owner deletes its blocking dependants first; `orphan` removes the references instead.
Keys are `plural.group|namespace|name|uid`.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from barque.api import resources
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.api.types.meta_v1 import OwnerReference
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.client.queue import WorkQueue
from barque.client.verbs import Target
from barque.master.controllers.shared import BY_OWNER, Informers

log = logging.getLogger(__name__)

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Owners(NamedTuple):
    """An object's references sorted by what has become of the owner."""

    solid: list[OwnerReference]
    dangling: list[OwnerReference]
    waiting: list[OwnerReference]


class GarbageController:
    """Reconciles single objects of any kind."""

    name = "garbage"

    def __init__(self, client: Client, informers: Informers, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._informers: dict[str, Informer[Any]] = {}
        self._alive: dict[str, tuple[str, Any]] = {}
        for informer in informers.all():
            resource = resources.by_type(informer.kind)
            self._informers[resource.group_resource] = informer
            informer.add_handler(self._handler_of(resource))

    def _handler_of(self, resource: Resource) -> Any:
        def handle(old: Any, new: Any) -> None:
            if new is None:
                self._alive.pop(old.metadata.uid, None)
                self._wake_dependants(old.metadata.uid)
                for reference in old.metadata.ownerReferences:
                    self._wake_owner(reference.uid)
                return
            self._alive[new.metadata.uid] = (resource.group_resource, new)
            if _needs_care(new, self._alive):
                self.queue.add(_key(resource.group_resource, new))
            if new.metadata.deletionTimestamp and FOREGROUND in new.metadata.finalizers:
                self._wake_dependants(new.metadata.uid)
            elif old is not None and old.metadata.ownerReferences != new.metadata.ownerReferences:
                for reference in old.metadata.ownerReferences:
                    self._wake_owner(reference.uid)

        return handle

    def _dependants(self, uid: str) -> list[tuple[str, Any]]:
        return [(name, obj) for name, informer in self._informers.items() for obj in informer.by_index(BY_OWNER, uid)]

    def _wake_dependants(self, uid: str) -> None:
        for resource, obj in self._dependants(uid):
            self.queue.add(_key(resource, obj))

    def _wake_owner(self, uid: str) -> None:
        """An owner that waits for its dependants has one less."""
        resource, owner = self._alive.get(uid, ("", None))
        if owner is not None and owner.metadata.deletionTimestamp and owner.metadata.finalizers:
            self.queue.add(_key(resource, owner))

    async def reconcile(self, key: str) -> float | None:
        resource, namespace, name, uid = key.split("|")
        obj = self._informers[resource].get(name, namespace)
        if obj is None or obj.metadata.uid != uid:
            return None
        meta = obj.metadata
        if meta.deletionTimestamp:
            if ORPHAN in meta.finalizers:
                await self._orphan(obj)
            elif FOREGROUND in meta.finalizers:
                await self._finish_foreground(obj)
            return None
        owners = await self._judge_owners(obj)
        if owners.solid:
            gone = {r.uid for r in (*owners.dangling, *owners.waiting)}
            if gone:
                await self._drop_references(obj, gone)
        elif owners.waiting and self._dependants(uid):
            await self._delete(obj, "Foreground")
        elif owners.dangling or owners.waiting:
            log.info("%s %s/%s: its owners are gone, deleting", resource, namespace, name)
            await self._delete(obj, "Orphan" if ORPHAN in meta.finalizers else "Background")
        return None

    async def _judge_owners(self, obj: Any) -> Owners:
        owners = Owners([], [], [])
        for reference in obj.metadata.ownerReferences:
            owner = self._alive.get(reference.uid, ("", None))[1]
            if owner is None:
                owner = await self._live_owner(reference, obj.metadata.namespace)
            if owner is None:
                owners.dangling.append(reference)
            elif (
                owner is not _UNKNOWABLE
                and owner.metadata.deletionTimestamp
                and FOREGROUND in owner.metadata.finalizers
            ):
                owners.waiting.append(reference)
            else:
                owners.solid.append(reference)
        return owners

    async def _live_owner(self, reference: OwnerReference, namespace: str) -> Any:
        """The owner as the store has it now; None where it is certainly gone."""
        try:
            resource = resources.by_kind(reference.apiVersion, reference.kind)
        except ApiError:
            # A kind that is not served says nothing of whether its object is gone: nothing is deleted for it.
            return _UNKNOWABLE
        try:
            kind: Any = resource.type
            owner = await self._client.get(kind, reference.name, namespace if resource.namespaced else "")
        except ApiError as error:
            if error.reason == "NotFound":
                return None
            raise
        return owner if owner.metadata.uid == reference.uid else None

    async def _finish_foreground(self, owner: Any) -> None:
        """Delete what blocks the owner; once nothing does, let it go."""
        blocking = [
            (resource, obj)
            for resource, obj in self._dependants(owner.metadata.uid)
            if any(r.uid == owner.metadata.uid and r.blockOwnerDeletion for r in obj.metadata.ownerReferences)
        ]
        for resource, obj in blocking:
            self.queue.add(_key(resource, obj))
        if not blocking:
            await self._drop_finalizer(owner, FOREGROUND)

    async def _orphan(self, owner: Any) -> None:
        dependants = [obj for _, obj in self._dependants(owner.metadata.uid)]
        answers = await asyncio.gather(
            *(self._drop_references(obj, {owner.metadata.uid}) for obj in dependants), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and getattr(answer, "reason", "") != "NotFound":
                raise answer
        await self._drop_finalizer(owner, ORPHAN)

    async def _drop_references(self, obj: Any, uids: set[str]) -> None:
        changed = copy.deepcopy(obj)
        changed.metadata.ownerReferences = [r for r in obj.metadata.ownerReferences if r.uid not in uids]
        await self._client.update(changed)

    async def _drop_finalizer(self, obj: Any, finalizer: str) -> None:
        changed = copy.deepcopy(obj)
        changed.metadata.finalizers = [f for f in obj.metadata.finalizers if f != finalizer]
        try:
            await self._client.update(changed)
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    async def _delete(self, obj: Any, propagation: str) -> None:
        meta = obj.metadata
        options = {"preconditions": {"uid": meta.uid}, "propagationPolicy": propagation}
        target = Target(resources.by_type(type(obj)), meta.namespace, meta.name)
        try:
            await self._client.verbs.delete(target, msgspec.json.encode(options))
        except ApiError as error:
            if error.reason != "NotFound":
                raise


# An owner of which nothing can be known.
_UNKNOWABLE = object()


def _key(resource: str, obj: Any) -> str:
    meta = obj.metadata
    return f"{resource}|{meta.namespace}|{meta.name}|{meta.uid}"


def _needs_care(obj: Any, alive: dict[str, tuple[str, Any]]) -> bool:
    """Whether an object as it now is may have to change: it has an owner we do not see, or waits for dependants."""
    meta = obj.metadata
    if meta.deletionTimestamp:
        return FOREGROUND in meta.finalizers or ORPHAN in meta.finalizers
    references: Sequence[OwnerReference] = meta.ownerReferences
    return any(_is_missing_or_going(alive.get(r.uid)) for r in references)


def _is_missing_or_going(known: tuple[str, Any] | None) -> bool:
    return known is None or bool(known[1].metadata.deletionTimestamp)
