"""Update and patch, of an object, of its status, of its scale, and the binding of a pod: read → change → check → write.

A `Change` makes the new object from the old one; everything after that is the same for all. The op compares the
revision the change was made on. A caller who named a revision hears 409 when it is no longer current; any other
change is made anew on the fresh object.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, Protocol

import msgspec

from barque.api.codec import Slotted
from barque.api.decode import convert_with_warnings, decode_object, parse_json
from barque.api.defaults import apply_defaults
from barque.api.errors import ApiError, bad_request, invalid_object, not_found
from barque.api.patch import merge_patch, strategic_merge
from barque.api.validation import validate, validate_status_update, validate_update
from barque.client.verbs import MERGE_PATCH, STRATEGIC_MERGE_PATCH, WriteOptions
from barque.master.apiserver import metadata, strategies
from barque.master.apiserver.deletion import is_finished, removal
from barque.master.apiserver.environment import Call, Environment, ExistingObject, decode_stored
from barque.master.apiserver.proposals import Plan, put
from barque.master.store.port import Refused, RevisionIs, Stored


class Change(Protocol):
    """Makes the new object. `expected` is the revision the caller has read, None where any will do."""

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]: ...

    def answer(self, new: Any, revision: int) -> bytes | None:
        """What the caller gets instead of the object; None for the object itself."""
        ...


class Replace:
    """The object of an update's body."""

    def __init__(self, call: Call, body: bytes, options: WriteOptions) -> None:
        self._object: Any
        self._object, warnings = decode_object(body, call.target.resource, options.field_validation or "Strict")
        call.warnings.extend(warnings)
        self._expected = metadata.expected_revision(self._object.metadata)
        metadata.match_namespace(self._object.metadata, call.target)
        metadata.match_name(self._object.metadata, call.target)

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        return copy.deepcopy(self._object), self._expected

    def answer(self, new: Any, revision: int) -> bytes | None:
        return None


class Merge:
    """The stored object with a patch merged in."""

    def __init__(self, call: Call, content_type: str, patch: bytes, options: WriteOptions) -> None:
        self._call = call
        self._strategic = is_strategic(content_type)
        self._patch = parse_json(patch)
        self._validation = options.field_validation or "Strict"

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        resource = self._call.target.resource
        merged = merge_document(
            msgspec.json.decode(stored.json), self._patch, resource.type if self._strategic else None
        )
        obj: Any
        obj, warnings = convert_with_warnings(merged, resource, self._validation)
        self._call.warnings[:] = warnings
        named = metadata.expected_revision(obj.metadata)
        metadata.match_namespace(obj.metadata, self._call.target)
        metadata.match_name(obj.metadata, self._call.target)
        # The merged document carries the stored revision unless the patch named one.
        return obj, None if named == stored.revision and not _names_revision(self._patch) else named

    def answer(self, new: Any, revision: int) -> bytes | None:
        return None


def is_strategic(content_type: str) -> bool:
    """Which patch a media type means. Raises 415 in Kubernetes' words for one that is not served."""
    media_type = content_type.partition(";")[0].strip()
    if media_type not in (MERGE_PATCH, STRATEGIC_MERGE_PATCH):
        accepted = f"accepted media types include: {MERGE_PATCH}, {STRATEGIC_MERGE_PATCH}"
        why = f"the body of the request was in an unknown format - {accepted}"
        raise ApiError(415, "UnsupportedMediaType", why)
    return media_type == STRATEGIC_MERGE_PATCH


def merge_document(document: Any, patch: dict[str, Any], kind: type[Any] | None) -> dict[str, Any]:
    """The document after the patch; strategic where a kind is given."""
    try:
        return strategic_merge(kind, document, patch) if kind is not None else merge_patch(document, patch)
    except RecursionError:
        raise bad_request("the patch is nested too deeply") from None


def _names_revision(patch: dict[str, Any]) -> bool:
    meta = patch.get("metadata")
    return isinstance(meta, dict) and bool(meta.get("resourceVersion"))


class Modification(ExistingObject):
    """The `Writer` of one change."""

    def __init__(self, environment: Environment, call: Call, verb: str, change: Change, options: WriteOptions) -> None:
        super().__init__(environment, call)
        self._verb = verb
        self._change = change
        self._options = options
        self._new: Any = None

    async def plan(self) -> Plan:
        stored = await self.backend.get(self._key)
        if stored is None:
            raise not_found(self._resource.plural, self._resource.group, self._key.name)
        old = decode_stored(self._resource, stored)
        new, expected = self._change.make(old, stored)
        if expected is not None and expected != stored.revision:
            raise metadata.changed_meanwhile(self._call.target)
        metadata.keep_system_fields(new.metadata, old.metadata, self._call.target)
        new = self._complete(new, old)
        self._environment.authorizer.check_write(self._call.user, self._verb, self._call.target, old, new)
        self._check(new, old)
        self._new = new
        return await self._write(new, old, stored)

    def _complete(self, new: Any, old: Any) -> Any:
        """The new object with what this verb may not change taken from the old one."""
        match self._call.target.subresource:
            case "status":
                new = strategies.with_status(old, new.status)
                apply_defaults(new)
            case "binding":
                pass
            case _:
                if strategies.has_status(self._resource):
                    new.status = old.status
                apply_defaults(new)
                strategies.carry_over(new, old)
                desired = strategies.desired_state(new) != strategies.desired_state(old)
                if strategies.has_generation(self._resource) and desired:
                    new.metadata.generation = (old.metadata.generation or 0) + 1
        return new

    def _check(self, new: Any, old: Any) -> None:
        """Raises 422 naming every fault."""
        match self._call.target.subresource:
            case "status":
                errors = validate_status_update(new, old)
            case "binding":
                errors = validate(new)
            case _:
                errors = validate_update(new, old)
        if errors:
            raise invalid_object(self._resource.kind, self._resource.group, self._key.name, errors)

    async def _write(self, new: Any, old: Any, stored: Stored) -> Plan:
        if new == old:
            json = self._change.answer(old, stored.revision) or stored.json
            return Plan(lambda _: json, revision=stored.revision)
        compares = (RevisionIs(self._key, stored.revision),)
        if is_finished(new):
            op, answer = await removal(self._key, new, compares, self._environment)
            return Plan(answer, None if self._options.dry_run else op, stored.revision)
        claims = strategies.admit(new, old, self._key, self._environment)
        op, slotted = put(self._resource, self._key, new, compares, claims, self._environment.settings.max_object_bytes)
        if self._options.dry_run:
            return Plan(partial(self._answer, slotted), revision=stored.revision)
        return Plan(partial(self._answer, slotted), op, claims=claims)

    def _answer(self, slotted: Slotted, revision: int) -> bytes:
        return self._change.answer(self._new, revision) or slotted.at(revision)

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        if refusal.compare < 0:
            if refusal.reservation not in plan.claims.chosen:
                raise strategies.reservation_taken(self._new, refusal.reservation)
        elif refusal.revision == 0:
            raise not_found(self._resource.plural, self._resource.group, self._key.name)

    def give_up(self) -> ApiError:
        return metadata.changed_meanwhile(self._call.target)
