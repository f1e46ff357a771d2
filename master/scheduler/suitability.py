"""`Suitability`: which nodes are any good for pods of the same `Constraints`, and how good, as columns.

In: a snapshot's facts and images. Out: for every node position whether such pods may go there at all, and a cost of
what depends on the node alone, with Kubernetes' weights: preferred node affinity and images count for a node, taints
of effect PreferNoSchedule against it, each as a share of the best (or worst) among the nodes that are any good. Columns
are made once for all pods of one template and anew only when facts of a node change, not when pods come and go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from barque.api.types.core_v1 import Taint
from barque.master.scheduler.demand import Constraints
from barque.master.scheduler.filters import hindrance
from barque.master.scheduler.snapshot import Snapshot

# Columns kept at once; one costs about 10 bytes per node.
COLUMNS = 256
# Kubernetes' weights of the scores, each of which is 0..100.
AFFINITY_WEIGHT = 2.0
TAINT_WEIGHT = 3.0
IMAGE_WEIGHT = 1.0
# An image below the first is quickly pulled; above the second, times containers, nothing is gained any more.
_SMALL_IMAGE_BYTES = 23 * 1024**2
_LARGE_IMAGE_BYTES = 1000 * 1024**2

Stamp = tuple[int, ...]


class Suitability:
    """Columns by node position. `costs` is None where all nodes are equally good."""

    __slots__ = ("costs", "fits", "stamp")

    def __init__(self, fits: list[bool], costs: list[float] | None, stamp: Stamp) -> None:
        self.fits = fits
        self.costs = costs
        self.stamp = stamp


class Suitabilities:
    """The columns of the constraints that are in use."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._columns: OrderedDict[Constraints, Suitability] = OrderedDict()

    def of(self, constraints: Constraints) -> Suitability:
        """The columns as of now."""
        stamp = self._stamp(constraints)
        found = self._columns.get(constraints)
        if found is None or found.stamp != stamp:
            found = self._columns[constraints] = judge(self._snapshot, constraints, stamp)
            if len(self._columns) > COLUMNS:
                self._columns.popitem(last=False)
        self._columns.move_to_end(constraints)
        return found

    def _stamp(self, constraints: Constraints) -> Stamp:
        images = self._snapshot.images
        if not images:
            return (self._snapshot.facts_moment,)
        versions = (images[name].version if name in images else 0 for name in constraints.images)
        return (self._snapshot.facts_moment, *versions)


def judge(snapshot: Snapshot, constraints: Constraints, stamp: Stamp = ()) -> Suitability:
    """The columns made anew."""
    fits = [
        facts is not None and not hindrance(name, facts, constraints)
        for name, facts in zip(snapshot.names, snapshot.facts, strict=True)
    ]
    costs = [0.0] * len(fits)
    _add_shares(costs, _preferences(snapshot, constraints, fits), -AFFINITY_WEIGHT)
    _add_shares(costs, _untolerated(snapshot, constraints, fits), TAINT_WEIGHT)
    _add_images(costs, snapshot, constraints)
    return Suitability(fits, costs if any(costs) else None, stamp)


def _add_shares(costs: list[float], amounts: Sequence[int], weight: float) -> None:
    """Add each amount as its share, in hundredths, of the greatest."""
    most = max(amounts, default=0)
    if most > 0:
        for at, amount in enumerate(amounts):
            costs[at] += weight * 100.0 * amount / most


def _preferences(snapshot: Snapshot, constraints: Constraints, fits: Sequence[bool]) -> list[int]:
    if not constraints.preferred:
        return []
    return [
        sum(w for w, term in constraints.preferred if term.matches(name, facts.labels)) if facts and fit else 0
        for name, facts, fit in zip(snapshot.names, snapshot.facts, fits, strict=True)
    ]


def _untolerated(snapshot: Snapshot, constraints: Constraints, fits: Sequence[bool]) -> list[int]:
    def count(taints: Sequence[Taint]) -> int:
        return sum(1 for t in taints if t.effect == "PreferNoSchedule" and not constraints.tolerates(t))

    return [
        count(facts.taints) if facts and fit and facts.taints else 0
        for facts, fit in zip(snapshot.facts, fits, strict=True)
    ]


def _add_images(costs: list[float], snapshot: Snapshot, constraints: Constraints) -> None:
    """An image counts the more the more nodes have it, lest the few that do draw all pods to themselves."""
    held: dict[int, float] = {}
    for name in constraints.images:
        image = snapshot.images.get(name)
        if image is not None and image.holders:
            share = len(image.holders) / len(snapshot.positions)
            for at, size in image.holders.items():
                held[at] = held.get(at, 0.0) + size * share
    most = _LARGE_IMAGE_BYTES * len(constraints.images)
    for at, useful_bytes in held.items():
        useful = min(max(useful_bytes, _SMALL_IMAGE_BYTES), most) - _SMALL_IMAGE_BYTES
        costs[at] -= IMAGE_WEIGHT * 100.0 * useful / (most - _SMALL_IMAGE_BYTES)
