"""`make bench BENCH=pods`: what a pod costs on one node, against the raw Docker SDK in the same run.

Runs on hosts of its own (`tests.support.host`), each with a dockerd of its own: one that does not know Barque's OCI
runtime (plain: a pause container per pod), one that does (the fast way). Barque is whole: `barque up`, and pods are
created through its API and scheduled. A time ends when a watch shows what was waited for. Raw Docker starts a pause
container and the same container in its network, in turn with Barque. Scheduling and workload controllers are measured
with simulated workers (`schedule`). Name parts to run only those: `python -m tests.bench.pods plain fast`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import grpc.aio

from barque.api.types import core_v1, meta_v1
from barque.api.types.core_v1 import Pod
from barque.client import profile
from barque.client.clock import SystemClock
from barque.client.informer import Informer
from barque.client.remote import Connection, connect
from barque.deploy import images, processes
from barque.proto import pods_pb2
from tests.bench import schedule
from tests.bench.report import Figure, median, publish, spread
from tests.support.expecting import expect_soon
from tests.support.host import Host, a_host, missing

DOCKER = "unix:///var/run/docker.sock"
IMAGE = "barque-bench/pod:1"
ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 9
MANY, MANY_ROUNDS = 24, 3
HELD = 50
# As many as Barque itself starts at a time; with all 24 at a time raw Docker is no faster.
RAW_THREADS = 8
SETTLE_S, STEADY_S = 15.0, 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Samples = dict[str, list[float]]


# On the machine: hosts, and what becomes of their samples.


def main(parts: Sequence[str]) -> None:
    every = {**PARTS, **schedule.PARTS}
    names = parts or list(every)
    why = missing() if PARTS.keys() & names else ""
    if why:
        raise SystemExit(f"bench pods: {why}")
    figures: list[Figure] = []
    for name in names:
        figures += every[name]()
    publish("pods", figures)


def measure_plain() -> list[Figure]:
    # An unusable runtime on the command line keeps `barque up` from adding its own.
    with _a_cluster("--add-runtime=none=/nonexistent") as host:
        taken = _inside(host, "starts")
    figure = _against("pod_create_to_running_p50_s", "s", taken["raw"], taken["barque"], "ratio <= 1.25")
    return [figure, _against("pods_24_per_s_plain", "pods/s", taken["raw_many"], taken["barque_many"], "")]


def measure_fast() -> list[Figure]:
    with _a_cluster() as host:
        taken = _inside(host, "starts")
    return [
        _against("pod_create_to_running_warm_p50_s", "s", taken["raw"], taken["barque"], "ratio <= 0.6"),
        _against("pods_24_per_s", "pods/s", taken["raw_many"], taken["barque_many"], "ratio >= 1.2"),
        _against("container_killed_to_running_p50_s", "s", taken["raw_killed"], taken["barque_killed"], "ratio <= 1.5"),
    ]


def measure_held() -> list[Figure]:
    """What 50 pods cost while nothing happens, and what a worker that was killed does about them."""
    with _a_cluster() as host:
        taken = _inside(host, "held")
    adopted = taken["adopt_s"]
    return [
        Figure("adopt_50_pods_s", median(adopted), "s", goal="<= 2", remark=f"runs {spread(adopted)}"),
        Figure("adopt_restarts", sum(taken["adopt_restarts"]), "restarts", goal="<= 0"),
        Figure("worker_rss_idle_mib", taken["rss_idle_mib"][0], "MiB", goal="<= 110"),
        Figure("worker_rss_50_pods_mib", taken["rss_held_mib"][0], "MiB", goal="<= 140"),
        Figure("worker_cpu_50_probed_pods_pct", taken["cpu_pct"][0], "%", goal="<= 3", remark=f"over {STEADY_S:.0f} s"),
    ]


PARTS: dict[str, Callable[[], list[Figure]]] = {
    "plain": measure_plain,
    "fast": measure_fast,
    "held": measure_held,
}


def _against(name: str, unit: str, raw: list[float], barque: list[float], goal: str) -> Figure:
    remark = f"runs {spread(barque)}; raw {spread(raw)}"
    return Figure(name, median(barque), unit, "raw Docker", median(barque) / median(raw), goal, remark)


@contextmanager
def _a_cluster(*options: str) -> Iterator[Host]:
    with a_host() as host:
        dockerd = host.start("dockerd", "--log-level=error", "--live-restore", *options)
        expect_soon(lambda: host.run("docker", "version", check=False).returncode == 0 or dockerd.poll(), 30, "dockerd")
        host.barque("up")
        yield host
        host.barque("down", "--purge")


def _inside(host: Host, rounds: str) -> Samples:
    """Run rounds of this module inside the host; their samples."""
    done = subprocess.run(
        host.argv([sys.executable, "-m", "tests.bench.pods", "inside", rounds]),
        env=host.environment({"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}),
        stdout=subprocess.PIPE, text=True, timeout=900, check=True,
    )  # fmt: skip
    samples: Samples = json.loads(done.stdout)
    return samples


# Inside a host: raw Docker.


class RawDocker:
    """The SDK alone, doing what a pod needs: a pause container, and the container that shares its network."""

    def __init__(self) -> None:
        self._client: Any = docker.APIClient(base_url=DOCKER, timeout=120, max_pool_size=2 * RAW_THREADS)
        self._pause = next(tag for image in self._client.images(name="barque/pause") for tag in image["RepoTags"])

    def start_pod(self) -> list[str]:
        made: list[str] = []
        for image in (self._pause, IMAGE):
            network = f"container:{made[0]}" if made else "none"
            made.append(self._start(image, network))
        return made

    def _start(self, image: str, network: str) -> str:
        container = self._client.create_container(
            image, host_config=self._client.create_host_config(network_mode=network)
        )["Id"]
        self._client.start(container)
        return str(container)

    def remove(self, ids: Sequence[str]) -> None:
        for container in reversed(ids):
            self._client.remove_container(container, force=True)

    def time_one(self) -> tuple[float, float]:
        """Seconds to start a pod; seconds to notice that its container was killed, and to start another."""
        begin = time.monotonic()
        made = self.start_pod()
        took = time.monotonic() - begin
        pid = self._client.inspect_container(made[1])["State"]["Pid"]
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self._client.wait(made[1])
        made.append(self._start(IMAGE, f"container:{made[0]}"))
        killed = time.monotonic() - begin
        self.remove(made)
        return took, killed

    def time_many(self) -> float:
        """Pods per second."""
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(RAW_THREADS) as pool:
            made = list(pool.map(lambda _: self.start_pod(), range(MANY)))
            took = time.monotonic() - begin
            list(pool.map(self.remove, made))
        return MANY / took

    def wait_empty(self) -> None:
        """Until nothing of Barque's pods is left, so that their end does not weigh on what is measured next."""
        expect_soon(lambda: not self._client.containers(all=True, filters={"label": "barque.io/pod-name"}), 120, "room")

    def pid_of(self, pod: str) -> int:
        """The process of the pod's one container."""
        labels = [f"barque.io/pod-name={pod}", "barque.io/role=container"]
        (found,) = self._client.containers(filters={"label": labels})
        return int(self._client.inspect_container(found["Id"])["State"]["Pid"])


