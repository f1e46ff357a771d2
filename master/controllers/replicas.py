"""The ReplicaSet controller's decisions, without I/O: which pods to create or delete, and what the status says.

Follows Kubernetes' replica set controller and its `ActivePodsWithRanks` order of deletion.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from barque.api import conditions, podstatus
from barque.api.types.apps_v1 import ReplicaSet, ReplicaSetCondition, ReplicaSetStatus
from barque.api.types.core_v1 import Pod, PodSpec
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.views import PodView
from barque.client.clock import timestamp
from barque.master.controllers.owners import controller_reference

# Kubernetes' burst: no single step creates or deletes more.
BURST = 500
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
# The alphabet of generated names: no vowels, hence no words.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_PHASE_RANK = {"Pending": 0, "": 1, "Unknown": 1, "Running": 2}
# Later than any time in an object: a pod that never became ready goes before those that did.
_NEVER = "9999"


class ReplicaPlan(NamedTuple):
    create: int
    delete: list[PodView]


def plan_replicas(rs: ReplicaSet, active: Sequence[PodView], related_on_node: Mapping[str, int]) -> ReplicaPlan:
    """How many pods to create, or which to delete, so that `active` becomes the wished count.

    `related_on_node` counts, by node, the active pods of the same owner's ReplicaSets: crowded nodes are thinned first.
    """
    surplus = len(active) - wanted(rs)
    if surplus < 0:
        return ReplicaPlan(min(-surplus, BURST), [])
    ranked = sorted(active, key=lambda pod: deletion_rank(pod, related_on_node.get(pod.spec.nodeName, 0)))
    return ReplicaPlan(0, ranked[: min(surplus, BURST)])


def wanted(rs: ReplicaSet) -> int:
    return 1 if rs.spec.replicas is None else rs.spec.replicas


def deletion_rank(pod: PodView, related: int) -> tuple[object, ...]:
    """Sort key: first go the unscheduled, pending, unready, cheap, crowded, lately ready, often restarted, young."""
    ready = conditions.find(pod.status.conditions, "Ready")
    is_ready = ready is not None and ready.status == "True"
    ready_since = ready.lastTransitionTime or _NEVER if ready is not None and is_ready else _NEVER
    restarts = max((s.restartCount for s in pod.status.containerStatuses), default=0)
    return (
        bool(pod.spec.nodeName),
        _PHASE_RANK.get(pod.status.phase, 1),
        is_ready,
        _deletion_cost(pod),
        -related,
        _Newest(ready_since),
        -restarts,
        _Newest(pod.metadata.creationTimestamp or _NEVER),
        pod.metadata.uid,
    )


class _Newest(str):
    """A timestamp that sorts the latest first."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def _deletion_cost(pod: PodView) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def new_pod(rs: ReplicaSet, random: Callable[[], float]) -> Pod:
    """One more pod of this set. It is named here, so that a create whose outcome is unknown can be sent again."""
    template = rs.spec.template
    meta = template.metadata if template and template.metadata else ObjectMeta()
    # 253 is the longest name, of which the suffix takes five.
    prefix = f"{rs.metadata.name}-"[:248]
    suffix = "".join(_ALPHABET[int(random() * len(_ALPHABET))] for _ in range(5))
    return Pod(
        metadata=ObjectMeta(
            name=prefix + suffix,
            generateName=f"{rs.metadata.name}-",
            namespace=rs.metadata.namespace,
            labels=dict(meta.labels),
            annotations=dict(meta.annotations),
            finalizers=list(meta.finalizers),
            ownerReferences=[controller_reference(rs)],
        ),
        spec=copy.deepcopy(template.spec) if template and template.spec else PodSpec(),
    )


def plan_status(
    rs: ReplicaSet, active: Sequence[PodView], failure: ReplicaSetCondition | None, now: datetime.datetime
) -> ReplicaSetStatus:
    """The status that follows from the active pods; `failure` is the ReplicaFailure condition of this step, if any."""
    template = rs.spec.template
    labels = template.metadata.labels if template and template.metadata else {}
    min_ready_s = rs.spec.minReadySeconds or 0
    kept = [c for c in rs.status.conditions if c.type != "ReplicaFailure"]
    if failure is not None:
        before = conditions.find(rs.status.conditions, "ReplicaFailure")
        failure.lastTransitionTime = before.lastTransitionTime if before else timestamp(now)
        kept.append(failure)
    return ReplicaSetStatus(
        replicas=len(active),
        fullyLabeledReplicas=_or_none(sum(1 for p in active if labels.items() <= p.metadata.labels.items())),
        readyReplicas=_or_none(sum(1 for p in active if podstatus.is_ready(p))),
        availableReplicas=_or_none(sum(1 for p in active if podstatus.is_available(p, min_ready_s, now))),
        observedGeneration=rs.metadata.generation,
        conditions=kept,
    )


def next_availability_s(rs: ReplicaSet, active: Sequence[PodView], now: datetime.datetime) -> float | None:
    """When the next ready pod becomes available, or None where none is waiting."""
    min_ready_s = rs.spec.minReadySeconds or 0
    waits = (podstatus.available_in(p, min_ready_s, now) for p in active)
    return min((w for w in waits if w), default=None)


def _or_none(count: int) -> int | None:
    """Kubernetes leaves zero counts out of the status."""
    return count or None
