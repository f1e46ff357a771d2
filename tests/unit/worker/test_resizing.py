"""Resizing of running pods (KEP-1287): granted or not, in effect in place or by a restart, told in the status."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from barque.api.types import core_v1
from barque.worker.runtime.port import RuntimeFault
from tests.support.worker_world import World, a_container, a_pod, a_world

MIB = 1024 * 1024


def asking(cpu: str, memory: str) -> core_v1.ResourceRequirements:
    amounts = {"cpu": cpu, "memory": memory}
    return core_v1.ResourceRequirements(requests=dict(amounts), limits=dict(amounts))


def sized(cpu: str, memory: str, name: str = "p", *restarting: str) -> core_v1.Pod:
    policies = [
        core_v1.ContainerResizePolicy(resourceName=each, restartPolicy="RestartContainer") for each in restarting
    ]
    return a_pod(name, a_container(resources=asking(cpu, memory), resizePolicy=policies))


async def resize(world: World, cpu: str, memory: str, name: str = "p") -> None:
    """The masters have another size for the pod, and all else as it was."""
    old, new = world.masters.pod(name), world.masters.pod(name)
    new.spec.containers[0].resources = asking(cpu, memory)
    new.metadata.generation = (old.metadata.generation or 1) + 1
    world.masters.put(new)
    world.manager.handle_pod(old, world.masters.pod(name))
    await world.settle()


def running(world: World, name: str = "p") -> core_v1.ContainerStatus:
    return world.status(name).containerStatuses[0]


def limits(world: World, name: str = "p") -> tuple[int, int, int]:
    """Shares, nano-cpus and MiB of the container that runs."""
    found = world.runtime.containers[running(world, name).containerID.removeprefix("docker://")].record.limits
    assert found is not None
    return found.cpu_shares, found.nano_cpus, found.memory_bytes // MIB


def pending(world: World, name: str = "p") -> tuple[str, str]:
    found = [c for c in world.status(name).conditions if c.type == "PodResizePending"]
    return (found[0].reason, found[0].message) if found else ("", "")


def told(world: World) -> list[tuple[str, str, str]]:
    """The Events of resizes since this was asked last."""
    found = [event for event in world.recorder.events if event[1].startswith("Resize")]
    world.recorder.events.clear()
    return found


def words(what: str, cpu: str, memory: str, generation: int, error: str = "") -> str:
    amounts = f'{{"cpu":"{cpu}","memory":"{memory}"}}'
    containers = f'[{{"name":"web","resources":{{"limits":{amounts},"requests":{amounts}}}}}]'
    said = f'"containers":{containers},"generation":{generation}'
    return f"Pod resize {what}: {{{said}" + (f',"error":"{error}"' if error else "") + "}"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as made:
        made.parts.allocatable = {"cpu": "2", "memory": "1Gi", "pods": "110"}
        yield made


async def test_a_container_gets_its_new_limits_in_place(world: World) -> None:
    await world.want(sized("500m", "100Mi"))
    before = running(world)
    assert limits(world) == (512, 500_000_000, 100)
    await resize(world, "1", "200Mi")
    after = running(world)
    assert limits(world) == (1024, 1_000_000_000, 200)
    assert (after.containerID, after.restartCount) == (before.containerID, 0)
    assert (after.resources, after.allocatedResources) == (asking("1", "200Mi"), {"cpu": "1", "memory": "200Mi"})
    assert world.condition("PodResizeInProgress") == world.condition("PodResizePending") == ""


async def test_a_resource_may_need_a_restart(world: World) -> None:
    await world.want(sized("500m", "100Mi", "p", "memory"))
    before = running(world)
    await resize(world, "1", "100Mi")
    assert (running(world).containerID, limits(world)) == (before.containerID, (1024, 1_000_000_000, 100))
    await resize(world, "1", "200Mi")
    await world.pass_time(15)
    after = running(world)
    assert (after.restartCount, limits(world)) == (1, (1024, 1_000_000_000, 200))
    assert after.containerID != before.containerID
    assert ("Killing", "Container web resize requires restart") in [
        (event[1], event[2]) for event in world.recorder.events
    ]


async def test_what_the_node_can_never_have_is_infeasible(world: World) -> None:
    await world.want(sized("500m", "100Mi"))
    await resize(world, "5", "100Mi")
    words = "Node didn't have enough capacity: cpu, requested: 5000, capacity: 2000"
    assert pending(world) == ("Infeasible", words)
    assert limits(world) == (512, 500_000_000, 100)
    assert running(world).allocatedResources == {"cpu": "500m", "memory": "100Mi"}
    await resize(world, "1", "100Mi")
    assert pending(world) == ("", "")
    assert limits(world) == (1024, 1_000_000_000, 100)


async def test_what_others_hold_is_waited_for(world: World) -> None:
    await world.want(sized("500m", "100Mi"))
    await world.want(sized("1", "900Mi", "q"))
    await resize(world, "500m", "200Mi")
    used, capacity = 900 * MIB, 1024 * MIB
    words = f"Node didn't have enough resource: memory, requested: {200 * MIB}, used: {used}, capacity: {capacity}"
    assert pending(world) == ("Deferred", words)
    await resize(world, "500m", "100Mi", "q")
    await world.pass_time(11)
    assert pending(world) == ("", "")
    assert limits(world) == (512, 500_000_000, 200)


async def test_a_pending_resize_outlives_the_worker_and_the_container(world: World) -> None:
    await world.want(sized("500m", "100Mi"))
    await resize(world, "5", "100Mi")
    await world.kill()
    world.parts.allocatable = {"cpu": "2", "memory": "1Gi"}
    await world.start()
    assert pending(world)[0] == "Infeasible"
    world.runtime.exit(running(world).containerID.removeprefix("docker://"), 1)
    await world.pass_time(15)
    assert (running(world).restartCount, limits(world)) == (1, (512, 500_000_000, 100))


async def test_an_engine_that_refuses_is_told_of_and_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.want(sized("500m", "100Mi"))
    update = world.runtime.update

    async def refuse(*_: object) -> None:
        raise RuntimeFault("the memory is in use")

    monkeypatch.setattr(world.runtime, "update", refuse)
    await resize(world, "500m", "50Mi")
    (found,) = [c for c in world.status().conditions if c.type == "PodResizeInProgress"]
    assert (found.status, found.reason, found.message) == ("True", "Error", "the memory is in use")
    assert running(world).resources == asking("500m", "100Mi")
    monkeypatch.setattr(world.runtime, "update", update)
    await world.pass_time(2)
    assert (world.condition("PodResizeInProgress"), limits(world)) == ("", (512, 500_000_000, 50))
    assert running(world).resources == asking("500m", "50Mi")


async def test_a_resize_is_told_from_its_beginning_to_its_end(world: World) -> None:
    await world.want(sized("500m", "100Mi"))
    await world.pass_time(15)
    assert told(world) == []
    await resize(world, "1", "200Mi")
    begun, done = words("started", "1", "200Mi", 2), words("completed", "1", "200Mi", 2)
    assert told(world) == [("Normal", "ResizeStarted", begun), ("Normal", "ResizeCompleted", done)]
    await world.pass_time(15)
    await world.kill()
    await world.start()
    assert told(world) == [], "what was told is not told again, by another worker neither"


async def test_a_resize_that_waits_is_told_once_for_each_reason(world: World) -> None:
    await world.want(sized("500m", "100Mi"))
    await resize(world, "5", "100Mi")
    why = "Node didn't have enough capacity: cpu, requested: 5000, capacity: 2000"
    assert told(world) == [("Warning", "ResizeInfeasible", words("Infeasible", "5", "100Mi", 2, why))]
    await world.pass_time(30)
    await world.kill()
    world.parts.allocatable = {"cpu": "2", "memory": "1Gi"}
    await world.start()
    assert told(world) == []
    await world.want(sized("1", "100Mi", "q"))
    await resize(world, "1500m", "100Mi")
    why = "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"
    assert told(world) == [("Warning", "ResizeDeferred", words("Deferred", "1500m", "100Mi", 3, why))]
    await resize(world, "500m", "100Mi", "q")
    told(world)
    await world.pass_time(11)
    assert [(event[1], event[2]) for event in told(world)] == [
        ("ResizeStarted", words("started", "1500m", "100Mi", 3)),
        ("ResizeCompleted", words("completed", "1500m", "100Mi", 3)),
    ]


async def test_a_resize_that_fails_is_told_and_its_end_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.want(sized("500m", "100Mi"))
    update = world.runtime.update

    async def refuse(*_: object) -> None:
        raise RuntimeFault("the memory is in use")

    monkeypatch.setattr(world.runtime, "update", refuse)
    await resize(world, "500m", "50Mi")
    await world.pass_time(0.5)
    failed = words("error", "500m", "50Mi", 2, "the memory is in use")
    begun = words("started", "500m", "50Mi", 2)
    assert told(world) == [("Normal", "ResizeStarted", begun), ("Warning", "ResizeError", failed)]
    monkeypatch.setattr(world.runtime, "update", update)
    await world.pass_time(2)
    assert told(world) == [("Normal", "ResizeCompleted", words("completed", "500m", "50Mi", 2))]
