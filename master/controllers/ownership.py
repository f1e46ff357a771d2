"""Who owns whom, across all kinds, as far as garbage collection needs to know; no I/O.

In: the metadata of every object that comes, changes and goes (`OwnerGraph.put`, `remove`). Out: `Care`, who must be
looked after because of it. Held are only objects that have owners, objects that wait for their dependants, and owners
that dependants have been seen of: of tens of thousands of ConfigMaps usually none. So an owner that is not held may
well exist, and whoever judges looks it up live before anything is deleted for its absence.

A reference leads to an owner where uid, kind, name and namespace all fit, as in Kubernetes: a namespaced owner has
dependants in its own namespace only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from barque.api import resources
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.api.types.meta_v1 import OwnerReference

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
# Owners lately seen to go, so that an answer which was under way meanwhile does not bring them back.
_REMEMBERED = 4096


class Item(msgspec.Struct, frozen=True, gc=False):
    """The metadata of one object; `resource` is `pods`, `deployments.apps`, …"""

    resource: str
    namespace: str
    name: str
    uid: str
    revision: int
    deleting: bool
    finalizers: tuple[str, ...]
    owners: tuple[OwnerReference, ...]

    @property
    def waits(self) -> bool:
        """Whether it goes once its dependants have gone or have been let go."""
        return self.deleting and (FOREGROUND in self.finalizers or ORPHAN in self.finalizers)

    @property
    def deletes_dependants(self) -> bool:
        """Whether it goes only after its dependants."""
        return self.deleting and FOREGROUND in self.finalizers

    def __str__(self) -> str:
        return f"{self.resource} {self.namespace}/{self.name}"


class Care(NamedTuple):
    """Who must be looked after: these items, and all dependants of the owner of that uid, who may be thousands."""

    items: Sequence[Item] = ()
    dependants_of: str = ""


class _Metadata(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    deletionTimestamp: str = ""
    finalizers: tuple[str, ...] = ()
    ownerReferences: tuple[OwnerReference, ...] = ()


class _Object(msgspec.Struct, gc=False):
    metadata: _Metadata


_objects = msgspec.json.Decoder(_Object)


def read_item(resource: str, json: bytes) -> Item:
    """The item of an object's JSON, of which only the metadata is read."""
    meta = _objects.decode(json).metadata
    return Item(
        resource,
        meta.namespace,
        meta.name,
        meta.uid,
        int(meta.resourceVersion or 0),
        bool(meta.deletionTimestamp),
        meta.finalizers,
        meta.ownerReferences,
    )


@lru_cache(maxsize=1024)
def resource_of(api_version: str, kind: str) -> Resource | None:
    """What a reference of this kind leads to; None for a kind that is not served."""
    try:
        return resources.by_kind(api_version, kind)
    except ApiError:
        return None


class OwnerGraph:
    """Items by uid, and by the uids of their owners."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._dependants: dict[str, dict[str, Item]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, uid: str) -> Item | None:
        return self._items.get(uid)

    def owner(self, item: Item, reference: OwnerReference) -> Item | None:
        """The owner that one of the item's references leads to, where it is held."""
        owner = self._items.get(reference.uid)
        if owner is None or owner.name != reference.name or owner.namespace not in ("", item.namespace):
            return None
        resource = resource_of(reference.apiVersion, reference.kind)
        return owner if resource is not None and resource.group_resource == owner.resource else None

    def is_gone(self, uid: str) -> bool:
        """Whether the owner was seen to go: then no look-up is needed to know."""
        return uid in self._gone

    def dependants(self, uid: str) -> list[Item]:
        """The items that name this one as an owner."""
        return list(self._dependants.get(uid, {}).values())

    def has_dependants(self, uid: str) -> bool:
        return uid in self._dependants

    def is_blocked(self, uid: str) -> bool:
        """Whether some other item still forbids that this one goes before it."""
        return any(
            item.uid != uid and any(r.uid == uid and r.blockOwnerDeletion for r in item.owners)
            for item in self._dependants.get(uid, {}).values()
        )

    def in_circle(self, item: Item) -> bool:
        """Whether a dependant waits for this item, while this item's owner waits for it."""
        return any(dependant.deletes_dependants for dependant in self._dependants.get(item.uid, {}).values())

    def put(self, item: Item) -> Care:
        """Take in what an object is now. What is known already is ignored."""
        held = self._items.get(item.uid)
        if (held is not None and held.revision >= item.revision) or item.uid in self._gone:
            return Care()
        if not (held or item.owners or item.waits or item.uid in self._dependants):
            return Care()
        self._link(held, item)
        if item.owners or item.waits or item.uid in self._dependants:
            self._items[item.uid] = item
        else:
            self._items.pop(item.uid, None)
        needy = [item] if self.needs_care(item) else []
        if held is not None and held.owners != item.owners:
            needy += self._waiting_owners(held)
        begins_to_wait = item.deletes_dependants and not (held is not None and held.deletes_dependants)
        return Care(needy, item.uid if begins_to_wait and self.has_dependants(item.uid) else "")

    def remove(self, item: Item) -> Care:
        """An object is gone: its dependants need care, and owners that waited for it."""
        held = self._items.pop(item.uid, item)
        self._link(held, None)
        waiting = self._waiting_owners(held)
        if not self.has_dependants(item.uid):
            return Care(waiting)
        self._gone[item.uid] = None
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)
        return Care(waiting, item.uid)

    def of_resource(self, resource: str) -> list[Item]:
        return [item for item in self._items.values() if item.resource == resource]

    def needy(self) -> Iterator[Item]:
        """All items that need care as they stand."""
        return (item for item in list(self._items.values()) if self.needs_care(item))

    def needs_care(self, item: Item) -> bool:
        """Whether an item may have to change: it waits for dependants, or has an owner that goes or is not seen."""
        if item.deleting:
            return item.waits
        owners = (self.owner(item, reference) for reference in item.owners)
        return any(owner is None or owner.deleting for owner in owners)

    def _waiting_owners(self, item: Item) -> list[Item]:
        """Owners that wait for their dependants have one less."""
        owners = (self._items.get(reference.uid) for reference in item.owners)
        return [owner for owner in owners if owner is not None and owner.waits]

    def _link(self, old: Item | None, new: Item | None) -> None:
        for uid in _owner_uids(old):
            held = self._dependants.get(uid)
            if held is not None and old is not None:
                held.pop(old.uid, None)
                if not held:
                    del self._dependants[uid]
                    self._forget_owner(uid, new)
        for uid in _owner_uids(new):
            if new is not None:
                self._dependants.setdefault(uid, {})[new.uid] = new

    def _forget_owner(self, uid: str, new: Item | None) -> None:
        """An item that was held only for its dependants has none any more."""
        owner = self._items.get(uid)
        still = new is not None and any(reference.uid == uid for reference in new.owners)
        if owner is not None and not still and not owner.owners and not owner.waits:
            del self._items[uid]


def _owner_uids(item: Item | None) -> Collection[str]:
    return [reference.uid for reference in item.owners] if item is not None else ()
