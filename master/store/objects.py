"""`Objects`: the applied objects in memory, by resource, namespace and name, and by `spec.nodeName`.

A list of a whole resource or namespace is a picture that costs microseconds (see `rows`); others cost what they look
at. Objects that come and go leave nothing behind. No I/O, no clock.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

from barque.master.store.port import NAME_FIELD, NAMESPACE_FIELD, Filter, Key, Stored
from barque.master.store.rows import Rows, SortedRows

NODE_FIELD = "spec.nodeName"

_EMPTY: dict[str, str] = {}

# Fields beyond these mostly hold something of the object's own (a pod's address): sharing them would not pay.
_SHARED_FIELDS = 2

# Label sets are few and repeat (all pods of a ReplicaSet have the same): equal ones share one dict. The bound only
# keeps the table from outgrowing what it saves; a full table starts over.
_SHARED_DICTS = 4096


class _Space:
    """The objects of one resource in one namespace."""

    __slots__ = ("rows", "stored")

    def __init__(self) -> None:
        self.rows = SortedRows()
        self.stored: dict[str, Stored] = {}


class Objects:
    def __init__(self) -> None:
        self._resources: dict[str, dict[str, _Space]] = {}
        self._nodes: dict[tuple[str, str], dict[Key, Stored]] = {}
        self._shared: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, key: Key) -> Stored | None:
        spaces = self._resources.get(key.resource)
        if spaces is None:
            return None
        space = spaces.get(key.namespace)
        return None if space is None else space.stored.get(key.name)

    def put(self, stored: Stored, before: Stored | None) -> None:
        """`before` is what `get(stored.key)` returns."""
        key = stored.key
        if before is None:
            spaces = self._resources.setdefault(key.resource, {})
            space = spaces.get(key.namespace)
            if space is None:
                space = spaces[key.namespace] = _Space()
            space.rows.insert(stored)
            self._count += 1
        else:
            space = self._resources[key.resource][key.namespace]
            space.rows.replace(stored)
            if NODE_FIELD in before.other_fields:
                self._leave_node(before)
        space.stored[key.name] = stored
        node = stored.other_fields.get(NODE_FIELD)
        if node:
            self._nodes.setdefault((key.resource, node), {})[key] = stored

    def remove(self, before: Stored) -> None:
        """`before` is what `get(key)` returns."""
        key = before.key
        spaces = self._resources[key.resource]
        space = spaces[key.namespace]
        del space.stored[key.name]
        space.rows.remove(key.name)
        if not space.stored:
            del spaces[key.namespace]
            if not spaces:
                del self._resources[key.resource]
        self._count -= 1
        self._leave_node(before)

    def select(self, resource: str, selected: Filter) -> Sequence[Stored]:
        """What the filter selects, ordered by namespace and name."""
        if selected == Filter(namespace=selected.namespace):
            return self._picture(resource, selected.namespace)
        candidates = self._candidates(resource, selected)
        return [stored for stored in candidates if selects(selected, stored)]

    def select_at(
        self, resource: str, selected: Filter, revision: int, superseded: Iterable[Stored]
    ) -> Sequence[Stored]:
        """As `select` at an older revision; `superseded` stood then and does no longer."""
        namespace = selected.namespace
        if namespace:
            superseded = [stored for stored in superseded if stored.key.namespace == namespace]
        then = self._picture(resource, namespace).at(revision, superseded)
        if selected == Filter(namespace=namespace):
            return then
        return [stored for stored in then if selects(selected, stored)]

    def all(self) -> Rows:
        """Every object, each namespace in order: what a snapshot holds while writes go on."""
        spaces = (space for of_resource in self._resources.values() for space in of_resource.values())
        return Rows(chunk for space in spaces for chunk in space.rows.picture())

    def compact(
        self, key: Key, labels: dict[str, str], fields: dict[str, str], before: Stored | None
    ) -> tuple[Key, dict[str, str], dict[str, str]]:
        """The same three, sharing what other objects or the object's last state already hold; of the fields those
        that the key does not tell.
        """
        others = {f: v for f, v in fields.items() if f not in (NAME_FIELD, NAMESPACE_FIELD)}
        if before is None:
            key = Key(sys.intern(key.resource), sys.intern(key.namespace), key.name)
        else:
            key = before.key
            labels = before.labels if before.labels == labels else labels
            others = before.other_fields if before.other_fields == others else others
        if before is None or labels is not before.labels:
            labels = self._share(labels)
        if before is None or others is not before.other_fields:
            others = {sys.intern(f): sys.intern(v) for f, v in others.items()}
            others = self._share(others) if len(others) <= _SHARED_FIELDS else others
        return key, labels, others

    def _share(self, content: dict[str, str]) -> dict[str, str]:
        """The one dictionary of this content."""
        if not content:
            return _EMPTY
        items = tuple(content.items())
        shared = self._shared.get(items)
        if shared is None:
            if len(self._shared) >= _SHARED_DICTS:
                self._shared.clear()
            shared = self._shared[items] = {sys.intern(k): v for k, v in items}
        return shared

    def _candidates(self, resource: str, selected: Filter) -> Iterable[Stored]:
        """A superset of what is selected, in order, by the narrowest index there is."""
        if selected.node:
            on_node = self._nodes.get((resource, selected.node), {})
            return (on_node[key] for key in sorted(on_node))
        if selected.name:
            return self._named(resource, selected)
        return self._picture(resource, selected.namespace)

    def _named(self, resource: str, selected: Filter) -> Iterator[Stored]:
        for _, space in self._spaces(resource, selected.namespace):
            found = space.stored.get(selected.name)
            if found is not None:
                yield found

    def _picture(self, resource: str, namespace: str) -> Rows:
        return Rows(chunk for _, space in self._spaces(resource, namespace) for chunk in space.rows.picture())

    def _spaces(self, resource: str, namespace: str) -> Iterable[tuple[str, _Space]]:
        """The spaces of a namespace ("": of all, in order)."""
        spaces = self._resources.get(resource, {})
        if not namespace:
            return sorted(spaces.items(), key=itemgetter(0))
        return [(namespace, spaces[namespace])] if namespace in spaces else []

    def _leave_node(self, before: Stored) -> None:
        node = before.other_fields.get(NODE_FIELD)
        if not node:
            return
        at = (before.key.resource, node)
        on_node = self._nodes[at]
        del on_node[before.key]
        if not on_node:
            del self._nodes[at]


def selects(selected: Filter, stored: Stored) -> bool:
    """Whether the filter selects this state of an object."""
    key = stored.key
    return (
        selected.namespace in ("", key.namespace)
        and selected.name in ("", key.name)
        and (selected.node is None or selected.node == stored.other_fields.get(NODE_FIELD, ""))
        and (selected.matches is None or selected.matches(stored.labels, stored.fields))
    )
