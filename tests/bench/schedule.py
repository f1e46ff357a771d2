"""The scheduler's and the controllers' figures: one real master, simulated workers, durable, over gRPC.

`PARTS` maps names to measurements, which `make bench BENCH=pods` runs among its own; alone:
`python -m tests.bench.schedule backlog deployment steady`. Times are taken by a client that watches pods, so that what
is measured is what a user sees. `master` in a remark is the processor time the master itself took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from barque.api import codec, conditions
from barque.api.errors import ApiError
from barque.api.types.apps_v1 import Deployment, DeploymentSpec
from barque.api.types.core_v1 import Container, Node, Pod, PodSpec, PodTemplateSpec, ResourceRequirements
from barque.api.types.meta_v1 import LabelSelector, ObjectMeta
from barque.api.views import PodView
from barque.client.client import Client, target_of
from barque.client.clock import SystemClock
from barque.client.informer import Informer
from barque.client.verbs import MERGE_PATCH, Create, Patch, Write
from tests.bench.fleet import Fleet, node_name
from tests.bench.master import Master
from tests.bench.report import Figure, line, median, publish, spread

NODES = 1000
BACKLOG = 5000
REPLICAS = 1000
STEADY_PODS = 10_000
ROUNDS = 3
# Pods that were refused sit out their back-off, and the event log is written.
REST_S = 5.0
# After this the steady cluster has collected its garbage and written what it had to.
SETTLE_S, STEADY_S = 20.0, 60.0
# A /24 for each of a thousand nodes.
_WIDE = ("--cluster-cidr", "10.128.0.0/12")
_BATCH = 500
_OPEN = {"bench": "open"}
_TIMEOUT_S = 180.0


class Watched:
    """Every pod as one watch shows it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.bound = self.running = self.refused = self.count = 0
        self._informer = Informer(client, PodView, clock=SystemClock())
        self._informer.add_handler(self._hear)
        self._changed = asyncio.Event()

    def _hear(self, old: PodView | None, new: PodView | None) -> None:
        for pod, sign in ((old, -1), (new, 1)):
            if pod is not None:
                self.count += sign
                self.bound += sign * bool(pod.spec.nodeName)
                self.running += sign * (pod.status.phase == "Running")
                scheduled = conditions.find(pod.status.conditions, "PodScheduled")
                self.refused += sign * (scheduled is not None and scheduled.status == "False")
        self._changed.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(_TIMEOUT_S):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def run(self) -> None:
        await self._informer.run()

    async def wait_synced(self) -> None:
        await self._informer.wait_synced()


def measure_backlog() -> list[Figure]:
    """5,000 pods wait for a label that 1,000 nodes lack; from the labelling of the first node to the last binding."""
    rates, remarks = [], []
    for _ in range(ROUNDS):
        with Master(*_WIDE) as master, Fleet(master, NODES, idle=True):
            seconds, master_s = asyncio.run(_with_pods(master, lambda pods: _time_backlog(master, pods)))
        rates.append(BACKLOG / seconds)
        remarks.append(master_s)
    remark = f"runs {spread(rates)}; master {median(remarks):.1f} s; Kubernetes 242"
    return [Figure("schedule_backlog_5000_on_1000_per_s", median(rates), "pods/s", goal=">= 1500", remark=remark)]


def measure_deployment() -> list[Figure]:
    """From the create of a Deployment of 1,000 replicas to the watch's showing all of its pods."""
    times, bound, master_s = [], [], []
    for _ in range(ROUNDS):
        with Master(*_WIDE) as master, Fleet(master, 10, idle=True):
            created_s, bound_s, spent_s = asyncio.run(_with_pods(master, lambda pods: _time_deployment(master, pods)))
        times.append(created_s)
        bound.append(bound_s)
        master_s.append(spent_s)
    remark = f"runs {spread(times)}; all bound {median(bound):.2f} s; master {median(master_s):.1f} s; "
    remark += "Kubernetes 49.8, 2.6 with limits lifted"
    return [Figure("deployment_1000_pods_created_s", median(times), "s", goal="<= 1.5", remark=remark)]


