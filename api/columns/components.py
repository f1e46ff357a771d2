"""Table of ComponentStatus."""

from __future__ import annotations

import datetime

from barque.api.columns.table import NAME, Cell, Table, column
from barque.api.types.core_v1 import ComponentStatus


def _component(component: ComponentStatus, _: datetime.datetime) -> list[Cell]:
    healthy = next((condition for condition in component.conditions if condition.type == "Healthy"), None)
    if healthy is None:
        return [component.metadata.name, "Unknown", "", ""]
    status = "Healthy" if healthy.status == "True" else "Unhealthy"
    return [component.metadata.name, status, healthy.message, healthy.error]


TABLES = {
    "ComponentStatus": Table(
        (
            NAME,
            column("Status", "Whether the part of the master is well."),
            column("Message", "What it says of itself."),
            column("Error", "What is wrong with it."),
        ),
        _component,
    )
}
