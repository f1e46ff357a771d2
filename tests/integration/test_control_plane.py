"""Controllers and scheduler over the real registry and a store on disk; only the worker is a stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from barque.api import podstatus
from barque.api.errors import ApiError
from barque.api.types.apps_v1 import Deployment, ReplicaSet
from barque.api.types.coordination_v1 import Lease
from barque.api.types.core_v1 import (
    Container,
    Namespace,
    Node,
    Pod,
    PodCondition,
    PodIP,
    PodSpec,
    ResourceRequirements,
    ServiceAccount,
    Toleration,
)
from barque.api.types.discovery_v1 import EndpointSlice
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.clock import SystemClock, timestamp
from barque.client.informer import Informer
from barque.client.informers import Informers
from barque.client.pki import MASTERS_GROUP
from barque.client.supervise import run_all
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.identity import User
from barque.master.controllers.manager import ControllerManager
from barque.master.controllers.settings import ControllerSettings
from barque.master.scheduler.scheduler import Scheduler
from tests.support.clock import FakeClock
from tests.support.expecting import expect_soon_async
from tests.support.memory_store import MemoryEvents, MemoryStore
from tests.support.raft_group import open_store
from tests.support.workloads import a_deployment, a_node, a_service

DEADLINE_S = 100.0
pytestmark = pytest.mark.timeout(300)


class StandInWorker:
    """Runs the pods bound to any node: ready at once, gone once told to stop."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.pods = Informer(client, Pod, fields="spec.nodeName!=", clock=SystemClock())
        self.pods.add_handler(self._handle)
        self._todo: asyncio.Queue[Pod] = asyncio.Queue()
        self._started = 0

    def _handle(self, old: Pod | None, new: Pod | None) -> None:
        if new is not None:
            self._todo.put_nowait(new)

    async def run(self) -> None:
        await run_all({"pods": self.pods.run(), "work": self._work()})

    async def _work(self) -> None:
        while True:
            pod = await self._todo.get()
            meta = pod.metadata
            try:
                if meta.deletionTimestamp:
                    await self.client.delete(Pod, meta.name, meta.namespace, grace_s=0, uid=meta.uid)
                elif pod.status.phase == "Pending":
                    await self._start(pod)
            except ApiError as error:
                # It has gone meanwhile: there is more than one event of it.
                if error.code not in (404, 409):
                    raise

    async def _start(self, pod: Pod) -> None:
        self._started += 1
        running = copy.deepcopy(pod)
        running.metadata.resourceVersion = ""
        running.status.phase = "Running"
        running.status.podIP = f"10.244.0.{self._started + 1}"
        running.status.podIPs = [PodIP(ip=running.status.podIP)]
        now = timestamp(SystemClock().wall())
        running.status.conditions.append(PodCondition(type="Ready", status="True", lastTransitionTime=now))
        await self.client.update_status(running)


class Cluster:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.beating = True
        self.silent = ""

    def beats(self, node: str) -> float | None:
        return time.monotonic() if self.beating and node != self.silent else None

    async def until(self, done: Callable[[], Awaitable[bool]]) -> float:
        """Wait for an awaited condition; returns the seconds it took."""
        start = time.monotonic()
        await expect_soon_async(done, DEADLINE_S, getattr(done, "__name__", "the condition"), pause_s=0.005)
        return time.monotonic() - start

    async def pods(self) -> list[Pod]:
        return (await self.client.list(Pod, "default")).items

    async def is_complete(self, image: str, replicas: int) -> bool:
        status = (await self.client.get(Deployment, "web", "default")).status
        pods = await self.pods()
        return (
            status.updatedReplicas == status.replicas == status.availableReplicas == replicas
            and len(pods) == replicas
            and all(p.spec.containers[0].image == image and podstatus.is_ready(p) for p in pods)
        )

    async def endpoints(self) -> int:
        slices = (await self.client.list(EndpointSlice, "default")).items
        return sum(bool(e.conditions and e.conditions.ready) for s in slices for e in s.endpoints)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    clock = SystemClock()
    store = await open_store(tmp_path / "store", clock)
    registry = Registry(store, MemoryEvents(MemoryStore(FakeClock()), "bus"), ApiSettings(), clock)
    client = Client(registry.as_user(User("barque:master:m1", (MASTERS_GROUP,))))
    await ensure_namespaces(client)
    cluster = Cluster(client)
    settings = ControllerSettings(lost_after_s=0.5)
    informers = Informers(client, clock)
    tasks = {
        "controllers": ControllerManager(client, informers, cluster.beats, clock, settings).run(),
        "scheduler": Scheduler(client, informers, clock).run(),
        "informers": informers.run(),
        "worker": StandInWorker(client).run(),
    }
    running = asyncio.create_task(run_all(tasks))
    await register(client)
    try:
        yield cluster
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await store.close()


async def register(client: Client, name: str = "n1") -> None:
    node = a_node(name, cpu="64", memory="256Gi", pods="2000")
    node.metadata.uid = ""
    await client.create(node)


async def deploy(cluster: Cluster, replicas: int) -> None:
    deployment, service = a_deployment(replicas=replicas), a_service()
    service.spec.clusterIP = ""
    for obj in (deployment, service):
        obj.metadata.uid = ""
        obj.metadata.generation = None
        await cluster.client.create(obj)


