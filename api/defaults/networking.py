"""Defaults of Service, Endpoints and EndpointSlice."""

from __future__ import annotations

from barque.api.types.core_v1 import (
    ClientIPConfig,
    Endpoints,
    LoadBalancerStatus,
    Service,
    ServiceSpec,
    SessionAffinityConfig,
)
from barque.api.types.discovery_v1 import EndpointSlice

_THREE_HOURS_S = 10800


def default_service(service: Service) -> None:
    spec = service.spec
    spec.type = spec.type or "ClusterIP"
    spec.sessionAffinity = spec.sessionAffinity or "None"
    if spec.sessionAffinity == "ClientIP":
        config = spec.sessionAffinityConfig
        if config is None or config.clientIP is None or config.clientIP.timeoutSeconds is None:
            spec.sessionAffinityConfig = SessionAffinityConfig(clientIP=ClientIPConfig(timeoutSeconds=_THREE_HOURS_S))
    elif spec.sessionAffinity == "None":
        spec.sessionAffinityConfig = None
    for port in spec.ports:
        port.protocol = port.protocol or "TCP"
        if port.targetPort in (None, 0, ""):
            port.targetPort = port.port
    if spec.type != "ExternalName":
        _default_traffic(spec)
    if service.status.loadBalancer is None:
        service.status.loadBalancer = LoadBalancerStatus()
    for ingress in service.status.loadBalancer.ingress:
        if ingress.ip:
            ingress.ipMode = ingress.ipMode or "VIP"


def _default_traffic(spec: ServiceSpec) -> None:
    spec.internalTrafficPolicy = spec.internalTrafficPolicy or "Cluster"
    if spec.type in ("NodePort", "LoadBalancer") or spec.externalIPs:
        spec.externalTrafficPolicy = spec.externalTrafficPolicy or "Cluster"
    if spec.type == "LoadBalancer" and spec.allocateLoadBalancerNodePorts is None:
        spec.allocateLoadBalancerNodePorts = True


def default_address(service: Service) -> None:
    """What a service with an address leaves open about it.

    Apart from the other defaults, since these are the cluster's words: nobody comes to own the fields.
    """
    spec = service.spec
    if spec.type == "ExternalName":
        return
    if spec.clusterIP and not spec.clusterIPs:
        spec.clusterIPs = [spec.clusterIP]
    spec.ipFamilyPolicy = spec.ipFamilyPolicy or "SingleStack"
    spec.ipFamilies = spec.ipFamilies or ["IPv4"]


def default_endpoints(endpoints: Endpoints) -> None:
    for subset in endpoints.subsets:
        for port in subset.ports:
            port.protocol = port.protocol or "TCP"


def default_endpoint_slice(endpoint_slice: EndpointSlice) -> None:
    for port in endpoint_slice.ports:
        port.name = port.name or ""
        port.protocol = port.protocol or "TCP"
