"""Who owns whom, across all kinds, as far as garbage collection needs to know; no I/O.

In: the metadata of every object that comes, changes and goes (`OwnerGraph.put`, `remove`). Out: the items that someone
must look after now. Held are only objects that have owners, objects that wait for their dependants, and owners that
dependants have been seen of: of tens of thousands of ConfigMaps usually none. So an owner that is not held may well
exist, and whoever judges looks it up live before anything is deleted for its absence.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator

import msgspec

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

    def __str__(self) -> str:
        return f"{self.resource} {self.namespace}/{self.name}"


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

    def dependants(self, uid: str) -> list[Item]:
        """The items that name this one as an owner."""
        return list(self._dependants.get(uid, {}).values())

    def put(self, item: Item) -> list[Item]:
        """Take in what an object is now; returns who needs care because of it. What is known already is ignored."""
        held = self._items.get(item.uid)
        if (held is not None and held.revision >= item.revision) or item.uid in self._gone:
            return []
        if not (held or item.owners or item.waits or item.uid in self._dependants):
            return []
        self._link(held, item)
        if item.owners or item.waits or item.uid in self._dependants:
            self._items[item.uid] = item
        else:
            self._items.pop(item.uid, None)
        needy = [item] if self.needs_care(item) else []
        if item.deleting and FOREGROUND in item.finalizers:
            needy += self.dependants(item.uid)
        elif held is not None and held.owners != item.owners:
            needy += self._waiting_owners(held)
        return needy

    def remove(self, item: Item) -> list[Item]:
        """An object is gone; returns who needs care because of it: its dependants, and owners that waited for it."""
        held = self._items.pop(item.uid, item)
        self._link(held, None)
        dependants = self.dependants(item.uid)
        if dependants:
            self._gone[item.uid] = None
            if len(self._gone) > _REMEMBERED:
                self._gone.popitem(last=False)
        return dependants + self._waiting_owners(held)

    def of_resource(self, resource: str) -> list[Item]:
        return [item for item in self._items.values() if item.resource == resource]

    def needy(self) -> Iterator[Item]:
        """All items that need care as they stand."""
        return (item for item in list(self._items.values()) if self.needs_care(item))

    def needs_care(self, item: Item) -> bool:
        """Whether an item may have to change: it waits for dependants, or has an owner that goes or is not seen."""
        if item.deleting:
            return item.waits
        return any(self._is_unseen_or_going(reference.uid) for reference in item.owners)

    def _is_unseen_or_going(self, uid: str) -> bool:
        owner = self._items.get(uid)
        return owner is None or owner.deleting

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
