"""The first voyage, end to end, by the commands a user types; the tests of this file run in order on one cluster."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys

import pytest

from tests.support.cluster import (
    ROOT,
    WEB,
    cluster_ip,
    condition,
    container_ids,
    expect_traces,
    fetch,
    kill,
    objects,
    one,
    pid_of,
    pod_names,
    ready,
    restarts,
    running_container,
    traces,
    write_maps,
)
from tests.support.expecting import expect_soon
from tests.support.host import ADDRESS, Host

_ACCOUNT_FILES = ("token", "ca.crt", "namespace")
_KNOWN_AS = """
import json, pathlib, sys, tempfile
from kubernetes import client
from kubernetes.config.incluster_config import InClusterConfigLoader
given = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    token, ca = (pathlib.Path(folder, name) for name in ("token", "ca"))
    token.write_text(given["token"])
    ca.write_text(given["ca"])
    InClusterConfigLoader(str(token), str(ca), environ=given["env"]).load_and_set()
    review = client.AuthenticationV1Api().create_self_subject_review({}, _request_timeout=30)
    print(json.dumps(review.status.user_info.to_dict()))
"""
pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def before(host: Host) -> dict[str, str]:
    """What the host's kernel holds before anything of Barque was there."""
    return traces(host)


@pytest.fixture(scope="module")
def cluster(host: Host, before: dict[str, str]) -> Host:
    host.barque("up")
    build = "from barque.deploy import images; [images.build_web('unix:///var/run/docker.sock', v) for v in '12']"
    host.run(sys.executable, "-c", build)
    host.barque("apply", "-f", "-", stdin=WEB)
    host.barque("rollout", "status", "deployment/web", "--timeout", "100s")
    return host


def test_node_is_ready(cluster: Host) -> None:
    nodes = objects(cluster, "nodes")
    assert [condition(node, "Ready") for node in nodes] == ["True"]
    assert nodes[0]["status"]["addresses"][0] == {"type": "InternalIP", "address": ADDRESS}


def test_three_replicas_answer_at_the_service_address(cluster: Host) -> None:
    pods = objects(cluster, "pods", "-l", "app=web")
    assert len({pod["status"]["podIP"] for pod in pods}) == 3
    names = {pod["metadata"]["name"] for pod in pods}
    url = f"http://{cluster_ip(cluster)}/"
    answered = lambda: {page.rpartition(" ")[2] for page in fetch(cluster, url, 40)}  # noqa: E731
    expect_soon(lambda: answered() == names, 60, f"the address leads to each of {names}")


def test_node_port_answers_on_the_nodes_address(cluster: Host) -> None:
    expect_soon(lambda: "version 1" in fetch(cluster, f"http://{ADDRESS}:30080/")[0], 60, "the node port answers")


def test_every_pod_reaches_the_service_and_itself_through_it(cluster: Host) -> None:
    url = f"http://{cluster_ip(cluster)}/"
    for pod in pod_names(cluster):
        pages = [cluster.barque("exec", pod, "--", "timeout", "30", "wget", "-q", "-O-", url) for _ in range(8)]
        assert all("version 1" in page for page in pages)


def test_values_of_a_config_map_reach_the_environment(cluster: Host) -> None:
    assert "GREETING=Ahoy from Barque" in cluster.barque("exec", pod_names(cluster)[0], "--", "env")


def test_a_pod_has_the_token_of_its_account_and_the_clusters_ca(cluster: Host) -> None:
    pod, folder = pod_names(cluster)[0], "/var/run/secrets/kubernetes.io/serviceaccount"
    token, ca, namespace = (cluster.barque("exec", pod, "--", "cat", f"{folder}/{f}") for f in _ACCOUNT_FILES)
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["sub"] == "system:serviceaccount:default:default"
    assert claims["exp"] - claims["iat"] == 3607
    assert claims["kubernetes.io"]["pod"] == {"name": pod, "uid": one(cluster, "pod", pod)["metadata"]["uid"]}
    assert claims["kubernetes.io"]["node"]["name"] == objects(cluster, "nodes")[0]["metadata"]["name"]
    assert ca == one(cluster, "configmap", "kube-root-ca.crt")["data"]["ca.crt"]
    assert namespace == "default"


