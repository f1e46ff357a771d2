"""The garbage collector: what has lost its owners goes, and owners wait for, or let go of, what they own.

In: the metadata of every stored kind, followed by reflectors of its own and kept as an `OwnerGraph`. Out: deletes, and
patches of `ownerReferences` and `finalizers`, each refused where the object is no longer as it was seen. Follows
Kubernetes' garbage collector: an owner is what a reference's uid, kind and name lead to in the dependant's own
namespace or cluster-wide, looked up live before anything is deleted for its absence; `foregroundDeletion` on an owner
deletes its dependants first and waits for those that block it; `orphan` removes the references instead. Keys are
`plural.group|namespace|name|uid`, or `dependants|uid` for all that an owner has.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

import msgspec

from barque.api import resources
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.api.types.meta_v1 import ObjectMeta, OwnerReference
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.patches import patch_at
from barque.client.queue import WorkQueue
from barque.client.recorder import EventRecorder
from barque.client.reflector import SLICE, Reflector
from barque.client.supervise import run_all
from barque.client.verbs import Patch, Target, Write
from barque.master.controllers.ownership import FOREGROUND, ORPHAN, Care, Item, OwnerGraph, read_item, resource_of

log = logging.getLogger(__name__)

# Nothing waits for garbage as long as each step of a cascade begins at once.
GATHER_S = 0.05
# An owner that waits for its dependants is looked after this much later: each kind is followed on its own, and what was
# written before the owner's deletion must have been seen before it is let go.
LAG_S = 2 * GATHER_S
# Kubernetes' figure: single deletes of a cascade share commits when so many are under way.
WORKERS = 20
# References removed at once.
BATCH = 200
_DEPENDANTS = "dependants"


class Owners(NamedTuple):
    """An object's references sorted by what has become of the owner."""

    solid: list[OwnerReference]
    dangling: list[OwnerReference]
    waiting: list[OwnerReference]


