"""`barque master init`, then `run`, then the command against it over real sockets: what an operator does first."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.expecting import expect_soon
from tests.support.host import dying_with_parent
from tests.support.ports import free_ports

BARQUE = [sys.executable, "-m", "barque.cli"]
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: old}\n"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: page}\ndata: {text: hello}\n"


class Operator:
    """Someone with a home of their own, and one master in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.grpc_port, self.https_port, self.bus_port, self.route_port = free_ports(4)
        self._environment = {**os.environ, "HOME": str(home), "NO_COLOR": "1"}
        self._environment.pop("BARQUE_CONFIG", None)
        self._master: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [*BARQUE, *arguments], env=self._environment, input=stdin, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == code, done.stderr or done.stdout
        return done.stdout if code == 0 else done.stderr

    def init(self) -> str:
        data, port = str(self.home / "data"), str(self.grpc_port)
        return self.run(
            "master", "init", "--data-dir", data, "--name", "m1", "--address", "127.0.0.1", "--grpc-port", port
        )

    def start(self, line: str) -> None:
        """Run the line that `init` told to, on ports that are free, and wait until it answers."""
        own = ["--listen", "127.0.0.1", "--https-port", str(self.https_port), "--bus-port", str(self.bus_port)]
        own += ["--peer-port", "0", "--route-port", str(self.route_port)]
        argv = [*dying_with_parent("KILL"), *BARQUE, *shlex.split(line)[1:], *own]
        with (self.home / "log").open("wb") as log:
            self._master = subprocess.Popen(argv, env=self._environment, stdout=log, stderr=log)
        end = time.monotonic() + 90
        while b"serving on" not in (self.home / "log").read_bytes():
            said = (self.home / "log").read_text(errors="replace")
            assert self._master.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.05)

    def stop(self) -> int:
        assert self._master is not None
        self._master.send_signal(signal.SIGTERM)
        code = self._master.wait(60)
        self._master = None
        return code

    def close(self) -> None:
        if self._master is not None:
            self._master.kill()
            self._master.wait()


# Some twenty commands, each of which a busy machine may take seconds to start.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    made = Operator(tmp_path)
    yield made
    made.close()


def test_a_cluster_is_founded_run_saved_restored_and_its_key_rotated(operator: Operator) -> None:
    said = operator.init()
    line = next(line for line in said.splitlines() if "barque master run" in line)
    operator.start(line)
    assert operator.run("config", "current-context") == "barque\n"
    # It says "failing" and ends with 1 until the bus has its streams.
    assert "m1       127.0.0.1" in expect_soon(lambda: operator.run("cluster", "status"), 60, "all of it is well")
    assert operator.run("token", "create").startswith(
        f"barque worker join --master 127.0.0.1:{operator.https_port} --token "
    )

    operator.run("apply", "-f", "-", stdin=SECRET + "---\n" + CONFIG)
    # A controller puts it into each namespace, in its own time.
    expect_soon(lambda: operator.run("get", "cm", "kube-root-ca.crt", "-o", "name"), 60, "the root's CA")
    saved = operator.home / "saved"
    assert operator.run("cluster", "snapshot", "save", str(saved)).startswith(f"snapshot saved to {saved} (")
    operator.run("delete", "secret/db", "cm/page")
    assert operator.run("get", "cm,secrets", "-o", "name") == "configmap/kube-root-ca.crt\n"
    restored = operator.run("cluster", "snapshot", "restore", str(saved), "--yes")
    assert "the cluster is at revision 1000000" in restored
    assert operator.run("get", "cm,secrets", "-o", "name") == "configmap/kube-root-ca.crt\nconfigmap/page\nsecret/db\n"

    assert operator.run("cluster", "rotate-key").endswith(" seals 2 secrets now\n")  # the join token is one
    password = operator.run("get", "secret", "db", "-o", "jsonpath={.data.password}")
    assert password == "b2xk"
    refused = operator.run("cluster", "snapshot", "restore", str(saved), "--yes", code=1)
    assert refused.startswith("Error from server")
    assert len(refused.splitlines()) == 1
    saved.write_bytes(saved.read_bytes()[:-20])
    assert operator.run("cluster", "snapshot", "restore", str(saved), "--yes", code=1).startswith("Error from server")
    assert operator.run("get", "secret", "db", "-o", "jsonpath={.data.password}") == "b2xk"

    assert operator.stop() == 0
    gone = operator.run("get", "cm", code=1)
    assert gone.startswith("Unable to reach the cluster: no master is reachable (127.0.0.1:")
    operator.start(line)
    found = json.loads(operator.run("get", "cm", "page", "-o", "json"))
    assert found["data"] == {"text": "hello"}


def test_a_run_without_init_founds_the_cluster_itself(operator: Operator) -> None:
    data, config = operator.home / "data", operator.home / "lab" / "config"
    line = (
        f"barque master run --data-dir {data} --name m1 --address 127.0.0.1 --grpc-port {operator.grpc_port} "
        f"--profile {config}"
    )
    operator.start(line)
    assert operator.run("get", "ns", "default", "-o", "name", "--config", str(config)) == "namespace/default\n"
    assert not (operator.home / ".barque").exists()
