"""The `describe` pages of deployments, replica sets, services and their endpoints, in kubectl's layout. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barque.cli import describe_pods
from barque.cli.description import Page, annotation_field, heading, moment
from barque.cli.rollouts import REVISION

# A service with many endpoints shows the first few and a count.
ENDPOINTS_SHOWN = 3


def describe_deployment(page: Page, deployment: Any, replica_sets: Sequence[Any]) -> None:
    """A deployment; `replica_sets` are those it owns."""
    meta, spec, status = deployment.metadata, deployment.spec, deployment.status
    page.field(0, "Name", meta.name)
    page.field(0, "Namespace", meta.namespace)
    page.field(0, "CreationTimestamp", moment(meta.creationTimestamp))
    page.pairs(0, "Labels", meta.labels)
    annotation_field(page, meta.annotations)
    page.field(0, "Selector", selector_text(spec.selector))
    page.field(
        0,
        "Replicas",
        f"{_one(spec.replicas)} desired | {status.updatedReplicas or 0} updated | {status.replicas or 0} total | "
        f"{status.availableReplicas or 0} available | {status.unavailableReplicas or 0} unavailable",
    )
    page.field(0, "StrategyType", spec.strategy.type if spec.strategy is not None else "")
    page.field(0, "MinReadySeconds", spec.minReadySeconds or 0)
    rolling = spec.strategy.rollingUpdate if spec.strategy is not None else None
    if rolling is not None:
        page.field(
            0, "RollingUpdateStrategy", f"{rolling.maxUnavailable} max unavailable, {rolling.maxSurge} max surge"
        )
    describe_pods.template(page, spec.template)
    if status.conditions:
        rows = [[c.type, c.status, c.reason] for c in status.conditions]
        page.table(0, "Conditions", ("Type", "Status", "Reason"), rows, ruled=True)
    revision = meta.annotations.get(REVISION, "")
    new = [rs for rs in replica_sets if revision and rs.metadata.annotations.get(REVISION) == revision]
    old = [rs for rs in replica_sets if rs not in new and (rs.spec.replicas or rs.status.replicas)]
    page.field(0, "OldReplicaSets", _counts(old))
    page.field(0, "NewReplicaSet", _counts(new))


def _counts(replica_sets: Sequence[Any]) -> str:
    shown = (
        f"{rs.metadata.name} ({rs.status.replicas}/{_one(rs.spec.replicas)} replicas created)" for rs in replica_sets
    )
    return ", ".join(shown) or "<none>"


def _one(replicas: int | None) -> int:
    return 1 if replicas is None else replicas


def describe_replica_set(page: Page, replica_set: Any, pods: Sequence[Any]) -> None:
    """A replica set; `pods` are those it owns."""
    meta, spec, status = replica_set.metadata, replica_set.spec, replica_set.status
    page.field(0, "Name", meta.name)
    page.field(0, "Namespace", meta.namespace)
    page.field(0, "Selector", selector_text(spec.selector))
    page.pairs(0, "Labels", meta.labels)
    annotation_field(page, meta.annotations)
    controller = next((o for o in meta.ownerReferences if o.controller), None)
    if controller is not None:
        page.field(0, "Controlled By", f"{controller.kind}/{controller.name}")
    page.field(0, "Replicas", f"{status.replicas} current / {_one(spec.replicas)} desired")
    phases = [pod.status.phase for pod in pods]
    names = (("Running", "Running"), ("Pending", "Waiting"), ("Succeeded", "Succeeded"), ("Failed", "Failed"))
    page.field(0, "Pods Status", " / ".join(f"{phases.count(phase)} {shown}" for phase, shown in names))
    describe_pods.template(page, spec.template)
    if status.conditions:
        rows = [[c.type, c.status, c.reason] for c in status.conditions]
        page.table(0, "Conditions", ("Type", "Status", "Reason"), rows, ruled=True)


def selector_text(selector: Any) -> str:
    """A label selector as it would be typed: `app=web,tier in (a,b)`."""
    if selector is None:
        return "<unset>"
    parts = [f"{key}={value}" for key, value in sorted(selector.matchLabels.items())]
    for each in selector.matchExpressions:
        if each.operator == "Exists":
            parts.append(each.key)
        elif each.operator == "DoesNotExist":
            parts.append(f"!{each.key}")
        else:
            parts.append(f"{each.key} {each.operator.lower()} ({','.join(sorted(each.values))})")
    return ",".join(parts) or "<none>"


def describe_service(page: Page, service: Any, slices: Sequence[Any]) -> None:
    """A service; `slices` are its endpoint slices."""
    spec = service.spec
    heading(page, service)
    page.pairs(0, "Selector", spec.selector)
    page.field(0, "Type", spec.type)
    if spec.ipFamilyPolicy:
        page.field(0, "IP Family Policy", spec.ipFamilyPolicy)
    if spec.ipFamilies:
        page.field(0, "IP Families", ",".join(spec.ipFamilies))
    page.field(0, "IP", spec.clusterIP)
    page.field(0, "IPs", ",".join(spec.clusterIPs) or "<none>")
    if spec.externalIPs:
        page.field(0, "External IPs", ",".join(spec.externalIPs))
    if spec.loadBalancerIP:
        page.field(0, "Desired LoadBalancer IP", spec.loadBalancerIP)
    balanced = service.status.loadBalancer.ingress if service.status.loadBalancer is not None else []
    if balanced:
        page.field(0, "LoadBalancer Ingress", ", ".join(map(_ingress, balanced)))
    if spec.externalName:
        page.field(0, "External Name", spec.externalName)
    for port in spec.ports:
        name, protocol = port.name or "<unset>", port.protocol or "TCP"
        page.line(0, "Port:", name, f"{port.port}/{protocol}")
        page.field(0, "TargetPort", f"{port.port if port.targetPort is None else port.targetPort}/{protocol}")
        if port.nodePort:
            page.line(0, "NodePort:", name, f"{port.nodePort}/{protocol}")
        page.field(0, "Endpoints", endpoints_text(slices, port.name))
    page.field(0, "Session Affinity", spec.sessionAffinity or "None")
    if spec.externalTrafficPolicy:
        page.field(0, "External Traffic Policy", spec.externalTrafficPolicy)
    if spec.internalTrafficPolicy:
        page.field(0, "Internal Traffic Policy", spec.internalTrafficPolicy)
    if spec.trafficDistribution:
        page.field(0, "Traffic Distribution", spec.trafficDistribution)
    if spec.healthCheckNodePort:
        page.field(0, "HealthCheck NodePort", spec.healthCheckNodePort)


def _ingress(ingress: Any) -> str:
    mode = f" ({ingress.ipMode})" if ingress.ipMode else ""
    return f"{ingress.ip}{mode}" if ingress.ip else str(ingress.hostname)


def endpoints_text(slices: Sequence[Any], port_name: str) -> str:
    """`10.244.0.2:8080,10.244.0.3:8080`: the ready endpoints behind one port of a service."""
    found = [
        f"[{address}]:{port.port}" if ":" in address else f"{address}:{port.port}"
        for each in slices
        for port in each.ports
        if (port.name or "") == port_name
        for endpoint in each.endpoints
        if endpoint.conditions is None or endpoint.conditions.ready is not False
        for address in endpoint.addresses
    ]
    more = f" + {len(found) - ENDPOINTS_SHOWN} more..." if len(found) > ENDPOINTS_SHOWN else ""
    return ",".join(found[:ENDPOINTS_SHOWN]) + more


def describe_endpoints(page: Page, endpoints: Any, _: Sequence[Any]) -> None:
    """An Endpoints object, every address in full."""
    heading(page, endpoints)
    page.line(0, "Subsets:")
    for subset in endpoints.subsets:
        page.field(1, "Addresses", ",".join(address.ip for address in subset.addresses) or "<none>")
        page.field(1, "NotReadyAddresses", ",".join(address.ip for address in subset.notReadyAddresses) or "<none>")
        rows = [[port.name or "<unset>", str(port.port), port.protocol] for port in subset.ports]
        if rows:
            page.table(1, "Ports", ("Name", "Port", "Protocol"), rows, ruled=True)
        page.line(0)


def describe_endpoint_slice(page: Page, endpoint_slice: Any, _: Sequence[Any]) -> None:
    """An endpoint slice, every endpoint in full."""
    heading(page, endpoint_slice)
    page.field(0, "AddressType", endpoint_slice.addressType)
    ports = [[p.name or "<unset>", str(p.port or "<unset>"), p.protocol] for p in endpoint_slice.ports]
    if ports:
        page.table(0, "Ports", ("Name", "Port", "Protocol"), ports, ruled=True)
    else:
        page.field(0, "Ports", "<unset>")
    if not endpoint_slice.endpoints:
        page.field(0, "Endpoints", "<none>")
        return
    page.line(0, "Endpoints:")
    for endpoint in endpoint_slice.endpoints:
        page.line(1, "- Addresses:", ", ".join(endpoint.addresses))
        page.line(2, "Conditions:")
        conditions = endpoint.conditions
        for name in ("ready", "serving", "terminating"):
            value = getattr(conditions, name) if conditions is not None else None
            if value is not None or name == "ready":
                page.field(3, name.capitalize(), "<unset>" if value is None else str(value).lower())
        page.field(2, "Hostname", endpoint.hostname or "<unset>")
        if endpoint.targetRef is not None:
            page.field(2, "TargetRef", f"{endpoint.targetRef.kind}/{endpoint.targetRef.name}")
        page.field(2, "NodeName", endpoint.nodeName or "<unset>")
        page.field(2, "Zone", endpoint.zone or "<unset>")
