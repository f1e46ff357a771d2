"""Tables of NodeMetrics and PodMetrics, as the metrics-server has them: amounts as they are, a pod's all together."""

from __future__ import annotations

import datetime

from barque.api import quantity
from barque.api.columns.table import NAME, Cell, Table, column
from barque.api.types.metrics_v1beta1 import NodeMetrics, PodMetrics

_RESOURCES = ("cpu", "memory")


def _node(metrics: NodeMetrics, _: datetime.datetime) -> list[Cell]:
    used = [quantity.canonical(metrics.usage.get(resource, "0")) for resource in _RESOURCES]
    return [metrics.metadata.name, *used, metrics.window]


def _pod(metrics: PodMetrics, _: datetime.datetime) -> list[Cell]:
    used = [
        quantity.total(container.usage.get(resource, "0") for container in metrics.containers)
        for resource in _RESOURCES
    ]
    return [metrics.metadata.name, *used, metrics.window]


_COLUMNS = (
    NAME,
    column("Cpu", "How many cores it uses."),
    column("Memory", "How much memory it uses: the working set."),
    column("Window", "Over which time the use of cores is averaged."),
)

TABLES = {"NodeMetrics": Table(_COLUMNS, _node), "PodMetrics": Table(_COLUMNS, _pod)}