# Inside a host: Barque.


class Pods:
    """Pods through Barque's API, and one informer that sees all of them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.client = connection.client
        self.seen: dict[str, Pod] = {}
        self._changed = asyncio.Event()

    async def watch(self, started: asyncio.Event) -> None:
        informer = Informer(self.client, Pod, clock=SystemClock())
        informer.add_handler(self._hear)
        async with asyncio.TaskGroup() as group:
            group.create_task(informer.run())
            await informer.wait_synced()
            started.set()

    def _hear(self, old: Pod | None, new: Pod | None) -> None:
        if new is not None:
            self.seen[new.metadata.name] = new
        elif old is not None:
            self.seen.pop(old.metadata.name, None)
        self._changed.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def create(self, names: Sequence[str], *, probed: bool = False) -> None:
        await asyncio.gather(*(self.client.create(_pod(name, probed)) for name in names))
        await self.until(lambda: all(_running(self.seen.get(name)) for name in names))

    async def delete(self, names: Sequence[str]) -> None:
        await asyncio.gather(*(self.client.delete(Pod, name, "default", grace_s=0) for name in names))
        await self.until(lambda: not any(name in self.seen for name in names))

    async def answer_all(self, names: Sequence[str]) -> None:
        """Until the worker knows each pod's container: it then serves its log."""
        # One asks while nobody listens yet: many would take the worker's processor time.
        await self._answers(names[0])
        await asyncio.gather(*(self._answers(name) for name in names[1:]))

    async def _answers(self, name: str) -> None:
        request = pods_pb2.LogsRequest(namespace="default", pod=name, tail_lines=1)
        async with asyncio.timeout(60):
            while True:
                try:
                    async for _ in self.connection.pods.Logs(request):
                        break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.02)
                    continue
                return

    def restarts(self) -> int:
        return sum(s.restartCount for pod in self.seen.values() for s in pod.status.containerStatuses)

    def ids(self) -> set[str]:
        return {s.containerID for pod in self.seen.values() for s in pod.status.containerStatuses}


