"""Defaults of ReplicaSet and Deployment."""

from __future__ import annotations

from barque.api.defaults.pods import default_template
from barque.api.types.apps_v1 import Deployment, DeploymentStrategy, ReplicaSet, RollingUpdateDeployment

_QUARTER = "25%"


def default_replica_set(replica_set: ReplicaSet) -> None:
    spec = replica_set.spec
    spec.replicas = 1 if spec.replicas is None else spec.replicas
    spec.template = default_template(spec.template)


def default_deployment(deployment: Deployment) -> None:
    spec = deployment.spec
    spec.replicas = 1 if spec.replicas is None else spec.replicas
    spec.revisionHistoryLimit = 10 if spec.revisionHistoryLimit is None else spec.revisionHistoryLimit
    spec.progressDeadlineSeconds = 600 if spec.progressDeadlineSeconds is None else spec.progressDeadlineSeconds
    spec.template = default_template(spec.template)
    spec.strategy = spec.strategy or DeploymentStrategy()
    spec.strategy.type = spec.strategy.type or "RollingUpdate"
    if spec.strategy.type == "RollingUpdate":
        rolling = spec.strategy.rollingUpdate = spec.strategy.rollingUpdate or RollingUpdateDeployment()
        rolling.maxSurge = _QUARTER if rolling.maxSurge is None else rolling.maxSurge
        rolling.maxUnavailable = _QUARTER if rolling.maxUnavailable is None else rolling.maxUnavailable
