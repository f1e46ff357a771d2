"""The node controller: a node that sends no heartbeats is not ready, nor is what runs on it.

In: heartbeats as `heartbeats(node) -> monotonic seconds of the last beat, or None`, informers of Nodes and Pods. Out:
while a node is silent, its conditions are Unknown and its pods' Ready is False, so services stop sending to them at
once. When the beats return the worker writes both again; this controller writes only while there is silence, so the two
never fight. It judges no node before it has itself waited the whole loss time: a new leader knows no beats. Taints and
evictions follow from the conditions (`nodetaints`, `tainteviction`), but not while more than 55 % are silent or not
ready together: then the fault is likelier the network's, or ours, than theirs, and there is little left to move to.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from barque.api import conditions
from barque.api.errors import ApiError
from barque.api.types.core_v1 import Node, NodeCondition, PodCondition
from barque.api.views import PodView
from barque.client.client import Client
from barque.client.clock import Clock, timestamp
from barque.client.informers import Informers
from barque.client.patches import condition_patch
from barque.client.recorder import EventRecorder
from barque.client.verbs import Patch
from barque.master.controllers.settings import ControllerSettings
from barque.master.controllers.shared import BY_NODE

log = logging.getLogger(__name__)

# How long one look may be late: a node is judged at most this much after its loss time.
LOOK_S = 0.5
# Pods marked per batch; the rest follows in the same look.
BATCH = 200
_WORKERS_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class Verdict(NamedTuple):
    """What is known of all nodes' heartbeats at one moment."""

    silent: list[str]
    next_look_s: float
    disruption: str


def plan_verdict(
    last_signs: Mapping[str, float],
    now: float,
    lost_after_s: float,
    disruption_share: float,
    unready: Collection[str] = (),
) -> Verdict:
    """Judge nodes by their last sign of life: a beat, or the moment from which this controller has listened.

    `unready` are those whose own word is that they are not ready, or that were lost before.
    """
    left = {name: sign + lost_after_s - now for name, sign in last_signs.items()}
    silent = sorted(name for name, seconds in left.items() if seconds <= 0)
    next_s = min((s for s in left.values() if s > 0), default=LOOK_S)
    disruption = ""
    if len(silent) > disruption_share * len(left):
        disruption = (
            f"{len(silent)} of {len(left)} nodes have been silent for {lost_after_s:g} s together: "
            "the network or the master is the likelier fault; no pod is evicted"
        )
    elif (unwell := len({*silent, *unready})) > disruption_share * len(left):
        disruption = f"{unwell} of {len(left)} nodes are not ready together; no pod is evicted"
    return Verdict(silent, min(max(next_s, 0.01), LOOK_S), disruption)


