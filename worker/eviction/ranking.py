"""Which pod goes first, and what it is told. Pure. Order and words are those of Kubernetes' eviction manager.

Pods that take more than they asked for go before those that do not, lower priority before higher, and among equals the
one that is furthest above what it asked for: BestEffort pods, which asked for nothing, thus go first, Guaranteed ones,
which cannot exceed what they asked for, last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from barque.api import podstatus, quantity
from barque.api.types import core_v1
from barque.worker.eviction.signals import RESOURCES, Met
from barque.worker.pods.origin import is_static

# Pods from here on are the cluster's own, and are never ended for want of anything.
CRITICAL_PRIORITY = 2_000_000_000


class PodUsage(NamedTuple):
    """What a pod takes, in bytes. `containers` is memory by name; `volumes` is by emptyDir volume."""

    memory: int = 0
    disk: int = 0
    containers: Mapping[str, int] = {}
    volumes: Mapping[str, int] = {}


def is_critical(pod: core_v1.Pod) -> bool:
    return is_static(pod) or (pod.spec.priority or 0) >= CRITICAL_PRIORITY


def rank(pods: Iterable[core_v1.Pod], usage: Mapping[str, PodUsage], resource: str) -> list[core_v1.Pod]:
    """The pods that may be ended for this resource, the first to go first. `usage` is by uid."""

    def key(pod: core_v1.Pod) -> tuple[bool, int, int, str]:
        over = _over(pod, usage.get(pod.metadata.uid, PodUsage()), resource)
        return over <= 0, pod.spec.priority or 0, -over, pod.metadata.uid

    return sorted((pod for pod in pods if not is_critical(pod)), key=key)


def _over(pod: core_v1.Pod, usage: PodUsage, resource: str) -> int:
    """How much more it takes than it asked for."""
    asked = podstatus.requests(pod.spec)
    if resource == "memory":
        return usage.memory - quantity.whole(asked.get("memory", 0))
    return usage.disk - quantity.whole(asked.get("ephemeral-storage", 0))


def low_on(found: Met, pod: core_v1.Pod, usage: PodUsage) -> str:
    """Why this pod is ended."""
    resource = RESOURCES[found.signal]
    words = f"The node was low on resource: {resource}. "
    words += f"Threshold quantity: {shown(found.quantity)}, available: {shown(found.available)}. "
    if resource != "memory":
        return words
    for container in pod.spec.containers:
        used = usage.containers.get(container.name)
        asked = container.resources.requests.get("memory", "0") if container.resources else "0"
        if used is not None and used > quantity.whole(asked):
            words += f"Container {container.name} was using {shown(used)}, request is {quantity.canonical(asked)}, "
            words += f"has larger consumption of {resource}. "
    return words


def over_limit(pod: core_v1.Pod, usage: PodUsage) -> str:
    """Why a pod is ended that fills an emptyDir volume beyond its limit; "" for one that does not."""
    for volume in pod.spec.volumes:
        if volume.emptyDir is None or volume.emptyDir.sizeLimit is None:
            continue
        limit = quantity.whole(volume.emptyDir.sizeLimit)
        if limit > 0 and usage.volumes.get(volume.name, 0) > limit:
            shown_limit = quantity.canonical(volume.emptyDir.sizeLimit)
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{shown_limit}". '
    return ""


def shown(amount: int) -> str:
    """Bytes with the largest binary suffix that is exact."""
    suffixes = ["Ti", "Gi", "Mi", "Ki", ""]
    while amount and amount % 1024 == 0 and len(suffixes) > 1:
        amount //= 1024
        suffixes.pop()
    return f"{amount}{suffixes[-1]}"
