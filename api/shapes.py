"""The shape of every struct as a table: which JSON field holds what, and how it merges.

Built once per type; decoding, patching, server-side apply and the list of supported fields walk it.
"""

from __future__ import annotations

import sys
import types
from functools import cache
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from barque.api.types.base import ListRule, Object

# Keys of list elements that objects may leave out because they have a default. The schema data has no defaults.
LIST_KEY_DEFAULTS: dict[str, Any] = {"protocol": "TCP"}


Container = Literal["", "list", "map"]


class FieldShape(NamedTuple):
    """What one JSON field holds: a value, a list of values or a map of values, each of `struct` or of one of `scalars`.

    Free-form fields (`Any`) have neither. `rule` says how a list merges; `atomic` that a map or a struct is owned and
    replaced as a whole. `present` fields are written even when zero, and so exist in an object that is otherwise empty.
    """

    attribute: str
    container: Container
    struct: type[Object] | None
    scalars: frozenset[type]
    rule: ListRule | None
    atomic: bool
    present: bool


@cache
def shape_of(kind: type[Object]) -> dict[str, FieldShape]:
    """The fields of a struct by JSON name."""
    return {info.encode_name: _field_shape(kind, info) for info in msgspec.structs.fields(kind)}


def _field_shape(kind: type[Object], info: msgspec.structs.FieldInfo) -> FieldShape:
    alternatives = _alternatives(info.type)
    container: Literal["", "list", "map"] = ""
    if len(alternatives) == 1 and (origin := get_origin(alternatives[0])) in (list, dict):
        container = "list" if origin is list else "map"
        alternatives = _alternatives(get_args(alternatives[0])[-1])
    structs = [a for a in alternatives if isinstance(a, type) and issubclass(a, Object)]
    struct = structs[0] if structs else None
    scalars = frozenset(a for a in alternatives if a in (str, int, float, bool))
    rules: dict[tuple[str, str], ListRule] = _table(kind, "LIST_RULES")
    rule = rules.get((kind.__name__, info.encode_name))
    atomic = _map_type(kind, info.encode_name, struct, container) == "atomic" or (struct and len(alternatives) > 1)
    present = info.default_factory not in (list, dict, msgspec.NODEFAULT)
    return FieldShape(info.name, container, struct, scalars, rule, bool(atomic), present)


def _map_type(kind: type[Object], field: str, struct: type[Object] | None, container: str) -> str:
    """What the field says, else, where its value is a struct, what that struct says of itself."""
    of_field: str = _table(kind, "MAP_TYPES").get((kind.__name__, field), "")
    if of_field or struct is None or container:
        return of_field
    return "atomic" if is_atomic(struct) else ""


def is_atomic(struct: type[Object]) -> bool:
    """Whether the struct is one value wherever it stands, as references and label selectors are."""
    return bool(_table(struct, "MAP_TYPES").get((struct.__name__, "")) == "atomic")


def _table(kind: type[Object], name: str) -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = getattr(sys.modules[kind.__module__], name, {})
    return table


def _alternatives(annotation: Any) -> list[Any]:
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return [member for member in members if member is not type(None)]
