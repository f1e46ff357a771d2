"""Patches: JSON (RFC 6902), merge (RFC 7386), strategic merge, and server-side apply, as `Change`s.

A patch is made on the stored document as users see it, then decoded as strictly as a body would be. A patch that names
a resourceVersion means that very state; any other is made anew on whatever the state has become.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from barque.api import conversion
from barque.api.apply import Applied, apply_configuration, finish, mark_reset, track_update
from barque.api.decode import convert, convert_patched, parse_json, parse_list, patch_oddities
from barque.api.errors import bad_request
from barque.api.patch import json_patch, merge_patch, printed, strategic_merge
from barque.api.resources import Resource
from barque.api.types.base import Object
from barque.api.types.meta_v1 import ManagedFieldsEntry
from barque.client.verbs import JSON_PATCH, STRATEGIC_MERGE_PATCH
from barque.master.apiserver import metadata
from barque.master.apiserver.environment import Call
from barque.master.store.port import Stored

Document = dict[str, Any]


class Patch:
    """A JSON, merge or strategic patch; `kind` has the merge keys of a strategic one. Raises 400 where it is none."""

    def __init__(self, call: Call, patch_type: str, body: bytes, kind: type[Object]) -> None:
        self._call = call
        self._shown: Callable[[Document], str] = _encoded
        patch: Any
        if patch_type == JSON_PATCH:
            patch = parse_list(body)
            self._change: Callable[[Document], Any] = lambda document: json_patch(document, patch)
        else:
            patch = parse_json(body)
            self._change = lambda document: merge_patch(document, patch)
        if patch_type == STRATEGIC_MERGE_PATCH:
            self._change = lambda document: strategic_merge(kind, document, patch)
            self._shown = lambda _: printed(patch)
        self._oddities = [] if call.options.field_validation == "Ignore" else patch_oddities(body, patch)

    def document(self, document: Document) -> Document:
        """The document after the patch. Raises 400, 413 or 422."""
        try:
            changed = self._change(document)
        except RecursionError:
            raise bad_request("the patch is nested too deeply") from None
        if not isinstance(changed, dict):
            raise bad_request("the patch leaves no JSON object")
        return changed

    def read(self, document: Document, resource: Resource, old: Object | None = None) -> Any:
        """The object of a document after the patch, `old` the one before it. Raises 422 where it is none of this kind,
        413.
        """
        validation = self._call.options.field_validation
        shown = partial(self._shown, document)
        obj, warnings = convert_patched(document, resource, validation, self._oddities, shown, old)
        self._call.warn(warnings)
        return obj


def _encoded(document: Document) -> str:
    return msgspec.json.encode(document).decode()


class Merge:
    """The stored object with a JSON, merge or strategic patch in it."""

    uid = ""
    owns_unchanged = False

    def __init__(self, call: Call, patch: Patch) -> None:
        self._call = call
        self._patch = patch

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        call = self._call
        present = conversion.shown(stored.json, call.target.resource)
        document = mark_reset(self._patch.document(msgspec.json.decode(present)))
        obj = self._patch.read(document, call.target.resource, old)
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
        obj: Any = convert(self._applied.document, call.target.resource, "Ignore", old)
        return obj, metadata.expected_revision(obj.metadata)

    def owners(self, old: Any, new: Any, now: str) -> list[ManagedFieldsEntry]:
        assert self._applied is not None
        return finish(old, new, self._applied.managed)

    def answer(self, new: Any, revision: int) -> bytes | None:
        return None
