"""Numbers, moments and bytes as Kubernetes' clients can read them: what a value of the right type may still not be.

Go's structs hold int32, int64 and moments of a fixed form, and a client that meets anything else gives up on the whole
list or watch. So nothing else gets in: `settle` refuses what is out of range, and writes moments as Kubernetes does, in
UTC, `Time` to the second and `MicroTime` to the microsecond. Which field is what stands in the published schemas. Runs
on every write: the fields to look at are gathered once for each struct.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import msgspec

from barque.api import base64_text
from barque.api.shapes import Container, FieldShape, shape_of
from barque.api.types import published
from barque.api.types.base import Object

_DEFINED = "io.k8s.apimachinery.pkg.apis.meta.v1."
# Go takes more digits of a fraction than anyone writes.
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,18})?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Go's zero moment, which its clients take for none.
_ZERO = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
# So much of a text that is no moment is shown.
_SHOWN = 80
# Most moments of an object have been read before, as those of its last state; none that is kept is long.
_KEPT = 4096

# The value as it is to be, or why it cannot be, for one field.
_Check = Callable[[Any], object]


class _OutOfRangeError(ValueError):
    """Why a value cannot be; completes a sentence that begins with its path."""


class _Step(NamedTuple):
    """One field to look at: a value with its check, or structs that have such fields somewhere within."""

    attribute: str
    name: str
    container: Container
    check: _Check | None


def settle(obj: Object) -> list[str]:
    """Write the moments of a decoded object as the API server does; what it holds that nobody could read, by path."""
    return [fault.removeprefix(".") for fault in _settle(obj)]


def _settle(obj: Any) -> list[str]:
    faults: list[str] = []
    for attribute, name, container, check in _steps(obj.__class__):
        value = getattr(obj, attribute)
        if not value:
            continue
        found: Sequence[str]
        if container:
            found = _settle_members(value, container, check)
        elif check is None:
            found = _settle(value) if isinstance(value, Object) else ()
        else:
            try:
                settled = check(value)
            except _OutOfRangeError as out:
                found = (f": {out}",)
            else:
                found = ()
                if settled != value:
                    setattr(obj, attribute, settled)
        if found:
            faults += [f".{name}{fault}" for fault in found]
    return faults


def _settle_members(members: Any, container: Container, check: _Check | None) -> list[str]:
    faults: list[str] = []
    for place, member in enumerate(members) if container == "list" else members.items():
        found: Sequence[str] = ()
        if check is None:
            found = _settle(member) if isinstance(member, Object) else ()
        else:
            try:
                settled = check(member)
            except _OutOfRangeError as out:
                found = (f": {out}",)
            else:
                if settled != member:
                    members[place] = settled
        if found:
            faults += [f"[{place}]{fault}" for fault in found]
    return faults


@cache
def _steps(kind: type[Object]) -> tuple[_Step, ...]:
    steps = []
    for name, field in shape_of(kind).items():
        check = _check_of(kind, name, field)
        if check is not None or (field.struct is not None and _is_looked_at(field.struct, frozenset((kind,)))):
            steps.append(_Step(field.attribute, name, field.container, check))
    return tuple(steps)


def _is_looked_at(kind: type[Object], above: frozenset[type[Object]]) -> bool:
    """Whether a struct has anything to check; one that holds its like is, to be sure, looked at."""
    for name, field in shape_of(kind).items():
        if _check_of(kind, name, field) is not None:
            return True
        if field.struct is not None and (field.struct in above or _is_looked_at(field.struct, above | {kind})):
            return True
    return False


def _check_of(kind: type[Object], name: str, field: FieldShape) -> _Check | None:
    module = kind.__module__.rpartition(".")[2]
    defined = published.SCALARS.get(module, {}).get((kind.__name__, name), "")
    if defined == f"{_DEFINED}Time":
        return _second
    if defined == f"{_DEFINED}MicroTime":
        return _microsecond
    if field.scalars == {int, str}:
        return _count_or_name
    if published.FORMATS.get(module, {}).get((kind.__name__, name)) == "byte":
        return _bytes
    if field.scalars != {int}:
        return None
    return _int64 if published.FORMATS.get(module, {}).get((kind.__name__, name)) == "int64" else _int32


@lru_cache(_KEPT)
def _second(text: str) -> str:
    return _moment(text, "seconds")


@lru_cache(_KEPT)
def _microsecond(text: str) -> str:
    return _moment(text, "microseconds")


def _moment(text: str, precision: str) -> str:
    try:
        if _RFC3339.fullmatch(text) is None:
            raise ValueError
        moment = datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        shown = msgspec.json.encode(text[:_SHOWN]).decode()
        raise _OutOfRangeError(f"expected a time as RFC 3339 writes it, got {shown}") from None
    return "" if moment == _ZERO else f"{moment.replace(tzinfo=None).isoformat(timespec=precision)}Z"


def _bytes(text: str) -> str:
    try:
        return base64_text.settled(text)
    except ValueError as illegal:
        raise _OutOfRangeError(str(illegal)) from None


def _int32(number: int) -> int:
    if -(2**31) <= number < 2**31:
        return number
    raise _OutOfRangeError(f"expected int32, got {number}")


def _int64(number: int) -> int:
    if -(2**63) <= number < 2**63:
        return number
    raise _OutOfRangeError(f"expected int64, got {number}")


def _count_or_name(value: int | str) -> int | str:
    return _int32(value) if isinstance(value, int) else value
