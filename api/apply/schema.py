"""How the fields of a kind are owned: a plan per struct, compiled once from its shape.

A plan walks JSON documents. Four kinds exist: a *leaf* is owned as a whole (scalars, free-form JSON, atomic lists and
maps); a *map* by its fields or keys; an *associative list* by the keys of its elements, or by the elements themselves
where it is a set. Which is which comes from the generated `LIST_RULES` and `MAP_TYPES`.

`whole`, `compare` and `fresh` serve updates and are on the path of every write; `owned`, `merge`, `remove`,
`with_fields` and `check` serve apply. Documents and sets are never changed. Source: structured-merge-diff, typed (v6).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import msgspec

from barque.api import quantity
from barque.api.apply.fieldset import (
    LEAF,
    SELF,
    FieldSet,
    as_member,
    is_member,
    key_element,
    rank,
    show,
    value_element,
)
from barque.api.shapes import LIST_KEY_DEFAULTS, FieldShape, is_atomic, shape_of
from barque.api.types.base import Object

Path = tuple[str, ...]

# Structs that are no pointers in Kubernetes' types: they are there even in an empty object, so that nobody comes to own
# them by setting what is in them. Those named `metadata`, `spec` and `status` are so everywhere.
_INLINE_NAMES = ("metadata", "spec", "status")
_INLINE_STRUCTS = {
    ("CronJobSpec", "jobTemplate"),
    ("DaemonSetSpec", "template"),
    ("DaemonSetSpec", "updateStrategy"),
    ("DeploymentSpec", "strategy"),
    ("DeploymentSpec", "template"),
    ("HorizontalPodAutoscalerSpec", "scaleTargetRef"),
    ("IngressStatus", "loadBalancer"),
    ("JobSpec", "template"),
    ("NodeStatus", "daemonEndpoints"),
    ("NodeStatus", "nodeInfo"),
    ("PersistentVolumeClaimSpec", "resources"),
    ("PodTemplate", "template"),
    ("ReplicaSetSpec", "template"),
    ("ServiceStatus", "loadBalancer"),
    ("StatefulSetSpec", "template"),
    ("StatefulSetSpec", "updateStrategy"),
}
_ABSENT = object()


class Changes:
    """What differs between two documents: what was added or has another value, and what is gone."""

    __slots__ = ("changed", "removed")

    def __init__(self) -> None:
        self.changed: FieldSet = {}
        self.removed: FieldSet = {}


class Plan:
    """A leaf, and the base of the others."""

    __slots__ = ()

    def whole(self, value: Any) -> FieldSet:
        """What is at and below a value that came or went as a whole: every part of it, itself too."""
        return LEAF

    def compare(self, before: Any, after: Any, changes: Changes) -> bool:
        """Enter how two unequal values differ below this field; True where the field itself has another value."""
        return True

    def owned(self, value: Any) -> FieldSet | None:
        """What an applier of this value owns at and below this field; None for nothing."""
        return LEAF

    def merge(self, live: Any, applied: Any) -> Any:
        """The live value with the applied one over it."""
        return applied

    def remove(self, value: Any, fields: FieldSet) -> Any:
        """The value without the members of `fields`."""
        return value

    def with_fields(self, fields: FieldSet) -> FieldSet:
        """`fields`, and every named field that leads to a member. Keys of maps and elements of lists are not named."""
        return fields

    def check(self, value: Any, path: Path, errors: list[str]) -> Any:
        """The value with canonical quantities. Enters what makes it impossible to apply."""
        return value


class QuantityPlan(Plan):
    """A leaf whose spelling does not matter: "0.5" and "500m" are one value."""

    __slots__ = ()

    def check(self, value: Any, path: Path, errors: list[str]) -> Any:
        try:
            return value if value is None else quantity.canonical(value)
        except (ValueError, TypeError):
            return value  # for validation to refuse, in its own words


class MapPlan(Plan):
    """A struct or a map of keys.

    An empty list or map among a struct's fields is as good as none: stored objects do not tell the two apart.
    """

    __slots__ = ("_containers", "_inline", "_item", "_members")

    def __init__(self, item: Plan | None) -> None:
        self._item = item
        self._members: dict[str, Plan] = {}
        self._inline: set[str] = set()
        self._containers: set[str] = set()

    def describe(self, struct: type[Object]) -> None:
        """Make this the plan of a struct."""
        for name, field in shape_of(struct).items():
            self._members[name] = _field_plan(field)
            if _is_inline(struct, name, field):
                self._inline.add(name)
            if field.container:
                self._containers.add(name)

    def _plan(self, name: str) -> Plan:
        return self._members.get(name) or self._item or _LEAF_PLAN

    def whole(self, value: Any) -> FieldSet:
        if not value or not isinstance(value, dict):
            return LEAF
        members, item = self._members, self._item or _LEAF_PLAN
        fields = {SELF: LEAF}
        for name in sorted(value):
            plan, each = members.get(name, item), value[name]
            if each or name not in self._containers:
                fields[f"f:{name}"] = LEAF if plan is _LEAF_PLAN else plan.whole(each)
        return fields if len(fields) > 1 else LEAF

    def fresh(self, value: dict[str, Any]) -> FieldSet:
        """What `compare` calls changed where there was nothing before: that of a document that comes into being."""
        changes = Changes()
        changed, members, item = changes.changed, self._members, self._item or _LEAF_PLAN
        for name in sorted(value):
            plan, each, inline = members.get(name, item), value[name], name in self._inline
            if not each and (inline or name in self._containers):
                continue
            if plan is _LEAF_PLAN:
                changed[f"f:{name}"] = LEAF
            elif not inline:
                changed[f"f:{name}"] = plan.whole(each)
            elif isinstance(plan, MapPlan) and isinstance(each, dict):
                below = plan.fresh(each)
                if below:
                    changed[f"f:{name}"] = below
            else:
                enter(plan, f"f:{name}", None, each, changes)
        return changed

    def compare(self, before: Any, after: Any, changes: Changes) -> bool:
        before = before if isinstance(before, dict) else {}
        after = after if isinstance(after, dict) else {}
        if not before and not after:
            return True
        names = before.keys() | after.keys()
        for name in sorted(name for name in names if before.get(name, _ABSENT) != after.get(name, _ABSENT)):
            old, new = before.get(name), after.get(name)
            contains, inline = name in self._containers, name in self._inline
            if (contains or inline) and not old and not new:
                continue
            absent = None if inline else _ABSENT
            was = absent if contains and not old else before.get(name, absent)
            enter(self._plan(name), f"f:{name}", was, after.get(name, absent), changes)
        return False

    def owned(self, value: Any) -> FieldSet | None:
        if not value or not isinstance(value, dict):
            return LEAF
        fields = {}
        for name in sorted(value):
            below = self._plan(name).owned(value[name])
            if name not in self._members:
                below = LEAF if below is None else as_member(below)
            if below is not None:
                fields[f"f:{name}"] = below
        return fields or None

    def merge(self, live: Any, applied: Any) -> Any:
        if applied is None or not isinstance(live, dict) or not isinstance(applied, dict):
            return applied
        merged = dict(live)
        for name, value in applied.items():
            merged[name] = self._plan(name).merge(live.get(name), value)
        return merged

    def remove(self, value: Any, fields: FieldSet) -> Any:
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, each in value.items():
            below = fields.get(f"f:{name}")
            if below is None:
                kept[name] = each
            elif not is_member(below):
                rest = self._plan(name).remove(each, below)
                if rest is not None:
                    kept[name] = rest
        return kept or None

    def with_fields(self, fields: FieldSet) -> FieldSet:
        named = {}
        for element, below in fields.items():
            name = element[2:]
            if below:
                below = self._plan(name).with_fields(below)
                below = as_member(below) if name in self._members else below
            named[element] = below
        return named

    def check(self, value: Any, path: Path, errors: list[str]) -> Any:
        if value is None:
            return None
        if not isinstance(value, dict):
            errors.append(f"{show(path)}: expected map, got {_human(value)}")
            return value
        checked = {}
        for name, each in value.items():
            below = (*path, f"f:{name}")
            if self._item is None and name not in self._members:
                errors.append(f"{show(below)}: field not declared in schema")
            checked[name] = self._plan(name).check(each, below, errors)
        return checked


class ListPlan(Plan):
    """An associative list: its elements are told apart by their keys, or by themselves where there are none.

    Elements that are not told apart are owned and compared together, as one value.
    """

    __slots__ = ("_defaults", "_item", "_keys")

    def __init__(self, item: Plan, keys: tuple[str, ...], defaults: dict[str, Any]) -> None:
        self._item = item
        self._keys = tuple(sorted(keys))
        self._defaults = defaults

    def element(self, value: Any) -> str:
        """The path element of an element. A stored one that lacks a key has it empty, as in Kubernetes' types."""
        if not self._keys or not isinstance(value, dict):
            return value_element(value)
        return key_element({key: value.get(key, self._defaults.get(key, "")) for key in self._keys})

    def _elements(self, values: Any) -> dict[str, list[Any]]:
        """The elements in the order of their first appearance, those of one key together."""
        found: dict[str, list[Any]] = {}
        for value in values if isinstance(values, list) else ():
            found.setdefault(self.element(value), []).append(value)
        return found

    def whole(self, value: Any) -> FieldSet:
        elements = self._elements(value)
        if not elements:
            return LEAF
        fields = {SELF: LEAF}
        for element in _in_rank(elements):
            same = elements[element]
            fields[element] = self._item.whole(same[0]) if len(same) == 1 else LEAF
        return fields

    def compare(self, before: Any, after: Any, changes: Changes) -> bool:
        old, new = self._elements(before), self._elements(after)
        if not old and not new:
            return True
        for element in _in_rank(old.keys() | new.keys()):
            was, now = old.get(element, []), new.get(element, [])
            if len(was) > 1 and len(now) > 1:
                if was != now:
                    changes.changed[element] = LEAF
                continue
            enter(self._item, element, _only(was), _only(now), changes)
            if len(was) > 1:
                changes.removed[element] = LEAF
            elif len(now) > 1:
                changes.changed[element] = LEAF
        return False

    def owned(self, value: Any) -> FieldSet | None:
        elements = self._elements(value)
        fields = {}
        for element in _in_rank(elements):
            same = elements[element]
            below = self._item.owned(same[0]) if len(same) == 1 else LEAF
            fields[element] = LEAF if below is None else as_member(below)
        return fields or None

    def merge(self, live: Any, applied: Any) -> Any:
        if not isinstance(live, list) or not isinstance(applied, list):
            return applied
        if not applied:
            return live or applied
        old, new = self._elements(live), self._elements(applied)
        merged = {
            element: self._item.merge(old[element][0], same[0]) if len(old.get(element, ())) == 1 else same[0]
            for element, same in new.items()
        }
        return list(self._interleaved(live, [element for element in merged if element in old], merged))

    def _interleaved(self, live: list[Any], shared: list[str], merged: dict[str, Any]) -> Iterator[Any]:
        """Applied elements in their own order; each element that is only live keeps its place among the shared ones."""
        pending, expected = iter(merged.items()), iter(shared)
        awaited = next(expected, None)
        for value in live:
            element = self.element(value)
            if element not in merged:
                yield value
            elif element == awaited:
                for applied, each in pending:
                    yield each
                    if applied == element:
                        break
                awaited = next(expected, None)
        yield from (each for _, each in pending)

    def remove(self, value: Any, fields: FieldSet) -> Any:
        if not isinstance(value, list):
            return value
        kept = []
        for each in value:
            below = fields.get(self.element(each))
            if below is None:
                kept.append(each)
            elif not is_member(below):
                kept.append(self._item.remove(each, below))
        return kept or None

    def with_fields(self, fields: FieldSet) -> FieldSet:
        return {element: self._item.with_fields(below) if below else below for element, below in fields.items()}

    def check(self, value: Any, path: Path, errors: list[str]) -> Any:
        if value is None:
            return None
        if not isinstance(value, list):
            errors.append(f"{show(path)}: expected list, got {_human(value)}")
            return value
        checked, seen = [], set()
        for index, each in enumerate(value):
            fault = self._fault(each)
            if fault:
                errors.append(f"{show(path)}: element {index}: {fault}")
                continue
            element = self.element(each)
            if element in seen:
                errors.append(f"{show(path)}: duplicate entries for key {show((element,))}")
            seen.add(element)
            checked.append(self._item.check(each, (*path, element), errors))
        return checked

    def _fault(self, value: Any) -> str:
        """Why a user's element has no identity; empty where it has one."""
        if self._keys:
            if value is None:
                return "associative list with keys may not have a null element"
            if not isinstance(value, dict):
                return "associative list with keys may not have non-map elements"
            lacking = [key for key in self._keys if key not in value and key not in self._defaults]
            if lacking:
                omits = "associative list with keys has an element that omits key field"
                return f'{omits} "{lacking[0]}" (and doesn\'t have default value)'
            return ""
        if isinstance(value, dict):
            return "associative list without keys has an element that's a map type"
        if isinstance(value, list):
            return "not supported: associative list with lists as elements"
        return "associative list without keys has an element that's an explicit null" if value is None else ""


