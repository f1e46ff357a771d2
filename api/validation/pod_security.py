"""Validation of what a pod and its containers may do on their host: users, capabilities, profiles, namespaces, sysctls.

Also what a pod that names its operating system may not ask of the other one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from barque.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required, too_long
from barque.api.types.base import Object
from barque.api.types.core_v1 import (
    AppArmorProfile,
    Container,
    EphemeralContainer,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
    Sysctl,
)
from barque.api.validation.choices import choice_if_set, descending, unix_id
from barque.api.validation.windows import check_options

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_PROC_MOUNTS = ("Default", "Unmasked")
_FS_GROUP_POLICIES = ("Always", "OnRootMismatch")
_GROUPS_POLICIES = ("Merge", "Strict")
_SELINUX_POLICIES = ("MountOption", "Recursive")
_SYSTEMS = ("linux", "windows")
_MAX_PATH_BYTES = 4095

_SYSCTL_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = rf"^({_SYSCTL_SEGMENT}[\./])*{_SYSCTL_SEGMENT}$"
_MAX_SYSCTL_BYTES = 253
# One character of a segment at a time, so that a long name takes no longer than it is.
_is_sysctl = re.compile(r"[a-z0-9]+(?:[-_]+[a-z0-9]+)*(?:[./][a-z0-9]+(?:[-_]+[a-z0-9]+)*)*", re.ASCII).fullmatch
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")

_WINDOWS_CANNOT = "cannot be set for a windows pod"
_NOT_OF_WINDOWS_PODS = ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace")
_NOT_OF_WINDOWS_CONTEXTS = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls", "runAsUser",
    "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy",
)  # fmt: skip
_NOT_OF_WINDOWS_CONTAINERS = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged",
    "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup",
)  # fmt: skip


def each_container(spec: PodSpec, path: str) -> Iterator[tuple[Container | EphemeralContainer, str]]:
    """Every container of the pod with the path to it: the init containers, the containers, the ephemeral ones."""
    for index, container in enumerate(spec.initContainers):
        yield container, f"{path}.initContainers[{index}]"
    for index, container in enumerate(spec.containers):
        yield container, f"{path}.containers[{index}]"
    for index, debugger in enumerate(spec.ephemeralContainers):
        yield debugger, f"{path}.ephemeralContainers[{index}]"


def check_pod_context(context: PodSecurityContext, spec: PodSpec, path: str) -> list[FieldError]:
    faults = unix_id(f"{path}.fsGroup", context.fsGroup)
    faults += unix_id(f"{path}.runAsUser", context.runAsUser)
    faults += unix_id(f"{path}.runAsGroup", context.runAsGroup)
    for index, group in enumerate(context.supplementalGroups):
        faults += unix_id(f"{path}.supplementalGroups[{index}]", group)
    if context.sysctls:
        faults += _check_sysctls(context.sysctls, spec, f"{path}.sysctls")
    faults += choice_if_set(f"{path}.fsGroupChangePolicy", context.fsGroupChangePolicy, _FS_GROUP_POLICIES)
    if context.seccompProfile is not None:
        faults += _check_seccomp(context.seccompProfile, f"{path}.seccompProfile")
    if context.windowsOptions is not None:
        faults += check_options(context.windowsOptions, f"{path}.windowsOptions")
    if context.appArmorProfile is not None:
        faults += _check_app_armor(context.appArmorProfile, f"{path}.appArmorProfile")
    faults += choice_if_set(f"{path}.supplementalGroupsPolicy", context.supplementalGroupsPolicy, _GROUPS_POLICIES)
    faults += choice_if_set(f"{path}.seLinuxChangePolicy", context.seLinuxChangePolicy, _SELINUX_POLICIES)
    return faults


def check_context(context: SecurityContext, path: str, host_users: bool) -> list[FieldError]:
    """A container's own context; `host_users` unless the pod has a user namespace of its own."""
    faults = unix_id(f"{path}.runAsUser", context.runAsUser)
    faults += unix_id(f"{path}.runAsGroup", context.runAsGroup)
    if context.procMount:
        faults += choice_if_set(f"{path}.procMount", context.procMount, _PROC_MOUNTS)
        if host_users and context.procMount == "Unmasked":
            why = "`hostUsers` must be false to use `Unmasked`"
            faults.append(invalid(f"{path}.procMount", context.procMount, why))
    if context.seccompProfile is not None:
        faults += _check_seccomp(context.seccompProfile, f"{path}.seccompProfile")
    if context.allowPrivilegeEscalation is False:
        if context.privileged:
            why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            faults.append(invalid(path, context, why))
        if context.capabilities is not None and "CAP_SYS_ADMIN" in context.capabilities.add:
            why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            faults.append(invalid(path, context, why))
    if context.windowsOptions is not None:
        faults += check_options(context.windowsOptions, f"{path}.windowsOptions")
    if context.appArmorProfile is not None:
        faults += _check_app_armor(context.appArmorProfile, f"{path}.appArmorProfile")
    return faults


