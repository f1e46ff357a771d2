"""Rows of Event."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.types.core_v1 import Event, EventSource, ObjectReference


def event_cells(event: Event, now: datetime.datetime) -> list[str]:
    about = event.involvedObject or ObjectReference()
    first = age(event.firstTimestamp or event.eventTime, now)
    last = age(event.lastTimestamp, now) if event.lastTimestamp else first
    count = event.count or 1
    if event.series is not None:
        last, count = age(event.series.lastObservedTime, now), event.series.count or 1
    return [
        last,
        event.type,
        event.reason,
        f"{about.kind.lower()}/{about.name}" if about.name else about.kind.lower(),
        about.fieldPath,
        _source(event),
        event.message.strip(),
        first,
        str(count),
        event.metadata.name,
    ]


def _source(event: Event) -> str:
    source = event.source or EventSource()
    component, host = source.component or event.reportingComponent, source.host or event.reportingInstance
    return f"{component}, {host}" if host else component
