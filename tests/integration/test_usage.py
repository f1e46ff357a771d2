"""Usage between two masters over a real nats-server: whoever a worker beats to, every master serves what it uses."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Pod
from barque.api.types.metrics_v1beta1 import NodeMetrics, PodMetrics
from barque.client.clock import SystemClock
from barque.client.supervise import run_all
from barque.client.usage import ContainerUsage, NodeUsage, PodUsage, encode
from barque.master.bus.access import UserAccess, UserNats
from barque.master.bus.binary import find_nats_server
from barque.master.bus.link import Link
from barque.master.bus.subjects import usage_subject
from barque.master.bus.usage import UsageExchange
from barque.master.usage.table import SPACING_S
from barque.proto.sessions_pb2 import Beat
from tests.support.expecting import expect_soon_async
from tests.support.harbour import Harbour, a_harbour
from tests.support.host import dying_with_parent
from tests.support.ports import free_port


async def soon(condition: Callable[[], bool]) -> None:
    await expect_soon_async(condition, 30, "what the test waits for")


class Nats:
    """A nats-server on loopback that can be killed, and come back at the same address."""

    def __init__(self, program: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._command = [*dying_with_parent("KILL"), str(program), "--addr", "127.0.0.1"]
        self.start()

    def start(self) -> None:
        port = self.address.rpartition(":")[2]
        self._process = subprocess.Popen([*self._command, "--port", port], stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def link(self) -> Link:
        return Link(UserAccess(UserNats((f"nats://{self.address}",))), SystemClock())


class Master:
    """One of two masters: its door, its connection to the bus, its part of the exchange."""

    def __init__(self, name: str, harbour: Harbour, link: Link) -> None:
        self.harbour = harbour
        self.link = link
        self.taken: list[str] = []
        self.exchange = UsageExchange(link, "lab", name, self._take, SystemClock())
        harbour.on_usage = self.exchange.hear

    def _take(self, node: str, sample: bytes) -> bool:
        self.taken.append(node)
        return self.harbour.usage.take(node, sample)

    @property
    def listens(self) -> bool:
        return self.link.session is not None and bool(self.link.session._inboxes)

    async def wait_listening(self) -> None:
        """Until the server has heard that it listens: what is told before that is lost."""

        async def heard() -> bool:
            if not self.listens:
                return False
            await (await self.link.up())._connection.flush(30)
            return self.listens

        await expect_soon_async(heard, 60, "the master listens")

    async def run(self) -> None:
        await run_all({"link": self.link.run(), "exchange": self.exchange.run()})

    async def beat(self, node: str, nanocores: int, about: str = "") -> None:
        """What this node's worker sends with a heartbeat: a sample about its pod, or about that of another."""
        name = f"web-{about or node}"
        pod = await self.harbour.admin.get(Pod, name, "default")
        used = PodUsage("default", name, pod.metadata.uid, [ContainerUsage("main", nanocores, 1024 * 1024)])
        sample = encode(NodeUsage(10.0, nanocores, 4096, 0, [used]))
        call = self.harbour.as_node(node).sessions.Heartbeat(iter([Beat(node=node, sequence=1, usage=sample)]))
        assert [reply.sequence async for reply in call] == [1]

    async def shown(self) -> dict[str, str]:
        """The pods' use, as an administrator reads it through the door."""
        listed = await self.harbour.connect().client.list(PodMetrics)
        return {pod.metadata.name: str(pod.containers[0].usage["cpu"]) for pod in listed.items}

    async def comes_to_show(self, wanted: dict[str, str]) -> None:
        async def shows() -> bool:
            return await self.shown() == wanted

        await expect_soon_async(shows, 30, f"it shows {wanted}")


@asynccontextmanager
async def two_masters(directory: Path, nats: Nats) -> AsyncIterator[tuple[Master, Master]]:
    """Two doors to one store with a node n1, a node n2, and a pod on each."""
    async with a_harbour(directory) as harbour:
        other = Harbour(harbour.pki, harbour.store)
        await other.open()
        for node in ("n1", "n2"):
            await harbour.node(node, 1)
            await harbour.pod(f"web-{node}", node)
        masters = Master("m1", harbour, nats.link()), Master("m2", other, nats.link())
        tasks = [asyncio.create_task(master.run()) for master in masters]
        try:
            yield masters
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await other.close()


@pytest.fixture
async def nats() -> AsyncIterator[Nats]:
    nats = Nats(await find_nats_server())
    yield nats
    nats.kill()


async def listening(*masters: Master) -> None:
    for master in masters:
        await master.wait_listening()


async def test_every_master_serves_what_workers_tell_any(tmp_path: Path, nats: Nats) -> None:
    async with two_masters(tmp_path, nats) as (m1, m2):
        await listening(m1, m2)
        await m1.beat("n1", 111)
        await m2.beat("n2", 222)
        for master in (m1, m2):
            await master.comes_to_show({"web-n1": "111n", "web-n2": "222n"})
        listed = await m2.harbour.connect().client.list(NodeMetrics)
        assert [node.metadata.name for node in listed.items] == ["n1", "n2"]
        # Each heard of each node once: nobody takes what it told itself.
        assert sorted(m1.taken) == sorted(m2.taken) == ["n1", "n2"]
        refused = await api_refusal(m1.harbour.as_node("n1").client.list(NodeMetrics))
        assert refused.code == 403


async def test_while_nats_is_away_each_serves_its_own_nodes(tmp_path: Path, nats: Nats) -> None:
    async with two_masters(tmp_path, nats) as (m1, m2):
        await listening(m1, m2)
        nats.kill()
        await soon(lambda: bool(m1.exchange.fault) and bool(m2.exchange.fault))
        assert m1.exchange.fault.startswith("the usage of nodes that beat to other masters is not heard: ")
        await m1.beat("n1", 111)
        await m2.beat("n2", 222, about="n1")
        await m1.comes_to_show({"web-n1": "111n"})
        assert (await m2.shown(), m2.harbour.usage.left_out) == ({}, 1)
        assert not m1.exchange._waiting
        nats.start()
        await listening(m1, m2)
        await asyncio.sleep(SPACING_S)
        # A message that is none, and one that the workers could not have sent, disturb nobody.
        session = await m1.link.up()
        for junk in (b"junk", encode(NodeUsage(10.0, -1, 0, 0, [])), b"\x93\xa1x\xa2n1\xc4\x01x"):
            await session.tell(usage_subject("lab", "n9"), junk)
        await m2.beat("n2", 333)
        for master, wanted in ((m1, {"web-n1": "111n", "web-n2": "333n"}), (m2, {"web-n2": "333n"})):
            await master.comes_to_show(wanted)


async def api_refusal(call: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await call
    return refused.value
