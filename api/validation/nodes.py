"""Validation of Node."""

from __future__ import annotations

from barque.api import addresses
from barque.api.errors import FieldError, forbidden, invalid
from barque.api.types.core_v1 import Node
from barque.api.validation.checks import amounts


def check(node: Node) -> list[FieldError]:
    faults = []
    for index, cidr in enumerate(node.spec.podCIDRs):
        try:
            addresses.network(cidr)
        except ValueError:
            faults.append(invalid(f"spec.podCIDRs[{index}]", cidr, "must be a valid CIDR, such as 10.244.1.0/24"))
    if node.spec.podCIDRs and node.spec.podCIDR != node.spec.podCIDRs[0]:
        faults.append(invalid("spec.podCIDRs[0]", node.spec.podCIDRs[0], "must equal podCIDR"))
    return [*faults, *check_status(node)]


def check_update(new: Node, old: Node) -> list[FieldError]:
    return [
        forbidden(f"spec.{name}", f'node updates may not change {name} except from "" to valid')
        for name in ("podCIDR", "providerID")
        if getattr(old.spec, name) and getattr(new.spec, name) != getattr(old.spec, name)
    ]


def check_status(node: Node) -> list[FieldError]:
    return [
        *amounts("status.capacity", node.status.capacity),
        *amounts("status.allocatable", node.status.allocatable),
    ]
