"""Numbers that may be percentages: port numbers or names, and counts as "25%" of a whole.

In: an `IntOrString` as manifests write it. Out: whole numbers. Source: apimachinery's util/intstr.
"""

from __future__ import annotations

import re

from barque.api.types.base import IntOrString

_PERCENTAGE = re.compile("([0-9]+)%", re.ASCII)
# Nobody means more digits, and Python refuses to read texts of thousands.
_MAX_DIGITS = 9


def is_percentage(value: str) -> bool:
    """Whether the text is a whole number with a percent sign."""
    return _PERCENTAGE.fullmatch(value) is not None and len(value) <= _MAX_DIGITS


def scaled(value: IntOrString, total: int, *, round_up: bool) -> int:
    """A count as it stands, or the percentage of `total`, rounded up or down to a whole number.

    Raises ValueError where a text is no percentage.
    """
    if isinstance(value, int):
        return value
    product = _percents(value) * total
    return -(-product // 100) if round_up else product // 100


def is_zero(value: IntOrString) -> bool:
    """Whether it is 0 or "0%": nothing, whatever the whole is."""
    return value == 0 or (isinstance(value, str) and is_percentage(value) and _percents(value) == 0)


def _percents(value: str) -> int:
    if not is_percentage(value):
        raise ValueError(f'invalid value for IntOrString: "{value}" is not a percentage')
    return int(value[:-1])
