"""Validation of Endpoints and EndpointSlice."""

from __future__ import annotations

from barque.api import addresses, names
from barque.api.errors import FieldError, duplicate, forbidden, invalid, required
from barque.api.types import core_v1, discovery_v1
from barque.api.validation.checks import immutable, port_number, spelt
from barque.api.validation.choices import choice, ip_address, too_many
from barque.api.validation.metadata import check_labels

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS = 1000
_MAX_ADDRESSES = 100
_MAX_PORTS = 20_000
_MAX_TOPOLOGY = 16
_MAX_HINTS = 8


def check_endpoints(endpoints: core_v1.Endpoints) -> list[FieldError]:
    faults = []
    for index, subset in enumerate(endpoints.subsets):
        path = f"subsets[{index}]"
        if not subset.addresses and not subset.notReadyAddresses:
            faults.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for name, listed in (("addresses", subset.addresses), ("notReadyAddresses", subset.notReadyAddresses)):
            for at, address in enumerate(listed):
                faults += _check_address(address, f"{path}.{name}[{at}]")
        for at, port in enumerate(subset.ports):
            faults += _check_port(port, f"{path}.ports[{at}]", named=len(subset.ports) > 1)
    return faults


def check_endpoint_slice(endpoint_slice: discovery_v1.EndpointSlice) -> list[FieldError]:
    kind, endpoints, ports = endpoint_slice.addressType, endpoint_slice.endpoints, endpoint_slice.ports
    faults = choice("addressType", kind, _ADDRESS_TYPES)
    if kind in ("FQDN", "IPv6"):
        faults.append(forbidden("addressType", "barque supports only IPv4 here yet"))
    faults += too_many("ports", len(ports), _MAX_PORTS)
    seen: set[str] = set()
    for index, port in enumerate(ports[:_MAX_PORTS]):
        faults += _check_slice_port(port, f"ports[{index}]", seen)
    faults += too_many("endpoints", len(endpoints), _MAX_ENDPOINTS)
    for index, endpoint in enumerate(endpoints[:_MAX_ENDPOINTS]):
        faults += _check_endpoint(endpoint, kind, f"endpoints[{index}]")
    return faults


def check_endpoint_slice_update(new: discovery_v1.EndpointSlice, old: discovery_v1.EndpointSlice) -> list[FieldError]:
    return immutable("addressType", new.addressType, old.addressType)


def check_ordinary(path: str, address: str) -> list[FieldError]:
    """An address that traffic may be sent to: neither unspecified, loopback nor link-local."""
    return [invalid(path, address, f"may not be {what}") for what in addresses.special(address)]


def _check_address(address: core_v1.EndpointAddress, path: str) -> list[FieldError]:
    faults = ip_address(f"{path}.ip", address.ip)
    if not faults:
        faults += check_ordinary(f"{path}.ip", address.ip)
    if address.hostname:
        faults += spelt(f"{path}.hostname", address.hostname, names.dns1123_label)
    if address.nodeName:
        faults += spelt(f"{path}.nodeName", address.nodeName, names.dns1123_subdomain)
    return faults


def _check_port(port: core_v1.EndpointPort, path: str, *, named: bool) -> list[FieldError]:
    if port.name:
        faults = spelt(f"{path}.name", port.name, names.dns1123_label)
    else:
        faults = [required(f"{path}.name")] if named else []
    faults += port_number(f"{path}.port", port.port)
    faults += choice(f"{path}.protocol", port.protocol, _PROTOCOLS)
    return [*faults, *_check_app_protocol(port.appProtocol, path)]


def _check_slice_port(port: discovery_v1.EndpointPort, path: str, seen: set[str]) -> list[FieldError]:
    name = port.name or ""
    faults = spelt(f"{path}.name", name, names.dns1123_label) if name else []
    if name in seen:
        faults.append(duplicate(f"{path}.name", name))
    seen.add(name)
    faults += choice(f"{path}.protocol", port.protocol, _PROTOCOLS)
    if port.port is not None:
        faults += port_number(f"{path}.port", port.port)
    return [*faults, *_check_app_protocol(port.appProtocol, path)]


def _check_app_protocol(protocol: str | None, path: str) -> list[FieldError]:
    return spelt(f"{path}.appProtocol", protocol, names.qualified_name) if protocol is not None else []


def _check_endpoint(endpoint: discovery_v1.Endpoint, kind: str, path: str) -> list[FieldError]:
    below = f"{path}.addresses"
    faults = [] if endpoint.addresses else [required(below, "must contain at least 1 address")]
    faults += too_many(below, len(endpoint.addresses), _MAX_ADDRESSES)
    for index, address in enumerate(endpoint.addresses):
        faults += _check_slice_address(address, kind, f"{below}[{index}]")
    if endpoint.nodeName:
        faults += spelt(f"{path}.nodeName", endpoint.nodeName, names.dns1123_subdomain)
    faults += too_many(f"{path}.deprecatedTopology", len(endpoint.deprecatedTopology), _MAX_TOPOLOGY)
    faults += check_labels(endpoint.deprecatedTopology, f"{path}.deprecatedTopology")
    if endpoint.hostname:
        faults += spelt(f"{path}.hostname", endpoint.hostname, names.dns1123_label)
    if endpoint.hints is not None:
        zones = [zone.name for zone in endpoint.hints.forZones]
        nodes = [node.name for node in endpoint.hints.forNodes]
        faults += _check_hints(zones, f"{path}.hints.forZones", names.label_value)
        faults += _check_hints(nodes, f"{path}.hints.forNodes", names.dns1123_subdomain)
    return faults


def _check_slice_address(address: str, kind: str, path: str) -> list[FieldError]:
    if kind == "FQDN":
        return spelt(path, address, names.fully_qualified_domain_name)
    if kind not in ("IPv4", "IPv6"):
        return []
    if not addresses.is_ip(address) or (":" in address) != (kind == "IPv6"):
        return [invalid(path, address, f"must be a valid {kind} address")]
    return check_ordinary(path, address)


def _check_hints(hinted: list[str], path: str, check: names.Check) -> list[FieldError]:
    faults = too_many(path, len(hinted), _MAX_HINTS)
    for index, name in enumerate(hinted[:_MAX_HINTS]):
        if name in hinted[:index]:
            faults.append(duplicate(f"{path}[{index}].name", name))
        faults += spelt(f"{path}[{index}].name", name, check)
    return faults
