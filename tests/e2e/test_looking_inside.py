"""Logs, exec, attach, port-forward, cp and debug by the commands a user types, through master, worker and Docker."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.cluster import kill, restarts
from tests.support.expecting import expect_soon
from tests.support.host import Host
from tests.support.reading import reading
from tests.support.terminal import typed

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

IMAGE = "barque-test/inside:1"
# A web server on its localhost alone, a counter of seconds in its log, and a terminal that waits for someone.
PODS = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: {IMAGE}
    command: [/bin/sh, -c, "mkdir /www/up; httpd -f -p 127.0.0.1:8080 -h /www & n=0;
      while :; do echo tick $n; n=$((n+1)); sleep 0.05; done"]
    ports: [{{name: http, containerPort: 8080}}]
  - name: bare
    image: {IMAGE}
    command: [/bin/sleep, "3600"]
    env: [{{name: PATH, value: /nowhere}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: shell}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: sh, image: {IMAGE}, command: [/bin/sh], stdin: true, tty: true}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http}}]
"""


@pytest.fixture(scope="module")
def cluster(host: Host) -> Host:
    host.barque("up")
    files = {"www/index.html": "hello\n", "data/one": "1\n", "data/sub/two": "2\n"}
    build = (
        f"from barque.deploy import images; images.build_busybox('unix:///var/run/docker.sock', {IMAGE!r}, {files!r})"
    )
    host.run(sys.executable, "-c", build)
    host.barque("apply", "-f", "-", stdin=PODS)
    host.barque("wait", "--for=condition=Ready", "pod/web", "pod/shell", "--timeout=120s", timeout_s=180)
    page = ("exec", "web", "-c", "app", "--", "wget", "-q", "-O-", "127.0.0.1:8080")
    expect_soon(lambda: host.barque(*page) == "hello\n", 60, "the web server answers")
    return host


def failure(host: Host, *arguments: str, code: int = 1) -> str:
    done = host.run("barque", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


def ticks(text: str) -> list[int]:
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith("tick ")]


def test_a_followed_log_survives_the_worker_and_the_master(cluster: Host) -> None:
    with reading(cluster, "barque", "logs", "-f", "web", "-c", "app") as reader:
        expect_soon(lambda: len(ticks(reader.shown)) > 20, 60, "the log is followed")
        for daemon in ("worker", "master"):
            kill(cluster, daemon)
            seen = len(ticks(reader.shown))
            cluster.barque("up")
            expect_soon(lambda seen=seen: len(ticks(reader.shown)) > seen + 40, 120, f"it goes on after the {daemon}")
        found = ticks(reader.shown)
    assert found == list(range(len(found)))


def test_logs_are_cut_and_refused_as_asked(cluster: Host) -> None:
    written = len(ticks(cluster.barque("logs", "web", "-c", "app")))
    last = ticks(cluster.barque("logs", "web", "-c", "app", "--tail=3"))
    # More is written all the while.
    assert (len(last) >= 3, last[0] >= written - 3) == (True, True), (written, last)
    assert len(cluster.barque("logs", "web", "-c", "app", "--limit-bytes=10")) == 10
    dated = cluster.barque("logs", "web", "-c", "app", "--tail=1", "--timestamps").split(" ")[0]
    since = cluster.barque("logs", "web", "-c", "app", "--since-time", dated, "--timestamps").splitlines()
    assert since[0].startswith(dated)
    by_label = cluster.barque("logs", "-l", "app=web", "-c", "app", "--prefix")
    assert all(line.startswith("[pod/web/app] tick ") for line in by_label.splitlines())
    assert failure(cluster, "logs", "web", "-p", "-c", "app") == (
        'Error from server (BadRequest): previous terminated container "app" in pod "web" not found\n'
    )


def test_exec_passes_codes_and_names_what_is_missing(cluster: Host) -> None:
    assert cluster.barque("exec", "-i", "web", "-c", "app", "--", "cat", stdin="a\0b") == "a\0b"
    assert failure(cluster, "exec", "web", "-c", "app", "--", "sh", "-c", "exit 7", code=7) == (
        "command terminated with exit code 7\n"
    )
    assert failure(cluster, "exec", "web", "-c", "nope", "--", "ls").startswith("error: container nope is not valid")
    shown, code = typed(
        cluster, ["barque", "exec", "-it", "shell", "--", "sh"], ("#", "stty size; echo o''k\r"), ("ok", "exit 3\r")
    )
    assert (code, "command terminated with exit code 3" in shown) == (3, True)


def test_attach_talks_to_the_process_and_tells_how_to_come_back(cluster: Host) -> None:
    prompt = "If you don't see a command prompt, try pressing enter."
    shown, code = typed(
        cluster,
        ["barque", "attach", "-it", "shell"],
        (prompt, "x=bar\r"),
        ("x=bar", "echo ${x}que\r"),
        ("barque", "exit\r"),
    )
    assert code == 0
    assert "Session ended, resume using 'barque attach shell -c sh -i -t' command when the pod is running" in shown
    expect_soon(lambda: restarts(cluster, "shell") == 1, 60, "the shell is started again")


def fetch(host: Host, port: int) -> str:
    opened = f"urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=30)"
    page = f"import urllib.request; print({opened}.read().decode())"
    return host.run(sys.executable, "-c", page, check=False).stdout


