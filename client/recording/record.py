"""`Record`: one Event that exists, or is about to, and how it is written: created once, then patched."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

import msgspec

from barque.api import codec
from barque.api.types.core_v1 import Event, ObjectReference
from barque.client.client import target_of
from barque.client.verbs import STRATEGIC_MERGE_PATCH, Create, Patch, Write

# The longest name an object may have.
MAX_NAME = 253

Subject = tuple[str, str, str, str, str]


class Moment(NamedTuple):
    """When something happened: by the clock that only runs forward, in seconds, and by the time of day."""

    monotonic_s: float
    wall: datetime.datetime


class Record:
    """One Event. `sent` while the cluster is known to have it, `tries` counts what could not be written of it alone."""

    __slots__ = ("event", "sent", "tries")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.sent = False
        self.tries = 0

    @property
    def subject(self) -> Subject:
        """The object that the Event is about."""
        about = self.event.involvedObject
        assert about is not None
        return subject_of(about)

    def write(self) -> Write:
        """The write that makes the cluster's Event equal to this one."""
        event = self.event
        if not self.sent:
            return Create(target_of(Event, "", event.metadata.namespace), codec.encode(event))
        patch: dict[str, Any]
        if event.series is not None:
            patch = {"series": event.series}
        else:
            patch = {"count": event.count, "lastTimestamp": event.lastTimestamp, "message": event.message}
        target = target_of(Event, event.metadata.name, event.metadata.namespace)
        return Patch(target, STRATEGIC_MERGE_PATCH, msgspec.json.encode(patch))


def subject_of(about: ObjectReference) -> Subject:
    """Equal for references to the same object, whichever part of it they name."""
    return about.apiVersion, about.kind, about.namespace, about.name, about.uid


def reference_to(obj: Any, field_path: str = "") -> ObjectReference:
    """A reference to a root object, or to the part of it at `field_path`."""
    meta = obj.metadata
    return ObjectReference(
        apiVersion=obj.apiVersion,
        kind=obj.kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resourceVersion=meta.resourceVersion,
        fieldPath=field_path,
    )


def name_of(about: ObjectReference, moment: Moment, number: int) -> str:
    """An Event's name: the object's and the moment in nanoseconds; `number` tells those of one microsecond apart."""
    nanoseconds = int(moment.wall.timestamp() * 1_000_000) * 1000 + number % 1000
    suffix = f".{nanoseconds:x}"
    return about.name[: MAX_NAME - len(suffix)] + suffix


def shortened(text: str, most_bytes: int) -> str:
    """The text, cut with " ..." where it is longer than that."""
    raw = text.encode()
    if len(raw) <= most_bytes:
        return text
    return raw[: most_bytes - 4].decode(errors="ignore") + " ..."
