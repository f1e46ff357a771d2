"""The `scale` subresource: an `autoscaling/v1` Scale stands for the replicas of a Deployment or ReplicaSet."""

from __future__ import annotations

from typing import Any

import msgspec

from barque.api import codec, selectors
from barque.api.decode import convert_with_warnings, decode_object, parse_json
from barque.api.errors import invalid, invalid_object
from barque.api.resources import Resource
from barque.api.types.autoscaling_v1 import Scale, ScaleSpec, ScaleStatus
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.verbs import WriteOptions
from barque.master.apiserver import metadata
from barque.master.apiserver.environment import Call
from barque.master.apiserver.modification import is_strategic, merge_document
from barque.master.store.port import Stored

# Never listed among the served resources: a Scale stands nowhere but at `…/scale`.
SCALE = Resource("autoscaling", "v1", "Scale", "scales", "scale")
_MAX_REPLICAS = 2**31 - 1


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
        ),
        spec=ScaleSpec(replicas=obj.spec.replicas),
        status=ScaleStatus(
            replicas=obj.status.replicas or 0, selector=str(selectors.from_label_selector(obj.spec.selector))
        ),
    )
    return codec.encode(scale)


class ReplaceScale:
    """The `Change` of an update at `scale`."""

    def __init__(self, call: Call, body: bytes, options: WriteOptions) -> None:
        self._scale: Any
        self._scale, warnings = decode_object(body, SCALE, options.field_validation or "Strict")
        call.warnings.extend(warnings)
        self._expected = metadata.expected_revision(self._scale.metadata)
        metadata.match_namespace(self._scale.metadata, call.target)
        metadata.match_name(self._scale.metadata, call.target)

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        return _scaled(old, self._scale), self._expected

    def answer(self, new: Any, revision: int) -> bytes | None:
        return scale_of(new, revision)


class MergeScale:
    """The `Change` of a patch at `scale`."""

    def __init__(self, call: Call, content_type: str, patch: bytes, options: WriteOptions) -> None:
        self._call = call
        self._strategic = is_strategic(content_type)
        self._patch = parse_json(patch)
        self._validation = options.field_validation or "Strict"

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        document = msgspec.json.decode(scale_of(old, stored.revision))
        named = self._patch.get("metadata")
        conditional = isinstance(named, dict) and bool(named.get("resourceVersion"))
        merged = merge_document(document, self._patch, Scale if self._strategic else None)
        scale: Any
        scale, warnings = convert_with_warnings(merged, SCALE, self._validation)
        self._call.warnings[:] = warnings
        metadata.match_namespace(scale.metadata, self._call.target)
        metadata.match_name(scale.metadata, self._call.target)
        expected = metadata.expected_revision(scale.metadata)
        return _scaled(old, scale), expected if conditional else None

    def answer(self, new: Any, revision: int) -> bytes | None:
        return scale_of(new, revision)


def _scaled(old: Any, scale: Scale) -> Any:
    """The old object with the scale's number of replicas."""
    replicas = scale.spec.replicas or 0
    if not 0 <= replicas <= _MAX_REPLICAS:
        why = f"must be between 0 and {_MAX_REPLICAS}"
        raise invalid_object("Scale", "autoscaling", old.metadata.name, [invalid("spec.replicas", replicas, why)])
    meta = msgspec.structs.replace(old.metadata)
    return msgspec.structs.replace(old, metadata=meta, spec=msgspec.structs.replace(old.spec, replicas=replicas))
