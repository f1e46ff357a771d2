"""A real master and simulated workers, as benchmarks of scale use them: what is deployed runs and is counted."""

from __future__ import annotations

import asyncio

from barque.api.types.apps_v1 import Deployment
from barque.api.types.core_v1 import Node, Pod
from tests.bench import schedule
from tests.bench.fleet import Fleet
from tests.bench.master import Master
from tests.support.expecting import expect_soon_async

NODES, REPLICAS = 6, 30


def test_a_deployment_runs_on_simulated_workers() -> None:
    with Master() as master, Fleet(master, NODES):
        asyncio.run(deploy_and_judge(master))


async def deploy_and_judge(master: Master) -> None:
    async with master.client() as client, asyncio.TaskGroup() as group:
        pods = schedule.Watched(client)
        watching = group.create_task(pods.run())
        await pods.wait_synced()

        async def all_ready() -> bool:
            nodes = (await client.list(Node)).items
            return len(nodes) == NODES and not any(node.spec.taints for node in nodes)

        await expect_soon_async(all_ready, 60, "every node may have pods")
        await client.create(schedule.a_deployment("web", REPLICAS))
        await pods.until(lambda: pods.running == REPLICAS)
        by_node = [pod.spec.nodeName for pod in (await client.list(Pod, "default")).items]
        assert sorted(by_node.count(node) for node in set(by_node)) == [REPLICAS // NODES] * NODES

        async def all_available() -> bool:
            return (await client.get(Deployment, "web", "default")).status.availableReplicas == REPLICAS

        await expect_soon_async(all_available, 60, "all pods are available")
        watching.cancel()
