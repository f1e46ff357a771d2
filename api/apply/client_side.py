"""From client-side apply to server-side: what an object's last-applied annotation still says about its owner.

Client-side apply keeps no owners; it writes the manifest into an annotation. A field whose live value is still that of
the annotation was the applier's own, so the same tool may take it over, or drop it, without asking for force. Source:
apimachinery's lastAppliedManager and lastAppliedUpdater, and kubectl's own migration.
"""

from __future__ import annotations

from typing import Any

import msgspec

from barque.api.apply import fieldset
from barque.api.apply.documents import Document, trackable
from barque.api.apply.fieldset import EMPTY, FieldSet
from barque.api.apply.schema import Changes, MapPlan

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl"
# Tools that once applied on the client's side and now apply on the server's.
CLIENT_SIDE_APPLIERS = (KUBECTL, "barque")


def still_as_applied(plan: MapPlan, live: Document) -> FieldSet:
    """What the annotation names and the live object still has with that value; nothing where there is no annotation."""
    applied = _last_applied(live)
    if applied is None or applied.get("apiVersion") != live.get("apiVersion"):
        return EMPTY
    applied = trackable(plan.check(applied, (), []), "")
    changes = Changes()
    plan.compare(applied, trackable(live, ""), changes)
    owned = plan.owned(applied) or EMPTY
    return fieldset.difference(owned, fieldset.union(changes.changed, changes.removed))


def _last_applied(live: Document) -> Document | None:
    try:
        applied = msgspec.json.decode(_annotations(live).get(LAST_APPLIED, ""))
    except (msgspec.DecodeError, RecursionError):
        return None
    return applied if isinstance(applied, dict) else None


def has_annotation(document: Document) -> bool:
    return bool(_annotations(document).get(LAST_APPLIED))


def with_annotation(document: Document, configuration: Document) -> Document:
    """The document whose annotation says what was applied now, so that kubectl may go back to the client's side."""
    metadata = dict(configuration.get("metadata") or {})
    metadata["annotations"] = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != LAST_APPLIED}
    applied = msgspec.json.encode({**configuration, "metadata": metadata}, order="sorted").decode() + "\n"
    return _annotated(document, {**_annotations(document), LAST_APPLIED: applied})


def without_annotation(document: Document) -> Document:
    """The document without the annotation, which nobody keeps up to date any more."""
    return _annotated(document, {k: v for k, v in _annotations(document).items() if k != LAST_APPLIED})


def _annotations(document: Document) -> dict[str, Any]:
    annotations: dict[str, Any] = (document.get("metadata") or {}).get("annotations") or {}
    return annotations


def _annotated(document: Document, annotations: dict[str, Any]) -> Document:
    return {**document, "metadata": {**document["metadata"], "annotations": annotations}}
