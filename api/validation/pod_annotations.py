"""Validation of annotations that mean something to pods: older homes of fields, and words to the system.

In: the annotations of a pod or of a template, and its spec. What a field of the spec says as well must agree with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from barque.api.errors import FieldError, forbidden, invalid
from barque.api.types.core_v1 import PodSpec, SeccompProfile, Toleration
from barque.api.validation.checks import INT32_MAX
from barque.api.validation.choices import descending
from barque.api.validation.pod_security import each_container
from barque.api.validation.scheduling import check_tolerations

MIRROR = "kubernetes.io/config.mirror"
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_TOLERATIONS = "scheduler.alpha.kubernetes.io/tolerations"
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"

_is_cost = re.compile("-[0-9]{1,19}|0|[1-9][0-9]{0,18}", re.ASCII).fullmatch
_tolerations = msgspec.json.Decoder(list[Toleration])


def check_annotations(annotations: Mapping[str, str], spec: PodSpec, path: str, spec_path: str) -> list[FieldError]:
    """`path` leads to the annotations, `spec_path` to the spec."""
    faults: list[FieldError] = []
    if MIRROR in annotations and not spec.nodeName:
        why = "must set spec.nodeName if mirror pod annotation is set"
        faults.append(invalid(f"{path}[{MIRROR}]", annotations[MIRROR], why))
    if annotations.get(_TOLERATIONS):
        faults += _check_tolerations(annotations[_TOLERATIONS], path)
    cost = annotations.get(_DELETION_COST)
    if cost is not None and not (_is_cost(cost) and -INT32_MAX - 1 <= int(cost) <= INT32_MAX):
        faults.append(invalid(f"{path}[{_DELETION_COST}]", cost, "must be a 32bit integer"))
    containers = {container.name for container, _ in each_container(spec, spec_path)}
    for key, value in annotations.items():
        if key == _SECCOMP_POD or key.startswith(_SECCOMP_CONTAINER):
            faults += _check_seccomp(value, f"{path}.{key}")
        elif key.startswith(APP_ARMOR):
            faults += _check_app_armor(key.removeprefix(APP_ARMOR), value, f"{path}[{key}]", containers)
    return [*faults, *_check_agreement(annotations, spec, spec_path)]


def check_annotations_update(new: Mapping[str, str], old: Mapping[str, str], path: str) -> list[FieldError]:
    """What was decided when the pod was made stays decided."""
    faults: list[FieldError] = []
    for key in sorted({*new, *old}):
        kind = "AppArmor annotations" if key.startswith(APP_ARMOR) else "mirror pod annotation" if key == MIRROR else ""
        if kind and new.get(key) != old.get(key):
            done = "remove or update" if key in old else "add"
            faults.append(forbidden(f"{path}[{key}]", f"may not {done} {kind}"))
    return faults


def _check_tolerations(text: str, path: str) -> list[FieldError]:
    try:
        tolerations = _tolerations.decode(text)
    except msgspec.MsgspecError as error:
        return [invalid(path, _TOLERATIONS, str(error))]
    return check_tolerations(tolerations, f"{path}.{_TOLERATIONS}")


def _check_seccomp(profile: str, path: str) -> list[FieldError]:
    if profile in ("runtime/default", "docker/default", "unconfined"):
        return []
    if profile.startswith("localhost/"):
        return descending(path, profile.removeprefix("localhost/"))
    return [invalid(path, profile, "must be a valid seccomp profile")]


def _check_app_armor(container: str, profile: str, path: str, containers: set[str]) -> list[FieldError]:
    faults = [] if container in containers else [invalid(path, container, "container not found")]
    if profile not in ("", "runtime/default", "unconfined") and not profile.startswith("localhost/"):
        faults.append(invalid(path, profile, f'invalid AppArmor profile name: "{profile}"'))
    return faults


def _check_agreement(annotations: Mapping[str, str], spec: PodSpec, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    of_pod = spec.securityContext
    if of_pod is not None and of_pod.seccompProfile is not None and _SECCOMP_POD in annotations:
        below = f"{path}.securityContext.seccompProfile"
        faults += _compare(annotations[_SECCOMP_POD], of_pod.seccompProfile, below, "seccomp")
    windows = spec.os is not None and spec.os.name == "windows"
    for container, where in each_container(spec, path):
        context = container.securityContext
        seccomp = annotations.get(_SECCOMP_CONTAINER + container.name)
        if seccomp is not None and context is not None and context.seccompProfile is not None:
            below = f"{where}.securityContext.seccompProfile"
            faults += _compare(seccomp, context.seccompProfile, below, "seccomp")
        app_armor = annotations.get(APP_ARMOR + container.name)
        profile = context.appArmorProfile if context is not None else None
        profile = profile or (of_pod.appArmorProfile if of_pod is not None else None)
        if app_armor is not None and profile is not None and not windows:
            said = SeccompProfile(type=profile.type, localhostProfile=profile.localhostProfile)
            faults += _compare(app_armor, said, f"{where}.securityContext.appArmorProfile", "apparmor")
    return faults


def _compare(annotation: str, profile: SeccompProfile, path: str, kind: str) -> list[FieldError]:
    match profile.type:
        case "Unconfined":
            agrees = annotation == "unconfined"
        case "RuntimeDefault":
            agrees = annotation == "runtime/default" or (kind == "seccomp" and annotation == "docker/default")
        case "Localhost":
            agrees = annotation.startswith("localhost/")
            if agrees and annotation.removeprefix("localhost/") != profile.localhostProfile:
                why = f"{kind} profile in annotation and field must match"
                return [forbidden(f"{path}.localhostProfile", why)]
        case _:
            return []
    return [] if agrees else [forbidden(f"{path}.type", f"{kind} type in annotation and field must match")]
