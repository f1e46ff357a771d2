"""What every new pod is given: its quality-of-service class."""

from __future__ import annotations

from barque.api import podstatus
from barque.api.types.core_v1 import Pod


def admit_pod(pod: Pod) -> None:
    """Say how the pod is ranked when memory runs short. Its amounts must be valid: they are reckoned with."""
    pod.status.qosClass = podstatus.qos_class(pod.spec)
