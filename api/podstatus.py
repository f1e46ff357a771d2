"""What a pod's spec and status say about it: ready, available, active, finished, what it asks for.

Amounts follow Kubernetes: init containers run one by one before the others, restartable ones ("sidecars", KEP-753)
beside all that come after them, and what is asked for the pod as a whole (KEP-2837) goes before what its containers ask
for. Whoever reads amounts here gets a ValueError where one of them is none.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Literal

from barque.api import conditions, quantity, resourcelists, timestamps
from barque.api.types.base import Quantity
from barque.api.types.core_v1 import Container, Pod, PodSpec
from barque.api.views import PodView

# What can be asked for the pod as a whole, besides huge pages. A pod's quality of service, too, is judged by these.
POD_LEVEL_RESOURCES = ("cpu", "memory")
_HUGE_PAGES = "hugepages-"


def is_ready(pod: Pod | PodView) -> bool:
    """Whether the pod's Ready condition is True."""
    return conditions.is_true(pod.status.conditions, "Ready")


def is_available(pod: Pod | PodView, min_ready_s: int, now: datetime.datetime) -> bool:
    """Whether the pod has been ready for at least `min_ready_s` seconds."""
    return available_in(pod, min_ready_s, now) == 0


def available_in(pod: Pod | PodView, min_ready_s: int, now: datetime.datetime) -> float | None:
    """Seconds until a ready pod counts as available, 0 where it does already; None where it is not ready."""
    ready = conditions.find(pod.status.conditions, "Ready")
    if ready is None or ready.status != "True":
        return None
    if min_ready_s <= 0:
        return 0
    since = timestamps.parse(ready.lastTransitionTime)
    return None if since is None else max(0.0, min_ready_s - (now - since).total_seconds())


def is_terminal(pod: Pod | PodView) -> bool:
    """Whether the pod has ended for good: Succeeded or Failed."""
    return pod.status.phase in ("Succeeded", "Failed")


def is_active(pod: Pod | PodView) -> bool:
    """Whether the pod counts as a replica: neither ended nor being deleted."""
    return not is_terminal(pod) and not pod.metadata.deletionTimestamp


def requests(spec: PodSpec) -> dict[str, str]:
    """What the whole pod asks of a node, by resource name, its overhead included."""
    total = container_requests(spec)
    if spec.resources is not None:
        total |= {
            name: quantity.canonical(amount) for name, amount in spec.resources.requests.items() if is_pod_level(name)
        }
    return resourcelists.add(total, spec.overhead) if spec.overhead else total


def container_requests(spec: PodSpec) -> dict[str, str]:
    """The most that the pod's containers request at any one time."""
    return _at_once(spec, "requests")


def container_limits(spec: PodSpec) -> dict[str, str]:
    """The most that the pod's containers are limited to at any one time."""
    return _at_once(spec, "limits")


def is_huge_page(resource: str) -> bool:
    return resource.startswith(_HUGE_PAGES)


def is_pod_level(resource: str) -> bool:
    """Whether the resource can be asked for the pod as a whole."""
    return resource in POD_LEVEL_RESOURCES or is_huge_page(resource)


def has_pod_level(amounts: Iterable[str]) -> bool:
    return any(is_pod_level(name) for name in amounts)


def is_sidecar(container: Container) -> bool:
    """Whether an init container keeps running beside those after it."""
    return container.restartPolicy == "Always"


def restarts(container: Container, pod_restart_policy: str, exit_code: int) -> bool:
    """Whether a container that ended with `exit_code` is started again: its own rules, its own policy, the pod's."""
    for rule in container.restartPolicyRules if container.restartPolicy else ():
        codes = rule.exitCodes
        if codes is not None and (exit_code in codes.values) == (codes.operator == "In") and rule.action == "Restart":
            return True
    match container.restartPolicy or pod_restart_policy:
        case "OnFailure":
            return exit_code != 0
        case "Never":
            return False
        case _:
            return True


def qos_class(spec: PodSpec) -> str:
    """Guaranteed, Burstable or BestEffort, by the pod's own cpu and memory if it has any, else by its containers'."""
    whole = spec.resources
    if whole is not None and (has_pod_level(whole.requests) or has_pod_level(whole.limits)):
        return _judge([(whole.requests, whole.limits)])
    containers = (*spec.containers, *spec.initContainers)
    return _judge([(c.resources.requests, c.resources.limits) if c.resources else ({}, {}) for c in containers])


def _judge(amounts: Iterable[tuple[Mapping[str, Quantity], Mapping[str, Quantity]]]) -> str:
    guaranteed, anything = True, False
    for wanted, limits in amounts:
        for name in POD_LEVEL_RESOURCES:
            if name not in wanted and name not in limits:
                guaranteed = False
                continue
            # By their numerators: a Fraction takes its time to compare itself with a number.
            limit = quantity.parse(limits.get(name, 0))
            request = quantity.parse(wanted[name]) if name in wanted else limit
            anything = anything or limit.numerator > 0 or request.numerator > 0
            guaranteed = guaranteed and limit.numerator > 0 and request == limit
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _at_once(spec: PodSpec, kind: Literal["requests", "limits"]) -> dict[str, str]:
    total: dict[str, str] = {}
    for container in spec.containers:
        total = resourcelists.add(total, _amounts(container, kind))
    sidecars: dict[str, str] = {}
    starting: dict[str, str] = {}
    for container in spec.initContainers:
        own = _amounts(container, kind)
        if is_sidecar(container):
            total, sidecars = resourcelists.add(total, own), resourcelists.add(sidecars, own)
            starting = resourcelists.largest(starting, sidecars)
        else:
            starting = resourcelists.largest(starting, resourcelists.add(own, sidecars))
    return resourcelists.largest(total, starting)


def _amounts(container: Container, kind: Literal["requests", "limits"]) -> Mapping[str, Quantity]:
    if container.resources is None:
        return {}
    return container.resources.requests if kind == "requests" else container.resources.limits
