"""The taint eviction controller: pods leave a node whose NoExecute taints they do not tolerate, or no longer.

In: informers of Nodes and Pods. Out: deletions with the pods' own grace, each pod marked first. A pod on a node that
cannot be reached stays Terminating until its worker confirms that it has stopped, or the node is removed. How long a
pod has borne its node's taints is kept in memory: a new leader lets every pod begin anew, and so does the end of the
taints. Follows Kubernetes' taint-eviction-controller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from barque.api import taints
from barque.api.taints import tolerates
from barque.api.types.core_v1 import Node, Taint, Toleration
from barque.api.views import PodView
from barque.client.client import Client
from barque.client.clock import Clock, timestamp
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.client.recorder import EventRecorder
from barque.master.controllers.disruption import Disruption, disrupt
from barque.master.controllers.shared import BY_NODE

_WHY = Disruption("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")


def patience_s(tolerations: Iterable[Toleration], driving: Sequence[Taint]) -> float:
    """How long a pod bears these NoExecute taints: 0 for not at all, infinity for ever."""
    listed = tuple(tolerations)
    seconds = math.inf
    for taint in driving:
        about = [toleration for toleration in listed if tolerates(toleration, taint)]
        if not about:
            return 0
        limits = [t.tolerationSeconds for t in about if t.tolerationSeconds is not None]
        seconds = min(seconds, *(max(0, limit) for limit in limits), math.inf)
    return seconds


class TaintEvictionController:
    """Reconciles Nodes by name."""

    name = "tainteviction"

    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._nodes = informers.of(Node)
        self._pods = informers.of(PodView)
        # By node and pod uid: since when the pod bears its node's taints, in monotonic seconds.
        self._bearing: dict[str, dict[str, float]] = {}
        self._nodes.add_handler(self._handle_node)
        self._pods.add_handler(self._handle_pod)

    def _handle_node(self, old: Node | None, new: Node | None) -> None:
        for node in (old, new):
            if node is not None and (_driving(node) or node.metadata.name in self._bearing):
                self.queue.add(node.metadata.name)

    def _handle_pod(self, old: PodView | None, new: PodView | None) -> None:
        if new is None or not new.spec.nodeName:
            return
        is_news = old is None or old.spec.nodeName != new.spec.nodeName or old.spec.tolerations != new.spec.tolerations
        node = self._nodes.get(new.spec.nodeName) if is_news else None
        if node is not None and _driving(node):
            self.queue.add(node.metadata.name)

    async def reconcile(self, key: str) -> float | None:
        node = self._nodes.get(key)
        driving = _driving(node) if node is not None else []
        pods = [pod for pod in self._pods.by_index(BY_NODE, key) if not pod.metadata.deletionTimestamp]
        before = self._bearing.pop(key, {})
        now = self._clock.monotonic()
        if not driving:
            self._say_spared([pod for pod in pods if pod.metadata.uid in before])
            return None
        since = self._bearing[key] = {pod.metadata.uid: before.get(pod.metadata.uid, now) for pod in pods}
        ends = {p.metadata.uid: since[p.metadata.uid] + patience_s(p.spec.tolerations, driving) for p in pods}
        doomed = [pod for pod in pods if ends[pod.metadata.uid] <= now]
        await self._evict(doomed)
        left_s = min((end - now for end in ends.values() if end > now), default=math.inf)
        return left_s if left_s < math.inf else None

    async def _evict(self, pods: Sequence[PodView]) -> None:
        for pod in pods:
            said = f"Marking for deletion Pod {pod.metadata.namespace}/{pod.metadata.name}"
            self._recorder.event(pod, "Normal", "TaintManagerEviction", said)
        refusals = await disrupt(self._client, pods, _WHY, timestamp(self._clock.wall()))
        if refusals:
            raise refusals[0]

    def _say_spared(self, pods: Iterable[PodView]) -> None:
        for pod in pods:
            said = f"Cancelling deletion of Pod {pod.metadata.namespace}/{pod.metadata.name}"
            self._recorder.event(pod, "Normal", "TaintManagerEviction", said)


def _driving(node: Node) -> list[Taint]:
    """The node's taints that drive pods off."""
    return [taint for taint in node.spec.taints if taint.effect == taints.NO_EXECUTE]
