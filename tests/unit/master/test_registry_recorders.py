"""What the recorders write is what the API takes: Events of both kinds, their repeats, and those of cluster objects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from barque.api.types.core_v1 import Event
from barque.client.recorder import CLUSTER, EventRecorder, SeriesRecorder
from tests.support.clock import FakeClock, settle
from tests.support.memory_store import Bench, a_bench
from tests.support.workloads import a_node, a_pod


@contextlib.asynccontextmanager
async def writing(recorder: EventRecorder | SeriesRecorder) -> AsyncIterator[None]:
    """All that is recorded inside is written at the end."""
    task = asyncio.create_task(recorder.run())
    try:
        yield
        await settle(400)
        assert recorder.dropped == 0
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def events_of(bench: Bench) -> list[Event]:
    found = await bench.client.list(Event, "default")
    return sorted(found.items, key=lambda event: event.reason)


async def test_counted_events_are_taken() -> None:
    bench = await a_bench()
    recorder = EventRecorder(bench.client, "barque-worker", "n1", FakeClock())
    async with writing(recorder):
        recorder.event(a_pod("web-1"), "Warning", "BackOff", "again")
        recorder.event(a_node("n1"), "Normal", "NodeReady", "Node n1 status is now: NodeReady")
        recorder.event(CLUSTER, "Normal", "LeaderElection", "m1 became leader")
        await settle(400)
        recorder.event(a_pod("web-1"), "Warning", "BackOff", "again")
    told = [(e.reason, e.involvedObject.kind if e.involvedObject else "", e.count) for e in await events_of(bench)]
    assert told == [("BackOff", "Pod", 2), ("LeaderElection", "Namespace", 1), ("NodeReady", "Node", 1)]


async def test_series_are_taken() -> None:
    bench = await a_bench()
    recorder = SeriesRecorder(bench.client, "default-scheduler", "m1", FakeClock())
    async with writing(recorder):
        recorder.event(a_pod("web-1"), "Warning", "FailedScheduling", "Scheduling", "x" * 2000)
        recorder.event(CLUSTER, "Warning", "EventsDropped", "Recording", "2 events were dropped")
        await settle(400)
        recorder.event(a_pod("web-1"), "Warning", "FailedScheduling", "Scheduling", "x" * 2000)
    dropped, failed = await events_of(bench)
    assert (dropped.reason, dropped.series) == ("EventsDropped", None)
    assert failed.series is not None
    assert (failed.reason, failed.series.count, failed.eventTime) == (
        "FailedScheduling", 2, "2026-01-01T00:00:00.000000Z",
    )  # fmt: skip
