"""What a Deployment's status says, without I/O: counts, and the conditions Available, Progressing and ReplicaFailure.

Reasons and messages are Kubernetes', because tools wait for them.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Sequence

from barque.api import conditions, timestamps
from barque.api.types.apps_v1 import Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet
from barque.client.clock import timestamp
from barque.master.controllers.rollout_sizes import desired, max_unavailable, size

NEW_SET_CREATED = "NewReplicaSetCreated"
NEW_SET_FOUND = "FoundNewReplicaSet"
NEW_SET_AVAILABLE = "NewReplicaSetAvailable"
UPDATED = "ReplicaSetUpdated"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"
RESUMED = "DeploymentResumed"
# Kubernetes' way to say "no deadline".
NO_DEADLINE_S = 2**31 - 1


def has_deadline(deployment: Deployment) -> bool:
    return deployment.spec.progressDeadlineSeconds not in (None, NO_DEADLINE_S)


def progressing(status: DeploymentStatus) -> DeploymentCondition | None:
    return conditions.find(status.conditions, "Progressing")


def plan_counts(
    deployment: Deployment, new: ReplicaSet | None, sets: Sequence[ReplicaSet], now: datetime.datetime
) -> DeploymentStatus:
    """The counts and the Available condition; the other conditions are as before."""
    ready_to_serve = sum(rs.status.availableReplicas or 0 for rs in sets)
    status = DeploymentStatus(
        observedGeneration=deployment.metadata.generation,
        replicas=sum(rs.status.replicas for rs in sets) or None,
        updatedReplicas=(new.status.replicas if new else 0) or None,
        readyReplicas=sum(rs.status.readyReplicas or 0 for rs in sets) or None,
        availableReplicas=ready_to_serve or None,
        unavailableReplicas=max(sum(map(size, sets)) - ready_to_serve, 0) or None,
        terminatingReplicas=_terminating(sets),
        collisionCount=deployment.status.collisionCount,
        conditions=copy.deepcopy(deployment.status.conditions),
    )
    if ready_to_serve >= desired(deployment) - max_unavailable(deployment):
        verdict = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        verdict = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    _set(status, "Available", *verdict, now)
    return status


def _terminating(sets: Sequence[ReplicaSet]) -> int | None:
    """Pods of all sets that are being stopped; None until each set has said how many it has."""
    counts = [rs.status.terminatingReplicas for rs in sets]
    return None if None in counts else sum(count or 0 for count in counts)


def note_progress(
    deployment: Deployment, status: DeploymentStatus, new: ReplicaSet | None, now: datetime.datetime
) -> None:
    """Set Progressing in `status` from what has changed since the Deployment's own, or since its deadline."""
    current = progressing(status)
    if not has_deadline(deployment):
        status.conditions = [c for c in status.conditions if c.type != "Progressing"]
        return
    done_before = status.replicas == status.updatedReplicas and current and current.reason == NEW_SET_AVAILABLE
    if done_before:
        return
    subject = f'ReplicaSet "{new.metadata.name}"' if new else f'Deployment "{deployment.metadata.name}"'
    if is_complete(deployment, status):
        _set(status, "Progressing", "True", NEW_SET_AVAILABLE, f"{subject} has successfully progressed.", now)
    elif _has_moved(deployment.status, status):
        _set(status, "Progressing", "True", UPDATED, f"{subject} is progressing.", now, restart=True)
    elif deadline_left_s(deployment, status, now) == 0:
        _set(status, "Progressing", "False", TIMED_OUT, f"{subject} has timed out progressing.", now)


def note_set(status: DeploymentStatus, reason: str, name: str, now: datetime.datetime) -> None:
    """A new ReplicaSet was created, or one was found for the template."""
    said = "Created new" if reason == NEW_SET_CREATED else "Found new"
    _set(status, "Progressing", "True", reason, f'{said} replica set "{name}"', now)


def note_create_failure(status: DeploymentStatus, message: str, now: datetime.datetime) -> None:
    _set(status, "Progressing", "False", "ReplicaSetCreateError", message, now)


def note_pause(deployment: Deployment, status: DeploymentStatus, now: datetime.datetime) -> None:
    """Pausing stops the deadline's clock; resuming starts it anew."""
    current = progressing(status)
    if not has_deadline(deployment) or (current and current.reason == TIMED_OUT):
        return
    is_noted = current is not None and current.reason == PAUSED
    if deployment.spec.paused and not is_noted:
        _set(status, "Progressing", "Unknown", PAUSED, "Deployment is paused", now)
    elif not deployment.spec.paused and is_noted:
        _set(status, "Progressing", "Unknown", RESUMED, "Deployment is resumed", now)


def note_replica_failure(status: DeploymentStatus, new: ReplicaSet | None, old: Sequence[ReplicaSet]) -> None:
    """Repeat the sets' ReplicaFailure, the new one's first."""
    status.conditions = [c for c in status.conditions if c.type != "ReplicaFailure"]
    for rs in (*([new] if new else []), *old):
        failure = conditions.find(rs.status.conditions, "ReplicaFailure")
        if failure is not None:
            status.conditions.append(
                DeploymentCondition(
                    type="ReplicaFailure",
                    status=failure.status,
                    reason=failure.reason,
                    message=failure.message,
                    lastUpdateTime=failure.lastTransitionTime,
                    lastTransitionTime=failure.lastTransitionTime,
                )
            )
            return


def is_complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    """Every wished pod is of the new template and available, and no other is left."""
    wish = desired(deployment)
    return (
        (status.updatedReplicas or 0) == wish
        and (status.replicas or 0) == wish
        and (status.availableReplicas or 0) == wish
    )


def _has_moved(before: DeploymentStatus, after: DeploymentStatus) -> bool:
    def old_pods(status: DeploymentStatus) -> int:
        return (status.replicas or 0) - (status.updatedReplicas or 0)

    return (
        (after.updatedReplicas or 0) > (before.updatedReplicas or 0)
        or old_pods(after) < old_pods(before)
        or (after.readyReplicas or 0) > (before.readyReplicas or 0)
        or (after.availableReplicas or 0) > (before.availableReplicas or 0)
    )


def deadline_left_s(deployment: Deployment, status: DeploymentStatus, now: datetime.datetime) -> float | None:
    """Seconds until the rollout counts as stuck, 0 once it does; None where no deadline runs."""
    current = progressing(status)
    if not has_deadline(deployment) or current is None or current.reason == NEW_SET_AVAILABLE:
        return None
    if deployment.spec.paused or current.reason == PAUSED:
        return None
    since = timestamps.parse(current.lastUpdateTime)
    if since is None or current.reason == TIMED_OUT:
        return 0.0
    passed_s = (now - since).total_seconds()
    return max(0.0, (deployment.spec.progressDeadlineSeconds or 0) - passed_s)


def _set(
    status: DeploymentStatus,
    type: str,
    value: str,
    reason: str,
    message: str,
    now: datetime.datetime,
    *,
    restart: bool = False,
) -> None:
    """Set a condition; with `restart` the deadline's clock starts anew although nothing else has changed."""
    stamp = timestamp(now)
    new = DeploymentCondition(
        type=type, status=value, reason=reason, message=message, lastUpdateTime=stamp, lastTransitionTime=stamp
    )
    if not conditions.set_condition(status.conditions, new) and restart:
        held = conditions.find(status.conditions, type)
        assert held is not None
        held.lastUpdateTime = stamp
