"""A Deployment's revisions, without I/O: the current ReplicaSet, its annotations, and which sets are history.

Follows Kubernetes' deployment controller: the current set is the oldest whose template equals the Deployment's but for
the hash label; revisions count up in `deployment.kubernetes.io/revision`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from barque.api import hashing
from barque.api.types.apps_v1 import Deployment, ReplicaSet, ReplicaSetSpec
from barque.api.types.core_v1 import PodTemplateSpec
from barque.api.types.meta_v1 import LabelSelector, ObjectMeta
from barque.master.controllers.owners import controller_reference

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# What a ReplicaSet does not inherit from its Deployment.
_OWN_ANNOTATIONS = {REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, LAST_APPLIED}


def age_order(rs: ReplicaSet) -> tuple[str, str]:
    """Sort key: the oldest first."""
    return (rs.metadata.creationTimestamp, rs.metadata.name)


def without_hash(template: PodTemplateSpec | None) -> PodTemplateSpec:
    bare = copy.deepcopy(template) if template else PodTemplateSpec()
    if bare.metadata is None:
        bare.metadata = ObjectMeta()
    bare.metadata.labels.pop(HASH_LABEL, None)
    return bare


def find_current(deployment: Deployment, sets: Sequence[ReplicaSet]) -> ReplicaSet | None:
    """The ReplicaSet of the Deployment's present template."""
    template = without_hash(deployment.spec.template)
    return next((rs for rs in sorted(sets, key=age_order) if without_hash(rs.spec.template) == template), None)


def revision_of(rs: ReplicaSet | Deployment) -> int:
    try:
        return int(rs.metadata.annotations.get(REVISION, "0"))
    except ValueError:
        return 0


def next_revision(old: Sequence[ReplicaSet]) -> int:
    return max((revision_of(rs) for rs in old), default=0) + 1


def new_replica_set(deployment: Deployment, revision: int) -> ReplicaSet:
    """The ReplicaSet of the present template, without replicas yet."""
    template = without_hash(deployment.spec.template)
    assert template.metadata is not None
    digest = hashing.template_hash(template, deployment.status.collisionCount)
    template.metadata.labels[HASH_LABEL] = digest
    selector = copy.deepcopy(deployment.spec.selector) or LabelSelector()
    selector.matchLabels[HASH_LABEL] = digest
    rs = ReplicaSet(
        metadata=ObjectMeta(
            name=f"{deployment.metadata.name}-{digest}",
            namespace=deployment.metadata.namespace,
            labels=dict(template.metadata.labels),
            ownerReferences=[controller_reference(deployment)],
        ),
        spec=ReplicaSetSpec(
            replicas=0, minReadySeconds=deployment.spec.minReadySeconds, selector=selector, template=template
        ),
    )
    annotate_revision(rs, deployment, revision)
    return rs


def annotate_revision(rs: ReplicaSet, deployment: Deployment, revision: int) -> bool:
    """Give the set the Deployment's annotations and, where newer, the revision; returns whether anything changed."""
    before = dict(rs.metadata.annotations)
    annotations = rs.metadata.annotations
    annotations.update({k: v for k, v in deployment.metadata.annotations.items() if k not in _OWN_ANNOTATIONS})
    old = revision_of(rs)
    if old < revision:
        annotations[REVISION] = str(revision)
        if old:
            earlier = [r for r in annotations.get(REVISION_HISTORY, "").split(",") if r]
            annotations[REVISION_HISTORY] = ",".join([*earlier, str(old)])
    return annotations != before


def annotate_sizes(rs: ReplicaSet, desired: int, most: int) -> bool:
    """Note the Deployment's size on the set, for proportional scaling; returns whether anything changed."""
    sizes = {DESIRED_REPLICAS: str(desired), MAX_REPLICAS: str(most)}
    changed = not sizes.items() <= rs.metadata.annotations.items()
    rs.metadata.annotations.update(sizes)
    return changed


def number_in(rs: ReplicaSet, annotation: str) -> int | None:
    try:
        return int(rs.metadata.annotations[annotation])
    except (KeyError, ValueError):
        return None


def plan_cleanup(deployment: Deployment, old: Sequence[ReplicaSet]) -> list[ReplicaSet]:
    """The oldest empty sets beyond `revisionHistoryLimit`."""
    limit = deployment.spec.revisionHistoryLimit
    if limit is None:
        return []
    alive = sorted(
        (rs for rs in old if not rs.metadata.deletionTimestamp), key=lambda rs: (revision_of(rs), age_order(rs))
    )
    surplus = alive[: max(len(alive) - limit, 0)]
    return [rs for rs in surplus if _is_idle(rs)]


def _is_idle(rs: ReplicaSet) -> bool:
    observed = (rs.metadata.generation or 0) <= (rs.status.observedGeneration or 0)
    return rs.status.replicas == 0 and rs.spec.replicas == 0 and observed
