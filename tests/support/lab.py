"""A lab of the test's own, by the commands a user types: several hosts, each with its own dockerd, and one master.

`a_lab` brings it up and takes it down. A `LabHost` is a `Host`, so all of `tests.support.cluster` works in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from barque.deploy.lab import host as hosts
from barque.deploy.lab import state
from barque.deploy.lab.lab import cgroup_parent
from tests.support.cluster import condition, objects, one
from tests.support.expecting import expect_soon
from tests.support.host import Host, control_groups, keep_logs

# On every worker of a lab: busybox with a web server on port 8080 as its command.
IMAGE = "barque-demo/web:1"
# A Deployment of six pods that say their names, and its Service; both are called web.
REPLICAS = 6
WEB = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {REPLICAS}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: {IMAGE}
          imagePullPolicy: Never
          ports: [{{containerPort: 8080}}]
          env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
"""


def missing() -> str:
    """Why there can be no lab here; "" where there can."""
    return hosts.missing()


class LabHost(Host):
    """A host of a lab, whichever process is its first by now."""

    def __init__(self, lab: ALab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.folder = lab.directory / "hosts" / name

    @property
    def pid(self) -> int:  # type: ignore[override]  # another one after each start
        return self.lab.state.host(self.name).pid

    @property
    def address(self) -> str:
        return self.lab.state.host(self.name).address

    def pings(self, address: str) -> bool:
        """Whether one packet goes there and back; a busy machine may need another."""
        return self.run("busybox", "ping", "-c", "1", "-W", "1", address, check=False).returncode == 0


class ALab:
    """A lab that is up; `m1` is where commands are given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def state(self) -> state.LabState:
        found = state.load(self.directory)
        assert found is not None, f"no lab in {self.directory}"
        return found

    @property
    def m1(self) -> LabHost:
        return self.host("m1")

    @property
    def workers(self) -> list[LabHost]:
        return [self.host(host.name) for host in self.state.of_role("worker")]

    @property
    def hosts(self) -> list[LabHost]:
        return [self.m1, *self.workers]

    def host(self, name: str) -> LabHost:
        return LabHost(self, name)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "barque.cli", "lab", "--dir", str(self.directory), *arguments]

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """`barque lab ...` on the machine; a failure raises with what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"barque lab {' '.join(arguments)} ended {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def barque(self, *arguments: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        """`barque ...` on the master's host, as the cluster's administrator; its standard output."""
        return self.m1.barque(*arguments, stdin=stdin, timeout_s=timeout_s)

    def apply(self, manifest: str) -> str:
        """Apply YAML."""
        return self.barque("apply", "-f", "-", stdin=manifest)

    def node_ready(self, name: str) -> bool:
        return condition(one(self.m1, "node", name), "Ready") == "True"

    def pods(self, *arguments: str) -> list[dict[str, Any]]:
        """The pods that `get pods ARGUMENTS` finds, whole."""
        return objects(self.m1, "pods", *arguments)

    def ready_pods(self, *arguments: str) -> list[dict[str, Any]]:
        """Those of them that are Ready and not on their way out."""
        return [pod for pod in self.pods(*arguments) if is_ready(pod)]

    def wait_ready_pods(self, selector: str, count: int, timeout_s: float = 120) -> list[dict[str, Any]]:
        """Wait until so many pods of a selector are Ready and not on their way out; they."""

        def found() -> list[dict[str, Any]]:
            there = self.pods("-l", selector)
            ready = [pod for pod in there if is_ready(pod)]
            assert len(ready) == count, {pod["metadata"]["name"]: pod["status"] for pod in there if pod not in ready}
            return ready

        return expect_soon(found, timeout_s, f"{count} pods of {selector} are Ready", pause_s=0.2)

    def in_pod(self, pod: str, *command: str, check: bool = True, timeout_s: float = 120) -> str:
        """Run a command in a pod of the default namespace; its output."""
        return self.m1.barque("exec", pod, "--", *command, check=check, timeout_s=timeout_s)


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether it is Ready and not on its way out."""
    return condition(pod, "Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


@contextmanager
def a_lab(workers: int = 3, *options: str) -> Iterator[ALab]:
    """A lab that is up, with every node Ready; nothing of it stays. `options` are those of `barque lab up`."""
    lab = ALab(Path(tempfile.mkdtemp(prefix="barque-lab-")))
    with _taken_down_after_us(lab):
        try:
            lab.run("up", "--workers", str(workers), *options)
            yield lab
        finally:
            module = Path(os.environ.get("PYTEST_CURRENT_TEST", "lab").partition("::")[0]).stem
            keep_logs(module, _logs(lab))
            lab.run("down")
            assert not lab.directory.exists()


@contextmanager
def _taken_down_after_us(lab: ALab) -> Iterator[None]:
    """A lab outlives whoever made it, so somebody takes it down where this process is killed: its pipe closes then."""
    # A command of ours may still be at work on the lab, and holds it until it has ended.
    watch = 'read -r word; [ "$word" = done ] || for try in 1 2 3 4 5 6; do "$@" && exit; sleep 5; done'
    heir = subprocess.Popen(
        ["/bin/sh", "-c", watch, "heir", *lab.command("down")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
        heir.communicate(b"done\n", timeout=60)
    finally:
        # After a failed `down` it has another try.
        heir.communicate(timeout=300)


def _logs(lab: ALab) -> dict[str, Path]:
    """The folder of every host's logs."""
    return {log.parent.name: log for log in (lab.directory / "hosts").glob("*/log")}


class Leftovers(NamedTuple):
    """What is there of a lab outside its directory."""

    processes: list[str]
    links: list[str]
    cgroups: list[str]


def leftovers(directory: Path) -> Leftovers:
    """Processes with the lab's directory or its hosts' cgroups in their words, its cgroups, and links of its names."""
    group = cgroup_parent(directory)
    processes = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if (f"{directory}/" in words or group in words) and int(each.parent.name) != os.getpid():
                processes.append(words)
    links = [name for name in os.listdir("/sys/class/net") if name in ("m1", "w1", "w2", "w3", "br0")]
    cgroups = [path for parent in control_groups(group.strip("/")) for path, _, _ in os.walk(parent)]
    return Leftovers(processes, links, cgroups)


def expect_nothing_left(directory: Path) -> None:
    """The last of what ended may take a moment to go."""

    def gone() -> bool:
        assert (left := leftovers(directory)) == ([], [], []), left
        return True

    expect_soon(gone, 60, f"nothing of the lab in {directory} is left")
