"""The shape of every struct as a table: which JSON field holds what.

Built once per type; decoding, patching and the list of supported fields walk it.
"""

from __future__ import annotations

import sys
import types
from functools import cache
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from barque.api.types.base import ListRule, Object


class FieldShape(NamedTuple):
    """What one JSON field holds: a value, a list of values or a map of values, each of `struct` or of one of `scalars`.

    Free-form fields (`Any`) have neither.
    """

    attribute: str
    container: Literal["", "list", "map"]
    struct: type[Object] | None
    scalars: frozenset[type]
    rule: ListRule | None


@cache
def shape_of(kind: type[Object]) -> dict[str, FieldShape]:
    """The fields of a struct by JSON name."""
    rules: dict[tuple[str, str], ListRule] = getattr(sys.modules[kind.__module__], "LIST_RULES", {})
    return {
        info.encode_name: _field_shape(info.name, info.type, rules.get((kind.__name__, info.encode_name)))
        for info in msgspec.structs.fields(kind)
    }


def _field_shape(attribute: str, annotation: Any, rule: ListRule | None) -> FieldShape:
    alternatives = _alternatives(annotation)
    container: Literal["", "list", "map"] = ""
    if len(alternatives) == 1 and (origin := get_origin(alternatives[0])) in (list, dict):
        container = "list" if origin is list else "map"
        alternatives = _alternatives(get_args(alternatives[0])[-1])
    structs = [a for a in alternatives if isinstance(a, type) and issubclass(a, Object)]
    scalars = frozenset(a for a in alternatives if a in (str, int, float, bool))
    return FieldShape(attribute, container, structs[0] if structs else None, scalars, rule)


def _alternatives(annotation: Any) -> list[Any]:
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return [member for member in members if member is not type(None)]
