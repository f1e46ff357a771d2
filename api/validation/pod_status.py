"""Validation of a pod's status: what its worker says of it, and what time cannot bring.

In: the new and the stored pod. A container that has ended for good stays so; a pod's quality of service never changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from barque.api import names, podstatus
from barque.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required, too_long
from barque.api.types.core_v1 import (
    Container,
    ContainerStatus,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    ResourceHealth,
    ResourceStatus,
)
from barque.api.validation.checks import amount, immutable, not_negative, one_of, spelt
from barque.api.validation.choices import ip_address, unix_id
from barque.api.validation.pod_annotations import check_annotations_update

_PHASES = ("Failed", "Pending", "Running", "Succeeded", "Unknown")
_SYSTEM_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
_HEALTHS = ("Healthy", "Unhealthy", "Unknown")
_CLAIM = "claim:"
_MAX_IMAGE_REF = 256
_MAX_HEALTH_MESSAGE = 1024


def check_status(new: Pod, old: Pod | None = None) -> list[FieldError]:
    """What is wrong with a status by itself and, where there is one before it, as its successor."""
    return [*_check_status(new), *(_check_succession(new, old) if old is not None else ())]


def _check_status(pod: Pod) -> list[FieldError]:
    status = pod.status
    faults = one_of("status.phase", status.phase, _PHASES) if status.phase else []
    faults += _check_generation("status.observedGeneration", status.observedGeneration)
    for index, condition in enumerate(status.conditions):
        faults += _check_condition(condition, f"status.conditions[{index}]")
    faults += _check_amounts(status, "status")
    faults += _check_claims(pod)
    windows = pod.spec.os is not None and pod.spec.os.name == "windows"
    faults += _check_containers(status.containerStatuses, "status.containerStatuses", pod.spec.containers, windows)
    below = "status.initContainerStatuses"
    faults += _check_containers(status.initContainerStatuses, below, pod.spec.initContainers, windows)
    below = "status.ephemeralContainerStatuses"
    faults += _check_containers(status.ephemeralContainerStatuses, below, None, windows)
    return faults


def _check_succession(new: Pod, old: Pod) -> list[FieldError]:
    faults = check_annotations_update(new.metadata.annotations, old.metadata.annotations, "metadata.annotations")
    if new.spec.nodeName != old.spec.nodeName:
        faults.append(forbidden("status.nodeName", "may not be changed directly"))
    faults += _check_nomination(new, old)
    if old.status.qosClass and new.status.qosClass:
        faults += immutable("status.qosClass", new.status.qosClass, old.status.qosClass)
    faults += _check_addresses(new.status, old.status)
    for name, containers in (
        ("containerStatuses", old.spec.containers),
        ("initContainerStatuses", old.spec.initContainers),
        ("ephemeralContainerStatuses", []),
    ):
        before, after = getattr(old.status, name), getattr(new.status, name)
        faults += _check_transitions(after, before, f"status.{name}", containers, old.spec)
    return faults


def _check_generation(path: str, generation: int | None) -> list[FieldError]:
    if generation is None or generation >= 0:
        return []
    return [invalid(path, generation, "must be a non-negative integer")]


def _check_condition(condition: PodCondition, path: str) -> list[FieldError]:
    faults = _check_generation(f"{path}.observedGeneration", condition.observedGeneration)
    if condition.type in _SYSTEM_CONDITIONS:
        return faults
    return [*faults, *spelt(f"{path}.type", condition.type, names.qualified_name)]


def _check_nomination(new: Pod, old: Pod) -> list[FieldError]:
    """The node for which the scheduler makes room; a bound pod needs none."""
    path, nominated = "status.nominatedNodeName", new.status.nominatedNodeName
    if not nominated or nominated == old.status.nominatedNodeName:
        return []
    faults = spelt(path, nominated, names.dns1123_subdomain)
    if old.spec.nodeName:
        faults.append(forbidden(path, "may not be set on pods that are already bound to a node"))
    return faults


def _check_addresses(new: PodStatus, old: PodStatus) -> list[FieldError]:
    pod_ips = [entry.ip for entry in new.podIPs]
    host_ips = [entry.ip for entry in new.hostIPs]
    faults = _check_ips(pod_ips, [entry.ip for entry in old.podIPs], "status.podIPs")
    if host_ips and new.hostIP != host_ips[0]:
        faults.append(invalid("status.hostIPs[0].ip", host_ips[0], "must be equal to `hostIP`"))
    return [*faults, *_check_ips(host_ips, [entry.ip for entry in old.hostIPs], "status.hostIPs")]


def _check_ips(addresses: list[str], known: list[str], path: str) -> list[FieldError]:
    if addresses == known:
        return []
    faults: list[FieldError] = []
    for index, address in enumerate(addresses):
        if address not in known:
            faults += ip_address(f"{path}[{index}].ip", address)
    families = [":" in address for address in addresses]
    if len(families) != len(set(families)):
        faults.append(invalid(path, addresses, "may specify no more than one IP for each IP family"))
    return faults


def _check_transitions(
    new: Sequence[ContainerStatus],
    old: Sequence[ContainerStatus],
    path: str,
    containers: Sequence[Container],
    spec: PodSpec,
) -> list[FieldError]:
    """Only what is to be restarted comes back."""
    faults: list[FieldError] = []
    for index, before in enumerate(old):
        ended = before.state.terminated if before.state is not None else None
        after = next((status for status in new if status.name == before.name), None) if ended is not None else None
        if ended is None or after is None or (after.state is not None and after.state.terminated is not None):
            continue
        container = next((c for c in containers if c.name == before.name), None)
        if container is None or not podstatus.restarts(container, spec.restartPolicy, ended.exitCode):
            why = "may not be transitioned to non-terminated state"
            faults.append(forbidden(f"{path}[{index}].state", why))
    return faults


def _check_claims(pod: Pod) -> list[FieldError]:
    faults: list[FieldError] = []
    known = {claim.name for claim in pod.spec.resourceClaims}
    seen: set[str] = set()
    for index, status in enumerate(pod.status.resourceClaimStatuses):
        path = f"status.resourceClaimStatuses[{index}]"
        if status.name not in known:
            why = "must match the name of an entry in `spec.resourceClaims`"
            faults.append(invalid(f"{path}.name", status.name, why))
        if status.name in seen:
            faults.append(duplicate(f"{path}.name", status.name))
        seen.add(status.name)
        if status.resourceClaimName:
            faults += spelt(f"{path}.resourceClaimName", status.resourceClaimName, names.dns1123_subdomain)
    return faults


def _check_containers(
    statuses: list[ContainerStatus], path: str, containers: list[Container] | None, windows: bool
) -> list[FieldError]:
    """`containers` is None for ephemeral ones, which have no resources of their own."""
    faults: list[FieldError] = []
    for index, status in enumerate(statuses):
        below = f"{path}[{index}]"
        faults += not_negative(f"{below}.restartCount", status.restartCount)
        faults += _check_amounts(status, below)
        user = status.user.linux if status.user is not None else None
        if user is not None and windows:
            faults.append(forbidden(f"{below}.user.linux", "cannot be set for a windows pod"))
        elif user is not None:
            faults += unix_id(f"{below}.user.linux.uid", user.uid)
            faults += unix_id(f"{below}.user.linux.gid", user.gid)
            for at, group in enumerate(user.supplementalGroups):
                faults += unix_id(f"{below}.user.linux.supplementalGroups[{at}]", group)
        if status.allocatedResourcesStatus and containers is None:
            why = "must not be specified in container status"
            faults.append(forbidden(f"{below}.allocatedResourcesStatus", why))
        elif status.allocatedResourcesStatus and containers is not None:
            container = next((c for c in containers if c.name == status.name), None)
            faults += _check_allocated(status.allocatedResourcesStatus, f"{below}.allocatedResourcesStatus", container)
        faults += _check_image_volumes(status, f"{below}.volumeMounts")
    return faults


def _check_amounts(status: PodStatus | ContainerStatus, path: str) -> list[FieldError]:
    """The amounts of a status are ones: a client that meets another gives up on the whole list."""
    named = [("allocatedResources", status.allocatedResources)]
    if status.resources is not None:
        named += [("resources.limits", status.resources.limits), ("resources.requests", status.resources.requests)]
    return [
        fault
        for name, amounts in named
        for resource, value in amounts.items()
        for fault in amount(f"{path}.{name}[{resource}]", value)
    ]


def _check_allocated(resources: list[ResourceStatus], path: str, container: Container | None) -> list[FieldError]:
    faults: list[FieldError] = []
    for index, resource in enumerate(resources):
        below = f"{path}[{index}]"
        if container is not None and resource.name not in _asked_for(container):
            if resource.name.startswith(_CLAIM):
                why = (
                    "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or "
                    "'claim:<claimName>' if request is empty"
                )
            else:
                why = "must match one of the container's resource requests"
            faults.append(invalid(f"{below}.name", resource.name, why))
        seen: set[str] = set()
        for at, health in enumerate(resource.resources):
            faults += _check_health(health, f"{below}.resources[{at}]")
            if health.resourceID in seen:
                faults.append(duplicate(f"{below}.resources[{at}].resourceID", health.resourceID))
            seen.add(health.resourceID)
    return faults


def _asked_for(container: Container) -> set[str]:
    """The container's resources and claims as a status names them."""
    if container.resources is None:
        return set()
    claims = container.resources.claims
    named = (f"{_CLAIM}{claim.name}/{claim.request}" if claim.request else _CLAIM + claim.name for claim in claims)
    return {*container.resources.requests, *named}


def _check_health(health: ResourceHealth, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if health.health not in _HEALTHS:
        faults.append(not_supported(f"{path}.health", health.health, list(_HEALTHS)))
    if len(health.message.encode()) > _MAX_HEALTH_MESSAGE:
        faults.append(too_long(f"{path}.message", _MAX_HEALTH_MESSAGE))
    return faults


def _check_image_volumes(status: ContainerStatus, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    for index, mount in enumerate(status.volumeMounts):
        image = mount.volumeStatus.image if mount.volumeStatus is not None else None
        if image is None:
            continue
        below = f"{path}[{index}].volumeStatus.image.imageRef"
        if not image.imageRef:
            faults.append(required(below, "imageRef must not be empty"))
        elif len(image.imageRef) > _MAX_IMAGE_REF:
            faults.append(too_long(below, _MAX_IMAGE_REF))
    return faults
