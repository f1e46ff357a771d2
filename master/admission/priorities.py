"""The priority of a new pod: Kubernetes' admission `Priority`, for the two classes that every cluster has."""

from __future__ import annotations

from barque.api.errors import refused
from barque.api.types.core_v1 import Pod
from barque.api.validation.priorities import SYSTEM_CLASSES


def admit_priority(pod: Pod) -> None:
    """Give the pod its class's value. Raises 403 where it names another value itself."""
    spec = pod.spec
    value = SYSTEM_CLASSES.get(spec.priorityClassName, 0)
    if spec.priority not in (None, value):
        why = (
            f"the integer value of priority ({spec.priority}) must not be provided in pod spec; "
            f"priority admission controller computed {value} from the given PriorityClass name"
        )
        raise refused("pods", "", pod.metadata.name, why)
    if spec.priorityClassName:
        spec.priority = value
