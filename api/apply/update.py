"""Who owns what after a write that is not an apply.

The writer comes to own each field that it adds or gives another value; whoever owned such a field, or one that is gone,
owns it no more. Runs on every write, so what did not change is compared in C and never walked.
Source: structured-merge-diff's Updater.Update with apimachinery's managedFieldsUpdater.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec

from barque.api import codec
from barque.api.apply import fieldset
from barque.api.apply.documents import STATUS, Document, document_of, trackable
from barque.api.apply.fieldset import EMPTY, FieldSet
from barque.api.apply.managers import (
    Identity,
    Manager,
    Managers,
    Ownership,
    cap,
    decode,
    decode_sent,
    encode,
    identify,
    is_reset,
)
from barque.api.apply.schema import Changes, plan_of
from barque.api.apply.versions import as_written, seen_from
from barque.api.types.base import Object
from barque.api.types.meta_v1 import ManagedFieldsEntry

# What the JSON of an object leaves out.
_NOTHING: tuple[Any, ...] = (None, "", [], {})
# The sets of this many specs are kept: the replicas of a workload all bring the same one.
_SPECS = 256
_LONGEST_SPEC_BYTES = 8 * 1024


def track_update(before: Object | None, after: Object, manager: Manager) -> list[ManagedFieldsEntry]:
    """The managedFields of `after`, which `manager` has made of `before`, or out of nothing.

    `after` may bring managedFields that its client sent: they replace the tracked ones where they are well-formed, and
    one empty entry forgets all owners. Objects without owners are not tracked until somebody applies them.
    """
    managers = _known(before, after, manager)
    if before is not None and not managers:
        return []
    changes = changes_between(before, after, manager.subresource)
    identity = identify(manager, after.apiVersion)  # type: ignore[attr-defined]
    if changes.changed or changes.removed:
        managers = _updated(managers, changes, identity, manager.time)
        managers = cap(managers)
    return encode(as_written(managers, type(after)))


def changes_between(before: Object | None, after: Object, subresource: str) -> Changes:
    """What a writer through this subresource has changed. Equal parts of the two are left out unread."""
    changes = Changes()
    plan = plan_of(type(after))
    spec = getattr(after, "spec", None)
    if before is None and isinstance(spec, Object) and subresource != STATUS:
        rest = msgspec.structs.replace(after, spec=type(spec)())
        said = codec.encode(spec)
        read = _fields_of_spec if len(said) <= _LONGEST_SPEC_BYTES else _fields_of_spec.__wrapped__
        changes.changed = fieldset.union(plan.fresh(trackable(document_of(rest), subresource)), read(type(after), said))
    elif before is None:
        changes.changed = plan.fresh(trackable(document_of(after), subresource))
    else:
        old, new = _differing(before, after, subresource)
        if old != new:
            plan.compare(trackable(old, subresource), trackable(new, subresource), changes)
    return changes


@lru_cache(_SPECS)
def _fields_of_spec(kind: type[Object], spec: bytes) -> fieldset.FieldSet:
    return plan_of(kind).fresh({"spec": msgspec.json.decode(spec)})


def _differing(before: Any, after: Any, subresource: str) -> tuple[Document, Document]:
    old: Document = {}
    new: Document = {}
    for field in after.__struct_fields__:
        if field in ("apiVersion", "kind") or (field == STATUS) != (subresource == STATUS):
            continue
        was, now = getattr(before, field), getattr(after, field)
        if was is now or was == now:
            continue
        if field == "metadata":
            was, now = (msgspec.structs.replace(each, managedFields=[]) for each in (was, now))
        for document, value in ((old, was), (new, now)):
            if value not in _NOTHING:
                document[field] = codec.to_builtins(value)
    return old, new


def _known(before: Any, after: Any, manager: Manager) -> Managers:
    """The owners before this write: those the client sent, else those of the live object."""
    sent, stored = after.metadata.managedFields, before.metadata.managedFields if before is not None else []
    if sent and not manager.subresource and sent != stored:
        if is_reset(sent):
            return {}
        # As in Kubernetes, a client that garbles what it does not understand changes nothing.
        with suppress(ValueError):
            return seen_from(decode_sent(sent), type(after))
    return seen_from(decode(stored), type(after))


def _updated(managers: Managers, changes: Changes, identity: Identity, time: str) -> Managers:
    lost = fieldset.union(changes.changed, changes.removed)
    mine = managers.get(identity)
    updated = {}
    for other, ownership in managers.items():
        rest = ownership.holding(fieldset.difference(ownership.fields, lost))
        if rest.fields:
            updated[other] = rest
    if changes.changed:
        kept: FieldSet = fieldset.difference(mine.fields, changes.removed) if mine else EMPTY
        fields = fieldset.union(kept, changes.changed)
        updated[identity] = Ownership(identity, identity.version, fields, time)
    elif mine is not None:
        updated.pop(identity, None)
        kept = fieldset.difference(mine.fields, changes.removed)
        if kept:
            updated[identity] = mine.holding(kept)
    return updated


def mark_reset(document: Document) -> Document:
    """A client's document in which `managedFields: []`, which decodes like none at all, is one empty entry instead."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("managedFields") != []:
        return document
    return {**document, "metadata": {**metadata, "managedFields": [{}]}}
