"""Conditions of any kind's status: finding and setting them by Kubernetes' convention.

`lastTransitionTime` says when `status` last changed its value, not when something was last written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Condition(Protocol):
    """What PodCondition, NodeCondition, DeploymentCondition and the others share."""

    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str


C = TypeVar("C", bound=Condition)


def find(conditions: Sequence[C], type: str) -> C | None:
    """The condition of this type, or None."""
    return next((condition for condition in conditions if condition.type == type), None)


def is_true(conditions: Sequence[C], type: str) -> bool:
    """Whether the condition of this type is there and True."""
    found = find(conditions, type)
    return found is not None and found.status == "True"


def set_condition(conditions: list[C], new: C) -> bool:
    """Put `new` in, in place; returns whether anything but times changed.

    Where status, reason and message are as before, the list stays as it is, times included. Where only status is as
    before, `lastTransitionTime` is kept.
    """
    for index, old in enumerate(conditions):
        if old.type != new.type:
            continue
        if (old.status, old.reason, old.message) == (new.status, new.reason, new.message):
            return False
        if old.status == new.status and old.lastTransitionTime:
            new.lastTransitionTime = old.lastTransitionTime
        conditions[index] = new
        return True
    conditions.append(new)
    return True
