"""`EventRecorder`: tells users what a component did to their objects, as Kubernetes Events.

In: `event(obj, type, reason, message)`, which never blocks. Out: Event objects, written in batches by `run()`.
Follows client-go's event correlator: the same object, reason and message raise `count` and `lastTimestamp` of one
Event; more than ten different messages of one reason within ten minutes are combined; each object may cause 25 events
in a burst and one every five minutes after that. What does not fit the bounded buffer is dropped, counted in
`dropped`, and said.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Any, Literal, TypeVar

import msgspec

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.types.base import Object
from barque.api.types.core_v1 import Event, EventSource, ObjectReference
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client, target_of
from barque.client.clock import Clock, timestamp
from barque.client.verbs import STRATEGIC_MERGE_PATCH, Create, Patch, Write

log = logging.getLogger(__name__)

# client-go's figures.
BURST = 25
REFILL_S = 300.0
SIMILAR = 10
SIMILAR_WINDOW_S = 600.0
REMEMBERED = 4096
# Events wait here while the bus is away, or behind a burst of bindings; beyond it the newest are dropped.
BUFFERED = 4096
BATCH = 100
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0

K = TypeVar("K")
V = TypeVar("V")


class _Record:
    """One Event that exists, or is about to."""

    __slots__ = ("event", "sent")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.sent = False


class _Bucket:
    """Tokens of one object."""

    __slots__ = ("at", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = float(BURST)
        self.at = now

    def take(self, now: float) -> bool:
        self.tokens = min(BURST, self.tokens + (now - self.at) / REFILL_S)
        self.at = now
        # The refill adds up in floats: one five-minute share must count as a whole token.
        if self.tokens < 1 - 1e-9:
            return False
        self.tokens -= 1
        return True


class _Similar:
    """The different messages of one reason on one object."""

    __slots__ = ("last", "messages")

    def __init__(self, now: float) -> None:
        self.messages: set[str] = set()
        self.last = now


class EventRecorder:
    """Records events of one component on one host; `dropped` counts those that were lost or held back."""

    def __init__(self, client: Client, component: str, host: str, clock: Clock) -> None:
        self._client = client
        self._source = EventSource(component=component, host=host)
        self._clock = clock
        self._records: OrderedDict[tuple[str, ...], _Record] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._pending: dict[tuple[str, ...], _Record] = {}
        self._wake = asyncio.Event()
        self._sequence = 0
        self.dropped = 0
        self._said_dropped = 0

    def event(
        self, obj: Object, type: Literal["Normal", "Warning"], reason: str, message: str, field_path: str = ""
    ) -> None:
        """Say that something happened to `obj`, a root object with a name, or to the part of it at `field_path`."""
        about = _reference(obj)
        about.fieldPath = field_path
        now = self._clock.monotonic()
        subject = about.uid or f"{about.kind}/{about.namespace}/{about.name}"
        key, message = self._correlate((subject, type, reason, field_path), message, now)
        if not _touch(self._buckets, subject, _Bucket, now).take(now):
            self.dropped += 1
            return
        record = self._records.get(key)
        if record is None and len(self._pending) >= BUFFERED:
            self.dropped += 1
            return
        stamp = timestamp(self._clock.wall())
        if record is None:
            record = self._records[key] = _Record(self._new_event(about, type, reason, message, stamp))
            if len(self._records) > REMEMBERED:
                self._records.popitem(last=False)
        else:
            self._records.move_to_end(key)
            record.event.count = (record.event.count or 0) + 1
            record.event.lastTimestamp = stamp
            record.event.message = message
        self._pending[key] = record
        self._wake.set()

    def _correlate(self, similar_key: tuple[str, ...], message: str, now: float) -> tuple[tuple[str, ...], str]:
        """The key under which equal events count together, and the message: combined where there are too many."""
        similar = _touch(self._similar, similar_key, _Similar, now)
        if now - similar.last > SIMILAR_WINDOW_S:
            similar.messages.clear()
        similar.last = now
        if message not in similar.messages and len(similar.messages) >= SIMILAR:
            return similar_key, f"(combined from similar events): {message}"
        similar.messages.add(message)
        return (*similar_key, message), message

    def _new_event(self, about: ObjectReference, type: str, reason: str, message: str, stamp: str) -> Event:
        self._sequence += 1
        moment = int(self._clock.wall().timestamp() * 1_000_000_000) + self._sequence % 1000
        # 253 is the longest name; the moment takes 16 hexadecimal digits and a dot.
        name = f"{about.name[:236]}.{moment:x}"
        return Event(
            metadata=ObjectMeta(name=name, namespace=about.namespace or "default"),
            involvedObject=about,
            type=type,
            reason=reason,
            message=message,
            source=self._source,
            reportingComponent=self._source.component,
            reportingInstance=self._source.host,
            firstTimestamp=stamp,
            lastTimestamp=stamp,
            count=1,
        )

    async def run(self) -> None:
        """Write events until cancelled; while they cannot be written they wait."""
        pause_s = FIRST_PAUSE_S
        while True:
            await self._wake.wait()
            try:
                await self._flush()
                pause_s = FIRST_PAUSE_S
            except ApiError as error:
                log.debug("events cannot be written: %s", error.message)
                await self._clock.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            if not self._pending:
                self._wake.clear()
                self._say_dropped()

    def _say_dropped(self) -> None:
        if self.dropped > self._said_dropped:
            log.warning("%s: %d events not recorded so far", self._source.component, self.dropped)
            self._said_dropped = self.dropped

    async def _flush(self) -> None:
        """Write one batch; raises where the whole of it, or some of it, must wait."""
        keys = list(self._pending)[:BATCH]
        taken = [(key, self._pending.pop(key)) for key in keys]
        try:
            answers = await self._client.batch([_write(record) for _, record in taken])
        except ApiError:
            self._put_back(taken)
            raise
        waiting: ApiError | None = None
        for (key, record), answer in zip(taken, answers, strict=True):
            if isinstance(answer, bytes) or answer.reason == "AlreadyExists":
                record.sent = True
            elif answer.reason == "NotFound" and record.sent:
                # The Event has outlived its hour: it begins again.
                record.sent = False
                self._put_back([(key, record)])
            elif answer.code >= 500:
                self._put_back([(key, record)])
                waiting = answer
            else:
                self._records.pop(key, None)
                self.dropped += 1
                log.debug("event %s refused: %s", record.event.metadata.name, answer.message)
        if waiting is not None:
            raise waiting

    def _put_back(self, taken: list[tuple[tuple[str, ...], _Record]]) -> None:
        """Return what was not written to the head of the line."""
        self._pending = {**dict(taken), **self._pending}


def _write(record: _Record) -> Write:
    event = record.event
    if not record.sent:
        return Create(target_of(Event, "", event.metadata.namespace), codec.encode(event))
    patch = {"count": event.count, "lastTimestamp": event.lastTimestamp, "message": event.message}
    target = target_of(Event, event.metadata.name, event.metadata.namespace)
    return Patch(target, STRATEGIC_MERGE_PATCH, msgspec.json.encode(patch))


def _reference(obj: Any) -> ObjectReference:
    meta = obj.metadata
    return ObjectReference(
        apiVersion=obj.apiVersion,
        kind=obj.kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resourceVersion=meta.resourceVersion,
    )


def _touch(held: OrderedDict[K, V], key: K, make: type[V], now: float) -> V:
    """The value of `key`, made if absent, now the last to be forgotten."""
    found = held.get(key)
    if found is None:
        found = held[key] = make(now)  # type: ignore[call-arg]  # both value types take the moment of their making
        if len(held) > REMEMBERED:
            held.popitem(last=False)
    else:
        held.move_to_end(key)
    return found