def test_a_pod_is_known_at_the_api_by_its_token(cluster: Host) -> None:
    """By the official Python client, in the pod's network, with the environment and the files that the pod has."""
    pod, folder = pod_names(cluster)[0], "/var/run/secrets/kubernetes.io/serviceaccount"
    token, ca, _ = (cluster.barque("exec", pod, "--", "cat", f"{folder}/{f}") for f in _ACCOUNT_FILES)
    env = dict(line.split("=", 1) for line in cluster.barque("exec", pod, "--", "env").splitlines() if "=" in line)
    assert env["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    given = json.dumps({"token": token, "ca": ca, "env": env})
    pid = cluster.run("docker", "inspect", "-f", "{{.State.Pid}}", running_container(cluster, pod)).stdout.strip()
    inside = ("nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", _KNOWN_AS)
    known = json.loads(cluster.run(*inside, stdin=given).stdout)
    assert known["username"] == "system:serviceaccount:default:default"
    assert "system:serviceaccounts:default" in known["groups"]
    assert known["extra"]["authentication.kubernetes.io/pod-name"] == [pod]


def test_the_nodes_lease_is_kept(cluster: Host) -> None:
    (node,) = [node["metadata"]["name"] for node in objects(cluster, "nodes")]

    def holders() -> list[str]:
        return [lease["spec"]["holderIdentity"] for lease in objects(cluster, "leases", "-n", "kube-node-lease")]

    expect_soon(lambda: holders() == [node], 60, "the node has its lease")


def test_exec_passes_the_exit_code_and_the_input_on(cluster: Host) -> None:
    pod = pod_names(cluster)[0]
    assert cluster.run("barque", "exec", pod, "--", "sh", "-c", "exit 7", check=False).returncode == 7
    assert cluster.barque("exec", "-i", pod, "--", "cat", stdin="through the pipe") == "through the pipe"
    assert cluster.barque("exec", pod, "--", "hostname").strip() == pod


def test_exec_in_a_terminal(cluster: Host) -> None:
    # The size follows the command.
    wait = 'n=0; until [ "$(stty size)" = "20 90" ] || [ $n = 500 ]; do n=$((n+1)); sleep 0.1; done'
    command = f"stty cols 90 rows 20; barque exec -it {pod_names(cluster)[0]} -- sh -c '{wait}; test -t 0 && stty size'"
    shown = cluster.run("script", "-qec", command, "/dev/null").stdout
    assert "20 90" in shown


def test_describe_tells_the_events(cluster: Host) -> None:
    pod = pod_names(cluster)[0]

    def told() -> bool:
        text = cluster.barque("describe", "pod", pod)
        return all(reason in text for reason in ("Scheduled", "Created", "Started"))

    expect_soon(told, 60, "describe shows Scheduled, Created and Started")
    about_nodes = ("events", "--field-selector", "involvedObject.kind=Node")
    begun = lambda: "Starting" in [event["reason"] for event in objects(cluster, *about_nodes)]  # noqa: E731
    expect_soon(begun, 60, "the worker has told that it started")


def test_a_killed_container_is_restarted(cluster: Host) -> None:
    pod = pod_names(cluster)[0]
    container = running_container(cluster, pod)
    cluster.run("docker", "kill", container)
    expect_soon(lambda: restarts(cluster, pod) == 1 and ready(cluster, pod), 60, "the container runs again")
    assert running_container(cluster, pod) != container


def test_a_container_removed_behind_the_worker_returns(cluster: Host) -> None:
    pod = pod_names(cluster)[1]
    container = running_container(cluster, pod)
    cluster.run("docker", "rm", "-f", container)
    expect_soon(lambda: running_container(cluster, pod) not in ("", container), 60, "another container took its place")
    expect_soon(lambda: ready(cluster, pod), 60, "the pod is ready again")


def test_a_removed_field_goes_away(cluster: Host) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shrinking}\ndata: {kept: a, removed: b}\n"
    cluster.barque("apply", "-f", "-", stdin=text)
    assert "configured" in cluster.barque("apply", "-f", "-", stdin=text.replace(", removed: b", ""))
    assert one(cluster, "configmap", "shrinking")["data"] == {"kept": "a"}
    assert "unchanged" in cluster.barque("apply", "-f", "-", stdin=text.replace(", removed: b", ""))


