"""`Correlator`: equal events become one Event that is counted, similar ones are combined, floods are held back. Pure.

In: what happened, and when. Out: the Event to write, or None. Follows client-go's EventCorrelator: events that differ
in nothing but their time raise `count` and `lastTimestamp` of one Event; the tenth different message of one reason
about one object within ten minutes, and those after it, share one Event "(combined from similar events)"; each object
may cause 25 writes in a burst and one every five minutes after that. What is held back is counted all the same, and
shows with the next write. Of each memory the 4,096 used last are kept.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from barque.api.types.core_v1 import Event, EventSource, ObjectReference
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.clock import timestamp
from barque.client.recording.record import Moment, Record, name_of, shortened, subject_of

# client-go's figures.
BURST = 25
REFILL_S = 300.0
SIMILAR = 10
SIMILAR_WINDOW_S = 600.0
REMEMBERED = 4096
# As much as the kubelet takes of what a probe says, the longest of all that is told.
MESSAGE_BYTES = 10 * 1024

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """The values used last, `REMEMBERED` of them."""

    def __init__(self) -> None:
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of `key`, made if absent, now the last to be forgotten."""
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = make()
            if len(self._held) > REMEMBERED:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return found


class Bucket:
    """The writes that one object may still cause."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, now: float) -> None:
        self._tokens = float(BURST)
        self._at = now

    def take(self, now: float) -> bool:
        self._tokens = min(BURST, self._tokens + (now - self._at) / REFILL_S)
        self._at = now
        # The refill adds up in floats: one five-minute share must count as a whole token.
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True


class Similar:
    """The different messages of one reason about one object."""

    __slots__ = ("_last", "_messages")

    def __init__(self, now: float) -> None:
        self._messages: set[str] = set()
        self._last = now

    def is_too_much(self, message: str, now: float) -> bool:
        """Whether the message is the tenth different one, or one more."""
        if now - self._last > SIMILAR_WINDOW_S:
            self._messages.clear()
        self._last = now
        if message in self._messages:
            return False
        if len(self._messages) >= SIMILAR - 1:
            return True
        self._messages.add(message)
        return False


class Correlator:
    """For one component on one host. `held_back` counts what objects caused beyond their share."""

    def __init__(self, component: str, host: str, first_number: int = 0) -> None:
        self._source = EventSource(component=component, host=host)
        self._records: Remembered[tuple[object, ...], Record] = Remembered()
        self._buckets: Remembered[tuple[object, ...], Bucket] = Remembered()
        self._similar: Remembered[tuple[object, ...], Similar] = Remembered()
        self._numbers = itertools.count(first_number)
        self.held_back = 0

    def observe(self, about: ObjectReference, type: str, reason: str, message: str, at: Moment) -> Record | None:
        """The record to write, or None where the object has caused too much of late."""
        now, subject = at.monotonic_s, subject_of(about)
        message = shortened(message, MESSAGE_BYTES)
        alike: tuple[object, ...] = (subject, type, reason)
        if self._similar.get(alike, lambda: Similar(now)).is_too_much(message, now):
            key, message = alike, f"(combined from similar events): {message}"
        else:
            key = (*alike, about.fieldPath, message)
        record = self._records.get(key, lambda: Record(self._new_event(about, type, reason, at)))
        event = record.event
        event.count = (event.count or 0) + 1
        event.lastTimestamp = timestamp(at.wall)
        event.message = message
        if self._buckets.get(subject, lambda: Bucket(now)).take(now):
            return record
        self.held_back += 1
        return None

    def _new_event(self, about: ObjectReference, type: str, reason: str, at: Moment) -> Event:
        name = name_of(about, at, next(self._numbers))
        return Event(
            metadata=ObjectMeta(name=name, namespace=about.namespace or "default"),
            involvedObject=about,
            type=type,
            reason=reason,
            source=self._source,
            reportingComponent=self._source.component,
            reportingInstance=self._source.host,
            firstTimestamp=timestamp(at.wall),
        )
