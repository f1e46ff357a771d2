"""Validation of pods and of the pod spec in templates, whole, as Kubernetes v1.36 does it (pkg/apis/core/validation).

In: defaulted pods and specs. Out: every fault in one list, in the order of the spec's parts. Where Kubernetes' own path
leads to no field of the manifest (an index or a name is missing in it), ours does; where it would name a fault's
consequences beside it (a mount of a volume that is itself wrong), the fault stands alone.
"""

from __future__ import annotations

from barque.api import names
from barque.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from barque.api.types.core_v1 import Binding, Pod, PodResourceClaim, PodSpec, PodTemplateSpec
from barque.api.validation import pod_network, scheduling
from barque.api.validation.checks import INT32_MAX, not_negative, spelt
from barque.api.validation.choices import choice, choice_if_set, within
from barque.api.validation.containers import (
    check_containers,
    check_ephemeral_containers,
    check_init_containers,
    surroundings,
)
from barque.api.validation.metadata import check_annotations, check_labels
from barque.api.validation.pod_annotations import MIRROR
from barque.api.validation.pod_annotations import check_annotations as check_pod_annotations
from barque.api.validation.pod_security import check_namespaces, check_os, check_pod_context, each_container
from barque.api.validation.pod_status import check_status
from barque.api.validation.pod_updates import check_ephemeral_update, check_update
from barque.api.validation.requirements import check_overhead, check_pod_requirements
from barque.api.validation.volumes import check_volumes
from barque.api.validation.windows import check_host_processes

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")

__all__ = [
    "check",
    "check_binding",
    "check_create",
    "check_ephemeral_update",
    "check_spec",
    "check_status",
    "check_template",
    "check_update",
]


def check(pod: Pod) -> list[FieldError]:
    """What is wrong with a pod at any time."""
    annotations = pod.metadata.annotations
    faults = check_pod_annotations(annotations, pod.spec, "metadata.annotations", "spec") if annotations else []
    faults += _check_spec(pod.spec, "spec", pod)
    if not pod.spec.serviceAccountName:
        faults += _check_tokens_without_account(pod.spec, "spec")
    return faults


def check_create(pod: Pod) -> list[FieldError]:
    """What no pod begins with, besides what `check` finds."""
    faults: list[FieldError] = []
    if pod.spec.ephemeralContainers:
        faults.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if pod.spec.nodeName and pod.spec.schedulingGates:
        faults.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return faults


def check_template(template: PodTemplateSpec, path: str) -> list[FieldError]:
    """What is wrong with the template of a workload's pods."""
    metadata, spec = template.metadata, template.spec or PodSpec()
    faults: list[FieldError] = []
    if metadata is not None:
        faults += check_labels(metadata.labels, f"{path}.metadata.labels")
        faults += check_annotations(metadata.annotations, f"{path}.metadata.annotations")
        below = f"{path}.metadata.annotations"
        faults += check_pod_annotations(metadata.annotations, spec, below, f"{path}.spec")
    return [*faults, *check_spec(spec, f"{path}.spec")]


def check_spec(spec: PodSpec, path: str) -> list[FieldError]:
    """What is wrong with the spec of a template's pods, at `path` in the object."""
    faults = _check_spec(spec, path, None)
    if spec.ephemeralContainers:
        why = "ephemeral containers not allowed in pod template"
        faults.append(forbidden(f"{path}.ephemeralContainers", why))
    return faults


def check_binding(binding: Binding) -> list[FieldError]:
    """A binding names a node."""
    target = binding.target
    faults: list[FieldError] = []
    if target is not None and target.kind not in ("", "Node"):
        faults.append(not_supported("target.kind", target.kind, ["Node", "<empty>"]))
    if target is None or not target.name:
        faults.append(required("target.name"))
    return faults


def _check_spec(spec: PodSpec, path: str, pod: Pod | None) -> list[FieldError]:
    """`pod` is None for a template, of whose pods less is known."""
    faults: list[FieldError] = []
    if spec.terminationGracePeriodSeconds is None:
        faults.append(required(f"{path}.terminationGracePeriodSeconds"))
    if spec.volumes:
        faults += check_volumes(spec, pod.metadata.name if pod is not None else "", f"{path}.volumes")
    if spec.resourceClaims:
        faults += _check_resource_claims(spec.resourceClaims, f"{path}.resourceClaims", pod)
    around = surroundings(spec, pod is not None)
    faults += check_containers(spec.containers, f"{path}.containers", around)
    if spec.initContainers:
        faults += check_init_containers(spec.initContainers, f"{path}.initContainers", spec.containers, around)
    if spec.ephemeralContainers:
        faults += check_ephemeral_containers(spec, f"{path}.ephemeralContainers", around)
    if spec.resources is not None:
        faults += check_pod_requirements(spec, path, around.claims)
    faults += pod_network.check_host_network_ports(spec, f"{path}.containers", pod is not None)
    faults += choice(f"{path}.restartPolicy", spec.restartPolicy, _RESTART_POLICIES)
    faults += choice(f"{path}.dnsPolicy", spec.dnsPolicy, _DNS_POLICIES)
    faults += _check_placement(spec, path)
    faults += _check_host(spec, path)
    faults += _check_names(spec, path)
    faults += _check_times_and_costs(spec, path)
    return [*faults, *check_os(spec, path)]


