"""Rows of Service and EndpointSlice."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.columns.words import NONE, first_few, labels
from barque.api.types.core_v1 import Service, ServicePort
from barque.api.types.discovery_v1 import EndpointSlice


def service_cells(service: Service, now: datetime.datetime) -> list[str]:
    return [
        service.metadata.name,
        service.spec.type,
        service.spec.clusterIP or NONE,
        _external(service),
        ",".join(map(_port, service.spec.ports)) or NONE,
        age(service.metadata.creationTimestamp, now),
        labels(service.spec.selector),
    ]


def endpoint_slice_cells(endpoint_slice: EndpointSlice, now: datetime.datetime) -> list[str]:
    return [
        endpoint_slice.metadata.name,
        endpoint_slice.addressType,
        first_few(["*" if port.port is None else str(port.port) for port in endpoint_slice.ports]),
        first_few([address for endpoint in endpoint_slice.endpoints for address in endpoint.addresses]),
        age(endpoint_slice.metadata.creationTimestamp, now),
    ]


def _external(service: Service) -> str:
    if service.spec.type != "LoadBalancer":
        return NONE
    balancer = service.status.loadBalancer
    given = [ingress.ip or ingress.hostname for ingress in (balancer.ingress if balancer is not None else [])]
    return ",".join(filter(None, given)) or "<pending>"


def _port(port: ServicePort) -> str:
    node_port = f":{port.nodePort}" if port.nodePort else ""
    return f"{port.port}{node_port}/{port.protocol}"
