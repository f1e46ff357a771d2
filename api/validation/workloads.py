"""Validation of ReplicaSet and Deployment."""

from __future__ import annotations

import re
from typing import Any

from barque.api.errors import FieldError, forbidden, invalid, not_supported, required
from barque.api.selectors import from_label_selector
from barque.api.types.apps_v1 import Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet
from barque.api.types.base import IntOrString
from barque.api.types.core_v1 import PodTemplateSpec
from barque.api.types.meta_v1 import LabelSelector
from barque.api.validation.checks import immutable, not_negative, one_of
from barque.api.validation.metadata import check_annotations, check_labels, check_selector
from barque.api.validation.pods import check_spec

_COUNTS = (
    "replicas",
    "readyReplicas",
    "availableReplicas",
    "updatedReplicas",
    "unavailableReplicas",
    "fullyLabeledReplicas",
)


_PERCENTAGE = re.compile("[0-9]{1,5}%", re.ASCII).fullmatch


def check_replica_set(replica_set: ReplicaSet) -> list[FieldError]:
    spec = replica_set.spec
    return [
        *not_negative("spec.replicas", spec.replicas),
        *not_negative("spec.minReadySeconds", spec.minReadySeconds),
        *_check_selector_and_template(spec.selector, spec.template, "replicaset"),
    ]


def check_deployment(deployment: Deployment) -> list[FieldError]:
    spec = deployment.spec
    return [
        *not_negative("spec.replicas", spec.replicas),
        *not_negative("spec.minReadySeconds", spec.minReadySeconds),
        *not_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit),
        *_check_deadline(spec),
        *_check_selector_and_template(spec.selector, spec.template, "deployment"),
        *_check_strategy(spec.strategy or DeploymentStrategy(), "spec.strategy"),
    ]


def check_selector_update(new: Any, old: Any) -> list[FieldError]:
    """Which pods a workload owns never changes."""
    return immutable("spec.selector", new.spec.selector, old.spec.selector)


def check_status(workload: Any) -> list[FieldError]:
    return [fault for name in _COUNTS for fault in not_negative(f"status.{name}", getattr(workload.status, name, None))]


def _check_deadline(spec: DeploymentSpec) -> list[FieldError]:
    deadline = spec.progressDeadlineSeconds
    faults = not_negative("spec.progressDeadlineSeconds", deadline)
    if deadline is not None and deadline <= (spec.minReadySeconds or 0):
        faults.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return faults


def _check_selector_and_template(
    selector: LabelSelector | None, template: PodTemplateSpec | None, workload: str
) -> list[FieldError]:
    faults = []
    if selector is None:
        faults.append(required("spec.selector"))
    elif not selector.matchLabels and not selector.matchExpressions:
        faults.append(invalid("spec.selector", selector, f"empty selector is invalid for {workload}"))
    else:
        faults += check_selector(selector, "spec.selector")
    if template is None or template.spec is None:
        return [*faults, required("spec.template")]
    labels = template.metadata.labels if template.metadata else {}
    if selector is not None and not faults and not from_label_selector(selector).matches(labels):
        faults.append(invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    faults += check_labels(labels, "spec.template.metadata.labels")
    if template.metadata:
        faults += check_annotations(template.metadata.annotations, "spec.template.metadata.annotations")
    faults += check_spec(template.spec, "spec.template.spec")
    if template.spec.restartPolicy in ("OnFailure", "Never"):
        path = "spec.template.spec.restartPolicy"
        faults.append(not_supported(path, template.spec.restartPolicy, ["Always"]))
    return faults


def _check_strategy(strategy: DeploymentStrategy, path: str) -> list[FieldError]:
    faults = one_of(f"{path}.type", strategy.type, ("Recreate", "RollingUpdate"))
    rolling = strategy.rollingUpdate
    if strategy.type == "Recreate" and rolling is not None:
        why = "may not be specified when strategy `type` is 'Recreate'"
        faults.append(forbidden(f"{path}.rollingUpdate", why))
    elif strategy.type == "RollingUpdate" and rolling is None:
        faults.append(required(f"{path}.rollingUpdate", "this should be defaulted and never be nil"))
    elif rolling is not None:
        surge, unavailable = rolling.maxSurge or 0, rolling.maxUnavailable or 0
        below = f"{path}.rollingUpdate"
        faults += [*_check_share(f"{below}.maxUnavailable", unavailable), *_check_share(f"{below}.maxSurge", surge)]
        if _is_zero(surge) and _is_zero(unavailable):
            faults.append(invalid(f"{below}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
        if isinstance(unavailable, str) and _PERCENTAGE(unavailable) and int(unavailable[:-1]) > 100:
            faults.append(invalid(f"{below}.maxUnavailable", unavailable, "must not be greater than 100%"))
    return faults


def _check_share(path: str, value: IntOrString) -> list[FieldError]:
    if isinstance(value, int):
        return not_negative(path, value)
    if _PERCENTAGE(value):
        return []
    why = "must be an integer or a percentage: numeric characters followed by a percent sign (e.g. '1%', or '93%')"
    return [invalid(path, value, why)]


def _is_zero(value: IntOrString) -> bool:
    return value == 0 or (isinstance(value, str) and bool(re.fullmatch("0+%", value)))
