"""Validation of a pod's three lists of containers: regular ones, init containers with sidecars, ephemeral ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from barque.api import names, podstatus
from barque.api.errors import FieldError, duplicate, forbidden, invalid, not_found_value, not_supported, required
from barque.api.shapes import shape_of
from barque.api.types.core_v1 import (
    Container,
    ContainerPort,
    ContainerRestartRule,
    EphemeralContainer,
    PodSpec,
    ResourceRequirements,
    Volume,
)
from barque.api.validation.checks import port_number, spelt
from barque.api.validation.choices import choice, choice_if_set, too_many
from barque.api.validation.environment import check_env_from, check_variable
from barque.api.validation.mounts import check_devices, check_mounts
from barque.api.validation.pod_security import check_context
from barque.api.validation.probes import check_hooks, check_probes
from barque.api.validation.requirements import check_requirements, check_resize_policies

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_RESTART_ACTIONS = ("Restart",)
_EXIT_CODE_OPERATORS = ("In", "NotIn")
_MAX_RESTART_RULES = 20
_MAX_EXIT_CODES = 255
_SIDECARS_ONLY = "may not be set for init containers without restartPolicy=Always"
# An ephemeral container looks into a pod; it serves nothing and reserves nothing.
_EPHEMERAL = (
    "name", "image", "command", "args", "workingDir", "envFrom", "env", "volumeMounts", "volumeDevices",
    "terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy", "securityContext", "stdin", "stdinOnce",
    "tty", "targetContainerName",
)  # fmt: skip
_NO_RESOURCES = ResourceRequirements()
_NOT_EPHEMERAL = "cannot be set for an Ephemeral Container"


class Surroundings(NamedTuple):
    """What of the rest of the pod a container is judged by."""

    volumes: Mapping[str, Volume]
    claims: Collection[str]
    grace_s: int | None
    os: str | None
    restart_policy: str
    host_users: bool
    # A template's images may still be filled in by someone, so their edges are judged in pods alone.
    of_pod: bool


def surroundings(spec: PodSpec, of_pod: bool) -> Surroundings:
    return Surroundings(
        volumes={volume.name: volume for volume in spec.volumes},
        claims=[claim.name for claim in spec.resourceClaims if claim.name],
        grace_s=spec.terminationGracePeriodSeconds,
        os=spec.os.name if spec.os is not None else None,
        restart_policy=spec.restartPolicy,
        host_users=spec.hostUsers is not False,
        of_pod=of_pod,
    )


def check_containers(containers: list[Container], path: str, around: Surroundings) -> list[FieldError]:
    if not containers:
        return [required(path)]
    faults: list[FieldError] = []
    seen: set[str] = set()
    for index, container in enumerate(containers):
        below = f"{path}[{index}]"
        faults += _check_common(container, below, around)
        if container.name and container.name in seen:
            faults.append(duplicate(f"{below}.name", container.name))
        seen.add(container.name)
        if container.lifecycle is not None:
            faults += check_hooks(container.lifecycle, f"{below}.lifecycle", around.grace_s, around.os)
        faults += check_probes(container, below, around.grace_s)
        if container.restartPolicy or container.restartPolicyRules:
            faults += _check_restarts(container, below)
    return [*faults, *_check_port_clashes((f"{path}[{i}]", container) for i, container in enumerate(containers))]


def check_init_containers(
    containers: list[Container], path: str, regular: list[Container], around: Surroundings
) -> list[FieldError]:
    faults: list[FieldError] = []
    seen = {container.name for container in regular}
    for index, container in enumerate(containers):
        below = f"{path}[{index}]"
        faults += _check_common(container, below, around)
        if container.restartPolicy or container.restartPolicyRules:
            faults += _check_init_restarts(container, below)
        if container.name and container.name in seen:
            faults.append(duplicate(f"{below}.name", container.name))
        seen.add(container.name)
        # One after another they run, so each may have ports that another has.
        faults += _check_port_clashes([(below, container)])
        if podstatus.is_sidecar(container):
            if container.lifecycle is not None:
                faults += check_hooks(container.lifecycle, f"{below}.lifecycle", around.grace_s, around.os)
            faults += check_probes(container, below, around.grace_s)
        else:
            faults += _check_run_once(container, below)
    return faults


def check_ephemeral_containers(spec: PodSpec, path: str, around: Surroundings) -> list[FieldError]:
    faults: list[FieldError] = []
    others = {container.name for container in (*spec.containers, *spec.initContainers)}
    seen = set(others)
    for index, container in enumerate(spec.ephemeralContainers):
        below = f"{path}[{index}]"
        faults += _check_common(container, below, around)
        if container.name and container.name in seen:
            faults.append(duplicate(f"{below}.name", container.name))
        seen.add(container.name)
        if container.targetContainerName and container.targetContainerName not in others:
            faults.append(not_found_value(f"{below}.targetContainerName", container.targetContainerName))
        for name, field in shape_of(EphemeralContainer).items():
            # Of resources that say nothing, which kubectl sends, nothing is set.
            if name not in _EPHEMERAL and getattr(container, field.attribute) not in (None, "", [], _NO_RESOURCES):
                faults.append(forbidden(f"{below}.{name}", _NOT_EPHEMERAL))
        for at, mount in enumerate(container.volumeMounts):
            for name in ("subPath", "subPathExpr"):
                if getattr(mount, name):
                    faults.append(forbidden(f"{below}.volumeMounts[{at}].{name}", _NOT_EPHEMERAL))
    return faults


def _check_common(container: Container | EphemeralContainer, path: str, around: Surroundings) -> list[FieldError]:
    """What holds for a container of whichever list."""
    faults: list[FieldError] = []
    if wrong := names.dns1123_label(container.name):
        at_name = f"{path}.name"
        faults += [invalid(at_name, container.name, why) for why in wrong] if container.name else [required(at_name)]
    if not container.image:
        faults.append(required(f"{path}.image"))
    elif around.of_pod and container.image != container.image.strip():
        faults.append(invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace"))
    if container.terminationMessagePolicy not in _MESSAGE_POLICIES:
        below = f"{path}.terminationMessagePolicy"
        faults += choice(below, container.terminationMessagePolicy, _MESSAGE_POLICIES)
    if container.ports:
        faults += _check_ports(container.ports, f"{path}.ports")
    for index, variable in enumerate(container.env):
        faults += check_variable(variable, f"{path}.env[{index}]", around.volumes)
    for index, source in enumerate(container.envFrom):
        faults += check_env_from(source, f"{path}.envFrom[{index}]")
    if container.volumeMounts:
        faults += check_mounts(container, f"{path}.volumeMounts", around.volumes)
    if container.volumeDevices:
        faults += check_devices(container, f"{path}.volumeDevices", around.volumes)
    if container.imagePullPolicy not in _PULL_POLICIES:
        faults += choice(f"{path}.imagePullPolicy", container.imagePullPolicy, _PULL_POLICIES)
    if container.resources is not None:
        faults += check_requirements(container.resources, f"{path}.resources", around.claims)
    if container.resizePolicy:
        faults += check_resize_policies(container.resizePolicy, f"{path}.resizePolicy", around.restart_policy)
    if container.securityContext is not None:
        faults += check_context(container.securityContext, f"{path}.securityContext", around.host_users)
    return faults


def _check_ports(ports: list[ContainerPort], path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        below = f"{path}[{index}]"
        if port.name:
            wrong = spelt(f"{below}.name", port.name, names.port_name)
            if not wrong and port.name in seen:
                wrong = [duplicate(f"{below}.name", port.name)]
            seen.add(port.name)
            faults += wrong
        if port.containerPort == 0:
            faults.append(required(f"{below}.containerPort"))
        else:
            faults += port_number(f"{below}.containerPort", port.containerPort)
        if port.hostPort:
            faults += port_number(f"{below}.hostPort", port.hostPort)
        faults += choice(f"{below}.protocol", port.protocol, _PROTOCOLS)
    return faults


def _check_port_clashes(containers: Iterable[tuple[str, Container]]) -> list[FieldError]:
    """No port of the host serves two of these containers' ports."""
    faults: list[FieldError] = []
    taken: set[str] = set()
    for path, container in containers:
        for index, port in enumerate(container.ports):
            if not port.hostPort:
                continue
            host_port = f"{port.protocol}/{port.hostIP}/{port.hostPort}"
            if host_port in taken:
                faults.append(duplicate(f"{path}.ports[{index}].hostPort", host_port))
            taken.add(host_port)
    return faults


