"""The tables of `get`: for each resource its columns, for each object its cells, as kubectl prints them.

In: an object and the moment `now`. Out: text, one cell per column, wide ones included.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, NamedTuple

from barque.api.columns import config, events, networking, nodes, pods, workloads
from barque.api.columns.age import age, human_duration
from barque.api.resources import Resource
from barque.api.types import apps_v1, core_v1, discovery_v1
from barque.api.types.base import Object

__all__ = ["Column", "age", "cells", "columns", "human_duration"]


class Column(NamedTuple):
    """A table's column; `wide` ones show only with `-o wide`."""

    name: str
    wide: bool = False


class _Table(NamedTuple):
    columns: tuple[Column, ...]
    cells: Callable[[Any, datetime.datetime], list[str]]


def _table(heading: str, cells: Callable[[Any, datetime.datetime], list[str]]) -> _Table:
    """`heading` names the columns, separated by bars; the wide ones begin with a plus."""
    names = [name.strip() for name in heading.split("|")]
    return _Table(tuple(Column(name.removeprefix("+"), name.startswith("+")) for name in names), cells)


_WORKLOAD_WIDE = "+CONTAINERS | +IMAGES | +SELECTOR"
_TABLES: dict[type[Object], _Table] = {
    core_v1.Namespace: _table("NAME | STATUS | AGE", config.namespace_cells),
    core_v1.ConfigMap: _table("NAME | DATA | AGE", config.config_map_cells),
    core_v1.Secret: _table("NAME | TYPE | DATA | AGE", config.secret_cells),
    core_v1.Node: _table(
        "NAME | STATUS | ROLES | AGE | VERSION | +INTERNAL-IP | +EXTERNAL-IP | +OS-IMAGE | +KERNEL-VERSION | "
        "+CONTAINER-RUNTIME",
        nodes.node_cells,
    ),
    core_v1.Pod: _table(
        "NAME | READY | STATUS | RESTARTS | AGE | +IP | +NODE | +NOMINATED NODE | +READINESS GATES", pods.pod_cells
    ),
    core_v1.Service: _table(
        "NAME | TYPE | CLUSTER-IP | EXTERNAL-IP | PORT(S) | AGE | +SELECTOR", networking.service_cells
    ),
    core_v1.Event: _table(
        "LAST SEEN | TYPE | REASON | OBJECT | +SUBOBJECT | +SOURCE | MESSAGE | +FIRST SEEN | +COUNT | +NAME",
        events.event_cells,
    ),
    discovery_v1.EndpointSlice: _table("NAME | ADDRESSTYPE | PORTS | ENDPOINTS | AGE", networking.endpoint_slice_cells),
    apps_v1.ReplicaSet: _table(
        f"NAME | DESIRED | CURRENT | READY | AGE | {_WORKLOAD_WIDE}", workloads.replica_set_cells
    ),
    apps_v1.Deployment: _table(
        f"NAME | READY | UP-TO-DATE | AVAILABLE | AGE | {_WORKLOAD_WIDE}", workloads.deployment_cells
    ),
}


def columns(resource: Resource) -> tuple[Column, ...]:
    """The columns of a resource's table, in order."""
    return _TABLES[resource.type].columns


def cells(obj: Object, now: datetime.datetime) -> list[str]:
    """The object's row, one cell for each of `columns`."""
    return _TABLES[type(obj)].cells(obj, now)
