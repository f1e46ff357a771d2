"""Resizing of running pods (KEP-1287): what a node grants of it, and what is left to be done to a container. Pure.

A pod holds what it was granted last, which its status tells: `allocatedResources` the requests, `resources` the limits
in effect. What it wants beyond that is granted at once where the node has room (else it is `Deferred`), and never where
the node could not have it even alone (`Infeasible`). Giving something back is always granted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from barque.api import podstatus, quantity
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
    """The pod as it may run now, and why not as it is wanted."""

    pod: core_v1.Pod
    pending: Pending | None = None


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
    return Grant(pod)


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


def _holding(container: core_v1.Container, held: Mapping[str, core_v1.ResourceRequirements]) -> core_v1.Container:
    if container.name not in held or container.resources is None:
        return container
    return msgspec.structs.replace(container, resources=held[container.name])


def _units(name: str, amounts: Mapping[str, Quantity]) -> int:
    """Thousandths of a cpu, bytes of memory: as Kubernetes' messages count."""
    amount = amounts.get(name, "0")
    return quantity.milli(amount) if name == "cpu" else quantity.whole(amount)