def enter(plan: Plan, element: str, before: Any, after: Any, changes: Changes) -> None:
    """Enter how a field differs, itself and below it."""
    if before is _ABSENT:
        if after is not _ABSENT:
            changes.changed[element] = plan.whole(after)
    elif after is _ABSENT:
        changes.removed[element] = plan.whole(before)
    elif before != after:
        below = Changes()
        if plan.compare(before, after, below):
            changes.changed[element] = LEAF
        else:
            if below.changed:
                changes.changed[element] = below.changed
            if below.removed:
                changes.removed[element] = below.removed


def _only(same: list[Any]) -> Any:
    return same[0] if len(same) == 1 else _ABSENT


def _in_rank(elements: Iterable[str]) -> list[str]:
    ordered = list(elements)
    if len(ordered) > 1:
        ordered.sort(key=rank)
    return ordered


def _human(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# --- compilation

_LEAF_PLAN = Plan()
_QUANTITY_PLAN = QuantityPlan()
_plans: dict[type[Object], MapPlan] = {}


def plan_of(struct: type[Object]) -> MapPlan:
    """The plan of a struct. Structs may hold themselves, so a plan is known before its fields are."""
    plan = _plans.get(struct)
    if plan is None:
        plan = _plans[struct] = MapPlan(None)
        plan.describe(struct)
    return plan


def _field_plan(field: FieldShape) -> Plan:
    if field.atomic:
        return _LEAF_PLAN
    item = _item_plan(field)
    match field.container:
        case "map":
            return MapPlan(item) if field.struct or field.scalars else _LEAF_PLAN
        case "list":
            rule = field.rule
            if rule is None or rule.list_type not in ("map", "set"):
                return _LEAF_PLAN
            return ListPlan(item, rule.keys, _key_defaults(field.struct, rule.keys))
    return item


def _item_plan(field: FieldShape) -> Plan:
    if field.struct is None:
        return _scalar_plan(field.scalars)
    return _LEAF_PLAN if field.container and is_atomic(field.struct) else plan_of(field.struct)


@cache
def _scalar_plan(scalars: frozenset[type]) -> Plan:
    return _QUANTITY_PLAN if scalars == {str, int, float} else _LEAF_PLAN


def _key_defaults(struct: type[Object] | None, keys: tuple[str, ...]) -> dict[str, Any]:
    if struct is not None and struct.__name__ == "LocalObjectReference":
        return {"name": ""}
    return {key: LIST_KEY_DEFAULTS[key] for key in keys if key in LIST_KEY_DEFAULTS}


def _is_inline(struct: type[Object], name: str, field: FieldShape) -> bool:
    is_struct = field.struct is not None and not field.container
    return field.present or (is_struct and (name in _INLINE_NAMES or (struct.__name__, name) in _INLINE_STRUCTS))
