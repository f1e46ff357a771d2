"""Validation of what a container mounts: volumes as directories, and claims as block devices.

Stricter than Kubernetes in two points that Docker asks for: a mount path is absolute, and has no colon.
"""

from __future__ import annotations

from collections.abc import Mapping

from barque.api.errors import FieldError, forbidden, invalid, not_found_value, not_supported, required
from barque.api.types.core_v1 import Container, EphemeralContainer, Volume, VolumeMount
from barque.api.validation.choices import descending, no_backsteps

_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_READ_ONLY_MODES = ("Disabled", "Enabled", "IfPossible")


def check_mounts(
    container: Container | EphemeralContainer, path: str, volumes: Mapping[str, Volume]
) -> list[FieldError]:
    """`volumes` are those of the pod, by name."""
    faults: list[FieldError] = []
    devices = {device.name for device in container.volumeDevices}
    device_paths = {device.devicePath for device in container.volumeDevices}
    taken: set[str] = set()
    for index, mount in enumerate(container.volumeMounts):
        below = f"{path}[{index}]"
        if not mount.name:
            faults.append(required(f"{below}.name"))
        elif mount.name not in volumes:
            faults.append(not_found_value(f"{below}.name", mount.name))
        if not mount.mountPath:
            faults.append(required(f"{below}.mountPath"))
        elif not mount.mountPath.startswith("/"):
            faults.append(invalid(f"{below}.mountPath", mount.mountPath, "must be an absolute path"))
        elif ":" in mount.mountPath:
            faults.append(invalid(f"{below}.mountPath", mount.mountPath, "must not contain ':'"))
        if mount.mountPath in taken:
            faults.append(invalid(f"{below}.mountPath", mount.mountPath, "must be unique"))
        taken.add(mount.mountPath)
        if mount.name in devices:
            faults.append(invalid(f"{below}.name", mount.name, "must not already exist in volumeDevices"))
        if mount.mountPath in device_paths:
            why = "must not already exist as a path in volumeDevices"
            faults.append(invalid(f"{below}.mountPath", mount.mountPath, why))
        faults += _check_manner(mount, container, below)
    return faults


def check_devices(
    container: Container | EphemeralContainer, path: str, volumes: Mapping[str, Volume]
) -> list[FieldError]:
    faults: list[FieldError] = []
    mounts = {mount.name for mount in container.volumeMounts}
    mount_paths = {mount.mountPath for mount in container.volumeMounts}
    names: set[str] = set()
    paths: set[str] = set()
    for index, device in enumerate(container.volumeDevices):
        at_name, at_path = f"{path}[{index}].name", f"{path}[{index}].devicePath"
        volume = volumes.get(device.name)
        if not device.name:
            faults.append(required(at_name))
        elif volume is None:
            faults.append(not_found_value(at_name, device.name))
        elif volume.persistentVolumeClaim is None and volume.ephemeral is None:
            why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            faults.append(invalid(at_name, device.name, why))
        if device.name and device.name in names:
            faults.append(invalid(at_name, device.name, "must be unique"))
        if not device.devicePath:
            faults.append(required(at_path))
        if device.devicePath in paths:
            faults.append(invalid(at_path, device.devicePath, "must be unique"))
        if no_backsteps(at_path, device.devicePath):
            faults.append(invalid(at_path, device.devicePath, "can not contain backsteps ('..')"))
        if device.name in mounts:
            faults.append(invalid(at_name, device.name, "must not already exist in volumeMounts"))
        if device.devicePath in mount_paths:
            faults.append(invalid(at_path, device.devicePath, "must not already exist as a path in volumeMounts"))
        names.add(device.name)
        paths.add(device.devicePath)
    return faults


def _check_manner(mount: VolumeMount, container: Container | EphemeralContainer, path: str) -> list[FieldError]:
    """How it is mounted: which part, whether later mounts travel, and how deep read-only goes."""
    faults = descending(f"{path}.subPath", mount.subPath) if mount.subPath else []
    if mount.subPathExpr:
        if mount.subPath:
            why = "subPathExpr and subPath are mutually exclusive"
            faults.append(invalid(f"{path}.subPathExpr", mount.subPathExpr, why))
        faults += descending(f"{path}.subPathExpr", mount.subPathExpr)
    if mount.mountPropagation:
        faults += _check_propagation(mount, container, f"{path}.mountPropagation")
    if mount.recursiveReadOnly is not None:
        faults += _check_recursive(mount, mount.recursiveReadOnly, f"{path}.recursiveReadOnly")
    return faults


def _check_propagation(mount: VolumeMount, container: Container | EphemeralContainer, path: str) -> list[FieldError]:
    if mount.mountPropagation not in _PROPAGATIONS:
        return [not_supported(path, mount.mountPropagation, list(_PROPAGATIONS))]
    privileged = container.securityContext is not None and container.securityContext.privileged
    if mount.mountPropagation == "Bidirectional" and not privileged:
        return [forbidden(path, "Bidirectional mount propagation is available only to privileged containers")]
    return []


def _check_recursive(mount: VolumeMount, mode: str, path: str) -> list[FieldError]:
    if mode not in _READ_ONLY_MODES:
        return [not_supported(path, mode, list(_READ_ONLY_MODES))]
    faults: list[FieldError] = []
    if mode == "Disabled":
        return faults
    if not mount.readOnly:
        faults.append(forbidden(path, "may only be specified when readOnly is true"))
    if mount.mountPropagation not in ("", "None"):
        faults.append(forbidden(path, "may only be specified when mountPropagation is None or not specified"))
    return faults
