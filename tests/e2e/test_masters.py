"""Three masters in a lab: one after another is killed, cut off and paused while deployments roll and clients write.

What clients were told is judged by the checker of linearisability: no acknowledged write is lost, no read goes back.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from tests.simulation.harness.linearizability import Call, check
from tests.support.cluster import ROOT, objects, one
from tests.support.history_client import calls_of
from tests.support.host import expect_soon
from tests.support.lab import REPLICAS, WEB, ALab, LabHost, a_lab, missing

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

MASTERS = ["m1", "m2", "m3"]


@pytest.fixture(scope="module")
def lab() -> Iterator[ALab]:
    if why := missing():
        pytest.skip(why)
    with a_lab(2, "--masters", "3") as made:
        made.apply(WEB)
        made.wait_ready_pods("app=web", REPLICAS, timeout_s=60)
        yield made


class Seen(NamedTuple):
    """One row of `cluster members`."""

    name: str
    id: str
    address: str
    role: str
    match: str
    lag: str
    heard: str
    state: str


def members(host: LabHost) -> dict[str, Seen]:
    """The masters by name, as a user on that host sees them."""
    header, *rows = [
        [cell.strip() for cell in line.split("   ") if cell.strip()]
        for line in host.barque("cluster", "members", check=False).splitlines()
    ]
    assert header == ["NAME", "ID", "ADDRESS", "ROLE", "MATCH", "LAG", "HEARD", "STATE"]
    return {row[0]: Seen(*row) for row in rows}


def leader(lab: ALab) -> str:
    """The master that leads, as a worker's host hears it."""

    def leading() -> list[str]:
        return [member.name for member in members(lab.workers[0]).values() if member.role == "leader"]

    return expect_soon(leading, 10, "a leader")[0]


@contextmanager
def clients(lab: ALab, prefix: str, history: list[Call]) -> Iterator[None]:
    """Clients on a worker's host meanwhile, with objects of their own; what they were told is added to `history`."""
    host = lab.workers[0]
    process = subprocess.Popen(
        host.argv([sys.executable, "-m", "tests.support.history_client", prefix]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=host.environment({"PYTHONPATH": str(ROOT)}),
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        yield
        told, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        history += calls_of(told)
    finally:
        process.kill()
        process.wait()


def roll(lab: ALab, version: int) -> None:
    """Begin another rollout, from a worker's host: any master may be away."""
    patch = json.dumps({"spec": {"template": {"metadata": {"annotations": {"version": str(version)}}}}})
    lab.workers[1].barque("patch", "deployment", "web", "--type", "merge", "-p", patch)


def rolled(lab: ALab, version: int) -> bool:
    """Whether all pods are of that version, and Ready."""
    host = lab.workers[1]
    found = one(host, "deployment", "web")
    status = found["status"]
    return (
        found["spec"]["template"]["metadata"]["annotations"]["version"] == str(version)
        and status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("updatedReplicas") == status.get("availableReplicas") == status.get("replicas") == REPLICAS
    )


@pytest.mark.parametrize("blow", ["kill", "cut", "pause"])
def test_masters_fall_one_after_another(lab: ALab, blow: str) -> None:
    """Each master in turn, the leader first: deployments roll on, and what clients are told holds."""
    mending = {"kill": ["start"], "cut": ["heal"], "pause": ["resume"]}[blow]
    history: list[Call] = []
    first = leader(lab)
    with clients(lab, blow, history):
        for number, name in enumerate([first, *(other for other in MASTERS if other != first)]):
            version = 10 * len(blow) + number
            lab.run(blow, name)
            roll(lab, version)
            expect_soon(lambda v=version: rolled(lab, v), 60, f"version {version} is out without {name}")  # type: ignore[misc]
            lab.run(*mending, name)
            expect_soon(lambda n=name: up_to_date(lab, n), 30, f"{name} has caught up")  # type: ignore[misc]
    written = [call for call in history if call.ok and call.value]
    assert len(written) > 100, "the clients hardly wrote"
    verdict = check(history)
    assert verdict.ok, str(verdict)


def up_to_date(lab: ALab, name: str) -> bool:
    found = members(lab.workers[0])[name]
    return (found.state, found.lag) == ("ok", "0")


def test_one_command_is_enough_after_the_leader_is_killed(lab: ALab) -> None:
    """It finds another master and waits for the election, by itself."""
    name = leader(lab)
    lab.run("kill", name)
    lab.workers[0].barque("create", "configmap", "after-the-kill", "--from-literal=a=b")
    assert {m["metadata"]["name"] for m in objects(lab.workers[0], "configmaps")} >= {"after-the-kill"}
    lab.run("start", name)
    expect_soon(lambda: up_to_date(lab, name), 30, f"{name} has caught up")


def test_two_of_three_lost(lab: ALab) -> None:
    """Writes and fresh reads are refused in clear words, old state is served on request, and all is well afterwards."""
    staying, *lost = [leader(lab), *(other for other in MASTERS if other != leader(lab))]
    host = lab.host(staying)
    lab.run("kill", *lost)
    write = ["create", "configmap", "lost", "--from-literal=a=b"]
    refused = host.run(sys.executable, "-P", "-m", "barque.cli", *write, check=False)
    assert refused.returncode != 0
    assert "1 of 3 masters" in refused.stderr
    stale = host.barque("get", "deployment", "web", "--stale")
    assert "web" in stale
    lab.run("start", *lost)
    expect_soon(lambda: all(up_to_date(lab, name) for name in MASTERS), 60, "all masters are back")
    host.barque("create", "configmap", "found", "--from-literal=a=b")
