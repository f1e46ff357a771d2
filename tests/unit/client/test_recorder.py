"""Events are counted rather than repeated, never block, never flood, and their losses are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from barque.api.errors import ApiError, bad_request, internal, too_many_requests
from barque.api.types.core_v1 import Event
from barque.api.types.meta_v1 import StatusDetails
from barque.client.recorder import EventRecorder
from barque.client.recording import outbox
from barque.client.recording.outbox import BATCH, BUFFERED, MOST_TRIES
from barque.client.verbs import Create, Write
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
    recorder = EventRecorder(verbs.client, "kubelet", "n1", clock, about=a_node("n1"), chance=lambda: 0.5)
    task = asyncio.create_task(recorder.run())
    yield recorder
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def shown(verbs: FakeVerbs) -> list[tuple[str, str, int | None]]:
    return [(e.reason, e.message, e.count) for e in verbs.all(Event)]


def told_of(verbs: FakeVerbs) -> list[str]:
    return [e.involvedObject.name for e in verbs.all(Event)]


def refusing(name: str, error: ApiError, verbs: FakeVerbs) -> None:
    """Writes of events about this object are refused."""

    def refuse(write: Write) -> ApiError | None:
        about = write.json if isinstance(write, Create) else write.target.name.encode()  # type: ignore[union-attr]
        return error if name.encode() in about else None

    verbs.refuse = refuse


async def test_an_event_names_object_and_source(verbs: FakeVerbs, recorder: EventRecorder) -> None:
    recorder.event(a_pod("web-1"), "Normal", "Started", "Container started", "spec.containers{main}")
    await settle()
    event = verbs.all(Event)[0]
    assert event.metadata.namespace == "default"
    assert event.metadata.name.startswith("web-1.")
    assert (event.involvedObject.kind, event.involvedObject.uid) == ("Pod", "uid-web-1")
    assert event.involvedObject.fieldPath == "spec.containers{main}"
    assert (event.source.component, event.source.host) == ("kubelet", "n1")
    assert (event.reportingComponent, event.reportingInstance) == ("kubelet", "n1")
    assert event.firstTimestamp == event.lastTimestamp == "2026-01-01T00:00:00Z"
    assert (event.eventTime, event.series) == ("", None)


async def test_events_of_cluster_objects_stand_in_default(verbs: FakeVerbs, recorder: EventRecorder) -> None:
    recorder.event(a_node("n1"), "Normal", "NodeReady", "ready")
    await settle()
    assert verbs.all(Event)[0].metadata.namespace == "default"


async def test_repeats_are_counted_on_one_event(verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock) -> None:
    for _ in range(3):
        recorder.event(a_pod(), "Warning", "BackOff", "restarting failed container")
        await clock.advance(10)
    assert shown(verbs) == [("BackOff", "restarting failed container", 3)]
    assert verbs.all(Event)[0].firstTimestamp == "2026-01-01T00:00:00Z"
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


async def test_a_write_whose_answer_is_lost_happens_once(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock
) -> None:
    verbs.lose = lambda write: len(verbs.writes) == 1
    recorder.event(a_pod(), "Normal", "Started", "x")
    await clock.advance(1)
    recorder.event(a_pod(), "Normal", "Started", "x")
    await clock.advance(1)
    assert shown(verbs) == [("Started", "x", 2)]


async def test_what_happens_while_an_answer_is_lost_is_told(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock
) -> None:
    verbs.lose = lambda write: len(verbs.writes) == 1
    recorder.event(a_pod(), "Normal", "Started", "x")
    await settle()
    recorder.event(a_pod(), "Normal", "Started", "x")
    await clock.advance(1)
    assert shown(verbs) == [("Started", "x", 2)]


async def test_a_component_that_stops_says_its_last(verbs: FakeVerbs, clock: FakeClock) -> None:
    recorder = EventRecorder(verbs.client, "kubelet", "n1", clock)
    verbs.down = True
    running = asyncio.create_task(recorder.run())
    for number in range(BATCH + 1):
        recorder.event(a_pod(f"web-{number}"), "Normal", "Killing", "Stopping container main")
    await settle()
    verbs.down = False
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (running.cancelled(), len(shown(verbs))) == (True, BATCH + 1)


async def test_a_store_that_does_not_answer_holds_up_no_end(
    verbs: FakeVerbs, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LAST_S", 0.01)
    asked = 0

    async def never(writes: object) -> list[bytes | ApiError]:
        nonlocal asked
        asked += 1
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(verbs, "batch", never)
    recorder = EventRecorder(verbs.client, "kubelet", "n1", clock)
    running = asyncio.create_task(recorder.run())
    recorder.event(a_pod(), "Normal", "Killing", "Stopping container main")
    await settle()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (running.cancelled(), asked) == (True, 2)


async def test_many_different_messages_are_combined(verbs: FakeVerbs, recorder: EventRecorder) -> None:
    for number in range(14):
        recorder.event(a_pod(), "Normal", "SuccessfulCreate", f"Created pod: {number}")
    await settle()
    assert len(verbs.all(Event)) == 10
    assert ("SuccessfulCreate", "Created pod: 8", 1) in shown(verbs)
    assert ("SuccessfulCreate", "(combined from similar events): Created pod: 13", 5) in shown(verbs)


async def test_after_ten_quiet_minutes_messages_stand_alone_again(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock
) -> None:
    for number in range(12):
        recorder.event(a_pod(), "Normal", "SuccessfulCreate", f"Created pod: {number}")
    await clock.advance(601)
    recorder.event(a_pod(), "Normal", "SuccessfulCreate", "Created pod: new")
    await settle()
    assert ("SuccessfulCreate", "Created pod: new", 1) in shown(verbs)


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


async def test_what_is_held_back_is_counted_with_the_next_write(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock
) -> None:
    for _ in range(30):
        recorder.event(a_pod(), "Warning", "Unhealthy", "no answer")
    await settle()
    await clock.advance(301)
    recorder.event(a_pod(), "Warning", "Unhealthy", "no answer")
    await settle()
    assert shown(verbs) == [("Unhealthy", "no answer", 31)]


async def test_events_wait_for_the_store_within_bounds_and_losses_are_told(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    verbs.down = True
    for number in range(BUFFERED + 7):
        recorder.event(a_pod(f"p{number}"), "Normal", "Started", "x")
    await clock.advance(60)
    assert recorder.dropped == 7
    verbs.down = False
    await clock.advance(30)
    *waited, told = verbs.all(Event)
    assert len(waited) == BUFFERED
    assert {e.lastTimestamp for e in waited} == {"2026-01-01T00:00:00Z"}
    assert (told.type, told.reason) == ("Warning", "EventsDropped")
    assert told.message == "7 events were dropped while the event store was away"
    assert (told.involvedObject.kind, told.involvedObject.name) == ("Node", "n1")
    warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warned == ["kubelet: 7 events were dropped while the event store was away"]


async def test_each_outage_is_told_for_itself(verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock) -> None:
    for outage, lost in (("first", 1), ("second", 2)):
        verbs.down = True
        for number in range(BUFFERED + lost):
            recorder.event(a_pod(f"{outage}-{number}"), "Normal", "Started", "x")
        await clock.advance(20)
        verbs.down = False
        await clock.advance(30)
    assert [e.message for e in verbs.all(Event) if e.reason == "EventsDropped"] == [
        "1 event was dropped while the event store was away",
        "2 events were dropped while the event store was away",
    ]


async def test_a_burst_beyond_the_bound_is_not_called_an_outage(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock
) -> None:
    verbs.down = True
    recorder.event(a_pod("p"), "Normal", "Started", "x")
    await clock.advance(20)
    verbs.down = False
    await clock.advance(20)
    for number in range(BUFFERED + 3):
        recorder.event(a_pod(f"p{number}"), "Normal", "Started", "x")
    await clock.advance(1)
    said = "3 events were dropped: they came faster than they could be written"
    assert ("EventsDropped", said, 1) in shown(verbs)


async def test_an_absent_store_is_asked_ever_less_often(
    verbs: FakeVerbs, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs.refuse = lambda write: internal("no leader")
    at: list[float] = []
    batch = verbs.batch

    async def noted(writes: list[Write]) -> list[bytes | ApiError]:
        at.append(round(clock.monotonic(), 3))
        return await batch(writes)

    monkeypatch.setattr(verbs, "batch", noted)
    recorder = EventRecorder(verbs.client, "kubelet", "n1", clock, chance=lambda: 0.0)
    task = asyncio.create_task(recorder.run())
    recorder.event(a_pod(), "Normal", "Started", "x")
    await clock.advance(20)
    # With no luck each pause is half of what it may be: 0.1 s doubling up to 10 s.
    assert at == [0.0, 0.05, 0.15, 0.35, 0.75, 1.55, 3.15, 6.35, 11.35, 16.35]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_only_the_object_that_was_too_loud_waits(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock
) -> None:
    loud = too_many_requests("too many events about pod loud")
    loud.details = StatusDetails(retryAfterSeconds=30)
    refusing("loud", loud, verbs)
    recorder.event(a_pod("loud"), "Normal", "Started", "x")
    recorder.event(a_pod("calm"), "Normal", "Started", "x")
    await settle()
    assert told_of(verbs) == ["calm"]
    tries = len(verbs.writes)
    recorder.event(a_pod("other"), "Normal", "Started", "x")
    recorder.event(a_pod("loud"), "Normal", "Pulled", "x")
    await clock.advance(29)
    assert told_of(verbs) == ["calm", "other"]
    assert len(verbs.writes) == tries + 1
    verbs.refuse = lambda write: None
    await clock.advance(2)
    assert told_of(verbs) == ["calm", "other", "loud", "loud"]
    assert recorder.dropped == 0


async def test_a_store_that_has_too_much_to_do_loses_nothing(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock
) -> None:
    busy = too_many_requests("limit reached on type Server")
    busy.details = StatusDetails(retryAfterSeconds=1)
    verbs.refuse = lambda write: busy
    for number in range(300):
        recorder.event(a_pod(f"p{number}"), "Normal", "Started", "x")
    await clock.advance(60)
    # One batch at a time asks whether there is room again.
    assert 500 < len(verbs.writes) < 2000
    verbs.refuse = lambda write: None
    await clock.advance(15)
    assert len(verbs.all(Event)) == 300
    assert recorder.dropped == 0


async def test_what_is_never_taken_is_given_up(verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock) -> None:
    refusing("loud", too_many_requests("too many"), verbs)
    recorder.event(a_pod("loud"), "Normal", "Started", "x")
    await clock.advance(600)
    assert len(verbs.writes) == MOST_TRIES
    assert recorder.dropped == 1


async def test_a_refused_event_is_not_tried_again(verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock) -> None:
    refusing("odd", bad_request("no"), verbs)
    recorder.event(a_pod("odd"), "Normal", "Started", "x")
    recorder.event(a_pod("even"), "Normal", "Started", "x")
    await clock.advance(60)
    assert told_of(verbs) == ["even"]
    assert len(verbs.writes) == 2
    assert recorder.dropped == 1


async def test_one_event_that_fails_does_not_hold_up_the_others(
    verbs: FakeVerbs, recorder: EventRecorder, clock: FakeClock
) -> None:
    refusing("odd", internal("broken"), verbs)
    recorder.event(a_pod("odd"), "Normal", "Started", "x")
    for number in range(5):
        recorder.event(a_pod(f"even-{number}"), "Normal", "Started", "x")
    await settle()
    assert len(verbs.all(Event)) == 5
    verbs.refuse = lambda write: None
    await clock.advance(1)
    assert "odd" in told_of(verbs)
    assert len(verbs.writes) == 7


async def test_a_message_without_end_is_cut(verbs: FakeVerbs, recorder: EventRecorder) -> None:
    recorder.event(a_pod(), "Warning", "Unhealthy", "ä" * 100_000)
    await settle()
    (event,) = verbs.all(Event)
    assert len(event.message.encode()) <= 10 * 1024
    assert event.message.endswith("ää ...")
