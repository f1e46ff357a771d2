"""A ReplicaSet has as many pods as it wishes, and never more because a cache was behind."""

from __future__ import annotations

import datetime
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barque.api.errors import ApiError, refused, unavailable
from barque.api.types.apps_v1 import ReplicaSet
from barque.api.types.core_v1 import ContainerStatus, Pod
from barque.client.verbs import Create, Delete, Write
from barque.master.controllers import replicas
from barque.master.controllers.owners import controller_of, controller_reference
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_pod, a_replica_set


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


def scale(plane: ControlPlane, count: int) -> None:
    rs = plane.verbs.find(ReplicaSet, "web")
    rs.spec.replicas = count
    rs.metadata.generation += 1
    plane.verbs.put(rs)


async def test_creates_its_pods_in_batches_that_double(plane: ControlPlane) -> None:
    plane.verbs.put(a_replica_set(replicas=5))
    async with plane.running():
        assert len(plane.pods) == 5
        assert [size for size in plane.verbs.batches if size > 1][:2] == [2, 2]
        pod = plane.pods[0]
        reference = controller_of(pod)
        assert reference is not None
        assert (reference.kind, reference.name, reference.blockOwnerDeletion) == ("ReplicaSet", "web", True)
        assert pod.metadata.labels == {"app": "web"}
        assert pod.metadata.name.startswith("web-")
        assert f"SuccessfulCreate: Created pod: {pod.metadata.name}" in plane.events()


async def test_reports_what_it_sees(plane: ControlPlane) -> None:
    plane.verbs.put(a_replica_set(replicas=3, min_ready_s=10))
    async with plane.running():
        await plane.make_ready(2)
        status = plane.verbs.find(ReplicaSet, "web").status
        counts = (status.replicas, status.fullyLabeledReplicas, status.readyReplicas, status.availableReplicas)
        assert counts == (3, 3, 2, None)
        await plane.clock.advance(11)
        status = plane.verbs.find(ReplicaSet, "web").status
        assert (status.availableReplicas, status.observedGeneration) == (2, 1)


async def test_does_not_overshoot_while_the_cache_is_behind(plane: ControlPlane) -> None:
    plane.verbs.put(a_replica_set(replicas=1))
    async with plane.running():
        plane.verbs.hold_watches("pods")
        scale(plane, 4)
        for _ in range(5):
            plane.manager.keyed[1].queue.add("default/web")
            await plane.settle()
        assert len(plane.pods) == 4
        plane.verbs.release_watches()
        await plane.settle()
        assert len(plane.pods) == 4
        scale(plane, 5)
        await plane.settle()
        assert len(plane.pods) == 5


async def test_does_not_delete_twice_while_the_cache_is_behind(plane: ControlPlane) -> None:
    plane.verbs.put(a_replica_set(replicas=6))
    async with plane.running():
        await plane.make_ready()
        plane.verbs.hold_watches("pods")
        scale(plane, 4)
        await plane.settle()
        # The order of deletion is another by the time it counts again.
        scale(plane, 5)
        await plane.settle()
        scale(plane, 4)
        for _ in range(5):
            plane.manager.keyed[1].queue.add("default/web")
            await plane.settle()
        plane.verbs.release_watches()
        await plane.settle()
        assert len(plane.active) == 4
        assert sum(isinstance(w, Delete) for w in plane.verbs.writes) == 2


async def test_an_answer_that_was_lost_creates_no_second_pod(plane: ControlPlane) -> None:
    lost = 2

    def lose(write: Write) -> bool:
        nonlocal lost
        lost -= isinstance(write, Create) and write.target.resource.kind == "Pod"
        return lost >= 0 and isinstance(write, Create) and write.target.resource.kind == "Pod"

    plane.verbs.lose = lose
    plane.verbs.put(a_replica_set(replicas=4))
    async with plane.running():
        await plane.clock.advance(5)
        assert len(plane.pods) == 4
        assert plane.verbs.find(ReplicaSet, "web").status.conditions == []


