"""`Objects`: the applied objects in memory, by resource, namespace and name, and by `spec.nodeName`.

Reads cost what they return; a list needs no sort because names are kept in order. Objects that come and go leave
nothing behind. No I/O, no clock.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from barque.master.store.port import Filter, Key, Stored

NODE_FIELD = "spec.nodeName"

_EMPTY: dict[str, str] = {}

# Label sets are few and repeat (all pods of a ReplicaSet have the same): equal ones share one dict. The bound only
# keeps the table from outgrowing what it saves; a full table starts over.
_SHARED_LABELS = 4096


class _Space:
    """The objects of one resource in one namespace."""

    __slots__ = ("names", "stored")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.stored: dict[str, Stored] = {}


class Objects:
    def __init__(self) -> None:
        self._resources: dict[str, dict[str, _Space]] = {}
        self._nodes: dict[tuple[str, str], dict[Key, Stored]] = {}
        self._labels: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
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
            names = space.names
            if not names or key.name > names[-1]:
                names.append(key.name)
            else:
                insort(names, key.name)
            self._count += 1
        else:
            space = self._resources[key.resource][key.namespace]
            if NODE_FIELD in before.fields:
                self._leave_node(before)
        space.stored[key.name] = stored
        node = stored.fields.get(NODE_FIELD)
        if node:
            self._nodes.setdefault((key.resource, node), {})[key] = stored

    def remove(self, before: Stored) -> None:
        """`before` is what `get(key)` returns."""
        key = before.key
        spaces = self._resources[key.resource]
        space = spaces[key.namespace]
        del space.stored[key.name]
        del space.names[bisect_left(space.names, key.name)]
        if not space.names:
            del spaces[key.namespace]
            if not spaces:
                del self._resources[key.resource]
        self._count -= 1
        self._leave_node(before)

    def select(self, resource: str, selected: Filter) -> list[Stored]:
        """What the filter selects, ordered by namespace and name."""
        matches = selected.matches
        if matches is None:
            return list(self._candidates(resource, selected))
        return [s for s in self._candidates(resource, selected) if matches(s.labels, s.fields)]

    def all(self) -> list[Stored]:
        """Every object, each namespace in order: the references a snapshot holds while writes go on."""
        found: list[Stored] = []
        for spaces in self._resources.values():
            for space in spaces.values():
                found.extend(map(space.stored.__getitem__, space.names))
        return found

    def compact(
        self, key: Key, labels: dict[str, str], fields: dict[str, str], before: Stored | None
    ) -> tuple[Key, dict[str, str], dict[str, str]]:
        """The same three, sharing what other objects or the object's last state already hold."""
        if before is None:
            key = Key(sys.intern(key.resource), sys.intern(key.namespace), key.name)
        else:
            key = before.key
            labels = before.labels if before.labels == labels else labels
            fields = before.fields if before.fields == fields else fields
        if before is None or labels is not before.labels:
            labels = self._share(labels)
        if before is None or fields is not before.fields:
            name = key.name
            fields = {sys.intern(f): name if v == name else sys.intern(v) for f, v in fields.items()} or _EMPTY
        return key, labels, fields

    def _share(self, labels: dict[str, str]) -> dict[str, str]:
        if not labels:
            return _EMPTY
        content = tuple(labels.items())
        shared = self._labels.get(content)
        if shared is None:
            if len(self._labels) >= _SHARED_LABELS:
                self._labels.clear()
            shared = self._labels[content] = {sys.intern(k): v for k, v in content}
        return shared

    def _candidates(self, resource: str, selected: Filter) -> Iterable[Stored]:
        node = selected.node
        if node:
            on_node = self._nodes.get((resource, node), {})
            return (on_node[k] for k in sorted(on_node) if _placed(k, selected))
        found = self._in_order(resource, selected)
        if node is None:
            return found
        return (s for s in found if not s.fields.get(NODE_FIELD))

    def _in_order(self, resource: str, selected: Filter) -> Iterator[Stored]:
        spaces = self._resources.get(resource, {})
        for namespace in [selected.namespace] if selected.namespace else sorted(spaces):
            space = spaces.get(namespace)
            if space is None:
                continue
            if selected.name:
                found = space.stored.get(selected.name)
                if found is not None:
                    yield found
            else:
                yield from map(space.stored.__getitem__, space.names)

    def _leave_node(self, before: Stored) -> None:
        node = before.fields.get(NODE_FIELD)
        if not node:
            return
        at = (before.key.resource, node)
        on_node = self._nodes[at]
        del on_node[before.key]
        if not on_node:
            del self._nodes[at]


def _placed(key: Key, selected: Filter) -> bool:
    return selected.namespace in ("", key.namespace) and selected.name in ("", key.name)
