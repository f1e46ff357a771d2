"""The EndpointSlice controller's decisions, without I/O: which addresses a service has, and how slices are to change.

Follows Kubernetes' endpointslice reconciler: pods are grouped by the port numbers the service resolves to on them;
slices hold up to 100 endpoints; existing slices are changed as little as possible, so that a pod's readiness moves one
small object. Names of new slices follow from service, ports and position, so a stale cache creates none twice.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from barque.api import podstatus
from barque.api.types.core_v1 import ObjectReference, Service, ServicePort
from barque.api.types.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.views import PodView
from barque.master.controllers.owners import controller_reference
from barque.master.controllers.shared import SERVICE_NAME_LABEL

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS_LABEL = "service.kubernetes.io/headless"
# Kubernetes' default; small enough that one change stays one small write.
SLICE_SIZE = 100
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class SlicePlan(NamedTuple):
    create: list[EndpointSlice]
    update: list[EndpointSlice]
    delete: list[EndpointSlice]


class _Group(NamedTuple):
    ports: list[EndpointPort]
    endpoints: dict[str, Endpoint]


def plan_slices(
    service: Service, pods: Iterable[PodView], existing: Sequence[EndpointSlice], is_taken: Callable[[str], bool]
) -> SlicePlan:
    """How the service's slices must change. `existing` are this controller's; `is_taken(name)` tells of any slice."""
    plan = SlicePlan([], [], [])
    groups = _group(service, pods)
    by_ports: dict[bytes, list[EndpointSlice]] = {}
    for held in existing:
        if not held.metadata.deletionTimestamp:
            by_ports.setdefault(_ports_key(held.ports), []).append(held)
    namer = _Namer(service, is_taken)
    for key, group in groups.items():
        _plan_group(plan, service, group, by_ports.pop(key, []), namer)
    spare = [s for slices in by_ports.values() for s in slices]
    if not groups:
        _keep_empty_slice(plan, service, spare, namer)
    plan.delete.extend(spare)
    return plan


def has_endpoints(service: Service) -> bool:
    """Whether this controller makes the service's slices."""
    return bool(service.spec.selector) and service.spec.type != "ExternalName"


def _group(service: Service, pods: Iterable[PodView]) -> dict[bytes, _Group]:
    groups: dict[bytes, _Group] = {}
    for pod in pods:
        if podstatus.is_terminal(pod) or not pod.status.podIP:
            continue
        ports = _resolve_ports(service, pod)
        group = groups.setdefault(_ports_key(ports), _Group(ports, {}))
        group.endpoints[pod.metadata.uid] = _endpoint(service, pod)
    return groups


def _resolve_ports(service: Service, pod: PodView) -> list[EndpointPort]:
    found = []
    for port in service.spec.ports:
        number = _target_port(port, pod)
        if number is not None:
            found.append(
                EndpointPort(name=port.name, port=number, protocol=port.protocol or "TCP", appProtocol=port.appProtocol)
            )
    return found


def _target_port(port: ServicePort, pod: PodView) -> int | None:
    """The number of the pod's port that the service port leads to; None where the pod has no port of that name."""
    target = port.targetPort
    if isinstance(target, int) and target > 0:
        return target
    if not target:
        return port.port
    for container in pod.spec.containers:
        for offered in container.ports:
            if offered.name == target and (offered.protocol or "TCP") == (port.protocol or "TCP"):
                return offered.containerPort
    return None


def _endpoint(service: Service, pod: PodView) -> Endpoint:
    serving = podstatus.is_ready(pod)
    terminating = bool(pod.metadata.deletionTimestamp)
    is_named = bool(pod.spec.hostname) and pod.spec.subdomain == service.metadata.name
    return Endpoint(
        addresses=[pod.status.podIP],
        conditions=EndpointConditions(
            ready=bool(service.spec.publishNotReadyAddresses) or (serving and not terminating),
            serving=serving,
            terminating=terminating,
        ),
        hostname=pod.spec.hostname if is_named else "",
        nodeName=pod.spec.nodeName,
        targetRef=ObjectReference(
            kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid
        ),
    )


