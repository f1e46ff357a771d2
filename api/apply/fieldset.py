"""Sets of fields, in the form managedFields carry them (FieldsV1), and their algebra.

A set is the decoded JSON of FieldsV1 itself: nested dictionaries keyed by path elements (`f:name`, `k:{"name":"a"}`,
`v:"x"`, `i:0`). A field that is a member and has no members below it is a leaf, `{}`; one that is a member and has
some holds a `"."` beside them; without the `"."` it only leads to them. So rendering and parsing cost one JSON call.

Guarantees: sets are values, never changed once made and freely shared; every set made here is in the order in which
structured-merge-diff writes it; no function returns a branch without members. Source: structured-merge-diff, fieldpath.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

FieldSet = dict[str, Any]

EMPTY: FieldSet = {}
LEAF: FieldSet = {}
SELF = "."
# Elements are few and short: the keys of lists, and the values of sets.
_ELEMENTS = 4096
# Greater than every "f:…", less than every other kind of element: names sort as plain text up to here.
_AFTER_NAMES = "f;"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


# --- the JSON form


def render(fields: FieldSet) -> bytes:
    """The set as FieldsV1."""
    return _encode(fields)


def load(data: bytes) -> FieldSet:
    """The set that `render` made these bytes of."""
    fields: FieldSet = _decode(data)
    return fields


def parse(data: bytes) -> FieldSet:
    """The set that somebody else's FieldsV1 holds. Raises ValueError where it holds none."""
    try:
        return _checked(_decode(data) if data else {})
    except msgspec.DecodeError as error:
        raise ValueError(f"fieldsV1 is not JSON: {error}") from None


def _checked(node: Any) -> FieldSet:
    if not isinstance(node, dict):
        raise ValueError("fieldsV1 must consist of JSON objects")
    if not node:
        return LEAF
    checked = {_canonical(element): _checked(below) for element, below in node.items()}
    return _settled(in_order(checked))


@lru_cache(_ELEMENTS)
def _canonical(element: str) -> str:
    """The element as this module writes it. Raises ValueError."""
    if element == SELF or element.startswith("f:"):
        return element
    kind, text = element[:2], element[2:]
    try:
        if kind == "i:":
            return f"i:{int(text)}"
        value = json.loads(text) if kind in ("k:", "v:") else None
    except ValueError:
        raise ValueError(f"fieldsV1 has a malformed path element: {element}") from None
    if kind == "v:":
        return value_element(value)
    if kind == "k:" and isinstance(value, dict):
        return key_element(dict(sorted(value.items())))
    raise ValueError(f"fieldsV1 has an unknown path element: {element}")


def key_element(keys: dict[str, Any]) -> str:
    """The element of a list that has these keys, given in the order of their names."""
    return "k:" + _encode(keys).decode()


def value_element(value: Any) -> str:
    """The element of a list that is this value."""
    return "v:" + _encode(value).decode()


def in_order(node: FieldSet) -> FieldSet:
    """The same members in the order of names, keys, values, indexes; numbers by size."""
    elements = sorted(node)
    if elements and elements[-1] > _AFTER_NAMES:
        elements.sort(key=rank)
    return {element: node[element] for element in elements}


@lru_cache(_ELEMENTS)
def rank(element: str) -> tuple[Any, ...]:
    """Where an element stands among its siblings."""
    kind, text = element[:2], element[2:]
    match kind:
        case "f:":
            return 1, text
        case "k:":
            return 2, tuple((name, _value_rank(value)) for name, value in json.loads(text).items())
        case "v:":
            return 3, _value_rank(json.loads(text))
        case "i:":
            return 4, int(text)
    return (0,)


def _value_rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return 2, value
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, str) else (3, json.dumps(value, sort_keys=True))


# --- algebra


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """The members of either."""
    if a is b or not b:
        return a
    if not a:
        return b
    joined: FieldSet | None = None
    for element, theirs in b.items():
        ours = a.get(element)
        node = theirs if ours is None else _join(ours, theirs)
        if node is not ours:
            joined = joined or dict(a)
            joined[element] = node
    if joined is None:
        return a
    return in_order(joined) if len(joined) > len(a) else joined


def _join(x: FieldSet, y: FieldSet) -> FieldSet:
    """What is at or below a field that both sets have."""
    if x and y:
        return union(x, y)
    larger = x or y
    return larger if not larger or SELF in larger else {SELF: LEAF, **larger}


def difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """The members of `a` that are not members of `b`; members below them stay. `a` itself where nothing goes."""
    rest: FieldSet | None = None
    for element, theirs in b.items():
        ours = a.get(element)
        if ours is None:
            continue
        left = _subtract(ours, theirs)
        if left is not ours:
            rest = dict(a) if rest is None else rest
            if left is None:
                del rest[element]
            else:
                rest[element] = left
    return a if rest is None else rest


def _subtract(x: FieldSet, y: FieldSet) -> FieldSet | None:
    """What stays at or below a field that both sets have; None for nothing."""
    if not x:
        return None if not y or SELF in y else x
    left = difference(x, y or {SELF: LEAF})
    return left if left is x else (_settled(left) if left else None)


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """The members of both."""
    common = {}
    for element, ours in a.items():
        theirs = b.get(element)
        if theirs is not None:
            node = _meet(ours, theirs)
            if node is not None:
                common[element] = node
    return common


def _meet(x: FieldSet, y: FieldSet) -> FieldSet | None:
    if not x or not y:
        return LEAF if (not x or SELF in x) and (not y or SELF in y) else None
    common = intersection(x, y)
    return _settled(common) if common else None


def _settled(node: FieldSet) -> FieldSet:
    """A branch of which nothing but the field itself is left is a leaf."""
    return LEAF if len(node) == 1 and SELF in node else node


# --- members


def is_member(below: FieldSet) -> bool:
    """Whether the field that leads here is itself a member."""
    return not below or SELF in below


def as_member(below: FieldSet) -> FieldSet:
    """The same branch, whose field is a member too."""
    return below if is_member(below) else {SELF: LEAF, **below}


def paths(fields: FieldSet, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member, those of one level before those below it, as structured-merge-diff walks a set."""
    for element, below in fields.items():
        if element != SELF and is_member(below):
            yield (*prefix, element)
    for element, below in fields.items():
        if below:
            yield from paths(below, (*prefix, element))


def has(fields: FieldSet, path: tuple[str, ...]) -> bool:
    """Whether the field at this path is a member."""
    for element in path:
        below = fields.get(element)
        if below is None:
            return False
        fields = below
    return is_member(fields)


def show(path: tuple[str, ...]) -> str:
    """A path as errors name it: `.spec.containers[name="web"].image`."""
    return "".join(map(_show_element, path))


def _show_element(element: str) -> str:
    kind, text = element[:2], element[2:]
    match kind:
        case "f:":
            return f".{text}"
        case "k:":
            return "[" + ",".join(f"{name}={_show_value(value)}" for name, value in json.loads(text).items()) + "]"
        case "v:":
            return f"[={_show_value(json.loads(text))}]"
    return f"[{text}]"


def _show_value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