class GarbageController:
    """Reconciles single objects of any kind."""

    name = "garbage"

    def __init__(self, client: Client, recorder: EventRecorder, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self.graph = OwnerGraph()
        self._client = client
        self._recorder = recorder
        self._resources = {r.group_resource: r for r in resources.stored_resources()}
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
            self.wake(Care([item]))
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def wake(self, care: Care) -> None:
        """Have these looked after. Before all kinds are known nothing is: their owners may be yet to come."""
        if not self._synced:
            return
        for item in care.items:
            key = f"{item.resource}|{item.namespace}|{item.name}|{item.uid}"
            if item.waits:
                self.queue.add_after(key, LAG_S)
            else:
                self.queue.add(key)
        if care.dependants_of:
            self.queue.add(f"{_DEPENDANTS}|{care.dependants_of}")

    async def reconcile(self, key: str) -> float | None:
        uid = key.rpartition("|")[2]
        if key.startswith(_DEPENDANTS):
            await self._wake_dependants(uid)
            return None
        item = self.graph.get(uid)
        if item is None:
            return None
        if not item.deleting:
            await self._collect(item)
        elif ORPHAN in item.finalizers:
            await self._orphan(item)
        elif FOREGROUND in item.finalizers and not self.graph.is_blocked(uid):
            await self._drop_finalizer(item, FOREGROUND)
        return None

    async def _wake_dependants(self, uid: str) -> None:
        for count, item in enumerate(self.graph.dependants(uid), 1):
            if not item.deleting:
                self.wake(Care([item]))
            if count % SLICE == 0:
                await asyncio.sleep(0)

    async def _collect(self, item: Item) -> None:
        """Delete what no owner keeps; of what one keeps, remove the references to others."""
        owners = await self._judge_owners(item)
        if owners is None:
            return
        if owners.solid:
            gone = {r.uid for r in (*owners.dangling, *owners.waiting)}
            if gone:
                await self._send(self._without(item, gone))
        elif owners.waiting and self.graph.has_dependants(item.uid):
            if self.graph.in_circle(item) and any(r.blockOwnerDeletion for r in item.owners):
                # Each would wait for the other for ever. The change wakes us for the deletion.
                await self._send(self._unblocking(item))
            else:
                await self._delete(item, "Foreground")
        elif owners.dangling or owners.waiting:
            log.info("%s: its owners are gone, deleting", item)
            await self._delete(item, _propagation(item))

    async def _judge_owners(self, item: Item) -> Owners | None:
        """None where of some owner nothing can be known; then nothing is done, as in Kubernetes."""
        owners = Owners([], [], [])
        for reference in item.owners:
            owner = self.graph.owner(item, reference)
            if owner is None and not self.graph.is_gone(reference.uid):
                resource = resource_of(reference.apiVersion, reference.kind)
                if resource is None or (resource.namespaced and not item.namespace):
                    self._say_misplaced(item, reference)
                    return None
                owner = await self._live_owner(resource, reference, item)
            if owner is None:
                owners.dangling.append(reference)
            elif owner.deletes_dependants:
                owners.waiting.append(reference)
            else:
                owners.solid.append(reference)
        return owners

    async def _live_owner(self, resource: Resource, reference: OwnerReference, item: Item) -> Item | None:
        """The owner as the store has it now; None where it is certainly gone."""
        target = Target(resource, item.namespace if resource.namespaced else "", reference.name)
        try:
            owner = read_item(resource.group_resource, await self._client.verbs.get(target))
        except ApiError as error:
            if error.reason != "NotFound":
                raise
            owner = None
        if owner is None or owner.uid != reference.uid:
            self._say_misplaced(item, reference)
            return None
        if resource.group_resource in self._resources:
            # From here on the watch tells of its end, and its other dependants need no look-up.
            self.wake(self.graph.put(owner))
        return owner

    def _say_misplaced(self, item: Item, reference: OwnerReference) -> None:
        """Tell the user where the owner exists, but not in the dependant's namespace."""
        owner = self.graph.get(reference.uid)
        if owner is None or owner.namespace in ("", item.namespace):
            return
        said = f"[{reference.apiVersion}/{reference.kind}, namespace: {item.namespace}, name: {reference.name}, uid: "
        about = self._resources[item.resource].type(
            metadata=ObjectMeta(name=item.name, namespace=item.namespace, uid=item.uid)
        )
        message = f'ownerRef {said}{reference.uid}] does not exist in namespace "{item.namespace}"'
        self._recorder.event(about, "Warning", "OwnerRefInvalidNamespace", message)

    async def _orphan(self, owner: Item) -> None:
        """Take the owner out of its dependants' references, then let it go."""
        dependants = self.graph.dependants(owner.uid)
        for start in range(0, len(dependants), BATCH):
            writes: list[Write] = [self._without(d, {owner.uid}) for d in dependants[start : start + BATCH]]
            for answer in await self._client.batch(writes):
                if isinstance(answer, ApiError) and answer.reason != "NotFound":
                    raise answer
        await self._drop_finalizer(owner, ORPHAN)

    async def _drop_finalizer(self, item: Item, finalizer: str) -> None:
        await self._send(self._patch(item, "finalizers", [f for f in item.finalizers if f != finalizer]))

    def _without(self, item: Item, uids: set[str]) -> Patch:
        """The item without the references to these owners."""
        return self._patch(item, "ownerReferences", [r for r in item.owners if r.uid not in uids])

    def _unblocking(self, item: Item) -> Patch:
        """The item with no claim to go before its owners."""
        freed = [msgspec.structs.replace(r, blockOwnerDeletion=False) for r in item.owners]
        return self._patch(item, "ownerReferences", freed)

    def _patch(self, item: Item, field: str, value: object) -> Patch:
        """Replace one list of the metadata; refused where the object has changed since it was seen."""
        return patch_at(self._target(item), item.uid, str(item.revision), {"metadata": {field: value}})

    async def _send(self, write: Patch) -> None:
        try:
            await self._client.verbs.patch(write.target, write.content_type, write.patch)
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    async def _delete(self, item: Item, propagation: str) -> None:
        """Delete the item as it was seen: one that has got an owner meanwhile, or lost a reference, is judged anew."""
        seen = {"uid": item.uid, "resourceVersion": str(item.revision)}
        options = {"preconditions": seen, "propagationPolicy": propagation}
        try:
            await self._client.verbs.delete(self._target(item), msgspec.json.encode(options))
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    def _target(self, item: Item) -> Target:
        return Target(self._resources[item.resource], item.namespace, item.name)


def _propagation(item: Item) -> str:
    """What becomes of the dependants: what the item's own finalizers say, else they go after it."""
    if ORPHAN in item.finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in item.finalizers else "Background"


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
