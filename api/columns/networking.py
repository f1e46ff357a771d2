"""Tables of Service, Endpoints and EndpointSlice."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.columns.table import AGE, NAME, Cell, Table, column, wide
from barque.api.columns.words import NONE, UNKNOWN, first_few, labels
from barque.api.types.core_v1 import Endpoints, Service, ServicePort
from barque.api.types.discovery_v1 import EndpointPort, EndpointSlice


def _service(service: Service, now: datetime.datetime) -> list[Cell]:
    return [
        service.metadata.name,
        service.spec.type,
        service.spec.clusterIP or NONE,
        _external(service),
        ",".join(map(_port, service.spec.ports)) or NONE,
        age(service.metadata.creationTimestamp, now),
        labels(service.spec.selector),
    ]


def _endpoints(endpoints: Endpoints, now: datetime.datetime) -> list[Cell]:
    listed = []
    for subset in endpoints.subsets:
        ips = [address.ip for address in subset.addresses]
        listed += [_join(ip, port.port) for port in subset.ports for ip in ips] if subset.ports else ips
    shown = first_few(listed, nothing="") if endpoints.subsets else NONE
    return [endpoints.metadata.name, shown, age(endpoints.metadata.creationTimestamp, now)]


def _endpoint_slice(endpoint_slice: EndpointSlice, now: datetime.datetime) -> list[Cell]:
    return [
        endpoint_slice.metadata.name,
        endpoint_slice.addressType,
        first_few([_endpoint_port(port) for port in endpoint_slice.ports]),
        first_few([address for endpoint in endpoint_slice.endpoints for address in endpoint.addresses]),
        age(endpoint_slice.metadata.creationTimestamp, now),
    ]


def _external(service: Service) -> str:
    spec, balancer = service.spec, service.status.loadBalancer
    if spec.type == "ExternalName":
        return spec.externalName
    if spec.type in ("ClusterIP", "NodePort"):
        return ",".join(spec.externalIPs) or NONE
    if spec.type != "LoadBalancer":
        return UNKNOWN
    given = {ingress.ip or ingress.hostname for ingress in (balancer.ingress if balancer is not None else [])}
    return ",".join([*sorted(given - {""}), *spec.externalIPs]) or "<pending>"


def _port(port: ServicePort) -> str:
    node_port = f":{port.nodePort}" if port.nodePort else ""
    return f"{port.port}{node_port}/{port.protocol}"


def _endpoint_port(port: EndpointPort) -> str:
    if port.port is not None:
        return str(port.port)
    return "*" if port.name is None else port.name


def _join(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


TABLES = {
    "Service": Table(
        (
            NAME,
            column("Type", "Who can reach the service."),
            column("Cluster-IP", "The service's address in the cluster."),
            column("External-IP", "The addresses by which the world reaches the service."),
            column("Port(s)", "The service's ports, each with its port on the nodes and its protocol."),
            AGE,
            wide("Selector", "The labels by which the service finds its pods."),
        ),
        _service,
    ),
    "Endpoints": Table((NAME, column("Endpoints", "The first few addresses with their ports."), AGE), _endpoints),
    "EndpointSlice": Table(
        (
            NAME,
            column("AddressType", "What kind of addresses the slice holds."),
            column("Ports", "The first few ports."),
            column("Endpoints", "The first few addresses."),
            AGE,
        ),
        _endpoint_slice,
    ),
}
