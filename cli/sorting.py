"""The order of `--sort-by`: objects by the value a JSONPath finds in each.

Numbers and quantities stand before times, times before text; "web-10" comes after "web-2". An object without the value
stands first. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

from barque.api import quantity, timestamps
from barque.cli.jsonpath import JsonPath, JsonPathError, relaxed
from barque.cli.output import CliError

T = TypeVar("T")
Rank = tuple[Any, ...]

_DIGITS = re.compile(r"(\d+)")


def sort_by(path: str, items: Sequence[T], data_of: Callable[[T], Any]) -> list[T]:
    """The items in the order of what `path` finds in `data_of` each, equal ones as they stood.

    Raises `CliError` where the path cannot be read or finds something in none of them.
    """
    try:
        template = JsonPath(relaxed(path))
        found = [template.values(data_of(item)) for item in items]
    except JsonPathError as error:
        raise CliError(str(error)) from None
    if items and not any(found):
        raise CliError(f'couldn\'t find any field with path "{relaxed(path)}" in the list of objects')
    ranks = [_rank(values[0]) if values else (0,) for values in found]
    return [items[at] for at in sorted(range(len(items)), key=ranks.__getitem__)]


def _rank(value: Any) -> Rank:
    """What of a value is compared: its family first, so that values of any families can be put in order."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return 1, value
    if isinstance(value, (int, float)):
        return 2, Fraction(value)
    if not isinstance(value, str):
        raise CliError(f"unsortable type: {'list' if isinstance(value, list) else 'map'}")
    try:
        return 2, quantity.parse(value)
    except ValueError:
        moment = timestamps.parse(value) if "T" in value else None
        return (3, moment) if moment is not None else (4, natural(value))


def natural(text: str) -> Rank:
    """Text in which runs of digits count as numbers."""
    pieces = _DIGITS.split(text)
    return tuple((int(piece), piece) if at % 2 else piece for at, piece in enumerate(pieces))
