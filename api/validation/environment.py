"""Validation of a container's environment: variables, where their values come from, and what the downward API tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from barque.api import names, quantity
from barque.api.errors import FieldError, invalid, not_found_value, not_supported, required
from barque.api.types.core_v1 import (
    ConfigMapKeySelector,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
    ObjectFieldSelector,
    ResourceFieldSelector,
    SecretKeySelector,
    Volume,
)
from barque.api.validation.checks import spelt
from barque.api.validation.choices import no_backsteps

ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
    "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
# Fields that a pod has, but that neither a variable nor a file may hold.
_OTHER_FIELDS = ("spec.restartPolicy", "spec.schedulerName", "status.phase")
_LABEL_FIELDS = ("metadata.annotations", "metadata.labels")

_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage",
    "requests.memory",
)  # fmt: skip
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_CPU_DIVISORS = ("1m", "1")
_BYTE_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_BYTE_RESOURCES = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}


def check_variable(variable: EnvVar, path: str, volumes: Mapping[str, Volume]) -> list[FieldError]:
    """`volumes` are those of the pod, by name."""
    faults = spelt(f"{path}.name", variable.name, names.env_var_name) if variable.name else [required(f"{path}.name")]
    if variable.valueFrom is not None:
        faults += _check_source(variable, variable.valueFrom, f"{path}.valueFrom", volumes)
    return faults


def check_env_from(source: EnvFromSource, path: str) -> list[FieldError]:
    faults = spelt(f"{path}.prefix", source.prefix, names.env_var_name) if source.prefix else []
    given = 0
    for name, reference in (("configMapRef", source.configMapRef), ("secretRef", source.secretRef)):
        if reference is not None:
            given += 1
            below = f"{path}.{name}.name"
            faults += spelt(below, reference.name, names.dns1123_subdomain) if reference.name else [required(below)]
    if given == 0:
        faults.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
    elif given > 1:
        faults.append(invalid(path, "", "may not have more than one field specified at a time"))
    return faults


def check_field(reference: ObjectFieldSelector, path: str, allowed: Collection[str]) -> list[FieldError]:
    """A field of the pod, one of `allowed` or a label or annotation by its key."""
    if not reference.apiVersion:
        return [required(f"{path}.apiVersion")]
    field = reference.fieldPath
    if not field:
        return [required(f"{path}.fieldPath")]
    if reference.apiVersion != "v1":
        why = f"error converting fieldPath: unsupported pod version: {reference.apiVersion}"
        return [invalid(f"{path}.fieldPath", field, why)]
    if field in allowed:
        return []
    subject, bracket, key = field.partition("['")
    if subject and bracket and key.endswith("']"):
        return _check_key(subject, key[:-2], field, path)
    if field in (*ENV_FIELDS, *FILE_FIELDS, *_OTHER_FIELDS):
        return [not_supported(f"{path}.fieldPath", field, sorted(allowed))]
    return [invalid(f"{path}.fieldPath", field, f"error converting fieldPath: field label not supported: {field}")]


def check_resource(reference: ResourceFieldSelector, path: str, named: bool) -> list[FieldError]:
    """An amount of a container; `named` where the container must be named, as in a volume."""
    faults: list[FieldError] = []
    if named and not reference.containerName:
        faults.append(required(f"{path}.containerName"))
    elif not reference.resource:
        faults.append(required(f"{path}.resource"))
    elif reference.resource not in _RESOURCES and not reference.resource.startswith(_HUGE_PAGES):
        faults.append(not_supported(f"{path}.resource", reference.resource, list(_RESOURCES)))
    return [*faults, *_check_divisor(reference, f"{path}.divisor")]


def _check_source(variable: EnvVar, source: EnvVarSource, path: str, volumes: Mapping[str, Volume]) -> list[FieldError]:
    faults: list[FieldError] = []
    given = 0
    if source.fieldRef is not None:
        given += 1
        faults += check_field(source.fieldRef, f"{path}.fieldRef", ENV_FIELDS)
    if source.resourceFieldRef is not None:
        given += 1
        faults += check_resource(source.resourceFieldRef, f"{path}.resourceFieldRef", named=False)
    for name, reference in (("configMapKeyRef", source.configMapKeyRef), ("secretKeyRef", source.secretKeyRef)):
        if reference is not None:
            given += 1
            faults += _check_key_of(reference, f"{path}.{name}")
    if source.fileKeyRef is not None:
        given += 1
        faults += _check_file_key(source.fileKeyRef, f"{path}.fileKeyRef", volumes)
    if given == 0:
        of = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        faults.append(invalid(path, "", f"must specify one of: {of}"))
    elif variable.value:
        faults.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif given > 1:
        faults.append(invalid(path, "", "may not have more than one field specified at a time"))
    return faults


def _check_key(subject: str, key: str, field: str, path: str) -> list[FieldError]:
    if subject not in _LABEL_FIELDS:
        why = f"error converting fieldPath: field label does not support subscript: {field}"
        return [invalid(f"{path}.fieldPath", field, why)]
    # Annotations, as elsewhere, are keyed by names of either case.
    return spelt(path, key.lower() if subject == "metadata.annotations" else key, names.qualified_name)


def _check_key_of(reference: ConfigMapKeySelector | SecretKeySelector, path: str) -> list[FieldError]:
    faults = spelt(f"{path}.name", reference.name, names.dns1123_subdomain)
    if not reference.key:
        return [*faults, required(f"{path}.key")]
    return [*faults, *spelt(f"{path}.key", reference.key, names.config_key)]


def _check_file_key(reference: FileKeySelector, path: str, volumes: Mapping[str, Volume]) -> list[FieldError]:
    """A variable of a file that another container of the pod has written."""
    faults = spelt(f"{path}.key", reference.key, names.env_var_name) if reference.key else [required(f"{path}.key")]
    volume = volumes.get(reference.volumeName)
    if not reference.volumeName:
        faults.append(required(f"{path}.volumeName"))
    elif volume is None:
        faults.append(not_found_value(f"{path}.volumeName", reference.volumeName))
    elif volume.emptyDir is None:
        why = "referenced volume must be of type emptyDir"
        faults.append(invalid(f"{path}.volumeName", reference.volumeName, why))
    if not reference.path:
        return [*faults, required(f"{path}.path")]
    return [*faults, *no_backsteps(f"{path}.path", reference.path)]


def _check_divisor(reference: ResourceFieldSelector, path: str) -> list[FieldError]:
    if reference.divisor is None:
        return []
    try:
        divisor = quantity.canonical(reference.divisor)
    except ValueError as error:
        return [invalid(path, reference.divisor, str(error))]
    _kind, _, resource = reference.resource.partition(".")
    if divisor == "0":
        return []
    if resource == "cpu":
        subject, shown, fits = "cpu", " and ".join(_CPU_DIVISORS), divisor in _CPU_DIVISORS
    elif resource in _BYTE_RESOURCES or resource.startswith("hugepages-"):
        subject = _BYTE_RESOURCES.get(resource, "hugepages")
        shown, fits = ", ".join(_BYTE_DIVISORS), divisor in _BYTE_DIVISORS
    else:
        return []
    if fits:
        return []
    why = f"only divisor's values {shown} are supported with the {subject} resource"
    return [invalid(path, reference.resource, why)]
