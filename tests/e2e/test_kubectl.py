"""kubectl, unmodified, into running pods of a whole cluster: streams, rollouts, drains, usage.

Each way of streaming is tried: WebSockets, as kubectl does today; SPDY by the same kubectl; SPDY by Debian's 1.20,
which knows nothing else and is tried where it asks for something else than today's. What is about objects alone is in
`tests/integration/test_kubectl.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import kubectl as clients
from tests.support.expecting import expect_soon
from tests.support.host import Host, end_group
from tests.support.terminal import typed

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

IMAGE = "barque-test/inside:1"
WAYS = ("websockets", "spdy", "old")
# Tests that are no streams are of today's kubectl alone.
streams = pytest.mark.parametrize("kubectl", WAYS, indirect=True)
both_ages = pytest.mark.parametrize("kubectl", ["websockets", "old"], indirect=True)
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
# A terminal that waits for someone.
SHELL = f"""
apiVersion: v1
kind: Pod
metadata: {{name: NAME}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: sh, image: {IMAGE}, command: [/bin/sh], stdin: true, tty: true}}
---
"""
# A web server on its localhost alone, a counter in its log; two to be rolled out.
PODS = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: {IMAGE}
    command: [/bin/sh, -c, "httpd -f -p 8080 -h /www & n=0;
      while :; do echo tick $n; n=$((n+1)); sleep 0.05; done"]
    ports: [{{name: http, containerPort: 8080}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: crew}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: crew}}}}
  template:
    metadata: {{labels: {{app: crew}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: app, image: {IMAGE}, command: [/bin/sleep, "3600"]}}]
"""


@pytest.fixture(scope="module")
def cluster(host: Host) -> Host:
    host.barque("up")
    files = {"www/index.html": "hello\n", "data/one": "1\n"}
    build = (
        f"from barque.deploy import images; images.build_busybox('unix:///var/run/docker.sock', {IMAGE!r}, {files!r})"
    )
    host.run(sys.executable, "-c", build)
    shells = [f"shell-{way}" for way in WAYS]
    host.barque("apply", "-f", "-", stdin="".join(SHELL.replace("NAME", name) for name in shells) + PODS)
    host.barque(
        "wait",
        "--for=condition=Ready",
        "pod/web",
        *(f"pod/{name}" for name in shells),
        "--timeout=120s",
        timeout_s=180,
    )
    page = ("exec", "web", "--", "wget", "-q", "-O-", "127.0.0.1:8080")
    expect_soon(lambda: host.barque(*page) == "hello\n", 60, "the web server answers")
    return host


class Kubectl(NamedTuple):
    """A kubectl on the host, as its administrator runs it; `shell` is the pod whose terminal is its own."""

    shell: str
    host: Host
    client: clients.ClientBinary
    kubeconfig: Path
    switches: Mapping[str, str]

    @property
    def argv(self) -> list[str]:
        words = [f"{name}={value}" for name, value in self.switches.items()]
        return ["env", *words, str(self.client.path), "--kubeconfig", str(self.kubeconfig)]

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.host.run(*self.argv, *arguments, stdin=stdin).stdout

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.host.run(*self.argv, *arguments, stdin=stdin, check=False)

    def type(self, arguments: list[str], *lines: tuple[str, str]) -> tuple[str, int]:
        return typed(self.host, [*self.argv, *arguments], *lines)

    @contextlib.contextmanager
    def under_way(self, *arguments: str) -> Iterator[Path]:
        """Running as long as the context; yields the file that has what it prints."""
        with tempfile.NamedTemporaryFile(suffix=".txt") as output:
            running = subprocess.Popen(
                self.host.argv([*self.argv, *arguments]), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=self.host.environment(), start_new_session=True,
            )  # fmt: skip
            try:
                yield Path(output.name)
            finally:
                end_group(running)


@pytest.fixture(scope="module")
def kubectl(cluster: Host, request: pytest.FixtureRequest) -> Kubectl:
    way = getattr(request, "param", "websockets")
    try:
        client = clients.old() if way == "old" else clients.modern()
    except clients.MissingClientError as missing:
        pytest.skip(f"not tested with this client: {missing}")
    path = cluster.folder / f"kubeconfig-{way}"
    path.write_text(cluster.barque("kubeconfig"))
    return Kubectl(f"shell-{way}", cluster, client, path, SPDY if way == "spdy" else {})


