"""Types of metrics.k8s.io/v1beta1, written by hand: the group is no part of the published schema data.

Their fields are those of the metrics-server's API (k8s.io/metrics). The objects are made at the moment they are asked
for, and never written.
"""

from __future__ import annotations

from msgspec import field

from barque.api.types import meta_v1
from barque.api.types.base import ListRule, Object, Quantity, always


class ContainerMetrics(Object):
    name: str = always(str)
    usage: dict[str, Quantity] = always(dict)


class NodeMetrics(Object):
    apiVersion: str = field(default_factory=lambda: "metrics.k8s.io/v1beta1")
    kind: str = field(default_factory=lambda: "NodeMetrics")
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    timestamp: str = always(str)
    window: str = always(str)
    usage: dict[str, Quantity] = always(dict)


class NodeMetricsList(Object):
    apiVersion: str = field(default_factory=lambda: "metrics.k8s.io/v1beta1")
    kind: str = field(default_factory=lambda: "NodeMetricsList")
    metadata: meta_v1.ListMeta = field(default_factory=lambda: meta_v1.ListMeta())
    items: list[NodeMetrics] = always(list)


class PodMetrics(Object):
    apiVersion: str = field(default_factory=lambda: "metrics.k8s.io/v1beta1")
    kind: str = field(default_factory=lambda: "PodMetrics")
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    timestamp: str = always(str)
    window: str = always(str)
    containers: list[ContainerMetrics] = always(list)


class PodMetricsList(Object):
    apiVersion: str = field(default_factory=lambda: "metrics.k8s.io/v1beta1")
    kind: str = field(default_factory=lambda: "PodMetricsList")
    metadata: meta_v1.ListMeta = field(default_factory=lambda: meta_v1.ListMeta())
    items: list[PodMetrics] = always(list)


LIST_RULES: dict[tuple[str, str], ListRule] = {}

MAP_TYPES: dict[tuple[str, str], str] = {}
