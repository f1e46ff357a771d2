"""Validation of Service and EndpointSlice."""

from __future__ import annotations

from barque.api import addresses, names
from barque.api.errors import FieldError, duplicate, forbidden, invalid, required
from barque.api.types.core_v1 import Service, ServicePort, ServiceSpec
from barque.api.types.discovery_v1 import EndpointSlice
from barque.api.validation.checks import immutable, one_of, port_number, port_or_name, spelt, unique
from barque.api.validation.metadata import check_labels

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MAX_ENDPOINTS = 1000
_MAX_ADDRESSES = 100


def check_service(service: Service) -> list[FieldError]:
    spec = service.spec
    headless = spec.clusterIP == "None"
    faults = [
        *one_of("spec.type", spec.type, _TYPES),
        *one_of("spec.sessionAffinity", spec.sessionAffinity, ("ClientIP", "None")),
        *check_labels(spec.selector, "spec.selector"),
        *_check_cluster_ip(spec),
    ]
    if not spec.ports and not headless and spec.type != "ExternalName":
        faults.append(required("spec.ports"))
    for index, port in enumerate(spec.ports):
        faults += _check_service_port(port, f"spec.ports[{index}]", spec, headless)
    at = [f"spec.ports[{index}]" for index in range(len(spec.ports))]
    faults += unique(zip((f"{path}.name" for path in at), (port.name for port in spec.ports), strict=True))
    faults += _duplicates(at, [(port.protocol, port.port) for port in spec.ports])
    node_ports: list[tuple[str, int | None] | None] = [
        (port.protocol, port.nodePort) if port.nodePort else None for port in spec.ports
    ]
    return [*faults, *_duplicates([f"{path}.nodePort" for path in at], node_ports)]


def check_service_update(new: Service, old: Service) -> list[FieldError]:
    if not old.spec.clusterIP or "ExternalName" in (new.spec.type, old.spec.type):
        return []
    return immutable("spec.clusterIP", new.spec.clusterIP, old.spec.clusterIP)


def check_endpoint_slice(endpoint_slice: EndpointSlice) -> list[FieldError]:
    faults = one_of("addressType", endpoint_slice.addressType, ("FQDN", "IPv4", "IPv6"))
    if endpoint_slice.addressType in ("FQDN", "IPv6"):
        faults.append(forbidden("addressType", "barque supports only IPv4 here yet"))
    if len(endpoint_slice.endpoints) > _MAX_ENDPOINTS:
        faults.append(_too_many("endpoints", len(endpoint_slice.endpoints), _MAX_ENDPOINTS))
    for index, endpoint in enumerate(endpoint_slice.endpoints):
        path = f"endpoints[{index}].addresses"
        if not endpoint.addresses:
            faults.append(required(path, "must contain at least 1 address"))
        if len(endpoint.addresses) > _MAX_ADDRESSES:
            faults.append(_too_many(path, len(endpoint.addresses), _MAX_ADDRESSES))
        for at, address in enumerate(endpoint.addresses):
            if endpoint_slice.addressType == "IPv4" and not addresses.is_ipv4(address):
                faults.append(invalid(f"{path}[{at}]", address, "must be a valid IPv4 address"))
        if endpoint.nodeName:
            faults += spelt(f"endpoints[{index}].nodeName", endpoint.nodeName, names.dns1123_subdomain)
    for index, port in enumerate(endpoint_slice.ports):
        faults += one_of(f"ports[{index}].protocol", port.protocol, _PROTOCOLS)
        if port.name:
            faults += spelt(f"ports[{index}].name", port.name, names.dns1123_label)
        if port.port is not None:
            faults += port_number(f"ports[{index}].port", port.port)
    return [*faults, *unique((f"ports[{i}].name", port.name) for i, port in enumerate(endpoint_slice.ports))]


def check_endpoint_slice_update(new: EndpointSlice, old: EndpointSlice) -> list[FieldError]:
    return immutable("addressType", new.addressType, old.addressType)


def _check_cluster_ip(spec: ServiceSpec) -> list[FieldError]:
    faults = []
    address = spec.clusterIP
    if address == "None" and spec.type in ("NodePort", "LoadBalancer"):
        faults.append(invalid("spec.clusterIP", address, f"may not be set to 'None' for {spec.type} services"))
    elif address not in ("", "None") and not addresses.is_ipv4(address):
        faults.append(invalid("spec.clusterIP", address, "must be empty, 'None', or a valid IPv4 address"))
    if spec.clusterIPs and spec.clusterIPs[0] != address:
        faults.append(invalid("spec.clusterIPs", spec.clusterIPs, "first value must match `clusterIP`"))
    if len(spec.clusterIPs) > 1:
        faults.append(
            invalid("spec.clusterIPs", spec.clusterIPs, "may hold one address, since the cluster has IPv4 only")
        )
    return faults


def _check_service_port(port: ServicePort, path: str, spec: ServiceSpec, headless: bool) -> list[FieldError]:
    faults = [*port_number(f"{path}.port", port.port), *one_of(f"{path}.protocol", port.protocol, _PROTOCOLS)]
    if port.name:
        faults += spelt(f"{path}.name", port.name, names.dns1123_label)
    elif len(spec.ports) > 1:
        faults.append(required(f"{path}.name"))
    if port.targetPort is not None:
        faults += port_or_name(f"{path}.targetPort", port.targetPort)
        if headless and isinstance(port.targetPort, int) and port.targetPort != port.port:
            faults.append(
                invalid(
                    f"{path}.targetPort", port.targetPort, "must be equal to the value of 'port' when clusterIP = None"
                )
            )
    if port.nodePort and spec.type == "ClusterIP":
        faults.append(forbidden(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'"))
    elif port.nodePort:
        faults += port_number(f"{path}.nodePort", port.nodePort)
    return faults


def _duplicates(paths: list[str], identities: list[tuple[str, int | None] | None]) -> list[FieldError]:
    faults, seen = [], set()
    for path, identity in zip(paths, identities, strict=True):
        if identity is not None and identity in seen:
            faults.append(duplicate(path, f"{identity[1]}/{identity[0]}"))
        seen.add(identity)
    return faults


def _too_many(path: str, count: int, most: int) -> FieldError:
    return FieldError(path, "FieldValueTooMany", f"Too many: {count}: must have at most {most} items")
