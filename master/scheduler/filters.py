"""Which nodes a pod may go to, and in Kubernetes' words why not to the others."""

from __future__ import annotations

from collections import Counter

from barque.master.scheduler.demand import Demand
from barque.master.scheduler.snapshot import Snapshot


def is_feasible(snapshot: Snapshot, at: int, demand: Demand) -> bool:
    """Whether the node at this position can take one more pod of this demand."""
    facts = snapshot.facts[at]
    if facts is None or not facts.is_ready or facts.is_unschedulable:
        return False
    if (
        snapshot.pods_free[at] < 1
        or demand.cpu_milli > snapshot.cpu_free[at]
        or demand.memory_bytes > snapshot.memory_free[at]
    ):
        # What is asked for in no amount is never lacking, even where more than all is taken already.
        return snapshot.pods_free[at] >= 1 and not _lacking(snapshot, at, demand) and _admits(snapshot, at, demand)
    if demand.others and _lacking(snapshot, at, demand):
        return False
    return _admits(snapshot, at, demand)


def _admits(snapshot: Snapshot, at: int, demand: Demand) -> bool:
    facts = snapshot.facts[at]
    assert facts is not None
    if any(facts.labels.get(key) != value for key, value in demand.selector):
        return False
    return not facts.taints or all(demand.tolerates(taint) for taint in facts.taints)


def _lacking(snapshot: Snapshot, at: int, demand: Demand) -> list[str]:
    """The resources of which the node has too little."""
    lacking = []
    if 0 < demand.cpu_milli > snapshot.cpu_free[at]:
        lacking.append("cpu")
    if 0 < demand.memory_bytes > snapshot.memory_free[at]:
        lacking.append("memory")
    free = snapshot.others_free[at]
    lacking += [name for name, amount in demand.others if amount > free.get(name, 0)]
    return lacking


def reasons(snapshot: Snapshot, at: int, demand: Demand) -> list[str]:
    """Why this node cannot take the pod: the first hindrance, or every resource that is lacking."""
    facts = snapshot.facts[at]
    if facts is None:
        return []
    if facts.is_unschedulable:
        return ["node(s) were unschedulable"]
    if not facts.is_ready:
        return ["node(s) were not ready"]
    for taint in facts.taints:
        if not demand.tolerates(taint):
            return [f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"]
    if not _admits(snapshot, at, demand):
        return ["node(s) didn't match Pod's node affinity/selector"]
    lacking = [f"Insufficient {name}" for name in _lacking(snapshot, at, demand)]
    return ["Too many pods", *lacking] if snapshot.pods_free[at] < 1 else lacking


def refusal(snapshot: Snapshot, demand: Demand) -> str:
    """One sentence on why no node can take a pod of this demand."""
    total = len(snapshot.positions)
    if total == 0:
        return "no nodes available to schedule pods"
    counted = Counter(r for at in snapshot.positions.values() for r in reasons(snapshot, at, demand))
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in counted.items()))
    return f"0/{total} nodes are available: {listed}."
