"""Warnings about addresses that have more than one form, and of the two kinds that hold nothing else."""

from __future__ import annotations

import ipaddress

from barque.api.types.core_v1 import Endpoints
from barque.api.types.discovery_v1 import EndpointSlice

_ENDPOINTS_MANAGER = "endpoints.kubernetes.io/managed-by"
_SLICE_MANAGER = "endpointslice.kubernetes.io/managed-by"
# Those write each address in its one form themselves.
_CONTROLLERS = ("endpoint-controller", "endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")


def about_address(path: str, address: str) -> list[str]:
    """RFC 5952 knows one form of each IPv6 address; controllers that compare texts never come to rest over others."""
    if ":" not in address:
        return []
    try:
        canonical = str(ipaddress.IPv6Address(address))
    except ValueError:
        return []
    if canonical == address:
        return []
    return [f'{path}: IPv6 address "{address}" should be in RFC 5952 canonical format ("{canonical}")']


def about_network(path: str, cidr: str) -> list[str]:
    """As of an address; and a network's bits beyond its prefix may mean the network or that one address."""
    try:
        interface = ipaddress.ip_interface(cidr)
    except ValueError:
        return []
    network, address = str(interface.network), f"{interface.ip}/{interface.max_prefixlen}"
    if interface.ip != interface.network.network_address:
        return [f'{path}: CIDR value "{cidr}" is ambiguous in this context (should be "{network}" or "{address}"?)']
    if interface.version == 6 and network != cidr:
        return [f'{path}: IPv6 CIDR value "{cidr}" should be in RFC 5952 canonical format ("{network}")']
    return []


def about_endpoints(endpoints: Endpoints) -> list[str]:
    if endpoints.metadata.labels.get(_ENDPOINTS_MANAGER) in _CONTROLLERS:
        return []
    return [
        warning
        for i, subset in enumerate(endpoints.subsets)
        for name in ("addresses", "notReadyAddresses")
        for j, address in enumerate(getattr(subset, name))
        for warning in about_address(f"subsets[{i}].{name}[{j}].ip", address.ip)
    ]


def about_slice(endpoint_slice: EndpointSlice) -> list[str]:
    warnings = []
    if endpoint_slice.addressType == "FQDN":
        # Kubernetes' own path, though the field stands at the top.
        warnings.append("spec.addressType: FQDN endpoints are deprecated")
    if endpoint_slice.metadata.labels.get(_SLICE_MANAGER) in _CONTROLLERS:
        return warnings
    for i, endpoint in enumerate(endpoint_slice.endpoints):
        for j, address in enumerate(endpoint.addresses):
            warnings += about_address(f"endpoints[{i}].addresses[{j}]", address)
    return warnings
