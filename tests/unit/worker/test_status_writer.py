"""Statuses on their way to the masters."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from barque.api.types import core_v1
from barque.worker.status_writer import StatusWriter
from tests.support.clock import FakeClock, settle
from tests.support.worker_world import FakeMasters, a_pod


@contextlib.asynccontextmanager
async def a_writer(masters: FakeMasters, clock: FakeClock) -> AsyncIterator[StatusWriter]:
    writer = StatusWriter(masters.client, clock)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()


async def test_only_what_changes_is_written_and_what_is_empty_is_removed() -> None:
    masters = FakeMasters(clock := FakeClock())
    pod = a_pod()
    pod.status.reason = "Old"
    masters.put(pod)
    async with a_writer(masters, clock) as writer:
        writer.put(masters.pod("p"), core_v1.PodStatus(phase="Running", podIP="10.0.0.2"))
        await settle()
        assert masters.pod("p").status == core_v1.PodStatus(phase="Running", podIP="10.0.0.2")
        # Before the watch has brought the written status back, and after.
        for seen in (pod, masters.pod("p")):
            writer.put(seen, core_v1.PodStatus(phase="Running", podIP="10.0.0.2"))
            await settle()
        assert len(masters.patches) == 1


async def test_while_no_master_answers_only_the_newest_waits() -> None:
    masters = FakeMasters(clock := FakeClock())
    masters.put(a_pod())
    masters.down = True
    async with a_writer(masters, clock) as writer:
        for phase in ("Pending", "Running", "Failed"):
            writer.put(masters.pod("p"), core_v1.PodStatus(phase=phase))
            await clock.advance(1)
        masters.down = False
        await clock.advance(10)
        assert [patch["status"]["phase"] for patch in masters.patches] == ["Failed"]


async def test_a_pod_replaced_by_its_namesake_is_left_alone() -> None:
    masters = FakeMasters(clock := FakeClock())
    masters.put(a_pod(uid="new"))
    async with a_writer(masters, clock) as writer:
        writer.put(a_pod(uid="old"), core_v1.PodStatus(phase="Running"))
        await clock.advance(10)
        assert masters.pod("p").status.phase == ""
        assert writer._waiting == {}


async def test_what_somebody_else_wrote_since_is_put_right() -> None:
    masters = FakeMasters(clock := FakeClock())
    masters.put(a_pod())
    async with a_writer(masters, clock) as writer:
        writer.put(masters.pod("p"), core_v1.PodStatus(phase="Running"))
        await settle()
        meddled = masters.pod("p")
        meddled.status.phase = "Unknown"
        masters.put(meddled)
        writer.put(masters.pod("p"), core_v1.PodStatus(phase="Running"))
        await settle()
        assert masters.pod("p").status.phase == "Running"
        assert msgspec.json.encode(masters.patches[-1]["metadata"]) == b'{"uid":"uid-p"}'
