"""`make bench BENCH=voyage`: how long a cluster takes to come up, and a Deployment of three to be ready.

Runs on a host of its own (`tests.support.host`) with a dockerd of its own. Rounds alternate between raw Docker, which
creates and starts the same sandboxes and containers through the same SDK, all at once, and Barque; figures are medians.
A Deployment's time runs from the create call of a connected client to the watch event that shows all its replicas
available.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.report import Figure, median, publish, spread
from tests.support.expecting import expect_soon
from tests.support.host import Host, a_host, missing

ROUNDS = 7
UPS = 3
REPLICAS = 3
DOCKER = "unix:///var/run/docker.sock"
IMAGE = "barque-demo/web:1"
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    why = missing()
    if why:
        raise SystemExit(f"bench voyage: {why}")
    with a_host() as host:
        dockerd = host.start("dockerd", "--log-level=error", "--live-restore")
        expect_soon(lambda: host.run("docker", "version", check=False).returncode == 0 or dockerd.poll(), 30, "dockerd")
        ups = [_time_up(host) for _ in range(UPS)]
        host.barque("up")
        samples = json.loads(_inside(host))
        host.barque("down", "--purge")
    raw, plain, probed = (samples[name] for name in ("raw", "plain", "probed"))
    print(f"runs: up {spread(ups)} | raw Docker {spread(raw)} | plain {spread(plain)} | probed {spread(probed)}")
    publish(
        "voyage",
        [
            Figure("up_to_node_ready_s", median(ups), "s"),
            Figure("raw_docker_s", median(raw), "s"),
            Figure("apply_to_ready_s", median(plain), "s", "raw Docker", median(plain) / median(raw)),
            Figure("apply_to_ready_probed_s", median(probed), "s", "raw Docker", median(probed) / median(raw)),
        ],
    )


def _time_up(host: Host) -> float:
    """One `barque up` from nothing to a Ready node, then everything removed again."""
    begin = time.monotonic()
    host.barque("up")
    took = time.monotonic() - begin
    host.barque("down", "--purge")
    return took


def _inside(host: Host) -> str:
    """Run this module's rounds inside the host; its JSON."""
    done = subprocess.run(
        host.argv([sys.executable, "-m", "tests.bench.voyage", "rounds"]),
        env=host.environment({"PYTHONPATH": str(ROOT)}), stdout=subprocess.PIPE, text=True, timeout=600, check=True,
    )  # fmt: skip
    return done.stdout


def rounds() -> None:
    """Inside the host: alternate raw Docker and Barque; print the samples as JSON."""
    from barque.deploy import images

    images.build_web(DOCKER, "1")
    samples: dict[str, list[float]] = {"raw": [], "plain": [], "probed": []}
    for number in range(ROUNDS):
        samples["raw"].append(raw_docker(number))
        samples["plain"].append(asyncio.run(deploy(f"plain-{number}", probed=False)))
        samples["probed"].append(asyncio.run(deploy(f"probed-{number}", probed=True)))
    print(json.dumps(samples))


def raw_docker(number: int) -> float:
    """Seconds until Docker has started REPLICAS pairs of a sandbox and a container that shares its network."""
    import docker

    client = docker.APIClient(base_url=DOCKER, timeout=60, num_pools=16)
    pause = next(tag for image in client.images(name="barque/pause") for tag in image["RepoTags"])

    def start_pod(index: int) -> list[str]:
        made = []
        for name, image, network in (
            ("sandbox", pause, "none"),
            ("web", IMAGE, f"container:raw-{number}-{index}-sandbox"),
        ):
            config = client.create_host_config(network_mode=network)
            container = client.create_container(image, name=f"raw-{number}-{index}-{name}", host_config=config)
            client.start(container["Id"])
            made.append(container["Id"])
        return made

    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(REPLICAS) as pool:
        made = list(pool.map(start_pod, range(REPLICAS)))
    took = time.monotonic() - begin
    for ids in made:
        for container in reversed(ids):
            client.remove_container(container, force=True)
    client.close()
    return took


async def deploy(name: str, *, probed: bool) -> float:
    """Seconds from the create call to all replicas available; the Deployment and its pods are gone on return."""
    from barque.api.types.apps_v1 import Deployment
    from barque.api.types.core_v1 import Pod
    from barque.client import profile
    from barque.client.client import target_of
    from barque.client.remote import connect
    from barque.client.verbs import Selection

    connection = connect(profile.load())
    client = connection.client
    try:
        listed = await client.list(Deployment, "default")
        begin = time.monotonic()
        await client.create(_deployment(name, probed))
        changes = client.verbs.watch(
            target_of(Deployment, "", "default"), Selection(fields=f"metadata.name={name}"), listed.resource_version
        )
        async for batch in changes:
            states: list[dict[str, Any]] = [json.loads(event.json) for event in batch if event.json]
            if any(state["status"].get("availableReplicas") == REPLICAS for state in states):
                break
        took = time.monotonic() - begin
        await client.delete(Deployment, name, "default")
        while (await client.list(Pod, "default", labels=f"app={name}")).items:
            await asyncio.sleep(0.1)
        return took
    finally:
        await connection.close()


def _deployment(name: str, probed: bool) -> Any:
    from barque.api.types import apps_v1, core_v1, meta_v1

    probe = core_v1.Probe(httpGet=core_v1.HTTPGetAction(path="/", port=8080), periodSeconds=1)
    container = core_v1.Container(name="web", image=IMAGE, readinessProbe=probe if probed else None)
    template = core_v1.PodTemplateSpec(
        metadata=meta_v1.ObjectMeta(labels={"app": name}),
        spec=core_v1.PodSpec(containers=[container], terminationGracePeriodSeconds=1),
    )
    return apps_v1.Deployment(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
        spec=apps_v1.DeploymentSpec(
            replicas=REPLICAS, selector=meta_v1.LabelSelector(matchLabels={"app": name}), template=template
        ),
    )


if __name__ == "__main__":
    rounds() if sys.argv[1:] == ["rounds"] else main()