def test_secret_and_config_map_volumes(cluster: Host) -> None:
    cluster.barque("apply", "-f", "-", stdin=VOLUMES)
    expect_soon(lambda: ready(cluster, "reader"), 60, "the pod is ready")
    shown = lambda: cluster.barque("exec", "reader", "--", "cat", "/config/motto", "/secret/word", "/scratch/made")  # noqa: E731
    expect_soon(lambda: shown() == "fair winds\nswordfish\nby the container\n", 60, "the files are as they should be")
    uid = one(cluster, "pod", "reader")["metadata"]["uid"]
    cluster.barque("delete", "pod", "reader", "--grace-period", "1")
    assert uid not in cluster.run("findmnt", "-rno", "TARGET").stdout


def test_an_image_from_a_file_runs_with_volumes_of_every_kind(cluster: Host) -> None:
    arguments = "'unix:///var/run/docker.sock', 'barque-demo/carried:1', {'mark': ''}"
    build = f"from barque.deploy import images; images.build_busybox({arguments})"
    cluster.run(sys.executable, "-c", build)
    cluster.run("docker", "save", "-o", "/run/carried.tar", "barque-demo/carried:1")
    cluster.run("docker", "rmi", "barque-demo/carried:1")
    assert ": loaded barque-demo/carried:1\n" in cluster.barque("image", "load", "/run/carried.tar")
    cluster.run("install", "-d", "-m", "777", "/run/carried")
    cluster.barque("apply", "-f", "-", stdin=CARRIED)
    cluster.barque("wait", "--for=condition=Ready", "pod/carried", "--timeout", "100s")

    def told() -> bool:
        said = cluster.barque("logs", "carried").splitlines()
        assert said == ["carried", 'tier="hold"', "-rw-r----- 1000 3000", "kept"], said
        return True

    expect_soon(told, 60, "it finds what it was given")
    assert cluster.run("cat", "/run/carried/of/carried/log").stdout == "kept\n"
    in_use = cluster.run("barque", "image", "rm", "barque-demo/carried:1", check=False)
    assert (in_use.returncode, "Error from server (Conflict)" in in_use.stderr) == (1, True)
    cluster.barque("delete", "pod", "carried")
    expect_soon(lambda: cluster.barque("image", "rm", "barque-demo/carried:1"), 60, "its image may go")
    assert "barque-demo/carried" not in cluster.barque("image", "ls")


def test_rolling_update_never_goes_below_what_was_promised(cluster: Host) -> None:
    cluster.barque("apply", "-f", "-", stdin=WEB.replace("web:1", "web:2"))
    cluster.barque("rollout", "status", "deployment/web", "--timeout", "100s")
    url = f"http://{cluster_ip(cluster)}/"
    expect_soon(lambda: all("version 2" in page for page in fetch(cluster, url, 10)), 60, "version 2 answers alone")
    expect_soon(lambda: len(pod_names(cluster)) == 3, 60, "the pods of version 1 are gone")


def test_scale_and_logs(cluster: Host) -> None:
    cluster.barque("scale", "deployment", "web", "--replicas", "4")
    cluster.barque("rollout", "status", "deployment/web", "--timeout", "100s")
    assert len(pod_names(cluster)) == 4
    cluster.barque("apply", "-f", "-", stdin=TALKER)
    expect_soon(lambda: "second line" in cluster.barque("logs", "talker", check=False), 60, "the log is read")
    assert cluster.barque("logs", "talker", "--tail", "1") == "second line\n"
    cluster.barque("delete", "pod", "talker", "--grace-period", "1")


