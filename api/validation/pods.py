"""Validation of pods and of the pod spec in templates."""

from __future__ import annotations

import copy

from barque.api import names
from barque.api.errors import FieldError, duplicate, forbidden, invalid, required
from barque.api.types.core_v1 import Pod, PodSpec, Toleration
from barque.api.validation.checks import not_negative, one_of, spelt, unique
from barque.api.validation.containers import check_container
from barque.api.validation.metadata import check_labels
from barque.api.validation.volumes import check_volume

_PHASES = ("Failed", "Pending", "Running", "Succeeded", "Unknown")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_MUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def check(pod: Pod) -> list[FieldError]:
    return check_spec(pod.spec, "spec")


def check_status(pod: Pod) -> list[FieldError]:
    faults = one_of("status.phase", pod.status.phase, _PHASES) if pod.status.phase else []
    for index, status in enumerate(pod.status.containerStatuses):
        path = f"status.containerStatuses[{index}]"
        faults += not_negative(f"{path}.restartCount", status.restartCount)
        if status.name not in {container.name for container in pod.spec.containers}:
            faults.append(invalid(f"{path}.name", status.name, "is no container of this pod"))
    return faults


def check_spec(spec: PodSpec, path: str) -> list[FieldError]:
    """What is wrong with a pod's spec, at `path` in the object."""
    faults = []
    for index, volume in enumerate(spec.volumes):
        faults += check_volume(volume, f"{path}.volumes[{index}]")
    faults += unique((f"{path}.volumes[{i}].name", volume.name) for i, volume in enumerate(spec.volumes))
    if not spec.containers:
        faults.append(required(f"{path}.containers"))
    volumes = {volume.name for volume in spec.volumes}
    for index, container in enumerate(spec.containers):
        faults += check_container(container, f"{path}.containers[{index}]", volumes)
    faults += unique((f"{path}.containers[{i}].name", container.name) for i, container in enumerate(spec.containers))
    faults += _check_port_names(spec, path)
    faults += one_of(f"{path}.restartPolicy", spec.restartPolicy, ("Always", "Never", "OnFailure"))
    faults += not_negative(f"{path}.terminationGracePeriodSeconds", spec.terminationGracePeriodSeconds)
    faults += check_labels(spec.nodeSelector, f"{path}.nodeSelector")
    if spec.nodeName:
        faults += spelt(f"{path}.nodeName", spec.nodeName, names.dns1123_subdomain)
    faults += spelt(f"{path}.schedulerName", spec.schedulerName, names.dns1123_subdomain)
    for index, toleration in enumerate(spec.tolerations):
        faults += _check_toleration(toleration, f"{path}.tolerations[{index}]")
    return faults


def check_update(new: Pod, old: Pod) -> list[FieldError]:
    """A pod's spec is what runs; little of it may change."""
    if len(new.spec.containers) != len(old.spec.containers):
        return [forbidden("spec.containers", "pod updates may not add or remove containers")]
    if any(toleration not in new.spec.tolerations for toleration in old.spec.tolerations):
        why = "existing toleration can not be modified except its tolerationSeconds"
        return [forbidden("spec.tolerations", why)]
    allowed = copy.deepcopy(old.spec)
    allowed.tolerations = new.spec.tolerations
    for container, wanted in zip(allowed.containers, new.spec.containers, strict=True):
        container.image = wanted.image
    grace_s = old.spec.terminationGracePeriodSeconds
    if grace_s is not None and grace_s < 0 and new.spec.terminationGracePeriodSeconds == 1:
        allowed.terminationGracePeriodSeconds = 1
    return [] if allowed == new.spec else [forbidden("spec", _MUTABLE)]


def _check_port_names(spec: PodSpec, path: str) -> list[FieldError]:
    """Probes and services find ports by name, so within a pod each means one."""
    faults: list[FieldError] = []
    seen: set[str] = set()
    for index, container in enumerate(spec.containers):
        for at, port in enumerate(container.ports):
            if port.name and port.name in seen:
                faults.append(duplicate(f"{path}.containers[{index}].ports[{at}].name", port.name))
            seen.add(port.name)
    return faults


def _check_toleration(toleration: Toleration, path: str) -> list[FieldError]:
    faults = spelt(f"{path}.key", toleration.key, names.qualified_name) if toleration.key else []
    if not toleration.key and toleration.operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        faults.append(invalid(f"{path}.operator", toleration.operator, why))
    if toleration.operator not in ("", "Equal", "Exists"):
        faults += one_of(f"{path}.operator", toleration.operator, ("Equal", "Exists"))
    if toleration.operator == "Exists" and toleration.value:
        faults.append(invalid(f"{path}.value", toleration.value, "value must be empty when `operator` is 'Exists'"))
    if toleration.effect:
        faults += one_of(f"{path}.effect", toleration.effect, _EFFECTS)
    if toleration.tolerationSeconds is not None and toleration.effect != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        faults.append(invalid(f"{path}.effect", toleration.effect, why))
    return faults
