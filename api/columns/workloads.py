"""Rows of ReplicaSet and Deployment."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.columns.words import NONE
from barque.api.errors import ApiError
from barque.api.selectors import from_label_selector
from barque.api.types.apps_v1 import Deployment, ReplicaSet
from barque.api.types.core_v1 import PodTemplateSpec
from barque.api.types.meta_v1 import LabelSelector


def replica_set_cells(replica_set: ReplicaSet, now: datetime.datetime) -> list[str]:
    status = replica_set.status
    return [
        replica_set.metadata.name,
        str(replica_set.spec.replicas or 0),
        str(status.replicas),
        str(status.readyReplicas or 0),
        age(replica_set.metadata.creationTimestamp, now),
        *_wide(replica_set.spec.template, replica_set.spec.selector),
    ]


def deployment_cells(deployment: Deployment, now: datetime.datetime) -> list[str]:
    status = deployment.status
    return [
        deployment.metadata.name,
        f"{status.readyReplicas or 0}/{deployment.spec.replicas or 0}",
        str(status.updatedReplicas or 0),
        str(status.availableReplicas or 0),
        age(deployment.metadata.creationTimestamp, now),
        *_wide(deployment.spec.template, deployment.spec.selector),
    ]


def _wide(template: PodTemplateSpec | None, selector: LabelSelector | None) -> list[str]:
    containers = template.spec.containers if template is not None and template.spec is not None else []
    return [
        ",".join(container.name for container in containers),
        ",".join(container.image for container in containers),
        _selector(selector),
    ]


def _selector(selector: LabelSelector | None) -> str:
    if selector is None:
        return NONE
    try:
        return str(from_label_selector(selector)) or NONE
    except ApiError:
        return "<error>"
