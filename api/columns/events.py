"""Table of Event."""

from __future__ import annotations

import datetime

from msgspec import structs

from barque.api.columns.age import age
from barque.api.columns.table import NAME, Cell, Table, column, wide
from barque.api.occurrences import occurrence_of, said_by
from barque.api.types import core_v1


def _event(event: core_v1.Event, now: datetime.datetime) -> list[Cell]:
    about = event.involvedObject or core_v1.ObjectReference()
    seen = occurrence_of(event)
    host = (event.source.host if event.source is not None else "") or event.reportingInstance
    return [
        age(seen.last, now),
        event.type,
        event.reason,
        f"{about.kind.lower()}/{about.name}" if about.name else about.kind.lower(),
        about.fieldPath,
        f"{said_by(event)}, {host}" if host else said_by(event),
        event.message.strip(),
        age(seen.first, now),
        seen.times,
        event.metadata.name,
    ]


def interval(event: core_v1.Event, now: datetime.datetime) -> str:
    """`10s`, or `10s (x3 over 5m)` of what has happened more than once, as `kubectl events` and `describe` show it."""
    seen = occurrence_of(event)
    if event.series is None and seen.times < 2:
        return age(seen.first, now)
    return f"{age(seen.last, now)} (x{seen.times} over {age(seen.first, now)})"


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
