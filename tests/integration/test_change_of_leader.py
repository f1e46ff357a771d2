"""Two masters of one process at one store in memory: doors and controllers are real, who leads the test says.

What Raft decides is left out; what a change of leader means for everything above the store is not.
"""

from __future__ import annotations

import asyncio
import datetime
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from barque.api.errors import ApiError
from barque.api.types.apps_v1 import Deployment
from barque.api.types.coordination_v1 import Lease
from barque.api.types.core_v1 import Node, Pod
from barque.api.types.meta_v1 import ObjectMeta
from barque.client import pki
from barque.client.clock import SystemClock
from barque.client.pki import Identity
from barque.client.profile import Profile
from barque.client.remote import Connection, connect
from barque.master.auth.ca import MasterPki
from barque.master.daemon import Master, MasterSettings
from barque.master.raft.messages import Configuration, MemberInfo
from barque.master.store.epoch import LEADER, begin
from barque.worker.sessions import Heartbeat
from tests.support.builders import DeploymentBuilder
from tests.support.expecting import expect_soon_async
from tests.support.memory_store import MemoryStore
from tests.support.ports import free_ports
from tests.unit.master.test_leadership import Seat


class SeatOfMaster(Seat):
    """What a master's daemon asks of a store besides its port."""

    fault = ""

    def __init__(self, store: MemoryStore, own: MemberInfo, masters: list[SeatedMaster]) -> None:
        super().__init__(store)
        self._own = own
        self._masters = masters

    @property
    def member_id(self) -> str:
        return self._own.id

    @property
    def configuration(self) -> Configuration:
        infos = tuple(master.seat._own for master in self._masters)
        return Configuration(voters=tuple(info.id for info in infos), members=infos)

    def group_figures(self) -> Any:
        return SimpleNamespace(leader=next((m.seat.member_id for m in self._masters if m.seat.leads), ""))

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to let go of."""


class SeatedMaster(Master):
    """A master whose store is a seat at the test's."""

    def __init__(self, settings: MasterSettings, seat: SeatOfMaster) -> None:
        super().__init__(settings)
        self.seat = seat

    @asynccontextmanager
    async def _storage(self, *_: Any) -> AsyncIterator[Any]:  # type: ignore[override]  # a seat for an engine
        yield self.seat


class Two:
    """Both masters, and who may speak to them."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore(SystemClock())
        self.masters: list[SeatedMaster] = []
        for name in ("m1", "m2"):
            grpc_port, https_port, bus_port, route_port = free_ports(4)
            settings = MasterSettings(
                folder / name, name, "127.0.0.1", "127.0.0.1", grpc_port,
                https_port=https_port, bus_port=bus_port, route_port=route_port,
            )  # fmt: skip
            own = MemberInfo(f"id-{name}", name, "127.0.0.1", 0, grpc_port, https_port, bus_port, route_port)
            self.masters.append(SeatedMaster(settings, SeatOfMaster(self.store, own, self.masters)))
        first, second = (master.settings.data_dir / "pki" for master in self.masters)
        MasterPki.open(first, "m1", ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
        shutil.copytree(first, second)
        self.admin = Identity.load(first, "admin")

    def lead(self, number: int | None) -> None:
        for index, master in enumerate(self.masters):
            master.seat.leads = index == number

    def connect(self, number: int) -> Connection:
        return connect(Profile.of([f"127.0.0.1:{self.masters[number].settings.grpc_port}"], self.admin))

    def epoch(self) -> str:
        stored = self.store.get(LEADER)
        return stored.fields["epoch"] if stored is not None else ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(master.run()) for master in self.masters]
        try:
            for number in range(2):
                await self._until_serving(number, tasks[number])
            yield
            assert [task.exception() for task in tasks if task.done()] == []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_serving(self, number: int, task: asyncio.Task[None]) -> None:
        async with self.connect(number) as connection:
            while True:
                if task.done():
                    task.result()
                try:
                    await connection.ready()
                    return
                except ApiError:
                    await asyncio.sleep(0.02)


pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


async def until(happens: Callable[[], Any]) -> None:
    await expect_soon_async(happens, 90, happens.__name__)


async def pods(connection: Connection, app: str) -> int:
    return len((await connection.client.list(Pod, "default", labels=f"app={app}")).items)


def a_deployment(name: str, replicas: int) -> Deployment:
    return DeploymentBuilder(name, "default").replicas(replicas).build()


async def test_controllers_run_at_the_leader_alone_and_go_on_at_the_next(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    two.lead(0)
    async with two.running(), two.connect(1) as follower:
        await follower.client.create(a_deployment("web", 3))

        async def three() -> bool:
            return await pods(follower, "web") == 3

        await until(three)
        first = two.epoch()

        two.lead(None)

        async def stopping() -> bool:
            return "this master leads no longer" in caplog.text

        await until(stopping)
        await follower.client.create(a_deployment("later", 2))
        await asyncio.sleep(0.5)
        assert await pods(follower, "later") == 0

        two.lead(1)

        async def later() -> bool:
            return await pods(follower, "later") == 2

        await until(later)
        assert two.epoch() not in ("", first)
        assert await pods(follower, "web") == 3


async def test_whatever_a_leader_writes_compares_its_epoch(two: Two) -> None:
    """Another master has begun a term; this one does not know, writes, is refused, and begins a term of its own."""
    two.lead(0)
    async with two.running(), two.connect(1) as follower:

        async def begun() -> bool:
            return two.epoch() != ""

        await until(begun)
        await begin(two.store, "m9", "another's")
        await follower.client.create(a_deployment("web", 2))

        async def made() -> bool:
            return await pods(follower, "web") == 2

        await until(made)
        assert two.epoch() != "another's"


async def test_a_node_that_beats_to_a_follower_is_no_lost_node(two: Two) -> None:
    """The leader keeps the lease of a node whose worker never spoke to it."""
    two.lead(0)
    keys = MasterPki.open(two.masters[0].settings.data_dir / "pki", "m1", ["127.0.0.1"], SystemClock().wall())
    worker = keys.authority.identity(pki.node_subject("n1"), SystemClock().wall())
    follower = f"127.0.0.1:{two.masters[1].settings.grpc_port}"
    async with two.running(), two.connect(0) as leader, connect(Profile.of([follower], worker)) as connection:
        await leader.client.create(Node(metadata=ObjectMeta(name="n1")))
        beating = asyncio.create_task(Heartbeat(connection, "n1", lambda: "uid", lambda _: None, SystemClock()).run())

        async def leased() -> bool:
            return [lease.metadata.name for lease in (await leader.client.list(Lease)).items] == ["n1"]

        try:
            await until(leased)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
