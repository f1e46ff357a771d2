"""Table of Event, of either group."""

from __future__ import annotations

import datetime
from typing import Any

from msgspec import structs

from barque.api.columns.age import age
from barque.api.columns.table import NAME, Cell, Table, column, wide
from barque.api.types import core_v1, events_v1


def _event(event: core_v1.Event | events_v1.Event, now: datetime.datetime) -> list[Cell]:
    if isinstance(event, core_v1.Event):
        seen = _seen(event, event.firstTimestamp, event.lastTimestamp, event.count, now)
        source = _source(event.source, event.reportingComponent, event.reportingInstance)
        return _cells(event, event.involvedObject, event.message, source, seen)
    first, last = event.deprecatedFirstTimestamp, event.deprecatedLastTimestamp
    seen = _seen(event, first, last, event.deprecatedCount, now)
    source = _source(event.deprecatedSource, event.reportingController, event.reportingInstance)
    return _cells(event, event.regarding, event.note, source, seen)


def _cells(
    event: Any, reference: core_v1.ObjectReference | None, message: str, source: str, seen: tuple[str, str, int]
) -> list[Cell]:
    about = reference or core_v1.ObjectReference()
    first, last, count = seen
    return [
        last,
        event.type,
        event.reason,
        f"{about.kind.lower()}/{about.name}" if about.name else about.kind.lower(),
        about.fieldPath,
        source,
        message.strip(),
        first,
        count,
        event.metadata.name,
    ]


def _seen(event: Any, first_at: str, last_at: str, count: int | None, now: datetime.datetime) -> tuple[str, str, int]:
    """The time since the event was first and last seen, and how often it was."""
    first = age(first_at or event.eventTime, now)
    if event.series is not None:
        return first, age(event.series.lastObservedTime, now), event.series.count or 1
    return first, age(last_at, now) if last_at else first, count or 1


def _source(source: core_v1.EventSource | None, controller: str, instance: str) -> str:
    given = source or core_v1.EventSource()
    component, host = given.component or controller, given.host or instance
    return f"{component}, {host}" if host else component


_COLUMNS = (
    column("Last Seen", "The time since it last happened."),
    column("Type", "Whether it is as expected or a warning."),
    column("Reason", "What happened, in one word."),
    column("Object", "What it happened to."),
    wide("Subobject", "The part of the object that it happened to."),
    wide("Source", "Who says so."),
    column("Message", "What happened, for people to read."),
    wide("First Seen", "The time since it first happened."),
    wide("Count", "How often it has happened."),
    structs.replace(NAME, priority=1),
)

TABLES = {"Event": Table(_COLUMNS, _event)}
