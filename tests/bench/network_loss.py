"""How long a service goes on sending to a node that has lost its power.

A lab of three workers, pods of one service on each. Time runs from SIGKILL of everything on a host until no kernel of
the other workers holds a rule to any of its pods; beside it, until the EndpointSlices say so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from barque.deploy.lab.lab import Lab
from barque.deploy.progress import Report
from tests.bench.report import Figure, median, spread
from tests.support.cluster import objects
from tests.support.expecting import expect_soon
from tests.support.lab import REPLICAS, WEB, ALab, LabHost, a_lab

VICTIMS = ("w1", "w2", "w3")
LOST_S = 60.0
_POLL_S = 0.05
_TARGET = re.compile(r"--to-destination (\d+\.\d+\.\d+\.\d+):")


def measure() -> list[Figure]:
    kernels: list[float] = []
    slices: list[float] = []
    with a_lab(workers=3) as lab:
        lab.apply(WEB)
        for victim in VICTIMS:
            lab.wait_ready_pods("app=web", REPLICAS, 60)
            in_slices, in_kernels = _lose(lab, victim)
            slices.append(in_slices)
            kernels.append(in_kernels)
            lab.run("start", victim)
            # Pods stay where they were moved to; a new set is spread over all nodes again.
            expect_soon(lambda victim=victim: lab.node_ready(victim), 60, f"{victim} is Ready")  # type: ignore[misc]
            lab.barque("rollout", "restart", "deployment/web")
            lab.barque("rollout", "status", "deployment/web", timeout_s=90)
    remark = f"runs {spread(kernels)}; gone from the EndpointSlices after {spread(slices)}; {len(kernels)} nodes killed"
    return [Figure("node_lost_endpoints_gone_s", median(kernels), "s", goal="<= 9", remark=remark)]


def _lose(lab: ALab, victim: str) -> tuple[float, float]:
    """Seconds until the slices, and until the other kernels, know nothing of the victim's pods."""
    lost = {pod["status"]["podIP"] for pod in lab.pods("-l", "app=web") if pod["spec"]["nodeName"] == victim}
    assert lost, f"no pod runs on {victim}"
    others = [worker for worker in lab.workers if worker.name != victim]
    expect_soon(lambda: all(lost <= _targets(worker) for worker in others), 30, "rules to every pod")
    began = time.monotonic()
    Lab(lab.directory, Report()).kill([victim])
    gone: dict[str, float] = {}
    knows: dict[str, Callable[[], bool]] = {
        "slices": lambda: bool(lost & _ready_addresses(lab)),
        "kernels": lambda: any(lost & _targets(worker) for worker in others),
    }
    while len(gone) < len(knows):
        for place, known in knows.items():
            if place not in gone and not known():
                gone[place] = time.monotonic() - began
        assert time.monotonic() - began < LOST_S, f"after {LOST_S:.0f} s only {list(gone)} have forgotten {victim}"
        time.sleep(_POLL_S)
    return gone["slices"], gone["kernels"]


def _ready_addresses(lab: ALab) -> set[str]:
    """Endpoints of the service that may be sent to, as the masters say."""
    slices = objects(lab.m1, "endpointslices", "-l", "kubernetes.io/service-name=web")
    endpoints = [endpoint for each in slices for endpoint in each.get("endpoints", [])]
    return {address for e in endpoints if e["conditions"].get("ready") for address in e["addresses"]}


def _targets(worker: LabHost) -> set[str]:
    """Addresses that a worker's kernel sends services to."""
    return set(_TARGET.findall(worker.run("iptables-save", "-t", "nat").stdout))
