"""Validation of containers: image, ports, environment, resources, mounts, probes."""

from __future__ import annotations

import re

from barque.api import names, quantity
from barque.api.errors import FieldError, forbidden, invalid, not_found_value, not_supported, required
from barque.api.types.core_v1 import (
    Container,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    HTTPGetAction,
    Probe,
    ResourceRequirements,
)
from barque.api.validation.checks import (
    amounts,
    not_negative,
    one_of,
    port_number,
    port_or_name,
    spelt,
)

_FIELD_PATHS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
    "status.podIP",
)  # fmt: skip
_KEYED_FIELD_PATH = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


def check_container(container: Container, path: str, volumes: set[str]) -> list[FieldError]:
    """What is wrong with a container; `volumes` are the names it may mount."""
    if container.name:
        faults = spelt(f"{path}.name", container.name, names.dns1123_label)
    else:
        faults = [required(f"{path}.name")]
    if not container.image:
        faults.append(required(f"{path}.image"))
    elif container.image != container.image.strip():
        faults.append(invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace"))
    faults += one_of(f"{path}.imagePullPolicy", container.imagePullPolicy, ("Always", "IfNotPresent", "Never"))
    faults += one_of(
        f"{path}.terminationMessagePolicy", container.terminationMessagePolicy, ("FallbackToLogsOnError", "File")
    )
    for index, port in enumerate(container.ports):
        below = f"{path}.ports[{index}]"
        faults += spelt(f"{below}.name", port.name, names.port_name) if port.name else []
        faults += port_number(f"{below}.containerPort", port.containerPort)
        faults += one_of(f"{below}.protocol", port.protocol, ("SCTP", "TCP", "UDP"))
    for index, variable in enumerate(container.env):
        faults += _check_variable(variable, f"{path}.env[{index}]")
    for index, source in enumerate(container.envFrom):
        faults += _check_env_from(source, f"{path}.envFrom[{index}]")
    faults += _check_mounts(container, f"{path}.volumeMounts", volumes)
    if container.resources is not None:
        faults += _check_resources(container.resources, f"{path}.resources")
    if container.livenessProbe is not None:
        faults += _check_probe(container.livenessProbe, f"{path}.livenessProbe")
        if container.livenessProbe.successThreshold != 1:
            where = f"{path}.livenessProbe.successThreshold"
            faults.append(invalid(where, container.livenessProbe.successThreshold, "must be 1"))
    if container.readinessProbe is not None:
        faults += _check_probe(container.readinessProbe, f"{path}.readinessProbe")
    return faults


def _check_variable(variable: EnvVar, path: str) -> list[FieldError]:
    faults = spelt(f"{path}.name", variable.name, names.env_var_name) if variable.name else [required(f"{path}.name")]
    if variable.valueFrom is not None:
        faults += _check_variable_source(variable.valueFrom, f"{path}.valueFrom")
        if variable.value:
            faults.append(invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty"))
    return faults


def _check_variable_source(source: EnvVarSource, path: str) -> list[FieldError]:
    given = [s for s in (source.configMapKeyRef, source.secretKeyRef, source.fieldRef) if s is not None]
    given += [s for s in (source.resourceFieldRef, source.fileKeyRef) if s is not None]  # type: ignore[misc]
    faults = []
    if not given:
        faults.append(
            invalid(
                path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            )
        )
    elif len(given) > 1:
        faults.append(invalid(path, "", "may not have more than one field specified at a time"))
    for name, reference in (("configMapKeyRef", source.configMapKeyRef), ("secretKeyRef", source.secretKeyRef)):
        if reference is None:
            continue
        faults += [] if reference.name else [required(f"{path}.{name}.name")]
        if reference.key:
            faults += spelt(f"{path}.{name}.key", reference.key, names.config_key)
        else:
            faults.append(required(f"{path}.{name}.key"))
    if source.fieldRef is not None:
        faults += _check_field_path(source.fieldRef.fieldPath, f"{path}.fieldRef.fieldPath")
    return faults


def _check_field_path(field_path: str, path: str) -> list[FieldError]:
    if not field_path:
        return [required(path)]
    if field_path in _FIELD_PATHS:
        return []
    keyed = _KEYED_FIELD_PATH.fullmatch(field_path)
    if keyed is None:
        allowed = [*_FIELD_PATHS, "metadata.labels['<key>']", "metadata.annotations['<key>']"]
        return [not_supported(path, field_path, sorted(allowed))]
    return spelt(path, keyed[2].lower() if keyed[1] == "annotations" else keyed[2], names.qualified_name)


def _check_env_from(source: EnvFromSource, path: str) -> list[FieldError]:
    faults = spelt(f"{path}.prefix", source.prefix, names.env_var_name) if source.prefix else []
    if source.configMapRef is None and source.secretRef is None:
        faults.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
    elif source.configMapRef is not None and source.secretRef is not None:
        faults.append(invalid(path, "", "may not have more than one field specified at a time"))
    for name, reference in (("configMapRef", source.configMapRef), ("secretRef", source.secretRef)):
        if reference is not None and not reference.name:
            faults.append(required(f"{path}.{name}.name"))
    return faults


def _check_mounts(container: Container, path: str, volumes: set[str]) -> list[FieldError]:
    faults = []
    targets: set[str] = set()
    for index, mount in enumerate(container.volumeMounts):
        below = f"{path}[{index}]"
        if not mount.name:
            faults.append(required(f"{below}.name"))
        elif mount.name not in volumes:
            faults.append(not_found_value(f"{below}.name", mount.name))
        if not mount.mountPath:
            faults.append(required(f"{below}.mountPath"))
        elif not mount.mountPath.startswith("/"):
            faults.append(invalid(f"{below}.mountPath", mount.mountPath, "must be an absolute path"))
        elif ":" in mount.mountPath:
            faults.append(invalid(f"{below}.mountPath", mount.mountPath, "must not contain ':'"))
        if mount.mountPath in targets:
            faults.append(invalid(f"{below}.mountPath", mount.mountPath, "must be unique"))
        targets.add(mount.mountPath)
    return faults


def _check_resources(resources: ResourceRequirements, path: str) -> list[FieldError]:
    faults = [*amounts(f"{path}.limits", resources.limits), *amounts(f"{path}.requests", resources.requests)]
    if faults:
        return faults
    for name in quantity.fits({n: a for n, a in resources.requests.items() if n in resources.limits}, resources.limits):
        why = f"must be less than or equal to {name} limit of {quantity.canonical(resources.limits[name])}"
        faults.append(invalid(f"{path}.requests", quantity.canonical(resources.requests[name]), why))
    return faults


def _check_probe(probe: Probe, path: str) -> list[FieldError]:
    names_given = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if getattr(probe, name) is not None]
    faults = [] if names_given else [required(path, "must specify a handler type")]
    faults += [forbidden(f"{path}.{name}", "may not specify more than 1 handler type") for name in names_given[1:]]
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        faults += not_negative(f"{path}.{name}", getattr(probe, name))
    if probe.exec is not None and not probe.exec.command:
        faults.append(required(f"{path}.exec.command"))
    if probe.httpGet is not None:
        faults += _check_http(probe.httpGet, f"{path}.httpGet")
    if probe.tcpSocket is not None:
        port = probe.tcpSocket.port
        faults += [required(f"{path}.tcpSocket.port")] if port is None else port_or_name(f"{path}.tcpSocket.port", port)
    return faults


def _check_http(action: HTTPGetAction, path: str) -> list[FieldError]:
    faults = [] if action.path else [required(f"{path}.path")]
    faults += [required(f"{path}.port")] if action.port is None else port_or_name(f"{path}.port", action.port)
    faults += one_of(f"{path}.scheme", action.scheme, ("HTTP", "HTTPS"))
    for index, header in enumerate(action.httpHeaders):
        faults += spelt(f"{path}.httpHeaders[{index}].name", header.name, names.http_header_name)
    return faults
