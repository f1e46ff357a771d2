"""Validation of PriorityClass."""

from __future__ import annotations

from barque.api.errors import FieldError, forbidden
from barque.api.types.scheduling_v1 import PriorityClass
from barque.api.validation.checks import immutable
from barque.api.validation.choices import choice_if_set

# Above it are only the classes of the cluster's own pods.
HIGHEST_OF_USERS = 1_000_000_000
SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_SYSTEM_PREFIX = "system-"
_RESERVED = "priority class names with 'system-' prefix are reserved for system use only. error: "


def check(priority_class: PriorityClass) -> list[FieldError]:
    name, value = priority_class.metadata.name, priority_class.value or 0
    faults = []
    if name.startswith(_SYSTEM_PREFIX):
        why = _why_not_system(name, value, bool(priority_class.globalDefault))
        faults += [forbidden("metadata.name", _RESERVED + why)] if why else []
    elif value > HIGHEST_OF_USERS:
        why = f"maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}"
        faults.append(forbidden("value", why))
    policies = ("Never", "PreemptLowerPriority")
    return [*faults, *choice_if_set("preemptionPolicy", priority_class.preemptionPolicy, policies)]


def check_update(new: PriorityClass, old: PriorityClass) -> list[FieldError]:
    """Pods have taken their priority from the class as it was."""
    faults = [] if new.value == old.value else [forbidden("value", "may not be changed in an update.")]
    return [*faults, *immutable("preemptionPolicy", new.preemptionPolicy, old.preemptionPolicy)]


def _why_not_system(name: str, value: int, is_default: bool) -> str:
    known = SYSTEM_CLASSES.get(name)
    if known is None:
        return f"{name} is not a known system priority class"
    if value != known:
        return f"value of {name} PriorityClass must be {known}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""
