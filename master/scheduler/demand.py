"""What a pod asks of a node: its class for scheduling. Pods of equal demand are placed by the same ranking of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from barque.api import quantity
from barque.api.types.base import Quantity
from barque.api.types.core_v1 import Taint, Toleration
from barque.api.views import ContainerView, PodView

# What a pod without a request counts for in scores (never in fits), so that such pods spread: Kubernetes' figures.
NONZERO_CPU_MILLI = 100
NONZERO_MEMORY_BYTES = 200 * 1024**2


class Demand(NamedTuple):
    """Requests, and what the node must be. `others` are (resource, whole units) besides cpu and memory."""

    cpu_milli: int
    memory_bytes: int
    others: tuple[tuple[str, int], ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[tuple[str, str, str, str], ...] = ()

    @property
    def scored_cpu_milli(self) -> int:
        return self.cpu_milli or NONZERO_CPU_MILLI

    @property
    def scored_memory_bytes(self) -> int:
        return self.memory_bytes or NONZERO_MEMORY_BYTES

    def tolerates(self, taint: Taint) -> bool:
        return any(_matches(toleration, taint) for toleration in self.tolerations)


def demand_of(pod: PodView) -> Demand:
    """The demand of a pod: the sum of its containers, or its largest init container where that is more."""
    spec = pod.spec
    totals: dict[str, int] = {}
    for container in spec.containers:
        for name, amount in _requests(container).items():
            totals[name] = totals.get(name, 0) + amount
    for container in spec.initContainers:
        for name, amount in _requests(container).items():
            totals[name] = max(totals.get(name, 0), amount)
    for name, overhead in spec.overhead.items():
        totals[name] = totals.get(name, 0) + _amount(name, overhead)
    cpu_milli, memory_bytes = totals.pop("cpu", 0), totals.pop("memory", 0)
    return Demand(
        cpu_milli,
        memory_bytes,
        tuple(sorted((n, a) for n, a in totals.items() if a)) if totals else (),
        tuple(sorted(spec.nodeSelector.items())) if spec.nodeSelector else (),
        tuple(_tolerance(t) for t in spec.tolerations) if spec.tolerations else (),
    )


def _requests(container: ContainerView) -> Mapping[str, int]:
    if container.resources is None:
        return {}
    return {name: _amount(name, amount) for name, amount in container.resources.requests.items()}


@lru_cache(maxsize=4096)
def _amount(name: str, amount: Quantity) -> int:
    return amount_of(name, amount)


def amount_of(name: str, amount: Quantity) -> int:
    """Thousandths of cpu, whole units of everything else."""
    return quantity.milli(amount) if name == "cpu" else quantity.whole(amount)


def _tolerance(toleration: Toleration) -> tuple[str, str, str, str]:
    return (toleration.key, toleration.operator or "Equal", toleration.value, toleration.effect)


def _matches(toleration: tuple[str, str, str, str], taint: Taint) -> bool:
    key, operator, value, effect = toleration
    if effect and effect != taint.effect:
        return False
    if key and key != taint.key:
        return False
    return operator == "Exists" or (bool(key) and value == taint.value)
