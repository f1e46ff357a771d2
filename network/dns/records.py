"""`Records`: what the zone is made from, and the generations that tell whether answers made from it are current. Pure.

In: every change of a Service or an EndpointSlice, as informers tell them. Out: lookups by name and by address. The
objects are held by reference, those of the informers; addresses are indexed for headless services alone, for only their
endpoints have names.

A *scope* is a part of the zone that changes as one: a service ("default/web"), a namespace's existence ("default/"), or
all reverse names (`REVERSE`). Its generation is never used twice, so an answer is current exactly as long as the
generations of the scopes it was made from are what they were. A scope without a generation holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from barque.api.types.core_v1 import Service
from barque.api.types.discovery_v1 import Endpoint, EndpointSlice

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
HEADLESS = "None"
REVERSE = "reverse"
IP_ADDRESS_TYPES = ("IPv4", "IPv6")

# Namespace and name of a service.
Key = tuple[str, str]


class HeadlessPort(NamedTuple):
    """A port of an endpoint, by the name that the service gives it; "" where it has none."""

    name: str
    protocol: str
    number: int


class HeadlessEndpoint(NamedTuple):
    """A ready endpoint of a headless service. `hostname` is its own, or else made from its address."""

    hostname: str
    address: str
    ports: tuple[HeadlessPort, ...]


class Records:
    """The Services and EndpointSlices that names are made from."""

    def __init__(self) -> None:
        self._services: dict[Key, Service] = {}
        self._slices: dict[Key, tuple[EndpointSlice, ...]] = {}
        # How many services each namespace has.
        self._namespaces: dict[str, int] = {}
        self._by_cluster_ip: dict[str, Key] = {}
        # By address: the headless services whose slices name it, each with the number of slices.
        self._by_endpoint: dict[str, dict[Key, int]] = {}
        self._generations: dict[str, int] = {}
        self._last = 0

    @property
    def changes(self) -> int:
        """How many there have been."""
        return self._last

    def generation(self, scope: str) -> int:
        """0 for a scope that holds nothing."""
        return self._generations.get(scope, 0)

    def has_namespace(self, name: str) -> bool:
        """Whether the namespace has a service."""
        return name in self._namespaces

    def service(self, namespace: str, name: str) -> Service | None:
        return self._services.get((namespace, name))

    def endpoints(self, namespace: str, name: str) -> Iterator[HeadlessEndpoint]:
        """The ready endpoints of a headless service, each address once per slice that has it."""
        service = self._services.get((namespace, name))
        if service is None or not is_headless(service):
            return
        for held in self._slices.get((namespace, name), ()):
            ports = tuple(
                HeadlessPort((port.name or "").lower(), (port.protocol or "TCP").lower(), port.port or 0)
                for port in held.ports
            )
            for endpoint in held.endpoints:
                if _is_ready(endpoint, service):
                    for address in endpoint.addresses[:1]:
                        yield HeadlessEndpoint(_hostname(endpoint, address), address, ports)

    def endpoint_count(self, namespace: str, name: str) -> int:
        """How many endpoints the service's slices have, ready or not."""
        return sum(len(held.endpoints) for held in self._slices.get((namespace, name), ()))

    def service_at(self, cluster_ip: str) -> Key | None:
        """The service of a cluster IP."""
        return self._by_cluster_ip.get(cluster_ip)

    def headless_at(self, address: str) -> list[Key]:
        """The headless services that may have an endpoint of this address."""
        return sorted(self._by_endpoint.get(address, ()))

    def handle_service(self, old: Service | None, new: Service | None) -> None:
        """An informer's handler."""
        if old is not None:
            self._forget_service(old)
        if new is not None:
            self._learn_service(new)

    def handle_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        """An informer's handler."""
        if old is not None and (key := _service_of(old)) is not None:
            self._index(key, old, -1)
            left = tuple(s for s in self._slices.get(key, ()) if s.metadata.name != old.metadata.name)
            if left:
                self._slices[key] = left
            else:
                self._slices.pop(key, None)
            self._changed(key)
        if new is not None and new.addressType in IP_ADDRESS_TYPES and (key := _service_of(new)) is not None:
            self._slices[key] = (*self._slices.get(key, ()), new)
            self._index(key, new, 1)
            self._changed(key)

    def _learn_service(self, service: Service) -> None:
        namespace, name = key = (service.metadata.namespace, service.metadata.name)
        self._services[key] = service
        count = self._namespaces[namespace] = self._namespaces.get(namespace, 0) + 1
        if count == 1:
            self._bump(namespace_scope(namespace))
        for address in cluster_ips(service):
            self._by_cluster_ip[address] = key
        for held in self._slices.get(key, ()):
            self._index(key, held, 1)
        self._bump(service_scope(namespace, name))
        self._bump(REVERSE)

    def _forget_service(self, service: Service) -> None:
        namespace, name = key = (service.metadata.namespace, service.metadata.name)
        for held in self._slices.get(key, ()):
            self._index(key, held, -1)
        for address in cluster_ips(service):
            if self._by_cluster_ip.get(address) == key:
                del self._by_cluster_ip[address]
        self._services.pop(key, None)
        self._namespaces[namespace] -= 1
        if not self._namespaces[namespace]:
            del self._namespaces[namespace]
            self._generations.pop(namespace_scope(namespace), None)
        self._generations.pop(service_scope(namespace, name), None)
        self._bump(REVERSE)

    def _index(self, key: Key, held: EndpointSlice, step: int) -> None:
        """Count the addresses of a headless service's slice in (1) or out (-1)."""
        service = self._services.get(key)
        if service is None or not is_headless(service):
            return
        for endpoint in held.endpoints:
            for address in endpoint.addresses[:1]:
                owners = self._by_endpoint.setdefault(address, {})
                owners[key] = owners.get(key, 0) + step
                if owners[key] <= 0:
                    del owners[key]
                if not owners:
                    del self._by_endpoint[address]

    def _changed(self, key: Key) -> None:
        service = self._services.get(key)
        if service is not None and is_headless(service):
            self._bump(service_scope(*key))
            self._bump(REVERSE)

    def _bump(self, scope: str) -> None:
        self._last += 1
        self._generations[scope] = self._last


def service_scope(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"


def namespace_scope(namespace: str) -> str:
    return f"{namespace}/"


def is_headless(service: Service) -> bool:
    return service.spec.clusterIP == HEADLESS and service.spec.type != "ExternalName"


def cluster_ips(service: Service) -> list[str]:
    """The service's addresses; none for one that is headless, external, or waits for an address."""
    if service.spec.type == "ExternalName":
        return []
    every = service.spec.clusterIPs or [service.spec.clusterIP]
    return [address for address in every if address and address != HEADLESS]


def _service_of(held: EndpointSlice) -> Key | None:
    name = held.metadata.labels.get(SERVICE_NAME_LABEL, "")
    return (held.metadata.namespace, name) if name else None


def _is_ready(endpoint: Endpoint, service: Service) -> bool:
    """Unknown readiness counts as ready, as the API has it."""
    ready = endpoint.conditions.ready if endpoint.conditions else None
    return ready is not False or bool(service.spec.publishNotReadyAddresses)


def _hostname(endpoint: Endpoint, address: str) -> str:
    return endpoint.hostname or address.replace(".", "-").replace(":", "-")
