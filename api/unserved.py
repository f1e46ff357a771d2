"""The kinds of Kubernetes v1.36 that Barque knows and does not serve yet.

A manifest of one of these is refused in a sentence of its own, apart from a misspelt or retired kind. A row leaves this
table for `barque.api.resources` on the day its behaviour exists.
"""

from __future__ import annotations

from typing import NamedTuple


class Unserved(NamedTuple):
    """One known kind; `short_names` as kubectl has them."""

    group: str
    version: str
    kind: str
    plural: str
    short_names: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


# Kinds by group and version; after the kind stand the plural, where it is not the kind's with an "s", and short names.
_KINDS = {
    "v1": """
        LimitRange limitranges limits,
        PersistentVolume persistentvolumes pv, PersistentVolumeClaim persistentvolumeclaims pvc,
        ReplicationController replicationcontrollers rc, ResourceQuota resourcequotas quota""",
    "admissionregistration.k8s.io/v1": """
        MutatingAdmissionPolicy mutatingadmissionpolicies, MutatingAdmissionPolicyBinding,
        MutatingWebhookConfiguration, ValidatingAdmissionPolicy validatingadmissionpolicies,
        ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration""",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition customresourcedefinitions crd crds",
    "apiregistration.k8s.io/v1": "APIService",
    "apps/v1": "ControllerRevision, DaemonSet daemonsets ds, StatefulSet statefulsets sts",
    "autoscaling/v1": "HorizontalPodAutoscaler horizontalpodautoscalers hpa",
    "autoscaling/v2": "HorizontalPodAutoscaler horizontalpodautoscalers hpa",
    "batch/v1": "CronJob cronjobs cj, Job",
    "flowcontrol.apiserver.k8s.io/v1": "FlowSchema, PriorityLevelConfiguration",
    "networking.k8s.io/v1": """
        IPAddress ipaddresses ip, Ingress ingresses ing, IngressClass ingressclasses,
        NetworkPolicy networkpolicies netpol, ServiceCIDR""",
    "node.k8s.io/v1": "RuntimeClass runtimeclasses",
    "policy/v1": "PodDisruptionBudget poddisruptionbudgets pdb",
    "resource.k8s.io/v1": "DeviceClass deviceclasses, ResourceClaim, ResourceClaimTemplate, ResourceSlice",
    "scheduling.k8s.io/v1": "PriorityClass priorityclasses pc",
    "storage.k8s.io/v1": """
        CSIDriver, CSINode, CSIStorageCapacity csistoragecapacities, StorageClass storageclasses sc, VolumeAttachment,
        VolumeAttributesClass volumeattributesclasses vac""",
}


def _rows() -> tuple[Unserved, ...]:
    rows = []
    for api_version, listed in _KINDS.items():
        group, _, version = api_version.rpartition("/")
        for entry in listed.split(","):
            kind, *names = entry.split()
            plural, *short_names = names or [f"{kind.lower()}s"]
            rows.append(Unserved(group, version, kind, plural, tuple(short_names)))
    return tuple(rows)


UNSERVED = _rows()
