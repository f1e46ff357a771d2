"""Arithmetic on resource lists: what pods ask for, what nodes and quotas have, name by name.

In: maps from a resource's name to an amount. Out: maps with canonical amounts, or names. Exact; a name that is missing
counts as zero. Source: Kubernetes' quota and resource helpers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from barque.api import quantity
from barque.api.types.base import Quantity

ResourceList = Mapping[str, Quantity]


def add(*lists: ResourceList) -> dict[str, str]:
    """The sum of the lists."""
    return {name: quantity.total(each.get(name, 0) for each in lists) for name in _names(lists)}


def subtract(a: ResourceList, b: ResourceList) -> dict[str, str]:
    """`a - b`; a name that only `b` has comes out negative."""
    return {name: quantity.total((a.get(name, 0), quantity.negative(b.get(name, 0)))) for name in _names((a, b))}


def largest(*lists: ResourceList) -> dict[str, str]:
    """Of each name the largest amount that one of the lists has."""
    return {
        name: quantity.canonical(max((each[name] for each in lists if name in each), key=quantity.parse))
        for name in _names(lists)
    }


def exceeding(wanted: ResourceList, limit: ResourceList) -> list[str]:
    """The names, sorted, of which more is wanted than the limit says; a name without a limit has none.

    So a quota is judged: only what it names is limited.
    """
    return sorted(
        name for name in wanted if name in limit and quantity.parse(wanted[name]) > quantity.parse(limit[name])
    )


def lacking(request: ResourceList, available: ResourceList) -> list[str]:
    """The names, sorted, of which `request` wants more than there is; empty where it fits.

    So a node is judged: what it does not name it does not have.
    """
    return sorted(
        name
        for name, wanted in request.items()
        if (need := quantity.parse(wanted)) > 0 and need > quantity.parse(available.get(name, 0))
    )


def restrict(amounts: ResourceList, names: Iterable[str]) -> dict[str, Quantity]:
    """Only the entries of these names."""
    kept = set(names)
    return {name: amount for name, amount in amounts.items() if name in kept}


def _names(lists: Iterable[ResourceList]) -> list[str]:
    """Every name once, in the order in which the lists bring them."""
    return list(dict.fromkeys(name for each in lists for name in each))
