"""Event of events.k8s.io/v1, kept as the Event of the core group.

The same fields under other names; those of the older kind of event are called deprecated there. Nothing is lost either
way. Source: Kubernetes' pkg/apis/events/v1.
"""

from __future__ import annotations

from barque.api.conversion import Conversion
from barque.api.types import core_v1, events_v1


def _shown(event: core_v1.Event) -> events_v1.Event:
    series = event.series
    return events_v1.Event(
        metadata=event.metadata,
        action=event.action,
        deprecatedCount=event.count,
        deprecatedFirstTimestamp=event.firstTimestamp,
        deprecatedLastTimestamp=event.lastTimestamp,
        deprecatedSource=event.source,
        eventTime=event.eventTime or None,
        note=event.message,
        reason=event.reason,
        regarding=event.involvedObject,
        related=event.related,
        reportingController=event.reportingComponent,
        reportingInstance=event.reportingInstance,
        series=None if series is None else events_v1.EventSeries(
            count=series.count or 0, lastObservedTime=series.lastObservedTime or None
        ),
        type=event.type,
    )  # fmt: skip


def _kept(event: events_v1.Event) -> core_v1.Event:
    series = event.series
    return core_v1.Event(
        metadata=event.metadata,
        action=event.action,
        count=event.deprecatedCount,
        eventTime=event.eventTime or "",
        firstTimestamp=event.deprecatedFirstTimestamp,
        # The core group's events are always about something, be it unnamed.
        involvedObject=event.regarding or core_v1.ObjectReference(),
        lastTimestamp=event.deprecatedLastTimestamp,
        message=event.note,
        reason=event.reason,
        related=event.related,
        reportingComponent=event.reportingController,
        reportingInstance=event.reportingInstance,
        series=None if series is None else core_v1.EventSeries(
            count=series.count or None, lastObservedTime=series.lastObservedTime or ""
        ),
        source=event.deprecatedSource,
        type=event.type,
    )  # fmt: skip


CONVERSION = Conversion(
    _shown,
    _kept,
    {
        "deprecatedCount": "count",
        "deprecatedFirstTimestamp": "firstTimestamp",
        "deprecatedLastTimestamp": "lastTimestamp",
        "deprecatedSource": "source",
        "note": "message",
        "regarding": "involvedObject",
        "reportingController": "reportingComponent",
    },
)
