"""Events are counted rather than repeated, never block, and never flood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from barque.api.types.core_v1 import Event
from barque.client.recorder import BUFFERED, EventRecorder
from barque.client.verbs import Create
from tests.support.clock import FakeClock, settle
from tests.support.fake_verbs import FakeVerbs
from tests.support.workloads import a_node, a_pod


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def verbs(clock: FakeClock) -> FakeVerbs:
    return FakeVerbs(clock)


@pytest.fixture
async def recorder(verbs: FakeVerbs, clock: FakeClock) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(verbs.client, "kubelet", "n1", clock)
    task = asyncio.create_task(recorder.run())
    yield recorder
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def shown(verbs: FakeVerbs) -> list[tuple[str, str, int | None]]:
    return [(e.reason, e.message, e.count) for e in verbs.all(Event)]


async def test_an_event_names_object_and_source(verbs: FakeVerbs, recorder: EventRecorder) -> None:
    recorder.event(a_pod("web-1"), "Normal", "Started", "Started container main")
    await settle()
    event = verbs.all(Event)[0]
    assert event.metadata.namespace == "default"
    assert event.metadata.name.startswith("web-1.")
    assert event.involvedObject.kind == "Pod"
    assert event.involvedObject.uid == "uid-web-1"
    assert (event.source.component, event.source.host) == ("kubelet", "n1")
    assert event.firstTimestamp == event.lastTimestamp == "2026-01-01T00:00:00Z"


async def test_events_of_cluster_objects_stand_in_default(verbs: FakeVerbs, recorder: EventRecorder) -> None:
    recorder.event(a_node("n1"), "Normal", "NodeReady", "ready")
    await settle()
    assert verbs.all(Event)[0].metadata.namespace == "default"


async def test_repeats_are_counted_on_one_event(verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock) -> None:
    for _ in range(3):
        recorder.event(a_pod(), "Warning", "BackOff", "restarting failed container")
        await clock.advance(10)
    assert shown(verbs) == [("BackOff", "restarting failed container", 3)]
    assert verbs.all(Event)[0].lastTimestamp == "2026-01-01T00:00:20Z"
    assert sum(isinstance(w, Create) for w in verbs.writes) == 1


async def test_an_event_that_has_expired_begins_again(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock
) -> None:
    recorder.event(a_pod(), "Warning", "BackOff", "again")
    await settle()
    verbs.remove(verbs.all(Event)[0])
    recorder.event(a_pod(), "Warning", "BackOff", "again")
    await clock.advance(1)
    assert shown(verbs) == [("BackOff", "again", 2)]


async def test_many_different_messages_are_combined(verbs: FakeVerbs, recorder: EventRecorder) -> None:
    for number in range(14):
        recorder.event(a_pod(), "Normal", "SuccessfulCreate", f"Created pod: {number}")
    await settle()
    assert len(verbs.all(Event)) == 11
    assert ("SuccessfulCreate", "(combined from similar events): Created pod: 13", 4) in shown(verbs)


async def test_one_object_cannot_flood(verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock) -> None:
    for number in range(40):
        recorder.event(a_pod("noisy"), "Normal", f"Reason{number}", "x")
    recorder.event(a_pod("quiet"), "Normal", "Started", "x")
    await settle()
    assert len(verbs.all(Event)) == 26
    assert recorder.dropped == 15
    await clock.advance(301)
    recorder.event(a_pod("noisy"), "Normal", "Later", "x")
    recorder.event(a_pod("noisy"), "Normal", "TooSoon", "x")
    await settle()
    assert "Later" in {e.reason for e in verbs.all(Event)}
    assert "TooSoon" not in {e.reason for e in verbs.all(Event)}


async def test_events_wait_for_the_bus_within_bounds_and_losses_are_said(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    verbs.down = True
    for number in range(BUFFERED + 7):
        recorder.event(a_pod(f"p{number}"), "Normal", "Started", "x")
    await clock.advance(60)
    assert recorder.dropped == 7
    verbs.down = False
    await clock.advance(30)
    assert len(verbs.all(Event)) == BUFFERED
    assert "7 events not recorded" in caplog.text
