"""The small checks that the kinds share: numbers, enumerations, ports, immutability."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from barque.api import intorstring, names, quantity
from barque.api.errors import FieldError, duplicate, invalid, not_supported
from barque.api.types.base import IntOrString, Quantity

INT32_MAX = 2**31 - 1


def not_negative(path: str, number: int | None) -> list[FieldError]:
    """A count or a number of seconds: 0 to 2³¹-1, or unset."""
    if number is None or 0 <= number <= INT32_MAX:
        return []
    bound = "must be greater than or equal to 0" if number < 0 else f"must be less than or equal to {INT32_MAX}"
    return [invalid(path, number, bound)]


def one_of(path: str, value: str, allowed: Iterable[str]) -> list[FieldError]:
    return [] if value in allowed else [not_supported(path, value, sorted(allowed))]


def spelt(path: str, value: str, check: Callable[[str], list[str]]) -> list[FieldError]:
    """The faults that a check of `barque.api.names` finds."""
    faults = check(value)
    return [invalid(path, value, fault) for fault in faults] if faults else []


def port_number(path: str, port: int) -> list[FieldError]:
    return [invalid(path, port, fault) for fault in names.port_number(port)]


def port_or_name(path: str, port: IntOrString) -> list[FieldError]:
    return spelt(path, port, names.port_name) if isinstance(port, str) else port_number(path, port)


def amount(path: str, value: Quantity) -> list[FieldError]:
    """A quantity that is one and is not negative."""
    try:
        # A fraction has its sign above the line; to compare one takes Python far longer.
        negative = quantity.parse(value).numerator < 0
    except ValueError as error:
        return [invalid(path, value, str(error))]
    return [invalid(path, value, "must be greater than or equal to 0")] if negative else []


def unique(entries: Iterable[tuple[str, Hashable]]) -> list[FieldError]:
    """Each (path, value) whose value stood there before; empty values never count."""
    seen: set[Hashable] = set()
    faults = []
    for path, value in entries:
        if value in seen:
            faults.append(duplicate(path, value))
        if value:
            seen.add(value)
    return faults


def share(path: str, value: IntOrString) -> list[FieldError]:
    """A count that is not negative, or a percentage."""
    if isinstance(value, int):
        return not_negative(path, value)
    if intorstring.is_percentage(value):
        return []
    why = (
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used "
        "for validation is '[0-9]+%')"
    )
    return [invalid(path, value, why)]


def at_most_whole(path: str, value: IntOrString) -> list[FieldError]:
    """A percentage may not ask for more than there is."""
    if isinstance(value, str) and intorstring.is_percentage(value) and int(value[:-1]) > 100:
        return [invalid(path, value, "must not be greater than 100%")]
    return []


def immutable(path: str, new: Any, old: Any) -> list[FieldError]:
    return [] if new == old else [invalid(path, new, "field is immutable")]


def not_decremented(path: str, new: int | None, old: int | None) -> list[FieldError]:
    """A counter of a status, which only grows; once counted, it stays."""
    if old is None or (new is not None and new >= old):
        return []
    return [invalid(path, new or 0, "cannot be decremented")]
