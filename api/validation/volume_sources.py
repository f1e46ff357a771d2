"""Validation of the sources a volume can have, but those made of the cluster's own objects (`projections`)."""

from __future__ import annotations

import re

from barque.api import names, quantity
from barque.api.errors import FieldError, forbidden, invalid, not_supported, required, too_long
from barque.api.types import core_v1 as v1
from barque.api.types.base import Object
from barque.api.validation.checks import spelt
from barque.api.validation.choices import choice, choice_if_set, descending, no_backsteps, within

_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MAX_LUN = 255
_MAX_PARTITION = 255
_MAX_DRIVER_NAME = 63
_MAX_TENANT = 64

_HOST_AND_PORT = "must be a host:port pair or multiple pairs separated by commas"
_is_host_and_port = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*):[^:\[\]]*").fullmatch

_ISCSI_NAMES = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.[A-Za-z0-9.-]+:[^,;*&$|\s]+\Z", re.ASCII).search,
    "eui": re.compile(r"eui.[A-Za-z0-9]{16}", re.ASCII).fullmatch,
    "naa": re.compile(r"naa.[A-Za-z0-9]{32}", re.ASCII).fullmatch,
}

_AZURE_CACHING = ("None", "ReadOnly", "ReadWrite")
_AZURE_KINDS = ("Dedicated", "Managed", "Shared")
_AZURE_MANAGED_DISK = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_AZURE_BLOB = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def check_empty_dir(source: v1.EmptyDirVolumeSource, path: str) -> list[FieldError]:
    if source.sizeLimit is None:
        return []
    try:
        negative = quantity.parse(source.sizeLimit) < 0
    except ValueError as error:
        return [invalid(f"{path}.sizeLimit", source.sizeLimit, str(error))]
    return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")] if negative else []


def check_host_path(source: v1.HostPathVolumeSource, path: str) -> list[FieldError]:
    if not source.path:
        return [required(f"{path}.path")]
    faults = no_backsteps(f"{path}.path", source.path)
    kind = source.type or ""
    return (
        faults if kind in _HOST_PATH_TYPES else [*faults, not_supported(f"{path}.type", kind, list(_HOST_PATH_TYPES))]
    )


def check_git_repo(source: v1.GitRepoVolumeSource, path: str) -> list[FieldError]:
    return [*_require(source, path, "repository"), *descending(f"{path}.directory", source.directory)]


def check_gce_disk(source: v1.GCEPersistentDiskVolumeSource, path: str) -> list[FieldError]:
    return [*_require(source, path, "pdName"), *_check_partition(source.partition, path)]


def check_aws_store(source: v1.AWSElasticBlockStoreVolumeSource, path: str) -> list[FieldError]:
    return [*_require(source, path, "volumeID"), *_check_partition(source.partition, path)]


def check_nfs(source: v1.NFSVolumeSource, path: str) -> list[FieldError]:
    faults = _require(source, path, "server", "path")
    if source.path and not source.path.startswith("/"):
        faults.append(invalid(f"{path}.path", source.path, "must be an absolute path"))
    return faults


def check_iscsi(source: v1.ISCSIVolumeSource, path: str) -> list[FieldError]:
    faults = _require(source, path, "targetPortal", "iqn")
    if source.iqn:
        faults += _check_iscsi_name(source.iqn, f"{path}.iqn")
    faults += within(f"{path}.lun", source.lun, 0, _MAX_LUN)
    if (source.chapAuthDiscovery or source.chapAuthSession) and source.secretRef is None:
        faults.append(required(f"{path}.secretRef"))
    if source.initiatorName:
        faults += _check_iscsi_name(source.initiatorName, f"{path}.initiatorName")
    return faults


def check_glusterfs(source: v1.GlusterfsVolumeSource, path: str) -> list[FieldError]:
    return _require(source, path, "endpoints", "path")


