"""What every new pod is given: its priority, its quality of service, and how long it bears with a node that is lost."""

from __future__ import annotations

from barque.api import podstatus
from barque.api.types.core_v1 import Pod
from barque.master.admission.priorities import admit_priority
from barque.master.admission.tolerations import admit_tolerations
from barque.master.apiserver.settings import ApiSettings


def admit_pod(pod: Pod, settings: ApiSettings) -> None:
    """Say how the pod is ranked when memory runs short. Its amounts must be valid: they are reckoned with."""
    admit_priority(pod)
    admit_tolerations(pod, settings)
    pod.status.qosClass = podstatus.qos_class(pod.spec)
