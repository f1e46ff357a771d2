"""Rollouts of a web server under constant requests, by the commands a user types; in order, on one cluster."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.cluster import ROOT, cluster_ip, condition, objects, one, pod_names
from tests.support.expecting import expect_soon
from tests.support.host import Host

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

# As a careful user writes it: ready when it answers, and answering on while its address is taken off the service, for
# which a busy machine takes seconds.
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: web
        image: barque-demo/web:1
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, timeoutSeconds: 10}
        lifecycle: {preStop: {exec: {command: [sleep, "8"]}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
"""
FIRST, SECOND = "Hello: version 1", "Hello: version 2"


@pytest.fixture(scope="module")
def cluster(host: Host) -> Host:
    host.barque("up")
    build = "from barque.deploy import images; [images.build_web('unix:///var/run/docker.sock', v) for v in '12']"
    host.run(sys.executable, "-c", build)
    host.barque("apply", "-f", "-", stdin=WEB)
    rolled_out(host)
    return host


def rolled_out(host: Host) -> None:
    assert 'deployment "web" successfully rolled out' in host.barque(
        "rollout", "status", "deployment/web", "--timeout", "200s", timeout_s=240
    )


def templates(host: Host) -> dict[str, int]:
    """Pods that live on, by their image."""
    images = [p["spec"]["containers"][0]["image"] for p in objects(host, "pods", "-l", "app=web") if alive(p)]
    return {image: images.count(image) for image in images}


def alive(pod: dict[str, dict[str, str]]) -> bool:
    return "deletionTimestamp" not in pod["metadata"]


@contextlib.contextmanager
def requests(host: Host) -> Iterator[dict[str, int]]:
    """Clients that fetch through the service's address all the while; afterwards what they were answered."""
    answers: dict[str, int] = {}
    with subprocess.Popen(
        host.argv([sys.executable, str(ROOT / "tests" / "e2e" / "requesting.py"), cluster_ip(host)]),
        env=host.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as clients:  # fmt: skip
        assert clients.stdout is not None
        assert clients.stdout.readline() == "fetching\n"
        try:
            yield answers
        finally:
            answers.update(json.loads(clients.communicate(timeout=120)[0]))


def test_an_update_under_requests_loses_none(cluster: Host) -> None:
    with requests(cluster) as answers:
        cluster.barque("set", "image", "deployment/web", "web=barque-demo/web:2")
        rolled_out(cluster)
        expect_soon(lambda: len(pod_names(cluster)) == 5, 60, "the pods of version 1 are gone")
    assert set(answers) == {FIRST, SECOND}, answers
    assert sum(answers.values()) >= 100
    assert templates(cluster) == {"barque-demo/web:2": 5}


def test_undo_restores_the_old_version_and_loses_none(cluster: Host) -> None:
    with requests(cluster) as answers:
        assert cluster.barque("rollout", "undo", "deployment/web") == "deployment.apps/web rolled back\n"
        rolled_out(cluster)
        expect_soon(lambda: len(pod_names(cluster)) == 5, 60, "the pods of version 2 are gone")
    assert set(answers) == {FIRST, SECOND}, answers
    assert sum(answers.values()) >= 100
    assert templates(cluster) == {"barque-demo/web:1": 5}


def test_history_tells_the_revisions_and_their_templates(cluster: Host) -> None:
    # The first is the third now: going back renumbers.
    shown = cluster.barque("rollout", "history", "deployment/web")
    assert shown.splitlines()[:2] == ["deployment.apps/web", "REVISION   CHANGE-CAUSE"]
    assert [line.split()[0] for line in shown.splitlines()[2:] if line] == ["2", "3"]
    assert "barque-demo/web:2" in cluster.barque("rollout", "history", "deployment/web", "--revision", "2")
    refused = cluster.run("barque", "rollout", "undo", "deployment/web", "--to-revision", "9", check=False)
    assert (refused.returncode, "unable to find revision 9" in refused.stderr) == (1, True)


def test_scaling_down_and_up_under_requests_loses_none(cluster: Host) -> None:
    with requests(cluster) as answers:
        for replicas in (2, 5):
            cluster.barque("scale", "deployment", "web", "--replicas", str(replicas))
            rolled_out(cluster)
            expect_soon(lambda n=replicas: len(pod_names(cluster)) == n, 60, f"{replicas} pods")
    assert set(answers) == {FIRST}, answers


def test_a_paused_rollout_waits_until_it_is_resumed(cluster: Host) -> None:
    names = pod_names(cluster)
    assert cluster.barque("rollout", "pause", "deployment/web") == "deployment.apps/web paused\n"
    cluster.barque("set", "image", "deployment/web", "web=barque-demo/web:2")
    observed = lambda: seen(cluster)  # noqa: E731
    expect_soon(observed, 60, "the controller has seen the new template")
    time.sleep(1)
    assert pod_names(cluster) == names
    again = cluster.run("barque", "rollout", "pause", "deployment/web", check=False)
    assert (again.returncode, 'deployments.apps "web" is already paused' in again.stderr) == (1, True), again.stderr
    undo = cluster.run("barque", "rollout", "undo", "deployment/web", check=False)
    assert undo.returncode == 1
    assert "cannot rollback a paused deployment; resume it first with" in undo.stderr
    assert cluster.barque("rollout", "resume", "deployment/web") == "deployment.apps/web resumed\n"
    rolled_out(cluster)
    assert templates(cluster) == {"barque-demo/web:2": 5}


def seen(host: Host) -> bool:
    deployment = one(host, "deployment", "web")
    return bool(deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"])


def test_a_rollout_past_its_deadline_is_told_and_the_old_pods_serve_on(cluster: Host) -> None:
    cluster.barque("patch", "deployment", "web", "-p", '{"spec": {"progressDeadlineSeconds": 4}}')
    expect_soon(lambda: len(pod_names(cluster)) == 5, 60, "the pods of version 1 are gone")
    with requests(cluster) as answers:
        cluster.barque("set", "image", "deployment/web", "web=127.0.0.1:9/absent:1")
        done = cluster.run("barque", "rollout", "status", "deployment/web", "--timeout", "100s", check=False)
        assert done.returncode == 1
        assert 'error: deployment "web" exceeded its progress deadline' in done.stderr
    assert set(answers) == {SECOND}, answers
    web = one(cluster, "deployment", "web")
    assert (condition(web, "Progressing"), condition(web, "Available")) == ("False", "True")
    assert templates(cluster)["barque-demo/web:2"] == 4

    # Time enough for a pod to start.
    cluster.barque("patch", "deployment", "web", "-p", '{"spec": {"progressDeadlineSeconds": 90}}')
    cluster.barque("rollout", "undo", "deployment/web")
    rolled_out(cluster)
    assert templates(cluster) == {"barque-demo/web:2": 5}
