"""Update and patch, of an object, of its status, of its scale, and the binding of a pod: read → change → check → write.

A `Change` makes the new object from the old one; everything after that is the same for all. The op compares the
revision the change was made on. A caller who named a revision hears 409 when it is no longer current; any other
change is made anew on the fresh object. Who owns the changed fields is settled last, and nothing is written where
nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from barque.api import conversion
from barque.api.apply import mark_reset, track_update
from barque.api.bulk import check_bulk
from barque.api.codec import Slotted
from barque.api.decode import decode_object, parse_json
from barque.api.defaults import apply_defaults
from barque.api.errors import ApiError, invalid_object, not_found
from barque.api.types.certificates_v1 import CertificateSigningRequest
from barque.api.types.meta_v1 import ManagedFieldsEntry
from barque.api.validation import (
    validate_approval,
    validate_ephemeral_update,
    validate_resize,
    validate_status_update,
    validate_update,
)
from barque.api.warnings import about_changed
from barque.client.clock import timestamp
from barque.master.admission.certificates import stamp_conditions, with_approval
from barque.master.admission.claims import Claims
from barque.master.apiserver import metadata, strategies
from barque.master.apiserver.deletion import is_finished, removal
from barque.master.apiserver.environment import Call, Environment, ExistingObject, decode_stored, duplicate
from barque.master.apiserver.proposals import Plan, encode, put
from barque.master.store.port import Compare, Op, Refused, RevisionIs, Stored

T = TypeVar("T")


class Change(Protocol):
    """Makes the new object. `expected` is the revision the caller has read, None where any will do.

    `uid` is that of the object the caller means, "" where any of its name will do. `owns_unchanged`: whether the owners
    may differ though the object does not.
    """

    @property
    def uid(self) -> str: ...

    @property
    def owns_unchanged(self) -> bool: ...

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]: ...

    def owners(self, old: Any, new: Any, now: str) -> list[ManagedFieldsEntry]:
        """The managedFields of the new object; `now` is RFC 3339."""
        ...

    def answer(self, new: Any, revision: int) -> bytes | None:
        """What the caller gets instead of the object; None for the object itself."""
        ...


class Replace:
    """The object of an update's body. `expected` is the revision that it names, None where it names none."""

    owns_unchanged = False

    def __init__(self, call: Call, body: bytes) -> None:
        self._call = call
        self._object: Any
        self._object, warnings = decode_object(_reset(body), call.target.resource, call.options.field_validation)
        call.warn(warnings)
        self.expected = metadata.expected_revision(self._object.metadata)
        self.uid: str = self._object.metadata.uid
        metadata.match_namespace(self._object.metadata, call.target)
        metadata.match_name(self._object.metadata, call.target)

    def begin(self) -> Any:
        """The object of the body, as a copy: what is completed in it must not show in another attempt."""
        return duplicate(self._object)

    def make(self, old: Any, stored: Stored) -> tuple[Any, int | None]:
        if self.expected is None and strategies.needs_revision(self._call.target.resource):
            raise metadata.revision_missing(self._call.target)
        return self.begin(), self.expected

    def owners(self, old: Any, new: Any, now: str) -> list[ManagedFieldsEntry]:
        return track_update(old, new, self._call.manager(now))

    def answer(self, new: Any, revision: int) -> bytes | None:
        return None


def _reset(body: bytes) -> bytes:
    """The body with a plain sign of what decoding would lose: that its client wants all owners forgotten."""
    if b'"managedFields"' not in body:
        return body
    document = parse_json(body)
    marked = mark_reset(document)
    return body if marked is document else msgspec.json.encode(marked)


