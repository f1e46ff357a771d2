"""The Endpoints controller: the same addresses once more in the one object that older clients read.

In: informers of Services, Pods, Nodes and Endpoints. Out: one Endpoints object of each service with a selector, with up
to 1,000 addresses; beyond that the ready ones are kept first and an annotation says that some are missing. Changes are
gathered a little, since the slices say them first. A service that goes takes its Endpoints along. Follows Kubernetes'
endpoints controller.
"""

from __future__ import annotations

import copy
import ipaddress
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from barque.api.errors import ApiError
from barque.api.types.core_v1 import (
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    ObjectReference,
    Service,
)
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.views import PodView
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.client.recorder import EventRecorder
from barque.master.controllers.owners import key_of, split_key
from barque.master.controllers.service_pods import (
    HEADLESS_LABEL,
    Pace,
    ServicePods,
    has_endpoints,
    is_named,
    target_port,
)

MANAGED_BY_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
# Kubernetes' figure: with more, one object would be rewritten in megabytes.
MAX_ADDRESSES = 1000
# Pods come and go in swarms, and nothing in the cluster waits for this object.
_GATHER_S = 0.1
_REST_PER_POD_S, _LONGEST_REST_S = 0.001, 1.0


class EndpointsController:
    """Reconciles Services, and Endpoints without one, by their key."""

    name = "endpoints"

    def __init__(
        self, client: Client, informers: Informers, pods: ServicePods, recorder: EventRecorder, clock: Clock
    ) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._recorder = recorder
        self._pods = pods
        self._pace = Pace(clock, _REST_PER_POD_S, _LONGEST_REST_S)
        # Services whose end has been seen, and whose Endpoints go with them, whoever wrote those.
        self._ended: set[str] = set()
        self._services = informers.of(Service)
        self._endpoints = informers.of(Endpoints)
        self._services.add_handler(self._handle_service)
        pods.on_change(lambda key: self.queue.add_after(key, _GATHER_S))
        self._endpoints.add_handler(self._handle_endpoints)

    def _handle_service(self, old: Service | None, new: Service | None) -> None:
        service = new or old
        assert service is not None
        if new is None:
            self._ended.add(key_of(service))
        self.queue.add(key_of(service))

    def _handle_endpoints(self, old: Endpoints | None, new: Endpoints | None) -> None:
        held = new or old
        assert held is not None
        self.queue.add(key_of(held))

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        service, held = self._services.get(name, namespace), self._endpoints.get(name, namespace)
        if service is None:
            await self._clean(key, held)
            return None
        self._ended.discard(key)
        if service.metadata.deletionTimestamp or not has_endpoints(service):
            return None
        rest_s = self._pace.left_s(key)
        if rest_s:
            return rest_s
        wanted = plan_endpoints(service, self._pods.of(service), held, self._pods.is_serving)
        if wanted is not None:
            self._pace.note(key, sum(len(s.addresses) + len(s.notReadyAddresses) for s in wanted.subsets))
            await self._write(service, wanted)
        return self._pods.settles_in_s(service)

    async def _clean(self, key: str, held: Endpoints | None) -> None:
        self._pace.forget(key)
        if held is not None and (key in self._ended or held.metadata.labels.get(MANAGED_BY_LABEL) == MANAGER):
            try:
                await self._client.delete(Endpoints, held.metadata.name, held.metadata.namespace, uid=held.metadata.uid)
            except ApiError as error:
                if error.reason != "NotFound":
                    raise
        self._ended.discard(key)

    async def _write(self, service: Service, wanted: Endpoints) -> None:
        creates = not wanted.metadata.resourceVersion
        try:
            await (self._client.create(wanted) if creates else self._client.update(wanted))
        except ApiError as error:
            causes = error.details.causes if error.details is not None else []
            if any(cause.reason == "NamespaceTerminating" for cause in causes):
                return
            if error.reason not in ("Conflict", "AlreadyExists") and error.code < 500:
                key = key_of(service)
                what = f"create endpoint for service {key}" if creates else f"update endpoint {key}"
                reason = "FailedToCreateEndpoint" if creates else "FailedToUpdateEndpoint"
                self._recorder.event(service, "Warning", reason, f"Failed to {what}: {error.message}")
            raise


