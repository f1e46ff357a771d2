"""A worker's samples, from recorded counters in time that the test moves: rates, restarts, pods that come and go."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from barque.client import usage
from barque.client.usage import ContainerUsage, NodeUsage, PodUsage
from barque.worker.pods.observed import Instance, Observed
from barque.worker.runtime.fake import FakeRuntime
from barque.worker.runtime.port import ContainerSpec
from barque.worker.sessions import SAMPLE_AGE_S, Heartbeat
from barque.worker.stats.disks import DISK_AGE_S, Disks
from barque.worker.stats.gauges import Gauges
from barque.worker.stats.sampler import Sampler
from tests.support.clock import FakeClock
from tests.support.worker_world import a_pod, in_place

V1 = """\
33 31 0:30 / /cg/cpuacct rw - cgroup cgroup rw,cpuacct
35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory
"""
V2 = "29 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n"
MEMINFO = "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 100 kB\n"


class Node:
    """A node in files: each container's counters are what the test says."""

    def __init__(self, root: Path, mounts: str = V2) -> None:
        self.root = root
        self.unified = "cgroup2" in mounts
        self.clock = FakeClock()
        self.runtime = FakeRuntime(self.clock)
        self.pods: dict[str, tuple[Any, Observed]] = {}
        self.disks = Disks(self.runtime, self.clock, in_place)
        self.gauges = Gauges(self.clock, root, root)
        self.sampler = Sampler(self._pods, self.gauges, self.disks, self.clock, in_place)
        self.write("proc/self/mountinfo", mounts)
        self.write("proc/meminfo", MEMINFO)
        self.burn(0)

    def _pods(self) -> list[tuple[Any, Observed]]:
        return list(self.pods.values())

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def burn(self, cpu_s: float) -> None:
        """What the node has used in all."""
        self.write("proc/stat", f"cpu  {round(cpu_s * 100)} 0 0 9999 0 0 0 0 0 0\n")

    def use(self, container: str, cpu_s: float, memory: int = 100, pid: int = 7, received: int = 0) -> None:
        """What a container has used since it started; it is there from now on."""
        if self.unified:
            self.write(f"proc/{pid}/cgroup", f"0::/{container}\n")
            self.write(f"cg/{container}/cpu.stat", f"usage_usec {round(cpu_s * 10**6)}\n")
            self.write(f"cg/{container}/memory.current", str(memory + 10))
            self.write(f"cg/{container}/memory.stat", "anon 0\ninactive_file 10\n")
        else:
            self.write(f"proc/{pid}/cgroup", f"2:cpuacct:/{container}\n1:memory:/{container}\n")
            self.write(f"cg/cpuacct/{container}/cpuacct.usage", f"{round(cpu_s * 10**9)}\n")
            self.write(f"cg/memory/{container}/memory.usage_in_bytes", str(memory + 10))
            self.write(f"cg/memory/{container}/memory.stat", "total_rss 0\ntotal_inactive_file 10\n")
        counted = f"\n\n  lo: {'9 ' * 16}\neth0: {received} 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n"
        self.write(f"proc/{pid}/net/dev", counted)

    def end(self, container: str) -> None:
        """The kernel takes a container's groups away; the worker has not heard yet."""
        shutil.rmtree(self.root / "cg" / container)

    def place(self, pod: str, *containers: str, pid: int = 7, **spec: Any) -> None:
        """The pod runs these."""
        running = {
            c: [Instance(id=f"{pod}-{c}", name=c, attempt=0, state="running", pid=pid + i)]
            for i, c in enumerate(containers)
        }
        self.pods[pod] = (a_pod(pod, **spec), Observed(containers=running))

    async def after(self, seconds: float) -> NodeUsage | None:
        """The sample that is there then."""
        await self.clock.advance(seconds)
        await self.sampler.look()
        taken = self.sampler.take()
        return usage.decode(taken) if taken else None


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def pods_of(sample: NodeUsage | None) -> dict[str, list[tuple[str, int]]]:
    """By pod, the containers' millicores."""
    assert sample is not None
    return {pod.name: [(c.name, c.cpu_nanocores // 10**6) for c in pod.containers] for pod in sample.pods}


@pytest.mark.parametrize("mounts", [V1, V2])
async def test_a_sample_two_seconds_after_the_start_and_then_every_ten(tmp_path: Path, mounts: str) -> None:
    node = Node(tmp_path, mounts)
    node.place("p", "app")
    node.use("p-app", 5.0)
    assert await node.after(0) is None
    node.burn(1.0)
    node.use("p-app", 5.5, memory=4096, received=11)
    found = await node.after(2)
    assert found is not None
    assert found.pods == [
        PodUsage("default", "p", "uid-p", [ContainerUsage("app", 250_000_000, 4096)], received_bytes=11, sent_bytes=2)
    ]
    assert (found.window_s, found.cpu_nanocores, found.memory_bytes) == (2.0, 500_000_000, 600 * 1024)
    assert found.disk_bytes > 0
    for _ in range(4):
        assert await node.after(2) is None
    node.use("p-app", 6.5)
    found = await node.after(2)
    assert found is not None
    assert (found.window_s, pods_of(found)) == (10.0, {"p": [("app", 100)]})
    assert await node.after(2) is None


async def test_a_restart_never_yields_a_rate_across_it(node: Node) -> None:
    """Whether another attempt took the container's place, or the engine started the same one again."""
    for pod, pid in (("p", 7), ("q", 8)):
        node.place(pod, "app", pid=pid)
        node.use(f"{pod}-app", 100.0, pid=pid)
    await node.after(0)
    await node.after(2)
    node.pods["p"][1].containers["app"] = [
        Instance(id="p-app", name="app", attempt=0, state="exited", pid=0),
        Instance(id="p-new", name="app", attempt=1, state="running", pid=17),
    ]
    node.use("p-new", 101.0, pid=17)
    node.place("q", "app", pid=18)
    node.use("q-app", 3.0, pid=18)
    await node.after(9)
    node.use("p-new", 102.0, pid=17)
    node.use("q-app", 3.5, pid=18)
    assert pods_of(await node.after(9)) == {"p": [("app", 111)], "q": [("app", 55)]}


async def test_a_counter_that_runs_back_is_begun_anew(node: Node) -> None:
    node.place("p", "app")
    node.use("p-app", 100.0)
    await node.after(0)
    node.use("p-app", 1.0)
    assert pods_of(await node.after(2)) == {}
    node.use("p-app", 1.4)
    assert pods_of(await node.after(2)) == {"p": [("app", 200)]}


async def test_a_pod_is_told_of_once_all_that_runs_has_a_rate(node: Node) -> None:
    node.place("old", "app")
    node.use("old-app", 1.0)
    await node.after(0)
    await node.after(2)
    node.place("new", "app", "proxy", pid=20)
    node.use("new-app", 0.0, pid=20)
    await node.after(8)
    node.use("new-app", 1.0, pid=20)
    node.use("new-proxy", 0.0, pid=21)
    assert pods_of(await node.after(2)) == {"old": [("app", 0)]}
    await node.after(2)
    node.use("new-app", 2.0, pid=20)
    node.use("new-proxy", 1.0, pid=21)
    assert pods_of(await node.after(8)) == {"old": [("app", 0)], "new": [("app", 100), ("proxy", 100)]}


async def test_a_pod_that_starts_between_two_rounds_is_in_the_next(node: Node) -> None:
    node.place("old", "app")
    node.use("old-app", 1.0)
    await node.after(0)
    await node.after(2)
    node.place("new", "app", pid=20)
    node.use("new-app", 0.0, pid=20)
    assert await node.after(6) is None
    node.use("new-app", 2.0, pid=20)
    assert pods_of(await node.after(4)) == {"old": [("app", 0)], "new": [("app", 500)]}


async def test_a_rate_over_less_than_a_second_is_none(node: Node) -> None:
    """The first reading stays, so that the next sample has one since the start."""
    node.place("old", "app")
    node.use("old-app", 1.0)
    await node.after(0)
    await node.after(2)
    node.place("new", "app", pid=20)
    node.use("new-app", 0.0, pid=20)
    assert await node.after(8.75) is None
    node.use("new-app", 0.5, pid=20)
    assert list(pods_of(await node.after(0.5))) == ["old"]
    node.use("new-app", 1.05, pid=20)
    assert pods_of(await node.after(10)) == {"old": [("app", 0)], "new": [("app", 100)]}


async def test_the_first_pod_of_a_node_does_not_wait_for_the_round(node: Node) -> None:
    await node.after(0)
    assert pods_of(await node.after(2)) == {}
    assert await node.after(2) is None
    node.place("p", "app")
    node.use("p-app", 1.0)
    assert await node.after(2) is None
    node.use("p-app", 2.0)
    assert pods_of(await node.after(2)) == {"p": [("app", 500)]}


async def test_what_does_not_run_or_has_ended_is_left_out(node: Node) -> None:
    node.place("p", "app", "job")
    node.place("waits")
    node.place("gone", "app", pid=30)
    for container, pid in (("p-app", 7), ("p-job", 8), ("gone-app", 30)):
        node.use(container, 1.0, pid=pid)
    await node.after(0)
    assert list(pods_of(await node.after(2))) == ["p", "gone"]
    node.end("p-job")
    node.end("gone-app")
    assert pods_of(await node.after(10)) == {"p": [("app", 0)]}
    # The worker has heard of its end before the kernel has cleared it away.
    (app,) = node.pods["p"][1].containers["app"]
    node.pods["p"][1].containers["app"] = [dataclasses.replace(app, state="exited")]
    assert pods_of(await node.after(10)) == {}
    # Nothing of it is kept.
    (node.root / "proc/7/cgroup").unlink()
    assert node.gauges.container(app) is None


async def test_a_pod_on_the_nodes_network_has_no_traffic_of_its_own(node: Node) -> None:
    node.place("p", "app", hostNetwork=True)
    node.use("p-app", 1.0, received=5)
    await node.after(0)
    found = await node.after(2)
    assert found is not None
    assert (found.pods[0].received_bytes, found.pods[0].sent_bytes) == (0, 0)


async def test_the_time_of_day_does_not_matter(node: Node) -> None:
    node.clock.wall = lambda: None  # type: ignore[method-assign, assignment, return-value]
    node.place("p", "app")
    node.use("p-app", 1.0)
    await node.after(0)
    node.use("p-app", 2.0)
    assert pods_of(await node.after(2)) == {"p": [("app", 500)]}


async def test_a_host_that_cannot_be_read_is_said_once_and_read_again(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    sampling = asyncio.create_task(node.sampler.run())
    await node.clock.advance(1)
    (node.root / "proc/stat").unlink()
    await node.clock.advance(4)
    assert node.sampler.take() == b""
    node.burn(3)
    await node.clock.advance(1)
    found = usage.decode(node.sampler.take())
    sampling.cancel()
    assert (found.window_s, found.cpu_nanocores) == (6.0, 500_000_000)
    words = f"[Errno 2] No such file or directory: '{node.root}/proc/stat'"
    assert [r.message for r in caplog.records] == [f"the use of this node cannot be measured: {words}"]


async def test_only_the_newest_sample_is_kept_and_taken_once(node: Node) -> None:
    await node.after(0)
    for seconds in (2, 10, 10):
        await node.clock.advance(seconds)
        await node.sampler.look()
    node.burn(4.0)
    await node.clock.advance(10)
    await node.sampler.look()
    assert usage.decode(node.sampler.take()).cpu_nanocores == 400_000_000
    assert node.sampler.take() == b""


# What is on disk.


async def on_disk(node: Node, pod: str, size: int) -> str:
    """A container that wrote so much; its id."""
    made = await node.runtime.create(ContainerSpec(name=pod, image="web:1", labels={}))
    node.write(f"layers/{made}/file", "x" * size)
    held = node.runtime.containers[made]
    held.record = held.record._replace(written=(str(node.root / "layers" / made), str(node.root / "nowhere")))
    instance = Instance(id=made, name="app", attempt=0, state="running", pid=7)
    node.pods[pod] = (a_pod(pod), Observed(containers={"app": [instance]}))
    return made


async def test_disk_use_is_walked_one_by_one_and_never_older_than_a_minute(node: Node) -> None:
    ids = [await on_disk(node, f"p{i}", 10_000) for i in range(30)]

    async def known() -> int:
        return sum(node.disks.used_bytes(each) > 0 for each in ids)

    pause_s = await node.disks._step(ids)
    assert (await known(), pause_s) == (1, 1.0)
    for _ in range(29):
        await node.clock.advance(pause_s)
        pause_s = await node.disks._step(ids)
    assert await known() == 30
    inspected = len([call for call in node.runtime.calls if call.startswith("inspect")])
    assert inspected == 30
    # The worst: all of one age, and looked at a moment too early.
    await node.clock.advance(DISK_AGE_S)
    await node.disks.refresh(ids)
    for each in ids:
        node.write(f"layers/{each}/file", "x" * 90_000)
    oldest_s, until_s = 0.0, node.clock.monotonic() + 2 * DISK_AGE_S
    await node.clock.advance(0.1)
    while node.clock.monotonic() < until_s:
        pause_s = await node.disks._step(ids)
        await node.clock.advance(pause_s)
        oldest_s = max(oldest_s, *map(node.disks._age_s, ids))
    assert DISK_AGE_S / 2 < oldest_s <= DISK_AGE_S
    assert all(node.disks.used_bytes(each) > 80_000 for each in ids)
    assert len([call for call in node.runtime.calls if call.startswith("inspect")]) == inspected


async def test_walks_take_a_fifth_of_the_time_at_most(node: Node) -> None:
    ids = [await on_disk(node, "p", 10_000)]

    async def slowly(work: Any, *args: Any) -> Any:
        await node.clock.advance(20)
        return work(*args)

    slow = Disks(node.runtime, node.clock, slowly)
    assert await slow._step(ids) == 80.0


async def test_disk_use_of_what_is_gone_is_forgotten_and_of_what_is_lost_asked_again(node: Node) -> None:
    kept = await on_disk(node, "p", 10_000)
    node.runtime.up = False
    await node.disks._step([kept])
    assert node.disks.used_bytes(kept) == 0
    node.runtime.up = True
    await node.clock.advance(DISK_AGE_S)
    await node.disks.refresh([kept])
    assert node.disks.used_bytes(kept) > 0
    await node.disks._step([])
    assert node.disks.used_bytes(kept) == 0


# Too much for one sample.


def many(pods: int, containers: int = 1) -> NodeUsage:
    """Pod number i uses i bytes a container."""
    return NodeUsage(
        10.0, 0, 0, 0,
        [PodUsage("default", f"p{i}", f"uid-{i}", [ContainerUsage(f"c{c}", 0, i) for c in range(containers)])
         for i in range(pods)],
    )  # fmt: skip


def test_a_common_sample_is_told_whole() -> None:
    sample = many(110, 3)
    assert usage.fit(sample) is sample


@pytest.mark.parametrize(("pods", "containers", "kept"), [(1030, 1, 1024), (50, 100, 40)])
def test_more_than_masters_take_is_cut_where_least_is_used(pods: int, containers: int, kept: int) -> None:
    found = usage.fit(many(pods, containers))
    assert [pod.name for pod in found.pods] == [f"p{i}" for i in range(pods - 1, pods - 1 - kept, -1)]


def test_a_sample_fits_into_its_bytes() -> None:
    found = usage.fit(many(500), 10_000)
    assert len(usage.encode(found)) <= 10_000
    assert 200 < len(found.pods) < 500
    assert found.pods[0].name == "p499"


async def test_what_is_left_out_is_said(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(usage, "MAX_PODS", 1)
    for number, pod in enumerate("pq"):
        node.place(pod, "app", pid=number + 1)
        node.use(f"{pod}-app", 1.0, memory=100 * number, pid=number + 1)
    await node.after(0)
    assert list(pods_of(await node.after(2))) == ["q"]
    await node.after(10)
    told = [record.message for record in caplog.records]
    assert told == ["a sample has no room for all pods of this node: 1 that use least are left out"]


# With the heartbeat.


async def test_a_session_does_not_begin_with_a_sample_that_is_long_past() -> None:
    clock, waiting = FakeClock(), [b"one"]
    beating = Heartbeat(
        None,
        "n1",
        str,
        lambda _: None,
        clock,
        lambda: waiting.pop() if waiting else b"",  # type: ignore[arg-type]
    )
    assert [beating._next_sample(first) for first in (True, False, True)] == [b"one", b"", b"one"]
    await clock.advance(SAMPLE_AGE_S)
    assert beating._next_sample(True) == b"one"
    await clock.advance(0.1)
    assert beating._next_sample(True) == b""
    waiting.append(b"two")
    assert [beating._next_sample(first) for first in (True, False)] == [b"two", b""]
