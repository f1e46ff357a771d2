"""Requests and limits as the kernel takes them: shares, quota, bytes, and who dies first when memory runs out."""

from __future__ import annotations

from fractions import Fraction

from barque.api import podstatus, quantity
from barque.api.types import core_v1
from barque.worker.runtime.port import Limits

MIN_SHARES = 2
SHARES_PER_CPU = 1024
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
        cpu_shares=max(MIN_SHARES, int(cpu_request * SHARES_PER_CPU)),
        nano_cpus=max(MIN_NANO_CPUS, int(limits["cpu"] * 10**9)) if "cpu" in limits else 0,
        memory_bytes=max(MIN_MEMORY_BYTES, memory) if memory else 0,
        oom_score_adj=_oom_score(pod, int(requests.get("memory", limits.get("memory", 0))), node_memory_bytes),
    )


def _oom_score(pod: core_v1.Pod, memory_request_bytes: int, node_memory_bytes: int) -> int:
    match podstatus.qos_class(pod.spec):
        case "Guaranteed":
            return GUARANTEED_SCORE
        case "BestEffort":
            return BEST_EFFORT_SCORE
    share = 1000 * memory_request_bytes // max(node_memory_bytes, 1)
    # Between the two other classes, whatever is asked for.
    return min(max(1000 - share, 1000 + GUARANTEED_SCORE), BEST_EFFORT_SCORE - 1)
