"""One pod that says much, from its manifest through the masters to the kernel and back to its status."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import fetch
from tests.support.expecting import expect_soon
from tests.support.host import ADDRESS, Host, a_host, missing

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.timeout(300)]

IMAGE = "barque-test/busybox:whole"
WHOLE = """
apiVersion: v1
kind: Pod
metadata: {name: whole, labels: {app: whole}, annotations: {Note: read me}}
spec:
  hostname: named
  subdomain: sub
  hostAliases: [{ip: 10.9.9.9, hostnames: [far]}]
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 5
  securityContext: {runAsUser: 1000, supplementalGroups: [4000]}
  initContainers:
  - name: sidecar
    image: &image barque-test/busybox:whole
    command: &sleep [/bin/sh, -c, "trap 'exit 0' TERM; while true; do sleep 0.1; done"]
    restartPolicy: Always
    startupProbe: {exec: {command: [/bin/echo]}, periodSeconds: 1}
  - name: init
    image: *image
    command: [/bin/sh, -c, 'echo done > /dev/termination-log']
  containers:
  - name: app
    image: *image
    command: [/bin/sh, -c, 'echo "$NOTE $LIMIT" > /tmp/index.html; exec httpd -f -p 8080 -h /tmp']
    ports: [{containerPort: 8080, hostPort: 8088, name: http}]
    env:
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['Note']"}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    resources: {limits: {memory: 64Mi, cpu: 200m}}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    readinessProbe: {httpGet: {port: http}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: http}}
    lifecycle: {preStop: {sleep: {seconds: 1}}, postStart: {exec: {command: [/bin/echo]}}}
"""
DEADLINE = """
apiVersion: v1
kind: Pod
metadata: {name: short}
spec:
  activeDeadlineSeconds: 1
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: "barque-test/busybox:whole", command: [/bin/sleep, "100"]}]
"""
STATIC = """
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  containers: [{name: app, image: "barque-test/busybox:whole", command: [/bin/sleep, "100"], imagePullPolicy: Never}]
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with a_host() as made:
        # Its own /etc, for its own static pods.
        made.run("mkdir", "-p", "/run/etc/upper", "/run/etc/work")
        layers = "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work"
        made.run("mount", "-t", "overlay", "overlay", "-o", layers, "/etc")
        made.barque("up")
        build = f"images.build_busybox('unix:///var/run/docker.sock', '{IMAGE}')"
        made.run(sys.executable, "-c", f"from barque.deploy import images; {build}")
        yield made


def pod(host: Host, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.barque("get", "pod", name, "-o", "json"))
    return found


def conditions(found: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in found["status"]["conditions"]}


def test_what_a_manifest_says_is_what_runs(host: Host) -> None:
    host.barque("apply", "-f", "-", stdin=WHOLE)
    expect_soon(lambda: conditions(pod(host, "whole")).get("Ready") == "True", 60, "the pod is ready")
    found = pod(host, "whole")
    sidecar, init = found["status"]["initContainerStatuses"]
    assert (sidecar["started"], sidecar["ready"], init["ready"]) == (True, True, True)
    assert init["state"]["terminated"]["reason"] == "Completed"
    assert init["state"]["terminated"]["message"] == "done\n"
    assert conditions(found)["Initialized"] == "True"
    assert host.barque("exec", "whole", "-c", "app", "--", "hostname") == "named\n"
    assert host.barque("exec", "whole", "-c", "app", "--", "id", "-G").split() == ["0", "4000"]
    for url in (f"http://{found['status']['podIP']}:8080/", f"http://{ADDRESS}:8088/", "http://127.0.0.1:8088/"):
        assert fetch(host, url) == ["read me 64"]
    expect_soon(lambda: "Container started" in host.barque("get", "events"), 60, "its start is told")
    host.barque("delete", "pod", "whole")
    expect_soon(lambda: "NotFound" in host.run("barque", "get", "pod", "whole", check=False).stderr, 60, "it is gone")


def test_a_pod_whose_time_is_up_says_so(host: Host) -> None:
    host.barque("apply", "-f", "-", stdin=DEADLINE)
    expect_soon(lambda: pod(host, "short")["status"]["phase"] == "Failed", 60, "its time is up")
    assert pod(host, "short")["status"]["reason"] == "DeadlineExceeded"
    host.barque("delete", "pod", "short")


def test_a_file_in_the_manifests_folder_runs_and_shows(host: Host) -> None:
    host.run("mkdir", "-p", "/etc/barque/manifests")
    host.run("sh", "-c", "cat > /etc/barque/manifests/own.yaml", stdin=STATIC)
    node = json.loads(host.barque("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    name = f"own-{node}"

    def ready(uid: str = "") -> bool:
        held = json.loads(host.barque("get", "pods", "-o", "json"))["items"]
        (found,) = [one for one in held if one["metadata"]["name"] == name] or [{}]
        return bool(found) and found["metadata"]["uid"] != uid and conditions(found).get("Ready") == "True"

    expect_soon(ready, 60, "the static pod shows as ready")
    before = pod(host, name)
    host.barque("delete", "pod", name)
    expect_soon(lambda: ready(before["metadata"]["uid"]), 60, "its mirror is back")
    shown = [found["status"]["containerStatuses"][0]["containerID"] for found in (before, pod(host, name))]
    assert shown[0] == shown[1]
    assert host.barque("exec", name, "--", "hostname") == f"{name}\n"
    host.run("rm", "/etc/barque/manifests/own.yaml")
    expect_soon(lambda: "NotFound" in host.run("barque", "get", "pod", name, check=False).stderr, 60, "it is gone")
