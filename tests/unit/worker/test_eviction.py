"""Which pods a node ends when it runs short, in what order and words, and what its conditions say meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from barque.api.types import core_v1
from barque.worker.eviction import ranking
from barque.worker.eviction.evictor import Evictor, Measures
from barque.worker.eviction.ranking import PodUsage
from barque.worker.eviction.signals import Met, Signal, SignalName, met, read_signals
from barque.worker.host import Pressure
from barque.worker.pods.observed import Instance
from barque.worker.pods.verdict import Verdict
from tests.support.clock import FakeClock
from tests.support.worker_world import a_container, a_pod, a_world, in_place

MIB = 1024 * 1024
PLENTY = Signal(10_000 * MIB, 10_000 * MIB)
WELL: dict[SignalName, Signal] = {"memory.available": PLENTY, "nodefs.available": PLENTY, "imagefs.available": PLENTY}


def asking(name: str, memory: str = "", limit: str = "", priority: int = 0, **spec: Any) -> core_v1.Pod:
    resources = core_v1.ResourceRequirements()
    if memory:
        resources.requests["memory"] = memory
    if limit:
        resources.limits["memory"] = limit
    return a_pod(name, a_container(resources=resources), priority=priority, **spec)


class Node:
    """A node with pods, of which each has one container and takes so many MiB of memory and disk."""

    def __init__(self, *pods: core_v1.Pod, **taken: int) -> None:
        self.clock = FakeClock()
        self.held = list(pods)
        self.taken = taken
        self.on_disk: dict[str, tuple[int, Mapping[str, int]]] = {}
        self.signals = dict(WELL)
        self.ended: list[tuple[str, Verdict]] = []
        self.pressure = Pressure()
        self.said: list[str] = []
        self.cleared = 0
        self.clearing_helps = False
        measures = Measures(lambda: self.signals, self._memory, self._disk)
        self.evictor = Evictor(self, measures, self.clock, self._clear, self._hear, self._say, in_place)

    def pods(self) -> list[core_v1.Pod]:
        return self.held

    def running(self, uid: str) -> Mapping[str, Instance]:
        return {"web": Instance(id=uid, name="web", attempt=0, state="running")}

    def end(self, uid: str, why: Verdict) -> None:
        self.ended.append((uid.removeprefix("uid-"), why))

    def _memory(self, instance: Instance) -> int | None:
        return self.taken.get(instance.id.removeprefix("uid-"), 0) * MIB

    def _disk(self, pod: core_v1.Pod) -> tuple[int, Mapping[str, int]]:
        return self.on_disk.get(pod.metadata.name, (0, {}))

    async def _clear(self) -> int:
        self.cleared += 1
        if self.clearing_helps:
            self.signals = dict(WELL)
        return 0

    def _hear(self, pressure: Pressure) -> None:
        self.pressure = pressure

    def _say(self, type: str, reason: str, message: str) -> None:
        self.said.append(f"{type} {reason}: {message}")

    def short_of_memory(self) -> None:
        self.signals["memory.available"] = Signal(50 * MIB, 8192 * MIB)

    async def look(self, after_s: float = 0) -> list[str]:
        """The pods ended by this round."""
        await self.clock.advance(after_s)
        before = len(self.ended)
        await self.evictor.look()
        return [name for name, _ in self.ended[before:]]


def test_thresholds_are_kubernetes_own() -> None:
    short: dict[SignalName, Signal] = {
        "nodefs.available": Signal(9, 100), "imagefs.available": Signal(15, 100), "nodefs.inodesFree": Signal(4, 100),
        "memory.available": Signal(100 * MIB - 1, 8192 * MIB), "imagefs.inodesFree": Signal(0, 0),
    }  # fmt: skip
    assert met(short) == [
        Met("memory.available", 100 * MIB, 100 * MIB - 1),
        Met("nodefs.available", 10, 9),
        Met("nodefs.inodesFree", 5, 4),
    ]  # fmt: skip
    assert met({"memory.available": Signal(100 * MIB, 8192 * MIB)}) == []


def test_the_order_is_above_request_then_priority_then_by_how_much() -> None:
    pods = [
        asking("guaranteed", "100Mi", "100Mi"),
        asking("within", "100Mi"),
        asking("best-effort"),
        asking("important", priority=10),
        asking("above", "10Mi"),
        asking("system", priority=2_000_000_000),
    ]
    taken = {"guaranteed": 90, "within": 50, "best-effort": 20, "important": 500, "above": 60, "system": 900}
    found = ranking.rank(pods, {f"uid-{name}": PodUsage(n * MIB) for name, n in taken.items()}, "memory")
    assert [p.metadata.name for p in found] == ["above", "best-effort", "important", "guaranteed", "within"]


def test_static_pods_are_never_ended() -> None:
    pod = a_pod("static")
    pod.metadata.annotations["kubernetes.io/config.source"] = "file"
    assert ranking.rank([pod], {}, "memory") == []


async def test_one_pod_is_ended_for_want_of_memory_in_kubernetes_words() -> None:
    node = Node(asking("small", "64Mi"), asking("large", "64Mi"), small=60, large=150)
    assert await node.look() == []
    node.short_of_memory()
    assert await node.look() == ["large"]
    (_, verdict) = node.ended[0]
    assert verdict.reason == "Evicted"
    assert verdict.message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container web was using 150Mi, request is 64Mi, has larger consumption of memory. "
    )
    assert verdict.grace_s == 1
    assert node.said == ["Warning EvictionThresholdMet: Attempting to reclaim memory"]
    assert node.pressure == Pressure(memory=True)
    assert node.cleared == 0


async def test_the_next_pod_is_ended_only_when_the_first_has_had_time_to_go() -> None:
    node = Node(asking("a"), asking("b"), a=2, b=1)
    node.short_of_memory()
    assert await node.look() == ["a"]
    assert await node.look(after_s=10) == []
    assert await node.look(after_s=20) == ["a"]
    node.held = [pod for pod in node.held if pod.metadata.name != "a"]
    assert await node.look(after_s=10) == ["b"]


async def test_images_go_before_pods_when_the_disk_is_short() -> None:
    node = Node(asking("a"), asking("b"))
    node.on_disk["b"] = (5 * MIB, {})
    node.signals["imagefs.available"] = Signal(14, 100)
    node.clearing_helps = True
    assert await node.look() == []
    assert (node.cleared, node.pressure) == (1, Pressure(disk=True))
    node.signals["nodefs.available"] = Signal(9, 100)
    node.clearing_helps = False
    assert await node.look() == ["b"]
    message = "The node was low on resource: ephemeral-storage. Threshold quantity: 10, available: 9. "
    assert node.ended[0][1].message == message


async def test_a_pod_whose_volumes_cannot_be_measured_shields_no_other() -> None:
    node = Node(asking("a"), asking("b"))
    measure = node._disk

    def fail_for_a(pod: core_v1.Pod) -> tuple[int, Mapping[str, int]]:
        if pod.metadata.name == "a":
            raise FileNotFoundError("volumes/scratch")
        return measure(pod)

    node.evictor._measures = node.evictor._measures._replace(disk=fail_for_a)
    node.on_disk["b"] = (5 * MIB, {})
    node.signals["nodefs.available"] = Signal(9, 100)
    assert await node.look() == ["b"]


async def test_a_condition_lasts_five_minutes_longer_than_its_cause() -> None:
    node = Node()
    node.short_of_memory()
    await node.look()
    node.signals = dict(WELL)
    await node.look(after_s=299)
    assert node.pressure.memory
    await node.look(after_s=1)
    assert not node.pressure.memory


async def test_too_few_process_ids_are_a_condition_and_end_nobody() -> None:
    node = Node(asking("a"), a=100)
    node.signals["pid.available"] = Signal(9, 100)
    assert await node.look() == []
    assert node.pressure == Pressure(pids=True)


async def test_a_volume_beyond_its_limit_ends_its_pod_on_a_node_that_is_well() -> None:
    volume = core_v1.Volume(name="scratch", emptyDir=core_v1.EmptyDirVolumeSource(sizeLimit="1Mi"))
    node = Node(asking("a", volumes=[volume]))
    node.on_disk["a"] = (MIB, {"scratch": MIB})
    assert await node.look() == []
    node.on_disk["a"] = (2 * MIB, {"scratch": 2 * MIB})
    # Volumes are measured once a minute.
    assert await node.look(after_s=59) == []
    assert await node.look(after_s=1) == ["a"]
    assert node.ended[0][1].message == 'Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". '
    assert await node.look(after_s=10) == []


async def test_pods_that_asked_for_nothing_wait_while_memory_is_short() -> None:
    node = Node()
    node.short_of_memory()
    await node.look()
    assert node.evictor.admit(asking("new")) == "The node had condition: [MemoryPressure]. "
    assert node.evictor.admit(asking("new", "1Mi")) == ""
    tolerant = asking("new")
    tolerant.spec.tolerations = [core_v1.Toleration(key="node.kubernetes.io/memory-pressure", operator="Exists")]
    assert node.evictor.admit(tolerant) == ""
    node.signals["nodefs.available"] = Signal(1, 100)
    await node.look()
    assert node.evictor.admit(asking("new", "1Mi")) == "The node had condition: [MemoryPressure, DiskPressure]. "
    assert node.evictor.admit(asking("new", priority=2_000_000_000)) == ""


async def test_an_ended_pod_is_failed_and_its_containers_have_a_second(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.runtime.ignores_term = {"web"}
        await world.want(a_pod())
        assert set(world.manager.running("uid-p")) == {"web"}
        why = "The node was low on resource: memory. "
        world.manager.end("uid-p", Verdict("Evicted", why, why, grace_s=1, disrupted=True))
        await world.settle()
        await world.pass_time(1.5)
        assert world.runtime.named("web")[0].signals == ["SIGTERM", "SIGKILL"]
        status = world.status()
        assert (status.phase, status.reason, status.message) == ("Failed", "Evicted", why)
        assert ("Warning", "Evicted", why) in world.recorder.events
        assert world.condition("DisruptionTarget") == "True"


async def test_a_pod_that_may_not_start_is_rejected_and_runs_elsewhere(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod("before"))
        world.parts.admit = lambda pod: "The node had condition: [MemoryPressure]. "
        await world.want(a_pod("p"))
        status = world.status()
        words = "Pod was rejected: The node had condition: [MemoryPressure]. "
        assert (status.phase, status.reason, status.message) == ("Failed", "Evicted", words)
        assert world.state("before") == "running"
        assert world.condition("DisruptionTarget") == ""


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (1023, "1023"), (1024, "1Ki"), (100 * MIB, "100Mi"), (1025 * 1024, "1025Ki")]
)
def test_amounts_are_shown_exactly(amount: int, text: str) -> None:
    assert ranking.shown(amount) == text


def test_signals_of_a_host(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 40 kB\n")
    (tmp_path / "proc/loadavg").write_text("0.1 0.2 0.3 2/300 9999\n")
    (tmp_path / "proc/sys/kernel/pid_max").write_text("1000\n")
    found = read_signals(tmp_path, tmp_path / "absent", tmp_path)
    assert found["memory.available"] == Signal(40960, 102400)
    assert found["pid.available"] == Signal(700, 1000)
    assert found["nodefs.available"].capacity > found["nodefs.available"].available > 0
    assert "imagefs.available" not in found
