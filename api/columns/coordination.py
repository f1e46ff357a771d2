"""Tables of Lease and PriorityClass."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.columns.table import AGE, NAME, Cell, Table, column
from barque.api.types.coordination_v1 import Lease
from barque.api.types.scheduling_v1 import PriorityClass


def _lease(lease: Lease, now: datetime.datetime) -> list[Cell]:
    return [lease.metadata.name, lease.spec.holderIdentity or "", age(lease.metadata.creationTimestamp, now)]


def _priority_class(priority_class: PriorityClass, now: datetime.datetime) -> list[Cell]:
    return [
        priority_class.metadata.name,
        priority_class.value or 0,
        bool(priority_class.globalDefault),
        age(priority_class.metadata.creationTimestamp, now),
        priority_class.preemptionPolicy or "PreemptLowerPriority",
    ]


TABLES = {
    "Lease": Table((NAME, column("Holder", "Who holds the lease."), AGE), _lease),
    "PriorityClass": Table(
        (
            NAME,
            column("Value", "The priority of the class's pods.", "integer"),
            column("Global-Default", "Whether pods without a class are of this one.", "boolean"),
            AGE,
            column("PreemptionPolicy", "Whether the class's pods may take the place of lesser ones."),
        ),
        _priority_class,
    ),
}
