"""Requests and limits as the kernel takes them: shares, quota, bytes, and who dies first when memory runs out."""

from __future__ import annotations

from fractions import Fraction

from barque.api import podstatus, quantity
from barque.api.types import core_v1
from barque.worker.runtime.port import Limits

MIN_SHARES = 2
SHARES_PER_CPU = 1024
# The kernel takes no more.
MAX_SHARES = 262_144
# CFS allows no less than 1 ms in each 100 ms period.
MIN_NANO_CPUS = 10_000_000
# Docker refuses less.
MIN_MEMORY_BYTES = 6 * 1024 * 1024
GUARANTEED_SCORE = -997
BEST_EFFORT_SCORE = 1000
# The pause process outlives every container of its pod.
SANDBOX_SCORE = -998


def _counted(amounts: dict[str, str | int | float]) -> dict[str, Fraction]:
    found = {name: quantity.parse(amounts[name]) for name in ("cpu", "memory") if name in amounts}
    return {name: amount for name, amount in found.items() if amount > 0}


def limits_of(pod: core_v1.Pod, container: core_v1.Container, node_memory_bytes: int) -> Limits:
    """What the container may use, on a node with so much memory."""
    resources = container.resources or core_v1.ResourceRequirements()
    limits, requests = _counted(resources.limits), _counted(resources.requests)
    cpu_request = requests.get("cpu", limits.get("cpu", Fraction(0)))
    memory = int(limits.get("memory", 0))
    return Limits(
        cpu_shares=min(max(MIN_SHARES, int(cpu_request * SHARES_PER_CPU)), MAX_SHARES),
        nano_cpus=max(MIN_NANO_CPUS, int(limits["cpu"] * 10**9)) if "cpu" in limits else 0,
        memory_bytes=max(MIN_MEMORY_BYTES, memory) if memory else 0,
        oom_score_adj=_oom_score(pod, container, node_memory_bytes),
    )


def _oom_score(pod: core_v1.Pod, container: core_v1.Container, node_memory_bytes: int) -> int:
    """Kubelet's formula: who asked for more is spared longer, a sidecar at least as long as any app of its pod."""
    if pod.spec.priorityClassName == "system-node-critical":
        return GUARANTEED_SCORE
    match podstatus.qos_class(pod.spec):
        case "Guaranteed":
            return GUARANTEED_SCORE
        case "BestEffort":
            return BEST_EFFORT_SCORE
    asked = _memory_request(container)
    if podstatus.is_sidecar(container):
        asked = max(asked, min(_memory_request(app) for app in pod.spec.containers))
    share = 1000 * asked // max(node_memory_bytes, 1)
    # Between the two other classes, whatever is asked for.
    return min(max(1000 - share, 1000 + GUARANTEED_SCORE), BEST_EFFORT_SCORE - 1)


def _memory_request(container: core_v1.Container) -> int:
    resources = container.resources or core_v1.ResourceRequirements()
    limits, requests = _counted(resources.limits), _counted(resources.requests)
    return int(requests.get("memory", limits.get("memory", 0)))
