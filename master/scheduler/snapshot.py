"""`Snapshot`: the nodes as columns, and what is placed on them, as far as scheduling needs to know.

In: nodes and pods as the watches show them, and placements assumed before their binding is seen. Out: columns indexed
by node position, the pods per controller and node, and a log of changed positions from which rankings catch up. No I/O.
Amounts are integers: thousandths of cpu, bytes of memory.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import msgspec

from barque.api import conditions
from barque.api.types.core_v1 import Node, Taint
from barque.master.scheduler.demand import Demand, amount_of

# Kubernetes' default, for a node that does not say.
PODS_PER_NODE = 110


class NodeFacts(NamedTuple):
    """All of a node that decides a placement; a change of anything else is no change here."""

    cpu_milli: int
    memory_bytes: int
    pods: int
    others: dict[str, int]
    labels: dict[str, str]
    is_ready: bool
    is_unschedulable: bool
    taints: list[Taint]


class Placed(msgspec.Struct):
    """A pod on a node; `assumed` until the watch has shown it there."""

    node: str
    owner: str
    demand: Demand
    assumed: bool


def facts_of(node: Node) -> NodeFacts:
    amounts = node.status.allocatable or node.status.capacity
    others = {n: amount_of(n, a) for n, a in amounts.items() if n not in ("cpu", "memory", "pods")}
    return NodeFacts(
        amount_of("cpu", amounts.get("cpu", 0)),
        amount_of("memory", amounts.get("memory", 0)),
        amount_of("pods", amounts.get("pods", PODS_PER_NODE)),
        others,
        node.metadata.labels,
        conditions.is_true(node.status.conditions, "Ready") and not node.metadata.deletionTimestamp,
        bool(node.spec.unschedulable),
        [t for t in node.spec.taints if t.effect in ("NoSchedule", "NoExecute")],
    )


class Snapshot:
    """Columns by node position. A position whose node is gone has no facts and may be used again."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.facts: list[NodeFacts | None] = []
        self.cpu_free: list[int] = []
        self.memory_free: list[int] = []
        self.pods_free: list[int] = []
        self.others_free: list[dict[str, int]] = []
        # As scores see it: pods without requests count for something.
        self.cpu_scored: list[int] = []
        self.memory_scored: list[int] = []
        self.versions: list[int] = []
        # Pods of one controller, by node position.
        self.spread: dict[str, dict[int, int]] = {}
        self.positions: dict[str, int] = {}
        self._vacant: list[int] = []
        self._pods: dict[str, Placed] = {}
        self._by_node: defaultdict[str, dict[str, Placed]] = defaultdict(dict)
        self._log: list[int] = []
        self._log_start = 0

    @property
    def moment(self) -> int:
        """How many changes there have been."""
        return self._log_start + len(self._log)

    def changed_since(self, moment: int) -> list[int] | None:
        """Positions changed since then; None where so many have that all should be looked at."""
        if moment < self._log_start or self.moment - moment > len(self.names):
            return None
        return self._log[moment - self._log_start :]

    def set_node(self, name: str, facts: NodeFacts) -> bool:
        """Take a node in, or its new facts; returns whether anything changed."""
        at = self.positions.get(name)
        if at is not None and self.facts[at] == facts:
            return False
        if at is None:
            at = self._new_position(name)
        self.facts[at] = facts
        self._recount(at)
        return True

    def drop_node(self, name: str) -> None:
        at = self.positions.pop(name, None)
        if at is None:
            return
        for placed in self._pods_of(name):
            self._count_spread(placed.owner, at, -1)
        self.facts[at] = None
        self.names[at] = ""
        self._vacant.append(at)
        self._touch(at)

    def held(self, uid: str) -> Placed | None:
        return self._pods.get(uid)

    def place(self, uid: str, placed: Placed) -> None:
        """Put a pod on a node, or confirm that it is there; the node may be unknown yet."""
        before = self._pods.get(uid)
        if before is not None:
            if before.node == placed.node:
                before.assumed = before.assumed and placed.assumed
                return
            self.release(uid)
        self._pods[uid] = placed
        self._by_node[placed.node][uid] = placed
        at = self.positions.get(placed.node)
        if at is not None:
            self._charge(at, placed, 1)
            self._touch(at)

    def release(self, uid: str) -> bool:
        """Take a pod away; returns whether it held anything."""
        placed = self._pods.pop(uid, None)
        if placed is None:
            return False
        held = self._by_node[placed.node]
        del held[uid]
        if not held:
            del self._by_node[placed.node]
        at = self.positions.get(placed.node)
        if at is not None:
            self._charge(at, placed, -1)
            self._touch(at)
        return True

    def _new_position(self, name: str) -> int:
        if self._vacant:
            at = self._vacant.pop()
            self.names[at] = name
        else:
            at = len(self.names)
            self.names.append(name)
            self.facts.append(None)
            for column in (self.cpu_free, self.memory_free, self.pods_free, self.cpu_scored, self.memory_scored):
                column.append(0)
            self.others_free.append({})
            self.versions.append(0)
        self.positions[name] = at
        for placed in self._pods_of(name):
            self._count_spread(placed.owner, at, 1)
        return at

    def _pods_of(self, name: str) -> list[Placed]:
        return list(self._by_node[name].values()) if name in self._by_node else []

    def _recount(self, at: int) -> None:
        facts = self.facts[at]
        assert facts is not None
        self.cpu_free[at], self.memory_free[at], self.pods_free[at] = facts.cpu_milli, facts.memory_bytes, facts.pods
        self.others_free[at] = dict(facts.others)
        self.cpu_scored[at], self.memory_scored[at] = facts.cpu_milli, facts.memory_bytes
        for placed in self._pods_of(self.names[at]):
            self._charge_amounts(at, placed.demand, 1)
        self._touch(at)

    def _charge(self, at: int, placed: Placed, sign: int) -> None:
        self._charge_amounts(at, placed.demand, sign)
        self._count_spread(placed.owner, at, sign)

    def _charge_amounts(self, at: int, demand: Demand, sign: int) -> None:
        self.pods_free[at] -= sign
        self.cpu_free[at] -= sign * demand.cpu_milli
        self.memory_free[at] -= sign * demand.memory_bytes
        self.cpu_scored[at] -= sign * demand.scored_cpu_milli
        self.memory_scored[at] -= sign * demand.scored_memory_bytes
        for name, amount in demand.others:
            self.others_free[at][name] = self.others_free[at].get(name, 0) - sign * amount

    def _count_spread(self, owner: str, at: int, sign: int) -> None:
        if not owner:
            return
        counts = self.spread.setdefault(owner, {})
        counts[at] = counts.get(at, 0) + sign
        if counts[at] == 0:
            del counts[at]
            if not counts:
                del self.spread[owner]

    def _touch(self, at: int) -> None:
        self.versions[at] += 1
        self._log.append(at)
        # Rankings that have slept longer than this look at everything anyway.
        if len(self._log) > 4 * len(self.names) + 1024:
            cut = len(self._log) // 2
            del self._log[:cut]
            self._log_start += cut