def test_faults_of_pods_are_told(cluster: Host) -> None:
    cluster.barque("apply", "-f", "-", stdin=FAULTY)
    expected = {
        "no-image": ("ErrImagePull", "ImagePullBackOff"),
        "no-command": ("RunContainerError", "StartError", "CrashLoopBackOff"),
        "fails": ("Error", "CrashLoopBackOff"),
        "no-map": ("CreateContainerConfigError",),
        "too-big": ("Pending",),
    }

    def told() -> bool:
        rows = {line.split()[0]: line.split()[2] for line in cluster.barque("get", "pods").splitlines()[1:]}
        wrong = {name: rows.get(name) for name, reasons in expected.items() if rows.get(name) not in reasons}
        assert not wrong, wrong
        return True

    expect_soon(told, 60, "every fault shows in the STATUS column")
    why = lambda: cluster.barque("describe", "pod", "too-big")  # noqa: E731
    expect_soon(lambda: "Insufficient cpu" in why(), 60, "why no node takes it is told")
    cluster.barque("delete", "pod", *expected, "--grace-period", "1")


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        ("kind: [", "standard input:2:1: "),
        (WEB.replace("replicas: 3", "replicsa: 3"), 'unknown field "spec.replicsa"'),
        ("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n", "barque does not serve Job of batch/v1 yet"),
        (WEB.replace("name: web-page", "name: Web_Page"), "Invalid value"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n", "spec.containers: Required value"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
            "spec: {runtimeClassName: kata, containers: [{name: c, image: i}]}\n",
            "spec.runtimeClassName: Forbidden",
        ),
    ],
    ids=["yaml", "field", "kind", "name", "required", "absent-feature"],
)
def test_a_bad_manifest_is_refused_in_clear_words(cluster: Host, manifest: str, complaint: str) -> None:
    done = cluster.run("barque", "apply", "-f", "-", check=False, stdin=manifest)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_workers_certificate_is_good_for_its_own_pods_only(cluster: Host) -> None:
    probe = """
import asyncio
from pathlib import Path
from barque.api.errors import ApiError
from barque.api.types.core_v1 import Node, Pod, Secret
from barque.client import profile
from barque.client.remote import connect
async def main():
    own = profile.load(Path("/var/lib/barque/worker/profile.yaml"))
    client = connect(own).client
    print(len((await client.list(Pod, fields=f"spec.nodeName={own.identity.subject.node}")).items))
    for attempt in (client.list(Pod), client.list(Secret), client.delete(Node, "other")):
        try:
            await attempt
            print("allowed")
        except ApiError as error:
            print(error.code)
asyncio.run(main())
"""
    answers = cluster.run(sys.executable, "-c", probe).stdout.split()
    assert int(answers[0]) >= 4
    assert answers[1:] == ["403", "403", "403"]


