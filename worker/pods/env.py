"""A container's environment, as Kubernetes composes it. Pure.

Order, later over earlier: the namespace's services, envFrom, env. `$(NAME)` in values, commands and arguments stands
for what is defined before it; `$$(NAME)` stands for itself.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

from barque.api import quantity
from barque.api.types import core_v1
from barque.api.types.base import Quantity

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")
_KEYED_FIELD = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class ConfigError(Exception):
    """The container cannot be configured yet; the message says what is missing."""


class Sources(NamedTuple):
    """What values come from. `config_maps` and `secrets` are by name; None where there is none of that name."""

    config_maps: Mapping[str, core_v1.ConfigMap | None]
    secrets: Mapping[str, core_v1.Secret | None]
    services: Iterable[core_v1.Service] = ()
    pod_ip: str = ""
    host_ip: str = ""
    allocatable: Mapping[str, Quantity] = {}


class Names(NamedTuple):
    """The ConfigMaps and Secrets that something refers to, by name."""

    config_maps: frozenset[str]
    secrets: frozenset[str]


def references(container: core_v1.Container) -> Names:
    """What a container's environment refers to."""
    config_maps = {s.configMapRef.name for s in container.envFrom if s.configMapRef}
    secrets = {s.secretRef.name for s in container.envFrom if s.secretRef}
    for variable in container.env:
        if variable.valueFrom and variable.valueFrom.configMapKeyRef:
            config_maps.add(variable.valueFrom.configMapKeyRef.name)
        if variable.valueFrom and variable.valueFrom.secretKeyRef:
            secrets.add(variable.valueFrom.secretKeyRef.name)
    return Names(frozenset(config_maps), frozenset(secrets))