async def test_what_the_store_did_not_take_is_sent_again_soon(plane: ControlPlane) -> None:
    faults = 5

    def refuse(write: Write) -> ApiError | None:
        nonlocal faults
        if faults and isinstance(write, Create) and write.target.resource.kind == "Pod":
            faults -= 1
            return unavailable("the disk is full")
        return None

    plane.verbs.refuse = refuse
    plane.verbs.put(a_replica_set(replicas=3))
    async with plane.running():
        await plane.clock.advance(5)
        assert len(plane.pods) == 3


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), wishes=st.lists(st.integers(0, 6), min_size=1, max_size=5))
async def test_ends_exact_whatever_is_lost_or_late(seed: int, wishes: list[int]) -> None:
    plane, chance = ControlPlane(), random.Random(seed)

    def lose(write: Write) -> bool:
        return write.target.resource.kind == "Pod" and chance.random() < 0.3

    def refuse(write: Write) -> ApiError | None:
        is_hit = write.target.resource.kind == "Pod" and chance.random() < 0.2
        return unavailable("the disk is full") if is_hit else None

    plane.verbs.lose, plane.verbs.refuse = lose, refuse
    plane.verbs.put(a_replica_set(replicas=wishes[0]))
    async with plane.running():
        most = wishes[0]
        for wish in wishes:
            most = max(most, wish)
            if chance.random() < 0.5:
                plane.verbs.hold_watches("pods")
            scale(plane, wish)
            await plane.settle()
            assert len(plane.active) <= most
            plane.verbs.release_watches()
            await plane.settle()
        plane.verbs.lose, plane.verbs.refuse = (lambda write: False), (lambda write: None)
        for _ in range(130):
            await plane.clock.advance(1)
            if len(plane.active) == wishes[-1]:
                break
        # Nor is any decision under way that would still change it.
        await plane.clock.advance(5)
        assert len(plane.active) == wishes[-1]


async def test_says_why_it_cannot_create(plane: ControlPlane) -> None:
    def refuse(write: Write) -> ApiError | None:
        is_create = isinstance(write, Create) and write.target.resource.kind == "Pod"
        return refused("pods", "", "web-x", "exceeded quota") if is_create else None

    plane.verbs.refuse = refuse
    plane.verbs.put(a_replica_set(replicas=20))
    async with plane.running():
        # One is refused before the others are tried.
        assert sum(e.startswith("FailedCreate") for e in plane.events()) == 1
        condition = plane.verbs.find(ReplicaSet, "web").status.conditions[0]
        assert (condition.type, condition.status, condition.reason) == ("ReplicaFailure", "True", "FailedCreate")
        assert "exceeded quota" in condition.message
        assert any(e.startswith("FailedCreate: Error creating: ") for e in plane.events())
        plane.verbs.refuse = lambda write: None
        await plane.clock.advance(120)
        assert len(plane.pods) == 20
        assert plane.verbs.find(ReplicaSet, "web").status.conditions == []


async def test_replaces_failed_and_deleted_pods(plane: ControlPlane) -> None:
    plane.verbs.put(a_replica_set(replicas=2))
    async with plane.running():
        failed, deleted = plane.pods
        failed.status.phase = "Failed"
        plane.verbs.put(failed)
        plane.verbs.remove(deleted)
        await plane.settle()
        assert len(plane.active) == 2
        assert {p.metadata.name for p in plane.active}.isdisjoint({failed.metadata.name, deleted.metadata.name})


async def test_adopts_orphans_and_releases_strangers(plane: ControlPlane) -> None:
    plane.verbs.put(a_pod("orphan"))
    plane.verbs.put(a_replica_set(replicas=2))
    async with plane.running():
        assert len(plane.pods) == 2
        orphan = plane.verbs.find(Pod, "orphan")
        reference = controller_of(orphan)
        assert reference is not None
        assert reference.uid == "uid-web"
        orphan.metadata.labels = {"app": "debug"}
        plane.verbs.put(orphan)
        await plane.settle()
        assert controller_of(plane.verbs.find(Pod, "orphan")) is None
        assert len(plane.pods) == 3


async def test_a_set_being_deleted_creates_nothing(plane: ControlPlane) -> None:
    rs = a_replica_set(replicas=2)
    rs.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
    rs.metadata.finalizers = ["example.com/wait"]
    plane.verbs.put(rs)
    async with plane.running():
        assert plane.pods == []