def _check_init_restarts(container: Container, path: str) -> list[FieldError]:
    if podstatus.is_sidecar(container) and container.restartPolicyRules:
        why = "restartPolicyRules are not allowed for init containers with restart policy Always"
        return [forbidden(f"{path}.restartPolicyRules", why)]
    return _check_restarts(container, path)


def _check_restarts(container: Container, path: str) -> list[FieldError]:
    """A container's own restart policy and what narrows it down (KEP-5307)."""
    rules = container.restartPolicyRules
    if container.restartPolicy:
        faults = choice_if_set(f"{path}.restartPolicy", container.restartPolicy, _RESTART_POLICIES)
    else:
        faults = [required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")]
    faults += too_many(f"{path}.restartPolicyRules", len(rules), _MAX_RESTART_RULES)
    for index, rule in enumerate(rules):
        faults += _check_restart_rule(rule, f"{path}.restartPolicyRules[{index}]")
    return faults


def _check_restart_rule(rule: ContainerRestartRule, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if rule.action not in _RESTART_ACTIONS:
        faults.append(not_supported(f"{path}.action", rule.action, list(_RESTART_ACTIONS)))
    codes = rule.exitCodes
    if codes is None:
        return [*faults, required(f"{path}.exitCodes", "must be specified")]
    if codes.operator not in _EXIT_CODE_OPERATORS:
        faults.append(not_supported(f"{path}.exitCodes.operator", codes.operator, list(_EXIT_CODE_OPERATORS)))
    return [*faults, *too_many(f"{path}.exitCodes.values", len(codes.values), _MAX_EXIT_CODES)]


def _check_run_once(container: Container, path: str) -> list[FieldError]:
    """What an init container that ends has no use for."""
    hooks = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
    faults = [forbidden(f"{path}.{name}", _SIDECARS_ONLY) for name in hooks if getattr(container, name) is not None]
    for index, policy in enumerate(container.resizePolicy):
        if policy.restartPolicy == "RestartContainer":
            why = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            faults.append(invalid(f"{path}.resizePolicy[{index}].restartPolicy", policy.restartPolicy, why))
    return faults
