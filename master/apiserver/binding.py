"""The scheduler's word, given once, which node a pod runs on: a Binding, at the `binding` subresource of the pod or, as
older clients do, created by itself under the pod's name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from msgspec.structs import replace

from barque.api import names
from barque.api.conditions import set_condition
from barque.api.decode import decode_object
from barque.api.errors import bad_request, conflict, invalid, invalid_object, not_supported, required
from barque.api.resources import by_kind, by_plural
from barque.api.types.core_v1 import Binding, Pod, PodCondition
from barque.api.types.meta_v1 import ManagedFieldsEntry
from barque.client.clock import Clock, timestamp
from barque.client.verbs import Target
from barque.master.apiserver import metadata
from barque.master.apiserver.environment import Call
from barque.master.store.port import Stored

BINDING = by_kind("v1", "Binding")
_PODS = by_plural("", "pods")


def is_binding(target: Target) -> bool:
    """Whether what is created there binds a pod."""
    return target.subresource == "binding" or target.resource is BINDING


def read_binding(call: Call, body: bytes) -> tuple[Call, Binding]:
    """The Binding of a body, and its create as one at the pod's `binding`. Raises 400."""
    binding, warnings = decode_object(body, BINDING, call.options.field_validation)
    assert isinstance(binding, Binding)
    call.warn(warnings)
    target = call.target
    if target.resource is BINDING:
        if not binding.metadata.name:
            raise bad_request("Name parameter required.")
        target = Target(_PODS, target.namespace, binding.metadata.name, "binding")
    return dataclasses.replace(call, target=target), binding


class Bind:
    """The `Change` of a create at `pods/binding`."""

    uid = ""
    owns_unchanged = False

    def __init__(self, call: Call, binding: Binding, clock: Clock) -> None:
        self._call = call
        self._clock = clock
        self._uid = binding.metadata.uid
        self._expected = metadata.expected_revision(binding.metadata)
        metadata.match_namespace(binding.metadata, call.target)
        metadata.match_name(binding.metadata, call.target)
        self._node = _node_of(binding)

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        assert isinstance(old, Pod)
        if self._uid and self._uid != old.metadata.uid:
            raise metadata.stale_uid(self._call.target, self._uid, old.metadata.uid)
        if old.metadata.deletionTimestamp:
            raise self._refused(f"pod {old.metadata.name} is being deleted, cannot be assigned to a host")
        if old.spec.nodeName:
            raise self._refused(f'pod {old.metadata.name} is already assigned to node "{old.spec.nodeName}"')
        now = timestamp(self._clock.wall())
        conditions = list(old.status.conditions)
        set_condition(conditions, PodCondition(type="PodScheduled", status="True", lastTransitionTime=now))
        pod = replace(
            old,
            metadata=replace(old.metadata),
            spec=replace(old.spec, nodeName=self._node),
            status=replace(old.status, conditions=conditions),
        )
        return pod, self._expected

    def owners(self, old: Any, new: Any, now: str) -> list[ManagedFieldsEntry]:
        # As in Kubernetes, where a pod runs is nobody's field.
        owned: list[ManagedFieldsEntry] = old.metadata.managedFields
        return owned

    def answer(self, new: Any, revision: int) -> bytes | None:
        return None

    def _refused(self, why: str) -> Exception:
        return conflict("pods/binding", "", self._call.target.name, why)


def _node_of(binding: Binding) -> str:
    """The node a binding names. Raises 422."""
    target = binding.target
    errors = []
    if target is None or not target.name:
        errors.append(required("target.name"))
    elif target.kind not in ("", "Node"):
        errors.append(not_supported("target.kind", target.kind, ["Node"]))
    if errors:
        raise invalid_object("Binding", "", binding.metadata.name, errors)
    if target is None:
        raise bad_request("a binding needs a target")
    faults = names.dns1123_subdomain(target.name)
    if faults:
        raise invalid_object("Binding", "", binding.metadata.name, [invalid("target.name", target.name, faults[0])])
    return target.name
