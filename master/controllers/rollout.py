"""The Deployment controller's decisions, without I/O: one step of a rollout from what is seen to what is written.

In: a Deployment, its ReplicaSets, the pods of its old sets, the time. Out: a `Plan`. Each step is complete in itself
and is followed by another when its writes come back through the watch, as in Kubernetes' deployment controller.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from barque.api import podstatus
from barque.api.types.apps_v1 import Deployment, DeploymentStatus, ReplicaSet
from barque.api.views import PodView
from barque.master.controllers import revisions, rollout_sizes, rollout_status
from barque.master.controllers.rollout_sizes import Sizes, desired, is_rolling, max_surge, size


class Said(NamedTuple):
    """An event on the Deployment."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Plan(NamedTuple):
    """What to write: ReplicaSets as they shall be, annotations of the Deployment, its status; when to look again."""

    status: DeploymentStatus
    create: ReplicaSet | None = None
    updates: Sequence[ReplicaSet] = ()
    deletes: Sequence[ReplicaSet] = ()
    annotations: Mapping[str, str] = MappingProxyType({})
    events: Sequence[Said] = ()
    again_s: float | None = None


class _Seen(NamedTuple):
    deployment: Deployment
    new: ReplicaSet | None
    old: list[ReplicaSet]
    pods_of_old: Sequence[PodView]
    now: datetime.datetime

    @property
    def sets(self) -> list[ReplicaSet]:
        return [*([self.new] if self.new else []), *self.old]


def plan_rollout(
    deployment: Deployment, sets: Sequence[ReplicaSet], pods: Sequence[PodView], now: datetime.datetime
) -> Plan:
    """The next step. `pods` are those of all `sets`, which all belong to the Deployment."""
    new = revisions.find_current(deployment, sets)
    old = [rs for rs in sets if rs is not new]
    new_uid = new.metadata.uid if new else ""
    pods_of_old = [p for p in pods if all(r.uid != new_uid for r in p.metadata.ownerReferences)]
    seen = _Seen(deployment, new, old, pods_of_old, now)
    status = rollout_status.plan_counts(deployment, new, seen.sets, now)
    if deployment.metadata.deletionTimestamp:
        return Plan(status)
    rollout_status.note_pause(deployment, status, now)
    if deployment.spec.paused or rollout_sizes.is_scaling(deployment, seen.sets):
        return _plan_resize(seen, status)
    if is_rolling(deployment):
        return _plan_rolling(seen, status)
    return _plan_recreate(seen, status)


def _plan_resize(seen: _Seen, status: DeploymentStatus) -> Plan:
    """Paused, or scaled: change sizes, start nothing new."""
    sizes = rollout_sizes.plan_scaling(seen.deployment, seen.new, seen.old)
    deletes = revisions.plan_cleanup(seen.deployment, seen.old) if seen.deployment.spec.paused else []
    updates, events = _sized(seen, sizes)
    return Plan(status, updates=updates, deletes=deletes, events=events, annotations=_revision(seen, seen.new))


def _plan_rolling(seen: _Seen, status: DeploymentStatus) -> Plan:
    if seen.new is None:
        return _plan_create(seen, status)
    return _plan_step(seen, status, rollout_sizes.plan_rolling_update(seen.deployment, seen.new, seen.old))


def _plan_recreate(seen: _Seen, status: DeploymentStatus) -> Plan:
    """All old pods go, and are gone, before the first new one comes."""
    sizes = {rs.metadata.name: 0 for rs in seen.old if size(rs) > 0}
    still_running = any(not podstatus.is_terminal(p) for p in seen.pods_of_old)
    if sizes or still_running:
        return _plan_step(seen, status, sizes)
    if seen.new is None:
        return _plan_create(seen, status)
    return _plan_step(seen, status, {seen.new.metadata.name: desired(seen.deployment)})


def _plan_create(seen: _Seen, status: DeploymentStatus) -> Plan:
    deployment = seen.deployment
    rs = revisions.new_replica_set(deployment, revisions.next_revision(seen.old))
    rs.spec.replicas = rollout_sizes.new_set_size(deployment, 0, sum(map(size, seen.old)))
    revisions.annotate_sizes(rs, desired(deployment), desired(deployment) + max_surge(deployment))
    if rollout_status.has_deadline(deployment):
        rollout_status.note_set(status, rollout_status.NEW_SET_CREATED, rs.metadata.name, seen.now)
    events = [_scaled(rs, 0, rs.spec.replicas)] if rs.spec.replicas else []
    return Plan(status, create=rs, annotations=_revision(seen, rs), events=events)


def _plan_step(seen: _Seen, status: DeploymentStatus, sizes: Sizes) -> Plan:
    deployment, new = seen.deployment, seen.new
    if new is not None and rollout_status.has_deadline(deployment) and rollout_status.progressing(status) is None:
        rollout_status.note_set(status, rollout_status.NEW_SET_FOUND, new.metadata.name, seen.now)
    updates, events = _sized(seen, sizes)
    is_done = not updates and rollout_status.is_complete(deployment, status)
    deletes = revisions.plan_cleanup(deployment, seen.old) if is_done else []
    rollout_status.note_progress(deployment, status, new, seen.now)
    rollout_status.note_replica_failure(status, new, seen.old)
    again_s = rollout_status.deadline_left_s(deployment, status, seen.now) or None
    return Plan(status, None, updates, deletes, _revision(seen, new), events, again_s)


def _sized(seen: _Seen, sizes: Sizes) -> tuple[list[ReplicaSet], list[Said]]:
    """The sets that change, as they shall be, and what is said about it."""
    deployment = seen.deployment
    wish, most = desired(deployment), desired(deployment) + max_surge(deployment)
    updates, events = [], []
    for rs in seen.sets:
        target = sizes.get(rs.metadata.name, size(rs))
        changed = copy.deepcopy(rs)
        changed.spec.replicas = target
        differs = target != size(rs)
        if target > 0 or differs:
            differs = revisions.annotate_sizes(changed, wish, most) or differs
        if rs is seen.new:
            differs = revisions.annotate_revision(changed, deployment, revisions.next_revision(seen.old)) or differs
            differs = changed.spec.minReadySeconds != deployment.spec.minReadySeconds or differs
            changed.spec.minReadySeconds = deployment.spec.minReadySeconds
        if differs:
            updates.append(changed)
        if target != size(rs):
            events.append(_scaled(rs, size(rs), target))
    return updates, events


def _revision(seen: _Seen, new: ReplicaSet | None) -> dict[str, str]:
    """The Deployment's own revision annotation, where it is not the new set's."""
    if new is None:
        return {}
    revision = str(max(revisions.revision_of(new), revisions.next_revision(seen.old)))
    if seen.deployment.metadata.annotations.get(revisions.REVISION) == revision:
        return {}
    return {revisions.REVISION: revision}


def _scaled(rs: ReplicaSet, before: int, after: int) -> Said:
    way = "up" if after > before else "down"
    return Said("Normal", "ScalingReplicaSet", f"Scaled {way} replica set {rs.metadata.name} from {before} to {after}")
