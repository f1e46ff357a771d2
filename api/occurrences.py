"""When an Event happened, how often, and who says so, whichever kind of event it is. Pure.

Older events count in `count`, between `firstTimestamp` and `lastTimestamp`; newer ones happen at `eventTime` and go on
in a `series`. Source: kubectl's printers of events.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, NamedTuple

from barque.api import timestamps

if TYPE_CHECKING:
    from barque.api.types.core_v1 import Event

_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)


class Occurrence(NamedTuple):
    """The timestamps, as the event has them, of the first and the last time, and how many times there were."""

    first: str
    last: str
    times: int


def occurrence_of(event: Event) -> Occurrence:
    first = event.firstTimestamp or event.eventTime
    if event.series is not None:
        return Occurrence(first, event.series.lastObservedTime or first, event.series.count or 1)
    last = event.lastTimestamp or first or event.metadata.creationTimestamp
    return Occurrence(first or last, last, event.count or 1)


def order_of(event: Event) -> tuple[datetime.datetime, bool]:
    """For sorting by when it happened last; an event that does not say comes first.

    Older events know no more than the second: within it newer ones stand before them, as that a pod was placed stands
    before what its node made of it.
    """
    last = timestamps.parse(occurrence_of(event).last) or _LONG_AGO
    return last.replace(microsecond=0), bool(event.lastTimestamp)


def said_by(event: Event) -> str:
    """The component that tells it."""
    return (event.source.component if event.source is not None else "") or event.reportingComponent
