"""Patches: JSON (RFC 6902), merge (RFC 7386), strategic merge, and server-side apply, as `Change`s.

A patch is made on the stored document as users see it, then decoded as strictly as a body would be. A patch that names
a resourceVersion means that very state; any other is made anew on whatever the state has become.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from barque.api import conversion
from barque.api.apply import Applied, apply_configuration, finish, mark_reset, track_update
from barque.api.decode import check_patch, convert, convert_with_warnings, parse_json, parse_list
from barque.api.errors import bad_request
from barque.api.patch import json_patch, merge_patch, strategic_merge
from barque.api.types.base import Object
from barque.api.types.meta_v1 import ManagedFieldsEntry
from barque.client.verbs import JSON_PATCH, STRATEGIC_MERGE_PATCH
from barque.master.apiserver import metadata
from barque.master.apiserver.environment import Call
from barque.master.store.port import Stored

Document = dict[str, Any]
# A document after the patch.
Patched = Callable[[Document], Document]


def read_patch(call: Call, patch_type: str, body: bytes, kind: type[Object]) -> Patched:
    """The patch of a body; `kind` has the merge keys of a strategic one. Raises 400; tells what stands in it twice."""
    resource, validation = call.target.resource, call.options.field_validation
    if patch_type == JSON_PATCH:
        operations = parse_list(body)
        call.warn(check_patch(body, operations, resource, validation))
        return lambda document: _object(json_patch(document, operations))
    patch = parse_json(body)
    call.warn(check_patch(body, patch, resource, validation))
    if patch_type == STRATEGIC_MERGE_PATCH:
        return lambda document: _object(strategic_merge(kind, document, patch))
    return lambda document: _object(merge_patch(document, patch))


class Merge:
    """The stored object with a JSON, merge or strategic patch in it."""

    uid = ""
    owns_unchanged = False

    def __init__(self, call: Call, patched: Patched) -> None:
        self._call = call
        self._patched = patched

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        call = self._call
        present = conversion.shown(stored.json, call.target.resource)
        document = mark_reset(after(self._patched, msgspec.json.decode(present)))
        obj: Any
        obj, warnings = convert_with_warnings(document, call.target.resource, call.options.field_validation)
        call.warn(warnings)
        named = metadata.expected_revision(obj.metadata)
        metadata.match_namespace(obj.metadata, call.target)
        metadata.match_name(obj.metadata, call.target)
        return obj, named if named != stored.revision else None

    def owners(self, old: Any, new: Any, now: str) -> list[ManagedFieldsEntry]:
        return track_update(old, new, self._call.manager(now))

    def answer(self, new: Any, revision: int) -> bytes | None:
        return None


class Configure:
    """The stored object with an applied configuration in it; the times of owners are those of `now` (RFC 3339)."""

    uid = ""
    owns_unchanged = True

    def __init__(self, call: Call, configuration: Document, now: str) -> None:
        self._call = call
        self._configuration = configuration
        self._now = now
        self._applied: Applied | None = None

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        obj, expected = self.configure(old)
        metadata.match_namespace(obj.metadata, self._call.target)
        metadata.match_name(obj.metadata, self._call.target)
        return obj, expected

    def configure(self, old: Any) -> tuple[Any, int | None]:
        """The object after the apply, made anew where `old` is None, and the revision the configuration names."""
        call = self._call
        manager = call.manager(self._now, "Apply")
        kind = call.target.resource.type
        self._applied = apply_configuration(kind, old, self._configuration, manager, call.options.force)
        obj: Any = convert(self._applied.document, call.target.resource, "Ignore")
        return obj, metadata.expected_revision(obj.metadata)

    def owners(self, old: Any, new: Any, now: str) -> list[ManagedFieldsEntry]:
        assert self._applied is not None
        return finish(old, new, self._applied.managed)

    def answer(self, new: Any, revision: int) -> bytes | None:
        return None


def after(patched: Patched, document: Document) -> Document:
    """The document after the patch. Raises 400, 413 or 422."""
    try:
        return patched(document)
    except RecursionError:
        raise bad_request("the patch is nested too deeply") from None


def _object(document: Any) -> Document:
    if not isinstance(document, dict):
        raise bad_request("the patch leaves no JSON object")
    return document