async def test_scale_down_names_the_very_pod(plane: ControlPlane) -> None:
    plane.verbs.put(a_replica_set(replicas=2))
    async with plane.running():
        scale(plane, 1)
        await plane.settle()
        deletes = [w for w in plane.verbs.writes if isinstance(w, Delete)]
        assert len(deletes) == 1
        assert b'"uid"' in deletes[0].options


NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def order(*pods: Pod, related: dict[str, int] | None = None) -> list[str]:
    counts = related or {}
    ranked = sorted(pods, key=lambda p: replicas.deletion_rank(p, counts.get(p.spec.nodeName, 0), NOW))
    return [p.metadata.name for p in ranked]


def test_deletion_takes_the_least_useful_first() -> None:
    unscheduled = a_pod("unscheduled")
    pending = a_pod("pending", node="n1")
    unready = a_pod("unready", node="n1", phase="Running")
    cheap = a_pod("cheap", node="n1", ready=True)
    cheap.metadata.annotations = {replicas.DELETION_COST: "-5"}
    crowded = a_pod("crowded", node="n2", ready=True)
    late = a_pod("late", node="n1", ready=True, since="2025-12-31T00:00:00Z")
    restarted = a_pod("restarted", node="n1", ready=True)
    restarted.status.containerStatuses = [ContainerStatus(name="main", restartCount=4)]
    young = a_pod("young", node="n1", ready=True)
    young.metadata.creationTimestamp = "2025-12-01T00:00:00Z"
    old = a_pod("old", node="n1", ready=True)
    ranked = [unscheduled, pending, unready, cheap, crowded, late, restarted, young, old]
    shuffled = list(ranked)
    random.Random(3).shuffle(shuffled)
    assert order(*shuffled, related={"n1": 1, "n2": 3}) == [p.metadata.name for p in ranked]


def test_no_step_is_larger_than_the_burst() -> None:
    assert replicas.plan_replicas(a_replica_set(replicas=2000), [], {}, NOW).create == replicas.BURST


def test_pods_about_as_old_are_not_taken_by_age() -> None:
    """Of ten and eleven days the smaller uid decides, of one day and ten the age."""
    ready = {"b-10d": "2025-12-22T00:00:00Z", "a-11d": "2025-12-21T00:00:00Z", "z-1d": "2025-12-31T00:00:00Z"}
    pods = [a_pod(name, node="n1", ready=True, since=since) for name, since in ready.items()]
    assert order(*pods) == ["z-1d", "a-11d", "b-10d"]


def test_batches_double_until_all_is_made() -> None:
    assert list(replicas.slow_start(10)) == [1, 2, 4, 3]
    assert list(replicas.slow_start(0)) == []


def test_a_new_pod_is_its_template_owned() -> None:
    rs = a_replica_set()
    pod = replicas.new_pod(rs, lambda: 0.0)
    assert pod.metadata.name == "web-bbbbb"
    assert pod.metadata.ownerReferences == [controller_reference(rs)]
    assert rs.spec.template is not None
    assert pod.spec == rs.spec.template.spec
    assert pod.spec is not rs.spec.template.spec


async def test_a_pod_that_nobody_owns_is_adopted_when_it_comes(plane: ControlPlane) -> None:
    plane.verbs.put(a_replica_set(replicas=1))
    async with plane.running():
        await plane.make_ready()
        plane.verbs.put(a_pod("stray", ready=True))
        await plane.settle()
        (left,) = plane.active
        assert [r.name for r in left.metadata.ownerReferences] == ["web"]


async def test_says_how_many_are_being_stopped(plane: ControlPlane) -> None:
    plane.verbs.put(a_replica_set(replicas=3))
    async with plane.running():
        for pod in plane.pods:
            pod.metadata.finalizers = ["example.com/wait"]
            plane.verbs.put(pod)
        scale(plane, 1)
        await plane.settle()
        status = plane.verbs.find(ReplicaSet, "web").status
        assert (status.replicas, status.terminatingReplicas) == (1, 2)
        await plane.finish_stopping()
        status = plane.verbs.find(ReplicaSet, "web").status
        assert (status.replicas, status.terminatingReplicas) == (1, 0)
