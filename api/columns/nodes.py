"""Table of Node."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.columns.table import AGE, NAME, Cell, Table, column, wide
from barque.api.columns.words import NONE, UNKNOWN
from barque.api.conditions import find
from barque.api.types.core_v1 import Node, NodeSystemInfo

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"


def _node(node: Node, now: datetime.datetime) -> list[Cell]:
    info = node.status.nodeInfo or NodeSystemInfo()
    return [
        node.metadata.name,
        node_status(node),
        ",".join(_roles(node)) or NONE,
        age(node.metadata.creationTimestamp, now),
        info.kubeletVersion,
        _address(node, "InternalIP"),
        _address(node, "ExternalIP"),
        info.osImage or UNKNOWN,
        info.kernelVersion or UNKNOWN,
        info.containerRuntimeVersion or UNKNOWN,
    ]


def node_status(node: Node) -> str:
    """Ready, NotReady, or Unknown where nobody has said; with SchedulingDisabled where it is cordoned."""
    ready = find(node.status.conditions, "Ready")
    status = "Unknown" if ready is None else "Ready" if ready.status == "True" else "NotReady"
    return f"{status},SchedulingDisabled" if node.spec.unschedulable else status


def _roles(node: Node) -> list[str]:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in node.metadata.labels if key.startswith(_ROLE_PREFIX)}
    roles.add(node.metadata.labels.get(_ROLE_LABEL, ""))
    return sorted(role for role in roles if role)


def _address(node: Node, type: str) -> str:
    return next((address.address for address in node.status.addresses if address.type == type), NONE)


TABLES = {
    "Node": Table(
        (
            NAME,
            column("Status", "Whether the node can run pods, and takes new ones."),
            column("Roles", "What the node is for, by its labels."),
            AGE,
            column("Version", "The version of the node's agent."),
            wide("Internal-IP", "The address by which the cluster reaches the node."),
            wide("External-IP", "The address by which the world reaches the node."),
            wide("OS-Image", "The node's operating system."),
            wide("Kernel-Version", "The version of the node's kernel."),
            wide("Container-Runtime", "What runs the node's containers, and its version."),
        ),
        _node,
    )
}
