"""What a pod's spec and status say about it: ready, available, active, finished, what it asks for."""

from __future__ import annotations

import datetime

from barque.api import conditions, quantity, timestamps
from barque.api.types.core_v1 import Pod, PodSpec


def is_ready(pod: Pod) -> bool:
    """Whether the pod's Ready condition is True."""
    return conditions.is_true(pod.status.conditions, "Ready")


def is_available(pod: Pod, min_ready_s: int, now: datetime.datetime) -> bool:
    """Whether the pod has been ready for at least `min_ready_s` seconds."""
    return available_in(pod, min_ready_s, now) == 0


def available_in(pod: Pod, min_ready_s: int, now: datetime.datetime) -> float | None:
    """Seconds until a ready pod counts as available, 0 where it does already; None where it is not ready."""
    ready = conditions.find(pod.status.conditions, "Ready")
    if ready is None or ready.status != "True":
        return None
    if min_ready_s <= 0:
        return 0
    since = timestamps.parse(ready.lastTransitionTime)
    return None if since is None else max(0.0, min_ready_s - (now - since).total_seconds())


def is_terminal(pod: Pod) -> bool:
    """Whether the pod has ended for good: Succeeded or Failed."""
    return pod.status.phase in ("Succeeded", "Failed")


def is_active(pod: Pod) -> bool:
    """Whether the pod counts as a replica: neither ended nor being deleted."""
    return not is_terminal(pod) and not pod.metadata.deletionTimestamp


def requests(spec: PodSpec) -> dict[str, str]:
    """What the whole pod asks of a node, by resource name: the sum over its containers."""
    total: dict[str, str] = {}
    for container in spec.containers:
        if container.resources is not None:
            total = quantity.add(total, container.resources.requests)
    return total


def qos_class(spec: PodSpec) -> str:
    """Guaranteed, Burstable or BestEffort, by the containers' cpu and memory."""
    guaranteed, anything = True, False
    for container in spec.containers:
        wanted = container.resources.requests if container.resources else {}
        limits = container.resources.limits if container.resources else {}
        for name in ("cpu", "memory"):
            limit, request = quantity.parse(limits.get(name, 0)), quantity.parse(wanted.get(name, limits.get(name, 0)))
            anything = anything or limit > 0 or request > 0
            guaranteed = guaranteed and limit > 0 and request == limit
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
