"""Resource amounts ("500m", 2, "1Gi"): exact arithmetic on fractions and the canonical form Kubernetes prints.

In: `Quantity` as manifests write it. Out: `Fraction`s and canonical strings. Guarantee:
`parse(canonical(q)) == parse(q)` for every amount that parses. Source: apimachinery's resource.Quantity. What is finer
than a nano is rounded away from zero; an amount with a binary suffix is held at 2⁶³-1; an amount is printed with the
kind of suffix it was written with. Sums of whole resource lists are in `barque.api.resourcelists`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from barque.api.types.base import Quantity

_FORM = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)", re.ASCII)
_EXPONENT = re.compile(r"[eE][+-]?[0-9]{1,3}", re.ASCII)
_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4, "Pi": 1024**5, "Ei": 1024**6}
_DECIMAL_EXPONENTS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES = {exponent: suffix for suffix, exponent in _DECIMAL_EXPONENTS.items()}
_MAX = 2**63 - 1
# An amount is at most 19 digits and 9 decimals; a longer text is an attack on our arithmetic.
_MAX_TEXT = 128


_DECIMAL, _BINARY_FORM, _EXPONENT_FORM = "decimal", "binary", "exponent"


class _Amount(NamedTuple):
    value: Fraction
    form: str  # how it was written, hence how it is printed


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


def total(amounts: Iterable[Quantity]) -> str:
    """The sum, printed as the first amount that is not zero is written."""
    value, form = Fraction(0), _DECIMAL
    for amount in map(_read, amounts):
        form = form if value else amount.form
        value += amount.value
    return _show(_Amount(value, form))


def negative(quantity: Quantity) -> str:
    """The amount below zero instead of above."""
    amount = _read(quantity)
    return _show(_Amount(-amount.value, amount.form))


def _read(quantity: Quantity) -> _Amount:
    if isinstance(quantity, bool):
        raise ValueError("a truth value is not a quantity")
    # A small float would print itself with an exponent, which nobody has written.
    return _read_text(format(Decimal(repr(quantity)), "f") if isinstance(quantity, float) else str(quantity))


@lru_cache(maxsize=4096)
def _read_text(text: str) -> _Amount:
    match = _FORM.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    if _NUMBER.fullmatch(match[1]) is None:
        raise ValueError("unable to parse numeric part of quantity")
    number, suffix = Fraction(match[1]), match[2]
    if suffix in _BINARY:
        value = _held(_to_nanos(number * _BINARY[suffix]))
        return _Amount(value, _DECIMAL if 0 < value < 1 else _BINARY_FORM)
    if suffix in _DECIMAL_EXPONENTS:
        return _Amount(_to_nanos(number * Fraction(10) ** _DECIMAL_EXPONENTS[suffix]), _DECIMAL)
    if _EXPONENT.fullmatch(suffix) is None:
        raise ValueError("unable to parse quantity's suffix")
    return _Amount(_to_nanos(number * Fraction(10) ** int(suffix[1:])), _EXPONENT_FORM)


def _held(value: Fraction) -> Fraction:
    return max(Fraction(-_MAX), min(Fraction(_MAX), value))


def _to_nanos(value: Fraction) -> Fraction:
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
    if amount.form == _BINARY_FORM and value.denominator == 1 and abs(value) >= 1024:
        return _show_binary(value.numerator)
    mantissa, exponent = _decimal_parts(value)
    if amount.form == _EXPONENT_FORM or exponent not in _SUFFIXES:
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
    while mantissa % 1000 == 0:
        mantissa, exponent = mantissa // 1000, exponent + 3
    return mantissa, exponent
