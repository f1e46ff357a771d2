"""Defaults of Node."""

from __future__ import annotations

from barque.api.defaults.amounts import canonicalise
from barque.api.types.core_v1 import Node


def default_node(node: Node) -> None:
    if not node.status.allocatable:
        node.status.allocatable = dict(node.status.capacity)
    canonicalise(node.status.capacity)
    canonicalise(node.status.allocatable)
    if node.spec.podCIDR and not node.spec.podCIDRs:
        node.spec.podCIDRs = [node.spec.podCIDR]
    elif node.spec.podCIDRs and not node.spec.podCIDR:
        node.spec.podCIDR = node.spec.podCIDRs[0]
