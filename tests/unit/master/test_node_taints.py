"""What is wrong with a node is a taint on it, and pods leave as soon as they tolerate it no longer."""

from __future__ import annotations

import math

import pytest

from barque.api import conditions, taints
from barque.api.types.core_v1 import Node, NodeCondition, Pod, Taint, Toleration
from barque.master.controllers.nodetaints import plan_taints
from barque.master.controllers.settings import ControllerSettings
from barque.master.controllers.tainteviction import patience_s
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_node, a_pod

STAMP = "2026-01-01T00:00:00Z"


def keys(listed: list[Taint]) -> set[tuple[str, str]]:
    return {(taint.key.removeprefix("node.kubernetes.io/"), taint.effect) for taint in listed}


def a_node_saying(**said: str) -> Node:
    node = a_node()
    node.status.conditions = [NodeCondition(type=kind, status=status) for kind, status in said.items()]
    return node


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"Ready": "True"}, set()),
        ({"Ready": "False"}, {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}),
        ({"Ready": "Unknown"}, {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}),
        ({"Ready": "True", "MemoryPressure": "True"}, {("memory-pressure", "NoSchedule")}),
        ({"Ready": "True", "DiskPressure": "True"}, {("disk-pressure", "NoSchedule")}),
        ({"Ready": "True", "PIDPressure": "True"}, {("pid-pressure", "NoSchedule")}),
        ({"Ready": "True", "NetworkUnavailable": "True"}, {("network-unavailable", "NoSchedule")}),
        ({"Ready": "True", "MemoryPressure": "Unknown"}, set()),
    ],
)
def test_each_condition_has_its_taint(said: dict[str, str], expected: set[tuple[str, str]]) -> None:
    assert keys(plan_taints(a_node_saying(**said), evicts=True, stamp=STAMP)) == expected


def test_a_cordon_is_a_taint_and_others_taints_stay() -> None:
    node = a_node()
    node.spec.unschedulable = True
    theirs = Taint(key="team", value="a", effect="NoExecute")
    node.spec.taints = [theirs, Taint(key=taints.UNREACHABLE, effect="NoExecute", timeAdded=STAMP)]
    assert plan_taints(node, evicts=True, stamp=STAMP) == [
        theirs,
        Taint(key=taints.UNSCHEDULABLE, effect="NoSchedule", timeAdded=STAMP),
    ]


def test_while_evictions_are_held_back_nothing_drives_pods_off() -> None:
    node = a_node_saying(Ready="Unknown")
    node.spec.taints = plan_taints(node, evicts=True, stamp=STAMP)
    assert keys(plan_taints(node, evicts=False, stamp=STAMP)) == {("unreachable", "NoSchedule")}


DRIVING = [Taint(key=taints.UNREACHABLE, effect="NoExecute")]


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([], 0),
        ([Toleration(operator="Exists")], math.inf),
        ([Toleration(key=taints.UNREACHABLE, operator="Exists", effect="NoExecute", tolerationSeconds=5)], 5),
        ([Toleration(key=taints.UNREACHABLE, operator="Exists", effect="NoSchedule")], 0),
        ([Toleration(key=taints.NOT_READY, operator="Exists", tolerationSeconds=5)], 0),
        ([Toleration(key=taints.UNREACHABLE, operator="Exists", tolerationSeconds=-3)], 0),
        ([Toleration(key=taints.UNREACHABLE, value="x")], 0),
        ([Toleration(operator="Exists", tolerationSeconds=9), Toleration(operator="Exists", tolerationSeconds=4)], 4),
    ],
)
def test_how_long_a_pod_stays(tolerations: list[Toleration], expected: float) -> None:
    assert patience_s(tolerations, DRIVING) == expected


def test_one_untolerated_taint_is_enough() -> None:
    tolerant = [Toleration(key=taints.UNREACHABLE, operator="Exists")]
    assert patience_s(tolerant, [*DRIVING, Taint(key="fire", effect="NoExecute")]) == 0


# --- the controllers together

NODES = ("n1", "n2", "n3")


@pytest.fixture
def plane() -> ControlPlane:
    plane = ControlPlane(ControllerSettings())
    for name in NODES:
        plane.verbs.put(a_node(name))
    return plane


def tolerant(name: str, node: str, seconds: int | None) -> Pod:
    pod = a_pod(name, node=node, ready=True)
    for key in (taints.NOT_READY, taints.UNREACHABLE):
        added = Toleration(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=seconds)
        pod.spec.tolerations.append(added)
    return pod


async def beat(plane: ControlPlane, seconds: float, *names: str) -> None:
    for _ in range(int(seconds / 0.5)):
        for name in names:
            plane.beats[name] = plane.clock.monotonic()
        await plane.clock.advance(0.5)


def leaving(plane: ControlPlane) -> list[str]:
    return [pod.metadata.name for pod in plane.pods if pod.metadata.deletionTimestamp]


