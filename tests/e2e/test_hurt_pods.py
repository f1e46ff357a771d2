"""Pods that cannot run, and what befalls those that do: the words a user sees, the way back, and pods left untouched.

The tests run in order on one cluster. All pods that cannot run are there from the start, so that their back-offs pass
side by side; beside them runs a bystander, which must not feel any of it.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest
import yaml

from tests.support.cluster import condition, objects, one, pid_of, ready, restarts, running_container
from tests.support.expecting import expect_soon
from tests.support.host import Host
from tests.support.reading import reading

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

IMAGE = "barque-demo/web:1"
# Nothing listens there, so that the refusal comes at once.
ABSENT = "127.0.0.1:9/absent:1"
WORKER = "/var/lib/barque/worker"
# Disks small enough to be filled: the pods' own, what the worker remembers, and the user's.
DISKS = {f"{WORKER}/pods": "32m", f"{WORKER}/desired": "64k", f"{WORKER}/network": "64k", "/run/small": "64k"}


def a_pod(
    name: str,
    script: str = "exec sleep 3600",
    *,
    path: dict[str, str] | None = None,
    volume: dict[str, Any] | None = None,
    **container: Any,
) -> dict[str, Any]:
    """One container `c`; a `volume`, or a `path` of the host, is at /v."""
    held = {"hostPath": path} if path else volume
    spec = {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    spec |= container | ({"volumeMounts": [{"name": "v", "mountPath": "/v"}]} if held else {})
    above = {
        "terminationGracePeriodSeconds": 1,
        "containers": [spec],
        "volumes": [{"name": "v"} | held] if held else [],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": above}


def a_config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": data}


# It is not to be found unready for a machine that is slow.
PATIENT = {"httpGet": {"path": "/", "port": 8080}, "timeoutSeconds": 10}
BYSTANDER = a_pod("bystander", "exec /start", readinessProbe=PATIENT)
KEY = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "absent"}}}
CURABLE = [
    a_pod("no-image", image=ABSENT),
    a_pod("never", image="absent:2", imagePullPolicy="Never"),
    a_pod("fails", "echo attempt; test -e /v/mended && exec sleep 3600; exit 3", path={"path": "/run/fails"}),
    a_pod("no-path", path={"path": "/run/late", "type": "Directory"}),
    a_pod("unable", "ls /v && exec sleep 3600", path={"path": "/run/private"}, securityContext={"runAsUser": 1000}),
    a_pod("no-key", env=[KEY]),
    a_pod("writer", "echo kept > /v/file && exec sleep 3600", path={"path": "/run/small", "type": "Directory"}),
]
HOPELESS = [
    a_pod("no-command", command=["/no/such/program"]),
    a_pod("rooted", securityContext={"runAsNonRoot": True}),
    a_pod("too-big", resources={"requests": {"cpu": "1000", "memory": "100Ti"}}),
]


@pytest.fixture(scope="module")
def cluster(host: Host) -> Host:
    for folder, size in DISKS.items():
        host.run("mkdir", "-p", folder)
        host.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder)
    host.barque("up")
    build = "from barque.deploy import images; images.build_web('unix:///var/run/docker.sock', '1')"
    host.run(sys.executable, "-c", build)
    apply(host, BYSTANDER)
    expect_soon(lambda: ready(host, "bystander"), 60, "the bystander runs")
    return host


@pytest.fixture(scope="module")
def before(cluster: Host) -> dict[str, Any]:
    """The bystander as it was while all was well."""
    return bystander(cluster)


@pytest.fixture(scope="module")
def hurt(cluster: Host, before: dict[str, Any]) -> Host:
    """With every pod that cannot run."""
    fill(cluster, "/run/small")
    cluster.run("install", "-d", "-m", "700", "/run/private")
    apply(cluster, a_config_map(here="a"), *CURABLE, *HOPELESS)
    return cluster


def bystander(host: Host) -> dict[str, Any]:
    """Its container and since when it is ready: the same before and after what it did not feel."""
    found = one(host, "pod", "bystander")["status"]
    (container,) = found["containerStatuses"]
    since = next(c["lastTransitionTime"] for c in found["conditions"] if (c["type"], c["status"]) == ("Ready", "True"))
    return {key: container[key] for key in ("containerID", "restartCount", "ready")} | {"since": since}


def apply(host: Host, *documents: Any) -> None:
    host.barque("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))


def delete(host: Host, *pods: str) -> None:
    host.barque("delete", "pod", *pods, "--grace-period", "1")


def fill(host: Host, folder: str) -> None:
    host.run("dd", "if=/dev/zero", f"of={folder}/ballast", "bs=4k", check=False)


def clear(host: Host, folder: str) -> None:
    host.run("rm", f"{folder}/ballast")


def status(host: Host, pod: str) -> str:
    """The STATUS column."""
    return host.barque("get", "pod", pod, "--no-headers").split()[2]


def expect_status(host: Host, pod: str, *wanted: str, timeout_s: float = 120) -> None:
    def holds() -> bool:
        shown = status(host, pod)
        assert shown in wanted, shown
        return True

    expect_soon(holds, timeout_s, f"{pod} is shown as {' or '.join(wanted)}", pause_s=0.2)


def expect_told(host: Host, pod: str, *events: tuple[str, str], why: str) -> None:
    """`describe` shows these events, by reason and words, and `why` says this."""

    def told() -> bool:
        lines = host.barque("describe", "pod", pod).splitlines()
        shown = lines[lines.index("Events:") :]
        missing = [e for e in events if not any(f" {e[0]} " in line and e[1] in line for line in shown)]
        assert not missing, "\n".join(shown)
        assert why in (said := host.barque("why", pod)), said
        return True

    expect_soon(told, 120, f"what befell {pod} is told", pause_s=0.2)


def expect_ready(host: Host, *pods: str, timeout_s: float = 120) -> None:
    for pod in pods:
        expect_soon(lambda name=pod: ready(host, name), timeout_s, f"{pod} is ready", pause_s=0.2)


def failure(host: Host, *arguments: str) -> str:
    done = host.run("barque", *arguments, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def container_status(host: Host, pod: str) -> dict[str, Any]:
    found: dict[str, Any] = one(host, "pod", pod)["status"]["containerStatuses"][0]
    return found


def waiting(host: Host, pod: str) -> str:
    """What the container waits for, in words."""
    message: str = container_status(host, pod)["state"]["waiting"].get("message", "")
    return message


def test_an_image_that_cannot_be_pulled(hurt: Host) -> None:
    expect_status(hurt, "no-image", "ErrImagePull", "ImagePullBackOff")
    expect_status(hurt, "no-image", "ImagePullBackOff")
    expect_told(
        hurt, "no-image",
        ("Pulling", f'Pulling image "{ABSENT}"'), ("Failed", f'Failed to pull image "{ABSENT}": '),
        ("Failed", "Error: ErrImagePull"), ("BackOff", f'Back-off pulling image "{ABSENT}"'),
        ("Failed", "Error: ImagePullBackOff"),
        why=f"pod/no-image is Pending: the image {ABSENT} cannot be pulled",
    )  # fmt: skip
    # Between two tries; the next one's time may just have come.
    expect_soon(lambda: "connection refused" in waiting(hurt, "no-image"), 60, "why it cannot be pulled is told")
    refusal = (
        'Error from server (BadRequest): container "c" in pod "no-image" is waiting to start: '
        "trying and failing to pull image\n"
    )
    expect_soon(lambda: failure(hurt, "logs", "no-image") == refusal, 60, "there is no log, and why")
    hurt.run("docker", "tag", IMAGE, ABSENT)


def test_an_image_that_may_not_be_pulled(hurt: Host) -> None:
    expect_status(hurt, "never", "ErrImageNeverPull")
    words = 'Container image "absent:2" is not present with pull policy of Never'
    expect_told(
        hurt, "never", ("ErrImageNeverPull", words), ("Failed", "Error: ErrImageNeverPull"),
        why="pod/never is Pending: the image absent:2 cannot be pulled",
    )  # fmt: skip
    hurt.run("docker", "tag", IMAGE, "absent:2")


def test_a_command_that_fails(hurt: Host) -> None:
    expect_status(hurt, "fails", "CrashLoopBackOff")
    expect_told(
        hurt, "fails", ("BackOff", "Back-off restarting failed container c in pod fails_default("),
        why="pod/fails runs, but is not ready: container c ends again and again",
    )  # fmt: skip

    def backing_off() -> bool:
        found = container_status(hurt, "fails")
        message, ended = found["state"]["waiting"]["message"], found["lastState"]["terminated"]
        assert message.startswith("back-off "), found
        assert " restarting failed container=c pod=fails_default(" in message, found
        assert (ended["exitCode"], ended["reason"], found["restartCount"] >= 1) == (3, "Error", True), found
        return True

    # Between two tries; the next one's time may just have come.
    expect_soon(backing_off, 60, "the container backs off")
    expect_soon(lambda: hurt.barque("logs", "-p", "fails") == "attempt\n", 60, "the last try's log is kept")
    # Nothing is to be talked to in a container that is dead.
    dead = 'error: unable to upgrade connection: container not found ("c")\n'
    expect_soon(lambda: failure(hurt, "exec", "fails", "--", "ls") == dead, 60, "exec says that it is dead")
    hurt.run("touch", "/run/fails/mended")


def test_a_command_that_is_not_there(hurt: Host) -> None:
    expect_status(hurt, "no-command", "RunContainerError", "CrashLoopBackOff")
    words = 'exec: "/no/such/program": stat /no/such/program: no such file or directory'
    expect_told(hurt, "no-command", ("Failed", words), why=words)

    def start_error() -> bool:
        ended = container_status(hurt, "no-command")["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"], words in ended["message"]) == (127, "StartError", True), ended
        return True

    expect_soon(start_error, 60, "the last try's end is told")


def test_root_where_it_is_forbidden(hurt: Host) -> None:
    expect_status(hurt, "rooted", "CreateContainerConfigError")
    words = 'container has runAsNonRoot and image will run as root (pod: "rooted_default('
    expect_told(
        hurt, "rooted", ("Failed", f"Error: {words}"), why="pod/rooted is Pending: container c cannot be started"
    )
    expect_soon(lambda: waiting(hurt, "rooted").startswith(words), 60, "why it is not made is told")


def test_a_directory_of_the_host_that_is_not_there(hurt: Host) -> None:
    words = 'MountVolume.SetUp failed for volume "v" : hostPath type check failed: /run/late is not a directory'
    expect_told(hurt, "no-path", ("FailedMount", words), why="pod/no-path is Pending: its volumes cannot be mounted")
    assert status(hurt, "no-path") == "ContainerCreating"
    hurt.run("mkdir", "/run/late")


def test_a_directory_of_the_host_that_may_not_be_read(hurt: Host) -> None:
    expect_status(hurt, "unable", "CrashLoopBackOff")
    denied = "ls: can't open '/v': Permission denied\n"
    expect_soon(lambda: hurt.barque("logs", "-p", "unable") == denied, 60, "its log says why")
    hurt.run("chmod", "755", "/run/private")


def test_a_config_map_without_the_key(hurt: Host) -> None:
    expect_status(hurt, "no-key", "CreateContainerConfigError")
    words = "couldn't find key absent in ConfigMap default/map"
    expect_told(hurt, "no-key", ("Failed", f"Error: {words}"), why=f"CreateContainerConfigError: {words}")
    apply(hurt, a_config_map(absent="b"))


def test_more_than_any_node_has(hurt: Host) -> None:
    words = "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."
    expect_told(hurt, "too-big", ("FailedScheduling", words), why="pod/too-big is Pending: no node can take it")
    assert status(hurt, "too-big") == "Pending"
    scheduled = next(c for c in one(hurt, "pod", "too-big")["status"]["conditions"] if c["type"] == "PodScheduled")
    assert (scheduled["reason"], scheduled["message"]) == ("Unschedulable", words)


def test_a_volume_that_is_full(hurt: Host) -> None:
    expect_status(hurt, "writer", "CrashLoopBackOff")
    expect_soon(lambda: "No space left on device" in hurt.barque("logs", "-p", "writer"), 60, "its log says why")
    clear(hurt, "/run/small")


def test_all_run_once_the_cause_is_gone(hurt: Host) -> None:
    cured = [pod["metadata"]["name"] for pod in CURABLE]
    # By then a container may be in its longest back-off, of 300 s, where all that went before was slow.
    expect_ready(hurt, *cured, timeout_s=360)
    delete(hurt, *cured, *(pod["metadata"]["name"] for pod in HOPELESS))


def test_containers_killed_and_removed_from_outside(cluster: Host) -> None:
    blows = {"killed": ("docker", "kill"), "removed": ("docker", "rm", "-f")}
    apply(cluster, *(a_pod(name) for name in blows))
    expect_ready(cluster, *blows)
    for name, blow in blows.items():
        container = running_container(cluster, name)
        cluster.run(*blow, container)
        expect_soon(
            lambda pod=name, old=container: running_container(cluster, pod) not in ("", old), 60, "another runs"
        )
        expect_soon(lambda pod=name: restarts(cluster, pod) == 1 and ready(cluster, pod), 60, "it is ready")
        expect_told(cluster, name, ("Started", "(x2 over "), why=f"pod/{name} runs and is ready")
    delete(cluster, *blows)


def test_a_closed_port_fails_its_connection_alone(cluster: Host) -> None:
    ports = ("18080:8080", "18081:81")
    with reading(cluster, "barque", "port-forward", "bystander", *ports, "--address", "127.0.0.1") as forwarding:
        shown = "Forwarding from 127.0.0.1:18080 -> 8080\nForwarding from 127.0.0.1:18081 -> 81\n"
        expect_soon(lambda: forwarding.shown == shown, 60, "both ports are open")
        fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:%d', timeout=30).read().decode())"
        assert cluster.run(sys.executable, "-c", fetch % 18081, check=False).returncode == 1
        assert "version 1" in cluster.run(sys.executable, "-c", fetch % 18080).stdout
        assert forwarding.running
        expect_soon(lambda: "connection refused" in forwarding.said.lower(), 60, "why there is no answer")


def test_a_worker_whose_disk_is_full_makes_no_pod_it_would_forget(cluster: Host) -> None:
    worker = pid_of(cluster, "worker")
    full = (f"{WORKER}/desired", f"{WORKER}/network")
    # What is yet to be forgotten of pods that are gone would make room.
    kept = ("find", f"{WORKER}/desired", "-name", "*.json")
    expect_soon(lambda: len(cluster.run(*kept).stdout.split()) == 1, 60, "only the bystander is remembered")
    for folder in full:
        fill(cluster, folder)
    apply(cluster, a_pod("homeless"))
    expect_told(
        cluster, "homeless", ("FailedCreatePodSandBox", "No space left on device"), ("FailedCreatePodSandBox", "(x2 "),
        why="pod/homeless is Pending: its network or sandbox cannot be made",
    )  # fmt: skip
    assert status(cluster, "homeless") == "ContainerCreating"
    for folder in full:
        clear(cluster, folder)
    expect_ready(cluster, "homeless")
    uid = one(cluster, "pod", "homeless")["metadata"]["uid"]
    remembered = ("grep", "-rl", uid, *full)
    expect_soon(lambda: len(cluster.run(*remembered).stdout.split()) == 2, 60, "the worker remembers the pod")
    assert pid_of(cluster, "worker") == worker
    delete(cluster, "homeless")


def test_the_bystander_has_felt_nothing(cluster: Host, before: dict[str, Any]) -> None:
    assert bystander(cluster) == before


def test_dockerd_stopped_and_started_keeps_containers_and_heals_the_rest(cluster: Host) -> None:
    apply(cluster, a_pod("victim"))
    expect_ready(cluster, "victim")
    kept, victim = running_container(cluster, "bystander"), running_container(cluster, "victim")
    process = cluster.run("docker", "inspect", "-f", "{{.State.Pid}}", victim).stdout
    stop_dockerd(cluster)
    expect_soon(lambda: node_condition(cluster, "Ready") == "False", 60, "the node is not ready")

    def explained() -> bool:
        why = cluster.barque("why", "bystander")
        assert why.startswith("pod/bystander runs"), why
        return "the container runtime does not answer: " in why

    expect_soon(explained, 60, "why tells what the node lacks")
    assert "Docker does not answer at" in failure(cluster, "exec", "bystander", "--", "ls")
    # One container ends in its absence, and another is wanted: both have to wait.
    cluster.kill(int(process))
    apply(cluster, a_pod("late"))
    cluster.barque("up")
    # Until the worker has looked, the victim is what it was.
    expect_soon(lambda: restarts(cluster, "victim") == 1, 60, "the victim is started again")
    expect_ready(cluster, "victim", "late", "bystander")
    assert [restarts(cluster, pod) for pod in ("victim", "late", "bystander")] == [1, 0, 0]
    assert running_container(cluster, "bystander") == kept
    expect_soon(lambda: node_condition(cluster, "Ready") == "True", 60, "the node is ready")
    delete(cluster, "victim", "late")


def test_a_pod_that_fills_the_nodes_disk_is_evicted_alone(cluster: Host) -> None:
    kept = running_container(cluster, "bystander")
    apply(cluster, a_pod("hog", "cat /dev/zero > /v/ballast; exec sleep 3600", volume={"emptyDir": {}}))
    fate = lambda: one(cluster, "pod", "hog")["status"]  # noqa: E731
    expect_soon(lambda: fate().get("reason") == "Evicted", 60, "the pod is evicted", pause_s=0.2)
    hog = fate()
    assert hog["phase"] == "Failed"
    low = "The node was low on resource: ephemeral-storage. "
    assert hog["message"].startswith(low)
    expect_told(cluster, "hog", ("Evicted", low), why=low)
    expect_soon(lambda: node_condition(cluster, "DiskPressure") == "True", 60, "the node is short of disk")
    expect_soon(lambda: "disk-pressure" in cluster.barque("describe", "nodes"), 60, "the node is tainted")
    delete(cluster, "hog")
    room = ("df", "--output=avail", f"{WORKER}/pods")
    expect_soon(lambda: int(cluster.run(*room).stdout.split()[1]) > 16_000, 60, "what it took is given back")
    assert (running_container(cluster, "bystander"), restarts(cluster, "bystander")) == (kept, 0)


def test_dockerd_that_ends_its_containers_gets_them_started_again(cluster: Host) -> None:
    argv = cluster.run("cat", f"/proc/{pid_of(cluster, 'dockerd')}/cmdline").stdout.rstrip("\0").split("\0")
    stop_dockerd(cluster)
    cluster.start(*(word for word in argv if word != "--live-restore"))
    expect_soon(lambda: restarts(cluster, "bystander") == 1, 60, "its container is started again")
    expect_ready(cluster, "bystander")


def stop_dockerd(host: Host) -> None:
    pid = pid_of(host, "dockerd")
    host.kill(pid, signal.SIGTERM)
    gone = lambda: host.run("/bin/kill", "-0", str(pid), check=False).returncode != 0  # noqa: E731
    expect_soon(gone, 60, "dockerd has ended")


def node_condition(host: Host, kind: str) -> str:
    (node,) = objects(host, "nodes")
    return condition(node, kind)
