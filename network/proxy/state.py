"""Services and EndpointSlices as what the proxy needs to know. Pure.

In: a Service, its slices, this node's name and zone. Out: one `ServicePort` per port that has a cluster IP, with the
endpoints that traffic may go to: the ready ones, or, where there are none, those that end but still serve (KEP-1669);
and the health check that a load balancer asks for (`HealthCheck`). Where all ready endpoints say for which nodes or
zones they are (their hints, which a service's `trafficDistribution` makes; KEP-2433, KEP-3015), those for this one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from barque.api.addresses import is_ipv4
from barque.api.types.core_v1 import Service
from barque.api.types.core_v1 import ServicePort as ApiServicePort
from barque.api.types.discovery_v1 import Endpoint, EndpointSlice
from barque.network.conntrack import Ways

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
LOCAL = "Local"
# How long a client stays with its endpoint where the service does not say.
THREE_HOURS_S = 10800
# A service so labelled is another proxy's business.
OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


class Backend(NamedTuple):
    """Where a connection is sent; orders by address. `near` unless it is known to be on another node."""

    ip: str
    port: int
    near: bool = True

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


class ServicePort(NamedTuple):
    """One port of a service. `name` is `namespace/service:port`; `node_port` is 0 where there is none.

    `internal_local` and `external_local` are the traffic policies of its cluster IP and of its ways from outside (node
    port, external addresses); `local` are the endpoints of this node, known only where a policy asks for them.
    `affinity_s` is for how long a client stays with its endpoint, 0 where it need not.
    """

    name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int
    backends: tuple[Backend, ...]
    local: tuple[Backend, ...] = ()
    internal_local: bool = False
    external_local: bool = False
    external_ips: tuple[str, ...] = ()
    affinity_s: int = 0

    @property
    def internal(self) -> tuple[Backend, ...]:
        """The endpoints behind the cluster IP."""
        return self.local if self.internal_local else self.backends

    @property
    def is_external(self) -> bool:
        """Whether there is a way to it from outside."""
        return self.node_port > 0 or bool(self.external_ips)

    def is_among(self, ports: Iterable[ServicePort]) -> bool:
        """Whether one of them answers wherever this one does."""
        return any(
            (port.protocol, port.cluster_ip, port.port) == (self.protocol, self.cluster_ip, self.port)
            and self.node_port in (0, port.node_port)
            and set(self.external_ips) <= set(port.external_ips)
            for port in ports
        )

    def without_endpoints(self) -> ServicePort:
        return self._replace(backends=(), local=())


class HealthCheck(NamedTuple):
    """What a node answers on a service's health check port: how many ready endpoints of it are on this node."""

    namespace: str
    name: str
    port: int
    local_endpoints: int


def udp_ways(ports: Iterable[ServicePort], host_addresses: Collection[str]) -> Ways:
    """Which endpoints may answer on which address and UDP port; of two ports of one address, the later tells."""
    ways: dict[tuple[str, int], set[str]] = {}
    for port in ports:
        if port.protocol != "udp":
            continue
        ways[port.cluster_ip, port.port] = {backend.ip for backend in port.internal}
        everyone = {backend.ip for backend in (*port.backends, *port.local)}
        ways |= {(address, port.port): everyone for address in port.external_ips}
        if port.node_port:
            ways |= {(address, port.node_port): everyone for address in host_addresses}
    return ways


def service_key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"


def slice_keys(endpoints: EndpointSlice) -> list[str]:
    """The key of the service a slice belongs to, if any; also the informer's index function."""
    name = endpoints.metadata.labels.get(SERVICE_NAME_LABEL, "")
    return [service_key(endpoints.metadata.namespace, name)] if name else []


def service_ports(
    service: Service | None, slices: Iterable[EndpointSlice], node: str = "", zone: str = ""
) -> tuple[ServicePort, ...]:
    """What the proxy of `node` serves for a service; nothing where it is gone, headless, external or not IPv4."""
    if service is None or not _is_proxied(service):
        return ()
    known = list(slices)
    spec, name = service.spec, service_key(service.metadata.namespace, service.metadata.name)
    internal_local = spec.internalTrafficPolicy == LOCAL
    external_local = spec.externalTrafficPolicy == LOCAL
    external_ips, affinity_s = _external_ips(service), _affinity_s(service)
    ports = []
    for port in spec.ports:
        protocol = PROTOCOLS.get(port.protocol or "TCP")
        if protocol is None:
            continue
        found = _endpoints(port, known)
        ports.append(
            ServicePort(
                f"{name}:{port.name}" if port.name else name,
                protocol,
                spec.clusterIP,
                port.port,
                port.nodePort or 0,
                _backends(found, node, zone),
                _backends_here(found, node) if internal_local or external_local else (),
                internal_local,
                external_local,
                external_ips,
                affinity_s,
            )
        )
    return tuple(ports)


