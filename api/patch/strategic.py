"""Kubernetes' strategic merge patch: a merge patch that knows which lists merge, and by which key.

Understands `$patch: replace|delete|merge`, `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…`. Which
lists merge comes from the types' `LIST_RULES`. Raises ApiError 400, in the words of apimachinery's mergepatch, for a
patch that makes no sense.

Where Kubernetes merges service and container ports by number alone, an element here first looks for the one that agrees
in all list-map keys (number and protocol), so 53/TCP and 53/UDP live side by side; only then for one of that number.

The order of a merged list: what the patch names stands in the patch's order; what only the live list has stays in
front of what it stood in front of; what is new stands before what it has no place among.
"""

from __future__ import annotations

import copy
from bisect import insort
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

import msgspec

from barque.api.errors import ApiError, bad_request
from barque.api.shapes import LIST_KEY_DEFAULTS, FieldShape, shape_of
from barque.api.types.base import ListRule, Object

Document = dict[str, Any]

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


class _Element(NamedTuple):
    """An element of a merged list; `place` is its index in the live list, None where it is new."""

    value: Any
    place: int | None


def strategic_merge(kind: type[Object] | None, document: Document, patch: Document) -> Document:
    """The document of this kind after the patch. Of no kind, maps merge and lists are replaced."""
    directive = patch.get(_DIRECTIVE, "merge")
    if directive == "delete":
        return {}
    if directive == "replace":
        return strategic_merge(kind, {}, {k: v for k, v in patch.items() if k != _DIRECTIVE})
    if directive != "merge":
        raise _unknown_directive(patch)
    _check_directives(patch)
    merged = _retained(document, patch)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif name.startswith((_ORDER, _DELETE)):
            listed = name.partition("/")[2]
            if patch.get(listed) is None and isinstance(merged.get(listed), list):
                merged[listed] = _merge_list(_field(kind, listed), listed, merged[listed], [], patch)
        elif not name.startswith("$"):
            merged[name] = _merge_field(_field(kind, name), name, merged.get(name), value, patch)
    return merged


def _merge_field(field: FieldShape | None, name: str, below: Any, value: Any, patch: Document) -> Any:
    if isinstance(value, dict):
        return strategic_merge(_struct(field), below if isinstance(below, dict) else {}, value)
    if isinstance(value, list):
        return _merge_list(field, name, below if isinstance(below, list) else [], value, patch)
    return value


# --- directives


def _check_directives(patch: Document) -> None:
    for name, value in patch.items():
        if name.startswith((_ORDER, _DELETE)):
            if not isinstance(value, list):
                what = "setElementOrder list" if name.startswith(_ORDER) else "primitive list"
                raise bad_request(f"invalid patch format of {what}")
        elif name.startswith("$") and name not in (_DIRECTIVE, _RETAIN_KEYS):
            raise bad_request(f"unknown directive {name} in a strategic merge patch")


def _retained(document: Document, patch: Document) -> Document:
    """The document, of which `$retainKeys` leaves only those fields."""
    if _RETAIN_KEYS not in patch:
        return dict(document)
    listed = patch[_RETAIN_KEYS]
    retained = set(map(_hashed, listed)) if isinstance(listed, list) else None
    if retained is None or any(
        not name.startswith("$") and value is not None and name not in retained for name, value in patch.items()
    ):
        raise bad_request("invalid patch format of retainKeys")
    return {name: value for name, value in document.items() if name in retained}


def _unknown_directive(patch: Document) -> ApiError:
    return bad_request(f"unknown patch type: {_show(patch[_DIRECTIVE])} in map: {_show(patch)}")


# --- lists


def _merge_list(field: FieldShape | None, name: str, live: list[Any], value: list[Any], patch: Document) -> list[Any]:
    """The live list after the patch's list of that name and its directives."""
    if field is None or field.rule is None or "merge" not in field.rule.strategy:
        replaced = value if name in patch else live
        return [_plain(_struct(field), element) for element in replaced]
    if field.rule.merge_key:
        merged, named = _merge_elements(_struct(field), field.rule, live, value)
    else:
        merged, named = _merge_values(live, value, patch.get(_DELETE + name, []))
    if _ORDER + name in patch:
        named = _named_in(field.rule, merged, patch[_ORDER + name], value)
    return _arranged(merged, named)


