"""Validation of the workloads whose pods are alike: ReplicationController, ReplicaSet, Deployment, DaemonSet."""

from __future__ import annotations

from typing import Any

from barque.api import intorstring
from barque.api.errors import FieldError, forbidden, invalid, required
from barque.api.types.apps_v1 import (
    DaemonSet,
    DaemonSetUpdateStrategy,
    Deployment,
    DeploymentSpec,
    DeploymentStrategy,
    ReplicaSet,
    RollingUpdateDaemonSet,
)
from barque.api.types.core_v1 import PodTemplate, PodTemplateSpec, ReplicationController
from barque.api.types.meta_v1 import LabelSelector
from barque.api.validation.checks import at_most_whole, immutable, not_decremented, not_negative, share
from barque.api.validation.choices import choice
from barque.api.validation.metadata import check_labels
from barque.api.validation.templates import check_lasting, check_owned, check_template, check_workload

_WHOLE = "cannot be greater than status.replicas"
# What the status of one workload or another counts, apart from all its pods.
_PARTS = ("fullyLabeledReplicas", "updatedReplicas", "currentReplicas", "readyReplicas", "availableReplicas")
_DAEMON_COUNTS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
)


def check_pod_template(pod_template: PodTemplate) -> list[FieldError]:
    return check_template(pod_template.template or PodTemplateSpec(), "template")


def check_replication_controller(controller: ReplicationController) -> list[FieldError]:
    spec = controller.spec
    faults = not_negative("spec.minReadySeconds", spec.minReadySeconds)
    faults += check_labels(spec.selector, "spec.selector") if spec.selector else [required("spec.selector")]
    faults += not_negative("spec.replicas", spec.replicas)
    if spec.template is None or spec.template.spec is None:
        return [*faults, required("spec.template")]
    if spec.selector:
        faults += check_owned(LabelSelector(matchLabels=spec.selector), spec.template, "spec.template")
    faults += check_template(spec.template, "spec.template")
    return [*faults, *check_lasting(spec.template, "spec.template", "ReplicationController")]


def check_replica_set(replica_set: ReplicaSet) -> list[FieldError]:
    spec = replica_set.spec
    return [
        *not_negative("spec.replicas", spec.replicas),
        *not_negative("spec.minReadySeconds", spec.minReadySeconds),
        *check_workload(spec.selector, spec.template, "ReplicaSet"),
    ]


def check_deployment(deployment: Deployment) -> list[FieldError]:
    spec = deployment.spec
    return [
        *not_negative("spec.replicas", spec.replicas),
        *check_workload(spec.selector, spec.template, "Deployment"),
        *_check_strategy(spec.strategy or DeploymentStrategy(), "spec.strategy"),
        *not_negative("spec.minReadySeconds", spec.minReadySeconds),
        *not_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit),
        *_check_deadline(spec),
    ]


def check_daemon_set(daemon_set: DaemonSet) -> list[FieldError]:
    spec = daemon_set.spec
    return [
        *check_workload(spec.selector, spec.template, "DaemonSet"),
        *not_negative("spec.minReadySeconds", spec.minReadySeconds),
        *_check_daemon_strategy(spec.updateStrategy or DaemonSetUpdateStrategy(), "spec.updateStrategy"),
        *not_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit),
    ]


def check_selector_update(new: Any, old: Any) -> list[FieldError]:
    """Which pods a workload owns never changes."""
    return immutable("spec.selector", new.spec.selector, old.spec.selector)


def check_status(new: Any, old: Any) -> list[FieldError]:
    """The counts of a status; a part is never more than the whole."""
    status, total = new.status, new.status.replicas or 0
    faults = [*not_negative("status.replicas", total), *not_negative("status.observedGeneration", _generation(status))]
    for name in _PARTS:
        count = getattr(status, name, None)
        faults += not_negative(f"status.{name}", count)
        if count is not None and count > total >= 0:
            faults.append(invalid(f"status.{name}", count, _WHOLE))
    for name in ("unavailableReplicas", "terminatingReplicas"):
        faults += not_negative(f"status.{name}", getattr(status, name, None))
    available, ready = status.availableReplicas or 0, status.readyReplicas or 0
    if available > ready:
        faults.append(invalid("status.availableReplicas", available, "cannot be greater than readyReplicas"))
    return [*faults, *_check_collisions(new, old)]


def check_daemon_status(new: DaemonSet, old: DaemonSet) -> list[FieldError]:
    faults = [fault for name in _DAEMON_COUNTS for fault in not_negative(f"status.{name}", getattr(new.status, name))]
    faults += not_negative("status.observedGeneration", _generation(new.status))
    return [*faults, *_check_collisions(new, old)]


def _generation(status: Any) -> int | None:
    generation: int | None = status.observedGeneration
    return generation


def _check_collisions(new: Any, old: Any) -> list[FieldError]:
    """A count of names already taken, which make the next one differ."""
    count, before = getattr(new.status, "collisionCount", None), getattr(old.status, "collisionCount", None)
    path = "status.collisionCount"
    return [*not_negative(path, count), *not_decremented(path, count, before)]


def _check_deadline(spec: DeploymentSpec) -> list[FieldError]:
    deadline = spec.progressDeadlineSeconds
    faults = not_negative("spec.progressDeadlineSeconds", deadline)
    if deadline is not None and deadline <= (spec.minReadySeconds or 0):
        faults.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return faults


def _check_strategy(strategy: DeploymentStrategy, path: str) -> list[FieldError]:
    faults = choice(f"{path}.type", strategy.type, ("Recreate", "RollingUpdate"))
    rolling, below = strategy.rollingUpdate, f"{path}.rollingUpdate"
    if strategy.type == "Recreate" and rolling is not None:
        faults.append(forbidden(below, "may not be specified when strategy `type` is 'Recreate'"))
    elif strategy.type == "RollingUpdate" and rolling is None:
        faults.append(required(below, "this should be defaulted and never be nil"))
    elif rolling is not None:
        surge, unavailable = rolling.maxSurge or 0, rolling.maxUnavailable or 0
        faults += [*share(f"{below}.maxUnavailable", unavailable), *share(f"{below}.maxSurge", surge)]
        if intorstring.is_zero(surge) and intorstring.is_zero(unavailable):
            faults.append(invalid(f"{below}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
        faults += at_most_whole(f"{below}.maxUnavailable", unavailable)
    return faults


def _check_daemon_strategy(strategy: DaemonSetUpdateStrategy, path: str) -> list[FieldError]:
    faults = choice(f"{path}.type", strategy.type, ("RollingUpdate", "OnDelete"))
    if strategy.type != "RollingUpdate":
        return faults
    if strategy.rollingUpdate is None:
        return [*faults, required(f"{path}.rollingUpdate")]
    return [*faults, *_check_daemon_rolling(strategy.rollingUpdate, f"{path}.rollingUpdate")]


def _check_daemon_rolling(rolling: RollingUpdateDaemonSet, path: str) -> list[FieldError]:
    """A node has room for the old pod and the new, or goes without one for a while: one of the two."""
    surge, unavailable = rolling.maxSurge or 0, rolling.maxUnavailable or 0
    faults = [*share(f"{path}.maxUnavailable", unavailable), *share(f"{path}.maxSurge", surge)]
    faults += [*at_most_whole(f"{path}.maxUnavailable", unavailable), *at_most_whole(f"{path}.maxSurge", surge)]
    match not intorstring.is_zero(unavailable), not intorstring.is_zero(surge):
        case True, True:
            faults.append(invalid(f"{path}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
        case False, False:
            faults.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return faults
