"""Resource amounts ("500m", 2, "1Gi"): exact arithmetic on fractions and the canonical form Kubernetes prints.

In: `Quantity` as manifests write it. Out: `Fraction`s and canonical strings. Guarantee:
`parse(canonical(q)) == parse(q)` for every amount that parses. Source: apimachinery's resource.Quantity (amounts finer
than a nano are rounded away from zero, amounts beyond 2⁶³-1 are held there).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from barque.api.types.base import Quantity

_FORM = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?", re.ASCII)
_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4, "Pi": 1024**5, "Ei": 1024**6}
_DECIMAL_EXPONENTS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES = {exponent: suffix for suffix, exponent in _DECIMAL_EXPONENTS.items()}
_MAX = 2**63 - 1
# An amount is at most 19 digits and 9 decimals; a longer text is an attack on our arithmetic.
_MAX_TEXT = 128


class _Amount(NamedTuple):
    value: Fraction
    form: str  # "decimal", "binary" or "exponent": how it was written, hence how it is printed


def parse(quantity: Quantity) -> Fraction:
    """The exact amount. Raises ValueError where `quantity` is no amount."""
    return _read(quantity).value


def canonical(quantity: Quantity) -> str:
    """The one way to write this amount: "1000m" -> "1", 0.5 -> "500m", "1024Mi" -> "1Gi". Raises ValueError."""
    return _show(_read(quantity))


def milli(quantity: Quantity) -> int:
    """Thousandths, rounded up: CPU shares are counted in these."""
    return _round_up(parse(quantity) * 1000)


def whole(quantity: Quantity) -> int:
    """Units, rounded up: bytes of memory, numbers of pods."""
    return _round_up(parse(quantity))


def add(a: Mapping[str, Quantity], b: Mapping[str, Quantity]) -> dict[str, str]:
    """The sum of two resource maps, name by name."""
    return _combine(a, b, lambda x, y: x + y)


def subtract(a: Mapping[str, Quantity], b: Mapping[str, Quantity]) -> dict[str, str]:
    """`a - b`, name by name; a name that only `b` has comes out negative."""
    return _combine(a, b, lambda x, y: x - y)


def fits(request: Mapping[str, Quantity], available: Mapping[str, Quantity]) -> list[str]:
    """The names, sorted, of which `request` wants more than there is; empty where it fits."""
    return sorted(
        name for name, wanted in request.items() if (need := parse(wanted)) > 0 and need > parse(available.get(name, 0))
    )


def _combine(
    a: Mapping[str, Quantity], b: Mapping[str, Quantity], operation: Callable[[Fraction, Fraction], Fraction]
) -> dict[str, str]:
    total = {}
    for name in [*a, *(name for name in b if name not in a)]:
        left, right = _read(a.get(name, 0)), _read(b.get(name, 0))
        total[name] = _show(_Amount(operation(left.value, right.value), left.form if left.value else right.form))
    return total


def _read(quantity: Quantity) -> _Amount:
    if isinstance(quantity, bool):
        raise ValueError("a truth value is not a quantity")
    return _read_text(quantity if isinstance(quantity, str) else repr(quantity))


@lru_cache(maxsize=4096)
def _read_text(text: str) -> _Amount:
    match = _FORM.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    number, suffix = Fraction(match[1]), match[2] or ""
    if suffix in _BINARY:
        return _Amount(_bounded(number * _BINARY[suffix]), "binary")
    if suffix in _DECIMAL_EXPONENTS:
        return _Amount(_bounded(number * Fraction(10) ** _DECIMAL_EXPONENTS[suffix]), "decimal")
    return _Amount(_bounded(number * Fraction(10) ** int(suffix[1:])), "exponent")


def _bounded(value: Fraction) -> Fraction:
    value = max(Fraction(-_MAX), min(Fraction(_MAX), value))
    nanos = value * 10**9
    return value if nanos.denominator == 1 else Fraction(_round_away(nanos), 10**9)


def _round_up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _round_away(value: Fraction) -> int:
    return _round_up(value) if value > 0 else -_round_up(-value)


def _show(amount: _Amount) -> str:
    value = amount.value
    if value == 0:
        return "0"
    if amount.form == "binary" and value.denominator == 1 and abs(value) >= 1024:
        return _show_binary(value.numerator)
    mantissa, exponent = _decimal_parts(value)
    if amount.form == "exponent":
        return f"{mantissa}e{exponent}" if exponent else str(mantissa)
    return f"{mantissa}{_SUFFIXES[exponent]}"


def _show_binary(number: int) -> str:
    shown = str(number)
    for suffix, factor in _BINARY.items():
        if number % factor == 0:
            shown = f"{number // factor}{suffix}"
    return shown


def _decimal_parts(value: Fraction) -> tuple[int, int]:
    """The smallest whole mantissa with an exponent that is a multiple of three."""
    mantissa, exponent = int(value * 10**9), -9
    while exponent < 18 and mantissa % 1000 == 0:
        mantissa, exponent = mantissa // 1000, exponent + 3
    return mantissa, exponent
