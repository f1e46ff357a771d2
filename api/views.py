"""Views: what caches keep of kinds of which there are tens of thousands.

A view names the fields that its readers need, under the same names as in the kind; the rest is skipped while decoding.
It has tuples where the kind has lists, for most lists of an object are empty and each would be one more object for
Python's garbage collector to visit. A view is read, never written back: whoever changes an object sends a patch.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from barque.api.types.base import Object, Quantity
from barque.api.types.core_v1 import (
    ContainerPort,
    Node,
    NodeAddress,
    NodeAffinity,
    NodeCondition,
    Pod,
    PodCondition,
    PodSchedulingGate,
    Toleration,
)
from barque.api.types.meta_v1 import OwnerReference


class MetaView(Object):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    creationTimestamp: str = ""
    deletionTimestamp: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    ownerReferences: tuple[OwnerReference, ...] = ()


class RequestsView(Object):
    requests: dict[str, Quantity] = field(default_factory=dict)


class AffinityView(Object):
    nodeAffinity: NodeAffinity | None = None


class ContainerView(Object):
    name: str = ""
    image: str = ""
    ports: tuple[ContainerPort, ...] = ()
    resources: RequestsView | None = None
    restartPolicy: str = ""


class PodSpecView(Object):
    nodeName: str = ""
    hostname: str = ""
    subdomain: str = ""
    schedulerName: str = ""
    schedulingGates: tuple[PodSchedulingGate, ...] = ()
    priority: int | None = None
    nodeSelector: dict[str, str] = field(default_factory=dict)
    affinity: AffinityView | None = None
    tolerations: tuple[Toleration, ...] = ()
    overhead: dict[str, Quantity] = field(default_factory=dict)
    resources: RequestsView | None = None
    containers: tuple[ContainerView, ...] = ()
    initContainers: tuple[ContainerView, ...] = ()


class ContainerStatusView(Object):
    restartCount: int = 0
    name: str = ""
    allocatedResources: dict[str, Quantity] = field(default_factory=dict)


class PodStatusView(Object):
    phase: str = ""
    podIP: str = ""
    conditions: tuple[PodCondition, ...] = ()
    containerStatuses: tuple[ContainerStatusView, ...] = ()


class PodView(Object):
    """What controllers and the scheduler read of a pod."""

    VIEWED: ClassVar[type[Object]] = Pod

    apiVersion: ClassVar[str] = "v1"
    kind: ClassVar[str] = "Pod"
    metadata: MetaView = field(default_factory=MetaView)
    spec: PodSpecView = field(default_factory=PodSpecView)
    status: PodStatusView = field(default_factory=PodStatusView)


class NodeSpecView(Object):
    podCIDR: str = ""


class NodeStatusView(Object):
    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()


class NodeView(Object):
    """What every worker reads of every other node."""

    VIEWED: ClassVar[type[Object]] = Node

    apiVersion: ClassVar[str] = "v1"
    kind: ClassVar[str] = "Node"
    metadata: MetaView = field(default_factory=MetaView)
    spec: NodeSpecView = field(default_factory=NodeSpecView)
    status: NodeStatusView = field(default_factory=NodeStatusView)


def viewed(kind: type[Object]) -> type[Object]:
    """The kind that a view is of; any other kind is its own."""
    found: type[Object] = getattr(kind, "VIEWED", kind)
    return found