def plan_endpoints(
    service: Service, pods: Iterable[PodView], held: Endpoints | None, is_serving: Callable[[PodView], bool]
) -> Endpoints | None:
    """The Endpoints as they should be; None where they are so already."""
    subsets = _subsets(service, pods, is_serving)
    is_full = sum(len(s.addresses) + len(s.notReadyAddresses) for s in subsets) > MAX_ADDRESSES
    if is_full:
        subsets = _truncated(subsets)
    meta = service.metadata
    labels = {**meta.labels, MANAGED_BY_LABEL: MANAGER}
    labels.pop(HEADLESS_LABEL, None)
    if service.spec.clusterIP in ("", "None"):
        labels[HEADLESS_LABEL] = ""
    if held is None:
        wanted = Endpoints(metadata=ObjectMeta(name=meta.name, namespace=meta.namespace))
    else:
        wanted = copy.copy(held)
        wanted.metadata = copy.copy(held.metadata)
    annotations = {key: value for key, value in wanted.metadata.annotations.items() if key != OVER_CAPACITY}
    wanted.metadata.annotations = {**annotations, OVER_CAPACITY: "truncated"} if is_full else annotations
    wanted.metadata.labels, wanted.subsets = labels, subsets
    return None if wanted == held else wanted


class _Reach(NamedTuple):
    """Addresses that are reached at the same ports."""

    ports: list[EndpointPort]
    ready: list[EndpointAddress]
    unready: list[EndpointAddress]


def _subsets(service: Service, pods: Iterable[PodView], is_serving: Callable[[PodView], bool]) -> list[EndpointSubset]:
    publishes = bool(service.spec.publishNotReadyAddresses)
    found: dict[tuple[object, ...], _Reach] = {}
    for pod in pods:
        # The one way of an Endpoints object to say that a pod is going is not to name it.
        if pod.metadata.deletionTimestamp and not publishes:
            continue
        ports = _ports(service, pod)
        if not ports and service.spec.ports:
            continue
        key = tuple((p.name, p.port, p.protocol) for p in ports)
        reach = found.setdefault(key, _Reach(ports, [], []))
        is_ready = publishes or is_serving(pod)
        (reach.ready if is_ready else reach.unready).append(_address(service, pod))
    return [
        EndpointSubset(
            addresses=sorted(reach.ready, key=_by_ip),
            notReadyAddresses=sorted(reach.unready, key=_by_ip),
            ports=reach.ports,
        )
        for _, reach in sorted(found.items(), key=lambda item: repr(item[0]))
    ]


def _ports(service: Service, pod: PodView) -> list[EndpointPort]:
    numbered = ((port, target_port(port, pod)) for port in service.spec.ports)
    return [
        EndpointPort(name=port.name, port=number, protocol=port.protocol or "TCP", appProtocol=port.appProtocol)
        for port, number in numbered
        if number is not None
    ]


def _address(service: Service, pod: PodView) -> EndpointAddress:
    meta = pod.metadata
    return EndpointAddress(
        ip=pod.status.podIP,
        hostname=pod.spec.hostname if is_named(service, pod) else "",
        nodeName=pod.spec.nodeName,
        targetRef=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
    )


def _by_ip(address: EndpointAddress) -> tuple[int, str]:
    reference = address.targetRef
    return int(ipaddress.ip_address(address.ip)), reference.uid if reference is not None else ""


def _truncated(subsets: list[EndpointSubset]) -> list[EndpointSubset]:
    """As many addresses as fit: each subset gets its share of the room, the ready ones before the others."""
    ready = sum(len(subset.addresses) for subset in subsets)
    cuts_ready = ready > MAX_ADDRESSES
    room = left = MAX_ADDRESSES if cuts_ready else MAX_ADDRESSES - ready
    total = ready if cuts_ready else sum(len(subset.notReadyAddresses) for subset in subsets)
    kept = []
    for subset in subsets:
        listed = subset.addresses if cuts_ready else subset.notReadyAddresses
        share = listed[: min(left, math.ceil(len(listed) / total * room))]
        left -= len(share)
        if cuts_ready:
            kept.append(EndpointSubset(addresses=share, ports=subset.ports))
        else:
            kept.append(EndpointSubset(addresses=subset.addresses, notReadyAddresses=share, ports=subset.ports))
    return [subset for subset in kept if subset.addresses or subset.notReadyAddresses]
