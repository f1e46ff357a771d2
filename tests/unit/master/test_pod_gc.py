"""Pods that nobody is left to remove are removed; each that somebody loses says why."""

from __future__ import annotations

import msgspec
import pytest

from barque.api import conditions
from barque.api.types.core_v1 import Node, NodeSystemInfo, Pod
from barque.api.views import PodView
from barque.client.verbs import Patch
from barque.master.controllers.podgc import MACHINE, plan_ended
from barque.master.controllers.settings import ControllerSettings
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_node, a_pod


def a_machine(name: str, machine: str) -> Node:
    node = a_node(name)
    node.status.nodeInfo = NodeSystemInfo(machineID=machine)
    return node


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane(ControllerSettings(orphaned_pod_s=40, terminated_pods=2))


async def sweep(plane: ControlPlane, seconds: float = 12) -> None:
    """Let the controller look at least once, all nodes beating."""
    for _ in range(int(seconds / 2)):
        for node in plane.verbs.all(Node):
            plane.beats[node.metadata.name] = plane.clock.monotonic()
        await plane.clock.advance(2)


def names(plane: ControlPlane) -> list[str]:
    return [pod.metadata.name for pod in plane.pods]


async def test_orphans_fail_and_say_why_before_they_go(plane: ControlPlane) -> None:
    plane.verbs.put(a_pod("stranded", node="gone", ready=True))
    async with plane.running():
        await sweep(plane, 60)
        assert names(plane) == []
    patches = [w for w in plane.verbs.writes if isinstance(w, Patch) and w.target.subresource == "status"]
    status = msgspec.json.decode(patches[-1].patch)["status"]
    assert status["phase"] == "Failed"
    (marked,) = [c for c in status["conditions"] if c["type"] == "DisruptionTarget"]
    assert (marked["status"], marked["reason"]) == ("True", "DeletionByPodGC")
    assert marked["message"] == "PodGC: node no longer exists"


async def test_the_oldest_of_too_many_ended_pods_go(plane: ControlPlane) -> None:
    plane.verbs.put(a_node("n1"))
    for number in range(4):
        pod = a_pod(f"done-{number}", node="n1", phase="Failed" if number % 2 else "Succeeded")
        pod.metadata.creationTimestamp = f"2025-01-01T00:00:0{9 - number}Z"
        plane.verbs.put(pod)
    plane.verbs.put(a_pod("runs", node="n1", ready=True))
    async with plane.running():
        await sweep(plane)
        assert names(plane) == ["done-0", "done-1", "runs"]
        assert not conditions.find(plane.verbs.find(Pod, "done-0").status.conditions, "DisruptionTarget")


def test_no_more_than_the_surplus_goes() -> None:
    pods = [PodView() for _ in range(3)]
    for pod in pods:
        pod.status.phase = "Succeeded"
    assert len(plan_ended(pods, 3)) == 0
    assert len(plan_ended(pods, 1)) == 2


async def test_a_pod_that_is_deleted_before_it_came_to_a_node_goes(plane: ControlPlane) -> None:
    pod = a_pod("never")
    pod.metadata.deletionTimestamp, pod.metadata.deletionGracePeriodSeconds = "2026-01-01T00:00:00Z", 30
    plane.verbs.put(pod)
    plane.verbs.put(a_pod("waiting"))
    async with plane.running():
        await sweep(plane)
        assert names(plane) == ["waiting"]


async def test_the_machine_of_a_node_is_noted_and_a_reboot_is_no_other(plane: ControlPlane) -> None:
    plane.verbs.put(a_machine("n1", "m1"))
    plane.verbs.put(a_pod("here", node="n1", ready=True))
    async with plane.running():
        await sweep(plane)
        node = plane.verbs.find(Node, "n1")
        assert node.metadata.annotations == {MACHINE: "m1"}
        node.status.nodeInfo.bootID = "another boot"
        plane.verbs.put(node)
        await sweep(plane, 60)
        assert names(plane) == ["here"]


async def test_a_machine_made_anew_under_the_old_name_loses_the_former_pods(plane: ControlPlane) -> None:
    node = a_machine("n1", "m2")
    node.metadata.annotations = {MACHINE: "m1"}
    plane.verbs.put(node)
    static = a_pod("static", node="n1", ready=True)
    static.metadata.annotations = {"kubernetes.io/config.mirror": "x"}
    plane.verbs.put(static)
    plane.verbs.put(a_pod("former", node="n1", ready=True))
    async with plane.running():
        await sweep(plane)
        assert names(plane) == ["static"]
        assert plane.verbs.find(Node, "n1").metadata.annotations == {MACHINE: "m2"}
        plane.verbs.put(a_pod("new", node="n1", ready=True))
        await sweep(plane, 60)
        assert names(plane) == ["new", "static"]
        assert "NodeMachineChanged: Node n1 is another machine than before: removing its pods" in plane.events()


@pytest.mark.parametrize(("machine", "left"), [("m1", ["here"]), ("m2", [])])
async def test_a_node_registered_anew_keeps_its_pods_if_it_is_the_same_machine(
    plane: ControlPlane, machine: str, left: list[str]
) -> None:
    plane.verbs.put(a_machine("n1", "m1"))
    plane.verbs.put(a_pod("here", node="n1", ready=True))
    async with plane.running():
        await sweep(plane)
        plane.verbs.remove(plane.verbs.find(Node, "n1"))
        await plane.clock.advance(1)
        again = a_machine("n1", machine)
        again.metadata.uid = "uid-again"
        plane.verbs.put(again)
        await sweep(plane, 60)
        assert names(plane) == left