def health_check(service: Service | None, slices: Iterable[EndpointSlice], node: str) -> HealthCheck | None:
    """What `node` must answer for the service; None where no load balancer asks."""
    if service is None or not _is_proxied(service):
        return None
    spec, meta = service.spec, service.metadata
    if spec.type != "LoadBalancer" or spec.externalTrafficPolicy != LOCAL or not spec.healthCheckNodePort:
        return None
    here = {
        endpoint.addresses[0]
        for endpoints in slices
        for endpoint in endpoints.endpoints
        if endpoint.nodeName == node and endpoint.addresses and _is_ready(endpoint)
    }
    return HealthCheck(meta.namespace, meta.name, spec.healthCheckNodePort, len(here))


def _external_ips(service: Service) -> tuple[str, ...]:
    """The addresses outside the cluster that this service answers to, its load balancer's among them."""
    balancer = service.status.loadBalancer
    balanced = [i.ip for i in balancer.ingress if i.ipMode in ("", "VIP")] if balancer is not None else []
    wanted = [*service.spec.externalIPs, *(ip for ip in balanced if ip)]
    return tuple(sorted({ip for ip in wanted if is_ipv4(ip)}))


def _affinity_s(service: Service) -> int:
    if service.spec.sessionAffinity != "ClientIP":
        return 0
    config = service.spec.sessionAffinityConfig
    client = config.clientIP if config is not None else None
    return (client.timeoutSeconds if client is not None else None) or THREE_HOURS_S


def _is_proxied(service: Service) -> bool:
    if service.spec.type == "ExternalName" or OTHER_PROXY_LABEL in service.metadata.labels:
        return False
    return is_ipv4(service.spec.clusterIP)


class _Found(NamedTuple):
    """An endpoint that has a service's port, and that port's number on it."""

    endpoint: Endpoint
    port: int


def _endpoints(port: ApiServicePort, slices: Iterable[EndpointSlice]) -> list[_Found]:
    """The endpoints of a port, which slices name as the service does."""
    name, protocol = port.name, port.protocol or "TCP"
    found = []
    for endpoints in slices:
        # The API has checked that an IPv4 slice's addresses are such.
        if endpoints.addressType != "IPv4":
            continue
        numbers = (p.port for p in endpoints.ports if (p.name or "") == name and (p.protocol or "TCP") == protocol)
        number = next(numbers, None)
        if number is not None:
            found += [_Found(e, number) for e in endpoints.endpoints if e.addresses]
    return found


def _backends(found: list[_Found], node: str, zone: str) -> tuple[Backend, ...]:
    """The endpoints of all nodes that `node` is to use."""
    ready = [one for one in found if _is_ready(one.endpoint)]
    nearest = _meant_for(ready, node, zone)
    return _sorted(nearest or [one for one in found if _is_ending_but_serving(one.endpoint)], node)


def _backends_here(found: list[_Found], node: str) -> tuple[Backend, ...]:
    """The endpoints to use of those on `node`; hints do not matter."""
    here = [one for one in found if one.endpoint.nodeName == node]
    ready = [one for one in here if _is_ready(one.endpoint)]
    return _sorted(ready or [one for one in here if _is_ending_but_serving(one.endpoint)], node)


def _sorted(chosen: list[_Found], node: str) -> tuple[Backend, ...]:
    backends = {Backend(e.addresses[0], port, e.nodeName in ("", node)) for e, port in chosen}
    return tuple(sorted(backends))


def _meant_for(ready: list[_Found], node: str, zone: str) -> list[_Found]:
    """Those whose hints name this node, or else this zone; all, where one has no hints or none is meant for here."""
    if not any(one.endpoint.hints for one in ready):
        return ready
    for wanted, names in ((node, _hinted_nodes), (zone, _hinted_zones)):
        hinted = [(one, names(one.endpoint)) for one in ready]
        if wanted and all(hints for _, hints in hinted):
            meant = [one for one, hints in hinted if wanted in hints]
            if meant:
                return meant
    return ready


def _hinted_nodes(endpoint: Endpoint) -> list[str]:
    return [node.name for node in endpoint.hints.forNodes] if endpoint.hints is not None else []


def _hinted_zones(endpoint: Endpoint) -> list[str]:
    return [zone.name for zone in endpoint.hints.forZones] if endpoint.hints is not None else []


def _is_ready(endpoint: Endpoint) -> bool:
    """Unknown readiness counts as ready, as the API says."""
    return endpoint.conditions is None or endpoint.conditions.ready in (None, True)


def _is_ending_but_serving(endpoint: Endpoint) -> bool:
    conditions = endpoint.conditions
    return conditions is not None and conditions.terminating is True and conditions.serving is True
