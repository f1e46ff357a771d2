"""`Rankings`: the best node for a pod in logarithmic time, however many nodes there are.

For each demand there is a heap of feasible nodes by cost, and for each controller that already has pods a heap of its
own in which nodes that hold some of them cost more. A heap is never scanned: entries carry the node's version, stale
ones are dropped when they come up, and a node that has changed (by a placement, a deletion, new facts) is entered anew
when the heap is next used. Cost is Kubernetes' least-allocated score, lowered to 0..100, plus spreading.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict

from barque.master.scheduler.demand import Demand
from barque.master.scheduler.filters import is_feasible, refusal
from barque.master.scheduler.snapshot import Placed, Snapshot

# Heaps kept at once; one costs about 100 bytes per node.
HEAPS = 256
# The second pod of a controller on a node costs as much as the whole range of least-allocated: few replicas go to
# distinct nodes if they can. The logarithm lets free room decide once each node has many.
SPREAD_WEIGHT = 100.0

Entry = tuple[float, int, int]


class _Heap:
    """Entries (cost, position, version) as of the snapshot's `moment`."""

    __slots__ = ("entries", "moment")

    def __init__(self, entries: list[Entry], moment: int) -> None:
        self.entries = entries
        self.moment = moment


class Rankings:
    """Rankings of the nodes of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._heaps: OrderedDict[tuple[Demand, str], _Heap] = OrderedDict()
        self._refusals: dict[Demand, str] = {}
        self._refusals_at = -1

    def best(self, demand: Demand, owner: str) -> str | None:
        """The name of the cheapest feasible node, or None."""
        heap = self._heap(demand, owner if owner in self._snapshot.spread else "")
        entries, versions = heap.entries, self._snapshot.versions
        while entries:
            _, at, version = entries[0]
            if versions[at] == version:
                return self._snapshot.names[at]
            heapq.heappop(entries)
        return None

    def assume(self, uid: str, demand: Demand, owner: str) -> str | None:
        """Place a pod on its best node until its binding is seen; returns the node, or None where none can take it."""
        node = self.best(demand, owner)
        if node is not None:
            self._snapshot.place(uid, Placed(node, owner, demand, True))
        return node

    def refusal(self, demand: Demand) -> str:
        """Why no node can take it; found once per demand and state of the nodes."""
        if self._refusals_at != self._snapshot.moment:
            self._refusals.clear()
            self._refusals_at = self._snapshot.moment
        found = self._refusals.get(demand)
        if found is None:
            found = self._refusals[demand] = refusal(self._snapshot, demand)
        return found

    def _heap(self, demand: Demand, owner: str) -> _Heap:
        key = (demand, owner)
        heap = self._heaps.get(key)
        if heap is None:
            heap = self._heaps[key] = self._spread_heap(demand, owner) if owner else self._build(demand, "")
            if len(self._heaps) > HEAPS:
                self._heaps.popitem(last=False)
            return heap
        self._heaps.move_to_end(key)
        changed = self._snapshot.changed_since(heap.moment)
        if changed is None or len(heap.entries) > 4 * len(self._snapshot.names) + 64:
            heap.entries = self._build(demand, owner).entries
        else:
            for at in set(changed):
                entry = self._entry(at, demand, owner)
                if entry is not None:
                    heapq.heappush(heap.entries, entry)
        heap.moment = self._snapshot.moment
        return heap

    def _spread_heap(self, demand: Demand, owner: str) -> _Heap:
        """A controller's heap: the demand's own, but for the nodes that hold its pods."""
        base = self._heap(demand, "")
        own = self._snapshot.spread[owner]
        entries = [e for e in base.entries if e[1] not in own]
        entries += [e for e in (self._entry(at, demand, owner) for at in own) if e is not None]
        heapq.heapify(entries)
        return _Heap(entries, base.moment)

    def _build(self, demand: Demand, owner: str) -> _Heap:
        every = (self._entry(at, demand, owner) for at in range(len(self._snapshot.names)))
        entries = [e for e in every if e is not None]
        heapq.heapify(entries)
        return _Heap(entries, self._snapshot.moment)

    def _entry(self, at: int, demand: Demand, owner: str) -> Entry | None:
        snapshot = self._snapshot
        if not is_feasible(snapshot, at, demand):
            return None
        facts = snapshot.facts[at]
        assert facts is not None
        # Shares left free, each 0..1; a node that says nothing of a resource has none of it free.
        cpu = (snapshot.cpu_scored[at] - demand.scored_cpu_milli) / (facts.cpu_milli or 1)
        memory = (snapshot.memory_scored[at] - demand.scored_memory_bytes) / (facts.memory_bytes or 1)
        cost = 100.0 - 50.0 * (max(cpu, 0.0) + max(memory, 0.0))
        if owner:
            count = snapshot.spread.get(owner, {}).get(at, 0)
            if count:
                cost += SPREAD_WEIGHT * math.log2(1 + count)
        return (cost, at, snapshot.versions[at])