def taints_of(plane: ControlPlane, name: str) -> set[tuple[str, str]]:
    return keys(plane.verbs.find(Node, name).spec.taints)


async def test_pods_leave_a_silent_node_when_their_patience_ends_and_stay_terminating(plane: ControlPlane) -> None:
    plane.verbs.put(tolerant("short", "n1", 5))
    plane.verbs.put(tolerant("long", "n1", 60))
    plane.verbs.put(tolerant("steadfast", "n1", None))
    plane.verbs.put(tolerant("elsewhere", "n2", 5))
    async with plane.running():
        await beat(plane, 10, *NODES)
        await beat(plane, 8.5, "n2", "n3")
        assert taints_of(plane, "n1") == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
        assert leaving(plane) == []
        await beat(plane, 3.5, "n2", "n3")
        assert leaving(plane) == []
        await beat(plane, 1, "n2", "n3")
        assert leaving(plane) == ["short"]
        marked = conditions.find(plane.verbs.find(Pod, "short").status.conditions, "DisruptionTarget")
        assert marked is not None
        assert (marked.status, marked.reason, marked.message) == (
            "True",
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        )
        assert "TaintManagerEviction: Marking for deletion Pod default/short" in plane.events()
        await beat(plane, 600, "n2", "n3")
        # Nobody has confirmed that they have stopped.
        assert leaving(plane) == ["long", "short"]


async def test_a_node_that_returns_in_time_keeps_its_pods(plane: ControlPlane) -> None:
    plane.verbs.put(tolerant("here", "n1", 5))
    async with plane.running():
        await beat(plane, 4, *NODES)
        await beat(plane, 10, "n2", "n3")
        assert ("unreachable", "NoExecute") in taints_of(plane, "n1")
        back = plane.verbs.find(Node, "n1")
        back.status.conditions = a_node("n1").status.conditions
        plane.verbs.put(back)
        await beat(plane, 20, *NODES)
        assert taints_of(plane, "n1") == set()
        assert leaving(plane) == []
        assert "TaintManagerEviction: Cancelling deletion of Pod default/here" in plane.events()


async def test_when_most_are_silent_together_no_pod_is_evicted(plane: ControlPlane) -> None:
    plane.verbs.put(tolerant("here", "n1", 5))
    async with plane.running():
        await beat(plane, 4, *NODES)
        await beat(plane, 60, "n3")
        assert taints_of(plane, "n1") == taints_of(plane, "n2") == {("unreachable", "NoSchedule")}
        assert leaving(plane) == []
        assert [e for e in plane.events() if e.startswith("NodesSilentTogether: 2 of 3 nodes")]


async def test_the_brake_takes_back_what_has_begun(plane: ControlPlane) -> None:
    plane.verbs.put(tolerant("here", "n1", 5))
    async with plane.running():
        await beat(plane, 4, *NODES)
        await beat(plane, 2, "n2", "n3")
        await beat(plane, 8, "n3")
        assert ("unreachable", "NoExecute") not in taints_of(plane, "n1")
        await beat(plane, 30, "n3")
        assert leaving(plane) == []


async def test_a_new_leader_lets_pods_begin_anew(plane: ControlPlane) -> None:
    plane.verbs.put(tolerant("here", "n1", 5))
    lost = a_node_saying(Ready="Unknown")
    lost.spec.taints = plan_taints(lost, evicts=True, stamp=STAMP)
    plane.verbs.put(lost)
    await plane.clock.advance(1000)
    async with plane.running():
        await beat(plane, 4, "n2", "n3")
        assert ("unreachable", "NoExecute") in taints_of(plane, "n1")
        assert leaving(plane) == []
        await beat(plane, 2, "n2", "n3")
        assert leaving(plane) == ["here"]


async def test_a_users_taint_drives_pods_off_at_once(plane: ControlPlane) -> None:
    plane.verbs.put(tolerant("here", "n1", 5))
    async with plane.running():
        await beat(plane, 2, *NODES)
        node = plane.verbs.find(Node, "n1")
        node.spec.taints = [Taint(key="fire", effect="NoExecute")]
        plane.verbs.put(node)
        await beat(plane, 1, *NODES)
        assert leaving(plane) == ["here"]


async def test_a_pod_that_changed_meanwhile_is_tried_again(plane: ControlPlane) -> None:
    plane.verbs.put(tolerant("here", "n1", 5))
    async with plane.running():
        await beat(plane, 2, *NODES)
        plane.verbs.hold_watches("pods")
        changed = plane.verbs.find(Pod, "here")
        changed.metadata.labels = {"app": "other"}
        plane.verbs.put(changed)
        node = plane.verbs.find(Node, "n1")
        node.spec.taints = [Taint(key="fire", effect="NoExecute")]
        plane.verbs.put(node)
        await beat(plane, 1, *NODES)
        assert leaving(plane) == []
        plane.verbs.release_watches()
        await beat(plane, 60, *NODES)
        assert leaving(plane) == ["here"]
