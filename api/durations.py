"""Durations as Go writes them ("1h30m", "250ms"): the text form of metav1.Duration.

In: text or whole nanoseconds. Out: whole nanoseconds or canonical text. Guarantee: `parse(show(n)) == n` for every n in
range. Source: Go's package time (ParseDuration, Duration.String).
"""

from __future__ import annotations

import re
from fractions import Fraction

NANOSECONDS_PER_SECOND = 10**9

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,  # the Greek letter, which looks like the micro sign
    "ms": 10**6,
    "s": NANOSECONDS_PER_SECOND,
    "m": 60 * NANOSECONDS_PER_SECOND,
    "h": 3600 * NANOSECONDS_PER_SECOND,
}
_PART = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)", re.ASCII)
_MAX = 2**63 - 1
# A duration in range has at most 19 digits and a few units; a longer text is an attack on our arithmetic.
_MAX_TEXT = 128


def parse(text: str) -> int:
    """The nanoseconds, with what is finer cut off. Raises ValueError in Go's words."""
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return 0
    if not unsigned or len(text) > _MAX_TEXT:
        raise _invalid(text)
    total, position = 0, 0
    while position < len(unsigned):
        match = _PART.match(unsigned, position)
        assert match is not None  # the pattern matches anything, if only emptily
        total += _part(match, text)
        position = match.end()
    total = -total if text[0] == "-" else total
    if not -_MAX - 1 <= total <= _MAX:
        raise _invalid(text)
    return total


def show(nanoseconds: int) -> str:
    """The canonical text: "1h30m0s", "1.5s", "250ms", "0s"."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest == 0:
        return "0s"
    if rest < NANOSECONDS_PER_SECOND:
        unit = "ns" if rest < _UNITS["us"] else "µs" if rest < _UNITS["ms"] else "ms"
        return f"{sign}{_decimal(rest, _UNITS[unit])}{unit}"
    hours, rest = divmod(rest, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    shown = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{shown}{_decimal(rest, NANOSECONDS_PER_SECOND)}s"


def _part(match: re.Match[str], text: str) -> int:
    whole, fraction, unit = match[1], match[2] or "", match[3]
    if not whole and len(fraction) < 2:
        raise _invalid(text)
    if not unit:
        raise ValueError(f'time: missing unit in duration "{text}"')
    if unit not in _UNITS:
        raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
    return int(Fraction(f"{whole or 0}{fraction}0" if fraction else whole) * _UNITS[unit])


def _decimal(value: int, unit: int) -> str:
    """`value / unit` without trailing zeros."""
    whole, rest = divmod(value, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def _invalid(text: str) -> ValueError:
    return ValueError(f'time: invalid duration "{text}"')
