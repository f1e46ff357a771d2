"""A silent node is not ready, nor are its pods; a new leader first listens."""

from __future__ import annotations

import pytest

from barque.api import conditions, podstatus
from barque.api.types.core_v1 import Node, Pod, Toleration
from barque.api.types.discovery_v1 import EndpointSlice
from barque.client.verbs import Update
from barque.master.controllers.node import plan_verdict
from barque.master.controllers.settings import ControllerSettings
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_node, a_pod, a_service, make_ready


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane(ControllerSettings(orphaned_pod_s=40))


def readiness(plane: ControlPlane, name: str = "n1") -> tuple[str, str]:
    found = conditions.find(plane.verbs.find(Node, name).status.conditions, "Ready")
    return (found.status, found.reason) if found else ("", "")


async def beat(plane: ControlPlane, seconds: float, *names: str) -> None:
    for _ in range(int(seconds / 2)):
        for name in names:
            plane.beats[name] = plane.clock.monotonic()
        await plane.clock.advance(2)


async def test_a_beating_node_stays_as_its_worker_says(plane: ControlPlane) -> None:
    plane.verbs.put(a_node())
    async with plane.running():
        await beat(plane, 60, "n1")
        assert readiness(plane) == ("True", "")
        assert [w for w in plane.verbs.writes if w.target.resource.plural not in ("leases", "events")] == []


async def test_nodes_that_come_and_go_are_told(plane: ControlPlane) -> None:
    plane.verbs.put(a_node("n1"))
    async with plane.running():
        await beat(plane, 4, "n1")
        plane.verbs.put(a_node("n2"))
        await beat(plane, 4, "n1", "n2")
        plane.verbs.remove(plane.verbs.find(Node, "n1"))
        await beat(plane, 4, "n2")
        assert plane.events() == [
            "RegisteredNode: Node n1 event: Registered Node n1 in Controller",
            "RegisteredNode: Node n2 event: Registered Node n2 in Controller",
            "RemovingNode: Node n1 event: Removing Node n1 from Controller",
        ]


async def test_silence_makes_node_and_pods_unready_and_says_so(plane: ControlPlane) -> None:
    for name in ("n1", "n2", "n3"):
        plane.verbs.put(a_node(name))
    here = a_pod("here", node="n1", ready=True)
    here.spec.tolerations = [Toleration(operator="Exists")]
    plane.verbs.put(here)
    plane.verbs.put(a_pod("there", node="n2", ready=True))
    async with plane.running():
        await beat(plane, 10, "n1", "n2", "n3")
        await beat(plane, 4, "n2", "n3")
        assert readiness(plane) == ("True", "")
        await beat(plane, 4, "n2", "n3")
        assert readiness(plane) == ("Unknown", "NodeStatusUnknown")
        said = {(c.type, c.status, c.message) for c in plane.verbs.find(Node, "n1").status.conditions}
        never = {
            (f"{what}Pressure", "Unknown", "Kubelet never posted node status.") for what in ("Memory", "Disk", "PID")
        }
        assert said == {("Ready", "Unknown", "Kubelet stopped posting node status."), *never}
        assert not podstatus.is_ready(plane.verbs.find(Pod, "here"))
        assert podstatus.is_ready(plane.verbs.find(Pod, "there"))
        ready = conditions.find(plane.verbs.find(Pod, "here").status.conditions, "Ready")
        assert ready is not None
        assert (ready.reason, ready.message) == ("NodeNotReady", "Node n1 sends no heartbeats")
        assert "NodeNotReady: Node n1 status is now: NodeNotReady" in plane.events()
        assert "NodeNotReady: Node is not ready" in plane.events()
        assert plane.verbs.find(Pod, "here").metadata.deletionTimestamp == ""


async def test_a_node_that_never_reported_is_said_so(plane: ControlPlane) -> None:
    node = a_node()
    node.status.conditions = []
    plane.verbs.put(node)
    async with plane.running():
        await plane.clock.advance(9)
        assert readiness(plane) == ("Unknown", "NodeStatusNeverUpdated")


async def test_a_new_leader_listens_the_whole_time_before_it_judges(plane: ControlPlane) -> None:
    plane.verbs.put(a_node())
    await plane.clock.advance(1000)
    plane.beats["n1"] = 10.0
    async with plane.running():
        await plane.clock.advance(7)
        assert readiness(plane) == ("True", "")
        await plane.clock.advance(1.5)
        assert readiness(plane) == ("Unknown", "NodeStatusUnknown")