class NodeController:
    """Watches over heartbeats.

    `disruption` is one sentence while too many nodes are unwell, else ""; None before the first look. `note` is called
    when it has changed.
    """

    name = "node"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        recorder: EventRecorder,
        clock: Clock,
        heartbeats: Callable[[str], float | None],
        settings: ControllerSettings,
        note: Callable[[], None] = lambda: None,
    ) -> None:
        self.disruption: str | None = None
        self._note = note
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._heartbeats = heartbeats
        self._settings = settings
        self._nodes = informers.of(Node)
        self._pods = informers.of(PodView)
        self._listening_since: dict[str, float] = {}
        self._known: Mapping[str, Node] = {}

    async def run(self) -> None:
        while True:
            await self._clock.sleep(await self.look())

    async def look(self) -> float:
        """Judge every node once and write what follows; returns after how many seconds to look again."""
        now = self._clock.monotonic()
        nodes = {node.metadata.name: node for node in self._nodes.list()}
        since = self._listening_since
        self._listening_since = {name: since.get(name, now) for name in nodes}
        self._note_members(nodes)
        signs = {n: max(start, self._heartbeats(n) or start) for n, start in self._listening_since.items()}
        unready = {name for name, node in nodes.items() if not conditions.is_true(node.status.conditions, "Ready")}
        settings = self._settings
        verdict = plan_verdict(signs, now, settings.lost_after_s, settings.disruption_share, unready)
        self._note_disruption(verdict, nodes)
        for name in verdict.silent:
            try:
                await self._mark_lost(nodes[name])
            except ApiError as error:
                # The worker may just have written its own status, or the store is away: the next look sees.
                log.info("node %s: its silence is not recorded yet: %s", name, error.message)
        return verdict.next_look_s

    def _note_members(self, nodes: Mapping[str, Node]) -> None:
        """Tell of nodes that came and went, as each new leader comes to know them."""
        known, self._known = self._known, nodes
        for name in sorted(nodes.keys() - known.keys()):
            said = f"Node {name} event: Registered Node {name} in Controller"
            self._recorder.event(nodes[name], "Normal", "RegisteredNode", said)
        for name in sorted(known.keys() - nodes.keys()):
            said = f"Node {name} event: Removing Node {name} from Controller"
            self._recorder.event(known[name], "Normal", "RemovingNode", said)

    def _note_disruption(self, verdict: Verdict, nodes: Mapping[str, Node]) -> None:
        before, self.disruption = self.disruption, verdict.disruption
        if verdict.disruption and not before:
            # While a cluster comes up its nodes are not ready yet: that is nothing to warn of.
            log.log(logging.WARNING if verdict.silent else logging.INFO, "%s", verdict.disruption)
            for name in verdict.silent:
                self._recorder.event(nodes[name], "Warning", "NodesSilentTogether", verdict.disruption)
        elif before and not verdict.disruption:
            log.info("enough nodes are ready again; pods are evicted where they must be")
        if before is None or bool(before) != bool(verdict.disruption):
            self._note()

    async def _mark_lost(self, node: Node) -> None:
        name, stamp = node.metadata.name, timestamp(self._clock.wall())
        changed = lost_node(node, stamp)
        if changed is not None:
            await self._client.update_status(changed)
            log.warning("node %s: no heartbeat for %g s, it is not ready", name, self._settings.lost_after_s)
            self._recorder.event(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        lost = [(p, c) for p in self._pods.by_index(BY_NODE, name) if (c := lost_pod(p, name, stamp)) is not None]
        for start in range(0, len(lost), BATCH):
            part = lost[start : start + BATCH]
            writes = [patch for _, patch in part]
            for (pod, _), answer in zip(part, await self._client.batch(writes), strict=True):
                if not isinstance(answer, ApiError):
                    self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def lost_node(node: Node, stamp: str) -> Node | None:
    """The node with all that its worker says of it unknown; None where it is so already."""
    changed = copy.deepcopy(node)
    held = changed.status.conditions
    news = [conditions.set_condition(held, _unknown(held, kind, stamp)) for kind in _WORKERS_CONDITIONS]
    return changed if any(news) else None


def _unknown(listed: Sequence[NodeCondition], kind: str, stamp: str) -> NodeCondition:
    """In Kubernetes' words: whoever watches for them knows the worker by its kubelet's name."""
    held = conditions.find(listed, kind)
    if held is not None and held.status == "Unknown":
        return held
    stopped = held is not None
    return NodeCondition(
        type=kind,
        status="Unknown",
        reason="NodeStatusUnknown" if stopped else "NodeStatusNeverUpdated",
        message="Kubelet stopped posting node status." if stopped else "Kubelet never posted node status.",
        lastHeartbeatTime=held.lastHeartbeatTime if held else "",
        lastTransitionTime=stamp,
    )


def lost_pod(pod: PodView, node: str, stamp: str) -> Patch | None:
    """The pod no longer ready, as a patch of what was seen; None where it is not ready already."""
    if not conditions.is_true(pod.status.conditions, "Ready"):
        return None
    message = f"Node {node} sends no heartbeats"
    return condition_patch(
        pod,
        PodCondition(type="Ready", status="False", reason="NodeNotReady", message=message, lastTransitionTime=stamp),
    )
