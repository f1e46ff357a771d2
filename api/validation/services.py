"""Validation of Service: ports, addresses, traffic policies, load balancers."""

from __future__ import annotations

from barque.api import addresses, names
from barque.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from barque.api.types.core_v1 import LoadBalancerIngress, Service, ServicePort, ServiceSpec
from barque.api.validation.checks import port_number, port_or_name, spelt
from barque.api.validation.choices import choice, choice_if_set, ip_address, within
from barque.api.validation.endpoints import check_ordinary
from barque.api.validation.metadata import check_labels

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_TRAFFIC_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_DAY_S = 86_400
_KUBELET_PORT = 10250
_BALANCED_ONLY = "may only be used when `type` is 'LoadBalancer'"
_LOCAL_ONLY = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"


def check(service: Service) -> list[FieldError]:
    spec = service.spec
    faults = choice("spec.type", spec.type, _TYPES)
    if not spec.ports and not _is_headless(spec) and spec.type != "ExternalName":
        faults.append(required("spec.ports"))
    faults += _check_external_name(spec) if spec.type == "ExternalName" else _check_addressing(spec)
    faults += _check_ports(spec)
    faults += check_labels(spec.selector, "spec.selector")
    faults += _check_affinity(spec)
    faults += _check_external_addresses(spec)
    faults += _check_balancer(spec)
    faults += _check_traffic(spec)
    return faults


def check_update(new: Service, old: Service) -> list[FieldError]:
    """Addresses, once given, stay, except where the service becomes or was a mere name."""
    before, after = old.spec, new.spec
    faults = []
    if before.clusterIPs and "ExternalName" not in (before.type, after.type):
        faults += _check_stays("spec.clusterIPs", after.clusterIPs, before.clusterIPs, "clusterIP")
        faults += _check_stays("spec.ipFamilies", after.ipFamilies, before.ipFamilies, "ipFamily")
    checked = _needs_health_check(before) and _needs_health_check(after)
    if checked and after.healthCheckNodePort != before.healthCheckNodePort:
        faults.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    balanced = before.type == after.type == "LoadBalancer"
    if balanced and after.loadBalancerClass != before.loadBalancerClass:
        faults.append(invalid("spec.loadBalancerClass", after.loadBalancerClass, "may not change once set"))
    return faults


