"""A real master and simulated workers, as benchmarks of scale use them: what is deployed runs and is counted."""

from __future__ import annotations

import asyncio

from barque.api.types.apps_v1 import Deployment
from barque.api.types.core_v1 import Node, Pod
from tests.bench import schedule
from tests.bench.fleet import Fleet
from tests.bench.master import Master

NODES, REPLICAS = 6, 30


def test_a_deployment_runs_on_simulated_workers() -> None:
    with Master() as master, Fleet(master, NODES):
        asyncio.run(deploy_and_judge(master))


async def deploy_and_judge(master: Master) -> None:
    async with master.client() as client, asyncio.TaskGroup() as group:
        pods = schedule.Watched(client)
        watching = group.create_task(pods.run())
        await pods.wait_synced()
        assert len((await client.list(Node)).items) == NODES
        await client.create(schedule.a_deployment("web", REPLICAS))
        await pods.until(lambda: pods.running == REPLICAS)
        by_node = [pod.spec.nodeName for pod in (await client.list(Pod, "default")).items]
        assert sorted(by_node.count(node) for node in set(by_node)) == [REPLICAS // NODES] * NODES
        async with asyncio.timeout(30):
            while (await client.get(Deployment, "web", "default")).status.availableReplicas != REPLICAS:
                await asyncio.sleep(0.05)
        watching.cancel()
