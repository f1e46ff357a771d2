"""Cut, pause and kill hosts of a lab at random for `BARQUE_SOAK_ROUNDS` rounds (`make soak`).

Whatever was done to them: once it is mended every node is Ready, every pod runs, every host reaches the service at its
address, and every object that was acknowledged is there. The order comes from `BARQUE_SOAK_SEED`, which a failure
prints.
"""

from __future__ import annotations

import os
import random
import sys
import time

import pytest

from tests.support.cluster import objects, one, write_maps
from tests.support.expecting import expect_soon
from tests.support.lab import REPLICAS, WEB, ALab, LabHost, a_lab, missing

ROUNDS = int(os.environ.get("BARQUE_SOAK_ROUNDS", "20"))
SEED = int(os.environ.get("BARQUE_SOAK_SEED", "1"))
# A node is lost after 8 s and its pods replaced 5 s later: some blows are mended before, some after.
LONGEST_BLOW_S = 20.0
MENDED_S = 120.0


@pytest.mark.root
def test_hosts_that_are_hurt_and_mended() -> None:
    if why := missing():
        pytest.skip(why)
    dice = random.Random(SEED)
    with a_lab(workers=3) as lab:
        lab.apply(WEB)
        lab.wait_ready_pods("app=web", REPLICAS)
        address = one(lab.m1, "service", "web")["spec"]["clusterIP"]
        acknowledged: list[str] = []
        for number in range(ROUNDS):
            blow, mending = choose_blow(dice)
            last_s = dice.uniform(0, LONGEST_BLOW_S)
            what = f"round {number} of seed {SEED}: {' '.join(blow)} for {last_s:.0f} s"
            print(what, flush=True)
            lab.run(*blow)
            acknowledged += write_maps(lab.m1, f"round-{number}", 3)
            time.sleep(last_s)
            lab.run(*mending)
            check(lab, address, acknowledged, what)


def choose_blow(dice: random.Random) -> tuple[list[str], list[str]]:
    """What to do to which hosts, and what mends it."""
    first, second = dice.sample(["w1", "w2", "w3"], 2)
    blow = dice.choice(
        [["cut", first], ["cut", first, second], ["cut", first, "m1"], ["pause", first], ["kill", first]]
    )
    mending = {"cut": ["heal"], "pause": ["resume", first], "kill": ["start", first]}
    return blow, mending[blow[0]]


def check(lab: ALab, address: str, acknowledged: list[str], what: str) -> None:
    """Everything is as it should be again, sooner or later."""
    present = {item["metadata"]["name"] for item in objects(lab.m1, "configmaps")}
    assert set(acknowledged) <= present, f"{what}: acknowledged objects are missing"
    for worker in lab.workers:
        expect_soon(lambda name=worker.name: lab.node_ready(name), MENDED_S, f"{what}: {worker.name} is Ready")  # type: ignore[misc]
    lab.wait_ready_pods("app=web", REPLICAS, timeout_s=MENDED_S)
    for worker in lab.workers:
        expect_soon(lambda at=worker: answers(at, address) == 20, 60, f"{what}: the service answers {worker.name}")  # type: ignore[misc]


def answers(host: LabHost, address: str) -> int:
    """How many of twenty requests are answered."""
    ask = f"urllib.request.urlopen('http://{address}/', timeout=10).status == 200"
    program = f"import urllib.request\nprint(sum({ask} for _ in range(20)))"
    done = host.run(sys.executable, "-c", program, check=False)
    return int(done.stdout) if done.returncode == 0 else 0
