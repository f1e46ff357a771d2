"""Resource maps in their canonical form, in which nothing is finer than a thousandth."""

from __future__ import annotations

from functools import lru_cache

from barque.api import quantity
from barque.api.types.base import Quantity


def canonicalise(amounts: dict[str, Quantity]) -> None:
    """Write every amount the one way, rounded up to a thousandth; nonsense stays."""
    for name, amount in amounts.items():
        amounts[name] = _in_thousandths(amount)


def canonical_or_same(amount: Quantity) -> Quantity:
    try:
        return quantity.canonical(amount)
    except ValueError:
        return amount


@lru_cache(maxsize=4096)
def _in_thousandths(amount: Quantity) -> Quantity:
    try:
        thousandths = quantity.parse(amount) * 1000
    except ValueError:
        return amount
    return quantity.canonical(amount if thousandths.denominator == 1 else f"{quantity.milli(amount)}m")
