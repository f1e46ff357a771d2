"""The services that every cluster has: `kubernetes` and `barque`, which lead to the masters, and `kube-dns`.

In: where the masters answer (`Doors`), informers of Services, Endpoints and EndpointSlices. Out: these Services, made
again when they are lost, and for the first two their Endpoints and one EndpointSlice each, which follow the masters'
addresses. `kube-dns` has no endpoints: each worker's own resolver answers at its address, and a label keeps the
service proxy away from it. Follows Kubernetes' kubernetes-service controller.
"""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from barque.api.addresses import cluster_dns, is_ipv4
from barque.api.types import core_v1, discovery_v1
from barque.api.types.core_v1 import EndpointAddress, Endpoints, EndpointSubset, Service, ServicePort, ServiceSpec
from barque.api.types.discovery_v1 import Endpoint, EndpointConditions, EndpointSlice
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.master.controllers.endpointslicemirroring import SKIP_LABEL
from barque.master.controllers.owners import key_of, split_key
from barque.master.controllers.shared import SERVICE_NAME_LABEL

KUBERNETES = "default/kubernetes"
BARQUE = "default/barque"
CLUSTER_DNS = "kube-system/kube-dns"
# Whoever proxies this service, it is not the workers' service proxy (`network/proxy/state.py`).
OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
DNS_PROXY = "barque-dns"
_CLUSTER_DOMAIN = "cluster.local"
# How often the masters' addresses are looked at: nothing tells of their changes.
_LOOK_S = 5.0


class Doors(NamedTuple):
    """Where the masters answer: their addresses, now, and the ports, which are the same on all of them."""

    addresses: Callable[[], Sequence[str]]
    https_port: Callable[[], int]
    grpc_port: int
    service_network: ipaddress.IPv4Network


def certificate_names(service_network: ipaddress.IPv4Network) -> list[str]:
    """Under which names and address pods meet the masters, besides the masters' own: what their certificates say."""
    names = []
    for key in (KUBERNETES, BARQUE):
        namespace, name = split_key(key)
        within = f"{name}.{namespace}"
        names += [name, within, f"{within}.svc", f"{within}.svc.{_CLUSTER_DOMAIN}"]
    return [*names, str(service_network[1])]


class KubernetesServiceController:
    """Reconciles the three Services by their key."""

    name = "kubernetesservice"

    def __init__(self, client: Client, informers: Informers, clock: Clock, doors: Doors) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._doors = doors
        self._services = informers.of(Service)
        self._endpoints = informers.of(Endpoints)
        self._slices = informers.of(EndpointSlice)
        for informer in (self._services, self._endpoints, self._slices):
            informer.add_handler(self._handle)
        for key in (KUBERNETES, BARQUE, CLUSTER_DNS):
            self.queue.add(key)

    def _handle(self, old: Any, new: Any) -> None:
        key = key_of(new or old)
        if key in (KUBERNETES, BARQUE, CLUSTER_DNS):
            self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        service = wanted_service(key, self._doors)
        held = self._services.get(name, namespace)
        if held is None:
            await self._client.create(service)
        elif (mended := mended_service(held, service)) is not None:
            await self._client.update(mended)
        if key == CLUSTER_DNS:
            return None
        for wanted, known in (
            (wanted_endpoints(service, self._doors.addresses()), self._endpoints.get(name, namespace)),
            (wanted_slice(service, self._doors.addresses()), self._slices.get(name, namespace)),
        ):
            await self._ensure(wanted, known)
        return _LOOK_S

    async def _ensure(self, wanted: Any, held: Any) -> None:
        if held is None:
            await self._client.create(wanted)
            return
        mended = copy.copy(held)
        mended.metadata = copy.copy(held.metadata)
        mended.metadata.labels = {**held.metadata.labels, **wanted.metadata.labels}
        for field in ("subsets", "endpoints", "ports"):
            if hasattr(wanted, field):
                setattr(mended, field, getattr(wanted, field))
        if mended != held:
            await self._client.update(mended)


