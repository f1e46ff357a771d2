"""What may change of a running pod by its `resize` subresource (KEP-1287): its containers' cpu and memory.

In: the new and the stored pod, both defaulted; the new one differs in nothing but resources. Out: every fault, in
Kubernetes' words.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from barque.api import podstatus
from barque.api.errors import FieldError, forbidden, invalid
from barque.api.types.base import Quantity
from barque.api.types.core_v1 import Container, Pod, ResourceRequirements
from barque.api.validation.pod_annotations import MIRROR

_RESIZABLE = frozenset(("cpu", "memory"))


def check_resize(new: Pod, old: Pod) -> list[FieldError]:
    """A write of the resources alone; what is wrong with the new pod as such is for `pods.check` to say."""
    if MIRROR in old.metadata.annotations:
        return [forbidden("", "static pods cannot be resized")]
    if podstatus.is_terminal(old):
        return [forbidden("", f"cannot resize a pod that has ended: its phase is {old.status.phase}")]
    faults: list[FieldError] = []
    try:
        was, now = podstatus.qos_class(old.spec), podstatus.qos_class(new.spec)
    except ValueError:  # an amount that is none has been named where it stands
        return faults
    if was != now:
        faults.append(invalid("spec", now, "Pod QOS Class may not change as a result of resizing"))
    for name in ("containers", "initContainers"):
        for index, (fresh, former) in enumerate(zip(getattr(new.spec, name), getattr(old.spec, name), strict=True)):
            faults += _check_container(fresh, former, f"spec.{name}[{index}]", sidecars=name == "initContainers")
    return faults


def _check_container(new: Container, old: Container, path: str, *, sidecars: bool) -> list[FieldError]:
    fresh, former = new.resources or ResourceRequirements(), old.resources or ResourceRequirements()
    if fresh == former:
        return []
    if sidecars and not podstatus.is_sidecar(old):
        return [forbidden(f"{path}.resources", "only cpu and memory resources for sidecar containers are mutable")]
    others = _without(fresh) != _without(former)
    faults = [forbidden("spec", "only cpu and memory resources are mutable")] if others else []
    faults += _check_removal(fresh.limits, former.limits, f"{path}.resources.limits", "limits")
    return [*faults, *_check_removal(fresh.requests, former.requests, f"{path}.resources.requests", "requests")]


def _check_removal(new: Mapping[str, Quantity], old: Mapping[str, Quantity], path: str, what: str) -> list[FieldError]:
    gone = [name for name in sorted(_RESIZABLE) if name in old and name not in new]
    return [forbidden(path, f"resource {what} cannot be removed") for _ in gone[:1]]


def _without(resources: ResourceRequirements) -> ResourceRequirements:
    """All but what may change."""
    return msgspec.structs.replace(
        resources,
        limits={name: amount for name, amount in resources.limits.items() if name not in _RESIZABLE},
        requests={name: amount for name, amount in resources.requests.items() if name not in _RESIZABLE},
    )
