"""The lab itself: hosts that are one network, can be hurt in every way and mended, and leave nothing.

The tests run in order on one lab, each leaving it as it found it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.deploy.lab import host as hosts
from barque.deploy.processes import Daemon
from tests.support.cluster import expect_traces, objects, traces
from tests.support.expecting import expect_soon
from tests.support.host import Host
from tests.support.lab import IMAGE, ALab, LabHost, a_lab, expect_nothing_left, leftovers, missing

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

# A node is lost 8 s after its last word; on a busy machine it is later noticed, and later back.
LOST_S = 90


@pytest.fixture(scope="module")
def lab() -> Iterator[ALab]:
    if why := missing():
        pytest.skip(why)
    with a_lab(workers=2) as made:
        yield made


def rows(lab: ALab) -> dict[str, list[str]]:
    """The table of `lab status`, by host: state, link, daemons, and what the cluster says of it."""
    lines = [
        [cell.strip() for cell in line.split("   ") if cell.strip()] for line in lab.run("status").stdout.splitlines()
    ]
    assert lines[0] == ["HOST", "ROLE", "ADDRESS", "STATE", "LINK", "DAEMONS", "CLUSTER"]
    return {line[0]: line[3:] for line in lines[1:]}


def expect_rows(lab: ALab, **wanted: list[str]) -> None:
    """What the cluster says of a host comes in its own time, and an answer may be late."""

    def shown() -> bool:
        found = rows(lab)
        assert found.items() >= wanted.items(), found
        return True

    expect_soon(shown, LOST_S, f"the status shows {wanted}", pause_s=0.3)


def expect_pings(host: LabHost, *others: str) -> None:
    for other in others:
        expect_soon(lambda to=other: host.pings(to), 30, f"{host.name} reaches {other}")


def expect_node(lab: ALab, name: str, ready: bool) -> None:
    expect_soon(lambda: lab.node_ready(name) == ready, LOST_S, f"{name} is {'' if ready else 'not '}Ready", pause_s=0.3)


def beats(host: LabHost) -> int:
    """How much a loop in the host has counted."""
    return int(host.run("cat", "/run/beats").stdout or 0)


def test_every_host_is_a_machine_of_its_own(lab: ALab) -> None:
    expect_rows(
        lab,
        m1=["up", "up", "master", "leader"],
        w1=["up", "up", "dockerd, worker", "Ready"],
        w2=["up", "up", "dockerd, worker", "Ready"],
    )
    assert list(rows(lab)) == ["m1", "w1", "w2"]
    nodes = {node["metadata"]["name"]: node["status"] for node in objects(lab.m1, "nodes")}
    assert {name: status["addresses"][0]["address"] for name, status in nodes.items()} == {
        worker.name: worker.address for worker in lab.workers
    }
    for key in ("machineID", "bootID"):
        assert len({status["nodeInfo"][key] for status in nodes.values()}) == 2
    for host in lab.hosts:
        assert host.run("hostname").stdout == f"{host.name}\n"
        # By name and by address, and nowhere else.
        expect_pings(host, *(other.name for other in lab.hosts))
    assert not lab.m1.pings("192.0.2.1")
    for worker in lab.workers:
        assert IMAGE in worker.run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}").stdout


def test_exec_is_the_command_itself(lab: ALab, tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert lab.run("exec", "w1", "--", "ls").stdout == "here\n"
        assert lab.run("exec", "w1", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    finally:
        os.chdir(before)
    # The administrator's way in is on every host.
    assert lab.run("exec", "w2", "--", "barque", "get", "nodes", "-o", "name").stdout == "node/w1\nnode/w2\n"
    refused = lab.run("exec", "w7", "--", "true", check=False)
    assert (refused.returncode, refused.stderr) == (1, 'error: no host "w7" in this lab; there are m1, w1, w2\n')


def test_a_cut_between_two_hosts_and_its_healing(lab: ALab) -> None:
    w1, w2 = lab.workers
    lab.run("cut", "w2", "w1")
    assert (w1.pings("w2"), w2.pings("w1")) == (False, False)
    expect_pings(w1, "m1")
    expect_pings(lab.m1, "w2")
    assert [rows(lab)[name][1] for name in ("w1", "w2")] == ["cut from w2", "cut from w1"]
    lab.run("heal", "w1", "w2")
    expect_pings(w1, "w2")
    expect_pings(w2, "w1")
    assert rows(lab)["w1"][1] == "up"


def test_a_pulled_cable_is_seen_by_the_master(lab: ALab) -> None:
    w1 = lab.host("w1")
    lab.run("cut", "w2")
    assert (w1.pings("w2"), lab.m1.pings("w2")) == (False, False)
    expect_pings(w1, "m1")
    expect_node(lab, "w2", ready=False)
    wanted = ["up", "cut", "dockerd, worker", "NotReady"]
    expect_rows(lab, w1=["up", "up", "dockerd, worker", "Ready"], w2=wanted)
    lab.run("heal")
    expect_node(lab, "w2", ready=True)
    expect_pings(w1, "w2")


def test_a_paused_host_answers_pings_but_does_nothing(lab: ALab) -> None:
    w1 = lab.host("w1")
    w1.start(
        "sh",
        "-c",
        "n=0; while :; do n=$((n+1)); echo $n >/run/beats.new; mv /run/beats.new /run/beats; sleep 0.01; done",
    )
    expect_soon(lambda: beats(w1) > 3, 60, "the loop counts")
    lab.run("pause", "w1")

    def stands() -> bool:
        seen = beats(w1)
        time.sleep(0.5)
        return beats(w1) == seen

    # A step that was under way in the kernel is still taken.
    expect_soon(stands, 30, "the loop halts")
    halted = beats(w1)
    assert rows(lab)["w1"][0] == "paused"
    expect_pings(w1, "m1")
    assert beats(w1) == halted
    lab.run("resume", "w1")
    expect_soon(lambda: beats(w1) > halted, 60, "the loop goes on")
    assert rows(lab)["w1"][0] == "up"


def test_a_pod_runs_on_every_worker(lab: ALab) -> None:
    # They outlast their nodes' absence, however long a slow machine takes to bring a node back.
    for worker in lab.workers:
        lab.apply(
            f"{{apiVersion: v1, kind: Pod, metadata: {{name: on-{worker.name}, labels: {{app: web}}}}, "
            f"spec: {{nodeName: {worker.name}, terminationGracePeriodSeconds: 0, "
            "tolerations: [{operator: Exists, effect: NoExecute}], "
            f"containers: [{{name: c, image: '{IMAGE}', imagePullPolicy: Never}}]}}}}"
        )
    found = lab.wait_ready_pods("app=web", 2)
    assert sorted(pod["spec"]["nodeName"] for pod in found) == ["w1", "w2"]
    assert lab.in_pod("on-w2", "cat", "/version") == "1\n"


def test_a_host_without_power_and_its_return(lab: ALab) -> None:
    w1, w2 = lab.workers
    first = w2.pid
    containers = w2.run("docker", "ps", "-q").stdout.split()
    assert containers
    lab.run("cut", "w1", "w2")
    lab.run("kill", "w2")
    assert not Path(f"/proc/{first}").exists()
    assert not [found for found in leftovers(lab.directory).cgroups if "/w2" in found]
    assert (rows(lab)["w2"][:3], w1.pings("w2")) == (["off", "down", "-"], False)
    refused = lab.run("exec", "w2", "--", "true", check=False)
    assert refused.stderr == "error: host w2 is off: `barque lab start w2`\n"
    lab.run("start", "w2")
    assert w2.pid != first
    # It comes back to the links as they are now.
    expect_rows(lab, w2=["up", "cut from w1", "dockerd, worker", "Ready"])
    expect_pings(w2, "m1")
    assert not w1.pings("w2")
    lab.run("heal")
    expect_pings(w1, "w2")
    # Its disk is the one it had, and its pod comes back.
    assert w2.run("docker", "ps", "-aq", "--filter", f"id={containers[0]}").stdout.strip() == containers[0]
    expect_soon(lambda: w2.run("docker", "ps", "-q").stdout.split(), 60, "its pod runs again")


def test_a_daemon_that_ended_is_shown_and_started(lab: ALab) -> None:
    w1 = lab.host("w1")
    w1.kill(int(w1.run("cat", "/run/barque/worker.pid").stdout.split()[0]))
    expect_soon(lambda: rows(lab)["w1"][2] == "dockerd, worker ended", 60, "status says that the worker ended")
    # `up` mends what stopped, as long as it is asked for the same lab.
    lab.run("up", "--workers", "2")
    assert rows(lab)["w1"][2] == "dockerd, worker"
    refused = lab.run("up", "--workers", "3", check=False)
    assert (refused.returncode, "of 1 master and 2 workers: `barque lab down` first" in refused.stderr) == (1, True)


def test_kept_disks_bring_the_cluster_back(lab: ALab) -> None:
    lab.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: kept}}")
    assert "its disks are kept" in lab.run("down", "--keep").stdout
    expect_nothing_left(lab.directory)
    lab.run("up", "--workers", "2")
    assert lab.barque("get", "configmap", "kept", "-o", "name") == "configmap/kept\n"


def test_a_host_that_nobody_noted_ends_by_itself(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    hosts.lay_disk(tmp_path / "h1", "h1", "")
    seen: list[Daemon] = []

    def die(process: Daemon) -> None:
        seen.append(process)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hosts.boot(tmp_path / "h1", die)
    expect_soon(lambda: not seen[0].alive(), 60, "the first process ends without the word to begin")


@pytest.mark.parametrize("after_s", [0.4, 1.6])
def test_down_after_an_up_that_was_killed(after_s: float) -> None:
    if why := missing():
        pytest.skip(why)
    directory = Path(tempfile.mkdtemp(prefix="barque-lab-killed-"))
    command = [sys.executable, "-P", "-m", "barque.cli", "lab", "--dir", str(directory)]
    begun = subprocess.Popen([*command, "up", "--workers", "1"], stdout=subprocess.DEVNULL)
    time.sleep(after_s)
    begun.send_signal(signal.SIGKILL)
    begun.wait(60)
    for answer in ("The lab is gone.\n", f"There is no lab in {directory}.\n"):
        done = subprocess.run([*command, "down"], capture_output=True, text=True, timeout=180, check=False)
        if not directory.exists() and answer.startswith("The lab") and done.stdout.startswith("There is no lab"):
            continue  # It was killed before there was one.
        assert (done.returncode, done.stdout) == (0, answer), done.stderr
    assert not directory.exists()
    expect_nothing_left(directory)
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()


_NODES_BY_REST = """
import pathlib
from kubernetes import client, config
config.load_kube_config(str(pathlib.Path("~/.barque/kubeconfig").expanduser()))
nodes = client.CoreV1Api().list_node(_request_timeout=30).items
print(client.Configuration.get_default_copy().host, *(node.metadata.name for node in nodes))
"""


def test_up_with_nodes_is_a_lab_that_this_machine_speaks_to(host: Host) -> None:
    """On a machine of its own, where the ordinary profile and ports are free."""
    before = traces(host)
    host.barque("up", "--nodes", "2", timeout_s=300)
    assert host.barque("get", "nodes", "-o", "name") == "node/w1\nnode/w2\n"
    # By the kubeconfig that lies beside the profile, too, at the master's other port.
    assert host.run(sys.executable, "-c", _NODES_BY_REST).stdout == "https://127.0.0.1:6443 w1 w2\n"
    assert "127.0.0.1:7443" in host.barque("config", "get-contexts")
    refused = host.run("barque", "up", check=False)
    assert "a cluster of several nodes is in /var/lib/barque/lab" in refused.stderr
    host.barque("down", "--purge")
    expect_traces(host, before)
    assert host.run("barque", "get", "nodes", check=False).stderr.startswith("error: no profile at ")
    assert host.run("ls", "/var/lib/barque").stdout == ""
