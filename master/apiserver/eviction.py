"""The `eviction` subresource of pods: a delete with the pod's grace that says on the pod that it was an eviction.

Nothing that could forbid one (PodDisruptionBudget) is served, so none is refused. Follows Kubernetes' eviction
subresource: the answer is a Status, and a pod that goes on for its grace carries the condition DisruptionTarget.
"""

from __future__ import annotations

from typing import Any

import msgspec

from barque.api.conditions import set_condition
from barque.api.decode import decode_object, parse_json
from barque.api.resources import Resource
from barque.api.types.core_v1 import PodCondition
from barque.api.types.meta_v1 import DeleteOptions, Status
from barque.api.types.policy_v1 import Eviction
from barque.client.clock import timestamp
from barque.master.apiserver import metadata
from barque.master.apiserver.deletion import Deletion
from barque.master.apiserver.environment import Call, Environment
from barque.master.apiserver.options import read_delete
from barque.master.apiserver.proposals import Plan

EVICTION = Resource("policy", "v1", "Eviction", "evictions", "eviction")
_OLD_VERSION = b"policy/v1beta1"
_DONE = msgspec.json.encode(Status(status="Success", code=201))


def _as_served(body: bytes) -> bytes:
    """The body of an older client, which says policy/v1beta1, as v1: the two have the same fields."""
    if _OLD_VERSION not in body:
        return body
    document = parse_json(body)
    if document.get("apiVersion") != _OLD_VERSION.decode():
        return body
    return msgspec.json.encode({**document, "apiVersion": EVICTION.api_version})


class PodEviction(Deletion):
    """The `Writer` of a create at `pods/eviction`."""

    def __init__(self, environment: Environment, call: Call, body: bytes) -> None:
        eviction, warnings = decode_object(_as_served(body), EVICTION, call.options.field_validation)
        assert isinstance(eviction, Eviction)
        call.warn(warnings)
        metadata.match_namespace(eviction.metadata, call.target)
        metadata.match_name(eviction.metadata, call.target)
        options = eviction.deleteOptions
        if options is not None:
            # Judged as those of a delete are.
            options = read_delete(msgspec.json.encode(options))
        options = options or DeleteOptions()
        if call.options.dry_run:
            options = msgspec.structs.replace(options, dryRun=["All"])
        super().__init__(environment, call, options)

    async def plan(self) -> Plan:
        return (await super().plan())._replace(answer=lambda _: _DONE)

    def _mark(self, obj: Any) -> None:
        was_to_go = bool(obj.metadata.deletionTimestamp)
        super()._mark(obj)
        if was_to_go:
            return
        conditions = list(obj.status.conditions)
        now = timestamp(self._environment.clock.wall())
        set_condition(
            conditions,
            PodCondition(
                type="DisruptionTarget",
                status="True",
                reason="EvictionByEvictionAPI",
                message="Eviction API: evicting",
                lastTransitionTime=now,
            ),
        )
        obj.status = msgspec.structs.replace(obj.status, conditions=conditions)