def check_namespaces(spec: PodSpec, path: str) -> list[FieldError]:
    """Namespaces shared with the host or among the containers, where they exclude one another."""
    faults: list[FieldError] = []
    if spec.shareProcessNamespace and spec.hostPID:
        why = "ShareProcessNamespace and HostPID cannot both be enabled"
        faults.append(invalid(f"{path}.shareProcessNamespace", spec.shareProcessNamespace, why))
    if spec.hostUsers is not False:
        return faults
    shared = [name for name in ("hostNetwork", "hostPID", "hostIPC") if getattr(spec, name)]
    faults += [forbidden(f"{path}.{name}", "when `hostUsers` is false") for name in shared]
    for container, below in each_container(spec, path):
        if container.volumeDevices:
            faults.append(forbidden(f"{below}.volumeDevices", "when `hostUsers` is false"))
    return faults


def check_os(spec: PodSpec, path: str) -> list[FieldError]:
    """The operating system that the pod names, and what it does not have."""
    if spec.os is None:
        return []
    if not spec.os.name:
        return [required(f"{path}.os.name")]
    if spec.os.name not in _SYSTEMS:
        return [not_supported(f"{path}.os", spec.os.name, list(_SYSTEMS))]
    return _check_linux(spec, path) if spec.os.name == "linux" else _check_windows(spec, path)


def _check_linux(spec: PodSpec, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    why = "windows options cannot be set for a linux pod"
    if spec.securityContext is not None and spec.securityContext.windowsOptions is not None:
        faults.append(forbidden(f"{path}.securityContext.windowsOptions", why))
    for container, below in each_container(spec, path):
        if container.securityContext is not None and container.securityContext.windowsOptions is not None:
            faults.append(forbidden(f"{below}.securityContext.windowsOptions", why))
    return faults


def _check_windows(spec: PodSpec, path: str) -> list[FieldError]:
    faults = _refuse(spec, _NOT_OF_WINDOWS_PODS, path)
    if spec.securityContext is not None:
        faults += _refuse(spec.securityContext, _NOT_OF_WINDOWS_CONTEXTS, f"{path}.securityContext")
    for container, below in each_container(spec, path):
        if container.securityContext is not None:
            faults += _refuse(container.securityContext, _NOT_OF_WINDOWS_CONTAINERS, f"{below}.securityContext")
    return faults


def _refuse(struct: Object, fields: tuple[str, ...], path: str) -> list[FieldError]:
    return [forbidden(f"{path}.{name}", _WINDOWS_CANNOT) for name in fields if _is_set(struct, name)]


def _is_set(struct: Object, name: str) -> bool:
    value = getattr(struct, name)
    if isinstance(value, bool):
        # A host namespace that is not asked for is no request; other flags have three states.
        return value or name not in ("hostPID", "hostIPC")
    return value is not None and value not in ("", [])


def _check_seccomp(profile: SeccompProfile, path: str) -> list[FieldError]:
    if not profile.type:
        faults = [required(f"{path}.type", "type is required when seccompProfile is set")]
    else:
        faults = choice_if_set(f"{path}.type", profile.type, _PROFILES)
    if profile.type != "Localhost":
        if profile.localhostProfile:
            why = "can only be set when seccomp type is Localhost"
            faults.append(invalid(f"{path}.localhostProfile", profile, why))
    elif profile.localhostProfile:
        faults += descending(f"{path}.localhostProfile", profile.localhostProfile)
    else:
        faults.append(required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost"))
    return faults


def _check_app_armor(profile: AppArmorProfile, path: str) -> list[FieldError]:
    below = f"{path}.localhostProfile"
    match profile.type:
        case "Localhost":
            faults: list[FieldError] = []
            if not profile.localhostProfile:
                faults.append(required(below, "must be set when AppArmor type is Localhost"))
            elif profile.localhostProfile != profile.localhostProfile.strip():
                faults.append(invalid(below, profile.localhostProfile, "must not be padded with whitespace"))
            if len(profile.localhostProfile.encode()) > _MAX_PATH_BYTES:
                faults.append(too_long(below, _MAX_PATH_BYTES))
            return faults
        case "RuntimeDefault" | "Unconfined":
            if not profile.localhostProfile:
                return []
            return [invalid(below, profile.localhostProfile, "can only be set when AppArmor type is Localhost")]
        case "":
            return [required(f"{path}.type", "type is required when appArmorProfile is set")]
        case other:
            return [not_supported(f"{path}.type", other, list(_PROFILES))]


def _check_sysctls(sysctls: list[Sysctl], spec: PodSpec, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        below = f"{path}[{index}].name"
        if not sysctl.name:
            faults.append(required(below))
        elif len(sysctl.name) > _MAX_SYSCTL_BYTES or not _is_sysctl(sysctl.name):
            why = f"must have at most {_MAX_SYSCTL_BYTES} characters and match regex {_SYSCTL}"
            faults.append(invalid(below, sysctl.name, why))
        elif sysctl.name in seen:
            faults.append(duplicate(below, sysctl.name))
        seen.add(sysctl.name)
        if spec.hostNetwork and sysctl.name.replace("/", ".").startswith("net."):
            faults.append(invalid(below, sysctl.name, "may not be specified when 'hostNetwork' is true"))
        elif spec.hostIPC and _is_ipc(sysctl.name.replace("/", ".")):
            faults.append(invalid(below, sysctl.name, "may not be specified when 'hostIPC' is true"))
    return faults


def _is_ipc(sysctl: str) -> bool:
    return sysctl == "kernel.sem" or sysctl.startswith(_IPC_SYSCTLS)
