"""Defaults of the workloads whose pods last: PodTemplate, ReplicationController, ReplicaSet, Deployment, DaemonSet,
StatefulSet.
"""

from __future__ import annotations

from barque.api.defaults.amounts import canonicalise
from barque.api.defaults.pods import default_template
from barque.api.types.apps_v1 import (
    DaemonSet,
    DaemonSetUpdateStrategy,
    Deployment,
    DeploymentStrategy,
    ReplicaSet,
    RollingUpdateDaemonSet,
    RollingUpdateDeployment,
    RollingUpdateStatefulSetStrategy,
    StatefulSet,
    StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetUpdateStrategy,
)
from barque.api.types.core_v1 import PersistentVolumeClaim, PodTemplate, ReplicationController

_QUARTER = "25%"
_HISTORY = 10
_DEADLINE_S = 600


def default_pod_template(pod_template: PodTemplate) -> None:
    pod_template.template = default_template(pod_template.template)


def default_replication_controller(controller: ReplicationController) -> None:
    """Its labels and selector are its pods' labels, where it says nothing of them."""
    spec = controller.spec
    spec.replicas = 1 if spec.replicas is None else spec.replicas
    spec.template = default_template(spec.template)
    labels = spec.template.metadata.labels if spec.template.metadata is not None else {}
    spec.selector = spec.selector or dict(labels)
    controller.metadata.labels = controller.metadata.labels or dict(labels)


def default_replica_set(replica_set: ReplicaSet) -> None:
    spec = replica_set.spec
    spec.replicas = 1 if spec.replicas is None else spec.replicas
    spec.template = default_template(spec.template)


def default_deployment(deployment: Deployment) -> None:
    spec = deployment.spec
    spec.replicas = 1 if spec.replicas is None else spec.replicas
    spec.revisionHistoryLimit = _HISTORY if spec.revisionHistoryLimit is None else spec.revisionHistoryLimit
    spec.progressDeadlineSeconds = _DEADLINE_S if spec.progressDeadlineSeconds is None else spec.progressDeadlineSeconds
    spec.template = default_template(spec.template)
    spec.strategy = spec.strategy or DeploymentStrategy()
    spec.strategy.type = spec.strategy.type or "RollingUpdate"
    if spec.strategy.type == "RollingUpdate":
        rolling = spec.strategy.rollingUpdate = spec.strategy.rollingUpdate or RollingUpdateDeployment()
        rolling.maxSurge = _QUARTER if rolling.maxSurge is None else rolling.maxSurge
        rolling.maxUnavailable = _QUARTER if rolling.maxUnavailable is None else rolling.maxUnavailable


def default_daemon_set(daemon_set: DaemonSet) -> None:
    spec = daemon_set.spec
    spec.template = default_template(spec.template)
    spec.revisionHistoryLimit = _HISTORY if spec.revisionHistoryLimit is None else spec.revisionHistoryLimit
    strategy = spec.updateStrategy = spec.updateStrategy or DaemonSetUpdateStrategy()
    strategy.type = strategy.type or "RollingUpdate"
    if strategy.type == "RollingUpdate":
        rolling = strategy.rollingUpdate = strategy.rollingUpdate or RollingUpdateDaemonSet()
        rolling.maxUnavailable = 1 if rolling.maxUnavailable is None else rolling.maxUnavailable
        rolling.maxSurge = 0 if rolling.maxSurge is None else rolling.maxSurge


def default_stateful_set(stateful_set: StatefulSet) -> None:
    spec = stateful_set.spec
    spec.replicas = 1 if spec.replicas is None else spec.replicas
    spec.template = default_template(spec.template)
    spec.podManagementPolicy = spec.podManagementPolicy or "OrderedReady"
    spec.revisionHistoryLimit = _HISTORY if spec.revisionHistoryLimit is None else spec.revisionHistoryLimit
    retention = spec.persistentVolumeClaimRetentionPolicy or StatefulSetPersistentVolumeClaimRetentionPolicy()
    retention.whenDeleted = retention.whenDeleted or "Retain"
    retention.whenScaled = retention.whenScaled or "Retain"
    spec.persistentVolumeClaimRetentionPolicy = retention
    strategy = spec.updateStrategy = spec.updateStrategy or StatefulSetUpdateStrategy()
    if not strategy.type:
        strategy.type = "RollingUpdate"
        strategy.rollingUpdate = strategy.rollingUpdate or RollingUpdateStatefulSetStrategy()
    # Who names the type and no more is shown no more; unlike with Deployments and DaemonSets.
    rolling = strategy.rollingUpdate
    if strategy.type == "RollingUpdate" and rolling is not None:
        rolling.partition = 0 if rolling.partition is None else rolling.partition
        rolling.maxUnavailable = 1 if rolling.maxUnavailable is None else rolling.maxUnavailable
    for claim in spec.volumeClaimTemplates:
        _default_claim(claim)


def _default_claim(claim: PersistentVolumeClaim) -> None:
    claim.spec.volumeMode = claim.spec.volumeMode or "Filesystem"
    claim.status.phase = claim.status.phase or "Pending"
    if claim.spec.resources is not None:
        canonicalise(claim.spec.resources.requests)
        canonicalise(claim.spec.resources.limits)