def _plan_group(
    plan: SlicePlan, service: Service, group: _Group, slices: Sequence[EndpointSlice], namer: _Namer
) -> None:
    """Fit the group's endpoints into its slices: those in place stay, new ones fill gaps, the rest gets new slices."""
    missing = dict(group.endpoints)
    kept: list[tuple[EndpointSlice, list[Endpoint]]] = []
    for held in sorted(slices, key=lambda s: s.metadata.name):
        present = []
        for endpoint in held.endpoints:
            wished = missing.pop(endpoint.targetRef.uid if endpoint.targetRef else "", None)
            if wished is not None:
                present.append(wished)
        kept.append((held, present))
    new = list(missing.values())
    # Slices that change anyway take new endpoints first; of these the fullest, to end with few slices.
    for held, present in sorted(kept, key=lambda k: (k[1] == k[0].endpoints, -len(k[1]))):
        room = SLICE_SIZE - len(present)
        present.extend(new[:room])
        new = new[room:]
        _plan_slice(plan, service, held, present)
    for start in range(0, len(new), SLICE_SIZE):
        plan.create.append(_new_slice(service, group.ports, new[start : start + SLICE_SIZE], namer))


def _plan_slice(plan: SlicePlan, service: Service, held: EndpointSlice, endpoints: list[Endpoint]) -> None:
    if not endpoints:
        plan.delete.append(held)
        return
    labels = _labels(service)
    if held.endpoints != endpoints or held.metadata.labels != labels:
        changed = copy.deepcopy(held)
        changed.endpoints = endpoints
        changed.metadata.labels = labels
        plan.update.append(changed)


def _keep_empty_slice(plan: SlicePlan, service: Service, spare: list[EndpointSlice], namer: _Namer) -> None:
    """A service without endpoints keeps one empty slice, so that readers see it is known to have none."""
    empty = next((s for s in spare if not s.ports), None)
    if empty is None:
        plan.create.append(_new_slice(service, [], [], namer))
        return
    spare.remove(empty)
    if empty.endpoints or empty.metadata.labels != _labels(service):
        changed = copy.deepcopy(empty)
        changed.endpoints = []
        changed.metadata.labels = _labels(service)
        plan.update.append(changed)


def _new_slice(service: Service, ports: list[EndpointPort], endpoints: list[Endpoint], namer: _Namer) -> EndpointSlice:
    return EndpointSlice(
        metadata=ObjectMeta(
            name=namer.next(_ports_key(ports)),
            generateName=f"{service.metadata.name}-",
            namespace=service.metadata.namespace,
            labels=_labels(service),
            ownerReferences=[controller_reference(service)],
        ),
        addressType="IPv4",
        endpoints=endpoints,
        ports=ports,
    )


def _labels(service: Service) -> dict[str, str]:
    labels = {k: v for k, v in service.metadata.labels.items() if k != HEADLESS_LABEL}
    labels[SERVICE_NAME_LABEL] = service.metadata.name
    labels[MANAGED_BY_LABEL] = MANAGER
    if service.spec.clusterIP == "None":
        labels[HEADLESS_LABEL] = ""
    return labels


def _ports_key(ports: Sequence[EndpointPort]) -> bytes:
    rows = [[p.name or "", p.protocol or "TCP", p.port, p.appProtocol or ""] for p in ports]
    return msgspec.json.encode(sorted(rows, key=repr))


class _Namer:
    """Names for new slices: the same inputs give the same names."""

    def __init__(self, service: Service, is_taken: Callable[[str], bool]) -> None:
        self._service = service
        self._is_taken = is_taken
        self._given: set[str] = set()

    def next(self, ports_key: bytes) -> str:
        position = 0
        while True:
            seed = f"{self._service.metadata.uid} {position} ".encode() + ports_key
            number = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big")
            suffix = "".join(_ALPHABET[number // len(_ALPHABET) ** i % len(_ALPHABET)] for i in range(5))
            name = f"{self._service.metadata.name}-{suffix}"
            if name not in self._given and not self._is_taken(name):
                self._given.add(name)
                return name
            position += 1
