"""Deployments through the whole controller manager: rollouts step by step, and what they say of themselves."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barque.api import codec, conditions, podstatus
from barque.api.errors import ApiError, refused
from barque.api.types.apps_v1 import Deployment, DeploymentCondition, ReplicaSet
from barque.api.types.base import IntOrString
from barque.client.verbs import Create, Write
from barque.master.controllers import revisions, rollout_sizes
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_deployment, a_replica_set


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


def deployment(plane: ControlPlane) -> Deployment:
    found: Deployment = plane.verbs.find(Deployment, "web")
    return found


def sets(plane: ControlPlane) -> list[ReplicaSet]:
    return sorted(plane.verbs.all(ReplicaSet), key=revisions.revision_of)


def change(plane: ControlPlane, **spec: object) -> None:
    found = deployment(plane)
    for name, value in spec.items():
        if name == "image":
            assert found.spec.template is not None
            assert found.spec.template.spec is not None
            found.spec.template.spec.containers[0].image = str(value)
        else:
            setattr(found.spec, name, value)
    found.metadata.generation = (found.metadata.generation or 0) + 1
    plane.verbs.put(found)


def condition(plane: ControlPlane, kind: str) -> DeploymentCondition:
    found = conditions.find(deployment(plane).status.conditions, kind)
    assert found is not None
    return found


async def roll(plane: ControlPlane) -> None:
    """Workers do their part until nothing moves."""
    for _ in range(60):
        moved = await plane.make_ready(1)
        await plane.finish_stopping()
        if not moved and rollout_sizes.size(sets(plane)[-1]) == len(plane.active):
            return


async def test_a_new_deployment_gets_a_set_and_pods(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=3))
    async with plane.running():
        (rs,) = sets(plane)
        digest = rs.metadata.labels["pod-template-hash"]
        assert rs.metadata.name == f"web-{digest}"
        assert rs.spec.selector is not None
        assert rs.spec.selector.matchLabels == {"app": "web", "pod-template-hash": digest}
        assert len(plane.pods) == 3
        assert all(p.metadata.labels == {"app": "web", "pod-template-hash": digest} for p in plane.pods)
        assert deployment(plane).metadata.annotations[revisions.REVISION] == "1"
        assert f"ScalingReplicaSet: Scaled up replica set {rs.metadata.name} from 0 to 3" in plane.events()
        assert condition(plane, "Available").reason == "MinimumReplicasUnavailable"
        await plane.make_ready()
        status = deployment(plane).status
        counts = (status.replicas, status.updatedReplicas, status.readyReplicas, status.availableReplicas)
        assert counts == (3, 3, 3, 3)
        assert status.unavailableReplicas is None
        assert status.observedGeneration == 1
        assert condition(plane, "Available").reason == "MinimumReplicasAvailable"
        progressing = condition(plane, "Progressing")
        assert progressing.reason == "NewReplicaSetAvailable"
        assert progressing.message == f'ReplicaSet "{rs.metadata.name}" has successfully progressed.'


async def test_a_new_template_rolls_and_the_old_set_is_kept_as_history(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=4, surge=1, unavailable=0))
    async with plane.running():
        await roll(plane)
        change(plane, image="bb:2")
        await plane.settle()
        old, new = sets(plane)
        assert (old.spec.replicas, new.spec.replicas) == (4, 1)
        await roll(plane)
        old, new = sets(plane)
        assert (old.spec.replicas, new.spec.replicas) == (0, 4)
        assert new.metadata.annotations[revisions.REVISION] == "2"
        assert deployment(plane).metadata.annotations[revisions.REVISION] == "2"
        assert condition(plane, "Progressing").reason == "NewReplicaSetAvailable"


async def test_going_back_takes_the_old_set_under_a_new_revision(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=2))
    async with plane.running():
        await roll(plane)
        first = sets(plane)[0].metadata.name
        change(plane, image="bb:2")
        await roll(plane)
        change(plane, image="bb:1")
        await roll(plane)
        assert len(sets(plane)) == 2
        current = sets(plane)[-1]
        assert current.metadata.name == first
        assert current.metadata.annotations[revisions.REVISION] == "3"
        assert current.metadata.annotations[revisions.REVISION_HISTORY] == "1"
        assert current.spec.replicas == 2


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(1, 6),
    surge=st.sampled_from([0, 1, 3, "25%", "100%"]),
    unavailable=st.sampled_from([0, 1, 2, "25%", "50%"]),
)
async def test_a_rollout_never_has_too_few_or_too_many(
    seed: int, replicas: int, surge: IntOrString, unavailable: IntOrString
) -> None:
    plane, chance = ControlPlane(), random.Random(seed)
    made = a_deployment(replicas=replicas, surge=surge, unavailable=unavailable)
    fewest = replicas - rollout_sizes.max_unavailable(made)
    most = replicas + rollout_sizes.max_surge(made)
    plane.verbs.put(made)
    async with plane.running():
        await plane.make_ready()
        change(plane, image="bb:2")
        for step in range(80):
            if chance.random() < 0.3:
                plane.verbs.hold_watches(*chance.choice([(), ("pods",), ("replicasets",), ("deployments",)]))
            if chance.random() < 0.6:
                waiting = [p for p in plane.active if not podstatus.is_ready(p)]
                chance.shuffle(waiting)
                await plane.make_ready(1 if waiting else 0)
            else:
                await plane.settle()
            plane.verbs.release_watches()
            if chance.random() < 0.5:
                await plane.finish_stopping()
            else:
                await plane.settle()
            assert sum(podstatus.is_ready(p) for p in plane.active) >= fewest, step
            assert len(plane.active) <= most, step
            if [rollout_sizes.size(rs) for rs in sets(plane)] == [0, replicas] and len(plane.active) == replicas:
                break
        new = sets(plane)[-1]
        assert rollout_sizes.size(new) == len(plane.active) == replicas


async def test_recreate_waits_until_every_old_pod_is_gone(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=2, recreate=True))
    async with plane.running():
        for pod in plane.pods:
            pod.spec.nodeName = "n1"
            plane.verbs.put(pod)
        await plane.make_ready()
        change(plane, image="bb:2")
        await plane.settle()
        assert plane.active == []
        assert len(plane.pods) == 2
        assert len(sets(plane)) == 1
        await plane.finish_stopping()
        assert len(plane.active) == 2
        assert [rollout_sizes.size(rs) for rs in sets(plane)] == [0, 2]


async def test_paused_changes_no_template_but_scales(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=2))
    async with plane.running():
        await plane.make_ready()
        change(plane, paused=True, image="bb:2", replicas=5)
        await plane.settle()
        (rs,) = sets(plane)
        assert rs.spec.replicas == 5
        assert condition(plane, "Progressing").reason == "DeploymentPaused"
        change(plane, paused=None)
        await plane.settle()
        assert len(sets(plane)) == 2


async def test_a_stuck_rollout_says_so_after_its_deadline(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=1, deadline_s=60))
    async with plane.running():
        name = sets(plane)[0].metadata.name
        await plane.clock.advance(55)
        assert condition(plane, "Progressing").status == "True"
        await plane.clock.advance(10)
        progressing = condition(plane, "Progressing")
        assert (progressing.status, progressing.reason) == ("False", "ProgressDeadlineExceeded")
        assert progressing.message == f'ReplicaSet "{name}" has timed out progressing.'
        await plane.make_ready()
        assert condition(plane, "Progressing").reason == "NewReplicaSetAvailable"


async def test_only_so_much_history_is_kept(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=1, history=1))
    async with plane.running():
        for version in range(2, 6):
            await roll(plane)
            change(plane, image=f"bb:{version}")
        await roll(plane)
        assert [revisions.revision_of(rs) for rs in sets(plane)] == [4, 5]


async def test_a_taken_name_is_hashed_again(plane: ControlPlane) -> None:
    wished = a_deployment(replicas=1)
    squatter = revisions.new_replica_set(wished, 1)
    squatter.metadata.ownerReferences = []
    squatter.metadata.labels = {"app": "other"}
    plane.verbs.put(squatter)
    plane.verbs.put(wished)
    async with plane.running():
        await plane.clock.advance(2)
        assert deployment(plane).status.collisionCount == 1
        assert len([rs for rs in sets(plane) if rs.metadata.ownerReferences]) == 1
        assert len(plane.pods) == 1


async def test_adopts_a_set_that_matches_and_has_no_owner(plane: ControlPlane) -> None:
    wished = a_deployment(replicas=2)
    orphan = revisions.new_replica_set(wished, 1)
    orphan.metadata.ownerReferences = []
    plane.verbs.put(orphan)
    plane.verbs.put(wished)
    async with plane.running():
        (rs,) = sets(plane)
        assert rs.metadata.ownerReferences[0].uid == "uid-web"
        assert rs.spec.replicas == 2


async def test_a_stale_cache_creates_no_second_set(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=2))
    async with plane.running():
        plane.verbs.hold_watches("replicasets")
        change(plane, image="bb:2")
        for _ in range(4):
            plane.manager.keyed[0].queue.add("default/web")
            await plane.settle()
        plane.verbs.release_watches()
        await plane.settle()
        assert len(sets(plane)) == 2
        assert deployment(plane).status.collisionCount is None


async def test_the_minimum_of_a_rollout_counts_available_not_ready(plane: ControlPlane) -> None:
    made = a_deployment(replicas=2, surge=1, unavailable=0)
    made.spec.minReadySeconds = 30
    plane.verbs.put(made)
    async with plane.running():
        await plane.make_ready()
        await plane.clock.advance(40)
        change(plane, image="bb:2")
        await plane.settle()
        await plane.make_ready()
        assert rollout_sizes.size(sets(plane)[0]) == 2
        await plane.clock.advance(31)
        assert rollout_sizes.size(sets(plane)[0]) == 1


async def test_nothing_is_written_once_nothing_changes(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=3))
    async with plane.running():
        await roll(plane)
        written = len(plane.verbs.writes)
        for key in ("default/web", f"default/{sets(plane)[0].metadata.name}"):
            for controller in plane.manager.keyed[:2]:
                controller.queue.add(key)
        await plane.clock.advance(700)
        assert len(plane.verbs.writes) == written
        assert sum(isinstance(w, Create) and w.target.resource.kind == "Pod" for w in plane.verbs.writes) == 3


async def test_a_set_that_nobody_owns_is_adopted_when_it_comes(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=1))
    async with plane.running():
        stray = a_replica_set("stray", 0)
        stray.metadata.labels = {"app": "web"}
        plane.verbs.put(stray)
        await plane.settle()
        (owner,) = plane.verbs.find(ReplicaSet, "stray").metadata.ownerReferences
        assert (owner.kind, owner.name, owner.controller) == ("Deployment", "web", True)


async def test_sums_up_what_its_sets_are_stopping(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=3, recreate=True))
    async with plane.running():
        await roll(plane)
        for pod in plane.pods:
            pod.metadata.finalizers = ["example.com/wait"]
            plane.verbs.put(pod)
        change(plane, image="bb:2")
        await plane.settle()
        assert deployment(plane).status.terminatingReplicas == 3
        await plane.finish_stopping()
        assert deployment(plane).status.terminatingReplicas == 0


async def test_says_why_it_cannot_create_a_set(plane: ControlPlane) -> None:
    def refuse(write: Write) -> ApiError | None:
        is_create = isinstance(write, Create) and write.target.resource.kind == "ReplicaSet"
        return refused("replicasets", "apps", "web-x", "exceeded quota") if is_create else None

    plane.verbs.refuse = refuse
    plane.verbs.put(a_deployment())
    async with plane.running():
        tried = [w for w in plane.verbs.writes if isinstance(w, Create) and w.target.resource.kind == "ReplicaSet"]
        (name,) = {codec.decode(ReplicaSet, write.json).metadata.name for write in tried}
        why = 'replicasets.apps "web-x" is forbidden: exceeded quota'
        assert plane.events() == [f'ReplicaSetCreateError: Failed to create new replica set "{name}": {why}']
