"""The `scale` subresource: an `autoscaling/v1` Scale stands for the replicas of a Deployment or ReplicaSet.

Its owners are those of the parent's `.spec.replicas`, which has the same path in both.
"""

from __future__ import annotations

from typing import Any

import msgspec

from barque.api import codec, selectors
from barque.api.apply import Applied, apply_configuration, finish, scale_managed, track_update
from barque.api.decode import convert_with_warnings, decode_object
from barque.api.errors import invalid_object, required
from barque.api.resources import Resource
from barque.api.types.autoscaling_v1 import Scale, ScaleSpec, ScaleStatus
from barque.api.types.meta_v1 import ManagedFieldsEntry, ObjectMeta
from barque.api.validation.checks import not_negative
from barque.master.apiserver import metadata
from barque.master.apiserver.environment import Call
from barque.master.apiserver.patching import Document, Patch
from barque.master.store.port import Stored

# Never listed among the served resources: a Scale stands nowhere but at `…/scale`.
SCALE = Resource("autoscaling", "v1", "Scale", "scales", "scale")


def scale_of(obj: Any, revision: int) -> bytes:
    """The Scale of a Deployment or ReplicaSet at a revision."""
    meta = obj.metadata
    scale = Scale(
        metadata=ObjectMeta(
            resourceVersion=str(revision),
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            creationTimestamp=meta.creationTimestamp,
            managedFields=scale_managed(meta.managedFields),
        ),
        spec=ScaleSpec(replicas=obj.spec.replicas),
        status=ScaleStatus(
            replicas=obj.status.replicas or 0, selector=str(selectors.from_label_selector(obj.spec.selector))
        ),
    )
    return codec.encode(scale)


class _Scaling:
    """What every change at `scale` shares: the parent's replicas are written, and owned, through it."""

    uid = ""
    owns_unchanged = False

    def __init__(self, call: Call) -> None:
        self._call = call

    def owners(self, old: Any, new: Any, now: str) -> list[ManagedFieldsEntry]:
        return track_update(old, new, self._call.manager(now))

    def answer(self, new: Any, revision: int) -> bytes | None:
        return scale_of(new, revision)


class ReplaceScale(_Scaling):
    """The `Change` of an update at `scale`."""

    def __init__(self, call: Call, body: bytes) -> None:
        super().__init__(call)
        self._scale: Any
        self._scale, warnings = decode_object(body, SCALE, call.options.field_validation)
        call.warn(warnings)
        self._expected = metadata.expected_revision(self._scale.metadata)
        self.uid = self._scale.metadata.uid
        metadata.match_namespace(self._scale.metadata, call.target)
        metadata.match_name(self._scale.metadata, call.target)

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        return _scaled(old, self._scale.spec.replicas), self._expected


class MergeScale(_Scaling):
    """The `Change` of a JSON, merge or strategic patch at `scale`."""

    def __init__(self, call: Call, patch: Patch) -> None:
        super().__init__(call)
        self._patch = patch

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        document = self._patch.document(msgspec.json.decode(scale_of(old, stored.revision)))
        scale = self._patch.read(document, SCALE)
        metadata.match_namespace(scale.metadata, self._call.target)
        metadata.match_name(scale.metadata, self._call.target)
        named = metadata.expected_revision(scale.metadata)
        return _scaled(old, scale.spec.replicas), named if named != stored.revision else None


class ConfigureScale(_Scaling):
    """The `Change` of an apply at `scale`: the configuration is that of a Scale, applied to the parent's replicas."""

    owns_unchanged = True

    def __init__(self, call: Call, configuration: Document, now: str) -> None:
        super().__init__(call)
        scale: Any
        scale, warnings = convert_with_warnings(configuration, SCALE, call.options.field_validation)
        call.warn(warnings)
        self._now = now
        self._expected = metadata.expected_revision(scale.metadata)
        metadata.match_namespace(scale.metadata, call.target)
        metadata.match_name(scale.metadata, call.target)
        if scale.spec.replicas is None:
            raise invalid_object("Scale", "autoscaling", call.target.name, [required("spec.replicas")])
        self._replicas: int = scale.spec.replicas
        self._applied: Applied | None = None

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        call, resource = self._call, self._call.target.resource
        configuration = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": call.target.name, "namespace": call.target.namespace},
            "spec": {"replicas": self._replicas},
        }
        manager = call.manager(self._now, "Apply")
        self._applied = apply_configuration(resource.type, old, configuration, manager, call.options.force)
        return _scaled(old, self._replicas), self._expected

    def owners(self, old: Any, new: Any, now: str) -> list[ManagedFieldsEntry]:
        assert self._applied is not None
        return finish(old, new, self._applied.managed)


def _scaled(old: Any, replicas: int | None) -> Any:
    """The old object with another number of replicas."""
    replicas = replicas or 0
    errors = not_negative("spec.replicas", replicas)
    if errors:
        raise invalid_object("Scale", "autoscaling", old.metadata.name, errors)
    meta = msgspec.structs.replace(old.metadata)
    return msgspec.structs.replace(old, metadata=meta, spec=msgspec.structs.replace(old.spec, replicas=replicas))
