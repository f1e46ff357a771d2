"""The garbage collector: what has lost its owners goes, and owners wait for, or let go of, what they own.

In: the metadata of every stored kind, followed by reflectors of its own and kept as an `OwnerGraph`. Out: deletes, and
patches of `ownerReferences` and `finalizers`, each at the revision that was seen. Follows Kubernetes' garbage
collector: an owner is the uid in a reference, looked up live before anything is deleted for its absence;
`foregroundDeletion` on an owner deletes its blocking dependants first; `orphan` removes the references instead. Keys
are `plural.group|namespace|name|uid`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from barque.api import resources
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.api.types.meta_v1 import OwnerReference
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.patches import patch_at
from barque.client.queue import WorkQueue
from barque.client.reflector import SLICE, Reflector
from barque.client.supervise import run_all
from barque.client.verbs import Target
from barque.master.controllers.ownership import FOREGROUND, ORPHAN, Item, OwnerGraph, read_item

log = logging.getLogger(__name__)

# Nothing waits for garbage as long as each step of a cascade begins at once.
GATHER_S = 0.05


class Owners(NamedTuple):
    """An object's references sorted by what has become of the owner."""

    solid: list[OwnerReference]
    dangling: list[OwnerReference]
    waiting: list[OwnerReference]


class GarbageController:
    """Reconciles single objects of any kind."""

    name = "garbage"

    def __init__(self, client: Client, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self.graph = OwnerGraph()
        self._client = client
        self._resources = {r.group_resource: r for r in resources.RESOURCES if r.storage == "store"}
        self._reflectors = {
            name: Reflector(client, Target(resource), _Follower(self, name), clock=clock, gather_s=GATHER_S)
            for name, resource in self._resources.items()
        }
        self._synced = False

    async def follow(self) -> None:
        """Keep the graph, until cancelled."""
        await run_all({name: reflector.run() for name, reflector in self._reflectors.items()})

    async def wait_synced(self) -> None:
        """Until the graph knows every kind; only then does it show who has lost an owner."""
        for reflector in self._reflectors.values():
            await reflector.wait_synced()
        self._synced = True
        for count, item in enumerate(self.graph.needy(), 1):
            self.wake([item])
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def wake(self, items: Iterable[Item]) -> None:
        """Have these looked after. Before all kinds are known nothing is: their owners may be yet to come."""
        if self._synced:
            for item in items:
                self.queue.add(f"{item.resource}|{item.namespace}|{item.name}|{item.uid}")

    async def reconcile(self, key: str) -> float | None:
        item = self.graph.get(key.rpartition("|")[2])
        if item is None:
            return None
        if item.deleting:
            if ORPHAN in item.finalizers:
                await self._orphan(item)
            elif FOREGROUND in item.finalizers:
                await self._finish_foreground(item)
            return None
        owners = await self._judge_owners(item)
        if owners.solid:
            gone = {r.uid for r in (*owners.dangling, *owners.waiting)}
            if gone:
                await self._drop_references(item, gone)
        elif owners.waiting and self.graph.dependants(item.uid):
            await self._delete(item, "Foreground")
        elif owners.dangling or owners.waiting:
            log.info("%s: its owners are gone, deleting", item)
            await self._delete(item, "Orphan" if ORPHAN in item.finalizers else "Background")
        return None

    async def _judge_owners(self, item: Item) -> Owners:
        owners = Owners([], [], [])
        for reference in item.owners:
            owner = self.graph.get(reference.uid) or await self._live_owner(reference, item.namespace)
            if owner is None:
                owners.dangling.append(reference)
            elif isinstance(owner, Item) and owner.deleting and FOREGROUND in owner.finalizers:
                owners.waiting.append(reference)
            else:
                owners.solid.append(reference)
        return owners

    async def _live_owner(self, reference: OwnerReference, namespace: str) -> Item | _Unknowable | None:
        """The owner as the store has it now; None where it is certainly gone."""
        try:
            resource = resources.by_kind(reference.apiVersion, reference.kind)
        except ApiError:
            # A kind that is not served says nothing of whether its object is gone: nothing is deleted for it.
            return _UNKNOWABLE
        target = Target(resource, namespace if resource.namespaced else "", reference.name)
        try:
            owner = read_item(resource.group_resource, await self._client.verbs.get(target))
        except ApiError as error:
            if error.reason == "NotFound":
                return None
            raise
        if owner.uid != reference.uid:
            return None
        # From here on the watch tells of its end, and its other dependants need no look-up.
        self.wake(self.graph.put(owner))
        return owner

    async def _finish_foreground(self, owner: Item) -> None:
        """Delete what blocks the owner; once nothing does, let it go."""
        blocking = [
            item
            for item in self.graph.dependants(owner.uid)
            if any(r.uid == owner.uid and r.blockOwnerDeletion for r in item.owners)
        ]
        self.wake(blocking)
        if not blocking:
            await self._drop_finalizer(owner, FOREGROUND)

    async def _orphan(self, owner: Item) -> None:
        answers = await asyncio.gather(
            *(self._drop_references(item, {owner.uid}) for item in self.graph.dependants(owner.uid)),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, BaseException) and getattr(answer, "reason", "") != "NotFound":
                raise answer
        await self._drop_finalizer(owner, ORPHAN)

    async def _drop_references(self, item: Item, uids: set[str]) -> None:
        await self._patch(item, "ownerReferences", [r for r in item.owners if r.uid not in uids])

    async def _drop_finalizer(self, item: Item, finalizer: str) -> None:
        try:
            await self._patch(item, "finalizers", [f for f in item.finalizers if f != finalizer])
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    async def _patch(self, item: Item, field: str, value: object) -> None:
        """Replace one list of the metadata; refused where the object has changed since it was seen."""
        write = patch_at(self._target(item), item.uid, str(item.revision), {"metadata": {field: value}})
        await self._client.verbs.patch(write.target, write.content_type, write.patch)

    async def _delete(self, item: Item, propagation: str) -> None:
        options = {"preconditions": {"uid": item.uid}, "propagationPolicy": propagation}
        try:
            await self._client.verbs.delete(self._target(item), msgspec.json.encode(options))
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    def _target(self, item: Item) -> Target:
        resource: Resource = self._resources[item.resource]
        return Target(resource, item.namespace, item.name)


class _Unknowable:
    """An owner of which nothing can be known."""


_UNKNOWABLE = _Unknowable()


class _Follower:
    """The graph's sink for one resource."""

    def __init__(self, controller: GarbageController, resource: str) -> None:
        self._controller = controller
        self._graph = controller.graph
        self._resource = resource
        self._unlisted: dict[str, Item] = {}

    def begin_list(self) -> None:
        self._unlisted = {item.uid: item for item in self._graph.of_resource(self._resource)}

    def put(self, json: bytes) -> None:
        item = read_item(self._resource, json)
        self._unlisted.pop(item.uid, None)
        self._controller.wake(self._graph.put(item))

    def drop(self, json: bytes) -> None:
        self._controller.wake(self._graph.remove(read_item(self._resource, json)))

    def end_list(self) -> None:
        for item in self._unlisted.values():
            self._controller.wake(self._graph.remove(item))
        self._unlisted = {}