@pytest.mark.shows("pods/log")
def test_logs_are_read_and_followed(kubectl: Kubectl) -> None:
    written = len(kubectl("logs", "web").splitlines())
    last = kubectl("logs", "web", "--tail=3").splitlines()
    # More is written all the while.
    assert (len(last) >= 3, int(last[0].split()[1]) >= written - 3) == (True, True), (written, last)
    with kubectl.under_way("logs", "-f", "web", "--since=1s") as shown:
        expect_soon(lambda: shown.read_text().count("tick") > 60, 60, "the log is followed")
        whole, _, _ = shown.read_text().rpartition("\n")
        numbers = [int(line.split()[1]) for line in whole.splitlines() if line.count(" ") == 1]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.shows("pods/exec")
@streams
def test_exec_brings_bytes_and_exit_codes(kubectl: Kubectl) -> None:
    assert kubectl("exec", "-i", "web", "--", "cat", stdin="a\0b") == "a\0b"
    large = "0123456789abcdef" * 65536
    assert kubectl("exec", "-i", "web", "--", "cat", stdin=large) == large
    ended = kubectl.run("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.returncode, ended.stdout) == (7, "out\n")
    assert "err\n" in ended.stderr
    assert "command terminated with exit code 7" in ended.stderr


@streams
def test_exec_has_a_terminal(kubectl: Kubectl) -> None:
    shown, code = kubectl.type(
        ["exec", "-it", kubectl.shell, "--", "sh"], ("#", "stty size; echo o''k\r"), ("ok", "exit 3\r")
    )
    assert code == 3
    assert "command terminated with exit code 3" in shown


@pytest.mark.shows("pods/attach")
@streams
def test_attach_talks_to_the_process(kubectl: Kubectl) -> None:
    prompt = "If you don't see a command prompt, try pressing enter."
    shown, code = kubectl.type(
        ["attach", "-it", kubectl.shell], (prompt, "x=bar\r"), ("x=bar", "echo ${x}que\r"), ("barque", "exit\r")
    )
    assert "session ended" in shown.lower()
    assert code == 0


@streams
def test_files_go_both_ways(kubectl: Kubectl) -> None:
    here = kubectl.host.folder / "copied"
    shutil.rmtree(here, ignore_errors=True)
    (here / "site").mkdir(parents=True)
    (here / "site" / "page.html").write_text("<p>")
    (here / "site" / "large").write_bytes(os.urandom(1_000_000))
    there = f"tmp/{kubectl.kubeconfig.name}"
    kubectl("cp", str(here / "site"), f"web:/{there}")
    assert kubectl("exec", "web", "--", "cat", f"/{there}/page.html") == "<p>"
    kubectl("cp", f"web:{there}", str(here / "back"))
    assert (here / "back" / "large").read_bytes() == (here / "site" / "large").read_bytes()


def fetch(host: Host, port: str) -> str:
    page = (
        f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=30).read().decode())"
    )
    return host.run(sys.executable, "-c", page, check=False).stdout


@pytest.mark.shows("pods/portforward")
@streams
@pytest.mark.parametrize("what", ["pod/web", "service/web"])
def test_ports_lead_into_the_pod(kubectl: Kubectl, what: str) -> None:
    with kubectl.under_way("port-forward", what, ":http") as shown:
        expect_soon(lambda: "Forwarding from 127.0.0.1:" in shown.read_text(), 60, "the port is open")
        port = shown.read_text().split("127.0.0.1:")[1].split(" ")[0]
        for _ in range(5):
            assert "hello" in fetch(kubectl.host, port), shown.read_text()
        assert "error" not in shown.read_text().lower()


@pytest.mark.shows("pods/proxy", "services/proxy", "nodes/proxy")
def test_proxies_lead_to_pods_services_and_nodes(kubectl: Kubectl) -> None:
    for at in ("pods/web:8080", "services/web:http", "services/http:web:80"):
        assert kubectl("get", "--raw", f"/api/v1/namespaces/default/{at}/proxy/") == "hello\n"
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    assert kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/healthz").strip() == "ok"


