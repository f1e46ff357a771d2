"""When a worker says anew that its node is well: never while no master hears it, at once when one does."""

from __future__ import annotations

import asyncio

from barque.api.errors import conflict
from barque.api.types import core_v1
from barque.client.client import Client
from barque.worker.host import Pressure
from barque.worker.node import NodeKeeper, node_events
from tests.support.builders import a_node
from tests.support.clock import FakeClock
from tests.support.fake_verbs import FakeVerbs
from tests.support.worker_world import Recorder
from tests.unit.worker.test_node_status import FACTS, WHERE, status


def a_keeper(verbs: FakeVerbs | None = None, recorder: Recorder | None = None) -> NodeKeeper:
    verbs = verbs or FakeVerbs(FakeClock())

    async def no_images() -> list[object]:
        return []

    return NodeKeeper(Client(verbs), WHERE, FACTS, "v1", no_images, verbs.clock, recorder or Recorder())


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


async def test_a_nodes_life_is_told() -> None:
    verbs, recorder = FakeVerbs(FakeClock()), Recorder()
    keeper = a_keeper(verbs, recorder)
    registering = asyncio.create_task(keeper.register())
    await verbs.clock.advance(0.1)
    node = verbs.find(core_v1.Node, "n1")
    node.spec.podCIDR = "10.244.7.0/24"
    verbs.put(node)
    await asyncio.gather(registering, return_exceptions=True)
    assert recorder.events == [
        ("Normal", reason, f"Node n1 status is now: {reason}")
        for reason in ("NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID")
    ]
    recorder.events.clear()
    ready_to_run(keeper)
    running = asyncio.gather(keeper.informer.run(), keeper.run())
    try:
        await verbs.clock.advance(1.0)
        assert recorder.events == [("Normal", "NodeReady", "Node n1 status is now: NodeReady")]
        keeper.note_pressure(Pressure(disk=True))
        await verbs.clock.advance(1.0)
        keeper.note_runtime(None, "gone")
        await verbs.clock.advance(1.0)
        assert recorder.reasons() == ["NodeReady", "NodeHasDiskPressure", "NodeNotReady"]
        await verbs.clock.advance(600.0)
        assert len(recorder.events) == 3
        for unschedulable in (True, False):
            node = verbs.find(core_v1.Node, "n1")
            node.spec.unschedulable = unschedulable
            verbs.put(node)
            await verbs.clock.advance(1.0)
        assert recorder.events[3:] == [
            ("Normal", reason, f"Node n1 status is now: {reason}")
            for reason in ("NodeNotSchedulable", "NodeSchedulable")
        ]
    finally:
        running.cancel()


def test_what_the_masters_doubted_is_told_anew() -> None:
    before = status()
    for condition in before.conditions:
        condition.status = "Unknown"
    assert [told.reason for told in node_events("n1", before, status())] == [
        "NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady",
    ]  # fmt: skip


def test_a_new_boot_is_a_warning() -> None:
    before = status()
    assert before.nodeInfo is not None
    before.nodeInfo.bootID = "another"
    assert node_events("n1", before, status()) == [
        ("Warning", "Rebooted", "Node n1 has been rebooted, boot id: bid"),
    ]
