"""Kill daemons and containers at random for `BARQUE_SOAK_ROUNDS` rounds (`make soak`); nothing acknowledged may miss.

The order of blows comes from `BARQUE_SOAK_SEED`, which a failure prints.
"""

from __future__ import annotations

import os
import random
import sys

import pytest

from tests.support.cluster import (
    WEB,
    container_ids,
    kill,
    objects,
    pod_names,
    ready,
    running_container,
    write_maps,
)
from tests.support.expecting import expect_soon
from tests.support.host import Host, a_host, missing

ROUNDS = int(os.environ.get("BARQUE_SOAK_ROUNDS", "20"))
SEED = int(os.environ.get("BARQUE_SOAK_SEED", "1"))


@pytest.mark.root
def test_blows_lose_nothing() -> None:
    if why := missing():
        pytest.skip(why)
    order = random.Random(SEED)
    with a_host() as host:
        host.barque("up")
        host.run(
            sys.executable, "-c", "from barque.deploy import images; images.build_web('unix:///run/docker.sock', '1')"
        )
        host.barque("apply", "-f", "-", stdin=WEB)
        host.barque("rollout", "status", "deployment/web", "--timeout", "100s")
        acknowledged: list[str] = []
        for number in range(ROUNDS):
            blow = order.choice(("master", "worker", "both", "container"))
            print(f"round {number} of seed {SEED}: {blow}", flush=True)
            acknowledged += write_maps(host, f"round-{number}", 5)
            strike(host, blow, order)
            host.barque("up")
            check(host, acknowledged, f"round {number} of seed {SEED}: {blow}")
        host.barque("down", "--purge")


def strike(host: Host, blow: str, order: random.Random) -> None:
    if blow == "container":
        container = running_container(host, order.choice(pod_names(host)))
        # It may just have ended by itself.
        host.run("docker", "rm", "-f", *container.split(), check=False)
        return
    for daemon in ("worker", "master") if blow == "both" else (blow,):
        kill(host, daemon)


def check(host: Host, acknowledged: list[str], what: str) -> None:
    present = {item["metadata"]["name"] for item in objects(host, "configmaps")}
    assert set(acknowledged) <= present, f"{what}: acknowledged objects are missing"
    expect_soon(lambda: len(pod_names(host)) == 3, 60, f"{what}: three pods")
    # A container struck several times waits for its back-off.
    expect_soon(lambda: all(ready(host, pod) for pod in pod_names(host)), 400, f"{what}: all pods ready")
    expect_soon(lambda: len(container_ids(host)) == 3, 60, f"{what}: a container for each pod, and no more")