def environment(pod: core_v1.Pod, container: core_v1.Container, sources: Sources) -> dict[str, str]:
    """All variables. Raises `ConfigError` where a reference that is not optional leads nowhere."""
    linked = pod.spec.enableServiceLinks is not False
    found = service_variables(sources.services, pod.metadata.namespace if linked else "")
    for source in container.envFrom:
        found.update(_from_source(source, sources))
    for variable in container.env:
        if variable.valueFrom is None:
            found[variable.name] = expand(variable.value, found)
        elif (value := _from_reference(pod, container, variable.valueFrom, sources)) is not None:
            found[variable.name] = value
    return found


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace each `$(NAME)` that is defined; leave the others as they stand."""

    def replacement(match: re.Match[str]) -> str:
        if match.group(1) == "$":
            return "$"
        return variables.get(match.group(2), match.group(0))

    return _REFERENCE.sub(replacement, text)


def _from_source(source: core_v1.EnvFromSource, sources: Sources) -> dict[str, str]:
    if source.configMapRef:
        ref = source.configMapRef
        config_map = sources.config_maps.get(ref.name)
        if config_map is None and not ref.optional:
            raise ConfigError(f'configmap "{ref.name}" not found')
        data = config_map.data if config_map else {}
    elif source.secretRef:
        secret = sources.secrets.get(source.secretRef.name)
        if secret is None and not source.secretRef.optional:
            raise ConfigError(f'secret "{source.secretRef.name}" not found')
        data = {key: _text(value) for key, value in secret.data.items()} if secret else {}
    else:
        data = {}
    # A key with "=" can be no variable's name; Kubernetes leaves it out too.
    return {source.prefix + key: value for key, value in data.items() if key and "=" not in key}


def _from_reference(
    pod: core_v1.Pod, container: core_v1.Container, reference: core_v1.EnvVarSource, sources: Sources
) -> str | None:
    if reference.configMapKeyRef:
        ref = reference.configMapKeyRef
        held = sources.config_maps.get(ref.name)
        return _key("ConfigMap", ref, held is not None, held.data.get(ref.key) if held else None, pod)
    if reference.secretKeyRef:
        wanted = reference.secretKeyRef
        secret = sources.secrets.get(wanted.name)
        value = secret.data.get(wanted.key) if secret else None
        return _key("Secret", wanted, secret is not None, None if value is None else _text(value), pod)
    if reference.fieldRef:
        return pod_field(pod, reference.fieldRef.fieldPath, sources)
    if reference.resourceFieldRef:
        return resource_field(pod, container, reference.resourceFieldRef, sources)
    raise ConfigError("an environment variable's valueFrom names no source")


def _key(
    kind: str,
    ref: core_v1.ConfigMapKeySelector | core_v1.SecretKeySelector,
    found: bool,
    value: str | None,
    pod: core_v1.Pod,
) -> str | None:
    if value is None and not ref.optional:
        if not found:
            raise ConfigError(f'{kind.lower()} "{ref.name}" not found')
        raise ConfigError(f"couldn't find key {ref.key} in {kind} {pod.metadata.namespace}/{ref.name}")
    return value


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")


_FIELDS: dict[str, Callable[[core_v1.Pod, Sources], str]] = {
    "metadata.name": lambda pod, _: pod.metadata.name,
    "metadata.namespace": lambda pod, _: pod.metadata.namespace,
    "metadata.uid": lambda pod, _: pod.metadata.uid,
    "spec.nodeName": lambda pod, _: pod.spec.nodeName,
    "spec.serviceAccountName": lambda pod, _: pod.spec.serviceAccountName,
    "status.hostIP": lambda _, sources: sources.host_ip,
    "status.hostIPs": lambda _, sources: sources.host_ip,
    "status.podIP": lambda _, sources: sources.pod_ip,
    "status.podIPs": lambda _, sources: sources.pod_ip,
}


def pod_field(pod: core_v1.Pod, path: str, sources: Sources) -> str:
    """A field of the pod by its downward-API path. Raises `ConfigError`."""
    if path in _FIELDS:
        return _FIELDS[path](pod, sources)
    keyed = _KEYED_FIELD.fullmatch(path)
    if keyed is None:
        raise ConfigError(f"the pod has no field {path} that a variable can take")
    held = pod.metadata.labels if keyed.group(1) == "labels" else pod.metadata.annotations
    return held.get(keyed.group(2), "")


def resource_field(
    pod: core_v1.Pod, container: core_v1.Container, ref: core_v1.ResourceFieldSelector, sources: Sources
) -> str:
    """A request or limit in units of the divisor, rounded up; a missing limit is the node's allocatable amount."""
    others = (*pod.spec.containers, *pod.spec.initContainers)
    named = next((c for c in others if c.name == ref.containerName), container)
    resources = named.resources or core_v1.ResourceRequirements()
    side, _, name = ref.resource.partition(".")
    held = resources.limits if side == "limits" else resources.requests
    amount = held.get(name, sources.allocatable.get(name, 0) if side == "limits" else 0)
    divisor = quantity.parse(ref.divisor) if ref.divisor else Fraction(0)
    return str(-(-quantity.parse(amount) // (divisor or 1)))


def service_variables(services: Iterable[core_v1.Service], namespace: str) -> dict[str, str]:
    """The variables of each service with an address in the namespace, and of the cluster's own `default/kubernetes`,
    without which no client in a pod finds the masters: of that one alone where the namespace is "".
    """
    found: dict[str, str] = {}
    for service in sorted(services, key=lambda s: (s.metadata.namespace, s.metadata.name)):
        own = service.metadata.namespace == namespace
        masters = service.metadata.namespace == "default" and service.metadata.name == "kubernetes"
        if (own or masters) and service.spec.clusterIP not in ("", "None") and service.spec.ports:
            found.update(_service(service))
    return found


def _service(service: core_v1.Service) -> dict[str, str]:
    prefix = _variable(service.metadata.name)
    address, ports = service.spec.clusterIP, service.spec.ports
    host = f"[{address}]" if ":" in address else address
    found = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0].port)}
    for at, port in enumerate(ports):
        protocol = (port.protocol or "TCP").lower()
        url = f"{protocol}://{host}:{port.port}"
        if port.name:
            found[f"{prefix}_SERVICE_PORT_{_variable(port.name)}"] = str(port.port)
        if at == 0:
            found[f"{prefix}_PORT"] = url
        link = f"{prefix}_PORT_{port.port}_{protocol.upper()}"
        found |= {link: url, f"{link}_PROTO": protocol, f"{link}_PORT": str(port.port), f"{link}_ADDR": address}
    return found


def _variable(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")
