"""The network of several hosts: pods reach pods, a Service is one address and one name, and a host's death is no one
else's trouble. The tests run in order on one lab of three workers.
"""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import one
from tests.support.expecting import expect_soon
from tests.support.lab import REPLICAS, WEB, ALab, LabHost, a_lab, missing

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

REQUESTING = Path(__file__).with_name("requesting.py")
# So many answers of six pods at random leave one out less than once in ten million times.
ROUNDS = 100


@pytest.fixture(scope="module")
def lab() -> Iterator[ALab]:
    if why := missing():
        pytest.skip(why)
    with a_lab(workers=3) as made:
        made.apply(WEB)
        made.wait_ready_pods("app=web", REPLICAS)
        yield made


@pytest.fixture
def by_node(lab: ALab) -> dict[str, list[dict[str, Any]]]:
    """The ready pods of every node."""
    found = collections.defaultdict(list)
    for pod in lab.ready_pods("-l", "app=web"):
        found[pod["spec"]["nodeName"]].append(pod)
    return dict(found)


def name_of(pod: dict[str, Any]) -> str:
    name: str = pod["metadata"]["name"]
    return name


def fetch_in_pod(lab: ALab, pod: str, *urls: str, times: int = 1) -> list[str]:
    """Which pods answered; each fetch of each address must be answered."""
    once = " && ".join(f"timeout 30 wget -q -O- {url}" for url in urls)
    pages = lab.in_pod(pod, "sh", "-c", f"n=0; while [ $n -lt {times} ]; do {once} || exit 1; n=$((n+1)); done")
    answers = [page.rpartition("pod ")[2] for page in pages.splitlines()]
    assert len(answers) == times * len(urls), pages
    return answers


def fetch_on_host(host: LabHost, url: str, times: int = 1) -> list[str]:
    once = f"print(urllib.request.urlopen('{url}', timeout=10).read().decode().strip())"
    program = f"import urllib.request\nfor _ in range({times}): {once}"
    return [page.rpartition("pod ")[2] for page in host.run(sys.executable, "-c", program).stdout.splitlines()]


def cluster_ip(lab: ALab) -> str:
    address: str = one(lab.m1, "service", "web")["spec"]["clusterIP"]
    return address


def endpoint_nodes(lab: ALab) -> set[str]:
    """The nodes of the service's ready endpoints."""
    slices = json.loads(lab.barque("get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", "json"))
    endpoints = [endpoint for item in slices["items"] for endpoint in item.get("endpoints", ())]
    return {endpoint["nodeName"] for endpoint in endpoints if endpoint["conditions"]["ready"]}


def test_pods_of_different_hosts_reach_each_other(lab: ALab, by_node: dict[str, list[dict[str, Any]]]) -> None:
    assert sorted(by_node) == ["w1", "w2", "w3"]
    firsts = [pods[0] for _, pods in sorted(by_node.items())]
    urls = [f"http://{pod['status']['podIP']}:8080/" for pod in firsts]
    names = [name_of(pod) for pod in firsts]
    # A host hears of the others' pods in its own time.
    for name in names:
        expect_soon(lambda pod=name: fetch_in_pod(lab, pod, *urls) == names, 60, f"{name} reaches {names}")  # type: ignore[misc]


def test_a_service_is_one_address_from_every_pod_and_host(lab: ALab, by_node: dict[str, list[dict[str, Any]]]) -> None:
    url, everyone = f"http://{cluster_ip(lab)}/", {name_of(pod) for pods in by_node.values() for pod in pods}
    for node, pods in sorted(by_node.items()):
        in_pod = lambda pod=name_of(pods[0]): set(fetch_in_pod(lab, pod, url, times=ROUNDS)) == everyone  # noqa: E731
        on_host = lambda host=lab.host(node): set(fetch_on_host(host, url, ROUNDS)) == everyone  # noqa: E731
        expect_soon(in_pod, 60, f"a pod of {node} is led to each of {everyone}")
        expect_soon(on_host, 60, f"so is {node}")


