"""`Snapshot`: the nodes as columns, and what is placed on them, as far as scheduling needs to know.

In: nodes and pods as the watches show them, and placements assumed before their binding is seen. Out: columns indexed
by node position, the pods per controller and node, and a log of changed positions from which rankings catch up. No I/O.
Amounts are integers: thousandths of cpu, bytes of memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

import msgspec

from barque.api import conditions, taints
from barque.api.types.core_v1 import Node, Taint
from barque.master.scheduler.demand import Demand, amount_of, image_name

# Kubernetes' default, for a node that does not say.
PODS_PER_NODE = 110
ZONE_LABEL = "topology.kubernetes.io/zone"


class NodeFacts(NamedTuple):
    """All of a node that decides who may go there, but for its images; a change of anything else is no change here."""

    cpu_milli: int
    memory_bytes: int
    pods: int
    others: dict[str, int]
    labels: dict[str, str]
    is_unschedulable: bool
    taints: list[Taint]

    @property
    def zone(self) -> str:
        return self.labels.get(ZONE_LABEL, "")


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
        bool(node.spec.unschedulable or node.metadata.deletionTimestamp),
        _taints_of(node),
    )


def _taints_of(node: Node) -> list[Taint]:
    """The node's taints. One that is not ready has the taint for it from that moment, not when somebody writes it."""
    ready = conditions.find(node.status.conditions, "Ready")
    if ready is not None and ready.status == "True":
        return node.spec.taints
    key = taints.UNREACHABLE if ready is not None and ready.status == "Unknown" else taints.NOT_READY
    if any(taint.key == key and taint.effect == taints.NO_SCHEDULE for taint in node.spec.taints):
        return node.spec.taints
    return [*node.spec.taints, Taint(key=key, effect=taints.NO_SCHEDULE)]


def images_of(node: Node) -> dict[str, int]:
    """Bytes by name of the images that are on the node."""
    return {image_name(name): image.sizeBytes or 0 for image in node.status.images for name in image.names}


class Image(msgspec.Struct):
    """Where an image is: its bytes by node position. Each change gives it a `version` that no image has had."""

    holders: dict[int, int] = msgspec.field(default_factory=dict)
    version: int = 0


class Snapshot:
    """Columns by node position. A position whose node is gone has no facts and may be used again."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.facts: list[NodeFacts | None] = []
        self.cpu_free: list[int] = []
        self.memory_free: list[int] = []
        self.pods_free: list[int] = []
        self.others_free: list[dict[str, int]] = []
        # (protocol, address, port) of the host, with how many pods hold it: more than one only where they were forced.
        self.ports_held: list[Counter[tuple[str, str, int]]] = []
        # As scores see it: pods without requests count for something.
        self.cpu_scored: list[int] = []
        self.memory_scored: list[int] = []
        self.versions: list[int] = []
        # Pods of one controller, by node position; and by zone, of nodes that say theirs.
        self.spread: dict[str, dict[int, int]] = {}
        self.zone_spread: dict[str, Counter[str]] = {}
        self.positions: dict[str, int] = {}
        self.images: dict[str, Image] = {}
        # Counts the changes of facts, the coming and going of nodes included.
        self.facts_moment = 0
        self._vacant: list[int] = []
        self._images_at: dict[int, dict[str, int]] = {}
        self._image_changes = 0
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

    def set_node(self, name: str, facts: NodeFacts) -> int | None:
        """Take a node in, or its new facts; its position, or None where nothing has changed."""
        at = self.positions.get(name)
        before = self.facts[at] if at is not None else None
        if at is not None and before == facts:
            return None
        if at is None:
            at = self._new_position(name)
        elif before is not None and before.zone != facts.zone:
            self._move_zone(at, before.zone, -1)
        self.facts[at] = facts
        if before is None or before.zone != facts.zone:
            self._move_zone(at, facts.zone, 1)
        self.facts_moment += 1
        self._recount(at)
        return at

    def set_images(self, name: str, images: dict[str, int]) -> None:
        """Which images are on a node that has been taken in."""
        at = self.positions[name]
        before = self._images_at.get(at, {})
        if images == before:
            return
        for tag, size in {**dict.fromkeys(before), **images}.items():
            if before.get(tag) == size:
                continue
            image = self.images.setdefault(tag, Image())
            self._image_changes += 1
            image.version = self._image_changes
            if size is not None:
                image.holders[at] = size
            else:
                del image.holders[at]
                if not image.holders:
                    del self.images[tag]
        self._images_at[at] = images

    def drop_node(self, name: str) -> None:
        if name not in self.positions:
            return
        self.set_images(name, {})
        at = self.positions.pop(name)
        facts = self.facts[at]
        assert facts is not None
        self._move_zone(at, facts.zone, -1)
        self.facts[at] = None
        for placed in self._pods_of(name):
            self._count_spread(placed.owner, at, -1)
        self.names[at] = ""
        self._images_at.pop(at, None)
        self._vacant.append(at)
        self.facts_moment += 1
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

    def regroup(self, uid: str, owner: str) -> None:
        """The pod, where it is placed, is one of another group now."""
        placed = self._pods.get(uid)
        if placed is None or placed.owner == owner:
            return
        at = self.positions.get(placed.node)
        if at is None:
            placed.owner = owner
            return
        self._count_spread(placed.owner, at, -1)
        placed.owner = owner
        self._count_spread(owner, at, 1)
        self._touch(at)

    def release(self, uid: str) -> int | None:
        """Take a pod away; the position where it held something, None where it held nothing on a known node."""
        placed = self._pods.pop(uid, None)
        if placed is None:
            return None
        held = self._by_node[placed.node]
        del held[uid]
        if not held:
            del self._by_node[placed.node]
        at = self.positions.get(placed.node)
        if at is not None:
            self._charge(at, placed, -1)
            self._touch(at)
        return at

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
            self.ports_held.append(Counter())
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
        self.ports_held[at] = Counter()
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
        if demand.ports:
            held = self.ports_held[at]
            held.update(dict.fromkeys(demand.ports, sign))
            for port in demand.ports:
                if held[port] == 0:
                    del held[port]

    def _count_spread(self, owner: str, at: int, sign: int) -> None:
        if not owner:
            return
        counts = self.spread.setdefault(owner, {})
        counts[at] = counts.get(at, 0) + sign
        if counts[at] == 0:
            del counts[at]
            if not counts:
                del self.spread[owner]
        facts = self.facts[at]
        if facts is not None:
            self._count_zone(owner, facts.zone, sign)

    def _move_zone(self, at: int, zone: str, sign: int) -> None:
        """The pods at this position come to a zone with their node, or leave it."""
        if zone:
            for placed in self._pods_of(self.names[at]):
                self._count_zone(placed.owner, zone, sign)

    def _count_zone(self, owner: str, zone: str, sign: int) -> None:
        if not owner or not zone:
            return
        counts = self.zone_spread.setdefault(owner, Counter())
        counts[zone] += sign
        if counts[zone] == 0:
            del counts[zone]
            if not counts:
                del self.zone_spread[owner]

    def _touch(self, at: int) -> None:
        self.versions[at] += 1
        self._log.append(at)
        # Rankings that have slept longer than this look at everything anyway.
        if len(self._log) > 4 * len(self.names) + 1024:
            cut = len(self._log) // 2
            del self._log[:cut]
            self._log_start += cut
