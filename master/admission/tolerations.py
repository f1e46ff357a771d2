"""How long a pod stays on a node that has fallen silent or is not ready: Kubernetes' `DefaultTolerationSeconds`."""

from __future__ import annotations

from barque.api import taints
from barque.api.types.core_v1 import Pod, Toleration
from barque.master.apiserver.settings import ApiSettings


def admit_tolerations(pod: Pod, settings: ApiSettings) -> None:
    """Give the pod the default where it says nothing of such nodes itself."""
    for key, seconds in (
        (taints.NOT_READY, settings.not_ready_toleration_s),
        (taints.UNREACHABLE, settings.unreachable_toleration_s),
    ):
        if not any(t.key in ("", key) and t.effect in ("", taints.NO_EXECUTE) for t in pod.spec.tolerations):
            added = Toleration(key=key, operator="Exists", effect=taints.NO_EXECUTE, tolerationSeconds=seconds)
            pod.spec.tolerations.append(added)
