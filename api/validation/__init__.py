"""Validation: what is wrong with an object, all of it, in Kubernetes' words and with whole paths.

In: defaulted objects. Out: lists of `FieldError`, empty where nothing is wrong. Besides what Kubernetes refuses, fields
whose behaviour Barque lacks are refused (`barque.api.validation.support`). `RULES` has a row for each kind, also for
those that are not served yet; a new kind is one module here and one row there. Where Kubernetes' own path leads to no
field of the manifest, since it reads its internal types, ours does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from barque.api import names
from barque.api.errors import FieldError
from barque.api.types import (
    apps_v1,
    batch_v1,
    certificates_v1,
    coordination_v1,
    core_v1,
    discovery_v1,
    events_v1,
    rbac_v1,
    scheduling_v1,
)
from barque.api.types.base import Object
from barque.api.validation import (
    certificates,
    config,
    cronjobs,
    endpoints,
    events,
    job_status,
    jobs,
    leases,
    metadata,
    nodes,
    pod_resizes,
    pods,
    priorities,
    rbac,
    services,
    statefulsets,
    workloads,
)
from barque.api.validation.faultless import Faultless, sayings
from barque.api.validation.support import unsupported_fields

_Check = Callable[[Any], list[FieldError]]
_UpdateCheck = Callable[[Any, Any], list[FieldError]]


def _nothing(_obj: Any) -> list[FieldError]:
    return []


def _anything_goes(_new: Any, _old: Any) -> list[FieldError]:
    return []


class Rules(NamedTuple):
    """How a kind is judged: `check` at any time, `create` at first only, `update` and `status` against what was."""

    check: _Check
    name: names.Check = names.dns1123_subdomain
    create: _Check = _nothing
    update: _UpdateCheck = _anything_goes
    status: _UpdateCheck = _anything_goes
    namespaced: bool = True


RULES: dict[type[Object], Rules] = {
    core_v1.Namespace: Rules(
        config.check_namespace, names.dns1123_label, status=config.check_namespace_status, namespaced=False
    ),
    core_v1.Node: Rules(nodes.check, update=nodes.check_update, status=nodes.check_status, namespaced=False),
    core_v1.Pod: Rules(pods.check, create=pods.check_create, update=pods.check_update, status=pods.check_status),
    core_v1.PodTemplate: Rules(workloads.check_pod_template),
    core_v1.ConfigMap: Rules(config.check_config_map, update=config.check_config_map_update),
    core_v1.Secret: Rules(config.check_secret, update=config.check_secret_update),
    core_v1.ServiceAccount: Rules(config.check_service_account),
    core_v1.Service: Rules(
        services.check, names.dns1035_label, update=services.check_update, status=services.check_status
    ),
    core_v1.Endpoints: Rules(endpoints.check_endpoints),
    core_v1.Event: Rules(events.check),
    core_v1.ReplicationController: Rules(workloads.check_replication_controller, status=workloads.check_status),
    discovery_v1.EndpointSlice: Rules(endpoints.check_endpoint_slice, update=endpoints.check_endpoint_slice_update),
    events_v1.Event: Rules(events.check_new, create=events.check_new_create, update=events.check_new_update),
    apps_v1.ReplicaSet: Rules(
        workloads.check_replica_set, update=workloads.check_selector_update, status=workloads.check_status
    ),
    apps_v1.Deployment: Rules(
        workloads.check_deployment, update=workloads.check_selector_update, status=workloads.check_status
    ),
    apps_v1.DaemonSet: Rules(
        workloads.check_daemon_set, update=workloads.check_selector_update, status=workloads.check_daemon_status
    ),
    apps_v1.StatefulSet: Rules(
        statefulsets.check, names.dns1123_label, update=statefulsets.check_update, status=workloads.check_status
    ),
    batch_v1.Job: Rules(jobs.check, update=jobs.check_update, status=job_status.check_status),
    batch_v1.CronJob: Rules(cronjobs.check, create=cronjobs.check_create),
    scheduling_v1.PriorityClass: Rules(priorities.check, update=priorities.check_update, namespaced=False),
    coordination_v1.Lease: Rules(leases.check),
    certificates_v1.CertificateSigningRequest: Rules(
        certificates.check, status=certificates.check_status, namespaced=False
    ),
    rbac_v1.Role: Rules(rbac.check_role, names.path_segment),
    rbac_v1.ClusterRole: Rules(rbac.check_cluster_role, names.path_segment, namespaced=False),
    rbac_v1.RoleBinding: Rules(rbac.check_role_binding, names.path_segment, update=rbac.check_binding_update),
    rbac_v1.ClusterRoleBinding: Rules(
        rbac.check_cluster_role_binding, names.path_segment, update=rbac.check_binding_update, namespaced=False
    ),
}


_faultless = Faultless()


def validate(obj: Object) -> list[FieldError]:
    """What is wrong with an object that is to be created."""
    return [*_check(obj), *RULES[type(obj)].create(obj)]


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """What is wrong with `new` as the successor of `old`; also what is wrong with it in itself.

    System-owned metadata (uid, creationTimestamp, …) and allocated values (clusterIP) must have been carried over.
    """
    fresh: Any = new
    previous: Any = old
    faults = [*metadata.check_update(fresh.metadata, previous.metadata), *_check(new)]
    return [*faults, *RULES[type(new)].update(new, old)]


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    """What is wrong with a write of the status alone."""
    fresh: Any = new
    previous: Any = old
    return [*metadata.check_update(fresh.metadata, previous.metadata), *RULES[type(new)].status(new, old)]


def validate_approval(
    new: certificates_v1.CertificateSigningRequest, old: certificates_v1.CertificateSigningRequest
) -> list[FieldError]:
    """What is wrong with a write of a certificate request's approval alone."""
    return [*metadata.check_update(new.metadata, old.metadata), *certificates.check_approval(new, old)]


def validate_ephemeral_update(new: core_v1.Pod, old: core_v1.Pod) -> list[FieldError]:
    """What is wrong with a write of a pod's ephemeral containers alone."""
    faults = [*metadata.check_update(new.metadata, old.metadata), *_check(new)]
    return [*faults, *pods.check_ephemeral_update(new, old)]


def validate_resize(new: core_v1.Pod, old: core_v1.Pod) -> list[FieldError]:
    """What is wrong with a write of a pod's resources alone."""
    faults = [*metadata.check_update(new.metadata, old.metadata), *_check(new)]
    return [*faults, *pod_resizes.check_resize(new, old)]


def _check(obj: Object) -> list[FieldError]:
    rules = RULES[type(obj)]
    checked: Any = obj
    faults = metadata.check(checked.metadata, rules.name, namespaced=rules.namespaced)
    said = sayings(obj) if isinstance(obj, core_v1.Pod) else None
    if said is not None and said in _faultless:
        return faults
    of_kind = rules.check(obj)
    named = {fault.path for fault in (*faults, *of_kind)}
    of_kind += [fault for fault in unsupported_fields(obj) if fault.path not in named]
    if said is not None and not of_kind:
        _faultless.remember(said)
    return [*faults, *of_kind]
