"""Resource maps in their canonical form."""

from __future__ import annotations

from barque.api import quantity
from barque.api.types.base import Quantity


def canonicalise(amounts: dict[str, Quantity]) -> None:
    """Write every amount the one way; nonsense stays."""
    for name, amount in amounts.items():
        amounts[name] = canonical_or_same(amount)


def canonical_or_same(amount: Quantity) -> Quantity:
    try:
        return quantity.canonical(amount)
    except ValueError:
        return amount