async def test_when_beats_return_it_writes_no_more(plane: ControlPlane) -> None:
    plane.verbs.put(a_node())
    plane.verbs.put(a_pod("here", node="n1", ready=True))
    async with plane.running():
        await plane.clock.advance(10)
        assert readiness(plane)[0] == "Unknown"
        plane.beats["n1"] = plane.clock.monotonic()
        plane.verbs.put(a_node())
        plane.verbs.put(make_ready(plane.verbs.find(Pod, "here")))
        writes = len([w for w in plane.verbs.writes if isinstance(w, Update)])
        await beat(plane, 20, "n1")
        assert readiness(plane) == ("True", "")
        assert podstatus.is_ready(plane.verbs.find(Pod, "here"))
        assert len([w for w in plane.verbs.writes if isinstance(w, Update)]) == writes


async def test_a_pod_that_turns_up_ready_on_a_lost_node_is_marked_too(plane: ControlPlane) -> None:
    plane.verbs.put(a_node())
    async with plane.running():
        await plane.clock.advance(10)
        plane.verbs.put(a_pod("late", node="n1", ready=True))
        await plane.clock.advance(1)
        assert not podstatus.is_ready(plane.verbs.find(Pod, "late"))


async def test_many_silent_together_are_said_to_be_so(plane: ControlPlane, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(10):
        plane.verbs.put(a_node(f"n{number}"))
    async with plane.running():
        await beat(plane, 20, "n0", "n1", "n2", "n3")
        assert plane.manager.node.disruption.startswith("6 of 10 nodes have been silent for 8 s together")
        assert caplog.text.count("6 of 10 nodes") == 1
        # Beats alone are not enough: their workers must say again that they are ready.
        await beat(plane, 2, *(f"n{n}" for n in range(10)))
        assert plane.manager.node.disruption == "6 of 10 nodes are not ready together; no pod is evicted"
        for number in range(10):
            plane.verbs.put(a_node(f"n{number}"))
        await beat(plane, 2, *(f"n{n}" for n in range(10)))
        assert plane.manager.node.disruption == ""


def test_the_next_look_is_when_the_next_node_may_be_lost() -> None:
    verdict = plan_verdict({"a": 0.0, "b": 5.0}, 12.9, 8.0, 0.55)
    assert verdict.silent == ["a"]
    assert verdict.next_look_s == pytest.approx(0.1)


async def test_pods_of_a_removed_node_go_after_a_while(plane: ControlPlane) -> None:
    plane.verbs.put(a_node("n2"))
    plane.verbs.put(a_pod("stranded", node="n1", ready=True))
    plane.verbs.put(a_pod("fine", node="n2", ready=True))
    plane.verbs.put(a_pod("waiting"))
    async with plane.running():
        await beat(plane, 36, "n2")
        assert len(plane.pods) == 3
        await beat(plane, 24, "n2")
        assert [p.metadata.name for p in plane.pods] == ["fine", "waiting"]


async def test_a_node_that_comes_back_in_time_keeps_its_pods(plane: ControlPlane) -> None:
    plane.verbs.put(a_pod("here", node="n1", ready=True))
    async with plane.running():
        await plane.clock.advance(30)
        plane.verbs.put(a_node("n1"))
        await beat(plane, 60, "n1")
        assert [p.metadata.name for p in plane.pods] == ["here"]


async def test_endpoints_leave_within_nine_seconds_of_the_last_beat(plane: ControlPlane) -> None:
    for name in ("n1", "n2", "n3"):
        plane.verbs.put(a_node(name))
    plane.verbs.put(a_service())
    for n in range(400):
        plane.verbs.put(a_pod(f"p{n:03}", node="n1", ready=True, ip=f"10.244.{n // 250}.{n % 250 + 1}"))
    async with plane.running():
        await beat(plane, 8, "n1", "n2", "n3")
        await beat(plane, 4, "n2", "n3")
        assert plane.clock.monotonic() - plane.beats["n1"] == pytest.approx(6)
        for name in ("n2", "n3"):
            plane.beats[name] = plane.clock.monotonic()
        await plane.clock.advance(1.8)
        assert len(ready_endpoints(plane)) == 400
        for _ in range(11):
            await plane.clock.advance(0.1)
        assert plane.clock.monotonic() - plane.beats["n1"] < 9
        assert ready_endpoints(plane) == []


def ready_endpoints(plane: ControlPlane) -> list[str]:
    slices = plane.verbs.all(EndpointSlice)
    return [e.addresses[0] for held in slices for e in held.endpoints if e.conditions.ready]