def _merge_values(live: list[Any], value: list[Any], removed: list[Any]) -> tuple[list[_Element], list[int]]:
    """A list of primitives as the set it is. With it, where the values of the patch are."""
    gone = set(map(_hashed, removed))
    merged = [_Element(each, place) for place, each in enumerate(live) if _hashed(each) not in gone]
    places: dict[Hashable, int] = {}
    for at, element in enumerate(merged):
        places.setdefault(_hashed(element.value), at)
    named: dict[int, None] = {}
    for each in value:
        at = places.setdefault(_hashed(each), len(merged))
        if at == len(merged):
            merged.append(_Element(each, None))
        named[at] = None
    return merged, list(named)


def _merge_elements(
    struct: type[Object] | None, rule: ListRule, live: list[Any], value: list[Any]
) -> tuple[list[_Element], list[int]]:
    """A list of maps, merged by key. With it, where the elements of the patch are."""
    for each in [*live, *value]:
        _check_element(rule, each)
    changes = [each for each in value if each.get(_DIRECTIVE, "merge") == "merge"]
    if any(each.get(_DIRECTIVE) == "replace" for each in value):
        live = []
    deletions = _Named(rule, [each for each in value if each.get(_DIRECTIVE) == "delete"])
    merged = _Elements(rule, [_Element(each, i) for i, each in enumerate(live) if deletions.first(each) is None])
    named: dict[int, None] = {}
    claimed = {at for change in changes if (at := merged.exact(change)) is not None}
    for change in changes:
        at = merged.exact(change)
        if at is None:
            at = merged.of_key(change, claimed)
        if at is None:
            at = merged.append(strategic_merge(struct, {}, change))
        else:
            merged.put(at, strategic_merge(struct, merged.elements[at].value, change))
        claimed.add(at)
        named[at] = None
    return merged.elements, list(named)


def _check_element(rule: ListRule, element: Any) -> None:
    if not isinstance(element, dict):
        raise bad_request(f"expected a map with the declared merge key {rule.merge_key}, but received {_show(element)}")
    directive = element.get(_DIRECTIVE, "merge")
    if directive not in ("merge", "delete", "replace"):
        raise _unknown_directive(element)
    if directive != "replace" and rule.merge_key not in element:
        raise bad_request(f"map: {_show(element)} does not contain declared merge key: {rule.merge_key}")


def _named_in(rule: ListRule, merged: list[_Element], order: list[Any], value: list[Any]) -> list[int]:
    """Where the elements are that `$setElementOrder` names, in its order. Raises 400 where the patch disagrees."""
    rank = _ranks(rule, order)
    ranks = [rank(element.value) for element in merged]
    wanted = [rank(each) for each in value if not _is_directive(each)]
    if order and (None in wanted or wanted != sorted(rank for rank in wanted if rank is not None)):
        lists = f"The order in patch list:\n{_show(value)}\n doesn't match $setElementOrder list:\n{_show(order)}\n"
        raise bad_request(lists)
    return sorted((i for i, rank in enumerate(ranks) if rank is not None), key=lambda i: (ranks[i], i))


def _is_directive(element: Any) -> bool:
    return isinstance(element, dict) and _DIRECTIVE in element


def _ranks(rule: ListRule, order: list[Any]) -> Callable[[Any], int | None]:
    """Where `order` names an element: by its value, or by its merge key or all its keys."""
    if rule.merge_key:
        return _Named(rule, order).first
    ranks: dict[Hashable, int] = {}
    for rank, entry in enumerate(order):
        ranks.setdefault(_hashed(entry), rank)
    return lambda element: ranks.get(_hashed(element))


def _arranged(merged: list[_Element], named: list[int]) -> list[Any]:
    """The named elements in that order; each other one before the first of them that it stood before."""
    first = set(named)
    others = deque(element for i, element in enumerate(merged) if i not in first)
    arranged = []
    for element in (merged[i] for i in named):
        while others and element.place is not None and others[0].place is not None and others[0].place < element.place:
            arranged.append(others.popleft().value)
        arranged.append(element.value)
    return [*arranged, *(other.value for other in others)]


