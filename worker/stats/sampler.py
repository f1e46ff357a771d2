"""`Sampler`: measures the node and its pods every ten seconds, for the masters.

In: what the kernel counts (`gauges`), what is on disk (`disks`). Out: the newest sample (`client.usage`), to be taken
once. A rate is the growth of a counter between two readings of the same process, over the time between them by the
monotonic clock; so a restart shows as a new container, never as a negative rate. New containers are looked for every
two seconds and read a first time, so that a pod has a rate in the sample after its start; until then the pod is left
out, as by the metrics-server, rather than told with too little. The first sample with any pod comes as soon as it can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from barque.api.types import core_v1
from barque.client.clock import Clock
from barque.client.usage import SAMPLE_INTERVAL_S, ContainerUsage, NodeUsage, PodUsage, encode, fit
from barque.worker.pods.observed import Instance, Observed
from barque.worker.stats.disks import Disks
from barque.worker.stats.gauges import Gauges
from barque.worker.stats.proc import Traffic

log = logging.getLogger(__name__)

LOOK_S = 2.0
# Over less, the scheduler's slices and the kernel's own batching of counters show more than the load does.
MIN_WINDOW_S = 1.0

Blocking = Callable[..., Awaitable[Any]]
# The id of a container and of its process: one that Docker started again counts from zero.
Counter = tuple[str, int]


class Pod(NamedTuple):
    """What a round must know of a pod."""

    namespace: str
    name: str
    uid: str
    host_network: bool
    running: Sequence[Instance]


class _Reading(NamedTuple):
    cpu_ns: int
    read_s: float


class Sampler:
    """`pods` are those of this node; `blocking` runs a round off the event loop, for the kernel may take its time to
    sum up the counters.
    """

    def __init__(
        self,
        pods: Callable[[], Sequence[tuple[core_v1.Pod, Observed]]],
        gauges: Gauges,
        disks: Disks,
        clock: Clock,
        blocking: Blocking = asyncio.to_thread,
    ) -> None:
        self._pods = pods
        self._gauges = gauges
        self._disks = disks
        self._clock = clock
        self._blocking = blocking
        self._node: _Reading | None = None
        self._containers: dict[Counter, _Reading] = {}
        self._newest: NodeUsage | None = None
        self._taken = True
        self._left_out = 0
        self._fault = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
                self._fault = ""
            except (OSError, ValueError) as error:
                if str(error) != self._fault:
                    log.warning("the use of this node cannot be measured: %s", error)
                self._fault = str(error)
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Measure if it is time, else read what is new. Raises OSError, ValueError where the node cannot be read."""
        pods = [
            Pod(meta.namespace, meta.name, meta.uid, bool(pod.spec.hostNetwork), observed.running())
            for pod, observed in self._pods()
            for meta in (pod.metadata,)
        ]
        if not self._is_due():
            await self._blocking(self._read_new, pods)
            return
        usage: NodeUsage | None = await self._blocking(self.measure, pods)
        if usage is not None:
            self._newest, self._taken = fit(usage), False
            self._say_left_out(len(usage.pods) - len(self._newest.pods))

    def take(self) -> bytes:
        """The newest sample, encoded; b"" where it has been taken already."""
        if self._newest is None or self._taken:
            return b""
        self._taken = True
        return encode(self._newest)

    def measure(self, pods: Sequence[Pod]) -> NodeUsage | None:
        """One round; None where there are no rates yet. Blocks. Raises OSError, ValueError as `look` does."""
        node, disk = self._gauges.node(), self._gauges.filesystem()
        before, self._node = self._node, _Reading(node.cpu_ns, self._clock.monotonic())
        containers = dict[Counter, _Reading]()
        told = [used for pod in pods if (used := self._measure_pod(pod, containers)) is not None]
        self._containers = containers
        self._gauges.retain({container for container, _ in containers})
        rate = _rate(before, self._node)
        if before is None or rate is None:
            return None
        window_s = self._node.read_s - before.read_s
        return NodeUsage(window_s, rate, node.working_set_bytes, disk.used_bytes, told)

    def _measure_pod(self, pod: Pod, readings: dict[Counter, _Reading]) -> PodUsage | None:
        """What the pod uses; None where nothing runs, or not all that runs has a rate. Notes counters in `readings`."""
        told, complete = list[ContainerUsage](), True
        for instance in pod.running:
            usage = self._gauges.container(instance)
            if usage is None:
                continue
            counter, reading = (instance.id, instance.pid), _Reading(usage.cpu_ns, usage.read_s)
            before = self._containers.get(counter)
            rate = _rate(before, reading)
            # One that is too young keeps its first reading.
            young = before is not None and rate is None and usage.cpu_ns >= before.cpu_ns
            readings[counter] = before if before is not None and young else reading
            complete = complete and rate is not None
            disk_bytes = self._disks.used_bytes(instance.id)
            told.append(ContainerUsage(instance.name, rate or 0, usage.memory.working_set_bytes, disk_bytes))
        if not told or not complete:
            return None
        traffic = None if pod.host_network else self._gauges.traffic(pod.running)
        received, sent, *_ = traffic or Traffic()
        return PodUsage(pod.namespace, pod.name, pod.uid, told, received, sent)

    def _read_new(self, pods: Sequence[Pod]) -> None:
        """A first reading of each container that has none."""
        for pod in pods:
            for instance in pod.running:
                counter = (instance.id, instance.pid)
                usage = self._gauges.container(instance) if counter not in self._containers else None
                if usage is not None:
                    self._containers[counter] = _Reading(usage.cpu_ns, usage.read_s)

    def _is_due(self) -> bool:
        """Ten seconds after the last round, or as soon as there is a first rate."""
        now = self._clock.monotonic()
        if self._node is None or now - self._node.read_s > SAMPLE_INTERVAL_S - LOOK_S / 2:
            return True
        if self._newest is not None and (self._newest.pods or not self._containers):
            return False
        return now - min((each.read_s for each in self._containers.values()), default=self._node.read_s) >= LOOK_S / 2

    def _say_left_out(self, pods: int) -> None:
        if pods and not self._left_out:
            log.warning("a sample has no room for all pods of this node: %d that use least are left out", pods)
        self._left_out = pods


def _rate(before: _Reading | None, now: _Reading) -> int | None:
    """Nanocores: nanoseconds of CPU time per second. None where they cannot be told."""
    if before is None or now.cpu_ns < before.cpu_ns or now.read_s - before.read_s < MIN_WINDOW_S:
        return None
    return round((now.cpu_ns - before.cpu_ns) / (now.read_s - before.read_s))
