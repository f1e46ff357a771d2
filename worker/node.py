"""`NodeKeeper`: this worker's Node object: registered, described, and kept true.

`node_status` is pure. The status is written when it changes, every five minutes in any case, and at once when the
cluster holds the node for not ready although it is well: the masters' doubt ends with the worker's word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec

from barque.api import conditions
from barque.api.errors import ApiError
from barque.api.types import core_v1, meta_v1
from barque.client.client import Client
from barque.client.clock import Clock, timestamp
from barque.client.informer import Informer
from barque.client.verbs import MERGE_PATCH
from barque.network.overlay.overlay import State as OverlayState
from barque.worker.host import MIN_AVAILABLE_BYTES, HostFacts, Pressure
from barque.worker.pods.backoff import doubled
from barque.worker.pods.parts import Recorder
from barque.worker.runtime.port import ImageUsage, RuntimeFault, RuntimeInfo

log = logging.getLogger(__name__)

MAX_PODS = 110
REFRESH_S = 300.0
LOOK_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
# As many images as Kubernetes reports.
MAX_IMAGES = 50
# So many nodes that cannot be reached are named in a condition.
MAX_REMARKS = 3


# What a condition's new status is called in events.
_TOLD_CONDITIONS = {
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
}


class Where(NamedTuple):
    """Where the node is reached."""

    name: str
    address: str
    port: int


@dataclass
class Health:
    """How the node is. A problem says in one sentence why it can run no pods; "" where there is none."""

    runtime: RuntimeInfo | None = None
    runtime_problem: str = "the container runtime has not answered yet"
    network_problem: str = "the pod network is not set up yet"
    pressure: Pressure = field(default_factory=Pressure)
    images: Sequence[ImageUsage] = ()
    # None until it has been looked at once.
    overlay: OverlayState | None = None

    @property
    def problem(self) -> str:
        return self.runtime_problem or self.network_problem

    @property
    def reason(self) -> str:
        if self.runtime_problem:
            return "RuntimeUnavailable"
        return "NetworkNotReady" if self.network_problem else "WorkerReady"


def labels_of(where: Where, facts: HostFacts) -> dict[str, str]:
    return {
        "kubernetes.io/hostname": where.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": facts.architecture,
    }


def node_status(
    where: Where, facts: HostFacts, health: Health, version: str, before: core_v1.NodeStatus, now: str
) -> core_v1.NodeStatus:
    """The whole status the worker writes; conditions of others are kept."""
    capacity = {
        "cpu": str(facts.cpus),
        "memory": f"{facts.memory_bytes // 1024}Ki",
        "ephemeral-storage": f"{facts.disk_bytes // 1024}Ki",
        "pods": str(MAX_PODS),
    }
    # What is kept back is what pressure is measured against.
    allocatable = capacity | {"memory": f"{max(0, facts.memory_bytes - MIN_AVAILABLE_BYTES) // 1024}Ki"}
    runtime = health.runtime
    return core_v1.NodeStatus(
        capacity=dict(capacity),
        allocatable=dict(allocatable),
        conditions=_conditions(health, before.conditions, now),
        addresses=[
            core_v1.NodeAddress(type="InternalIP", address=where.address),
            core_v1.NodeAddress(type="Hostname", address=where.name),
        ],
        daemonEndpoints=core_v1.NodeDaemonEndpoints(kubeletEndpoint=core_v1.DaemonEndpoint(Port=where.port)),
        nodeInfo=core_v1.NodeSystemInfo(
            architecture=facts.architecture,
            bootID=facts.boot_id,
            machineID=facts.machine_id,
            systemUUID=facts.system_uuid,
            kernelVersion=facts.kernel,
            osImage=facts.os_image,
            operatingSystem="linux",
            containerRuntimeVersion=f"docker://{runtime.version}" if runtime else _runtime_before(before),
            kubeletVersion=version,
            kubeProxyVersion=version,
        ),
        images=[core_v1.ContainerImage(names=list(i.names), sizeBytes=i.size_bytes) for i in health.images],
    )


def _runtime_before(before: core_v1.NodeStatus) -> str:
    return before.nodeInfo.containerRuntimeVersion if before.nodeInfo else ""


def _conditions(health: Health, before: Sequence[core_v1.NodeCondition], now: str) -> list[core_v1.NodeCondition]:
    pressure = health.pressure
    wanted = [
        ("MemoryPressure", pressure.memory, "WorkerHasInsufficientMemory", "WorkerHasSufficientMemory", "memory"),
        ("DiskPressure", pressure.disk, "WorkerHasDiskPressure", "WorkerHasNoDiskPressure", "disk"),
        ("PIDPressure", pressure.pids, "WorkerHasInsufficientPID", "WorkerHasSufficientPID", "process ids"),
    ]
    held = [msgspec.structs.replace(c) for c in before]
    for kind, true, bad, good, what in wanted:
        message = f"the host is short of {what}" if true else f"the host has enough {what}"
        _set(held, kind, true, bad if true else good, message, now)
    if health.problem:
        _set(held, "Ready", False, health.reason, health.problem, now)
    else:
        _set(held, "Ready", True, health.reason, "the worker runs pods", now)
    if health.overlay is not None:
        _set(held, "NetworkUnavailable", *_network_unavailable(health.overlay), now)
    return held


def _network_unavailable(overlay: OverlayState) -> tuple[bool, str, str]:
    """True where this node's own part is wrong: then no pod should come here. Others' faults are only told."""
    if overlay.fault is not None:
        return True, overlay.fault.reason, overlay.fault.message
    if overlay.remarks:
        more = len(overlay.remarks) - MAX_REMARKS
        said = [*overlay.remarks[:MAX_REMARKS], *([f"and {more} more"] if more > 0 else [])]
        return False, "PeersUnreachable", "; ".join(said)
    return False, "OverlayReady", "pods of all nodes can be reached"


def _set(held: list[core_v1.NodeCondition], kind: str, true: bool, reason: str, message: str, now: str) -> None:
    status = "True" if true else "False"
    new = core_v1.NodeCondition(
        type=kind, status=status, reason=reason, message=message, lastTransitionTime=now, lastHeartbeatTime=now
    )
    conditions.set_condition(held, new)
    found = conditions.find(held, kind)
    assert found is not None
    found.lastHeartbeatTime = now


class Told(NamedTuple):
    """An event about the node."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def node_events(name: str, before: core_v1.NodeStatus, after: core_v1.NodeStatus) -> list[Told]:
    """What to tell of the change from one status to the next, as the kubelet does. A condition that was not stated
    before, or that the masters had put in doubt, becomes known anew.
    """
    told = [
        Told("Normal", reason, f"Node {name} status is now: {reason}")
        for condition in after.conditions
        if (reason := _TOLD_CONDITIONS.get((condition.type, condition.status)))
        and not _is_stated(before.conditions, condition.type, condition.status)
    ]
    boot_before = before.nodeInfo.bootID if before.nodeInfo else ""
    boot = after.nodeInfo.bootID if after.nodeInfo else ""
    if boot_before and boot and boot != boot_before:
        told.append(Told("Warning", "Rebooted", f"Node {name} has been rebooted, boot id: {boot}"))
    return told


