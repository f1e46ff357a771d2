"""Defaults of PriorityClass."""

from __future__ import annotations

from barque.api.types.scheduling_v1 import PriorityClass


def default_priority_class(priority_class: PriorityClass) -> None:
    priority_class.value = priority_class.value or 0
    priority_class.preemptionPolicy = priority_class.preemptionPolicy or "PreemptLowerPriority"
