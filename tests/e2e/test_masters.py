"""Three masters in a lab: one after another is killed, cut off and paused while deployments roll and clients write, and
so are their nats-servers.

What clients were told is judged by the checker of linearisability: no acknowledged write is lost, no read goes back.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.simulation.harness.linearizability import Call, check
from tests.support.cluster import ROOT, cluster_ip, fetch, objects, one
from tests.support.expecting import expect_soon
from tests.support.history_client import calls_of
from tests.support.host import end_group
from tests.support.lab import IMAGE, REPLICAS, WEB, ALab, LabHost, a_lab, missing

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

MASTERS = ["m1", "m2", "m3"]


@pytest.fixture(scope="module")
def lab() -> Iterator[ALab]:
    if why := missing():
        pytest.skip(why)
    with a_lab(2, "--masters", "3") as made:
        made.apply(WEB)
        made.wait_ready_pods("app=web", REPLICAS)
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
    shown = host.run("barque", "cluster", "members", check=False)
    assert shown.stdout, shown.stderr
    header, *rows = [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in shown.stdout.splitlines()]
    assert header == ["NAME", "ID", "ADDRESS", "ROLE", "MATCH", "LAG", "HEARD", "STATE"]
    return {row[0]: Seen(*row) for row in rows}


def leader(lab: ALab) -> str:
    """The master that leads, as a worker's host hears it."""

    def leading() -> list[str]:
        return [member.name for member in members(lab.workers[0]).values() if member.role == "leader"]

    return expect_soon(leading, 60, "a leader")[0]