@pytest.mark.parametrize("what", ["pod/web", "service/web"])
def test_ports_lead_into_the_pod(cluster: Host, what: str) -> None:
    with reading(
        cluster, "barque", "port-forward", what, "9080:http", ":http", *(["9081:8081"] if "pod" in what else [])
    ) as reader:
        expect_soon(lambda: "Forwarding from 127.0.0.1:9080 -> 8080" in reader.shown, 60, "the port is open")
        expect_soon(lambda: reader.shown.count("-> 8080") >= 3, 60, "and the other")
        assert "hello" in fetch(cluster, 9080)
        if "pod" in what:
            expect_soon(lambda: "-> 8081" in reader.shown, 60, "and the third")
            assert fetch(cluster, 9081) == ""
            words = "an error occurred forwarding 9081 -> 8081: error forwarding port 8081 to pod web: "
            expect_soon(lambda: words in reader.said, 60, "why there is no answer")
        free = reader.shown.split("Forwarding from 127.0.0.1:")[2].split(" ")[0]
        assert "hello" in fetch(cluster, int(free))
        expect_soon(lambda: "Handling connection for 9080" in reader.shown, 60, "a connection is told of")


def test_files_go_both_ways(cluster: Host) -> None:
    here = cluster.folder / "copied"
    shutil.rmtree(here, ignore_errors=True)
    (here / "site").mkdir(parents=True)
    (here / "site" / "page.html").write_text("<p>")
    (here / "site" / "large").write_bytes(os.urandom(3_000_000))
    cluster.barque("cp", str(here / "site"), "web:/www", "-c", "app")
    assert cluster.barque("exec", "web", "-c", "app", "--", "cat", "/www/site/page.html") == "<p>"
    cluster.barque("cp", "default/web:/www/site", str(here / "back"), "-c", "app")
    assert (here / "back" / "large").read_bytes() == (here / "site" / "large").read_bytes()
    cluster.barque("cp", "web:/data/one", str(here), "-c", "app")
    assert (here / "one").read_text() == "1\n"
    cluster.barque("cp", str(here / "one"), "web:/data/three", "-c", "app")
    assert cluster.barque("exec", "web", "-c", "app", "--", "ls", "/data") == "one\nsub\nthree\n"


def test_what_cannot_be_copied_is_said(cluster: Host) -> None:
    here = Path(cluster.folder / "copied-not")
    missing = failure(cluster, "cp", "web:/nowhere", str(here), "-c", "app")
    assert "tar: " in missing
    assert missing.endswith("error: command terminated with exit code 1\n")
    assert not here.exists()
    without_tar = failure(cluster, "cp", "web:/data", str(here), "-c", "bare")
    assert without_tar.startswith("error: Internal error occurred: OCI runtime exec failed: ")
    assert 'exec: "tar": executable file not found in $PATH' in without_tar
    assert failure(cluster, "cp", str(here), "web:/data", "-c", "app") == (
        f"error: {here} doesn't exist in local filesystem\n"
    )


def test_a_debugger_looks_into_a_pod(cluster: Host) -> None:
    shown, code = typed(
        cluster, ["barque", "debug", "-it", "web", f"--image={IMAGE}", "--target=app", "-c", "look", "--", "sh"],
        ("try pressing enter.", "\r"), ("#", "ps | grep httpd; wget -q -O- 127.0.0.1:8080\r"), ("hello", "exit\r"),
    )  # fmt: skip
    assert code == 0
    assert "httpd -f -p 127.0.0.1:8080" in shown
    assert "Session ended, the ephemeral container will not be restarted" in shown
    pod = json.loads(cluster.barque("get", "pod", "web", "-o", "json"))
    assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0, 0]
    assert failure(cluster, "debug", "web", f"--image={IMAGE}", "-c", "look") == (
        'error: a container named "look" is in pod "web" already; give the debugger another name with -c\n'
    )


def test_a_debugger_looks_at_a_copy(cluster: Host) -> None:
    cluster.barque("debug", "web", "--copy-to=web-copy", "-c", "app", "--", "/bin/sleep", "3600")
    cluster.barque("wait", "--for=condition=Ready", "pod/web-copy", "--timeout=120s", timeout_s=180)
    ps = ("exec", "web-copy", "-c", "app", "--", "ps")
    expect_soon(lambda: "sleep 3600" in cluster.barque(*ps), 60, "the copy runs what it was told")
    cluster.barque("delete", "pod/web-copy")


def test_a_debugger_looks_at_a_node(cluster: Host) -> None:
    node = cluster.barque("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    (cluster.folder / "home" / "sign").write_text("of the host\n")
    shown, code = typed(
        cluster, ["barque", "debug", f"node/{node}", "-it", f"--image={IMAGE}", "--", "sh"],
        ("try pressing enter.", "\r"), ("#", f"cat /host{cluster.folder}/home/sign; ps\r"),
        ("of the host", "\r"), ("dockerd", "exit\r"),
    )  # fmt: skip
    assert code == 0
    assert f"Creating debugging pod node-debugger-{node}-" in shown


def test_nothing_is_talked_to_in_a_container_that_has_ended(cluster: Host) -> None:
    pod = f"""{{apiVersion: v1, kind: Pod, metadata: {{name: done}}, spec: {{restartPolicy: Never, containers: [
        {{name: app, image: {IMAGE}, command: [/bin/sh, -c, exit 0]}}]}}}}"""
    cluster.barque("apply", "-f", "-", stdin=pod)
    phase = lambda: cluster.barque("get", "pod", "done", "-o", "jsonpath={.status.phase}")  # noqa: E731
    expect_soon(lambda: phase() == "Succeeded", 60, "it has ended")
    assert failure(cluster, "exec", "done", "--", "ls") == (
        "error: cannot exec into a container in a completed pod; current phase is Succeeded\n"
    )
    assert failure(cluster, "port-forward", "done", "80") == (
        "error: unable to forward port because pod is not running. Current status=Succeeded\n"
    )
