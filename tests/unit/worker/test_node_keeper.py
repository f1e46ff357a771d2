"""When a worker says anew that its node is well: never while no master hears it, at once when one does."""

from __future__ import annotations

import asyncio

from barque.api.errors import conflict
from barque.api.types import core_v1
from barque.client.client import Client
from barque.worker.node import NodeKeeper
from tests.support.builders import a_node
from tests.support.clock import FakeClock
from tests.support.fake_verbs import FakeVerbs
from tests.unit.worker.test_node_status import FACTS, WHERE


def a_keeper(verbs: FakeVerbs | None = None) -> NodeKeeper:
    verbs = verbs or FakeVerbs(FakeClock())

    async def no_images() -> list[object]:
        return []

    return NodeKeeper(Client(verbs), WHERE, FACTS, "v1", no_images, verbs.clock)


def doubted() -> core_v1.Node:
    node = a_node("n1").build()
    node.status.conditions = [core_v1.NodeCondition(type="Ready", status="Unknown", reason="NodeStatusUnknown")]
    return node


def well() -> core_v1.Node:
    node = a_node("n1").build()
    node.status.conditions = [core_v1.NodeCondition(type="Ready", status="True", reason="WorkerReady")]
    return node


def ready_to_run(keeper: NodeKeeper) -> None:
    keeper.health.runtime_problem = keeper.health.network_problem = ""


async def test_a_doubt_is_not_answered_while_no_master_hears_the_heartbeats() -> None:
    keeper = a_keeper()
    ready_to_run(keeper)
    keeper._hear(well(), doubted())
    assert not keeper._woken.is_set()
    keeper.note_session(True)
    assert keeper._woken.is_set()


async def test_a_doubt_in_touch_and_a_removal_are_answered_at_once() -> None:
    keeper = a_keeper()
    ready_to_run(keeper)
    keeper.note_session(True)
    for change in ((well(), doubted()), (well(), None)):
        keeper._woken.clear()
        keeper._hear(*change)
        assert keeper._woken.is_set()
    keeper._woken.clear()
    keeper._hear(doubted(), well())
    assert not keeper._woken.is_set()


async def test_who_lost_the_race_for_a_subnet_registers_again() -> None:
    """Many nodes may register at once, and each of them needs a subnet of its own."""
    clock = FakeClock()
    verbs = FakeVerbs(clock)
    refusals = [conflict("nodes", "", "n1", "others were quicker too often; try again")]
    verbs.refuse = lambda write: refusals.pop() if refusals else None
    keeper = a_keeper(verbs)
    registering = asyncio.create_task(keeper.register())
    await clock.advance(0.0)
    assert (refusals, registering.done()) == ([], False)
    node = a_node("n1").build()
    node.spec.podCIDR = "10.244.7.0/24"
    verbs.put(node)
    await clock.advance(1.0)
    assert (await registering).pod_cidr == "10.244.7.0/24"


async def test_a_new_address_is_written_at_once() -> None:
    verbs = FakeVerbs(FakeClock())
    node = a_node("n1").build()
    node.spec.podCIDR = "10.244.7.0/24"
    verbs.put(node)
    keeper = a_keeper(verbs)
    ready_to_run(keeper)
    running = asyncio.gather(keeper.informer.run(), keeper.run())
    try:
        await verbs.clock.advance(1.0)
        keeper.note_address("10.0.0.77")
        await verbs.clock.advance(0.1)
        held = await Client(verbs).get(core_v1.Node, "n1")
        assert [a.address for a in held.status.addresses if a.type == "InternalIP"] == ["10.0.0.77"]
    finally:
        running.cancel()
