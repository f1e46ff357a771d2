"""`SeriesBook`: repeats of an event become a series, as components of the newer Event API tell them (KEP-383). Pure.

In: what happened, and when; `due(now)` asked regularly. Out: the Events to write. Events are isomorphic that agree in
all but their time; a repeat within six minutes begins a series, written at once, and later ones are only counted: they
show after half an hour, or when the series ends because six minutes passed without a repeat.

Follows client-go's tools/events but for two things. The 4,096 used last are remembered, not all. And there it is the
object's resourceVersion that tells events apart, here the note: an object that was touched does not begin its series
anew, and another note, such as another reason why a pod has no node, is never swallowed by a series of the old one.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from barque.api.types.core_v1 import Event, EventSeries, ObjectReference
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.clock import micro_timestamp
from barque.client.recording.record import Moment, Record, name_of, shortened, subject_of

# client-go's figures.
FINISH_S = 360.0
REFRESH_S = 1800.0
REMEMBERED = 4096
# The longest note that the newer API takes.
NOTE_BYTES = 1024

Key = tuple[object, ...]


class _Series:
    """One event and its repeats; `untold` where the last of them are not written yet."""

    __slots__ = ("record", "seen_s", "untold", "written_s")

    def __init__(self, record: Record, now: float) -> None:
        self.record = record
        self.seen_s = self.written_s = now
        self.untold = False


class SeriesBook:
    """For one `controller` (`reportingController`) as run by one `instance`."""

    def __init__(self, controller: str, instance: str, first_number: int = 0) -> None:
        self._controller = controller
        self._instance = instance
        self._numbers = itertools.count(first_number)
        # Ordered by last use: those that have been quiet for longest come first.
        self._held: OrderedDict[Key, _Series] = OrderedDict()

    def observe(
        self,
        about: ObjectReference,
        type: str,
        reason: str,
        action: str,
        note: str,
        at: Moment,
        related: ObjectReference | None = None,
    ) -> Sequence[Record]:
        """The records to write now."""
        now, note = at.monotonic_s, shortened(note, NOTE_BYTES)
        with_whom = subject_of(related) if related is not None else None
        key = (subject_of(about), about.fieldPath, type, reason, action, with_whom, note)
        ended = list(self._end_quiet(now))
        held = self._held.get(key)
        if held is None:
            event = self._new_event(about, type, reason, at)
            event.action, event.message, event.related = action, note, related
            held = self._held[key] = _Series(Record(event), now)
            return [*ended, *self._forget_oldest(), held.record]
        self._held.move_to_end(key)
        held.seen_s = now
        event, stamp = held.record.event, micro_timestamp(at.wall)
        if event.series is None:
            event.series = EventSeries(count=2, lastObservedTime=stamp)
            held.written_s = now
            return [*ended, held.record]
        event.series.count = (event.series.count or 0) + 1
        event.series.lastObservedTime = stamp
        held.untold = True
        return ended

    def due(self, now: float) -> Sequence[Record]:
        """The series that have ended, and those that have not been told for long, with what is untold of them."""
        found = list(self._end_quiet(now))
        for held in self._held.values():
            if held.untold and now - held.written_s >= REFRESH_S:
                held.untold, held.written_s = False, now
                found.append(held.record)
        return found

    def _end_quiet(self, now: float) -> Iterator[Record]:
        while self._held:
            key, oldest = next(iter(self._held.items()))
            if now - oldest.seen_s < FINISH_S:
                return
            del self._held[key]
            if oldest.untold:
                yield oldest.record

    def _forget_oldest(self) -> Iterator[Record]:
        while len(self._held) > REMEMBERED:
            _, oldest = self._held.popitem(last=False)
            if oldest.untold:
                yield oldest.record

    def _new_event(self, about: ObjectReference, type: str, reason: str, at: Moment) -> Event:
        name = name_of(about, at, next(self._numbers))
        return Event(
            metadata=ObjectMeta(name=name, namespace=about.namespace or "default"),
            involvedObject=about,
            type=type,
            reason=reason,
            reportingComponent=self._controller,
            reportingInstance=self._instance,
            eventTime=micro_timestamp(at.wall),
        )