def measure_steady() -> list[Figure]:
    """What one master takes for 1,000 workers that beat and watch, and 10,000 pods that run."""
    with Master(*_WIDE) as master, Fleet(master, NODES):
        asyncio.run(_with_pods(master, _fill))
        time.sleep(SETTLE_S)
        spent_s, began = master.cpu_s(), time.monotonic()
        time.sleep(STEADY_S)
        share = (master.cpu_s() - spent_s) / (time.monotonic() - began) * 100
        rss_mib = master.rss_mib()
        bus = f"nats-server beside it {master.bus_rss_mib():.0f}"
    return [
        Figure("fake_1000_nodes_10000_pods_rss_mib", rss_mib, "MiB", goal="<= 600", remark=bus),
        Figure("fake_1000_nodes_10000_pods_cpu_pct", share, "%", goal="<= 25", remark=f"over {STEADY_S:.0f} s"),
    ]


PARTS: dict[str, Callable[[], list[Figure]]] = {
    "backlog": measure_backlog,
    "deployment": measure_deployment,
    "steady": measure_steady,
}


async def _with_pods(master: Master, measure: Callable[[Watched], Awaitable[tuple[float, ...]]]) -> tuple[float, ...]:
    async with master.client() as client, asyncio.TaskGroup() as group:
        pods = Watched(client)
        watching = group.create_task(pods.run())
        await pods.wait_synced()
        measured = await measure(pods)
        watching.cancel()
    return measured


async def _time_backlog(master: Master, pods: Watched) -> tuple[float, float]:
    await _write(pods.client, [_create(_pod(f"backlog-{number:05}")) for number in range(BACKLOG)])
    await pods.until(lambda: pods.refused == BACKLOG)
    await asyncio.sleep(REST_S)
    before_s, began = master.cpu_s(), time.monotonic()
    await _open(pods.client)
    await pods.until(lambda: pods.bound == BACKLOG)
    return time.monotonic() - began, master.cpu_s() - before_s


async def _time_deployment(master: Master, pods: Watched) -> tuple[float, float, float]:
    await asyncio.sleep(1)
    before_s, began = master.cpu_s(), time.monotonic()
    await pods.client.create(a_deployment("web", REPLICAS))
    await pods.until(lambda: pods.count == REPLICAS)
    created_s = time.monotonic() - began
    await pods.until(lambda: pods.bound == REPLICAS)
    return created_s, time.monotonic() - began, master.cpu_s() - before_s


async def _fill(pods: Watched) -> tuple[float, ...]:
    """Ten Deployments of a thousand, one after the other, until all run."""
    for number in range(STEADY_PODS // REPLICAS):
        await pods.client.create(a_deployment(f"web-{number}", REPLICAS))
        await pods.until(lambda reached=(number + 1) * REPLICAS: pods.running == reached)  # type: ignore[misc]
    return ()


async def _open(client: Client) -> None:
    """Give every node the label that the backlog waits for."""
    change = msgspec.json.encode({"metadata": {"labels": _OPEN}})
    await _write(client, [Patch(target_of(Node, node_name(n)), MERGE_PATCH, change) for n in range(NODES)])


async def _write(client: Client, writes: Sequence[Write]) -> None:
    for start in range(0, len(writes), _BATCH):
        for answer in await client.batch(writes[start : start + _BATCH]):
            if isinstance(answer, ApiError):
                raise answer


def _spec() -> PodSpec:
    requests = ResourceRequirements(requests={"cpu": "100m", "memory": "64Mi"})
    return PodSpec(containers=[Container(name="web", image="web:1", resources=requests)])


def _pod(name: str) -> Pod:
    spec = msgspec.structs.replace(_spec(), nodeSelector=dict(_OPEN))
    return Pod(metadata=ObjectMeta(name=name, namespace="default", labels={"app": "web"}), spec=spec)


def _create(pod: Pod) -> Create:
    return Create(target_of(Pod, "", pod.metadata.namespace), codec.encode(pod))


def a_deployment(name: str, replicas: int) -> Deployment:
    return Deployment(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=DeploymentSpec(
            replicas=replicas,
            selector=LabelSelector(matchLabels={"app": name}),
            template=PodTemplateSpec(metadata=ObjectMeta(labels={"app": name}), spec=_spec()),
        ),
    )


def main(parts: Sequence[str]) -> None:
    figures: list[Figure] = []
    for name in parts or PARTS:
        for figure in PARTS[name]():
            print(line(figure), flush=True)
            figures.append(figure)
    publish("schedule", figures)


if __name__ == "__main__":
    main(sys.argv[1:])
