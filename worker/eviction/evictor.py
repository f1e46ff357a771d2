"""`Evictor`: looks at memory and disk every ten seconds; clears up, and ends pods one by one while something is short.

Follows the kubelet's eviction manager with its hard thresholds: a pod that fills a volume beyond its limit is ended
whatever the node has; when the node itself is short of disk, unused images go first; then the pod that `ranking` puts
first is ended, at once, and the next one when it is gone, or half a minute later. A condition, once true, stays so for
five minutes after its threshold was last met, so that it does not flap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from barque.api import podstatus
from barque.api.types import core_v1
from barque.client.clock import Clock
from barque.worker.eviction import ranking
from barque.worker.eviction.ranking import PodUsage
from barque.worker.eviction.signals import CONDITIONS, RESOURCES, Condition, Met, Signal, SignalName, met
from barque.worker.host import Pressure
from barque.worker.pods.observed import Instance
from barque.worker.pods.verdict import Verdict
from barque.worker.runtime.port import RuntimeFault

log = logging.getLogger(__name__)

LOOK_S = 10.0
TRANSITION_S = 300.0
# How often volumes with a limit are measured, as in Kubernetes.
MEASURE_S = 60.0
# How long one ended pod may take to give back what it had before another is ended.
CLEARED_S = 30.0
# As little as the kubelet gives where the node has no time left.
GRACE_S = 1.0
REASON = "Evicted"
MEMORY_TAINT = "node.kubernetes.io/memory-pressure"
# What ends no pod.
_HARMLESS: tuple[SignalName, ...] = ("pid.available",)


class Pods(Protocol):
    """`pods.manager.PodManager`, as far as the evictor needs it."""

    def pods(self) -> list[core_v1.Pod]: ...

    def running(self, uid: str) -> Mapping[str, Instance]:
        """The running containers of a pod by name."""
        ...

    def end(self, uid: str, why: Verdict) -> None: ...


class Measures(NamedTuple):
    """How the host is measured; all block."""

    signals: Callable[[], dict[SignalName, Signal]]
    memory: Callable[[Instance], int | None]
    disk: Callable[[core_v1.Pod], tuple[int, Mapping[str, int]]]


class Evictor:
    """`clear_disk` removes what nobody uses; `tell(pressure)` hears the conditions whenever they were looked at; `say`
    tells the node's warnings.
    """

    def __init__(
        self,
        pods: Pods,
        measures: Measures,
        clock: Clock,
        clear_disk: Callable[[], Awaitable[int]],
        tell: Callable[[Pressure], None],
        say: Callable[[Literal["Normal", "Warning"], str, str], None],
        blocking: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._pods = pods
        self._measures = measures
        self._clock = clock
        self._clear_disk = clear_disk
        self._tell = tell
        self._say = say
        self._blocking = blocking
        self._last_met: dict[Condition, float] = {}
        self._ended: dict[str, float] = {}
        self._measured: dict[str, tuple[float, tuple[int, Mapping[str, int]]]] = {}
        self._pressure = Pressure()

    def admit(self, pod: core_v1.Pod) -> str:
        """Why a pod may not start here now, "" where it may: pods that asked for nothing have to wait for memory."""
        if ranking.is_critical(pod):
            return ""
        best_effort = podstatus.qos_class(pod.spec) == "BestEffort"
        held = [
            c for c, true in (("MemoryPressure", self._pressure.memory), ("DiskPressure", self._pressure.disk)) if true
        ]
        harmless = held == ["MemoryPressure"] and (not best_effort or _tolerates(pod, MEMORY_TAINT))
        if not held or harmless:
            return ""
        return f"The node had condition: [{', '.join(held)}]. "

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except OSError as error:
                log.warning("this host cannot be measured: %s", error)
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """One round. Raises OSError where the host cannot be measured."""
        signals = await self._blocking(self._measures.signals)
        found = met(signals)
        self._note(found)
        running = [pod for pod in self._pods.pods() if self._pods.running(pod.metadata.uid)]
        usage = await self._usage(running, found)
        if self._end_over_limit(running, usage):
            return
        dire = [one for one in found if one.signal not in _HARMLESS]
        if dire:
            await self._relieve(dire[0], running, usage)

    async def _usage(self, pods: Iterable[core_v1.Pod], found: list[Met]) -> dict[str, PodUsage]:
        """What pods take, as far as anything depends on it: walking through volumes is work for the disk, too."""
        short = {CONDITIONS[one.signal] for one in found}
        usage: dict[str, PodUsage] = {}
        for pod in pods:
            uid = pod.metadata.uid
            disk, volumes = await self._disk_use(pod, short)
            containers: dict[str, int] = {}
            for name, instance in self._pods.running(uid).items() if "MemoryPressure" in short else ():
                amount = await self._blocking(self._measures.memory, instance)
                if amount is not None:
                    containers[name] = amount
            usage[uid] = PodUsage(sum(containers.values()), disk, containers, volumes)
        self._measured = {uid: kept for uid, kept in self._measured.items() if uid in usage}
        return usage

    async def _disk_use(self, pod: core_v1.Pod, short: set[Condition]) -> tuple[int, Mapping[str, int]]:
        uid, now = pod.metadata.uid, self._clock.monotonic()
        at_s, known = self._measured.get(uid, (float("-inf"), (0, {})))
        limited = any(v.emptyDir and v.emptyDir.sizeLimit is not None for v in pod.spec.volumes)
        if "DiskPressure" in short or (limited and now - at_s >= MEASURE_S):
            try:
                known = await self._blocking(self._measures.disk, pod)
            except OSError as error:
                # One pod's volumes, which may just be going away, keep no other from being measured.
                log.debug("volumes of pod %s/%s are not measured: %s", pod.metadata.namespace, pod.metadata.name, error)
            self._measured[uid] = (now, known)
        return known

    def _note(self, found: list[Met]) -> None:
        """The conditions as they are now, with what lingers."""
        now = self._clock.monotonic()
        for one in found:
            self._last_met[CONDITIONS[one.signal]] = now
        held = {condition for condition, at_s in self._last_met.items() if now - at_s < TRANSITION_S}
        self._pressure = Pressure(
            memory="MemoryPressure" in held,
            disk="DiskPressure" in held,
            pids="PIDPressure" in held,
        )
        self._tell(self._pressure)

    def _end_over_limit(self, pods: Iterable[core_v1.Pod], usage: Mapping[str, PodUsage]) -> bool:
        ended = False
        for pod in pods:
            why = ranking.over_limit(pod, usage[pod.metadata.uid])
            if why and not self._is_ending(pod):
                self._end(pod, why)
                ended = True
        return ended

    async def _relieve(self, found: Met, pods: list[core_v1.Pod], usage: Mapping[str, PodUsage]) -> None:
        resource = RESOURCES[found.signal]
        self._say("Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if CONDITIONS[found.signal] == "DiskPressure":
            try:
                await self._clear_disk()
            except RuntimeFault as error:
                log.warning("unused images cannot be removed: %s", error)
            still = {one.signal: one for one in met(await self._blocking(self._measures.signals))}
            if found.signal not in still:
                return
            found = still[found.signal]
        if any(self._is_ending(pod) for pod in pods):
            return
        ranked = ranking.rank(pods, usage, resource)
        if ranked:
            self._end(ranked[0], ranking.low_on(found, ranked[0], usage[ranked[0].metadata.uid]))
        else:
            log.warning("the node is short of %s, and no pod may be ended for it", resource)

    def _is_ending(self, pod: core_v1.Pod) -> bool:
        """Whether it was ended and may still be giving back what it had."""
        now = self._clock.monotonic()
        self._ended = {uid: at_s for uid, at_s in self._ended.items() if now - at_s < CLEARED_S}
        return pod.metadata.uid in self._ended

    def _end(self, pod: core_v1.Pod, why: str) -> None:
        log.warning("ending pod %s/%s: %s", pod.metadata.namespace, pod.metadata.name, why)
        self._ended[pod.metadata.uid] = self._clock.monotonic()
        self._pods.end(pod.metadata.uid, Verdict(REASON, why, why, grace_s=GRACE_S, disrupted=True))


def _tolerates(pod: core_v1.Pod, taint: str) -> bool:
    """Whether the pod tolerates a taint without a value whose effect is NoSchedule."""
    return any(
        (t.key == taint or (not t.key and t.operator == "Exists")) and t.effect in ("", "NoSchedule") and not t.value
        for t in pod.spec.tolerations
    )
