"""The taints by which the system says what is wrong with a node.

In: informer of Nodes, and why evictions are held back. Out: on each node, taints that keep new pods away
(NoSchedule) while a condition or a cordon says so, and one that drives pods off (NoExecute) while it is not ready or
silent. Taints of anybody else are never touched. Follows Kubernetes' node lifecycle controller; while too many nodes
are unwell together none drives pods off, and those that did are taken back.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from barque.api import conditions, taints
from barque.api.errors import ApiError
from barque.api.taints import NO_EXECUTE, NO_SCHEDULE
from barque.api.types.core_v1 import Node, Taint
from barque.client.client import Client
from barque.client.clock import Clock, timestamp
from barque.client.informers import Informers
from barque.client.patches import seen_patch
from barque.client.queue import WorkQueue

# Which status of which condition is said by which taint.
_SIGNS = (
    ("Ready", "False", taints.NOT_READY),
    ("Ready", "Unknown", taints.UNREACHABLE),
    ("MemoryPressure", "True", taints.MEMORY_PRESSURE),
    ("DiskPressure", "True", taints.DISK_PRESSURE),
    ("PIDPressure", "True", taints.PID_PRESSURE),
    ("NetworkUnavailable", "True", taints.NETWORK_UNAVAILABLE),
)
_OWN_NO_SCHEDULE = {key for _, _, key in _SIGNS} | {taints.UNSCHEDULABLE}
_OWN_NO_EXECUTE = (taints.NOT_READY, taints.UNREACHABLE)


def plan_taints(node: Node, *, evicts: bool, stamp: str) -> list[Taint]:
    """All taints of the node as they should be: others' as they stand, then the system's."""
    said = {kind: found.status for kind, _, _ in _SIGNS if (found := conditions.find(node.status.conditions, kind))}
    keys = [key for kind, status, key in _SIGNS if said.get(kind) == status]
    wanted = [(key, NO_SCHEDULE) for key in keys]
    if node.spec.unschedulable:
        wanted.append((taints.UNSCHEDULABLE, NO_SCHEDULE))
    if evicts:
        wanted += [(key, NO_EXECUTE) for key in keys if key in _OWN_NO_EXECUTE]
    kept = [taint for taint in node.spec.taints if not _is_own(taint) or (taint.key, taint.effect) in wanted]
    there = {(taint.key, taint.effect) for taint in kept}
    return [*kept, *(Taint(key=k, effect=e, timeAdded=stamp) for k, e in wanted if (k, e) not in there)]


def _is_own(taint: Taint) -> bool:
    if taint.effect == NO_EXECUTE:
        return taint.key in _OWN_NO_EXECUTE
    return taint.effect == NO_SCHEDULE and taint.key in _OWN_NO_SCHEDULE


class NodeTaintController:
    """Reconciles Nodes by name.

    `held_back()` says why no pods are to be driven off, "" where they are, None where nobody knows yet; `look_again`
    when that has changed.
    """

    name = "nodetaints"

    def __init__(self, client: Client, informers: Informers, clock: Clock, held_back: Callable[[], str | None]) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._clock = clock
        self._held_back = held_back
        self._nodes = informers.of(Node)
        self._nodes.add_handler(self._handle_node)

    def look_again(self) -> None:
        """Judge every node anew."""
        for node in self._nodes.list():
            self.queue.add(node.metadata.name)

    def _handle_node(self, old: Node | None, new: Node | None) -> None:
        if new is not None:
            self.queue.add(new.metadata.name)

    async def reconcile(self, key: str) -> float | None:
        node, held_back = self._nodes.get(key), self._held_back()
        if node is None or node.metadata.deletionTimestamp or held_back is None:
            return None
        wanted = plan_taints(node, evicts=not held_back, stamp=timestamp(self._clock.wall()))
        if wanted == node.spec.taints:
            return None
        change = {"spec": {"taints": msgspec.to_builtins(wanted)}}
        (answer,) = await self._client.batch([seen_patch(node, change)])
        if isinstance(answer, ApiError) and answer.reason != "NotFound":
            raise answer
        return None
