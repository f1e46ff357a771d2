"""What every new pod is given: the phase Pending and its quality-of-service class."""

from __future__ import annotations

from barque.api import podstatus
from barque.api.types.core_v1 import Pod, PodStatus


def admit_pod(pod: Pod) -> None:
    """Begin the status: whatever the creator wrote there is the system's to say, not theirs."""
    pod.status = PodStatus(phase="Pending", qosClass=podstatus.qos_class(pod.spec))
