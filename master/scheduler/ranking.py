"""`Rankings`: the best node for a pod in logarithmic time, however many nodes there are.

For each demand there is a heap of feasible nodes by cost, and for each controller that already has pods a heap of its
own in which nodes that hold some of them cost more; where nodes say their zone, one heap per zone. A heap is never
scanned: entries carry the node's version, stale ones are dropped when they come up, and a node that has changed (by a
placement, a deletion, new facts) is entered anew when the heap is next used.

Cost is 200 less Kubernetes' scores of least-allocated and balanced allocation, plus `suitability`, plus spreading. The
latter stands for PodTopologySpread's default constraints: what one more pod costs there, 200 over the most on any node,
is added for each pod that a node has, so that a node's cost depends on that node alone.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable

from barque.master.scheduler.demand import Demand
from barque.master.scheduler.filters import has_room, refusal
from barque.master.scheduler.snapshot import Placed, Snapshot
from barque.master.scheduler.suitability import Suitabilities, Suitability

# Heaps kept at once; one costs about 100 bytes per node.
HEAPS = 256
# Twice the whole range of a score, which is Kubernetes' weight of spreading: few replicas go to distinct nodes if they
# can. The harmonic sum lets free room decide once each node has many.
NODE_SPREAD_WEIGHT = 200.0
# Between zones half of that: Kubernetes weighs by the logarithm of the number of domains, and zones are few.
ZONE_SPREAD_WEIGHT = 100.0

Entry = tuple[float, int, int]

_harmonic = [0.0]


def harmonic(count: int) -> float:
    """1 + 1/2 + … + 1/count."""
    while len(_harmonic) <= count:
        _harmonic.append(_harmonic[-1] + 1.0 / len(_harmonic))
    return _harmonic[count]


class _Heap:
    """Entries (cost, position, version) by zone, as of the snapshot's `moment` and of the nodes' own `costs`."""

    __slots__ = ("costs", "moment", "zones")

    def __init__(self, zones: dict[str, list[Entry]], moment: int, costs: list[float] | None) -> None:
        self.zones = zones
        self.moment = moment
        self.costs = costs

    def is_outdated(self, costs: list[float] | None) -> bool:
        """Whether the nodes' own costs are others by now."""
        return self.costs is not costs and self.costs != costs

    @property
    def size(self) -> int:
        return sum(map(len, self.zones.values()))


