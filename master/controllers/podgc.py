"""The pod garbage collector: pods bound to a node that no longer exists are removed by force.

No worker is left to confirm that they have stopped, so removing the node is the operator's word that they have. A node
that is away for less than the quarantine (a worker registering anew) loses none, and a live look-up precedes every
deletion.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import msgspec

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Node, Pod
from barque.api.views import PodView
from barque.client.client import Client, target_of
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.recorder import EventRecorder
from barque.client.verbs import Delete
from barque.master.controllers.settings import ControllerSettings
from barque.master.controllers.shared import BY_NODE

log = logging.getLogger(__name__)

BATCH = 200


def plan_missing(
    bound_to: Iterable[str], present: Iterable[str], missing_since: Mapping[str, float], now: float
) -> dict[str, float]:
    """Nodes that pods are bound to but that do not exist, with the moment since when that is known."""
    return {name: missing_since.get(name, now) for name in set(bound_to) - set(present)}


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

    async def run(self) -> None:
        while True:
            try:
                await self.sweep()
            except ApiError as error:
                log.warning("pods of removed nodes cannot be removed yet: %s", error.message)
            await self._clock.sleep(self._settings.pod_sweep_s)

    async def sweep(self) -> None:
        now = self._clock.monotonic()
        bound_to = self._pods.index_values(BY_NODE)
        present = (n.metadata.name for n in self._nodes.list())
        self._missing_since = plan_missing(bound_to, present, self._missing_since, now)
        for node, since in sorted(self._missing_since.items()):
            if now - since >= self._settings.orphaned_pod_s and await self._is_gone(node):
                await self._remove_pods(node)

    async def _is_gone(self, node: str) -> bool:
        try:
            await self._client.get(Node, node)
        except ApiError as error:
            if error.reason == "NotFound":
                return True
            raise
        return False

    async def _remove_pods(self, node: str) -> None:
        pods = self._pods.by_index(BY_NODE, node)
        log.info("node %s is gone: removing its %d pods", node, len(pods))
        for pod in pods:
            self._recorder.event(pod, "Normal", "NodeNotFound", f"Node {node} no longer exists: removing the pod")
        for start in range(0, len(pods), BATCH):
            for answer in await self._client.batch([_force(pod) for pod in pods[start : start + BATCH]]):
                if isinstance(answer, ApiError) and answer.reason not in ("NotFound", "Conflict"):
                    raise answer


def _force(pod: PodView) -> Delete:
    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.metadata.uid}}
    return Delete(target_of(Pod, pod.metadata.name, pod.metadata.namespace), msgspec.json.encode(options))
