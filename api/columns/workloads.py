"""Tables of ReplicationController, ReplicaSet, Deployment, StatefulSet and DaemonSet."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.columns.table import AGE, NAME, Cell, Table, column, wide
from barque.api.columns.words import containers, labels, selector
from barque.api.types.apps_v1 import DaemonSet, Deployment, ReplicaSet, StatefulSet
from barque.api.types.core_v1 import PodTemplateSpec, ReplicationController
from barque.api.types.meta_v1 import LabelSelector

CONTAINERS = (
    wide("Containers", "The names of the template's containers."),
    wide("Images", "The images of the template's containers."),
)
SELECTOR = wide("Selector", "The labels by which the pods are found.")
_WIDE = (*CONTAINERS, SELECTOR)


def _controller(controller: ReplicationController, now: datetime.datetime) -> list[Cell]:
    return [
        *_replicas(controller, now),
        *containers(controller.spec.template),
        labels(controller.spec.selector),
    ]


def _replica_set(replica_set: ReplicaSet, now: datetime.datetime) -> list[Cell]:
    return [*_replicas(replica_set, now), *_wide(replica_set.spec.template, replica_set.spec.selector)]


def _replicas(owner: ReplicationController | ReplicaSet, now: datetime.datetime) -> list[Cell]:
    return [
        owner.metadata.name,
        owner.spec.replicas or 0,
        owner.status.replicas,
        owner.status.readyReplicas or 0,
        age(owner.metadata.creationTimestamp, now),
    ]


def _deployment(deployment: Deployment, now: datetime.datetime) -> list[Cell]:
    status = deployment.status
    return [
        deployment.metadata.name,
        f"{status.readyReplicas or 0}/{deployment.spec.replicas or 0}",
        status.updatedReplicas or 0,
        status.availableReplicas or 0,
        age(deployment.metadata.creationTimestamp, now),
        *_wide(deployment.spec.template, deployment.spec.selector),
    ]


def _stateful_set(stateful_set: StatefulSet, now: datetime.datetime) -> list[Cell]:
    return [
        stateful_set.metadata.name,
        f"{stateful_set.status.readyReplicas or 0}/{stateful_set.spec.replicas or 0}",
        age(stateful_set.metadata.creationTimestamp, now),
        *containers(stateful_set.spec.template),
    ]


def _daemon_set(daemon_set: DaemonSet, now: datetime.datetime) -> list[Cell]:
    status, template = daemon_set.status, daemon_set.spec.template
    return [
        daemon_set.metadata.name,
        status.desiredNumberScheduled,
        status.currentNumberScheduled,
        status.numberReady,
        status.updatedNumberScheduled or 0,
        status.numberAvailable or 0,
        labels(template.spec.nodeSelector if template is not None and template.spec is not None else {}),
        age(daemon_set.metadata.creationTimestamp, now),
        *_wide(template, daemon_set.spec.selector),
    ]


def _wide(template: PodTemplateSpec | None, pods: LabelSelector | None) -> list[Cell]:
    return [*containers(template), selector(pods)]


_REPLICAS = (
    NAME,
    column("Desired", "How many pods there should be.", "integer"),
    column("Current", "How many pods there are.", "integer"),
    column("Ready", "How many pods may be sent traffic.", "integer"),
    AGE,
    *_WIDE,
)

TABLES = {
    "ReplicationController": Table(_REPLICAS, _controller),
    "ReplicaSet": Table(_REPLICAS, _replica_set),
    "Deployment": Table(
        (
            NAME,
            column("Ready", "How many of the pods may be sent traffic."),
            column("Up-to-date", "How many pods are of the newest template."),
            column("Available", "How many pods have been ready for long enough."),
            AGE,
            *_WIDE,
        ),
        _deployment,
    ),
    "StatefulSet": Table(
        (NAME, column("Ready", "How many of the pods may be sent traffic."), AGE, *CONTAINERS), _stateful_set
    ),
    "DaemonSet": Table(
        (
            NAME,
            column("Desired", "How many nodes should run the pod.", "integer"),
            column("Current", "How many nodes run the pod and should.", "integer"),
            column("Ready", "How many of the pods may be sent traffic.", "integer"),
            column("Up-to-date", "How many pods are of the newest template.", "integer"),
            column("Available", "How many pods have been ready for long enough.", "integer"),
            column("Node Selector", "The labels of the nodes that run the pod."),
            AGE,
            *_WIDE,
        ),
        _daemon_set,
    ),
}
