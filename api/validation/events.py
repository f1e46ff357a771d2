"""Validation of Event, as the core group has it and, more strictly, as events.k8s.io does.

An event that has an `eventTime` is of the newer kind in either group: it says who reports it, and what they did.
"""

from __future__ import annotations

import datetime
from typing import Any

from barque.api import names, timestamps
from barque.api.errors import FieldError, invalid, required
from barque.api.types import core_v1, events_v1
from barque.api.validation.checks import immutable, not_negative, spelt

_MAX_WORD = 128
_MAX_NOTE = 1024
_CLUSTER_WIDE = ("", "default")
_BLANK = (None, "", 0, core_v1.ObjectReference(), core_v1.EventSource())
_MISPLACED = "does not match event.namespace"
# Of a newer event only the series goes on.
_IMMUTABLE = (
    "regarding",
    "reason",
    "note",
    "deprecatedSource",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
    "deprecatedCount",
    "type",
    "action",
    "related",
    "reportingController",
    "reportingInstance",
)


def check(event: core_v1.Event) -> list[FieldError]:
    """What is wrong with an event of the core group."""
    if event.involvedObject is None:
        return [required("involvedObject")]
    faults = _check_place(event.involvedObject, event.metadata.namespace, event.eventTime, "involvedObject")
    if event.eventTime:
        faults += _check_report(event, "reportingComponent", event.reportingComponent)
        faults += _at_most("message", event.message, _MAX_NOTE)
    return [*faults, *not_negative("count", event.count)]


def check_new(event: events_v1.Event) -> list[FieldError]:
    """What is wrong with an event of events.k8s.io at any time: it may be an older one, seen through this group."""
    regarding = event.regarding or core_v1.ObjectReference()
    faults = _check_place(regarding, event.metadata.namespace, event.eventTime or "", "regarding")
    if event.eventTime:
        faults += _check_report(event, "reportingController", event.reportingController)
        faults += _at_most("note", event.note, _MAX_NOTE)
    return faults


def check_new_create(event: events_v1.Event) -> list[FieldError]:
    """An event that is made in events.k8s.io is of the newer kind, and has nothing that only older ones have."""
    faults = _check_series(event)
    if not event.eventTime:
        faults.append(required("eventTime"))
    if event.type not in ("Normal", "Warning"):
        faults.append(invalid("type", "", f"has invalid value: {event.type}"))
    source = event.deprecatedSource
    older = {
        "deprecatedFirstTimestamp": event.deprecatedFirstTimestamp,
        "deprecatedLastTimestamp": event.deprecatedLastTimestamp,
        "deprecatedCount": event.deprecatedCount,
        "deprecatedSource": source is not None and (source.component or source.host),
    }
    return faults + [invalid(name, "", "needs to be unset") for name, value in older.items() if value]


def check_new_update(new: events_v1.Event, old: events_v1.Event) -> list[FieldError]:
    faults = _check_series(new) if new.series != old.series else []
    for name in _IMMUTABLE:
        value, before = getattr(new, name), getattr(old, name)
        # Clients send what has no value as null, as zero, as an empty object, or not at all.
        if value not in _BLANK or before not in _BLANK:
            faults += immutable(name, value, before)
    if _to_the_microsecond(new.eventTime) != _to_the_microsecond(old.eventTime):
        faults += immutable("eventTime", new.eventTime, old.eventTime)
    return faults


def _check_place(about: core_v1.ObjectReference, namespace: str, event_time: str, path: str) -> list[FieldError]:
    """An event lives in the namespace of what it is about; of a cluster-wide object, in a namespace of the system."""
    if about.namespace:
        misplaced = not event_time and about.namespace != namespace
    else:
        misplaced = namespace not in ((*_CLUSTER_WIDE, "kube-system") if event_time else _CLUSTER_WIDE)
    return [invalid(f"{path}.namespace", about.namespace, _MISPLACED)] if misplaced else []


def _check_report(event: Any, controller_path: str, controller: str) -> list[FieldError]:
    faults = [] if controller else [required(controller_path)]
    faults += spelt(controller_path, controller, names.qualified_name)
    for name in ("reportingInstance", "action", "reason"):
        value = getattr(event, name)
        faults += _at_most(name, value, _MAX_WORD) if value else [required(name)]
    return faults


def _check_series(event: events_v1.Event) -> list[FieldError]:
    if event.series is None:
        return []
    faults = []
    if event.series.count < 2:
        faults.append(invalid("series.count", "", "should be at least 2"))
    if not event.series.lastObservedTime:
        faults.append(required("series.lastObservedTime"))
    return faults


def _to_the_microsecond(text: str | None) -> datetime.datetime | str:
    """The moment: clients write the same one with more or fewer digits. What is none stays as it is."""
    return timestamps.parse(text or "") or text or ""


def _at_most(path: str, text: str, length: int) -> list[FieldError]:
    if len(text.encode()) <= length:
        return []
    return [invalid(path, "", f"can have at most {length} characters")]
