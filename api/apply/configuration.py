"""Apply: merge what somebody applies into the live object, and settle who owns what.

What is applied wins and is owned. What this applier applied before and leaves out now goes away where nobody else owns
it. To change what another owns is a conflict, unless forced; to apply the value it has is to share it. Source: KEP-555
and structured-merge-diff's Updater.Apply with apimachinery's skipNonApplied and lastApplied managers.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

from msgspec.structs import replace

from barque.api.apply import client_side, fieldset
from barque.api.apply.conflicts import apply_conflict
from barque.api.apply.documents import Document, document_of, trackable, version_of, without_nulls, written_through
from barque.api.apply.fieldset import EMPTY, FieldSet
from barque.api.apply.managers import (
    UPDATE,
    Identity,
    Manager,
    Managers,
    Ownership,
    decode,
    encode,
    identify,
)
from barque.api.apply.schema import Changes, MapPlan, plan_of
from barque.api.apply.versions import as_written, seen_from
from barque.api.errors import bad_request
from barque.api.types.base import Object
from barque.api.types.meta_v1 import ManagedFieldsEntry

_BEFORE_FIRST_APPLY = "before-first-apply"


class Applied(NamedTuple):
    """The outcome: the merged document, to be decoded, defaulted and validated, and who owns its fields."""

    document: Document
    managed: list[ManagedFieldsEntry]


def check_configuration(kind: type[Object], applied: Document) -> None:
    """Raises 400 where the document is of another kind or version, or brings owners of its own."""
    group, _, version = str(applied.get("apiVersion") or "").rpartition("/")
    sample: Any = kind()
    if (applied.get("apiVersion"), applied.get("kind")) != (sample.apiVersion, sample.kind):
        raise bad_request(f"invalid object type: {group}/{version}, Kind={applied.get('kind') or ''}")
    metadata = applied.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")


def apply_configuration(
    kind: type[Object], live: Any | None, applied: Document, manager: Manager, force: bool
) -> Applied:
    """Apply a configuration to the live object, or create one from it where there is none.

    `applied` is the user's document as it was sent: not defaulted, for whoever defaults it would own the defaults.
    Raises ApiError 409 `Conflict` with a cause for every field of another's that would change, and 400 where the
    document does not fit the kind's schema.
    """
    check_configuration(kind, applied)
    plan = plan_of(kind)
    configuration = written_through(_fitting(plan, applied), manager.subresource)
    current = document_of(live) if live is not None else {}
    identity = identify(manager, version_of(kind))
    managers = seen_from(decode(live.metadata.managedFields), kind) if live is not None else {}
    adopts = live is not None and not managers
    if adopts:
        managers = _first_owners(plan, current, identity, manager, version_of(kind))
    merged = _merged(plan, current, configuration, identity, managers)
    changes = Changes()
    plan.compare(current, merged, changes)
    if not force:
        _refuse_conflicts(plan, current, changes, identity, managers)
    fields = plan.owned(trackable(configuration, manager.subresource)) or EMPTY
    owners = _settled(managers, changes, Ownership(identity, version_of(kind), fields, manager.time))
    document = _with_annotation_settled(without_nulls(merged), applied, manager.name, adopts)
    return Applied(document, encode(as_written(owners, kind)))


def finish(live: Object | None, new: Any, managed: list[ManagedFieldsEntry]) -> list[ManagedFieldsEntry]:
    """The managedFields of `new`, the merged object as it will be stored; those of `live` where only times differ.

    So an apply that changes nothing writes nothing.
    """
    if live is None or not _same_but_times(live, new):
        return managed
    before: list[ManagedFieldsEntry] = live.metadata.managedFields  # type: ignore[attr-defined]
    return before if _timeless(before) == _timeless(managed) else managed


def _same_but_times(live: Any, new: Any) -> bool:
    old, changed = (
        replace(each, metadata=replace(each.metadata, managedFields=[], resourceVersion="")) for each in (live, new)
    )
    return bool(old == changed)


def _timeless(entries: list[ManagedFieldsEntry]) -> list[tuple[str, ...]]:
    return sorted((e.manager, e.operation, e.apiVersion, e.subresource, bytes(e.fieldsV1).decode()) for e in entries)


def _fitting(plan: MapPlan, applied: Document) -> Document:
    """The configuration with canonical quantities. Raises 400 naming everything that does not fit the schema."""
    errors: list[str] = []
    try:
        fitting: Document = plan.check(applied, (), errors)
    except RecursionError:
        raise bad_request("the configuration is nested too deeply") from None
    if not errors:
        return fitting
    metadata = applied["metadata"] if isinstance(applied.get("metadata"), dict) else {}
    group, _, version = str(applied["apiVersion"]).rpartition("/")
    name = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
    faults = errors[0] if len(errors) == 1 else "\n".join(["errors:", *(f"  {error}" for error in errors)])
    subject = f"{name}; {group}/{version}, Kind={applied['kind']}"
    raise bad_request(f"failed to create typed patch object ({subject}): {faults}")


def _first_owners(plan: MapPlan, current: Document, identity: Identity, manager: Manager, version: str) -> Managers:
    """The owners of an object that has none yet: what is there belongs to `before-first-apply`.

    But what its last client-side apply set, and nobody has changed since, belongs to the tool that does so again.
    """
    changes = Changes()
    plan.compare({}, trackable(current, ""), changes)
    first = Identity(_BEFORE_FIRST_APPLY, UPDATE, version, "")
    adopted = EMPTY
    if manager.name in client_side.CLIENT_SIDE_APPLIERS and not manager.subresource:
        adopted = client_side.still_as_applied(plan, current)
    rest = fieldset.difference(changes.changed, adopted)
    owners = {first: Ownership(first, version, rest, manager.time)}
    if adopted:
        owners[identity] = Ownership(identity, version, adopted, manager.time)
    return owners


def _merged(
    plan: MapPlan, current: Document, configuration: Document, identity: Identity, managers: Managers
) -> Document:
    merged: Document = plan.merge(current, configuration)
    last = managers.get(identity)
    applied = plan.owned(configuration) or EMPTY
    if last is None or not fieldset.difference(last.fields, applied):
        return merged
    others = [ownership.fields for other, ownership in managers.items() if other != identity]
    return _pruned(plan, merged, last.fields, reduce(fieldset.union, others, applied))


def _pruned(plan: MapPlan, merged: Document, last: FieldSet, managed: FieldSet) -> Document:
    """`merged` without what was applied last, and is not `managed` by this apply or by anybody else.

    In three steps, so that a struct goes with its last owned field, yet nothing goes that was never applied: take all
    of `last` away; put back what is managed; take away only what is of `last` and was not put back.
    """

    def named(document: Document | None) -> FieldSet:
        return plan.with_fields(plan.owned(document) or EMPTY) if document else EMPTY

    everything, last = named(merged), plan.with_fields(last)
    stripped = plan.remove(merged, last)
    unmanaged = fieldset.difference(everything, fieldset.union(named(stripped), plan.with_fields(managed)))
    kept = plan.remove(merged, unmanaged)
    gone = fieldset.intersection(fieldset.difference(everything, named(kept)), last)
    pruned: Document = plan.remove(merged, gone) or {}
    return pruned


def _refuse_conflicts(
    plan: MapPlan, current: Document, changes: Changes, identity: Identity, managers: Managers
) -> None:
    conflicts = [
        (ownership, taken)
        for other, ownership in managers.items()
        if other != identity and (taken := fieldset.intersection(ownership.fields, changes.changed))
    ]
    if conflicts and identity.name == client_side.KUBECTL:
        allowed = client_side.still_as_applied(plan, current)
        conflicts = [(owner, left) for owner, taken in conflicts if (left := fieldset.difference(taken, allowed))]
    if conflicts:
        raise apply_conflict(conflicts)


def _settled(managers: Managers, changes: Changes, mine: Ownership) -> Managers:
    lost = fieldset.union(changes.changed, changes.removed)
    owners = {
        other: ownership.holding(fieldset.difference(ownership.fields, lost))
        for other, ownership in managers.items()
        if other != mine.identity
    }
    owners[mine.identity] = mine
    return owners


def _with_annotation_settled(document: Document, applied: Document, name: str, adopts: bool) -> Document:
    if not client_side.has_annotation(document):
        return document
    if name == client_side.KUBECTL:
        return client_side.with_annotation(document, applied)
    return client_side.without_annotation(document) if adopts and name in client_side.CLIENT_SIDE_APPLIERS else document
