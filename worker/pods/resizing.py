"""Resizing of running pods (KEP-1287): what a node grants of it, and what is left to be done to a container. Pure.

A pod holds what it was granted last, which its status tells: `allocatedResources` the requests, `resources` the limits
in effect. What it wants beyond that is granted at once where the node has room (else it is `Deferred`), and never where
the node could not have it even alone (`Infeasible`). Giving something back is always granted.

`Story` tells each turn of that as the Event that a kubelet (1.34) records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from barque.api import conditions, podstatus, quantity
from barque.api.types import core_v1
from barque.api.types.base import Quantity
from barque.worker.pods import resources
from barque.worker.runtime.port import Limits

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
_RESIZABLE = ("cpu", "memory")


class Pending(NamedTuple):
    """Why a resize is not granted; becomes the condition PodResizePending."""

    reason: Literal["Deferred", "Infeasible"]
    message: str


class Grant(NamedTuple):
    """The pod as it may run now, and why not as it is wanted. `resized` is whether that is not what it held."""

    pod: core_v1.Pod
    pending: Pending | None = None
    resized: bool = False


class Told(NamedTuple):
    """An Event about the pod."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def grant(
    pod: core_v1.Pod, held: core_v1.PodStatus, others: Iterable[core_v1.Pod], allocatable: Mapping[str, Quantity]
) -> Grant:
    """What is granted to a pod whose last status is `held`, beside the `others` of its node."""
    before = allocated(pod, held)
    if before.spec == pod.spec:
        return Grant(pod)
    wanted, has = podstatus.requests(pod.spec), podstatus.requests(before.spec)
    more = [name for name in _RESIZABLE if name in allocatable and _units(name, wanted) > _units(name, has)]
    for name in more:
        requested, capacity = _units(name, wanted), _units(name, allocatable)
        if requested > capacity:
            why = f"Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
            return Grant(before, Pending("Infeasible", why))
    taken = [
        podstatus.requests(allocated(other, other.status).spec)
        for other in (others if more else ())
        if not podstatus.is_terminal(other)
    ]
    for name in more:
        requested, capacity = _units(name, wanted), _units(name, allocatable)
        used = sum(_units(name, amounts) for amounts in taken)
        if used + requested > capacity:
            why = (
                f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            )
            return Grant(before, Pending("Deferred", why))
    return Grant(pod, resized=True)


def allocated(pod: core_v1.Pod, status: core_v1.PodStatus) -> core_v1.Pod:
    """The pod with what its containers hold in the place of what they want; who has not begun holds what it wants."""
    held = {
        each.name: core_v1.ResourceRequirements(
            requests=dict(each.allocatedResources), limits=dict(each.resources.limits), claims=each.resources.claims
        )
        for each in (*status.containerStatuses, *status.initContainerStatuses)
        if each.resources is not None
    }
    if not held:
        return pod
    spec = msgspec.structs.replace(
        pod.spec,
        containers=[_holding(container, held) for container in pod.spec.containers],
        initContainers=[_holding(container, held) for container in pod.spec.initContainers],
    )
    return msgspec.structs.replace(pod, spec=spec)


def changes(pod: core_v1.Pod, container: core_v1.Container, applied: Limits | None) -> list[str]:
    """The resources whose limits in effect are not those that the pod says; none where they are not known."""
    if applied is None:
        return []
    wanted = resources.limits_of(pod, container, 1)
    cpu = (wanted.cpu_shares, wanted.nano_cpus) != (applied.cpu_shares, applied.nano_cpus)
    return [
        name for name, differs in (("cpu", cpu), ("memory", wanted.memory_bytes != applied.memory_bytes)) if differs
    ]


def needs_restart(container: core_v1.Container, changed: Iterable[str]) -> bool:
    """Whether one of the changed resources takes effect only at a container's start."""
    policies = {policy.resourceName: policy.restartPolicy for policy in container.resizePolicy}
    return any(policies.get(name) == "RestartContainer" for name in changed)


class Story:
    """One pod's resizes as Events, each told once, however often the pod is looked at."""

    def __init__(self) -> None:
        self._granted: bytes | None = None
        self._under_way = False

    def granted(self, found: Grant) -> list[Told]:
        """What is to be told of a grant: the beginning, where it is another one than the last."""
        if found.pending is not None:
            return []
        before, self._granted = self._granted, msgspec.json.encode(_summary(found.pod))
        if not found.resized or before == self._granted:
            return []
        self._under_way = True
        return [Told("Normal", "ResizeStarted", _message("started", found.pod))]

    def reported(
        self, wanted: core_v1.Pod, pod: core_v1.Pod, before: core_v1.PodStatus, now: core_v1.PodStatus
    ) -> list[Told]:
        """What is to be told of a status that follows on another; `wanted` may be more than the `pod` was granted."""
        told: list[Told] = []
        pending, progress = (conditions.find(now.conditions, kind) for kind in (PENDING, IN_PROGRESS))
        if pending is not None and _is_news(pending, before):
            message = _message(pending.reason, wanted, pending.message)
            told.append(Told("Warning", f"Resize{pending.reason}", message))
        if progress is None:
            if self._under_way or conditions.find(before.conditions, IN_PROGRESS) is not None:
                told.append(Told("Normal", "ResizeCompleted", _message("completed", pod)))
        elif progress.reason and _is_news(progress, before):
            told.append(Told("Warning", "ResizeError", _message("error", pod, progress.message)))
        self._under_way = progress is not None
        return told


def _is_news(found: core_v1.PodCondition, before: core_v1.PodStatus) -> bool:
    known = conditions.find(before.conditions, found.type)
    return known is None or (known.reason, known.message) != (found.reason, found.message)


def _message(what: str, pod: core_v1.Pod, error: str = "") -> str:
    """In a kubelet's words: what the containers ask for as JSON, and which generation of the pod that is."""
    said = {**_summary(pod), "generation": pod.metadata.generation, **({"error": error} if error else {})}
    return f"Pod resize {what}: {msgspec.json.encode(said).decode()}"


def _summary(pod: core_v1.Pod) -> dict[str, Any]:
    lists = {"initContainers": pod.spec.initContainers, "containers": pod.spec.containers}
    return {key: [_container_summary(each) for each in found] for key, found in lists.items() if found}


def _container_summary(container: core_v1.Container) -> dict[str, Any]:
    asked = container.resources or core_v1.ResourceRequirements()
    amounts = {"limits": dict(sorted(asked.limits.items())), "requests": dict(sorted(asked.requests.items()))}
    return {"name": container.name, "resources": {key: found for key, found in amounts.items() if found}}


def _holding(container: core_v1.Container, held: Mapping[str, core_v1.ResourceRequirements]) -> core_v1.Container:
    if container.name not in held or container.resources is None:
        return container
    return msgspec.structs.replace(container, resources=held[container.name])


def _units(name: str, amounts: Mapping[str, Quantity]) -> int:
    """Thousandths of a cpu, bytes of memory: as Kubernetes' messages count."""
    amount = amounts.get(name, "0")
    return quantity.milli(amount) if name == "cpu" else quantity.whole(amount)
