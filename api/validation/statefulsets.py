"""Validation of StatefulSet: pods with names and volumes of their own."""

from __future__ import annotations

import copy

from barque.api import intorstring, names
from barque.api.errors import FieldError, forbidden, invalid, required
from barque.api.types.apps_v1 import (
    StatefulSet,
    StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetSpec,
    StatefulSetUpdateStrategy,
)
from barque.api.types.core_v1 import PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume
from barque.api.validation.checks import at_most_whole, not_negative, share, spelt
from barque.api.validation.choices import choice
from barque.api.validation.templates import check_workload

_MANAGEMENT = ("OrderedReady", "Parallel")
_STRATEGIES = ("RollingUpdate", "OnDelete")
_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_FORBIDDEN = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def check(stateful_set: StatefulSet) -> list[FieldError]:
    spec = stateful_set.spec
    faults = _one_of_two("spec.podManagementPolicy", spec.podManagementPolicy, _MANAGEMENT)
    faults += _check_strategy(spec.updateStrategy or StatefulSetUpdateStrategy(), "spec.updateStrategy")
    if spec.persistentVolumeClaimRetentionPolicy is not None:
        path = "spec.persistentVolumeClaimRetentionPolicy"
        faults += _check_retention(spec.persistentVolumeClaimRetentionPolicy, path)
    faults += not_negative("spec.replicas", spec.replicas)
    faults += not_negative("spec.minReadySeconds", spec.minReadySeconds)
    faults += not_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit)
    if spec.ordinals is not None:
        faults += not_negative("spec.ordinals.start", spec.ordinals.start)
    if spec.serviceName:
        faults += spelt("spec.serviceName", spec.serviceName, names.dns1123_label)
    return [*faults, *check_workload(spec.selector, _with_claims(spec), "StatefulSet")]


def check_update(new: StatefulSet, old: StatefulSet) -> list[FieldError]:
    """What the names and volumes of existing pods hang on stays."""
    allowed = copy.copy(old.spec)
    for name in _MUTABLE:
        setattr(allowed, name, getattr(new.spec, name))
    return [] if allowed == new.spec else [forbidden("spec", _FORBIDDEN)]


def _with_claims(spec: StatefulSetSpec) -> PodTemplateSpec | None:
    """The template as its pods will be: with a volume for each claim that they get."""
    template = spec.template
    if template is None or template.spec is None or not spec.volumeClaimTemplates:
        return template
    template = copy.copy(template)
    pod_spec = template.spec = copy.copy(template.spec)
    if pod_spec is None:
        return template
    claimed = [claim.metadata.name for claim in spec.volumeClaimTemplates if claim.metadata.name]
    pod_spec.volumes = [
        *(volume for volume in pod_spec.volumes if volume.name not in claimed),
        *(
            Volume(name=name, persistentVolumeClaim=PersistentVolumeClaimVolumeSource(claimName=name))
            for name in claimed
        ),
    ]
    return template


def _check_strategy(strategy: StatefulSetUpdateStrategy, path: str) -> list[FieldError]:
    faults = _one_of_two(f"{path}.type", strategy.type, _STRATEGIES)
    rolling, below = strategy.rollingUpdate, f"{path}.rollingUpdate"
    if rolling is None:
        return faults
    if strategy.type == "OnDelete":
        return [*faults, invalid(below, rolling, "only allowed for updateStrategy 'RollingUpdate'")]
    faults += not_negative(f"{below}.partition", rolling.partition)
    if rolling.maxUnavailable is not None:
        faults += share(f"{below}.maxUnavailable", rolling.maxUnavailable)
        if intorstring.is_zero(rolling.maxUnavailable):
            faults.append(invalid(f"{below}.maxUnavailable", rolling.maxUnavailable, "cannot be 0"))
        faults += at_most_whole(f"{below}.maxUnavailable", rolling.maxUnavailable)
    return faults


def _check_retention(policy: StatefulSetPersistentVolumeClaimRetentionPolicy, path: str) -> list[FieldError]:
    allowed = ("Retain", "Delete")
    return [
        *choice(f"{path}.whenDeleted", policy.whenDeleted, allowed),
        *choice(f"{path}.whenScaled", policy.whenScaled, allowed),
    ]


def _one_of_two(path: str, value: str, allowed: tuple[str, str]) -> list[FieldError]:
    """Kubernetes words an unknown value of these two fields in its own way."""
    if not value:
        return [required(path)]
    return [] if value in allowed else [invalid(path, value, f"must be '{allowed[0]}' or '{allowed[1]}'")]