def _running(pod: Pod | None, restarts: int = 0) -> bool:
    statuses = pod.status.containerStatuses if pod else []
    return bool(statuses) and all(s.state and s.state.running and s.restartCount == restarts for s in statuses)


def _pod(name: str, probed: bool) -> Pod:
    probe = core_v1.Probe(httpGet=core_v1.HTTPGetAction(path="/", port=8080), periodSeconds=10)
    container = core_v1.Container(name="app", image=IMAGE, readinessProbe=probe if probed else None)
    return Pod(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
        spec=core_v1.PodSpec(containers=[container], terminationGracePeriodSeconds=0),
    )


async def _time_starts(raw: RawDocker, pods: Pods) -> Samples:
    taken: Samples = {k: [] for k in ("raw", "barque", "raw_killed", "barque_killed", "raw_many", "barque_many")}
    for number in range(ROUNDS):
        for name, value in zip(("raw", "raw_killed"), await asyncio.to_thread(raw.time_one), strict=True):
            taken[name].append(value)
        name = f"one-{number}"
        begin = time.monotonic()
        await pods.create([name])
        taken["barque"].append(time.monotonic() - begin)
        pid = await asyncio.to_thread(raw.pid_of, name)
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        await pods.until(lambda name=name: _running(pods.seen.get(name), 1))  # type: ignore[misc]
        taken["barque_killed"].append(time.monotonic() - begin)
        await pods.delete([name])
        await asyncio.to_thread(raw.wait_empty)
    for number in range(MANY_ROUNDS):
        taken["raw_many"].append(await asyncio.to_thread(raw.time_many))
        names = [f"many-{number}-{index}" for index in range(MANY)]
        begin = time.monotonic()
        await pods.create(names)
        taken["barque_many"].append(MANY / (time.monotonic() - begin))
        await pods.delete(names)
        await asyncio.to_thread(raw.wait_empty)
    return taken


async def _hold(raw: RawDocker, pods: Pods) -> Samples:
    taken: Samples = {"rss_idle_mib": [_rss_mib(_worker_pid())], "adopt_s": [], "adopt_restarts": []}
    names = [f"held-{number}" for number in range(HELD)]
    await pods.create(names, probed=True)
    await asyncio.sleep(SETTLE_S)
    pid = _worker_pid()
    ticks, begin = _cpu_ticks(pid), time.monotonic()
    await asyncio.sleep(STEADY_S)
    taken["cpu_pct"] = [(_cpu_ticks(pid) - ticks) / _TICKS_PER_S / (time.monotonic() - begin) * 100]
    taken["rss_held_mib"] = [_rss_mib(pid)]
    before = pods.ids()
    for _round in range(3):
        begin = _restart_worker()
        await pods.answer_all(names)
        taken["adopt_s"].append(time.monotonic() - begin)
        await asyncio.sleep(SETTLE_S / 3)
        taken["adopt_restarts"] = [float(pods.restarts() + len(before ^ pods.ids()))]
    await pods.delete(names)
    await asyncio.to_thread(raw.wait_empty)
    return taken


def _worker_pid() -> int:
    return int(Path("/run/barque/worker.pid").read_text().split()[0])


def _restart_worker() -> float:
    """SIGKILL, and the same command again; the moment (monotonic) it was started."""
    pid = _worker_pid()
    argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    os.kill(pid, signal.SIGKILL)
    expect_soon(lambda: processes.start_ticks(pid) is None, 10, "the worker is dead", pause_s=0.005)
    begin = time.monotonic()
    processes.start(argv, Path("/run/barque/worker.pid"), Path("/var/log/barque/worker.log"))
    return begin


def _rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


ROUNDS_INSIDE: dict[str, Callable[[RawDocker, Pods], Awaitable[Samples]]] = {"starts": _time_starts, "held": _hold}


async def _measure(name: str) -> Samples:
    images.build_busybox(DOCKER, IMAGE, {"start": _START}, "/start")
    connection = connect(profile.load())
    pods, started = Pods(connection), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(pods.watch(started))
        await started.wait()
        taken = await ROUNDS_INSIDE[name](RawDocker(), pods)
        watching.cancel()
    await connection.close()
    return taken


# As process 1 a shell needs a trap to heed SIGTERM.
_START = """#!/bin/sh
trap 'exit 0' TERM
echo ahoy
mkdir -p /tmp/www && echo ahoy > /tmp/www/index.html
httpd -f -p 8080 -h /tmp/www &
wait
"""


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        print(json.dumps(asyncio.run(_measure(sys.argv[2]))))
    else:
        main(sys.argv[1:])
