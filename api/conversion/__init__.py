"""Kinds that are served in more than one version, and how one version becomes another.

All versions of such a kind are the same records: they are kept in one of them (`Resource.kept_as`) and converted on the
way in and out. In: an object, or a record's bytes. Out: the same in another version; nothing given is changed, but the
two share what is the same in both. The owners of fields (managedFields) go along as they are: each entry names the
version whose fields it speaks of, as in Kubernetes.

A further version is one module here, a row in `_CONVERSIONS` and a `kept_as` in `barque.api.resources`. Source:
apimachinery's conversion of versioned types, and its conversion of field labels.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from barque.api import codec
from barque.api.resources import RESOURCES, Resource, by_type
from barque.api.selectors import Fields
from barque.api.types.base import Object


class Conversion(NamedTuple):
    """Between the version a kind is kept in and another one that it is served in.

    `members` are the members of the object that the kept version has other names for, and those names.
    """

    shown: Callable[[Any], Object]
    kept: Callable[[Any], Object]
    members: Mapping[str, str]


# By the version that is not kept, and kind: the module of this package that has its `CONVERSION`.
_CONVERSIONS = {("events.k8s.io/v1", "Event"): "events"}
_KINDS = frozenset(kind for _, kind in _CONVERSIONS)


def converted(obj: Object, resource: Resource) -> Object:
    """The object in this resource's version; itself where that is its version already."""
    if type(obj) is resource.type:
        return obj
    own = by_type(type(obj))
    kept = conversion_of(own).kept(obj) if own.kept_as else obj
    return conversion_of(resource).shown(kept) if resource.kept_as else kept


def shown(json: bytes, resource: Resource) -> bytes:
    """A record's bytes in this resource's version: untouched where it is the one that is kept."""
    if not resource.kept_as:
        return json
    kept = codec.decode(resource.stored.type, json)
    return codec.encode(conversion_of(resource).shown(kept))


def kept_fields(fields: Fields, resource: Resource) -> Fields:
    """A field selector on this resource as one on its records."""
    if not resource.kept_as or fields.empty:
        return fields
    members = conversion_of(resource).members
    found = []
    for requirement in fields.requirements:
        member, dot, below = requirement.field.partition(".")
        found.append(requirement._replace(field=f"{members.get(member, member)}{dot}{below}"))
    return Fields(tuple(found))


def renamed_members(kind: type[Object], api_version: str, *, back: bool) -> dict[str, str]:
    """What fields' owners (`f:note`) call the members that this struct's version and another one name differently.

    By the other's names, or `back` by this one's; empty where both are one, or the kind has no such version.
    """
    if kind.__name__ not in _KINDS:
        return {}
    return _renamed(by_type(kind), api_version, back)


@cache
def _renamed(own: Resource, api_version: str, back: bool) -> dict[str, str]:
    other = next((r for r in RESOURCES if r.stored is own.stored and r.api_version == api_version), own)
    source, target = (own, other) if back else (other, own)
    to_kept = _members(source) if other is not own else {}
    from_kept = {kept: name for name, kept in _members(target).items()} if other is not own else {}
    names = {name: to_kept.get(name, name) for name in (*to_kept, *from_kept)}
    return {f"f:{name}": f"f:{from_kept.get(kept, kept)}" for name, kept in names.items()}


def _members(resource: Resource) -> Mapping[str, str]:
    return conversion_of(resource).members if resource.kept_as else {}


@cache
def conversion_of(resource: Resource) -> Conversion:
    """The conversion of a resource that is kept as another."""
    module = _CONVERSIONS[resource.api_version, resource.kind]
    found: Conversion = importlib.import_module(f"barque.api.conversion.{module}").CONVERSION
    return found