def check_status(new: Service, _old: Service) -> list[FieldError]:
    balancer = new.status.loadBalancer
    given = balancer.ingress if balancer is not None else []
    path = "status.loadBalancer.ingress"
    if given and new.spec.type != "LoadBalancer":
        return [forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    return [fault for index, ingress in enumerate(given) for fault in _check_ingress(ingress, f"{path}[{index}]")]


def _is_headless(spec: ServiceSpec) -> bool:
    return spec.clusterIP == "None" or spec.clusterIPs[:1] == ["None"]


def _needs_health_check(spec: ServiceSpec) -> bool:
    return spec.type == "LoadBalancer" and spec.externalTrafficPolicy == "Local"


def _check_external_name(spec: ServiceSpec) -> list[FieldError]:
    """Another name in the DNS, and no address of its own."""
    faults = [
        forbidden(f"spec.{name}", "may not be set for ExternalName services")
        for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if getattr(spec, name)
    ]
    name = spec.externalName.removesuffix(".")
    return [
        *faults,
        *(spelt("spec.externalName", name, names.dns1123_subdomain) if name else [required("spec.externalName")]),
    ]


def _check_addressing(spec: ServiceSpec) -> list[FieldError]:
    ips, path = spec.clusterIPs, "spec.clusterIPs"
    faults = []
    if _is_headless(spec) and spec.type in ("NodePort", "LoadBalancer"):
        faults.append(invalid(f"{path}[0]", "None", f"may not be set to 'None' for {spec.type} services"))
    if spec.clusterIP and not ips:
        faults.append(required(path))
    elif ips and not spec.clusterIP:
        faults.append(invalid(path, ips, "must be empty when `clusterIP` is not specified"))
    elif ips and ips[0] != spec.clusterIP:
        faults.append(invalid(path, ips, "first value must match `clusterIP`"))
    if len(ips) > 2:
        faults.append(invalid(path, ips, "may only hold up to 2 values"))
    faults += [forbidden(f"{path}[1]", "barque supports only one address here yet")] if len(ips) == 2 else []
    for index, address in enumerate(ips):
        faults += _check_cluster_ip(address, index, spec)
    for index, family in enumerate(spec.ipFamilies):
        faults += choice(f"spec.ipFamilies[{index}]", family, _FAMILIES)
        if family in spec.ipFamilies[:index]:
            faults.append(duplicate(f"spec.ipFamilies[{index}]", family))
    return [*faults, *choice_if_set("spec.ipFamilyPolicy", spec.ipFamilyPolicy, _FAMILY_POLICIES)]


def _check_cluster_ip(address: str, index: int, spec: ServiceSpec) -> list[FieldError]:
    path, before = f"spec.clusterIPs[{index}]", spec.clusterIPs[:index]
    faults = [duplicate(path, address)] if address in before else []
    if address == "None":
        alone = len(spec.clusterIPs) == 1
        why = "'None' must be the first and only value"
        return faults if alone else [*faults, invalid("spec.clusterIPs", spec.clusterIPs, why)]
    malformed = ip_address(path, address)
    if malformed or index >= len(spec.ipFamilies):
        return [*faults, *malformed]
    family = "IPv6" if ":" in address else "IPv4"
    if family != spec.ipFamilies[index]:
        why = f"expected an {spec.ipFamilies[index]} value as indicated by `ipFamilies[{index}]`"
        faults.append(invalid(path, address, why))
    return faults


def _check_ports(spec: ServiceSpec) -> list[FieldError]:
    faults = []
    seen_names: set[str] = set()
    seen_ports: set[tuple[str, int]] = set()
    seen_node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.ports):
        path = f"spec.ports[{index}]"
        faults += _check_port(port, path, named=len(spec.ports) > 1)
        if port.name in seen_names:
            faults.append(duplicate(f"{path}.name", port.name))
        if (port.protocol, port.port) in seen_ports:
            faults.append(duplicate(path, {"port": port.port, "protocol": port.protocol}))
        if port.nodePort and spec.type == "ClusterIP":
            faults.append(forbidden(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'"))
        elif port.nodePort and (port.protocol, port.nodePort) in seen_node_ports:
            faults.append(duplicate(f"{path}.nodePort", port.nodePort))
        elif port.nodePort:
            faults += port_number(f"{path}.nodePort", port.nodePort)
            seen_node_ports.add((port.protocol, port.nodePort))
        seen_names |= {port.name} if port.name else set()
        seen_ports.add((port.protocol, port.port))
    return faults


def _check_port(port: ServicePort, path: str, *, named: bool) -> list[FieldError]:
    if port.name:
        faults = spelt(f"{path}.name", port.name, names.dns1123_label)
    else:
        faults = [required(f"{path}.name")] if named else []
    faults += port_number(f"{path}.port", port.port)
    faults += choice(f"{path}.protocol", port.protocol, _PROTOCOLS)
    if port.targetPort is not None:
        faults += port_or_name(f"{path}.targetPort", port.targetPort)
    if port.appProtocol is not None:
        faults += spelt(f"{path}.appProtocol", port.appProtocol, names.qualified_name)
    return faults


def _check_affinity(spec: ServiceSpec) -> list[FieldError]:
    config, path = spec.sessionAffinityConfig, "spec.sessionAffinityConfig"
    faults = choice("spec.sessionAffinity", spec.sessionAffinity, ("ClientIP", "None"))
    if spec.sessionAffinity == "None" and config is not None:
        faults.append(forbidden(path, "must not be set when session affinity is None"))
    if spec.sessionAffinity == "ClientIP":
        client = config.clientIP if config is not None else None
        if client is None or client.timeoutSeconds is None:
            why = "when session affinity type is ClientIP"
            faults.append(required(path, why))
        else:
            seconds = client.timeoutSeconds
            if not 0 < seconds <= _DAY_S:
                why = f"must be greater than 0 and less than {_DAY_S}"
                faults.append(invalid(f"{path}.clientIP.timeoutSeconds", seconds, why))
    return faults


def _check_external_addresses(spec: ServiceSpec) -> list[FieldError]:
    faults = []
    for index, address in enumerate(spec.externalIPs):
        path = f"spec.externalIPs[{index}]"
        faults += ip_address(path, address) or check_ordinary(path, address)
    return faults


def _check_balancer(spec: ServiceSpec) -> list[FieldError]:
    """What only a load balancer has, and what it may not have."""
    balanced, faults = spec.type == "LoadBalancer", []
    for index, port in enumerate(spec.ports):
        if balanced and port.port == _KUBELET_PORT:
            why = f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet"
            faults.append(invalid(f"spec.ports[{index}]", port.port, why))
    path = "spec.loadBalancerSourceRanges"
    if spec.loadBalancerSourceRanges and not balanced:
        faults.append(forbidden(path, _BALANCED_ONLY))
    for index, cidr in enumerate(spec.loadBalancerSourceRanges):
        if not addresses.is_cidr(cidr.strip()):
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            faults.append(invalid(f"{path}[{index}]", cidr, why))
    if spec.allocateLoadBalancerNodePorts is not None and not balanced:
        faults.append(forbidden("spec.allocateLoadBalancerNodePorts", _BALANCED_ONLY))
    if spec.loadBalancerClass is not None:
        path = "spec.loadBalancerClass"
        faults += [] if balanced else [forbidden(path, _BALANCED_ONLY)]
        faults += spelt(path, spec.loadBalancerClass, names.qualified_name)
    return faults


def _check_traffic(spec: ServiceSpec) -> list[FieldError]:
    external = spec.type in ("LoadBalancer", "NodePort") or (spec.type == "ClusterIP" and bool(spec.externalIPs))
    policy, path = spec.externalTrafficPolicy, "spec.externalTrafficPolicy"
    faults = choice(path, policy, _TRAFFIC_POLICIES) if external else []
    if policy and not external:
        faults.append(invalid(path, policy, "may only be set for externally-accessible services"))
    health, path = spec.healthCheckNodePort, "spec.healthCheckNodePort"
    if health and not _needs_health_check(spec):
        faults.append(invalid(path, health, _LOCAL_ONLY))
    elif health:
        faults += within(path, health, 1, 65535)
    internal, path = spec.internalTrafficPolicy, "spec.internalTrafficPolicy"
    faults += choice_if_set(path, internal, _TRAFFIC_POLICIES)
    if not internal and spec.type in ("ClusterIP", "NodePort", "LoadBalancer"):
        faults.append(required(path))
    return [*faults, *choice_if_set("spec.trafficDistribution", spec.trafficDistribution, _DISTRIBUTIONS)]


def _check_stays(path: str, new: list[str], old: list[str], what: str) -> list[FieldError]:
    """A second family may come and go; whatever else was given stays in its place."""
    if not new:
        return [invalid(f"{path}[0]", "", f"primary {what} can not be unset")] if old else []
    return [
        invalid(f"{path}[{index}]", new, "may not change once set")
        for index, (after, before) in enumerate(zip(new, old, strict=False))
        if after != before
    ]


def _check_ingress(ingress: LoadBalancerIngress, path: str) -> list[FieldError]:
    faults = ip_address(f"{path}.ip", ingress.ip) if ingress.ip else []
    if ingress.ipMode and not ingress.ip:
        faults.append(forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set"))
    elif ingress.ipMode not in ("", "Proxy", "VIP"):
        faults.append(not_supported(f"{path}.ipMode", ingress.ipMode, ["Proxy", "VIP"]))
    if ingress.hostname:
        faults += spelt(f"{path}.hostname", ingress.hostname, names.dns1123_subdomain)
        if addresses.is_ip(ingress.hostname):
            faults.append(invalid(f"{path}.hostname", ingress.hostname, "must be a DNS name, not an IP address"))
    return faults
