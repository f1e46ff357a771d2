"""What a pod asks of a node: its class for scheduling. Pods of equal demand are placed by the same ranking of nodes.

A demand has amounts, host ports, and `Constraints`, which depend on a node's facts alone and are judged once for all
nodes (`suitability`). Amounts are counted as Kubernetes does: restartable init containers (KEP-753) beside all that
come after them, what is asked for the pod as a whole (KEP-2837) before what its containers ask for, and the overhead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec

from barque.api import conditions, podstatus, quantity, taints
from barque.api.selectors import Requirement
from barque.api.types.base import Quantity
from barque.api.types.core_v1 import NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration
from barque.api.views import ContainerView, PodSpecView, PodView, RequestsView

# What a container without a request counts for in scores (never in fits), so that such pods spread, as in Kubernetes.
NONZERO = {"cpu": 100, "memory": 200 * 1024**2}
# Docker's names for an image that says no registry.
_DEFAULT_PREFIXES = ("docker.io/library/", "docker.io/")

Amounts = dict[str, int]


class Term(NamedTuple):
    """All requirements hold, `fields` of the node's name; a term without any matches no node."""

    labels: tuple[Requirement, ...]
    fields: tuple[Requirement, ...]

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        if not self.labels and not self.fields:
            return False
        return all(r.matches(labels) for r in self.labels) and all(
            r.matches({"metadata.name": name}) for r in self.fields
        )


class Constraints(NamedTuple):
    """What the node must be, and would better be. Of `required` one term must match; None asks for nothing."""

    selector: tuple[tuple[str, str], ...] = ()
    required: tuple[Term, ...] | None = None
    preferred: tuple[tuple[int, Term], ...] = ()
    # (key, operator, value, effect)
    tolerations: tuple[tuple[str, str, str, str], ...] = ()
    images: tuple[str, ...] = ()

    def tolerates(self, taint: Taint) -> bool:
        return any(
            taints.tolerates(Toleration(key=key, operator=operator, value=value, effect=effect), taint)
            for key, operator, value, effect in self.tolerations
        )


class Demand(NamedTuple):
    """Requests, and what the node must be. `others` are (resource, whole units) besides cpu and memory."""

    cpu_milli: int
    memory_bytes: int
    others: tuple[tuple[str, int], ...] = ()
    scored_cpu_milli: int = NONZERO["cpu"]
    scored_memory_bytes: int = NONZERO["memory"]
    # (protocol, host address, host port); "" is every address.
    ports: tuple[tuple[str, str, int], ...] = ()
    constraints: Constraints = Constraints()
    # It asks to wait until its scheduling gates are taken away.
    is_gated: bool = False


def demand_of(pod: PodView) -> Demand:
    """The demand of a pod; equal ones are the same object, so that thousands of replicas hold it once."""
    spec = _held(pod)
    totals = _total(spec, _requests)
    scored = _total(spec, _scored_requests)
    cpu_milli, memory_bytes = totals.pop("cpu", 0), totals.pop("memory", 0)
    return _shared(
        Demand(
            cpu_milli,
            memory_bytes,
            tuple(sorted((n, a) for n, a in totals.items() if a)) if totals else (),
            scored["cpu"],
            scored["memory"],
            _ports_of(spec),
            constraints_of(spec),
            bool(spec.schedulingGates),
        )
    )


def _held(pod: PodView) -> PodSpecView:
    """The pod's spec; one that was resized to what its node can never give holds what it was allocated before."""
    pending = conditions.find(pod.status.conditions, "PodResizePending")
    if pending is None or pending.reason != "Infeasible":
        return pod.spec
    held = {each.name: each.allocatedResources for each in pod.status.containerStatuses}
    containers = [
        msgspec.structs.replace(container, resources=RequestsView(requests=held[container.name]))
        if container.name in held
        else container
        for container in pod.spec.containers
    ]
    return msgspec.structs.replace(pod.spec, containers=tuple(containers))


