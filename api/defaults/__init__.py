"""Defaults: what Kubernetes fills in where a manifest is silent.

In: any object. Out: the same object, changed in place. Guarantees: idempotent, changes nothing that is set, and
quantities come out canonical. A quantity that is nonsense stays as it is, for validation to name. `DEFAULTS` has a row
for each kind that has any, also for those that are not served yet. The table is checked against objects that API
servers have returned (tests/unit/api/published).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from barque.api.defaults.config import default_namespace, default_secret
from barque.api.defaults.jobs import default_cron_job, default_job
from barque.api.defaults.networking import default_endpoint_slice, default_endpoints, default_service
from barque.api.defaults.nodes import default_node
from barque.api.defaults.pods import default_pod
from barque.api.defaults.rbac import default_binding
from barque.api.defaults.scheduling import default_priority_class
from barque.api.defaults.workloads import (
    default_daemon_set,
    default_deployment,
    default_pod_template,
    default_replica_set,
    default_replication_controller,
    default_stateful_set,
)
from barque.api.types import apps_v1, batch_v1, core_v1, discovery_v1, rbac_v1, scheduling_v1
from barque.api.types.base import Object

DEFAULTS: dict[type[Object], Callable[[Any], None]] = {
    core_v1.Namespace: default_namespace,
    core_v1.Node: default_node,
    core_v1.Pod: default_pod,
    core_v1.PodTemplate: default_pod_template,
    core_v1.Secret: default_secret,
    core_v1.Service: default_service,
    core_v1.Endpoints: default_endpoints,
    core_v1.ReplicationController: default_replication_controller,
    discovery_v1.EndpointSlice: default_endpoint_slice,
    apps_v1.ReplicaSet: default_replica_set,
    apps_v1.Deployment: default_deployment,
    apps_v1.DaemonSet: default_daemon_set,
    apps_v1.StatefulSet: default_stateful_set,
    batch_v1.Job: default_job,
    batch_v1.CronJob: default_cron_job,
    scheduling_v1.PriorityClass: default_priority_class,
    rbac_v1.RoleBinding: default_binding,
    rbac_v1.ClusterRoleBinding: default_binding,
}


def apply_defaults(obj: Object) -> None:
    """Fill in what `obj` leaves unset; kinds without defaults stay as they are."""
    default = DEFAULTS.get(type(obj))
    if default is not None:
        default(obj)
