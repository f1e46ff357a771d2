"""`EventRecorder` and `SeriesRecorder`: tell users what a component did to their objects, as Kubernetes Events.

In: `event(obj, type, reason, …)`, which never blocks and never fails. Out: Event objects, written by `run()`. The times
in an Event are those of what happened, by the recording host's clock; when it could be written shows in
`metadata.creationTimestamp` alone.

Components tell as their likes in Kubernetes do: most count repeats on one Event (`EventRecorder`), the scheduler uses
the newer API's series (`SeriesRecorder`). What had to be dropped while the event store was away is told, too, by a
Warning "EventsDropped" about the component's node, or about the namespace kube-system for those of the masters.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from barque.api.types.base import Object
from barque.api.types.core_v1 import Namespace, ObjectReference
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.recording.correlator import Correlator
from barque.client.recording.outbox import Outbox
from barque.client.recording.record import Moment, reference_to
from barque.client.recording.series import SeriesBook
from barque.client.supervise import run_all

EventType = Literal["Normal", "Warning"]

# Where what concerns the cluster as a whole is told.
CLUSTER = Namespace(metadata=ObjectMeta(name="kube-system"))
DROPPED = "EventsDropped"
# How often series are looked through for those that have ended.
SERIES_LOOK_S = 60.0


class EventRecorder:
    """Events of one component on one host, counted: `source` and, for newer clients, `reportingController`.

    `about` is what the component's own troubles are told of; `chance` gives numbers in [0, 1).
    """

    def __init__(
        self,
        client: Client,
        component: str,
        host: str,
        clock: Clock,
        about: Object = CLUSTER,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._correlator = Correlator(component, host, int(chance() * 1000))
        self._outbox = Outbox(client, component, clock, chance, self._say_dropped)
        self._about = about

    @property
    def dropped(self) -> int:
        """How many were lost or held back since the start."""
        return self._outbox.dropped + self._outbox.refused + self._correlator.held_back

    def event(self, obj: Object, type: EventType, reason: str, message: str, field_path: str = "") -> None:
        """Say that something happened to `obj`, a root object with a name, or to the part of it at `field_path`."""
        record = self._correlator.observe(reference_to(obj, field_path), type, reason, message, _moment(self._clock))
        if record is not None:
            self._outbox.put(record)

    async def run(self) -> None:
        """Write events until cancelled; while they cannot be written they wait."""
        await self._outbox.run()

    def _say_dropped(self, message: str) -> None:
        self.event(self._about, "Warning", DROPPED, message)


class SeriesRecorder:
    """Events of one controller on one host, repeats as series: `reportingController`, and as `reportingInstance` the
    controller's name with the host's.

    `about` and `chance` as with `EventRecorder`.
    """

    def __init__(
        self,
        client: Client,
        controller: str,
        host: str,
        clock: Clock,
        about: Object = CLUSTER,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._book = SeriesBook(controller, f"{controller}-{host}", int(chance() * 1000))
        self._outbox = Outbox(client, controller, clock, chance, self._say_dropped)
        self._about = about

    @property
    def dropped(self) -> int:
        """How many were lost since the start."""
        return self._outbox.dropped + self._outbox.refused

    def event(
        self, obj: Object, type: EventType, reason: str, action: str, note: str, related: Object | None = None
    ) -> None:
        """Say that `action` was taken or failed on `obj`, a root object with a name, because of or with `related`."""
        other: ObjectReference | None = reference_to(related) if related is not None else None
        at = _moment(self._clock)
        for record in self._book.observe(reference_to(obj), type, reason, action, note, at, other):
            self._outbox.put(record)

    async def run(self) -> None:
        """Write events until cancelled; while they cannot be written they wait."""
        await run_all({"written events": self._outbox.run(), "series of events": self._look_through()})

    async def _look_through(self) -> None:
        while True:
            await self._clock.sleep(SERIES_LOOK_S)
            for record in self._book.due(self._clock.monotonic()):
                self._outbox.put(record)

    def _say_dropped(self, message: str) -> None:
        self.event(self._about, "Warning", DROPPED, "Recording", message)


def _moment(clock: Clock) -> Moment:
    return Moment(clock.monotonic(), clock.wall())
