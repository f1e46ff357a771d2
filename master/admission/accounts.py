"""Who a pod is towards the cluster: its service account, and the volume that shows it the account's token.

Follows Kubernetes' ServiceAccount admission and its names: the account must exist, lends its pull secrets to a pod
that names none, and is mounted where neither the pod nor the account forbids it and no mount of the pod's own is there.
"""

from __future__ import annotations

from functools import lru_cache
from random import Random

from barque.api.errors import ApiError, refused
from barque.api.types.core_v1 import (
    ConfigMapProjection,
    Container,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    KeyToPath,
    ObjectFieldSelector,
    Pod,
    ProjectedVolumeSource,
    ServiceAccount,
    ServiceAccountTokenProjection,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from barque.api.validation.pod_annotations import MIRROR
from barque.master.apiserver.metadata import generated_name
from barque.master.store.port import Key

DEFAULT = "default"
ROOT_CA = "kube-root-ca.crt"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
# An hour and a little: what Kubernetes asks for, by which its own tokens are told from those asked for by hand.
TOKEN_S = 3607
_FILE_MODE = 0o644
# Names of volumes that are kept: most clusters have no more accounts that pods run as.
_KEPT = 1024


def key(namespace: str, name: str) -> Key:
    return Key("serviceaccounts", namespace, name)


def name_account(pod: Pod) -> str:
    """The name of the pod's account, the default one where it names none; "" for a mirror pod, which has none.

    Raises 403.
    """
    spec = pod.spec
    if MIRROR in pod.metadata.annotations:
        if spec.serviceAccountName:
            raise _refused(pod, "a mirror pod may not reference service accounts")
        return ""
    spec.serviceAccountName = spec.serviceAccount = spec.serviceAccountName or DEFAULT
    return spec.serviceAccountName


def missing(pod: Pod, why: ApiError) -> ApiError:
    """403: the pod's account is not there."""
    account = f"{pod.metadata.namespace}/{pod.spec.serviceAccountName}"
    return _refused(pod, f"error looking up service account {account}: {why.message}")


def admit_account(pod: Pod, account: ServiceAccount) -> None:
    """Give the pod what its account lends it."""
    spec = pod.spec
    if not spec.imagePullSecrets:
        spec.imagePullSecrets = list(account.imagePullSecrets)
    asked = spec.automountServiceAccountToken
    if asked is None:
        asked = account.automountServiceAccountToken
    if asked is not False:
        _mount_token(pod, account.metadata.name)


def _mount_token(pod: Pod, account: str) -> None:
    spec = pod.spec
    without = [c for c in (*spec.initContainers, *spec.containers) if not _has_mount(c)]
    if not without:
        return
    name = next((v.name for v in spec.volumes if v.name.startswith(VOLUME_PREFIX)), "")
    if not name:
        name = _volume_name(account)
        spec.volumes.append(Volume(name=name, projected=_access()))
    for container in without:
        container.volumeMounts.append(VolumeMount(name=name, mountPath=MOUNT_PATH, readOnly=True))


@lru_cache(_KEPT)
def _volume_name(account: str) -> str:
    """Of the account alone: the replicas of a workload then have the same spec, byte for byte."""
    return generated_name(VOLUME_PREFIX, Random(account))


def _has_mount(container: Container) -> bool:
    return any(mount.mountPath == MOUNT_PATH for mount in container.volumeMounts)


def _access() -> ProjectedVolumeSource:
    """All that a client inside the pod needs to reach the API and be known there."""
    namespace = DownwardAPIVolumeFile(
        path="namespace", fieldRef=ObjectFieldSelector(apiVersion="v1", fieldPath="metadata.namespace")
    )
    return ProjectedVolumeSource(
        defaultMode=_FILE_MODE,
        sources=[
            VolumeProjection(
                serviceAccountToken=ServiceAccountTokenProjection(path="token", expirationSeconds=TOKEN_S)
            ),
            VolumeProjection(
                configMap=ConfigMapProjection(name=ROOT_CA, items=[KeyToPath(key="ca.crt", path="ca.crt")])
            ),
            VolumeProjection(downwardAPI=DownwardAPIProjection(items=[namespace])),
        ],
    )


def _refused(pod: Pod, why: str) -> ApiError:
    return refused("pods", "", pod.metadata.name, why)