@pytest.mark.shows("nodes.metrics.k8s.io", "pods.metrics.k8s.io")
def test_top_shows_usage(kubectl: Kubectl) -> None:
    expect_soon(lambda: "web" in kubectl("top", "pods"), 60, "the usage of pods", pause_s=1)
    expect_soon(lambda: "%" in kubectl("top", "nodes"), 60, "the usage of nodes", pause_s=1)
    assert kubectl("top", "pods").splitlines()[0].split() == ["NAME", "CPU(cores)", "MEMORY(bytes)"]


def test_rollouts_are_waited_for(kubectl: Kubectl) -> None:
    kubectl("rollout", "restart", "deployment/crew")
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/crew", "--timeout=100s")
    kubectl("scale", "deployment/crew", "--replicas=1")
    kubectl("wait", "--for=condition=Available", "deployment/crew", "--timeout=100s")
    kubectl("scale", "deployment/crew", "--replicas=2")


def test_run_shows_a_pod_and_removes_it(kubectl: Kubectl) -> None:
    # What is said before kubectl is attached is not shown: it waits for a word.
    echo = ("sh", "-c", "read word; echo $word")
    said = kubectl("run", "once", "--rm", "-i", "--restart=Never", f"--image={IMAGE}", "--", *echo, stdin="aye\n")
    assert "aye" in said
    expect_soon(lambda: "not found" in kubectl.run("get", "pod", "once").stderr, 60, "the pod is gone")


def test_describe_tells_what_befell_a_pod(kubectl: Kubectl) -> None:
    def told() -> bool:
        said = kubectl("describe", "pod", "web")
        assert not (missing := {"Node:", "Started", "Ready"} - set(said.split())), f"{missing}: {said}"
        return True

    expect_soon(told, 60, "its start is told")
    assert "Non-terminated Pods" in kubectl("describe", "nodes")


@pytest.mark.shows("pods/ephemeralcontainers")
def test_a_debugger_joins_a_pod(kubectl: Kubectl) -> None:
    shown, code = kubectl.type(
        ["debug", "-it", "web", f"--image={IMAGE}", "-c", "look", "--profile=general", "--", "sh"],
        ("try pressing enter.", "\r"), ("#", "wget -q -O- 127.0.0.1:8080\r"), ("hello", "exit\r"),
    )  # fmt: skip
    assert code == 0, shown
    pod = json.loads(kubectl("get", "pod", "web", "-o", "json"))
    assert "look" in [container["name"] for container in pod["spec"]["ephemeralContainers"]]


def test_python_runs_a_command_by_websocket_v4(kubectl: Kubectl) -> None:
    script = (
        "import sys, kubernetes; from kubernetes.stream import stream; kubernetes.config.load_kube_config(sys.argv[1]);"
        "core = kubernetes.client.CoreV1Api();"
        "run = stream(core.connect_get_namespaced_pod_exec, 'web', 'default', command=['sh', '-c', 'cat; exit 5'],"
        " stdin=True, stdout=True, stderr=True, _preload_content=False);"
        "run.write_stdin('aye\\n'); run.update(timeout=30); print(run.read_stdout(timeout=30)); run.close();"
        "print(stream(core.connect_get_namespaced_pod_exec, 'web', 'default', command=['echo', 'whole'], stdout=True))"
    )
    said = kubectl.host.run(sys.executable, "-c", script, str(kubectl.kubeconfig)).stdout
    assert said.split() == ["aye", "whole"]


@pytest.mark.shows("pods/eviction")
@both_ages
def test_a_node_is_drained_and_comes_back(kubectl: Kubectl) -> None:
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    before = set(kubectl("get", "pods", "-l", "app=crew", "-o", "name").split())
    data = "--delete-local-data" if clients.is_old(kubectl.client) else "--delete-emptydir-data"
    said = kubectl(
        "drain", node, "--ignore-daemonsets", data, "--pod-selector=app=crew", "--timeout=100s"
    )  # fmt: skip
    assert f"node/{node}" in said
    assert "SchedulingDisabled" in kubectl("get", "node", node)
    assert not before & set(kubectl("get", "pods", "-l", "app=crew", "-o", "name").split())
    kubectl("uncordon", node)
    kubectl("wait", "--for=condition=Available", "deployment/crew", "--timeout=100s")
