"""Warnings about pods and templates of pods. Follows Kubernetes' `warningsForPodSpecAndMeta`, in its order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from barque.api import names, quantity
from barque.api.types.core_v1 import (
    Affinity,
    Container,
    ContainerPort,
    EphemeralContainer,
    NodeSelectorTerm,
    Pod,
    PodAffinity,
    PodAntiAffinity,
    PodSpec,
    PodTemplateSpec,
)
from barque.api.validation.pod_security import each_container
from barque.api.warnings.addresses import about_address
from barque.api.warnings.volumes import about_volumes

_Any: TypeAlias = Container | EphemeralContainer

_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_APP_ARMOR_CONTAINER = "container.apparmor.security.beta.kubernetes.io/"
_APP_ARMOR = 'deprecated since v1.30; use the "appArmorProfile" field instead'
_BYTES = ("memory", "ephemeral-storage")
_NO_SELECTOR = "a null labelSelector results in matching no pod"


def about_pod(pod: Pod) -> list[str]:
    named = about_name(pod.metadata.name, "the Pod's hostname")
    return [*named, *_about(pod.spec, pod.metadata.annotations, "")]


def about_template(template: PodTemplateSpec | None, path: str) -> list[str]:
    """`path` leads to the template and ends with a dot."""
    if template is None or template.spec is None:
        return []
    annotations = template.metadata.annotations if template.metadata is not None else {}
    return _about(template.spec, annotations, path)


def about_name(name: str, use: str) -> list[str]:
    faults = names.dns1123_label(name)
    if not faults:
        return []
    why = f"this is used in {use}, which can result in surprising behavior"
    return [f"metadata.name: {why}; a DNS label is recommended: [{' '.join(faults)}]"]


def _about(spec: PodSpec, annotations: Mapping[str, str], path: str) -> list[str]:
    below = f"{path}spec"
    containers = list(each_container(spec, below))
    warnings = [f"{below}.nodeSelector[{key}]: {_LABELS[key]}" for key in sorted(spec.nodeSelector) if key in _LABELS]
    if spec.affinity is not None:
        warnings += _about_nodes(spec.affinity, f"{below}.affinity.nodeAffinity")
    warnings += _about_spread(spec, below)
    if annotations:
        known = [key for key in _ANNOTATIONS if key in annotations]
        warnings += [f"{path}metadata.annotations[{key}]: {_ANNOTATIONS[key]}" for key in known]
    warnings += about_volumes(spec.volumes)
    warnings += _about_aliases(spec, below)
    warnings += _about_pull_secrets(spec, below)
    if annotations:
        profile = spec.securityContext.seccompProfile if spec.securityContext is not None else None
        if profile is None and _SECCOMP_POD in annotations:
            warnings.append(f"{path}metadata.annotations[{_SECCOMP_POD}]: {_SECCOMP}")
    for container, place in containers:
        if annotations:
            warnings += _about_profiles(container, spec, annotations, f"{path}metadata.annotations")
        warnings += _about_amounts(container, place)
        warnings += _about_environment(container, place)
    warnings += _about_ports(containers)
    if (spec.terminationGracePeriodSeconds or 0) < 0:
        why = "must be >= 0; negative values are invalid and will be treated as 1"
        warnings.append(f"{below}.terminationGracePeriodSeconds: {why}")
    if spec.affinity is not None:
        warnings += _about_pods(spec.affinity.podAffinity, f"{below}.affinity.podAffinity")
        warnings += _about_pods(spec.affinity.podAntiAffinity, f"{below}.affinity.podAntiAffinity")
    if spec.dnsConfig is not None:
        for i, server in enumerate(spec.dnsConfig.nameservers):
            warnings += about_address(f"{below}.dnsConfig.nameservers[{i}]", server)
    for i, alias in enumerate(spec.hostAliases):
        warnings += about_address(f"{below}.hostAliases[{i}].ip", alias.ip)
    return warnings


def _about_nodes(affinity: Affinity, path: str) -> list[str]:
    nodes = affinity.nodeAffinity
    if nodes is None:
        return []
    warnings: list[str] = []
    required = nodes.requiredDuringSchedulingIgnoredDuringExecution
    for i, term in enumerate(required.nodeSelectorTerms if required is not None else ()):
        place = f"{path}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{i}]"
        warnings += _about_term(term, place)
    for i, preferred in enumerate(nodes.preferredDuringSchedulingIgnoredDuringExecution):
        if preferred.preference is not None:
            place = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{i}].preference"
            warnings += _about_term(preferred.preference, place, values=True)
    return warnings


def _about_term(term: NodeSelectorTerm, path: str, *, values: bool = False) -> Iterator[str]:
    """With `values` also about those that no label can have: a required one is refused for them."""
    for i, expression in enumerate(term.matchExpressions):
        place = f"{path}.matchExpressions[{i}]"
        if expression.key in _LABELS:
            yield f"{place}.key: {expression.key} is {_LABELS[expression.key]}"
        for j, value in enumerate(expression.values if values else ()):
            for fault in names.label_value(value):
                yield f"{place}.values[{j}]: {value} is invalid, {fault}"


def _about_spread(spec: PodSpec, path: str) -> Iterator[str]:
    for i, constraint in enumerate(spec.topologySpreadConstraints):
        place = f"{path}.topologySpreadConstraints[{i}]"
        if constraint.topologyKey in _LABELS:
            yield f"{place}.topologyKey: {constraint.topologyKey} is {_LABELS[constraint.topologyKey]}"
        if constraint.labelSelector is None:
            yield f"{place}.labelSelector: {_NO_SELECTOR}"


def _about_aliases(spec: PodSpec, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for i, alias in enumerate(spec.hostAliases):
        if alias.ip in seen:
            yield f'{path}.hostAliases[{i}].ip: duplicate ip "{alias.ip}"'
        seen.add(alias.ip)


def _about_pull_secrets(spec: PodSpec, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for i, secret in enumerate(spec.imagePullSecrets):
        if secret.name in seen:
            yield f'{path}.imagePullSecrets[{i}].name: duplicate name "{secret.name}"'
        seen.add(secret.name)
    for i, secret in enumerate(spec.imagePullSecrets):
        if not secret.name:
            yield f'{path}.imagePullSecrets[{i}].name: invalid empty name ""'


def _about_profiles(container: _Any, spec: PodSpec, annotations: Mapping[str, str], path: str) -> Iterator[str]:
    """About annotations that a field stands for today."""
    context, of_pod = container.securityContext, spec.securityContext
    key = f"{_SECCOMP_CONTAINER}{container.name}"
    if key in annotations and (context is None or context.seccompProfile is None):
        yield f"{path}[{key}]: {_SECCOMP}"
    key = f"{_APP_ARMOR_CONTAINER}{container.name}"
    confined = any(each is not None and each.appArmorProfile is not None for each in (context, of_pod))
    if key in annotations and not confined:
        yield f"{path}[{key}]: {_APP_ARMOR}"


def _about_amounts(container: _Any, path: str) -> Iterator[str]:
    resources = container.resources
    if resources is None:
        return
    for what in _BYTES:
        for name, amounts in (("limits", resources.limits), ("requests", resources.requests)):
            if what in amounts and quantity.parse(amounts[what]) % 1:
                amount = quantity.canonical(amounts[what])
                why = f'fractional byte value "{amount}" is invalid, must be an integer'
                yield f"{path}.resources.{name}[{what}]: {why}"


def _about_environment(container: _Any, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for i, variable in enumerate(container.env):
        earlier = f"$({variable.name})"
        # `X=$(X)/bin` builds on the one before, and so is meant.
        builds = variable.valueFrom is None and variable.value != earlier and earlier in variable.value
        if variable.name in seen and not builds:
            hides = f'hides previous definition of "{variable.name}", which may be dropped when using apply'
            yield f"{path}.env[{i}]: {hides}"
        seen.add(variable.name)


def _about_ports(containers: Iterable[tuple[_Any, str]]) -> Iterator[str]:
    known: dict[tuple[int, str], list[tuple[ContainerPort, str]]] = {}
    for container, path in containers:
        for i, port in enumerate(getattr(container, "ports", ())):
            place = f"{path}.ports[{i}]"
            if port.hostIP and not port.hostPort:
                yield f"{place}: hostIP set without hostPort: {_printed(port)}"
            others = known.setdefault((port.containerPort, port.protocol), [])
            for other, where in others:
                how = _clash(port, other)
                if how:
                    yield f"{place}: {how} port definition with {where}"
            others.append((port, place))


def _clash(port: ContainerPort, other: ContainerPort) -> str:
    mine, its = port.hostPort or 0, other.hostPort or 0
    if (port.hostIP, mine) == (other.hostIP, its):
        return "duplicate"
    if not mine or not its:
        return "overlapping"
    return "dangerously ambiguous" if mine == its and bool(port.hostIP) != bool(other.hostIP) else ""


def _printed(port: ContainerPort) -> str:
    """As Go prints Kubernetes' internal type."""
    fields = (
        f"Name:{port.name} HostPort:{port.hostPort or 0} ContainerPort:{port.containerPort} "
        f"Protocol:{port.protocol} HostIP:{port.hostIP}"
    )
    return f"{{{fields}}}"


def _about_pods(affinity: PodAffinity | PodAntiAffinity | None, path: str) -> Iterator[str]:
    if affinity is None:
        return
    for i, term in enumerate(affinity.requiredDuringSchedulingIgnoredDuringExecution):
        if term.labelSelector is None:
            yield f"{path}.requiredDuringSchedulingIgnoredDuringExecution[{i}].labelSelector: {_NO_SELECTOR}"
    for i, weighted in enumerate(affinity.preferredDuringSchedulingIgnoredDuringExecution):
        if weighted.podAffinityTerm is None or weighted.podAffinityTerm.labelSelector is None:
            place = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{i}].podAffinityTerm.labelSelector"
            yield f"{place}: {_NO_SELECTOR}"
