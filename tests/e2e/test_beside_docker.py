"""A cluster on a host whose dockerd was there first, with its bridge, its rules and its FORWARD DROP."""

from __future__ import annotations

import sys

import pytest

from tests.support.cluster import WEB, cluster_ip, expect_traces, fetch, pod_names, traces
from tests.support.expecting import expect_soon
from tests.support.host import Host

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


def test_both_live_side_by_side_and_only_ours_goes(host: Host) -> None:
    host.start("dockerd", "--log-level=error")
    expect_soon(lambda: host.run("docker", "info", check=False).returncode == 0, 60, "dockerd answers")
    build = "from barque.deploy import images; images.build_web('unix:///var/run/docker.sock', '1')"
    host.run(sys.executable, "-c", build)
    # A container of the user's own, on Docker's bridge, is none of our business.
    own = host.run("docker", "run", "-d", "barque-demo/web:1").stdout.strip()
    expect_soon(lambda: "NO-CARRIER" not in host.run("ip", "-br", "link").stdout, 60, "the bridge is up")
    expect_soon(lambda: "httpd" in host.run("ps", "-eo", "args").stdout, 60, "it serves")
    before = traces(host)
    assert "DOCKER" in before["rules"]
    assert ":FORWARD DROP" in host.run("iptables-save", "-t", "filter").stdout

    host.barque("up", timeout_s=240)
    host.barque("apply", "-f", "-", stdin=WEB)
    host.barque("rollout", "status", "deployment/web", "--timeout", "100s")
    url = f"http://{cluster_ip(host)}/"
    expect_soon(lambda: all("version 1" in page for page in fetch(host, url, 10)), 60, "the service answers")
    for pod in pod_names(host):
        assert "version 1" in host.barque("exec", pod, "--", "timeout", "30", "wget", "-q", "-O-", url)

    host.barque("down", "--purge", timeout_s=240)
    assert host.run("docker", "ps", "-q", "--no-trunc").stdout.split() == [own]
    expect_traces(host, before)