@contextmanager
def clients(lab: ALab, prefix: str, history: list[Call]) -> Iterator[None]:
    """Clients on a worker's host meanwhile, with objects of their own; what they were told is added to `history`."""
    host = lab.workers[0]
    process = subprocess.Popen(
        host.argv([sys.executable, "-m", "tests.support.history_client", prefix]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        env=host.environment({"PYTHONPATH": str(ROOT)}),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield
        told, _ = process.communicate(timeout=180)
        assert process.returncode == 0, "the clients failed: see the test's standard error"
        history += calls_of(told)
    finally:
        end_group(process, signal.SIGKILL)


def roll(lab: ALab, version: int) -> None:
    """Begin another rollout, from a worker's host: any master may be away."""
    patch = json.dumps({"spec": {"template": {"metadata": {"annotations": {"version": str(version)}}}}})
    command = ("patch", "deployment", "web", "--type", "merge", "-p", patch)
    # Whether it was carried out may be unknown where the leader falls meanwhile: it may be given again.
    expect_soon(lambda: lab.workers[1].barque(*command), 60, "the template is changed")


def rolled(lab: ALab, version: int) -> bool:
    """Whether all pods are of that version, and Ready."""
    host = lab.workers[1]
    found = one(host, "deployment", "web")
    status = found["status"]
    assert found["spec"]["template"]["metadata"]["annotations"]["version"] == str(version), found["spec"]["template"]
    assert status.get("observedGeneration") == found["metadata"]["generation"], status
    assert status.get("updatedReplicas") == status.get("availableReplicas") == status.get("replicas") == REPLICAS, (
        status
    )
    return True


@pytest.mark.flaky(reruns=0)  # What is lost is lost: no second try.
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
            expect_soon(lambda v=version: rolled(lab, v), 180, f"version {version} is out without {name}")  # type: ignore[misc]
            lab.run(*mending, name)
            expect_soon(lambda n=name: up_to_date(lab, n), 120, f"{name} has caught up")  # type: ignore[misc]
    written = [call for call in history if call.ok and call.value]
    assert len(written) > 50, "the clients hardly wrote"
    # On a slow machine more calls end without an answer, and more orders may have been.
    verdict = check(history, budget=2_000_000)
    assert verdict.ok, str(verdict)


def up_to_date(lab: ALab, name: str) -> bool:
    found = members(lab.workers[0])
    assert (found[name].state, found[name].lag) == ("ok", "0"), found
    return True


def test_one_command_is_enough_after_the_leader_is_killed(lab: ALab) -> None:
    """It finds another master and waits for the election, by itself."""
    name = leader(lab)
    lab.run("kill", name)
    lab.workers[0].barque("create", "configmap", "after-the-kill", "--from-literal=a=b")
    assert {m["metadata"]["name"] for m in objects(lab.workers[0], "configmaps")} >= {"after-the-kill"}
    lab.run("start", name)
    expect_soon(lambda: up_to_date(lab, name), 120, f"{name} has caught up")


def test_two_of_three_lost(lab: ALab) -> None:
    """Writes and fresh reads are refused in clear words, old state is served on request, and all is well afterwards."""
    staying = leader(lab)
    lost = [name for name in MASTERS if name != staying]
    host = lab.host(staying)
    lab.run("kill", *lost)
    write = ["create", "configmap", "lost", "--from-literal=a=b"]

    def refused() -> bool:
        done = host.run(sys.executable, "-P", "-m", "barque.cli", *write, check=False)
        assert (done.returncode != 0, "1 of 3 masters" in done.stderr) == (True, True), done
        return True

    # At first the one that stays may believe that it still leads.
    expect_soon(refused, 60, "a write is refused with the reason")
    stale = host.barque("get", "deployment", "web", "--stale")
    assert "web" in stale
    lab.run("start", *lost)
    expect_soon(lambda: all(up_to_date(lab, name) for name in MASTERS), 120, "all masters are back")
    host.barque("create", "configmap", "found", "--from-literal=a=b")


# Two pods whose use is known: one that is held to a fifth of a processor, and one that keeps 64 MiB in memory.
USERS = f"""
apiVersion: v1
kind: Pod
metadata: {{name: burns}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: burns
      image: {IMAGE}
      imagePullPolicy: Never
      command: [sh, -c, "while :; do :; done"]
      resources: {{limits: {{cpu: 200m}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: holds}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: holds
      image: {IMAGE}
      imagePullPolicy: Never
      command: [sh, -c, "dd if=/dev/zero of=/held/zeros bs=1M count=64 && sleep 3600"]
      volumeMounts: [{{name: held, mountPath: /held}}]
  volumes: [{{name: held, emptyDir: {{medium: Memory}}}}]
"""
NATS_PID = "/var/lib/barque/master/bus/nats.pid"


def asking(host: LabHost, master: str) -> list[str]:
    """`barque` on that host, of that one master."""
    address = host.lab.host(master).address
    path = f"/run/barque/only-{master}"
    program = (
        "import msgspec, pathlib\nfrom barque.client import profile\n"
        f"one = msgspec.structs.replace(profile.load(), masters=['{address}:7443'])\n"
        f"one.save(pathlib.Path('{path}'))"
    )
    host.run(sys.executable, "-P", "-c", program)
    return ["--config", path]


def reasons(host: LabHost, pod: str, *of_master: str) -> set[str]:
    """Of the Events about a pod."""
    events = objects(host, "events", "--field-selector", f"involvedObject.name={pod}", *of_master)
    return {event["reason"] for event in events}


def bus_fault(host: LabHost, *of_master: str) -> str:
    """What `cluster status` says of a master's bus; "" where it is well."""
    rows = host.barque(*of_master, "cluster", "status", check=False).splitlines()
    (row,) = [line for line in rows if line.startswith("bus ")] or ["bus  failing  not answered"]
    _, state, said = row.split(maxsplit=2) if len(row.split(maxsplit=2)) == 3 else (*row.split(), "")
    return "" if state == "ok" else said


def expect_well(host: LabHost, *of_master: str) -> None:
    """That master says that its bus is well."""

    def well() -> bool:
        assert not (fault := bus_fault(host, *of_master)), fault
        return True

    expect_soon(well, 120, f"the bus is well for barque {' '.join(of_master)}")


def nats_pid(master: LabHost) -> int:
    """Of the nats-server there, in that host."""
    return int(json.loads(master.run("cat", NATS_PID).stdout)["pid"])


def run_pod(host: LabHost, name: str) -> None:
    """A bare pod of the test image, made from that host."""
    host.barque("run", name, f"--image={IMAGE}", "--image-pull-policy=Never", "--restart=Never")


def expect_life(host: LabHost, pod: str, *of_master: str) -> None:
    """That master tells what became of the pod, from its scheduling to its start; it may have to wait for the bus."""

    def told() -> bool:
        missing = {"Scheduled", "Pulled", "Created", "Started"} - reasons(host, pod, *of_master)
        assert not missing, f"nothing is told of {missing}; the bus: {bus_fault(host, *of_master) or 'ok'}"
        return True

    expect_soon(told, 120, f"the life of {pod}")


def test_events_tell_the_life_of_a_pod_at_every_master(lab: ALab) -> None:
    """Of what begins now: what a master had not yet told when it was killed, nobody tells. Whoever leads tells of that
    itself, and of the nodes.
    """
    host = lab.workers[0]
    run_pod(host, "told")
    host.barque("create", "deployment", "crew", f"--image={IMAGE}")
    for name in MASTERS:
        only = asking(host, name)
        expect_life(host, "told", *only)
        expect_soon(lambda at=only: is_described(host, "told", *at), 60, f"{name} describes it")  # type: ignore[misc]
    wanted = {"LeaderElection", "RegisteredNode", "ScalingReplicaSet", "SuccessfulCreate"}

    def told() -> bool:
        said = {event["reason"] for event in objects(host, "events", "-A")}
        assert wanted <= said, said
        return True

    expect_soon(told, 120, f"{wanted} are told")
    lab.barque("delete", "deployment", "crew")
    lab.barque("delete", "pod", "told", "--grace-period=0", "--force")


def is_described(host: LabHost, pod: str, *of_master: str) -> bool:
    described = host.barque(*of_master, "describe", "pod", pod)
    assert f"Successfully assigned default/{pod}" in described, described
    assert "Started" in described.partition("Events:")[2], described
    return True


def test_nats_killed_on_each_master_in_turn(lab: ALab) -> None:
    """Pods, the service and writes feel nothing; Events go on at every master, and the feed tells each change once."""
    host = lab.workers[0]
    expect_soon(lambda: len(lab.pods("-l", "app=web")) == REPLICAS, 60, "no pod of an earlier rollout is there")
    before = {pod["metadata"]["uid"]: restarts_of(pod) for pod in lab.pods("-l", "app=web")}
    page = f"http://{cluster_ip(host)}/"
    with followed(host, "core.configmaps.default.>") as heard:
        for name in MASTERS:
            master = lab.host(name)
            pid = expect_soon(lambda at=master: nats_pid(at), 60, f"the nats-server of {name}")  # type: ignore[misc]
            master.kill(pid)
            host.barque("create", "configmap", f"bus-{name}", "--from-literal=a=b", timeout_s=30)
            assert len(fetch(host, page, 10)) == 10
            run_pod(host, f"bus-{name}")
            only = asking(host, name)
            expect_soon(lambda at=master, old=pid: nats_pid(at) != old, 120, f"{name} has another nats-server")  # type: ignore[misc]
            expect_well(host, *only)
            expect_life(host, f"bus-{name}", *only)
        made = [f"bus-{name}" for name in MASTERS]
        expect_soon(lambda: set(made) <= set(names_in(heard)), 60, "the feed has told of every ConfigMap")
    assert [name for name in names_in(heard) if name.startswith("bus-")] == made
    assert {pod["metadata"]["uid"]: restarts_of(pod) for pod in lab.pods("-l", "app=web")} == before
    lab.barque("delete", "pods", *made, "--grace-period=0", "--force")


def restarts_of(pod: dict[str, Any]) -> int:
    return sum(status["restartCount"] for status in pod["status"]["containerStatuses"])


@contextmanager
def followed(host: LabHost, subject: str) -> Iterator[Path]:
    """Follow the change feed from a worker's host into a file meanwhile, one JSON message a line."""
    heard = host.folder / "feed"
    with heard.open("wb") as output:
        process = subprocess.Popen(
            host.argv(["barque", "feed", subject, "-o", "json"]), stdin=subprocess.DEVNULL, stdout=output,
            env=host.environment(), start_new_session=True,
        )  # fmt: skip
        try:
            host.barque("create", "configmap", "feed-begun", "--from-literal=a=b")

            def begun() -> bool:
                host.barque("label", "configmap", "feed-begun", "--overwrite", f"seen={len(names_in(heard))}")
                return "feed-begun" in names_in(heard)

            expect_soon(begun, 60, "the feed is followed", pause_s=0.5)
            yield heard
        finally:
            end_group(process)


def names_in(heard: Path) -> list[str]:
    """Of the objects in whole messages, in order."""
    whole, _, _ = heard.read_text().rpartition("\n")
    return [
        message["object"]["metadata"]["name"] for message in map(json.loads, whole.splitlines()) if message["object"]
    ]


def test_top_agrees_with_the_control_groups(lab: ALab) -> None:
    lab.apply(USERS)
    expect_soon(lambda: {"burns", "holds"} <= {p["metadata"]["name"] for p in lab.ready_pods()}, 120, "they run")
    host = lab.workers[0]
    expected = {"burns": (0.2, 0.0), "holds": (0.0, 64.0)}

    def top() -> dict[str, tuple[float, float]]:
        rows = [row.split() for row in host.barque("top", "pods", "--no-headers", check=False).splitlines()]
        return {name: (int(cpu.removesuffix("m")) / 1000, float(used.removesuffix("Mi"))) for name, cpu, used in rows}

    def agrees() -> bool:
        seen = top()
        if not expected.keys() <= seen.keys():
            return False
        (burnt, _), (_, held) = seen["burns"], seen["holds"]
        assert (abs(burnt - 0.2) <= 0.02, abs(held - 64) <= 3.2) == (True, True), seen
        return True

    expect_soon(agrees, 120, "top says what the control groups hold them to", pause_s=1)

    def nodes_shown() -> bool:
        shown = host.barque("top", "nodes")
        assert all(worker.name in shown for worker in lab.workers), shown
        return True

    expect_soon(nodes_shown, 60, "top shows every node", pause_s=1)
    lab.barque("delete", "pods", "burns", "holds", "--grace-period=0", "--force")