def _check_placement(spec: PodSpec, path: str) -> list[FieldError]:
    """Where the pod may go, and when it counts as ready there."""
    faults = check_labels(spec.nodeSelector, f"{path}.nodeSelector") if spec.nodeSelector else []
    if spec.affinity is not None:
        faults += scheduling.check_affinity(spec.affinity, f"{path}.affinity")
    for index, gate in enumerate(spec.readinessGates):
        faults += spelt(f"{path}.readinessGates[{index}].conditionType", gate.conditionType, names.qualified_name)
    if spec.schedulingGates:
        faults += scheduling.check_scheduling_gates(spec.schedulingGates, f"{path}.schedulingGates")
    if spec.topologySpreadConstraints:
        faults += scheduling.check_spread(spec.topologySpreadConstraints, f"{path}.topologySpreadConstraints")
    if spec.tolerations:
        faults += scheduling.check_tolerations(spec.tolerations, f"{path}.tolerations")
    if spec.schedulingGroup is not None:
        below, group = f"{path}.schedulingGroup.podGroupName", spec.schedulingGroup.podGroupName
        if group:
            faults += spelt(below, group, names.dns1123_subdomain)
        else:
            faults.append(invalid(below, None, "must specify one of: `podGroupName`"))
    return faults


def _check_host(spec: PodSpec, path: str) -> list[FieldError]:
    """What the pod shares with its host, and what it is called there."""
    faults: list[FieldError] = []
    if spec.securityContext is not None:
        faults += check_pod_context(spec.securityContext, spec, f"{path}.securityContext")
    if spec.dnsConfig is not None or spec.dnsPolicy == "None":
        faults += pod_network.check_dns_config(spec.dnsConfig, spec.dnsPolicy, f"{path}.dnsConfig")
    faults += check_host_processes(spec, path, each_container(spec, path))
    faults += check_namespaces(spec, path)
    faults += pod_network.check_hostname_override(spec, f"{path}.hostnameOverride")
    if spec.hostname:
        faults += spelt(f"{path}.hostname", spec.hostname, names.dns1123_label)
    if spec.subdomain:
        faults += spelt(f"{path}.subdomain", spec.subdomain, names.dns1123_label)
    if spec.hostAliases:
        faults += pod_network.check_host_aliases(spec.hostAliases, f"{path}.hostAliases")
    return faults


def _check_names(spec: PodSpec, path: str) -> list[FieldError]:
    """Names of other objects."""
    faults: list[FieldError] = []
    for field in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        value = getattr(spec, field)
        if value or (value is not None and field == "runtimeClassName"):
            faults += spelt(f"{path}.{field}", value, names.dns1123_subdomain)
    return faults


def _check_times_and_costs(spec: PodSpec, path: str) -> list[FieldError]:
    faults = within(f"{path}.activeDeadlineSeconds", spec.activeDeadlineSeconds, 1, INT32_MAX)
    faults += not_negative(f"{path}.terminationGracePeriodSeconds", spec.terminationGracePeriodSeconds)
    faults += within(f"{path}.priority", spec.priority, -INT32_MAX - 1, INT32_MAX)
    faults += choice_if_set(f"{path}.preemptionPolicy", spec.preemptionPolicy, _PREEMPTION_POLICIES)
    return [*faults, *check_overhead(spec.overhead, f"{path}.overhead")] if spec.overhead else faults


def _check_resource_claims(claims: list[PodResourceClaim], path: str, pod: Pod | None) -> list[FieldError]:
    if pod is not None and MIRROR in pod.metadata.annotations:
        return [forbidden(path, "static pods do not support resource claims")]
    faults: list[FieldError] = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        below = f"{path}[{index}]"
        if not claim.name:
            faults.append(required(f"{below}.name"))
        elif claim.name in seen:
            faults.append(duplicate(f"{below}.name", claim.name))
        else:
            faults += spelt(f"{below}.name", claim.name, names.dns1123_label)
        seen.add(claim.name)
        given = [n for n in ("resourceClaimName", "resourceClaimTemplateName") if getattr(claim, n) is not None]
        if len(given) > 1:
            why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            faults.append(invalid(below, claim, why))
        elif not given:
            why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            faults.append(invalid(below, claim, why))
        for name in given:
            faults += spelt(f"{below}.{name}", getattr(claim, name), names.dns1123_subdomain)
    return faults


def _check_tokens_without_account(spec: PodSpec, path: str) -> list[FieldError]:
    """A token is always some account's."""
    return [
        forbidden(
            f"{path}.volumes[{index}].projected.sources[{at}].serviceAccountToken",
            "must not be specified when serviceAccountName is not set",
        )
        for index, volume in enumerate(spec.volumes)
        if volume.projected is not None
        for at, source in enumerate(volume.projected.sources)
        if source.serviceAccountToken is not None
    ]
