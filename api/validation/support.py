"""What this version of Barque can do: the one table of supported fields, and the walk that refuses the others.

A struct in `SUPPORTED` has only the fields listed there; a struct that is not in it is supported as a whole. `ONLY`
narrows a field down to the values whose behaviour exists (or, outside `SUPPORTED`, to the values that ask for nothing).
A later version extends the table and needs no other change here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from barque.api.errors import FieldError, forbidden
from barque.api.shapes import FieldShape, shape_of
from barque.api.types import core_v1 as v1
from barque.api.types.base import Object
from barque.api.validation.priorities import SYSTEM_CLASSES

_FIELDS: dict[type[Object], str] = {
    v1.PodSpec: """
            activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig dnsPolicy
            enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostname hostnameOverride
            imagePullSecrets initContainers nodeName nodeSelector priorityClassName readinessGates restartPolicy
            schedulerName schedulingGates securityContext serviceAccount serviceAccountName setHostnameAsFQDN
            shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations volumes""",
    v1.Affinity: "nodeAffinity",
    v1.PodSecurityContext: """
            fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seccompProfile supplementalGroups
            supplementalGroupsPolicy sysctls""",
    v1.Container: """
            args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe
            resizePolicy resources restartPolicy restartPolicyRules securityContext startupProbe stdin stdinOnce
            terminationMessagePath terminationMessagePolicy tty volumeMounts workingDir""",
    v1.EphemeralContainer: """
            args command env envFrom image imagePullPolicy name securityContext stdin stdinOnce targetContainerName
            terminationMessagePath terminationMessagePolicy tty volumeMounts workingDir""",
    v1.Lifecycle: "postStart preStop",
    v1.SecurityContext: """
            allowPrivilegeEscalation capabilities privileged procMount readOnlyRootFilesystem runAsGroup runAsNonRoot
            runAsUser seccompProfile""",
    v1.ContainerPort: "containerPort hostIP hostPort name protocol",
    v1.EnvVarSource: "configMapKeyRef fieldRef resourceFieldRef secretKeyRef",
    v1.ResourceRequirements: "limits requests",
    v1.VolumeMount: "mountPath mountPropagation name readOnly subPath subPathExpr",
    v1.Volume: "configMap downwardAPI emptyDir hostPath name projected secret",
    v1.VolumeProjection: "configMap downwardAPI secret serviceAccountToken",
    v1.EmptyDirVolumeSource: "medium sizeLimit",
    v1.ServiceSpec: """
            allocateLoadBalancerNodePorts clusterIP clusterIPs externalIPs externalName externalTrafficPolicy
            healthCheckNodePort internalTrafficPolicy ipFamilies ipFamilyPolicy loadBalancerClass loadBalancerIP ports
            publishNotReadyAddresses selector sessionAffinity sessionAffinityConfig trafficDistribution type""",
    v1.NodeSpec: "podCIDR podCIDRs providerID taints unschedulable",
}
SUPPORTED = {struct: frozenset(fields.split()) for struct, fields in _FIELDS.items()}

ONLY: dict[tuple[type[Object], str], tuple[Any, ...]] = {
    (v1.PodSpec, "hostUsers"): (True,),
    (v1.PodSpec, "preemptionPolicy"): ("PreemptLowerPriority",),
    (v1.PodSpec, "priority"): (0, *SYSTEM_CLASSES.values()),
    (v1.PodSpec, "priorityClassName"): tuple(SYSTEM_CLASSES),
    (v1.PodSecurityContext, "supplementalGroupsPolicy"): ("Merge",),
    (v1.SecurityContext, "procMount"): ("Default",),
    (v1.EmptyDirVolumeSource, "medium"): ("Memory",),
    (v1.EphemeralContainer, "resources"): (v1.ResourceRequirements(),),
    (v1.ResourceRequirements, "limits"): ("cpu", "memory"),
    (v1.ResourceRequirements, "requests"): ("cpu", "memory", "ephemeral-storage"),
    (v1.VolumeMount, "recursiveReadOnly"): ("Disabled",),
    (v1.ServiceSpec, "ipFamilies"): ("IPv4",),
    (v1.ServiceSpec, "ipFamilyPolicy"): ("SingleStack", "PreferDualStack"),
}


class _Watched(NamedTuple):
    """A field that may ask for what cannot be done: in itself, by its value, or by what is in it."""

    name: str
    refused: bool
    allowed: tuple[Any, ...]
    shape: FieldShape


class _Fields(NamedTuple):
    """Some watched fields of a struct, all their values at once, and those of a struct that asks for nothing."""

    fields: tuple[_Watched, ...]
    values: Callable[[Object], tuple[Any, ...]]
    unset: tuple[Any, ...]


def unsupported_fields(obj: Object) -> list[FieldError]:
    """Every field of the object's spec that asks for what Barque cannot do yet; status is the system's own."""
    spec = getattr(obj, "spec", None)
    return _walk(spec, "spec") if isinstance(spec, Object) and _matters(type(spec)) else []


def _walk(struct: Object, path: str) -> list[FieldError]:
    """Most structs ask for nothing that is refused, which one comparison tells."""
    faults: list[FieldError] = []
    for group in _plan_of(type(struct)):
        values = group.values(struct)
        if values != group.unset:
            for field, value in zip(group.fields, values, strict=True):
                # Empty texts, lists and maps ask for nothing; false and zero may.
                if value is None or not (value or isinstance(value, int | float)):
                    continue
                if value not in field.allowed:
                    faults += _judge(field, value, f"{path}.{field.name}")
    return faults


def _judge(field: _Watched, value: Any, path: str) -> list[FieldError]:
    if field.refused:
        return [forbidden(path, "barque does not support this field yet")]
    return _check_values(field.allowed, value, path) if field.allowed else _walk_field(field.shape, value, path)


@cache
def _plan_of(kind: type[Object]) -> tuple[_Fields, ...]:
    """The fields that are refused as such, and the others that are watched, where there are any."""
    watched = [
        _Watched(name, _is_refused(kind, name), ONLY.get((kind, name), ()), field)
        for name, field in shape_of(kind).items()
        if _is_refused(kind, name) or (kind, name) in ONLY or (field.struct is not None and _matters(field.struct))
    ]
    groups = [f for f in watched if f.refused], [f for f in watched if not f.refused]
    return tuple(_gather(kind, group) for group in groups if group)


def _gather(kind: type[Object], fields: list[_Watched]) -> _Fields:
    get = attrgetter(*(field.shape.attribute for field in fields))
    # It gives a single value bare.
    values: Callable[[Object], tuple[Any, ...]] = get if len(fields) > 1 else lambda struct: (get(struct),)
    return _Fields(tuple(fields), values, values(kind()))


def _is_refused(kind: type[Object], name: str) -> bool:
    return kind in SUPPORTED and name not in SUPPORTED[kind]


@cache
def _matters(kind: type[Object]) -> bool:
    """Whether the struct, or one somewhere within it, has a field that is watched."""
    seen: set[type[Object]] = set()
    waiting = [kind]
    while waiting:
        struct = waiting.pop()
        if struct in seen:
            continue
        seen.add(struct)
        if struct in SUPPORTED or any(narrowed is struct for narrowed, _ in ONLY):
            return True
        waiting += [field.struct for field in shape_of(struct).values() if field.struct is not None]
    return False


def _walk_field(field: FieldShape, value: Any, path: str) -> list[FieldError]:
    if field.container == "list":
        return [fault for i, element in enumerate(value) for fault in _walk(element, f"{path}[{i}]")]
    if field.container == "map":
        return [fault for key, element in value.items() for fault in _walk(element, f"{path}[{key}]")]
    return _walk(value, path) if isinstance(value, Object) else []


def _check_values(allowed: tuple[Any, ...], value: Any, path: str) -> list[FieldError]:
    if isinstance(value, dict):
        return [forbidden(f"{path}[{key}]", _only(allowed)) for key in value if key not in allowed]
    if isinstance(value, list):
        return [forbidden(f"{path}[{i}]", _only(allowed)) for i, element in enumerate(value) if element not in allowed]
    return [forbidden(path, _only(allowed))]


def _only(allowed: tuple[Any, ...]) -> str:
    shown = [str(value).lower() if isinstance(value, bool) else str(value) for value in allowed]
    return f"barque supports only {' and '.join(filter(None, [', '.join(shown[:-1]), shown[-1]]))} here yet"