def wanted_service(key: str, doors: Doors) -> Service:
    """One of the three Services as it is made."""
    namespace, name = split_key(key)
    service = Service(
        metadata=ObjectMeta(name=name, namespace=namespace, labels={"component": "apiserver", "provider": name}),
        spec=ServiceSpec(type="ClusterIP", sessionAffinity="None"),
    )
    if key == KUBERNETES:
        service.spec.clusterIP = str(doors.service_network[1])
        service.spec.ports = [ServicePort(name="https", port=443, protocol="TCP", targetPort=doors.https_port())]
    elif key == BARQUE:
        service.spec.ports = [ServicePort(name="grpc", port=7443, protocol="TCP", targetPort=doors.grpc_port)]
    else:
        service.metadata.labels = {
            "k8s-app": "kube-dns",
            "kubernetes.io/cluster-service": "true",
            "kubernetes.io/name": "CoreDNS",
            OTHER_PROXY_LABEL: DNS_PROXY,
        }
        service.spec.clusterIP = cluster_dns(str(doors.service_network))
        service.spec.ports = [
            ServicePort(name="dns", port=53, protocol="UDP", targetPort=53),
            ServicePort(name="dns-tcp", port=53, protocol="TCP", targetPort=53),
        ]
    return service


def mended_service(held: Service, wanted: Service) -> Service | None:
    """`held` with what makes it lead where it must; None where it does. Anything else on it is its users'."""
    mended = copy.copy(held)
    mended.metadata, mended.spec = copy.copy(held.metadata), copy.copy(held.spec)
    mended.metadata.labels = {**held.metadata.labels, **wanted.metadata.labels}
    mended.spec.selector = {}
    if [_port(p) for p in held.spec.ports] != [_port(p) for p in wanted.spec.ports]:
        mended.spec.ports = wanted.spec.ports
    return None if mended == held else mended


def _port(port: ServicePort) -> tuple[object, ...]:
    return (port.name, port.port, port.protocol, port.targetPort)


def wanted_endpoints(service: Service, masters: Sequence[str]) -> Endpoints:
    """The Endpoints of a service that leads to the masters; they are not mirrored, as their slice is kept beside."""
    (port,) = service.spec.ports
    listed = [EndpointAddress(ip=address) for address in _reachable(masters)]
    subset = EndpointSubset(
        addresses=listed,
        ports=[core_v1.EndpointPort(name=port.name, port=_number(port), protocol="TCP")],
    )
    return Endpoints(metadata=_meta(service, {SKIP_LABEL: "true"}), subsets=[subset] if listed else [])


def wanted_slice(service: Service, masters: Sequence[str]) -> EndpointSlice:
    """The one EndpointSlice of a service that leads to the masters, by the service's own name."""
    (port,) = service.spec.ports
    return EndpointSlice(
        metadata=_meta(service, {SERVICE_NAME_LABEL: service.metadata.name}),
        addressType="IPv4",
        endpoints=[
            Endpoint(addresses=[address], conditions=EndpointConditions(ready=True)) for address in _reachable(masters)
        ],
        ports=[discovery_v1.EndpointPort(name=port.name, port=_number(port), protocol="TCP")],
    )


def _meta(service: Service, labels: dict[str, str]) -> ObjectMeta:
    return ObjectMeta(name=service.metadata.name, namespace=service.metadata.namespace, labels=labels)


def _number(port: ServicePort) -> int:
    assert isinstance(port.targetPort, int)
    return port.targetPort


def _reachable(masters: Sequence[str]) -> list[str]:
    """Addresses alone, no names; without loopback, which would be each pod's own."""
    found = {ipaddress.IPv4Address(address) for address in masters if is_ipv4(address)}
    return [str(address) for address in sorted(found) if not address.is_loopback]
