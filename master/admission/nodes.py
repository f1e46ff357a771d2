"""What a node is given: a subnet of the cluster's range, reserved in its own op, and a taint until it is ready."""

from __future__ import annotations

import ipaddress

from barque.api import conditions, taints
from barque.api.errors import ApiError, invalid, invalid_object, refused
from barque.api.types.core_v1 import Node, Taint
from barque.master.admission.claims import NO_CLAIMS, Claims, Held
from barque.master.apiserver.settings import ApiSettings

POD_CIDR = "podcidr/"


def admit_node(node: Node, old: Node | None, held: Held, settings: ApiSettings) -> Claims:
    """Give the node the lowest free subnet, or check the one asked for. Raises 422 or, when none is left, 403."""
    if old is None:
        _taint_unready(node)
    if old is not None and old.spec.podCIDR:
        return NO_CLAIMS
    asked = node.spec.podCIDR or next(iter(node.spec.podCIDRs), "")
    cidr = asked or _lowest_free(held, settings)
    if not cidr:
        why = f"no /{settings.node_cidr_prefix} of the cluster's range {settings.cluster_cidr} is free for another node"
        raise refused("nodes", "", node.metadata.name, why)
    if asked:
        why = _fault(asked, held, settings)
        if why:
            raise invalid_object("Node", "", node.metadata.name, [invalid("spec.podCIDR", asked, why)])
    node.spec.podCIDR, node.spec.podCIDRs = cidr, [cidr]
    reservation = POD_CIDR + cidr
    return Claims((reservation,), (), frozenset() if asked else frozenset((reservation,)))


def _taint_unready(node: Node) -> None:
    """No pod comes to a new node before the node controller has seen it ready (Kubernetes' `TaintNodesByCondition`).

    One that is ready when it registers need not wait for that.
    """
    taint = Taint(key=taints.NOT_READY, effect=taints.NO_SCHEDULE)
    there = any((t.key, t.effect) == (taint.key, taint.effect) for t in node.spec.taints)
    if not there and not conditions.is_true(node.status.conditions, "Ready"):
        node.spec.taints.append(taint)


def carry_over(node: Node, old: Node) -> None:
    """A node keeps its subnet for life, whatever an update says of it."""
    if old.spec.podCIDR:
        node.spec.podCIDR = node.spec.podCIDR or old.spec.podCIDR
        node.spec.podCIDRs = node.spec.podCIDRs or list(old.spec.podCIDRs)


def reservation_taken(node: Node) -> ApiError:
    """422: the subnet the user asked for is held by another node."""
    error = invalid("spec.podCIDR", node.spec.podCIDR, "another node has this subnet")
    return invalid_object("Node", "", node.metadata.name, [error])


def _lowest_free(held: Held, settings: ApiSettings) -> str:
    subnets = settings.cluster_network.subnets(new_prefix=settings.node_cidr_prefix)
    return next((str(subnet) for subnet in subnets if POD_CIDR + str(subnet) not in held.by), "")


def _fault(cidr: str, held: Held, settings: ApiSettings) -> str:
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as wrong:
        return str(wrong)
    if network.prefixlen != settings.node_cidr_prefix or not network.subnet_of(settings.cluster_network):
        return f"must be a /{settings.node_cidr_prefix} of the cluster's range {settings.cluster_cidr}"
    return "another node has this subnet" if held.by_another(POD_CIDR + cidr) else ""
