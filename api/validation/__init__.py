"""Validation: what is wrong with an object, all of it, in Kubernetes' words and with whole paths.

In: defaulted objects. Out: lists of `FieldError`, empty where nothing is wrong. Besides what Kubernetes refuses, fields
whose behaviour Barque lacks are refused (`barque.api.validation.support`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from barque.api import names
from barque.api.errors import FieldError
from barque.api.resources import by_type
from barque.api.types import apps_v1, core_v1, discovery_v1
from barque.api.types.base import Object
from barque.api.validation import config, events, metadata, networking, nodes, pods, workloads
from barque.api.validation.support import unsupported_fields

_Check = Callable[[Any], list[FieldError]]
_UpdateCheck = Callable[[Any, Any], list[FieldError]]


class _Rules(NamedTuple):
    """What a kind's name may be and which functions judge the rest."""

    name: Callable[[str], list[str]]
    check: _Check
    check_update: _UpdateCheck
    check_status: _Check


def _anything_goes(_new: Any, _old: Any) -> list[FieldError]:
    return []


def _any_status(_obj: Any) -> list[FieldError]:
    return []


_SUBDOMAIN = names.dns1123_subdomain
_RULES: dict[type[Object], _Rules] = {
    core_v1.Namespace: _Rules(names.dns1123_label, config.check_namespace, _anything_goes, _any_status),
    core_v1.Node: _Rules(_SUBDOMAIN, nodes.check, nodes.check_update, nodes.check_status),
    core_v1.Pod: _Rules(_SUBDOMAIN, pods.check, pods.check_update, pods.check_status),
    core_v1.ConfigMap: _Rules(_SUBDOMAIN, config.check_config_map, config.check_config_map_update, _any_status),
    core_v1.Secret: _Rules(_SUBDOMAIN, config.check_secret, config.check_secret_update, _any_status),
    core_v1.Service: _Rules(
        names.dns1035_label, networking.check_service, networking.check_service_update, _any_status
    ),
    core_v1.Event: _Rules(_SUBDOMAIN, events.check, _anything_goes, _any_status),
    discovery_v1.EndpointSlice: _Rules(
        _SUBDOMAIN, networking.check_endpoint_slice, networking.check_endpoint_slice_update, _any_status
    ),
    apps_v1.ReplicaSet: _Rules(
        _SUBDOMAIN, workloads.check_replica_set, workloads.check_selector_update, workloads.check_status
    ),
    apps_v1.Deployment: _Rules(
        _SUBDOMAIN, workloads.check_deployment, workloads.check_selector_update, workloads.check_status
    ),
}


def validate(obj: Object) -> list[FieldError]:
    """What is wrong with an object that is to be created, or with the new state of one."""
    rules = _RULES[type(obj)]
    checked: Any = obj
    faults = metadata.check(checked.metadata, rules.name, namespaced=by_type(type(obj)).namespaced)
    faults += rules.check(obj)
    named = {fault.path for fault in faults}
    return [*faults, *(fault for fault in unsupported_fields(obj) if fault.path not in named)]


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """What is wrong with `new` as the successor of `old`; includes `validate(new)`.

    System-owned metadata (uid, creationTimestamp, …) and allocated values (clusterIP) must have been carried over.
    """
    fresh: Any = new
    previous: Any = old
    faults = [*metadata.check_update(fresh.metadata, previous.metadata), *validate(new)]
    return [*faults, *_RULES[type(new)].check_update(new, old)]


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    """What is wrong with a write of the status alone."""
    fresh: Any = new
    previous: Any = old
    return [*metadata.check_update(fresh.metadata, previous.metadata), *_RULES[type(new)].check_status(new)]