class Modification(ExistingObject):
    """The `Writer` of one change, which is read from so many bytes."""

    def __init__(self, environment: Environment, call: Call, verb: str, change: Change, size_bytes: int = 0) -> None:
        super().__init__(environment, call)
        self._verb = verb
        self._change = change
        self._size_bytes = size_bytes
        self._new: Any = None
        self._counted = False

    async def plan(self) -> Plan:
        stored = await self.backend.get(self._key)
        if stored is None:
            raise self._gone()
        return await self.plan_on(stored)

    async def plan_on(self, stored: Stored) -> Plan:
        """As `plan`, on a state that was just read."""
        environment, call = self._environment, self._call
        self._size_bytes = max(self._size_bytes, len(stored.json))
        new, old = await self._lengthy(lambda: self._make(stored))
        if not self._counted:
            self._counted = True
            strategies.count_event(old, call, environment)
        environment.authorizer.check_write(call.user, self._verb, call.target, old, new)
        await self._lengthy(lambda: self._check(new, old))
        await strategies.check_decider(new, old, call, environment)
        self._new = new
        if await self._lengthy(lambda: self._is_unchanged(new, old)):
            return self._keep(old, stored)
        return await self._write(new, old, stored)

    async def _lengthy(self, work: Callable[[], T]) -> T:
        return await self._environment.lengthy.do(self._call.user.name, self._size_bytes, work)

    def _make(self, stored: Stored) -> tuple[Any, Any]:
        """The new object and the old one."""
        old = decode_stored(self._resource, stored)
        new, expected = self._change.make(old, stored)
        if expected is not None and expected != stored.revision:
            raise metadata.changed_meanwhile(self._call.target)
        metadata.keep_system_fields(new.metadata, old.metadata, self._call.target)
        return self._complete(new, old), old

    def _complete(self, new: Any, old: Any) -> Any:
        """The new object with what this verb may not change taken from the old one."""
        match self._call.target.subresource:
            case "status":
                new = strategies.with_status(old, new.status)
                self._stamp(new, old)
                apply_defaults(new)
            case "approval":
                new = with_approval(old, new)
                self._stamp(new, old)
            case "finalize":
                apply_defaults(new)
                new = strategies.with_namespace_finalizers(old, new)
            case "ephemeralcontainers":
                apply_defaults(new)
                new = strategies.with_ephemeral_containers(old, new.spec.ephemeralContainers)
            case "resize":
                apply_defaults(new)
                new = strategies.with_resources(old, new)
            case "binding":
                pass
            case _:
                if strategies.has_status(self._resource):
                    new.status = old.status
                apply_defaults(new)
                strategies.carry_over(new, old)
                if strategies.has_generation(self._resource) and strategies.is_redesigned(new, old):
                    new.metadata.generation = (old.metadata.generation or 0) + 1
        return new

    def _stamp(self, new: Any, old: Any) -> None:
        """Say when a certificate request was decided about."""
        if isinstance(new, CertificateSigningRequest):
            stamp_conditions(new, old, timestamp(self._environment.clock.wall()))

    def _check(self, new: Any, old: Any) -> None:
        """Raises 422 naming every fault."""
        match self._call.target.subresource:
            case "status":
                errors = validate_status_update(new, old)
            case "approval":
                errors = validate_approval(new, old)
            case "ephemeralcontainers":
                errors = validate_ephemeral_update(new, old)
            case "resize":
                errors = validate_resize(new, old)
            case "binding":
                return  # the binding itself was checked, and a valid pod stays one on whatever node
            case _:
                errors = validate_update(new, old)
        if errors:
            raise invalid_object(self._resource.kind, self._resource.group, self._key.name, errors)
        if self._call.target.subresource in ("", "scale"):
            self._call.warn(about_changed(new, old))

    def _is_unchanged(self, new: Any, old: Any) -> bool:
        """Whether there is nothing to write; settles who owns the fields of `new` where there is something."""
        sent, known = new.metadata.managedFields, old.metadata.managedFields
        new.metadata.managedFields = known
        if new == old and not self._change.owns_unchanged and (not sent or sent == known):
            return True
        new.metadata.managedFields = sent
        now = timestamp(self._environment.clock.wall())
        new.metadata.managedFields = self._change.owners(old, new, now)
        return bool(new == old)

    def _keep(self, old: Any, stored: Stored) -> Plan:
        json = self._change.answer(old, stored.revision) or conversion.shown(stored.json, self._resource)
        return Plan(lambda _: json, revision=stored.revision)

    async def _write(self, new: Any, old: Any, stored: Stored) -> Plan:
        dry_run = self._call.options.dry_run
        compares = (RevisionIs(self._key, stored.revision),)
        if is_finished(new):
            gone = await removal(self._key, new, compares, self._environment)
            return Plan(encode(new).at, None if dry_run else gone, stored.revision)
        claims = strategies.admit(new, old, self._key, self._environment)
        op, slotted = await self._lengthy(lambda: self._put(new, compares, claims))
        answered = partial(self._answer, slotted)
        return Plan(answered, revision=stored.revision) if dry_run else Plan(answered, op, claims=claims)

    def _put(self, new: Any, compares: tuple[Compare, ...], claims: Claims) -> tuple[Op, Slotted]:
        limit = self._environment.settings.max_object_bytes
        op, slotted = put(self._resource, self._key, new, compares, claims, limit)
        # With its owners it may hold twice what was sent; the next patch of it is made of all that.
        check_bulk(slotted.json)
        return op, slotted

    def _answer(self, slotted: Slotted, revision: int) -> bytes:
        return self._change.answer(self._new, revision) or slotted.at(revision)

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        if refusal.compare < 0:
            if refusal.reservation not in plan.claims.chosen:
                raise strategies.reservation_taken(self._new, refusal.reservation)
        elif refusal.revision == 0:
            raise self._gone()

    def _gone(self) -> ApiError:
        """409 where the caller means one certain object, as in Kubernetes; else 404."""
        if self._change.uid:
            return metadata.stale_uid(self._call.target, self._change.uid, "")
        return not_found(self._resource.plural, self._resource.group, self._key.name)

    def give_up(self) -> ApiError:
        return metadata.changed_meanwhile(self._call.target)
