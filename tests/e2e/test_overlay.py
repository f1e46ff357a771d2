"""The overlay between real workers: a host that moves, and one whose network cannot carry it. In order, on one lab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import one
from tests.support.expecting import expect_soon
from tests.support.lab import IMAGE, ALab, a_lab, missing

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def lab() -> Iterator[ALab]:
    if why := missing():
        pytest.skip(why)
    with a_lab(workers=2) as made:
        for worker in made.workers:
            start_pod(made, f"on-{worker.name}", worker.name)
        yield made


def start_pod(lab: ALab, name: str, node: str) -> None:
    lab.apply(f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  tolerations: [{{operator: Exists, effect: NoExecute}}]  # It outlasts its node's silence while that moves.
  containers: [{{name: web, image: "{IMAGE}", imagePullPolicy: Never}}]
""")
    lab.wait_ready_pods(f"app={name}", 1)


def network_of(lab: ALab, node: str) -> tuple[str, str]:
    """The status and reason of the node's condition NetworkUnavailable."""
    conditions: list[dict[str, Any]] = one(lab.m1, "node", node)["status"]["conditions"]
    found = next(c for c in conditions if c["type"] == "NetworkUnavailable")
    return found["status"], found["reason"]


def reaches(lab: ALab, pod: str, address: str, size: int) -> bool:
    """Whether a packet of so many bytes, headers included, goes there and back uncut."""
    said = lab.in_pod(pod, "busybox", "ping", "-c", "1", "-W", "1", "-s", str(size - 28), address, check=False)
    return " 0% packet loss" in said


def test_a_packet_as_large_as_pods_links_take_goes_through(lab: ALab) -> None:
    there = one(lab.m1, "pod", "on-w2")["status"]["podIP"]
    assert "mtu 1450" in lab.in_pod("on-w1", "busybox", "ip", "link", "show", "eth0")
    expect_soon(lambda: reaches(lab, "on-w1", there, 1450), 60, "a packet goes there and back")
    expect_soon(lambda: network_of(lab, "w1") == ("False", "OverlayReady"), 60, "the node says so")


def test_a_host_that_moves_is_reached_at_its_new_address(lab: ALab) -> None:
    w2 = lab.host("w2")
    there = one(lab.m1, "pod", "on-w2")["status"]["podIP"]
    subnet, _, _ = w2.address.rpartition(".")
    moved = f"{subnet}.77"
    w2.run("sh", "-ec", f"ip address flush dev eth0; ip address add {moved}/24 dev eth0")

    def known() -> bool:
        addresses = one(lab.m1, "node", "w2")["status"]["addresses"]
        return {"type": "InternalIP", "address": moved} in addresses

    expect_soon(known, 120, "the masters know the new address", pause_s=0.3)
    expect_soon(lambda: reaches(lab, "on-w1", there, 1450), 120, "pods reach each other again", pause_s=0.3)
    expect_soon(
        lambda: one(lab.m1, "pod", "on-w2")["status"]["hostIP"] == moved, 120, "its pods say it, too", pause_s=0.3
    )
    w2.run("sh", "-ec", f"ip address flush dev eth0; ip address add {w2.address}/24 dev eth0")
    expect_soon(lambda: not known(), 120, "it is back", pause_s=0.3)
    expect_soon(lambda: reaches(lab, "on-w1", there, 1450), 120, "pods reach each other again", pause_s=0.3)


def test_an_mtu_too_small_keeps_pods_away_until_it_is_mended(lab: ALab) -> None:
    w1 = lab.host("w1")

    def tainted() -> bool:
        taints = one(lab.m1, "node", "w1")["spec"].get("taints", [])
        return any(taint["key"] == "node.kubernetes.io/network-unavailable" for taint in taints)

    w1.run("ip", "link", "set", "eth0", "mtu", "1300")
    expect_soon(lambda: network_of(lab, "w1") == ("True", "MTUTooSmall"), 60, "the fault is said", pause_s=0.3)
    expect_soon(tainted, 60, "pods are kept away", pause_s=0.3)
    w1.run("ip", "link", "set", "eth0", "mtu", "1400")
    expect_soon(lambda: network_of(lab, "w1") == ("False", "OverlayReady"), 60, "the fault is over", pause_s=0.3)
    expect_soon(lambda: not tainted(), 60, "pods may come", pause_s=0.3)
    start_pod(lab, "later", "w1")
    assert "mtu 1350" in lab.in_pod("later", "busybox", "ip", "link", "show", "eth0")
    assert "mtu 1450" in lab.in_pod("on-w1", "busybox", "ip", "link", "show", "eth0")
