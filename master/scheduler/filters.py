"""Which nodes a pod may go to, and in Kubernetes' words why not to the others.

What depends on the node alone is judged here for one node (`hindrance`) and kept for all of them by `suitability`; what
changes with every placement, amounts and ports, is compared with the snapshot's columns.
"""

from __future__ import annotations

from collections import Counter

from barque.api import taints
from barque.api.types.core_v1 import Taint
from barque.master.scheduler.demand import Constraints, Demand
from barque.master.scheduler.snapshot import NodeFacts, Snapshot

_CORDON = Taint(key=taints.UNSCHEDULABLE, effect=taints.NO_SCHEDULE)


def hindrance(name: str, facts: NodeFacts, constraints: Constraints) -> str:
    """Why the node is none for such pods whatever room it has, "" where it is one; Kubernetes' order of filters."""
    if facts.is_unschedulable and not constraints.tolerates(_CORDON):
        return "node(s) were unschedulable"
    for taint in facts.taints:
        if taint.effect != "PreferNoSchedule" and not constraints.tolerates(taint):
            return f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"
    labels = facts.labels
    if any(labels.get(key) != value for key, value in constraints.selector):
        return "node(s) didn't match Pod's node affinity/selector"
    required = constraints.required
    if required is not None and not any(term.matches(name, labels) for term in required):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def has_room(snapshot: Snapshot, at: int, demand: Demand) -> bool:
    """Whether what is free at this position is enough."""
    if snapshot.pods_free[at] < 1:
        return False
    # What is asked for in no amount is never lacking, even where more than all is taken already.
    if 0 < demand.cpu_milli > snapshot.cpu_free[at] or 0 < demand.memory_bytes > snapshot.memory_free[at]:
        return False
    if demand.others and _lacking_others(snapshot, at, demand):
        return False
    return not demand.ports or not _port_taken(snapshot, at, demand)


def reasons(snapshot: Snapshot, at: int, demand: Demand) -> list[str]:
    """Why this node cannot take the pod: the first hindrance, or every resource that is lacking."""
    facts = snapshot.facts[at]
    if facts is None:
        return []
    why = hindrance(snapshot.names[at], facts, demand.constraints)
    if why:
        return [why]
    if demand.ports and _port_taken(snapshot, at, demand):
        return ["node(s) didn't have free ports for the requested pod ports"]
    lacking = ["Too many pods"] if snapshot.pods_free[at] < 1 else []
    if 0 < demand.cpu_milli > snapshot.cpu_free[at]:
        lacking.append("Insufficient cpu")
    if 0 < demand.memory_bytes > snapshot.memory_free[at]:
        lacking.append("Insufficient memory")
    return lacking + [f"Insufficient {name}" for name in _lacking_others(snapshot, at, demand)]


def refusal(snapshot: Snapshot, demand: Demand) -> str:
    """One sentence on why no node can take a pod of this demand."""
    total = len(snapshot.positions)
    if total == 0:
        return "no nodes available to schedule pods"
    counted = Counter(r for at in snapshot.positions.values() for r in reasons(snapshot, at, demand))
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in counted.items()))
    return f"0/{total} nodes are available: {listed}."


def _lacking_others(snapshot: Snapshot, at: int, demand: Demand) -> list[str]:
    free = snapshot.others_free[at]
    return [name for name, amount in demand.others if amount > free.get(name, 0)]


def _port_taken(snapshot: Snapshot, at: int, demand: Demand) -> bool:
    """Whether a port is held on the same address, or on every address on either side."""
    held = snapshot.ports_held[at]
    if not held:
        return False
    return any(
        (protocol, port) == (own_protocol, own_port) and (address == own_address or not (address and own_address))
        for protocol, address, port in held
        for own_protocol, own_address, own_port in demand.ports
    )
