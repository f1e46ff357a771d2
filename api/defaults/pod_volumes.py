"""Defaults of volumes: file modes, token lifetimes, and the drivers' own."""

from __future__ import annotations

from barque.api.defaults.amounts import canonical_or_same, canonicalise
from barque.api.defaults.images import pull_policy
from barque.api.defaults.pod_containers import default_divisor
from barque.api.types.core_v1 import (
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    PersistentVolumeClaimTemplate,
    ProjectedVolumeSource,
    Volume,
)

_FILE_MODE = 0o644
_TOKEN_LIFETIME_S = 3600


def default_volume(volume: Volume) -> None:
    if volume == Volume(name=volume.name):
        volume.emptyDir = EmptyDirVolumeSource()
    for files in (volume.configMap, volume.secret, volume.downwardAPI, volume.projected):
        if files is not None and files.defaultMode is None:
            files.defaultMode = _FILE_MODE
    if volume.downwardAPI is not None:
        _default_downward_files(volume.downwardAPI.items)
    elif volume.projected is not None:
        _default_projected(volume.projected)
    elif volume.emptyDir is not None and volume.emptyDir.sizeLimit is not None:
        volume.emptyDir.sizeLimit = canonical_or_same(volume.emptyDir.sizeLimit)
    elif volume.hostPath is not None:
        volume.hostPath.type = volume.hostPath.type or ""
    elif volume.image is not None:
        volume.image.pullPolicy = volume.image.pullPolicy or pull_policy(volume.image.reference)
    elif volume.ephemeral is not None and volume.ephemeral.volumeClaimTemplate is not None:
        _default_claim(volume.ephemeral.volumeClaimTemplate)
    else:
        _default_driver(volume)


def _default_projected(projected: ProjectedVolumeSource) -> None:
    for source in projected.sources:
        token = source.serviceAccountToken
        if token is not None and token.expirationSeconds is None:
            token.expirationSeconds = _TOKEN_LIFETIME_S
        if source.downwardAPI is not None:
            _default_downward_files(source.downwardAPI.items)


def _default_downward_files(files: list[DownwardAPIVolumeFile]) -> None:
    for file in files:
        if file.fieldRef is not None:
            file.fieldRef.apiVersion = file.fieldRef.apiVersion or "v1"
        if file.resourceFieldRef is not None:
            default_divisor(file.resourceFieldRef)


def _default_claim(template: PersistentVolumeClaimTemplate) -> None:
    spec = template.spec
    if spec is None:
        return
    spec.volumeMode = spec.volumeMode or "Filesystem"
    if spec.resources is not None:
        canonicalise(spec.resources.limits)
        canonicalise(spec.resources.requests)


def _default_driver(volume: Volume) -> None:
    """The settings that the in-tree drivers of old take for granted."""
    if volume.iscsi is not None:
        volume.iscsi.iscsiInterface = volume.iscsi.iscsiInterface or "default"
    elif volume.rbd is not None:
        volume.rbd.pool = volume.rbd.pool or "rbd"
        volume.rbd.user = volume.rbd.user or "admin"
        volume.rbd.keyring = volume.rbd.keyring or "/etc/ceph/keyring"
    elif volume.scaleIO is not None:
        volume.scaleIO.storageMode = volume.scaleIO.storageMode or "ThinProvisioned"
        volume.scaleIO.fsType = volume.scaleIO.fsType or "xfs"
    elif volume.azureDisk is not None:
        disk = volume.azureDisk
        disk.cachingMode = disk.cachingMode or "ReadWrite"
        disk.kind = disk.kind or "Shared"
        disk.fsType = disk.fsType or "ext4"
        disk.readOnly = disk.readOnly or False
