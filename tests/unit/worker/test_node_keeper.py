"""When a worker says anew that its node is well: never while no master hears it, at once when one does."""

from __future__ import annotations

from pathlib import Path

from barque.api.types import core_v1
from barque.client.client import Client
from barque.worker.node import NodeKeeper
from tests.support.builders import a_node
from tests.support.clock import FakeClock
from tests.support.fake_verbs import FakeVerbs
from tests.unit.worker.test_node_status import FACTS, WHERE


def a_keeper(tmp_path: Path) -> NodeKeeper:
    clock = FakeClock()

    async def no_images() -> list[object]:
        return []

    return NodeKeeper(Client(FakeVerbs(clock)), WHERE, FACTS, tmp_path, "v1", no_images, clock)


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


async def test_a_doubt_is_not_answered_while_no_master_hears_the_heartbeats(tmp_path: Path) -> None:
    keeper = a_keeper(tmp_path)
    ready_to_run(keeper)
    keeper._hear(well(), doubted())
    assert not keeper._woken.is_set()
    keeper.note_session(True)
    assert keeper._woken.is_set()


async def test_a_doubt_in_touch_and_a_removal_are_answered_at_once(tmp_path: Path) -> None:
    keeper = a_keeper(tmp_path)
    ready_to_run(keeper)
    keeper.note_session(True)
    for change in ((well(), doubted()), (well(), None)):
        keeper._woken.clear()
        keeper._hear(*change)
        assert keeper._woken.is_set()
    keeper._woken.clear()
    keeper._hear(doubted(), well())
    assert not keeper._woken.is_set()