def _is_stated(held: Sequence[core_v1.NodeCondition], kind: str, status: str) -> bool:
    found = conditions.find(held, kind)
    if found is None:
        # A new node is not ready yet: nothing has changed.
        return (kind, status) == ("Ready", "False")
    return found.status == status


class Registered(NamedTuple):
    """What the cluster gave this node; kept on disk for a start while no master answers."""

    uid: str
    pod_cidr: str


class NodeKeeper:
    """`register` once, then `run`. `health` may be changed at any time: call `wake` then. Changes are events, too."""

    def __init__(
        self,
        client: Client,
        where: Where,
        facts: HostFacts,
        version: str,
        images: Callable[[], Any],
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        self._client = client
        self._where = where
        self._facts = facts
        self._version = version
        self._images = images
        self._clock = clock
        self._recorder = recorder
        self.health = Health()
        self.in_touch = False
        self.informer = Informer(client, core_v1.Node, fields=f"metadata.name={where.name}", clock=clock)
        self.informer.add_handler(self._hear)
        self._woken = asyncio.Event()
        self._written: Any = None
        self._written_s = float("-inf")
        self._failures = 0

    @property
    def allocatable(self) -> dict[str, Any]:
        return node_status(self._where, self._facts, self.health, "", core_v1.NodeStatus(), "").allocatable

    def note_runtime(self, info: RuntimeInfo | None, why: str) -> None:
        """The runtime answers, or why it does not."""
        self.health.runtime = info or self.health.runtime
        self.health.runtime_problem = "" if info else f"the container runtime does not answer: {why}"
        self.wake()

    def note_network(self, problem: str) -> None:
        """The pod network stands (""), or why it does not."""
        self.health.network_problem = problem
        self.wake()

    def note_pressure(self, pressure: Pressure) -> None:
        """What the host is short of."""
        if pressure != self.health.pressure:
            self.health.pressure = pressure
            self.wake()

    def note_overlay(self, overlay: OverlayState) -> None:
        """Whether pods of other nodes can be reached."""
        self.health.overlay = overlay
        self.wake()

    def note_address(self, address: str) -> None:
        """The node is reached at another address from now on."""
        self._where = self._where._replace(address=address)
        self.wake()

    def note_session(self, in_touch: bool) -> None:
        """A master hears the heartbeats, or none does."""
        self.in_touch = in_touch
        if in_touch:
            self._say_anew()

    def say(self, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """An event about this node."""
        name = self._where.name
        self._recorder.event(self.informer.get(name) or unregistered(name), type, reason, message)

    def wake(self) -> None:
        self._woken.set()

    async def register(self) -> Registered:
        """Create or take over the Node; keeps trying while no master answers. Raises `ApiError` where refused."""
        while True:
            try:
                await self._look()
                node = await self._ensure()
            except ApiError as error:
                # A conflict: many nodes register at once, and another one was given this one's subnet first.
                if error.code not in (409, 429, 500, 503, 504):
                    raise
                self._note_failure(error)
                await self._clock.sleep(doubled(self._failures, FIRST_PAUSE_S, LONGEST_PAUSE_S))
                continue
            self._failures = 0
            if not node.spec.podCIDR:
                raise ApiError(500, "InternalError", f"the masters gave node {self._where.name} no pod network")
            return Registered(node.metadata.uid, node.spec.podCIDR)

    async def run(self) -> None:
        """Keep the Node true until cancelled."""
        while True:
            self._woken.clear()
            pause_s = LOOK_S
            try:
                await self._look()
                await self._write_if_due()
                self._failures = 0
            except ApiError as error:
                self._note_failure(error)
                pause_s = doubled(self._failures, FIRST_PAUSE_S, LONGEST_PAUSE_S)
            await self._pause(pause_s)

    def _hear(self, old: core_v1.Node | None, new: core_v1.Node | None) -> None:
        doubted = new is not None and not conditions.is_true(new.status.conditions, "Ready") and not self.health.problem
        # While no master hears the heartbeats it would doubt again at once; `note_session` says it then.
        if new is None or (doubted and self.in_touch):
            self._say_anew()
        before, after = (bool(node and node.spec.unschedulable) for node in (old, new))
        if new is not None and before != after:
            reason = "NodeNotSchedulable" if after else "NodeSchedulable"
            self.say("Normal", reason, f"Node {self._where.name} status is now: {reason}")

    def _say_anew(self) -> None:
        self._written = None
        self.wake()

    async def _pause(self, seconds: float) -> None:
        alarm = asyncio.create_task(self._ring(seconds))
        try:
            await self._woken.wait()
        finally:
            alarm.cancel()
        if self._failures:
            # However often it is woken, a failing master is asked at its own pace.
            await self._clock.sleep(doubled(self._failures, FIRST_PAUSE_S, LONGEST_PAUSE_S))

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._woken.set()

    async def _look(self) -> None:
        if not self.health.runtime_problem:
            try:
                self.health.images = _largest(await self._images())
            except RuntimeFault as error:
                log.debug("images are not listed: %s", error)

    def _status(self, before: core_v1.NodeStatus) -> core_v1.NodeStatus:
        now = timestamp(self._clock.wall())
        return node_status(self._where, self._facts, self.health, self._version, before, now)

    async def _write_if_due(self) -> None:
        node = self.informer.get(self._where.name)
        # Stable parts only: the time of the heartbeat alone is no change.
        status = self._status(node.status if node else core_v1.NodeStatus())
        signs = _signs(status)
        now = self._clock.monotonic()
        if signs == self._written and now - self._written_s < REFRESH_S:
            return
        await self._ensure()
        self._written, self._written_s = signs, now

    async def _ensure(self) -> core_v1.Node:
        """The Node as it should be, created or patched."""
        name = self._where.name
        labels = labels_of(self._where, self._facts)
        try:
            node = await self._client.get(core_v1.Node, name)
        except ApiError as error:
            if error.code != 404:
                raise
            new = core_v1.Node(
                metadata=meta_v1.ObjectMeta(name=name, labels=labels), status=self._status(core_v1.NodeStatus())
            )
            log.info("registering node %s", name)
            created = await self._client.create(new)
            self._tell(core_v1.NodeStatus(), new.status)
            return created
        if any(node.metadata.labels.get(key) != value for key, value in labels.items()):
            await self._patch({"metadata": {"labels": labels}})
        status = self._status(node.status)
        patched = await self._patch({"status": msgspec.to_builtins(status)}, "status")
        self._tell(node.status, status)
        return patched

    def _tell(self, before: core_v1.NodeStatus, after: core_v1.NodeStatus) -> None:
        for told in node_events(self._where.name, before, after):
            self.say(*told)

    async def _patch(self, patch: dict[str, Any], subresource: str = "") -> core_v1.Node:
        return await self._client.patch(
            core_v1.Node, self._where.name, "", patch, subresource=subresource, content_type=MERGE_PATCH
        )

    def _note_failure(self, error: ApiError) -> None:
        if self._failures == 0:
            log.warning("cannot write node %s, and keep trying: %s", self._where.name, error)
        self._failures += 1


def unregistered(name: str) -> core_v1.Node:
    """What events about a node refer to before it is known: its name stands for its uid, as with the kubelet."""
    return core_v1.Node(metadata=meta_v1.ObjectMeta(name=name, uid=name))


def _largest(images: Sequence[ImageUsage]) -> list[ImageUsage]:
    """As many as are reported; what has no name helps nobody to choose a node."""
    return sorted((i for i in images if i.names), key=lambda i: -i.size_bytes)[:MAX_IMAGES]


def _signs(status: core_v1.NodeStatus) -> Any:
    """What of a status counts as a change."""
    stated = [(c.type, c.status, c.reason, c.message) for c in status.conditions]
    return (stated, status.addresses, status.capacity, status.nodeInfo, status.daemonEndpoints, status.images)
