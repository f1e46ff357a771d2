"""Validation of a pod's volumes: their names, that each has one source, and which claims the pod itself makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from barque.api import names
from barque.api.errors import FieldError, duplicate, forbidden, invalid, required
from barque.api.types.core_v1 import PodSpec, Volume
from barque.api.validation import projections as files
from barque.api.validation import volume_sources as sources
from barque.api.validation.checks import spelt
from barque.api.validation.claim_templates import check_ephemeral

_SourceCheck = Callable[[Any, str], list[FieldError]]

# In Kubernetes' order: the first source given is the volume's, any other is one too many.
_SOURCES: dict[str, _SourceCheck] = {
    "emptyDir": sources.check_empty_dir,
    "hostPath": sources.check_host_path,
    "gitRepo": sources.check_git_repo,
    "gcePersistentDisk": sources.check_gce_disk,
    "awsElasticBlockStore": sources.check_aws_store,
    "secret": files.check_secret,
    "nfs": sources.check_nfs,
    "iscsi": sources.check_iscsi,
    "glusterfs": sources.check_glusterfs,
    "flocker": sources.check_flocker,
    "persistentVolumeClaim": sources.check_claim,
    "rbd": sources.check_rbd,
    "cinder": sources.check_cinder,
    "cephfs": sources.check_cephfs,
    "quobyte": sources.check_quobyte,
    "downwardAPI": files.check_downward_api,
    "fc": sources.check_fc,
    "flexVolume": sources.check_flex,
    "configMap": files.check_config_map,
    "azureFile": sources.check_azure_file,
    "vsphereVolume": sources.check_vsphere,
    "photonPersistentDisk": sources.check_photon,
    "portworxVolume": sources.check_portworx,
    "azureDisk": sources.check_azure_disk,
    "storageos": sources.check_storageos,
    "projected": files.check_projected,
    "scaleIO": sources.check_scale_io,
    "csi": sources.check_csi,
    "ephemeral": check_ephemeral,
    "image": sources.check_image,
}
_ISCSI_DEVICE_CHARACTERS = 64


def check_volumes(spec: PodSpec, pod_name: str, path: str) -> list[FieldError]:
    """All volumes of a pod; `pod_name` is "" for a template, whose pods have no names yet."""
    faults: list[FieldError] = []
    seen: set[str] = set()
    own_claims = {f"{pod_name}-{v.name}" for v in spec.volumes if v.ephemeral is not None} if pod_name else set()
    for index, volume in enumerate(spec.volumes):
        below = f"{path}[{index}]"
        faults += _check_source(volume, pod_name, below)
        faults += (
            spelt(f"{below}.name", volume.name, names.dns1123_label) if volume.name else [required(f"{below}.name")]
        )
        if volume.name and volume.name in seen:
            faults.append(duplicate(f"{below}.name", volume.name))
        seen.add(volume.name)
        if volume.persistentVolumeClaim is not None and volume.persistentVolumeClaim.claimName in own_claims:
            why = "must not reference a PVC that gets created for an ephemeral volume"
            claim = volume.persistentVolumeClaim.claimName
            faults.append(invalid(f"{below}.persistentVolumeClaim.claimName", claim, why))
    return faults


def _check_source(volume: Volume, pod_name: str, path: str) -> list[FieldError]:
    given = [name for name in _SOURCES if getattr(volume, name) is not None]
    if not given:
        return [required(path, "must specify a volume type")]
    first = given[0]
    faults = _SOURCES[first](getattr(volume, first), f"{path}.{first}")
    faults += [forbidden(f"{path}.{name}", "may not specify more than 1 volume type") for name in given[1:]]
    portal = volume.iscsi.targetPortal if volume.iscsi is not None and volume.iscsi.initiatorName else ""
    if portal and len(f"{volume.name}:{portal}") > _ISCSI_DEVICE_CHARACTERS:
        why = (
            f"Total length of <volume name>:<iscsi.targetPortal> must be under {_ISCSI_DEVICE_CHARACTERS} "
            "characters if iscsi.initiatorName is specified."
        )
        faults.append(invalid(f"{path}.name", volume.name, why))
    if first == "ephemeral" and pod_name and volume.name:
        claim = f"{pod_name}-{volume.name}"
        for wrong in names.dns1123_subdomain(claim):
            faults.append(invalid(f"{path}.name", volume.name, f'PVC name "{claim}": {wrong}'))
    return faults
