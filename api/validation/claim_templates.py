"""Validation of the claim that a pod makes for an ephemeral volume of its own (KEP-1698)."""

from __future__ import annotations

from barque.api import names, quantity
from barque.api.errors import FieldError, forbidden, invalid, not_supported, required
from barque.api.shapes import shape_of
from barque.api.types.core_v1 import (
    EphemeralVolumeSource,
    PersistentVolumeClaimSpec,
    TypedLocalObjectReference,
    TypedObjectReference,
)
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.validation.checks import amount, spelt
from barque.api.validation.choices import choice_if_set
from barque.api.validation.metadata import check_annotations, check_labels, check_selector

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_OF_TEMPLATE = ("annotations", "labels")


def check_ephemeral(source: EphemeralVolumeSource, path: str) -> list[FieldError]:
    template = source.volumeClaimTemplate
    below = f"{path}.volumeClaimTemplate"
    if template is None:
        return [required(below)]
    faults = _check_metadata(template.metadata, f"{below}.metadata") if template.metadata is not None else []
    return [*faults, *check_claim_spec(template.spec or PersistentVolumeClaimSpec(), f"{below}.spec")]


def check_claim_spec(spec: PersistentVolumeClaimSpec, path: str) -> list[FieldError]:
    faults = _check_access_modes(spec.accessModes, f"{path}.accessModes")
    if spec.selector is not None:
        faults += check_selector(spec.selector, f"{path}.selector")
    faults += _check_size(spec, f"{path}.resources[storage]")
    if spec.storageClassName:
        faults += spelt(f"{path}.storageClassName", spec.storageClassName, names.dns1123_subdomain)
    faults += choice_if_set(f"{path}.volumeMode", spec.volumeMode, _VOLUME_MODES)
    faults += _check_data_sources(spec, path)
    if spec.volumeAttributesClassName:
        below = f"{path}.volumeAttributesClassName"
        faults += spelt(below, spec.volumeAttributesClassName, names.dns1123_subdomain)
    return faults


def _check_metadata(metadata: ObjectMeta, path: str) -> list[FieldError]:
    """Of a claim's metadata a template gives labels and annotations; the rest is the claim's own."""
    faults = check_annotations(metadata.annotations, f"{path}.annotations")
    faults += check_labels(metadata.labels, f"{path}.labels")
    for name, field in shape_of(ObjectMeta).items():
        if name not in _OF_TEMPLATE and getattr(metadata, field.attribute) not in (None, "", [], {}):
            faults.append(forbidden(f"{path}.{name}", "cannot be set"))
    return faults


def _check_access_modes(modes: list[str], path: str) -> list[FieldError]:
    if not modes:
        return [required(path, "at least 1 access mode is required")]
    faults = [not_supported(path, mode, list(_ACCESS_MODES)) for mode in modes if mode not in _ACCESS_MODES]
    known = {mode for mode in modes if mode in _ACCESS_MODES}
    if "ReadWriteOncePod" in known and len(known) > 1:
        faults.append(forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return faults


def _check_size(spec: PersistentVolumeClaimSpec, path: str) -> list[FieldError]:
    size = spec.resources.requests.get("storage") if spec.resources is not None else None
    if size is None:
        return [required(path)]
    faults = amount(path, size)
    if not faults and quantity.parse(size) == 0:
        faults.append(invalid(path, quantity.canonical(size), "must be greater than zero"))
    return faults


def _check_data_sources(spec: PersistentVolumeClaimSpec, path: str) -> list[FieldError]:
    """What fills the volume at first; the older of the two fields is a copy of the newer."""
    source, reference = spec.dataSource, spec.dataSourceRef
    faults = _check_data_source(source, f"{path}.dataSource") if source is not None else []
    if reference is None:
        return faults
    faults += _check_data_source(reference, f"{path}.dataSourceRef")
    if reference.namespace:
        faults += spelt(f"{path}.dataSourceRef.namespace", reference.namespace, names.dns1123_label)
        if source is not None:
            why = "may not be specified when dataSourceRef.namespace is specified"
            faults.append(invalid(path, f"{path}.dataSource", why))
    elif source is not None and _identity(source) != _identity(reference):
        faults.append(invalid(path, f"{path}.dataSource", "must match dataSourceRef"))
    return faults


def _identity(source: TypedLocalObjectReference | TypedObjectReference) -> tuple[str, str, str]:
    return (source.apiGroup or "", source.kind, source.name)


def _check_data_source(source: TypedLocalObjectReference | TypedObjectReference, path: str) -> list[FieldError]:
    faults = [required(f"{path}.{name}") for name in ("name", "kind") if not getattr(source, name)]
    if not source.apiGroup and source.kind != "PersistentVolumeClaim":
        why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        faults.append(invalid(path, source.kind, why))
    elif source.apiGroup:
        faults += spelt(f"{path}.apiGroup", source.apiGroup, names.dns1123_subdomain)
    return faults