async def test_a_deployment_lives_its_whole_life(cluster: Cluster) -> None:
    await deploy(cluster, 3)
    await cluster.until(lambda: cluster.is_complete("bb:1", 3))
    await cluster.until(lambda: _equals(cluster.endpoints(), 3))

    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "bb:2"}]}}}}
    await cluster.client.patch(Deployment, "web", "default", patch)
    await cluster.until(lambda: cluster.is_complete("bb:2", 3))
    sets = (await cluster.client.list(ReplicaSet, "default")).items
    assert sorted(rs.spec.replicas or 0 for rs in sets) == [0, 3]

    await cluster.client.patch(Deployment, "web", "default", {"spec": {"replicas": 7}})
    await cluster.until(lambda: cluster.is_complete("bb:2", 7))
    await cluster.client.delete(Deployment, "web", "default")
    await cluster.until(lambda: _equals(_count(cluster.pods()), 0))
    await cluster.until(lambda: _equals(cluster.endpoints(), 0))


async def test_a_silent_node_takes_its_endpoints_out(cluster: Cluster) -> None:
    await deploy(cluster, 2)
    await cluster.until(lambda: _equals(cluster.endpoints(), 2))
    cluster.beating = False
    await cluster.until(lambda: _equals(cluster.endpoints(), 0))

    async def is_unknown() -> bool:
        node = await cluster.client.get(Node, "n1")
        return [c.status for c in node.status.conditions if c.type == "Ready"] == ["Unknown"]

    await cluster.until(is_unknown)
    assert await cluster.endpoints() == 0


async def test_pods_of_a_lost_node_are_replaced_elsewhere(cluster: Cluster) -> None:
    client = cluster.client
    for name in ("n2", "n3"):
        await register(client, name)
    deployment = a_deployment(replicas=6)
    assert deployment.spec.template is not None
    assert deployment.spec.template.spec is not None
    keys = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
    impatient = [Toleration(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=0) for key in keys]
    deployment.spec.template.spec.tolerations = impatient
    deployment.metadata = ObjectMeta(name="web", namespace="default")
    await client.create(deployment)
    await cluster.until(lambda: cluster.is_complete("bb:1", 6))
    cluster.silent = next(pod.spec.nodeName for pod in await cluster.pods())

    async def is_replaced() -> bool:
        placed = {pod.spec.nodeName for pod in await cluster.pods()}
        return cluster.silent not in placed and await cluster.is_complete("bb:1", 6)

    await cluster.until(is_replaced)

    async def is_tainted() -> bool:
        node = await client.get(Node, cluster.silent)
        return {(taint.key, taint.effect) for taint in node.spec.taints} == {
            ("node.kubernetes.io/unreachable", "NoSchedule"),
            ("node.kubernetes.io/unreachable", "NoExecute"),
        }

    await cluster.until(is_tainted)

    async def are_leased() -> bool:
        leases = (await client.list(Lease, "kube-node-lease")).items
        return {lease.metadata.name for lease in leases} >= {"n1", "n2", "n3"} - {cluster.silent}

    await cluster.until(are_leased)


async def test_every_namespace_gets_its_account_and_pods_wait_for_it(cluster: Cluster) -> None:
    client = cluster.client
    for number in range(5):
        await client.create(Namespace(metadata=ObjectMeta(name=f"team-{number}")))
        spec = PodSpec(containers=[Container(name="main", image="bb:1")])
        pod = await client.create(Pod(metadata=ObjectMeta(name="web", namespace=f"team-{number}"), spec=spec))
        assert pod.spec.serviceAccountName == "default"
        assert await client.get(ServiceAccount, "default", f"team-{number}")


async def test_a_namespace_goes_with_all_in_it(cluster: Cluster) -> None:
    client = cluster.client
    await client.create(Namespace(metadata=ObjectMeta(name="team")))
    deployment = a_deployment(replicas=2)
    deployment.metadata = ObjectMeta(name="web", namespace="team")
    await client.create(deployment)
    await cluster.until(lambda: _equals(_count_ready(client), 2))
    await client.delete(Namespace, "team")

    async def is_gone() -> bool:
        return all(n.metadata.name != "team" for n in (await client.list(Namespace)).items)

    await cluster.until(is_gone)
    assert (await client.list(Pod, "team")).items == []


async def test_a_pod_without_room_waits_and_says_why(cluster: Cluster) -> None:
    deployment = a_deployment(replicas=1)
    assert deployment.spec.template is not None
    assert deployment.spec.template.spec is not None
    container = deployment.spec.template.spec.containers[0]
    container.resources = asking("100")
    deployment.metadata = ObjectMeta(name="web", namespace="default")
    await cluster.client.create(deployment)

    async def is_refused() -> bool:
        (pod,) = await cluster.pods()
        (condition,) = [c for c in pod.status.conditions if c.type == "PodScheduled"]
        told = (condition.reason, condition.message)
        # Before the scheduler knows the node it may say that there is none.
        assert told == ("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu."), told
        return True

    await cluster.until(is_refused)


def asking(cpu: str) -> ResourceRequirements:
    return ResourceRequirements(requests={"cpu": cpu})


async def _equals(found: Awaitable[int], wished: int) -> bool:
    return await found == wished


async def _count(found: Awaitable[list[Pod]]) -> int:
    return len(await found)


async def _count_ready(client: Client) -> int:
    return sum(podstatus.is_ready(p) for p in (await client.list(Pod, "team")).items)