def test_a_service_is_one_name_in_every_pod(lab: ALab, by_node: dict[str, list[dict[str, Any]]]) -> None:
    everyone = {name_of(pod) for pods in by_node.values() for pod in pods}
    names = ("web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "web.default.svc.cluster.local.")
    urls = [f"http://{name}/" for name in names]
    for _, pods in sorted(by_node.items()):
        found = lambda pod=name_of(pods[-1]): set(fetch_in_pod(lab, pod, *urls)) <= everyone  # noqa: E731
        expect_soon(found, 60, f"{name_of(pods[-1])} knows the service by name")


def test_a_dead_host_loses_no_request_once_its_endpoints_are_gone(
    lab: ALab, by_node: dict[str, list[dict[str, Any]]]
) -> None:
    url = cluster_ip(lab)
    lab.run("kill", "w3")
    expect_soon(lambda: endpoint_nodes(lab) == {"w1", "w2"}, 60, "the endpoints of w3 are gone", pause_s=0.1)
    survivors = [name_of(by_node[node][0]) for node in ("w1", "w2")]
    lost = [pod["status"]["podIP"] for pod in by_node["w3"]]
    expect_soon(lambda: without_rules(lab, lost), 60, "no rule leads to them", pause_s=0.01)
    fetching = [start_fetching(lab.host(node), url) for node in ("w1", "w2")]
    moved = lab.wait_ready_pods("app=web", REPLICAS)
    for pod in survivors:
        assert len(fetch_in_pod(lab, pod, f"http://{url}/", times=20)) == 20
    for counts in [stop_fetching(each) for each in fetching]:
        assert list(counts) == ["Hello: version 1"], counts
        assert counts["Hello: version 1"] >= 20
    assert {pod["spec"]["nodeName"] for pod in moved} == {"w1", "w2"}


def without_rules(lab: ALab, addresses: list[str]) -> bool:
    """Whether no host that lives sends service traffic to these."""
    rules = [lab.host(node).run("iptables-save", "-t", "nat").stdout for node in ("w1", "w2")]
    return not any(f"{address}:" in text for text in rules for address in addresses)


def start_fetching(host: LabHost, address: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        host.argv([sys.executable, str(REQUESTING), address]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=host.environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "fetching\n"
    return process


def stop_fetching(process: subprocess.Popen[str]) -> dict[str, int]:
    """How many answers there were of each kind."""
    out, _ = process.communicate("", timeout=120)
    counts: dict[str, int] = json.loads(out)
    return counts


def test_a_host_that_returns_serves_again(lab: ALab) -> None:
    lab.run("start", "w3")
    expect_soon(lambda: "taints" not in one(lab.m1, "node", "w3")["spec"], 60, "pods may come to w3")
    lab.barque("scale", "deployment", "web", "--replicas", str(REPLICAS + 3))
    lab.wait_ready_pods("app=web", REPLICAS + 3)
    expect_soon(lambda: endpoint_nodes(lab) == {"w1", "w2", "w3"}, 60, "w3 has endpoints again")
    url = f"http://{cluster_ip(lab)}/"
    here = {name_of(pod) for pod in lab.ready_pods("-l", "app=web")}
    expect_soon(lambda: set(fetch_on_host(lab.host("w3"), url, 2 * ROUNDS)) == here, 60, f"it leads to each of {here}")


def test_cleanup_leaves_a_host_as_it_was(lab: ALab) -> None:
    w2 = lab.host("w2")
    assert "BARQUE-" in w2.run("iptables-save").stdout
    pid = int(w2.run("cat", "/run/barque/worker.pid").stdout.split()[0])
    w2.kill(pid, signal.SIGTERM)
    gone = lambda: w2.run("test", "-e", f"/proc/{pid}", check=False).returncode != 0  # noqa: E731
    expect_soon(gone, 60, "the worker has ended")
    w2.barque("worker", "cleanup")
    rules = [
        line for line in w2.run("iptables-save").stdout.splitlines() if not line.startswith(("#", ":", "COMMIT", "*"))
    ]
    links = [line.split()[0].partition("@")[0] for line in w2.run("ip", "-br", "link").stdout.splitlines()]
    routes = w2.run("ip", "route").stdout.split("\n")
    assert (rules, sorted(links)) == ([], ["eth0", "lo"])
    assert [route.split()[0] for route in routes if route] == ["default", "192.168.88.0/24"]
    assert w2.run("sysctl", "-n", "net.ipv4.ip_forward").stdout == "0\n"
