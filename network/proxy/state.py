"""Services and EndpointSlices as what the proxy needs to know. Pure.

In: a Service and its slices. Out: one `ServicePort` per port that has a cluster IP, with the endpoints that traffic may
go to: the ready ones, or, where there are none, those that end but still serve (KEP-1669).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from barque.api.addresses import is_ipv4
from barque.api.types.core_v1 import Service
from barque.api.types.core_v1 import ServicePort as ApiServicePort
from barque.api.types.discovery_v1 import Endpoint, EndpointSlice

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
# A service so labelled is another proxy's business.
OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
PROTOCOLS = {"TCP": "tcp", "UDP": "udp"}


class Backend(NamedTuple):
    """Where a connection is sent; orders by address."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


class ServicePort(NamedTuple):
    """One port of a service. `name` is `namespace/service:port`; `node_port` is 0 where there is none."""

    name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int
    backends: tuple[Backend, ...]


def service_key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"


def slice_keys(endpoints: EndpointSlice) -> list[str]:
    """The key of the service a slice belongs to, if any; also the informer's index function."""
    name = endpoints.metadata.labels.get(SERVICE_NAME_LABEL, "")
    return [service_key(endpoints.metadata.namespace, name)] if name else []


def service_ports(service: Service | None, slices: Iterable[EndpointSlice]) -> tuple[ServicePort, ...]:
    """What the proxy serves for a service; nothing where it is gone, headless, external or not IPv4."""
    if service is None or not _is_proxied(service):
        return ()
    known = list(slices)
    name = service_key(service.metadata.namespace, service.metadata.name)
    ports = []
    for port in service.spec.ports:
        protocol = PROTOCOLS.get(port.protocol or "TCP")
        if protocol is None:
            continue
        full_name = f"{name}:{port.name}" if port.name else name
        backends = _backends(port, known)
        ports.append(ServicePort(full_name, protocol, service.spec.clusterIP, port.port, port.nodePort or 0, backends))
    return tuple(ports)


def _is_proxied(service: Service) -> bool:
    if service.spec.type == "ExternalName" or OTHER_PROXY_LABEL in service.metadata.labels:
        return False
    return is_ipv4(service.spec.clusterIP)


def _backends(port: ApiServicePort, slices: Iterable[EndpointSlice]) -> tuple[Backend, ...]:
    ready: set[Backend] = set()
    ending: set[Backend] = set()
    for endpoints in slices:
        if endpoints.addressType not in ("", "IPv4"):
            continue
        number = next(
            (
                p.port
                for p in endpoints.ports
                if (p.name or "") == port.name and (p.protocol or "TCP") == (port.protocol or "TCP")
            ),
            None,
        )
        if number is None:
            continue
        for endpoint in endpoints.endpoints:
            if not endpoint.addresses or not is_ipv4(endpoint.addresses[0]):
                continue
            backend = Backend(endpoint.addresses[0], number)
            if _is_ready(endpoint):
                ready.add(backend)
            elif _is_ending_but_serving(endpoint):
                ending.add(backend)
    return tuple(sorted(ready or ending))


def _is_ready(endpoint: Endpoint) -> bool:
    """Unknown readiness counts as ready, as the API says."""
    return endpoint.conditions is None or endpoint.conditions.ready in (None, True)


def _is_ending_but_serving(endpoint: Endpoint) -> bool:
    conditions = endpoint.conditions
    return conditions is not None and conditions.terminating is True and conditions.serving is True
