"""The pod garbage collector: removes pods that nobody is left to remove.

* Those bound to a node that no longer exists. No worker can confirm that they have stopped, so removing the node is the
  operator's word that they have. A node that is away for less than the quarantine (a worker registering anew) loses
  none, and a live look-up precedes every deletion.
* Those of a node's former life, where its machine was made anew under the old name: what ran there is gone.
* Those being deleted that never came to a node.
* The oldest of those that have ended, beyond a number.

The first two are marked before they go (`disruption`). Follows Kubernetes' pod garbage collector but for the second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Node
from barque.api.validation.pod_annotations import MIRROR
from barque.api.views import PodView
from barque.client.client import Client
from barque.client.clock import Clock, timestamp
from barque.client.informers import Informers
from barque.client.patches import seen_patch
from barque.client.recorder import EventRecorder
from barque.master.controllers.disruption import Disruption, disrupt
from barque.master.controllers.settings import ControllerSettings
from barque.master.controllers.shared import BY_NODE, UNBOUND

log = logging.getLogger(__name__)

# Which machine the pods of a node run on, by its machine id: kept on the Node, so that any leader sees it change.
MACHINE = "barque.io/machine-id"
# Endings looked after in one sweep; the rest follows in the next.
MOST_ENDED = 1000

_REASON = "DeletionByPodGC"
_ORPHANED = Disruption(_REASON, "PodGC: node no longer exists", fails=True)
_FORMER = Disruption(_REASON, "PodGC: the node's machine was made anew", fails=True)
# Of these nobody is robbed, so they are removed without a word.
_LEFT_OVER = Disruption("", "", fails=True)


def plan_missing(
    bound_to: Iterable[str], present: Iterable[str], missing_since: Mapping[str, float], now: float
) -> dict[str, float]:
    """Nodes that pods are bound to but that do not exist, with the moment since when that is known."""
    return {name: missing_since.get(name, now) for name in set(bound_to) - set(present)}


def plan_ended(pods: Iterable[PodView], threshold: int) -> list[PodView]:
    """The oldest of the pods that have ended, so many that no more than `threshold` are left."""
    ended = [pod for pod in pods if pod.status.phase in ("Succeeded", "Failed") and not pod.metadata.deletionTimestamp]
    ended.sort(key=lambda pod: (pod.metadata.creationTimestamp, pod.metadata.name))
    return ended[: min(max(0, len(ended) - threshold), MOST_ENDED)]


def machine_of(node: Node) -> str:
    return node.status.nodeInfo.machineID if node.status.nodeInfo is not None else ""


class PodGarbageController:
    """Sweeps regularly."""

    name = "podgc"

    def __init__(
        self, client: Client, informers: Informers, recorder: EventRecorder, clock: Clock, settings: ControllerSettings
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._settings = settings
        self._nodes = informers.of(Node)
        self._pods = informers.of(PodView)
        self._missing_since: dict[str, float] = {}
        # Machines of nodes that were removed while pods were bound to them.
        self._machines: dict[str, str] = {}
        self._nodes.add_handler(self._handle_node)

    def _handle_node(self, old: Node | None, new: Node | None) -> None:
        if new is None and old is not None and machine_of(old):
            self._machines[old.metadata.name] = machine_of(old)

    async def run(self) -> None:
        while True:
            try:
                await self.sweep()
            except ApiError as error:
                log.warning("pods that nobody removes cannot be removed yet: %s", error.message)
            await self._clock.sleep(self._settings.pod_sweep_s)

    async def sweep(self) -> None:
        """Look once. Raises `ApiError`; the rest is then left to the next look."""
        nodes = self._nodes.list()
        for node in nodes:
            await self._check_machine(node)
        await self._remove_orphans([node.metadata.name for node in nodes])
        going = [pod for pod in self._pods.by_index(BY_NODE, UNBOUND) if pod.metadata.deletionTimestamp]
        await self._remove(going, _LEFT_OVER)
        ended = plan_ended(self._pods.list(), self._settings.terminated_pods)
        if ended:
            log.info("more than %d pods have ended: removing %d", self._settings.terminated_pods, len(ended))
            await self._remove(ended, _LEFT_OVER)

    async def _remove_orphans(self, present: Iterable[str]) -> None:
        now = self._clock.monotonic()
        bound_to = [name for name in self._pods.index_values(BY_NODE) if name != UNBOUND]
        self._missing_since = plan_missing(bound_to, present, self._missing_since, now)
        self._machines = {name: machine for name, machine in self._machines.items() if name in bound_to}
        for node, since in sorted(self._missing_since.items()):
            if now - since >= self._settings.orphaned_pod_s and await self._is_gone(node):
                pods = self._pods.by_index(BY_NODE, node)
                log.info("node %s is gone: removing its %d pods", node, len(pods))
                for pod in pods:
                    said = f"Node {node} no longer exists: removing the pod"
                    self._recorder.event(pod, "Normal", "NodeNotFound", said)
                await self._remove(pods, _ORPHANED)

    async def _check_machine(self, node: Node) -> None:
        """Remove what ran on the machine that this node was before, then note which one it is now."""
        name, machine = node.metadata.name, machine_of(node)
        known = node.metadata.annotations.get(MACHINE) or self._machines.get(name, "")
        if not machine or node.metadata.annotations.get(MACHINE) == machine:
            return
        if known and known != machine:
            pods = [pod for pod in self._pods.by_index(BY_NODE, name) if not _is_mirror(pod)]
            log.warning("node %s is another machine than before: removing its %d pods", name, len(pods))
            said = f"Node {name} is another machine than before: removing its pods"
            self._recorder.event(node, "Normal", "NodeMachineChanged", said)
            await self._remove(pods, _FORMER)
        (answer,) = await self._client.batch([seen_patch(node, {"metadata": {"annotations": {MACHINE: machine}}})])
        if isinstance(answer, ApiError) and answer.reason not in ("NotFound", "Conflict"):
            raise answer

    async def _is_gone(self, node: str) -> bool:
        try:
            await self._client.get(Node, node)
        except ApiError as error:
            if error.reason == "NotFound":
                return True
            raise
        return False

    async def _remove(self, pods: Sequence[PodView], why: Disruption) -> None:
        if not pods:
            return
        refusals = await disrupt(self._client, pods, why, timestamp(self._clock.wall()))
        for refusal in refusals:
            if refusal.reason != "Conflict":
                raise refusal


def _is_mirror(pod: PodView) -> bool:
    return MIRROR in pod.metadata.annotations
