"""A control plane in memory: the real `ControllerManager` over `FakeVerbs`, and a stand-in for the workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from barque.api import podstatus
from barque.api.types.core_v1 import Event, Pod
from barque.client.clock import timestamp
from barque.client.informers import Informers
from barque.client.supervise import run_all
from barque.master.controllers.manager import ControllerManager
from barque.master.controllers.settings import ControllerSettings
from tests.support.clock import FakeClock, settle
from tests.support.fake_verbs import FakeVerbs
from tests.support.workloads import make_ready


class ControlPlane:
    """`beats` are the nodes' last heartbeats."""

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:
        self.clock = FakeClock()
        self.verbs = FakeVerbs(self.clock)
        self.beats: dict[str, float] = {}
        self.informers = Informers(self.verbs.client, self.clock)
        self.manager = ControllerManager(self.verbs.client, self.informers, self.beats.get, self.clock, settings)

    async def run(self) -> None:
        await run_all({"informers": self.informers.run(), "controllers": self.manager.run()})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        await self.settle()
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settle(self) -> None:
        """Let everything that can happen now happen, short retries included."""
        for _ in range(8):
            await settle()
            await self.clock.advance(0.02)

    @property
    def pods(self) -> list[Pod]:
        return sorted(self.verbs.all(Pod), key=lambda p: p.metadata.name)

    @property
    def active(self) -> list[Pod]:
        return [p for p in self.pods if podstatus.is_active(p)]

    def events(self) -> list[str]:
        return [f"{e.reason}: {e.message}" for e in self.verbs.all(Event)]

    async def make_ready(self, count: int | None = None) -> int:
        """Workers start and report so many of the pods that are not ready; returns how many."""
        waiting = [p for p in self.active if not podstatus.is_ready(p)][:count]
        for pod in waiting:
            make_ready(pod, timestamp(self.clock.wall()))
            pod.status.podIP = pod.status.podIP or f"10.244.0.{len(self.verbs.objects) % 250 + 1}"
            self.verbs.put(pod)
        await self.settle()
        return len(waiting)

    async def finish_stopping(self) -> None:
        """Workers confirm that pods being deleted have stopped."""
        for pod in self.pods:
            if pod.metadata.deletionTimestamp:
                self.verbs.remove(pod)
        await self.settle()
