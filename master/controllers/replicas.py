"""The ReplicaSet controller's decisions, without I/O: which pods to create or delete, and what the status says.

Follows Kubernetes' replica set controller and its `ActivePodsWithRanks` order of deletion.
"""

from __future__ import annotations

import copy
import datetime
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from barque.api import conditions, podstatus, timestamps
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


class ReplicaPlan(NamedTuple):
    create: int
    delete: list[PodView]


def plan_replicas(
    rs: ReplicaSet, active: Sequence[PodView], related_on_node: Mapping[str, int], now: datetime.datetime
) -> ReplicaPlan:
    """How many pods to create, or which to delete, so that `active` becomes the wished count.

    `related_on_node` counts, by node, the active pods of the same owner's ReplicaSets: crowded nodes are thinned first.
    """
    surplus = len(active) - wanted(rs)
    if surplus < 0:
        return ReplicaPlan(min(-surplus, BURST), [])
    ranked = sorted(active, key=lambda pod: deletion_rank(pod, related_on_node.get(pod.spec.nodeName, 0), now))
    return ReplicaPlan(0, ranked[: min(surplus, BURST)])


def wanted(rs: ReplicaSet) -> int:
    return 1 if rs.spec.replicas is None else rs.spec.replicas


def slow_start(count: int) -> Iterator[int]:
    """Sizes of batches that make up `count`: 1, 2, 4, …"""
    size = 1
    while count > 0:
        yield min(size, count)
        count -= size
        size *= 2


def deletion_rank(pod: PodView, related: int, now: datetime.datetime) -> tuple[object, ...]:
    """Sort key: first go the unscheduled, pending, unready, cheap, crowded, lately ready, often restarted, young.

    Times count by their order of magnitude (KEP-2185), so that of pods about as old it is not always the youngest.
    """
    ready = conditions.find(pod.status.conditions, "Ready")
    is_ready = ready is not None and ready.status == "True"
    restarts = max((s.restartCount for s in pod.status.containerStatuses), default=0)
    return (
        bool(pod.spec.nodeName),
        _PHASE_RANK.get(pod.status.phase, 1),
        is_ready,
        _deletion_cost(pod),
        -related,
        _magnitude(ready.lastTransitionTime if ready is not None and is_ready else "", now),
        -restarts,
        _magnitude(pod.metadata.creationTimestamp, now),
        pod.metadata.uid,
    )


def _magnitude(since: str, now: datetime.datetime) -> int:
    """The binary logarithm of the seconds since then; the lowest where there is no such time, or it is to come."""
    moment = timestamps.parse(since)
    passed_s = 0.0 if moment is None else (now - moment).total_seconds()
    return math.frexp(passed_s)[1] if passed_s > 0 else -1


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
    rs: ReplicaSet, own: Sequence[PodView], failure: ReplicaSetCondition | None, now: datetime.datetime
) -> ReplicaSetStatus:
    """The status that follows from the set's own pods; `failure` is the ReplicaFailure of this step, if any."""
    active = [pod for pod in own if podstatus.is_active(pod)]
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
        # Of pods that have ended nothing is left to terminate.
        terminatingReplicas=sum(1 for p in own if p.metadata.deletionTimestamp and not podstatus.is_terminal(p)),
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