# --- the keys of elements


class _Elements:
    """A list of maps while it is merged, found by key: a patch may name as many elements as there are."""

    def __init__(self, rule: ListRule, elements: list[_Element]) -> None:
        self.elements = elements
        self._rule = rule
        # Places in ascending order, by all keys and by the merge key alone.
        self._exact: dict[Hashable, list[int]] = {}
        self._of_key: dict[Hashable, deque[int]] = {}
        for at, element in enumerate(elements):
            self._exact.setdefault(self._identity(element.value), []).append(at)
            self._of_key.setdefault(_hashed(element.value[rule.merge_key]), deque()).append(at)

    def exact(self, wanted: Document) -> int | None:
        """The first element that agrees in all list-map keys."""
        places = self._exact.get(self._identity(wanted))
        return places[0] if places else None

    def of_key(self, wanted: Document, claimed: set[int]) -> int | None:
        """The first element of that merge key which no other change of the patch means; `claimed` only grows."""
        places = self._of_key.get(_hashed(wanted[self._rule.merge_key]), deque())
        while places and places[0] in claimed:
            places.popleft()
        return places[0] if places else None

    def append(self, value: Document) -> int:
        """The place of an element that is new."""
        at = len(self.elements)
        self.elements.append(_Element(value, None))
        self._exact.setdefault(self._identity(value), []).append(at)
        return at

    def put(self, at: int, value: Document) -> None:
        """The element at that place is this one now."""
        before, after = self._identity(self.elements[at].value), self._identity(value)
        self.elements[at] = self.elements[at]._replace(value=value)
        if before != after:
            self._exact[before].remove(at)
            insort(self._exact.setdefault(after, []), at)

    def _identity(self, element: Document) -> Hashable:
        return tuple(_key(element, key) for key in _keys(self._rule))


class _Named:
    """Entries that name elements by some of their keys."""

    def __init__(self, rule: ListRule, entries: list[Any]) -> None:
        # By the keys that are named: the first entry that names these values.
        self._places: dict[tuple[str, ...], dict[Hashable, int]] = {}
        for place, entry in enumerate(entries):
            keys = tuple(key for key in _keys(rule) if isinstance(entry, dict) and key in entry)
            if keys:
                values = tuple(_hashed(entry[key]) for key in keys)
                self._places.setdefault(keys, {}).setdefault(values, place)

    def first(self, element: Document) -> int | None:
        """The place of the first entry that means this element: they agree in every key that it names."""
        found = (places.get(tuple(_key(element, key) for key in keys)) for keys, places in self._places.items())
        return min((place for place in found if place is not None), default=None)


def _keys(rule: ListRule) -> Iterable[str]:
    return dict.fromkeys((rule.merge_key, *rule.keys))


def _key(element: Document, key: str) -> Hashable:
    return _hashed(element.get(key, LIST_KEY_DEFAULTS.get(key)))


def _hashed(value: Any) -> Hashable:
    """Equal for values that are equal, whatever JSON they are."""
    return ("json", msgspec.json.encode(value, order="sorted")) if isinstance(value, dict | list) else value


# --- shapes


def _field(kind: type[Object] | None, name: str) -> FieldShape | None:
    return shape_of(kind).get(name) if kind is not None else None


def _struct(field: FieldShape | None) -> type[Object] | None:
    """The struct that the field's value, or each element of its list, is read as; maps of structs merge as maps."""
    return field.struct if field is not None and field.container != "map" else None


def _plain(struct: type[Object] | None, element: Any) -> Any:
    """An element of a list that is replaced as a whole, without nulls and directives."""
    return strategic_merge(struct, {}, element) if isinstance(element, dict) else copy.deepcopy(element)


def _show(value: Any) -> str:
    """A value as Kubernetes' errors print it, Go's way: `map[image:nginx name:web]`."""
    match value:
        case dict():
            return "map[" + " ".join(f"{name}:{_show(value[name])}" for name in sorted(value)) + "]"
        case list():
            return "[" + " ".join(map(_show, value)) + "]"
        case bool():
            return "true" if value else "false"
        case None:
            return "<nil>"
    return str(value)
