"""Warnings about Services: fields that are deprecated, and fields that this type of service ignores."""

from __future__ import annotations

from barque.api.types.core_v1 import Service, ServiceSpec
from barque.api.warnings.addresses import about_address, about_network

_HINTS, _MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"


def about_service(service: Service) -> list[str]:
    spec = service.spec
    headless = spec.type == "ClusterIP" and spec.clusterIP == "None"
    warnings = []
    if _HINTS in service.metadata.annotations:
        warnings.append(f"annotation {_HINTS} is deprecated, please use {_MODE} instead")
    if spec.clusterIP not in ("", "None"):
        for i, address in enumerate(spec.clusterIPs):
            warnings += about_address(f"spec.clusterIPs[{i}]", address)
    if headless:
        warnings += _about_headless(spec)
    for i, address in enumerate(spec.externalIPs):
        warnings += about_address(f"spec.externalIPs[{i}]", address)
    if spec.externalIPs and not headless and spec.type != "ExternalName":
        warnings.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if spec.loadBalancerIP:
        warnings += about_address("spec.loadBalancerIP", spec.loadBalancerIP)
    for i, cidr in enumerate(spec.loadBalancerSourceRanges):
        warnings += about_network(f"spec.loadBalancerSourceRanges[{i}]", cidr)
    if spec.type == "ExternalName" and spec.externalIPs:
        warnings.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if spec.type != "ExternalName" and spec.externalName:
        warnings.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.trafficDistribution == "PreferClose":
        warnings.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return warnings


def _about_headless(spec: ServiceSpec) -> list[str]:
    ignored = {
        "loadBalancerIP": bool(spec.loadBalancerIP),
        "externalIPs": bool(spec.externalIPs),
        "SessionAffinity": spec.sessionAffinity != "None",
    }
    return [f"spec.{name} is ignored for headless services" for name, is_set in ignored.items() if is_set]
