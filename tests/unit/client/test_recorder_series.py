"""Repeats become a series: the first is told at once, the others now and then, and the last when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from barque.api.types.core_v1 import Event
from barque.client.recorder import SeriesRecorder
from barque.client.recording.outbox import BUFFERED
from barque.client.recording.record import Moment, reference_to
from barque.client.recording.series import REMEMBERED, SeriesBook
from tests.support.clock import FakeClock, settle
from tests.support.fake_verbs import FakeVerbs
from tests.support.workloads import a_pod

WHY = "0/1 nodes are available: 1 Insufficient cpu."


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def verbs(clock: FakeClock) -> FakeVerbs:
    return FakeVerbs(clock)


@pytest.fixture
async def recorder(verbs: FakeVerbs, clock: FakeClock) -> AsyncIterator[SeriesRecorder]:
    recorder = SeriesRecorder(verbs.client, "default-scheduler", "m1", clock, chance=lambda: 0.5)
    task = asyncio.create_task(recorder.run())
    yield recorder
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def refuse_pod(recorder: SeriesRecorder, why: str = WHY, pod: str = "web-1") -> None:
    recorder.event(a_pod(pod), "Warning", "FailedScheduling", "Scheduling", why)


def series(verbs: FakeVerbs) -> list[tuple[int, str] | None]:
    return [(e.series.count, e.series.lastObservedTime) if e.series else None for e in verbs.all(Event)]


async def test_an_event_of_the_newer_kind(verbs: FakeVerbs, recorder: SeriesRecorder, clock: FakeClock) -> None:
    await clock.advance(0.25)
    recorder.event(a_pod("web-1"), "Normal", "Preempted", "Preempting", "Preempted by pod x", related=a_pod("x"))
    await settle()
    (event,) = verbs.all(Event)
    assert event.eventTime == "2026-01-01T00:00:00.250000Z"
    assert (event.reportingComponent, event.reportingInstance) == ("default-scheduler", "default-scheduler-m1")
    assert (event.action, event.reason, event.type) == ("Preempting", "Preempted", "Normal")
    assert event.involvedObject.name == "web-1"
    assert (event.related.kind, event.related.name) == ("Pod", "x")
    assert (event.source, event.count, event.firstTimestamp, event.lastTimestamp) == (None, None, "", "")


async def test_the_first_repeat_is_told_at_once_and_the_last_at_the_end(
    verbs: FakeVerbs, recorder: SeriesRecorder, clock: FakeClock
) -> None:
    refuse_pod(recorder)
    await settle()
    assert series(verbs) == [None]
    await clock.advance(10)
    refuse_pod(recorder)
    await settle()
    assert series(verbs) == [(2, "2026-01-01T00:00:10.000000Z")]
    await clock.advance(10)
    refuse_pod(recorder)
    await clock.advance(350)
    assert series(verbs) == [(2, "2026-01-01T00:00:10.000000Z")]
    await clock.advance(70)
    assert series(verbs) == [(3, "2026-01-01T00:00:20.000000Z")]
    assert len(verbs.writes) == 3


async def test_a_long_series_is_told_every_half_hour(
    verbs: FakeVerbs, recorder: SeriesRecorder, clock: FakeClock
) -> None:
    for _ in range(30):
        refuse_pod(recorder)
        await clock.advance(120)
    # The event, its first repeat, and the state half an hour after that.
    assert len(verbs.writes) == 3
    assert series(verbs) == [(16, "2026-01-01T00:30:00.000000Z")]


async def test_a_repeat_after_the_end_is_an_event_of_its_own(
    verbs: FakeVerbs, recorder: SeriesRecorder, clock: FakeClock
) -> None:
    for pause in (10, 361, 0):
        refuse_pod(recorder)
        await clock.advance(pause)
    await settle()
    assert series(verbs) == [(2, "2026-01-01T00:00:10.000000Z"), None]


async def test_another_note_is_not_swallowed(verbs: FakeVerbs, recorder: SeriesRecorder) -> None:
    refuse_pod(recorder)
    refuse_pod(recorder, "0/2 nodes are available: 2 Insufficient cpu.")
    await settle()
    assert [e.message for e in verbs.all(Event)] == [WHY, "0/2 nodes are available: 2 Insufficient cpu."]


async def test_a_series_that_has_expired_begins_again(
    verbs: FakeVerbs, recorder: SeriesRecorder, clock: FakeClock
) -> None:
    refuse_pod(recorder)
    await settle()
    verbs.remove(verbs.all(Event)[0])
    refuse_pod(recorder)
    await clock.advance(1)
    assert series(verbs) == [(2, "2026-01-01T00:00:00.000000Z")]


async def test_a_note_is_as_long_as_the_api_takes(verbs: FakeVerbs, recorder: SeriesRecorder) -> None:
    refuse_pod(recorder, "x" * 2000)
    await settle()
    assert verbs.all(Event)[0].message == "x" * 1020 + " ..."


async def test_losses_are_told_of_the_cluster(verbs: FakeVerbs, recorder: SeriesRecorder, clock: FakeClock) -> None:
    verbs.down = True
    for number in range(BUFFERED + 2):
        refuse_pod(recorder, pod=f"p{number}")
    await clock.advance(5)
    verbs.down = False
    await clock.advance(30)
    told = verbs.all(Event)[-1]
    assert (told.reason, told.action) == ("EventsDropped", "Recording")
    assert told.message == "2 events were dropped while the event store was away"
    assert (told.involvedObject.kind, told.involvedObject.name) == ("Namespace", "kube-system")
    assert told.metadata.namespace == "default"


def test_what_is_forgotten_for_others_is_told_first(clock: FakeClock) -> None:
    book = SeriesBook("default-scheduler", "default-scheduler-m1")
    at = Moment(clock.monotonic(), clock.wall())

    def see(pod: str) -> list[int | None]:
        found = book.observe(reference_to(a_pod(pod)), "Warning", "FailedScheduling", "Scheduling", WHY, at)
        return [r.event.series.count if r.event.series else None for r in found]

    assert [see("first"), see("first"), see("first")] == [[None], [2], []]
    for number in range(REMEMBERED - 1):
        assert see(f"p{number}") == [None]
    assert see("last") == [3, None]
