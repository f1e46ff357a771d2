"""The tables of `get`: for each kind its columns, for each object its cells, named and worded as kubectl shows them.

The contract with whoever renders a table (the API server, as metav1.Table):

* `table_columns(resource)` are the metav1.TableColumnDefinitions, in order; those with a priority above 0 are shown
  only with `-o wide`;
* `cells(resource, obj, now)` is one JSON value for each of them, wide ones included: text, whole numbers, truth values;
  times are ages at the moment `now`, such as "5m".

Pure. A kind's table is looked up by its group and name, and its module is imported on first use; a kind without a table
of its own shows name and age, as Kubernetes does.
"""

from __future__ import annotations

import datetime
import importlib
from functools import cache
from typing import Any

from barque.api.columns.age import age, human_duration
from barque.api.columns.table import AGE, NAME, Cell, ColumnDefinition, Table
from barque.api.resources import Resource
from barque.api.types.base import Object

__all__ = ["Cell", "ColumnDefinition", "age", "cells", "human_duration", "table_columns"]

# Which module of this package has the tables of a group's kinds.
_MODULES: dict[str, dict[str, tuple[str, ...]]] = {
    "": {
        "components": ("ComponentStatus",),
        "config": ("ConfigMap", "Namespace", "Secret", "ServiceAccount"),
        "events": ("Event",),
        "networking": ("Endpoints", "Service"),
        "nodes": ("Node",),
        "pods": ("Pod", "PodTemplate"),
        "workloads": ("ReplicationController",),
    },
    "apps": {"workloads": ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")},
    "batch": {"jobs": ("CronJob", "Job")},
    "certificates.k8s.io": {"certificates": ("CertificateSigningRequest",)},
    "coordination.k8s.io": {"coordination": ("Lease",)},
    "discovery.k8s.io": {"networking": ("EndpointSlice",)},
    "metrics.k8s.io": {"usage": ("NodeMetrics", "PodMetrics")},
    "rbac.authorization.k8s.io": {"rbac": ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")},
    "scheduling.k8s.io": {"coordination": ("PriorityClass",)},
}


def table_columns(resource: Resource) -> tuple[ColumnDefinition, ...]:
    """The columns of a resource's table, in order."""
    return _table(resource.stored.group, resource.kind).columns


def cells(resource: Resource, obj: Object, now: datetime.datetime) -> list[Cell]:
    """The row of an object as it is kept, one cell for each of `table_columns`: the same in every version."""
    return _table(resource.stored.group, resource.kind).cells(obj, now)


@cache
def _table(group: str, kind: str) -> Table:
    for module, kinds in _MODULES.get(group, {}).items():
        if kind in kinds:
            found: Table = importlib.import_module(f"barque.api.columns.{module}").TABLES[kind]
            return found
    return Table((NAME, AGE), _name_and_age)


def _name_and_age(obj: Any, now: datetime.datetime) -> list[Cell]:
    return [obj.metadata.name, age(obj.metadata.creationTimestamp, now)]
