"""Patches: RFC 7386 merge patch, Kubernetes' strategic merge patch, and the three-way merge of `apply`.

All functions are pure: documents and patches are plain JSON dictionaries, arguments are never changed. Which lists
merge by which key comes from the types' `LIST_RULES`. Source: RFC 7386; apimachinery's strategicpatch.

Where Kubernetes merges service and container ports by number alone, an element here first looks for the one that agrees
in all list-map keys (number and protocol), so 53/TCP and 53/UDP live side by side; only then for one of that number.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from barque.api.errors import bad_request
from barque.api.shapes import FieldShape, shape_of
from barque.api.types.base import ListRule, Object

Document = dict[str, Any]

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"
# List-map keys that objects may leave out because they have a default.
_KEY_DEFAULTS = {"protocol": "TCP"}


def merge_patch(document: Document, patch: Document) -> Document:
    """RFC 7386: objects merge, null removes, everything else replaces."""
    merged = dict(document)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            below = merged.get(name)
            merged[name] = merge_patch(below if isinstance(below, dict) else {}, value)
        else:
            merged[name] = copy.deepcopy(value)
    return merged


def strategic_merge(kind: type[Object] | None, document: Document, patch: Document) -> Document:
    """The document of this kind after a strategic merge patch. Raises ApiError 400 on a patch that makes no sense.

    Understands `$patch: replace|delete|merge`, `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…`.
    """
    directive = patch.get(_DIRECTIVE, "merge")
    if directive == "delete":
        return {}
    if directive == "replace":
        return strategic_merge(kind, {}, {k: v for k, v in patch.items() if k != _DIRECTIVE})
    if directive != "merge":
        raise bad_request(f"unknown patch type {directive!r} in {_DIRECTIVE}")
    merged = _retained(document, patch)
    for name, removed in _directed_lists(patch, _DELETE):
        if isinstance(merged.get(name), list):
            merged[name] = [element for element in merged[name] if element not in removed]
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif not name.startswith("$"):
            merged[name] = _merge_field(_field(kind, name), name, merged.get(name), value)
    for name, order in _directed_lists(patch, _ORDER):
        if isinstance(merged.get(name), list):
            merged[name] = _ordered(_field(kind, name), merged[name], order)
    return merged


def three_way(kind: type[Object] | None, original: Document, modified: Document, current: Document) -> Document:
    """The strategic merge patch that makes `current` what `modified` says.

    `original` is what was applied last: what it has and `modified` lacks goes away; what only `current` has, such as
    defaults and what others set, stays. Empty where nothing is to be done.
    """
    patch: Document = {}
    for name, wanted in modified.items():
        before: Any = original.get(name)
        now: Any = current.get(name)
        field = _field(kind, name)
        if wanted is None:
            if name in current:
                patch[name] = None
        elif isinstance(wanted, dict) and isinstance(now, dict):
            below = three_way(_struct(field), before if isinstance(before, dict) else {}, wanted, now)
            if below and _retains(field):
                below[_RETAIN_KEYS] = sorted(k for k, v in wanted.items() if v is not None)
            if below:
                patch[name] = below
        elif field is not None and field.rule is not None and _mergeable(field, before or [], wanted, now):
            patch |= _list_three_way(field, field.rule, name, before or [], wanted, now)
        elif not _same(wanted, now) and not (now is None and field is not None and field.container and not wanted):
            patch[name] = copy.deepcopy(wanted)  # an empty list or map that is not there needs no patch
    patch |= {
        name: None for name, value in original.items() if value is not None and name not in modified and name in current
    }
    return patch


# --- strategic merge: fields and lists


def _merge_field(field: FieldShape | None, name: str, below: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return strategic_merge(_struct(field), below if isinstance(below, dict) else {}, value)
    if isinstance(value, list):
        return _merge_list(field, name, below if isinstance(below, list) else [], value)
    return value


def _merge_list(field: FieldShape | None, name: str, below: list[Any], value: list[Any]) -> list[Any]:
    if field is None or field.rule is None or not _merges(field):
        return [_plain(_struct(field), element) for element in value]
    if not field.rule.merge_key:
        return [*below, *(e for i, e in enumerate(value) if e not in below and e not in value[:i])]
    return _merge_elements(_struct(field), field.rule, name, below, value)


def _merge_elements(
    struct: type[Object] | None, rule: ListRule, name: str, below: list[Any], value: list[Any]
) -> list[Document]:
    for element in [*below, *value]:
        if not isinstance(element, dict) or (_DIRECTIVE not in element and rule.merge_key not in element):
            raise bad_request(f"{name}: an element does not contain declared merge key: {rule.merge_key}")
    if any(element.get(_DIRECTIVE) == "replace" for element in value):
        below, value = [], [e for e in value if e.get(_DIRECTIVE) != "replace" or len(e) > 1]
        value = [{k: v for k, v in e.items() if k != _DIRECTIVE} for e in value if e.get(_DIRECTIVE) != "delete"]
    deletions = [element for element in value if element.get(_DIRECTIVE) == "delete"]
    merged: list[Document] = [e for e in below if not any(_agrees(rule, deletion, e) for deletion in deletions)]
    changes = [element for element in value if element.get(_DIRECTIVE) != "delete"]
    claimed = {i for change in changes if (i := _exact(rule, merged, change)) is not None}
    for change in changes:
        at = _exact(rule, merged, change)
        if at is None:
            at = next(
                (i for i, e in enumerate(merged) if i not in claimed and _by_key(rule, e) == _by_key(rule, change)),
                None,
            )
        if at is None:
            at = len(merged)
            merged.append({})
        claimed.add(at)
        merged[at] = strategic_merge(struct, merged[at], change)
    return merged


def _exact(rule: ListRule, elements: list[Document], wanted: Document) -> int | None:
    identity = _identity(rule, wanted)
    return next((i for i, element in enumerate(elements) if _identity(rule, element) == identity), None)


def _by_key(rule: ListRule, element: Document) -> Any:
    return element.get(rule.merge_key)


def _identity(rule: ListRule, element: Document) -> tuple[Any, ...]:
    return tuple(element.get(key, _KEY_DEFAULTS.get(key)) for key in dict.fromkeys((rule.merge_key, *rule.keys)))


def _agrees(rule: ListRule, deletion: Document, element: Document) -> bool:
    """Whether a deletion means this element: they agree in every key that the deletion names."""
    keys = [key for key in dict.fromkeys((rule.merge_key, *rule.keys)) if key in deletion]
    return bool(keys) and all(element.get(key, _KEY_DEFAULTS.get(key)) == deletion[key] for key in keys)


def _ordered(field: FieldShape | None, merged: list[Any], order: list[Any]) -> list[Any]:
    """`merged` with the elements that `order` names in that order; each other one keeps its place among them."""
    ranks = [_rank(field.rule if field is not None else None, element, order) for element in merged]
    named = sorted((i for i, rank in enumerate(ranks) if rank is not None), key=lambda i: (ranks[i], i))
    others = [i for i, rank in enumerate(ranks) if rank is None]
    result: list[Any] = []
    for index in named:
        while others and others[0] < index:
            result.append(merged[others.pop(0)])
        result.append(merged[index])
    return [*result, *(merged[i] for i in others)]


def _rank(rule: ListRule | None, element: Any, order: list[Any]) -> int | None:
    """Where `order` names the element: by its value, or by its merge key or all its keys."""
    if rule is None or not rule.merge_key:
        return order.index(element) if element in order else None
    return next((i for i, entry in enumerate(order) if isinstance(entry, dict) and _agrees(rule, entry, element)), None)


def _retained(document: Document, patch: Document) -> Document:
    if _RETAIN_KEYS not in patch:
        return dict(document)
    retained = patch[_RETAIN_KEYS]
    if not isinstance(retained, list):
        raise bad_request(f"{_RETAIN_KEYS} must be a list of field names")
    if any(not name.startswith("$") and value is not None and name not in retained for name, value in patch.items()):
        raise bad_request(f"the list of {_RETAIN_KEYS} must be a superset of the fields of the patch")
    return {name: value for name, value in document.items() if name in retained}


def _directed_lists(patch: Document, prefix: str) -> list[tuple[str, list[Any]]]:
    """The lists that `$deleteFromPrimitiveList/…` or `$setElementOrder/…` members of the patch speak of."""
    found = []
    for name, value in patch.items():
        if name.startswith("$") and name not in (_DIRECTIVE, _RETAIN_KEYS) and not name.startswith((_ORDER, _DELETE)):
            raise bad_request(f"unknown directive {name} in a strategic merge patch")
        if name.startswith(prefix):
            if not isinstance(value, list):
                raise bad_request(f"{name} must be a list")
            found.append((name.removeprefix(prefix), value))
    return found


def _plain(struct: type[Object] | None, element: Any) -> Any:
    """An element of a list that is replaced as a whole, without nulls and directives."""
    return strategic_merge(struct, {}, element) if isinstance(element, dict) else copy.deepcopy(element)


# --- three-way merge: lists


def _list_three_way(
    field: FieldShape, rule: ListRule, name: str, original: list[Any], modified: list[Any], current: list[Any]
) -> Document:
    removed: list[Any] = []
    if rule.merge_key:
        changes, order = _element_changes(_struct(field), rule, original, modified, current)
    else:
        changes = [element for element in modified if element not in current]
        removed = [element for element in original if element not in modified and element in current]
        order = [element for i, element in enumerate(modified) if element not in modified[:i]]
    patch: Document = {}
    if changes:
        patch[name] = changes
    if removed:
        patch[_DELETE + name] = removed
    if patch or _out_of_order(rule, modified, current):
        patch[_ORDER + name] = order
    return patch


def _element_changes(
    struct: type[Object] | None, rule: ListRule, original: list[Any], modified: list[Any], current: list[Any]
) -> tuple[list[Any], list[Any]]:
    """The elements to merge and to delete, and the order of all that `modified` names."""
    ambiguous = _repeated(_by_key(rule, e) for e in modified) | _repeated(_by_key(rule, e) for e in current)
    changes = []
    for wanted in modified:
        exact = _by_key(rule, wanted) in ambiguous
        before, now = _partner(rule, original, wanted, exact), _partner(rule, current, wanted, exact)
        if now is None:
            changes.append(copy.deepcopy(wanted))
            continue
        below = three_way(struct, before or {}, wanted, now)
        if below and "retainKeys" in rule.strategy:
            below[_RETAIN_KEYS] = sorted(k for k, v in wanted.items() if v is not None)
        if below or exact:
            changes.append({**_keys(rule, wanted, exact), **below})
    for before in original:
        exact = _by_key(rule, before) in ambiguous
        if _partner(rule, modified, before, exact) is None and _partner(rule, current, before, exact) is not None:
            changes.append({_DIRECTIVE: "delete", **_keys(rule, before, exact)})
    order = [_keys(rule, e, _by_key(rule, e) in ambiguous) for e in modified]
    if all(set(change) <= {rule.merge_key, *rule.keys} and _partner(rule, current, change, True) for change in changes):
        changes = []  # only ambiguous elements named for the sake of order, none of them changed
    return changes, order


def _partner(rule: ListRule, elements: list[Any], wanted: Document, exact: bool) -> Document | None:
    for element in elements:
        if exact and _identity(rule, element) == _identity(rule, wanted):
            return dict(element)
        if not exact and _by_key(rule, element) == _by_key(rule, wanted):
            return dict(element)
    return None


def _keys(rule: ListRule, element: Document, exact: bool) -> Document:
    if not exact:
        return {rule.merge_key: element.get(rule.merge_key)}
    keys = dict.fromkeys((rule.merge_key, *rule.keys))
    return {key: value for key in keys if (value := element.get(key, _KEY_DEFAULTS.get(key))) is not None}


def _out_of_order(rule: ListRule, modified: list[Any], current: list[Any]) -> bool:
    """Whether the elements both have stand in another order in `current`."""

    def identity(element: Any) -> Any:
        return _identity(rule, element) if rule.merge_key else element

    wanted, now = [identity(e) for e in modified], [identity(e) for e in current]
    return [e for e in wanted if e in now] != [e for e in now if e in wanted]


def _repeated(keys: Iterable[Any]) -> set[Any]:
    return {key for key, times in Counter(keys).items() if times > 1}


# --- shapes


def _field(kind: type[Object] | None, name: str) -> FieldShape | None:
    return shape_of(kind).get(name) if kind is not None else None


def _struct(field: FieldShape | None) -> type[Object] | None:
    """The struct that the field's value, or each element of its list, is read as; maps of structs merge as maps."""
    return field.struct if field is not None and field.container != "map" else None


def _merges(field: FieldShape) -> bool:
    return field.rule is not None and "merge" in field.rule.strategy


def _mergeable(field: FieldShape, *lists: Any) -> bool:
    """Whether these are lists that merge. One with an element that lacks its key is replaced whole, and so refused."""
    if not _merges(field) or not all(isinstance(each, list) for each in lists):
        return False
    key = field.rule.merge_key if field.rule is not None else ""
    return not key or all(isinstance(e, dict) and isinstance(e.get(key), (str, int)) for each in lists for e in each)


def _retains(field: FieldShape | None) -> bool:
    return (
        field is not None and field.rule is not None and field.container == "" and "retainKeys" in field.rule.strategy
    )


def _same(a: Any, b: Any) -> bool:
    return msgspec.json.encode(a, order="sorted") == msgspec.json.encode(b, order="sorted")
