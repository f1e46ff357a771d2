"""Validation of metadata, of labels, and of label selectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from barque.api import names
from barque.api.errors import FieldError, forbidden, invalid, required, too_long
from barque.api.types.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference
from barque.api.validation.checks import immutable, not_negative, spelt

_MAX_ANNOTATIONS_BYTES = 256 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def check(meta: ObjectMeta, name_check: Callable[[str], list[str]], *, namespaced: bool) -> list[FieldError]:
    """What is wrong with an object's metadata; `name_check` judges the name."""
    faults = []
    if meta.generateName:
        # What follows the prefix makes its last dash an inner one.
        masked = meta.generateName[:-1] + "a" if meta.generateName.endswith("-") else meta.generateName
        faults += [invalid("metadata.generateName", meta.generateName, fault) for fault in name_check(masked)]
    if meta.name:
        faults += spelt("metadata.name", meta.name, name_check)
    else:
        faults.append(required("metadata.name", "name or generateName is required"))
    if namespaced and not meta.namespace:
        faults.append(required("metadata.namespace"))
    elif namespaced:
        faults += spelt("metadata.namespace", meta.namespace, names.dns1123_label)
    elif meta.namespace:
        faults.append(forbidden("metadata.namespace", "not allowed on this type"))
    faults += not_negative("metadata.generation", meta.generation)
    faults += check_labels(meta.labels, "metadata.labels")
    faults += check_annotations(meta.annotations, "metadata.annotations")
    return [*faults, *_check_owners(meta.ownerReferences), *_check_finalizers(meta.finalizers)]


def check_labels(labels: Mapping[str, str], path: str) -> list[FieldError]:
    faults = []
    for key, value in labels.items():
        faults += [*spelt(path, key, names.qualified_name), *spelt(path, value, names.label_value)]
    return faults


def check_annotations(annotations: Mapping[str, str], path: str) -> list[FieldError]:
    faults = []
    for key in annotations:
        faults += [invalid(path, key, fault) for fault in names.qualified_name(key.lower())]
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _MAX_ANNOTATIONS_BYTES:
        faults.append(too_long(path, _MAX_ANNOTATIONS_BYTES))
    return faults


def check_selector(selector: LabelSelector, path: str) -> list[FieldError]:
    faults = check_labels(selector.matchLabels, f"{path}.matchLabels")
    for index, expression in enumerate(selector.matchExpressions):
        faults += _check_expression(expression, f"{path}.matchExpressions[{index}]")
    return faults


def check_update(new: ObjectMeta, old: ObjectMeta) -> list[FieldError]:
    """What may not change in the metadata of an object that exists."""
    faults = []
    for name in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        faults += immutable(f"metadata.{name}", getattr(new, name), getattr(old, name))
    if (new.generation or 0) < (old.generation or 0):
        faults.append(invalid("metadata.generation", new.generation, "must not be decremented"))
    added = [name for name in new.finalizers if name not in old.finalizers]
    if old.deletionTimestamp and added:
        listed = ", ".join(f'"{name}"' for name in added)
        why = "no new finalizers can be added if the object is being deleted, found new finalizers []string"
        faults.append(forbidden("metadata.finalizers", f"{why}{{{listed}}}"))
    return faults


def _check_expression(expression: LabelSelectorRequirement, path: str) -> list[FieldError]:
    faults = spelt(f"{path}.key", expression.key, names.qualified_name)
    match expression.operator:
        case "In" | "NotIn":
            if not expression.values:
                faults.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        case "Exists" | "DoesNotExist":
            if expression.values:
                why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                faults.append(forbidden(f"{path}.values", why))
        case other:
            faults.append(invalid(f"{path}.operator", other, "not a valid selector operator"))
    for index, value in enumerate(expression.values):
        faults += spelt(f"{path}.values[{index}]", value, names.label_value)
    return faults


def _check_owners(owners: list[OwnerReference]) -> list[FieldError]:
    faults = []
    for index, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{index}]"
        if not owner.apiVersion.rpartition("/")[2] or owner.apiVersion.count("/") > 1:
            faults.append(invalid(f"{path}.apiVersion", owner.apiVersion, "version must not be empty"))
        empty = [name for name in ("kind", "name", "uid") if not getattr(owner, name)]
        faults += [invalid(f"{path}.{name}", "", "must not be empty") for name in empty]
        if (owner.apiVersion, owner.kind) == ("v1", "Event"):
            faults.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
    controllers = [owner.name for owner in owners if owner.controller]
    for name in controllers[1:]:
        both = f'Found "true" in references for {controllers[0]} and {name}'
        why = f"Only one reference can have Controller set to true. {both}"
        faults.append(invalid("metadata.ownerReferences", owners, why))
    return faults


def check_finalizer(path: str, name: str) -> list[FieldError]:
    """One of Kubernetes' own finalizers, or somebody's, named with their domain."""
    faults = spelt(path, name, names.qualified_name)
    if "/" not in name and name not in _STANDARD_FINALIZERS:
        faults.append(invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified"))
    return faults


def _check_finalizers(finalizers: list[str]) -> list[FieldError]:
    faults = []
    for index, name in enumerate(finalizers):
        faults += check_finalizer(f"metadata.finalizers[{index}]", name)
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        why = "finalizer orphan and foregroundDeletion cannot be both set"
        faults.append(invalid("metadata.finalizers", finalizers, why))
    return faults