def constraints_of(spec: PodSpecView) -> Constraints:
    affinity = spec.affinity.nodeAffinity if spec.affinity else None
    required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity else None
    preferred = affinity.preferredDuringSchedulingIgnoredDuringExecution if affinity else ()
    return Constraints(
        tuple(sorted(spec.nodeSelector.items())) if spec.nodeSelector else (),
        tuple(_term(t) for t in required.nodeSelectorTerms) if required is not None else None,
        tuple((p.weight, _term(p.preference)) for p in preferred if p.preference is not None),
        tuple(_tolerance(t) for t in spec.tolerations) if spec.tolerations else (),
        tuple(image_name(c.image) for c in (*spec.initContainers, *spec.containers) if c.image),
    )


@lru_cache(maxsize=4096)
def image_name(name: str) -> str:
    """An image's name as nodes and pods may both write it: without the default registry, with a tag."""
    for prefix in _DEFAULT_PREFIXES:
        name = name.removeprefix(prefix)
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


@lru_cache(maxsize=4096)
def amount_of(name: str, amount: Quantity) -> int:
    """Thousandths of cpu, whole units of everything else."""
    return quantity.milli(amount) if name == "cpu" else quantity.whole(amount)


@lru_cache(maxsize=4096)
def _shared(demand: Demand) -> Demand:
    return demand


def _total(spec: PodSpecView, amounts: Callable[[ContainerView], Amounts]) -> Amounts:
    total: Amounts = {}
    for container in spec.containers:
        _add(total, amounts(container))
    if spec.initContainers:
        total = _with_init_containers(total, spec.initContainers, amounts)
    if spec.resources is not None:
        for name, amount in spec.resources.requests.items():
            if podstatus.is_pod_level(name):
                total[name] = amount_of(name, amount)
    for name, amount in spec.overhead.items():
        total[name] = total.get(name, 0) + amount_of(name, amount)
    return total


def _with_init_containers(
    total: Amounts, containers: Iterable[ContainerView], amounts: Callable[[ContainerView], Amounts]
) -> Amounts:
    sidecars: Amounts = {}
    most: Amounts = {}
    for container in containers:
        own = amounts(container)
        if container.restartPolicy == "Always":
            _add(total, own)
            _add(sidecars, own)
            own = sidecars
        else:
            own = dict(own)
            _add(own, sidecars)
        most = {name: max(most.get(name, 0), own.get(name, 0)) for name in (*most, *own)}
    return {name: max(total.get(name, 0), most.get(name, 0)) for name in (*total, *most)}


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _requests(container: ContainerView) -> Amounts:
    if container.resources is None:
        return {}
    return {name: amount_of(name, amount) for name, amount in container.resources.requests.items()}


def _scored_requests(container: ContainerView) -> Amounts:
    requests = container.resources.requests if container.resources else {}
    return {name: amount_of(name, requests[name]) if name in requests else nonzero for name, nonzero in NONZERO.items()}


def _ports_of(spec: PodSpecView) -> tuple[tuple[str, str, int], ...]:
    # Restartable init containers hold theirs as long as the pod lives.
    containers = (*spec.containers, *(c for c in spec.initContainers if c.restartPolicy == "Always"))
    found = [
        (port.protocol or "TCP", "" if port.hostIP == "0.0.0.0" else port.hostIP, port.hostPort)
        for container in containers
        for port in container.ports
        if port.hostPort
    ]
    return tuple(sorted(found))


def _term(term: NodeSelectorTerm) -> Term:
    return Term(tuple(_requirement(r) for r in term.matchExpressions), tuple(_requirement(r) for r in term.matchFields))


def _requirement(requirement: NodeSelectorRequirement) -> Requirement:
    return Requirement(requirement.key, requirement.operator, tuple(requirement.values))


def _tolerance(toleration: Toleration) -> tuple[str, str, str, str]:
    return (toleration.key, toleration.operator or "Equal", toleration.value, toleration.effect)