def test_master_killed_in_the_middle_loses_nothing_and_watches_resume(cluster: Host) -> None:
    following = subprocess.Popen(
        cluster.argv([sys.executable, str(ROOT / "tests" / "e2e" / "following.py")]),
        env=cluster.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert following.stdin is not None
    assert following.stdout is not None
    assert following.stdout.readline() == "synced\n"
    pods_before = container_ids(cluster)

    acknowledged = write_maps(cluster, "early", 20)
    kill(cluster, "master")
    cluster.barque("up")
    acknowledged += write_maps(cluster, "late", 20)

    present = {item["metadata"]["name"] for item in objects(cluster, "configmaps")}
    assert set(acknowledged) <= present
    saw = json.loads(following.communicate(f"{acknowledged[-1]}\n", timeout=120)[0])
    assert saw["lists"] == 1
    assert set(acknowledged) <= set(saw["told"])
    assert len(saw["told"]) == len(set(saw["told"]))
    assert container_ids(cluster) == pods_before


def test_worker_killed_adopts_what_runs(cluster: Host) -> None:
    pods_before = container_ids(cluster)
    restarts_before = {name: restarts(cluster, name) for name in pod_names(cluster)}
    kill(cluster, "worker")
    cluster.barque("up")
    cluster.barque("scale", "deployment", "web", "--replicas", "3")
    expect_soon(lambda: len(pod_names(cluster)) == 3, 60, "the restarted worker stops a pod")
    assert container_ids(cluster) < pods_before
    after = {name: restarts(cluster, name) for name in pod_names(cluster)}
    assert after == {name: restarts_before[name] for name in after}


def test_pods_heal_while_the_master_is_away(cluster: Host) -> None:
    pod = pod_names(cluster)[0]
    container = running_container(cluster, pod)
    kill(cluster, "master")
    cluster.run("docker", "rm", "-f", container)
    expect_soon(lambda: running_container(cluster, pod) not in ("", container), 60, "the worker replaced the container")
    cluster.barque("up")
    expect_soon(lambda: ready(cluster, pod), 60, "the pod is ready again")


def test_a_silent_node_is_lost_and_its_endpoints_leave(cluster: Host) -> None:
    worker = pid_of(cluster, "worker")

    def no_ready_endpoint() -> bool:
        slices = objects(cluster, "endpointslices", "-l", "kubernetes.io/service-name=web")
        return not any(e["conditions"]["ready"] for s in slices for e in s.get("endpoints", ()))

    cluster.kill(worker, signal.SIGSTOP)
    try:
        expect_soon(lambda: condition(objects(cluster, "nodes")[0], "Ready") == "Unknown", 60, "the node is lost")
        expect_soon(no_ready_endpoint, 60, "no endpoint is ready")
    finally:
        cluster.kill(worker, signal.SIGCONT)
    expect_soon(lambda: condition(objects(cluster, "nodes")[0], "Ready") == "True", 60, "the node is back")
    expect_soon(lambda: all(ready(cluster, pod) for pod in pod_names(cluster)), 120, "its pods are ready")


def test_up_twice_changes_nothing(cluster: Host) -> None:
    pids = (pid_of(cluster, "master"), pid_of(cluster, "worker"))
    cluster.barque("up")
    assert (pid_of(cluster, "master"), pid_of(cluster, "worker")) == pids


def test_deleting_the_deployment_takes_its_pods_along(cluster: Host) -> None:
    cluster.barque("delete", "deployment", "web")
    expect_soon(lambda: not pod_names(cluster), 60, "the pods are gone")
    url = f"http://{cluster_ip(cluster)}/"
    fetched = f"import urllib.request; urllib.request.urlopen('{url}', timeout=10)"
    refused = lambda: "Connection refused" in cluster.run(sys.executable, "-c", fetched, check=False).stderr  # noqa: E731
    expect_soon(refused, 60, "the address refuses connections")


def test_down_and_up_again_bring_the_same_cluster_back(cluster: Host) -> None:
    cluster.barque("apply", "-f", "-", stdin=WEB)
    cluster.barque("rollout", "status", "deployment/web", "--timeout", "100s")
    cluster.barque("down")
    cluster.barque("up")
    url = f"http://{cluster_ip(cluster)}/"
    expect_soon(lambda: "version 1" in fetch(cluster, url)[0], 60, "the deployment of before answers again")


def test_down_leaves_nothing(cluster: Host, before: dict[str, str]) -> None:
    cluster.barque("down", "--purge")
    expect_traces(cluster, before)


def test_down_again_has_nothing_to_do(cluster: Host) -> None:
    assert cluster.barque("down") == "The cluster is down.\n"


def test_without_docker_up_says_what_to_install(cluster: Host, before: dict[str, str]) -> None:
    done = cluster.run("env", "PATH=/bin:/usr/bin", sys.executable, "-P", "-m", "barque.cli", "up", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: no Docker on this machine: apt-get install docker.io, then run this again\n"
    expect_traces(cluster, before)


def test_a_failed_up_leaves_nothing_half_made(cluster: Host, before: dict[str, str]) -> None:
    done = cluster.run("barque", "up", "--node-name", "Not_A_Name", check=False)
    assert done.returncode == 1
    assert "node name 'Not_A_Name' is not a lower-case DNS name" in done.stderr
    expect_traces(cluster, before)


def test_a_worker_that_cannot_start_is_taken_back_with_all_it_made(cluster: Host, before: dict[str, str]) -> None:
    programs = "dockerd containerd containerd-shim-runc-v2 runc"
    cluster.run("bash", "-c", f"mkdir -p /run/few; for each in {programs}; do ln -sf $(which $each) /run/few; done")
    up = [sys.executable, "-P", "-m", "barque.cli", "up"]
    done = cluster.run("env", "PATH=/run/few:/bin:/usr/bin", *up, check=False)
    assert done.returncode == 1
    assert "install the package iptables" in done.stderr
    assert "Traceback" not in done.stderr
    expect_traces(cluster, before)
    assert cluster.run("ls", "/var/lib/barque").stdout.split() == ["master"]


def test_a_taken_port_is_named(cluster: Host) -> None:
    with cluster.start(sys.executable, "-m", "http.server", "7443") as taken:
        try:
            expect_soon(lambda: "7443" in cluster.run("ss", "-ltn").stdout, 60, "the port is taken")
            done = cluster.run("barque", "up", check=False)
        finally:
            taken.kill()
    assert done.returncode == 1
    assert "port 7443 is taken" in done.stderr


VOLUMES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: mottos}
data: {motto: "fair winds\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: words}
stringData: {word: "swordfish\\n"}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  containers:
    - name: reader
      image: barque-demo/web:1
      command: [sh, -c, "echo by the container > /scratch/made; exec sleep 1000"]
      volumeMounts:
        - {name: config, mountPath: /config}
        - {name: secret, mountPath: /secret, readOnly: true}
        - {name: scratch, mountPath: /scratch}
  volumes:
    - {name: config, configMap: {name: mottos}}
    - {name: secret, secret: {secretName: words}}
    - {name: scratch, emptyDir: {medium: Memory}}
"""

CARRIED = """
apiVersion: v1
kind: Pod
metadata: {name: carried, labels: {tier: hold}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000, fsGroup: 3000}
  containers:
    - name: reader
      image: barque-demo/carried:1
      imagePullPolicy: Never
      env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
      command:
        - sh
        - -c
        - |
          cat /about/name; echo; cat /about/labels; echo
          echo > /scratch/mine; busybox chmod 640 /scratch/mine
          busybox stat -c '%A %u %g' /scratch/mine
          echo kept > /outside/log; cat /outside/log
          exec sleep 1000
      volumeMounts:
        - {name: about, mountPath: /about}
        - {name: scratch, mountPath: /scratch}
        - {name: outside, mountPath: /outside, subPathExpr: of/$(NAME)}
  volumes:
    - name: about
      projected:
        sources:
          - downwardAPI:
              items:
                - {path: name, fieldRef: {fieldPath: metadata.name}}
                - {path: labels, fieldRef: {fieldPath: metadata.labels}}
    - {name: scratch, emptyDir: {sizeLimit: 1Mi}}
    - {name: outside, hostPath: {path: /run/carried, type: Directory}}
"""

TALKER = """
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  containers:
    - name: talker
      image: barque-demo/web:1
      command: [sh, -c, "echo first line; echo second line; exec sleep 1000"]
"""


def _faulty(name: str, container: str) -> str:
    container = "{name: c, imagePullPolicy: IfNotPresent, " + container + "}"
    return f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{container}]}}\n"


FAULTY = "".join(
    (
        _faulty("no-image", "image: '127.0.0.1:9/absent:1'"),
        _faulty("no-command", "image: 'barque-demo/web:1', command: [/no/such/program]"),
        _faulty("fails", "image: 'barque-demo/web:1', command: [sh, -c, 'exit 3']"),
        _faulty("no-map", "image: 'barque-demo/web:1', envFrom: [{configMapRef: {name: absent}}]"),
        _faulty("too-big", "image: 'barque-demo/web:1', resources: {requests: {cpu: '1000'}}"),
    )
)
