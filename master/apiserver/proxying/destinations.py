"""Which pod or node a proxy's path means, and by which port: choices and refusals are Kubernetes'. Pure.

A name may carry a scheme and a port, `https:web:443`. A service's port is one of the service, by number or by name; the
answer comes from one of its ready pods. Other addresses are not proxied to: a master would lend its place in the
network to whoever may write an Endpoints.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from typing import NamedTuple

from barque.api.errors import bad_request, unavailable
from barque.api.types.core_v1 import Node, Pod, Service
from barque.api.types.discovery_v1 import EndpointSlice

_SCHEMES = ("", "http", "https")
_DEFAULT_PORTS = {"": "80", "http": "80", "https": "443"}


class Asked(NamedTuple):
    """What the name of a proxy's path says."""

    scheme: str
    name: str
    port: str
    # As it was written.
    whole: str


class PodPort(NamedTuple):
    """A port of a pod. `host` is what a URL would name it by."""

    namespace: str
    pod: str
    address: str
    port: int
    tls: bool

    @property
    def host(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def split_name(name: str, kind: str) -> Asked:
    """`[scheme:]name[:port]`. Raises 400."""
    parts = name.split(":")
    if len(parts) == 3:
        asked = Asked(parts[0], parts[1], parts[2], name)
    elif len(parts) < 3:
        asked = Asked("", parts[0], parts[1] if len(parts) == 2 else "", name)
    else:
        asked = Asked("", "", "", name)
    if not asked.name or asked.scheme not in _SCHEMES:
        raise bad_request(f'invalid {kind} request "{name}"')
    return asked


def pod_port(asked: Asked, pod: Pod) -> PodPort:
    """Where a pod is asked: at the port named, else the first that a container names, else the scheme's. Raises 400."""
    named = (str(ports[0].containerPort) for c in pod.spec.containers if (ports := c.ports))
    port = asked.port or next(named, _DEFAULT_PORTS[asked.scheme])
    return PodPort(
        pod.metadata.namespace,
        pod.metadata.name,
        _proxyable(pod.status.podIP),
        port_number(port),
        asked.scheme == "https",
    )


def service_port_name(asked: Asked, service: Service) -> str:
    """The name of the service's port that is meant. Raises 503."""
    if not asked.port.isdecimal():
        return asked.port
    number = int(asked.port)
    found = next((port for port in service.spec.ports if port.port == number), None)
    if found is None:
        raise unavailable(f'no service port {number} found for service "{asked.name}"')
    return found.name


def choose_endpoint(
    asked: Asked, namespace: str, slices: Sequence[EndpointSlice], port_name: str, entropy: random.Random
) -> PodPort:
    """A ready pod behind the service's port, any of them. Raises 503 where there is none."""
    found = [
        PodPort(namespace, endpoint.targetRef.name, endpoint.addresses[0], port.port, asked.scheme == "https")
        for slice_ in slices
        for port in slice_.ports
        if (port.name or "") == port_name and port.port
        for endpoint in slice_.endpoints
        if endpoint.targetRef is not None and endpoint.targetRef.kind == "Pod" and endpoint.addresses
        if endpoint.conditions is None or endpoint.conditions.ready is not False
    ]
    if not found:
        known = any(slice_.endpoints for slice_ in slices)
        raise unavailable(f'no endpoints available for service "{asked.whole if known else asked.name}"')
    return entropy.choice(found)


def is_node_api(asked: Asked, node: Node) -> bool:
    """Whether the node itself is asked, as its kubelet would be: by no port, or by the kubelet's."""
    endpoints = node.status.daemonEndpoints
    own = endpoints.kubeletEndpoint.Port if endpoints is not None and endpoints.kubeletEndpoint is not None else 0
    return not asked.port or asked.port == str(own)


def port_number(port: str) -> int:
    """Raises 400."""
    if not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise bad_request(f'invalid port "{port}"')
    return int(port)


def _proxyable(address: str) -> str:
    """Raises 400 for an address that is nobody's, or every host's own."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise bad_request("address not allowed") from None
    if parsed.is_unspecified or parsed.is_loopback or parsed.is_link_local or parsed.is_multicast:
        raise bad_request("address not allowed")
    return address