class Rankings:
    """Rankings of the nodes of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._suitabilities = Suitabilities(snapshot)
        self._heaps: OrderedDict[tuple[Demand, str], _Heap] = OrderedDict()
        self._refusals: dict[Demand, str] = {}
        self._refusals_at = -1

    def best(self, demand: Demand, owner: str) -> str | None:
        """The name of the cheapest feasible node, or None."""
        snapshot = self._snapshot
        heap = self._heap(demand, owner if owner in snapshot.spread else "")
        spread = snapshot.zone_spread.get(owner)
        cheapest: tuple[float, int] | None = None
        for zone, entries in heap.zones.items():
            top = self._top(entries)
            if top is not None:
                cost = top[0] + ZONE_SPREAD_WEIGHT * harmonic(spread[zone] if spread else 0)
                if cheapest is None or (cost, top[1]) < cheapest:
                    cheapest = (cost, top[1])
        return None if cheapest is None else snapshot.names[cheapest[1]]

    def assume(self, uid: str, demand: Demand, owner: str) -> str | None:
        """Place a pod on its best node until its binding is seen; returns the node, or None where none can take it."""
        node = self.best(demand, owner)
        if node is not None:
            self._snapshot.place(uid, Placed(node, owner, demand, True))
        return node

    def can_any_take(self, positions: Iterable[int], demand: Demand) -> bool:
        """Whether one of the nodes at these positions can take one more pod of this demand."""
        if demand.is_gated:
            return False
        fits = self._suitabilities.of(demand.constraints).fits
        return any(fits[at] and has_room(self._snapshot, at, demand) for at in positions)

    def refusal(self, demand: Demand) -> str:
        """Why no node can take it; found once per demand and state of the nodes."""
        moment = self._snapshot.moment
        if self._refusals_at != moment:
            self._refusals.clear()
            self._refusals_at = moment
        found = self._refusals.get(demand)
        if found is None:
            found = self._refusals[demand] = refusal(self._snapshot, demand)
        return found

    def entry(self, at: int, demand: Demand, owner: str) -> Entry | None:
        """The node at this position as a heap holds it, None where it cannot take the pod."""
        return self._entry(at, demand, owner, self._suitabilities.of(demand.constraints))

    def _entry(self, at: int, demand: Demand, owner: str, suitability: Suitability) -> Entry | None:
        if not suitability.fits[at] or not has_room(self._snapshot, at, demand):
            return None
        snapshot = self._snapshot
        cost = self._load_cost(at, demand)
        if suitability.costs is not None:
            cost += suitability.costs[at]
        if owner:
            counts = snapshot.spread.get(owner)
            if counts is not None and at in counts:
                cost += NODE_SPREAD_WEIGHT * harmonic(counts[at])
        return (cost, at, snapshot.versions[at])

    def _load_cost(self, at: int, demand: Demand) -> float:
        snapshot = self._snapshot
        facts = snapshot.facts[at]
        assert facts is not None
        # A node that says nothing of a resource has none of it free.
        cpus, bytes_ = facts.cpu_milli or 1, facts.memory_bytes or 1
        cpu = (snapshot.cpu_scored[at] - demand.scored_cpu_milli) / cpus
        memory = (snapshot.memory_scored[at] - demand.scored_memory_bytes) / bytes_
        skew = (snapshot.cpu_free[at] - demand.cpu_milli) / cpus - (
            snapshot.memory_free[at] - demand.memory_bytes
        ) / bytes_
        return 100.0 - 50.0 * (max(cpu, 0.0) + max(memory, 0.0)) + 50.0 * min(abs(skew), 1.0)

    def _top(self, entries: list[Entry]) -> Entry | None:
        versions = self._snapshot.versions
        while entries:
            if versions[entries[0][1]] == entries[0][2]:
                return entries[0]
            heapq.heappop(entries)
        return None

    def _heap(self, demand: Demand, owner: str) -> _Heap:
        key = (demand, owner)
        heap = self._heaps.get(key)
        if heap is None:
            heap = self._heaps[key] = self._spread_heap(demand, owner) if owner else self._build(demand, "")
            if len(self._heaps) > HEAPS:
                self._heaps.popitem(last=False)
            return heap
        self._heaps.move_to_end(key)
        snapshot = self._snapshot
        if heap.moment == snapshot.moment and heap.costs is None and not snapshot.images:
            return heap
        suitability = self._suitabilities.of(demand.constraints)
        changed = snapshot.changed_since(heap.moment)
        if changed is None or heap.is_outdated(suitability.costs) or heap.size > 4 * len(snapshot.names) + 64:
            heap.zones = self._build(demand, owner).zones
        else:
            for at in set(changed):
                entry = self._entry(at, demand, owner, suitability)
                if entry is not None:
                    heapq.heappush(heap.zones.setdefault(self._zone(at), []), entry)
        heap.moment, heap.costs = snapshot.moment, suitability.costs
        return heap

    def _spread_heap(self, demand: Demand, owner: str) -> _Heap:
        """A controller's heap: the demand's own, but for the nodes that hold its pods."""
        base = self._heap(demand, "")
        own = self._snapshot.spread[owner]
        suitability = self._suitabilities.of(demand.constraints)
        zones = {zone: [e for e in entries if e[1] not in own] for zone, entries in base.zones.items()}
        return self._heapified(zones, [self._entry(at, demand, owner, suitability) for at in own], suitability.costs)

    def _build(self, demand: Demand, owner: str) -> _Heap:
        suitability = self._suitabilities.of(demand.constraints)
        entries = [self._entry(at, demand, owner, suitability) for at in range(len(self._snapshot.names))]
        return self._heapified({}, entries, suitability.costs)

    def _heapified(self, zones: dict[str, list[Entry]], more: list[Entry | None], costs: list[float] | None) -> _Heap:
        for entry in more:
            if entry is not None:
                zones.setdefault(self._zone(entry[1]), []).append(entry)
        for entries in zones.values():
            heapq.heapify(entries)
        return _Heap(zones, self._snapshot.moment, costs)

    def _zone(self, at: int) -> str:
        facts = self._snapshot.facts[at]
        return facts.zone if facts is not None else ""
