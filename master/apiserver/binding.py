"""The `binding` subresource of pods: the scheduler's word, given once, which node a pod runs on."""

from __future__ import annotations

import copy
from typing import Any

from barque.api.conditions import set_condition
from barque.api.decode import decode_object
from barque.api.errors import bad_request, conflict, invalid_object, not_supported, required
from barque.api.resources import Resource
from barque.api.types.core_v1 import Binding, Pod, PodCondition
from barque.client.clock import Clock, timestamp
from barque.client.verbs import WriteOptions
from barque.master.apiserver import metadata
from barque.master.apiserver.environment import Call
from barque.master.store.port import Stored

BINDING = Resource("", "v1", "Binding", "bindings", "binding")


class Bind:
    """The `Change` of a create at `pods/binding`."""

    def __init__(self, call: Call, body: bytes, clock: Clock, options: WriteOptions) -> None:
        binding, warnings = decode_object(body, BINDING, options.field_validation or "Strict")
        assert isinstance(binding, Binding)
        call.warnings.extend(warnings)
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
        pod = copy.deepcopy(old)
        pod.spec.nodeName = self._node
        now = timestamp(self._clock.wall())
        set_condition(pod.status.conditions, PodCondition(type="PodScheduled", status="True", lastTransitionTime=now))
        return pod, self._expected

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
    return target.name