def check_flocker(source: v1.FlockerVolumeSource, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if not source.datasetName and not source.datasetUUID:
        faults.append(required(path, "one of datasetName and datasetUUID is required"))
    elif source.datasetName and source.datasetUUID:
        why = "datasetName and datasetUUID can not be specified simultaneously"
        faults.append(invalid(path, "resource", why))
    if "/" in source.datasetName:
        faults.append(invalid(f"{path}.datasetName", source.datasetName, "must not contain '/'"))
    return faults


def check_claim(source: v1.PersistentVolumeClaimVolumeSource, path: str) -> list[FieldError]:
    return _require(source, path, "claimName")


def check_rbd(source: v1.RBDVolumeSource, path: str) -> list[FieldError]:
    return _require(source, path, "monitors", "image")


def check_cinder(source: v1.CinderVolumeSource, path: str) -> list[FieldError]:
    return [*_require(source, path, "volumeID"), *_check_secret_ref(source.secretRef, f"{path}.secretRef")]


def check_cephfs(source: v1.CephFSVolumeSource, path: str) -> list[FieldError]:
    return _require(source, path, "monitors")


def check_quobyte(source: v1.QuobyteVolumeSource, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if not source.registry:
        faults.append(required(f"{path}.registry", _HOST_AND_PORT))
    elif len(source.tenant) > _MAX_TENANT:
        why = f"must be a UUID and may not exceed a length of {_MAX_TENANT} characters"
        faults.append(required(f"{path}.tenant", why))
    elif not all(_is_host_and_port(pair) for pair in source.registry.split(",")):
        faults.append(invalid(f"{path}.registry", source.registry, _HOST_AND_PORT))
    return [*faults, *_require(source, path, "volume")]


def check_fc(source: v1.FCVolumeSource, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if not source.targetWWNs and not source.wwids:
        faults.append(required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both"))
    elif source.targetWWNs and source.wwids:
        why = "targetWWNs and wwids can not be specified simultaneously"
        faults.append(invalid(f"{path}.targetWWNs", source.targetWWNs, why))
    if source.targetWWNs and source.lun is None:
        faults.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
    elif source.targetWWNs:
        faults += within(f"{path}.lun", source.lun, 0, _MAX_LUN)
    return faults


def check_flex(source: v1.FlexVolumeSource, path: str) -> list[FieldError]:
    faults = _require(source, path, "driver")
    for key in source.options:
        owner = f".{key.partition('/')[0].lower()}"
        if owner.endswith((".kubernetes.io", ".k8s.io")):
            why = "kubernetes.io and k8s.io namespaces are reserved"
            faults.append(invalid(f"{path}.options[{key}]", key, why))
    return faults


def check_azure_file(source: v1.AzureFileVolumeSource, path: str) -> list[FieldError]:
    return _require(source, path, "secretName", "shareName")


def check_vsphere(source: v1.VsphereVirtualDiskVolumeSource, path: str) -> list[FieldError]:
    return _require(source, path, "volumePath")


def check_photon(source: v1.PhotonPersistentDiskVolumeSource, path: str) -> list[FieldError]:
    return _require(source, path, "pdID")


def check_portworx(source: v1.PortworxVolumeSource, path: str) -> list[FieldError]:
    return _require(source, path, "volumeID")


def check_azure_disk(source: v1.AzureDiskVolumeSource, path: str) -> list[FieldError]:
    faults = _require(source, path, "diskName", "diskURI")
    faults += choice_if_set(f"{path}.cachingMode", source.cachingMode, _AZURE_CACHING)
    faults += choice_if_set(f"{path}.kind", source.kind, _AZURE_KINDS)
    if source.diskURI and source.kind == "Managed" and not source.diskURI.startswith("/subscriptions/"):
        faults.append(not_supported(f"{path}.diskURI", source.diskURI, [_AZURE_MANAGED_DISK]))
    elif source.diskURI and source.kind not in ("", "Managed") and not source.diskURI.startswith("https://"):
        faults.append(not_supported(f"{path}.diskURI", source.diskURI, [_AZURE_BLOB]))
    return faults


def check_storageos(source: v1.StorageOSVolumeSource, path: str) -> list[FieldError]:
    faults = _require(source, path, "volumeName")
    for name in ("volumeName", "volumeNamespace"):
        value = getattr(source, name)
        faults += spelt(f"{path}.{name}", value, names.dns1123_label) if value else []
    return [*faults, *_check_secret_ref(source.secretRef, f"{path}.secretRef")]


def check_scale_io(source: v1.ScaleIOVolumeSource, path: str) -> list[FieldError]:
    return _require(source, path, "gateway", "system", "volumeName")


def check_csi(source: v1.CSIVolumeSource, path: str) -> list[FieldError]:
    faults = _require(source, path, "driver")
    if source.driver:
        if len(source.driver) > _MAX_DRIVER_NAME:
            faults.append(too_long(f"{path}.driver", _MAX_DRIVER_NAME))
        wrong = names.dns1123_subdomain(source.driver.lower())
        faults += [invalid(f"{path}.driver", source.driver, fault) for fault in wrong]
    if source.nodePublishSecretRef is not None:
        below = f"{path}.nodePublishSecretRef"
        faults += _check_secret_ref(source.nodePublishSecretRef, below)
        if source.nodePublishSecretRef.name:
            faults += spelt(f"{below}.name", source.nodePublishSecretRef.name, names.dns1123_subdomain)
    return faults


def check_image(source: v1.ImageVolumeSource, path: str) -> list[FieldError]:
    return [*_require(source, path, "reference"), *choice(f"{path}.pullPolicy", source.pullPolicy, _PULL_POLICIES)]


def _require(source: Object, path: str, *fields: str) -> list[FieldError]:
    return [required(f"{path}.{name}") for name in fields if not getattr(source, name)]


def _check_partition(partition: int | None, path: str) -> list[FieldError]:
    """0 is the whole device, though the sentence does not say so."""
    if partition is None or 0 <= partition <= _MAX_PARTITION:
        return []
    return [invalid(f"{path}.partition", partition, f"must be between 1 and {_MAX_PARTITION}, inclusive")]


def _check_secret_ref(reference: v1.LocalObjectReference | None, path: str) -> list[FieldError]:
    return [required(f"{path}.name")] if reference is not None and not reference.name else []


def _check_iscsi_name(name: str, path: str) -> list[FieldError]:
    matches = _ISCSI_NAMES.get(name[:3])
    if matches is None:
        return [invalid(path, name, "must be valid format starting with iqn, eui, or naa")]
    return [] if matches(name) else [invalid(path, name, "must be valid format")]
