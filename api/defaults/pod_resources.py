"""Defaults of what a Pod asks for: requests from limits, and its pod-level resources (KEP-2837).

In: a Pod's spec whose containers have their other defaults. An amount that is nonsense stops the pod-level part, for
validation to name it.
"""

from __future__ import annotations

from barque.api import podstatus
from barque.api.defaults.amounts import canonicalise
from barque.api.types.core_v1 import Container, PodSpec, ResourceRequirements


def default_requests(containers: list[Container]) -> None:
    """Whoever limits a resource and requests nothing of it requests the limit."""
    for container in containers:
        if container.resources is not None:
            for name, limit in container.resources.limits.items():
                container.resources.requests.setdefault(name, limit)


def default_pod_resources(spec: PodSpec) -> None:
    """Complete what the pod as a whole asks for; untouched where it asks for nothing."""
    wanted = spec.resources
    if wanted is None or not (wanted.limits or wanted.requests):
        return
    try:
        requested, limited = podstatus.container_requests(spec), podstatus.container_limits(spec)
    except ValueError:
        return
    _default_huge_page_limits(wanted, limited)
    if wanted.limits:
        _default_pod_requests(wanted, requested)
    elif podstatus.has_pod_level(wanted.requests):
        _default_pod_limits(spec, wanted, limited)
    canonicalise(wanted.limits)
    canonicalise(wanted.requests)


def _default_huge_page_limits(wanted: ResourceRequirements, limited: dict[str, str]) -> None:
    for name, amount in limited.items():
        if podstatus.is_huge_page(name) and name not in wanted.requests:
            wanted.limits.setdefault(name, amount)


def _default_pod_requests(wanted: ResourceRequirements, requested: dict[str, str]) -> None:
    """What the containers request together, else the pod's limit."""
    for name, amount in requested.items():
        if name in podstatus.POD_LEVEL_RESOURCES:
            wanted.requests.setdefault(name, amount)
    for name, limit in wanted.limits.items():
        if podstatus.is_pod_level(name):
            wanted.requests.setdefault(name, limit)


def _default_pod_limits(spec: PodSpec, wanted: ResourceRequirements, limited: dict[str, str]) -> None:
    """What the containers may use together, where each of them has a limit."""
    for name, amount in limited.items():
        if name in podstatus.POD_LEVEL_RESOURCES and all(
            container.resources is not None and name in container.resources.limits
            for container in (*spec.containers, *spec.initContainers)
        ):
            wanted.limits.setdefault(name, amount)
