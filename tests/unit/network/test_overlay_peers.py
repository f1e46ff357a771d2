"""Which nodes the overlay leads to, and what it says of those it cannot lead to."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from barque.api import codec
from barque.api.types import core_v1
from barque.api.views import NodeView
from barque.network.overlay.peers import Chart, Fault, Own, Peer, Ranges, draw_chart, overlay_mtu, what_counts
from barque.network.overlay.settings import Backend
from barque.network.overlay.underlay import Underlay
from tests.support.builders import a_node

RANGES = Ranges("10.244.0.0/16", "10.96.0.0/12")
UNDERLAY = Underlay(2, "eth0", 1500, "10.0.0.1", 24)
OWN = Own("n1", "10.244.1.0/24", "10.0.0.1", UNDERLAY)


def seen(node: core_v1.Node) -> NodeView:
    """As an informer hands it out."""
    return codec.decode(NodeView, msgspec.json.encode(node))


def a_peer(name: str, cidr: str, address: str, *, ready: bool = True, since: str = "2026-01-01T00:00:00Z") -> NodeView:
    builder = a_node(name).pod_cidr(cidr).address(address)
    node = (builder.ready() if ready else builder.unknown()).build()
    node.metadata.creationTimestamp = since
    return seen(node)


def a_chart(*nodes: NodeView, own: Own = OWN, ranges: Ranges = RANGES, backend: Backend = "vxlan") -> Chart:
    return draw_chart(nodes, own, ranges, backend)


ONE = a_peer("n1", "10.244.1.0/24", "10.0.0.1")
TWO = a_peer("n2", "10.244.2.0/24", "10.0.0.2")


def test_every_other_node_that_has_both_address_and_range() -> None:
    registering = seen(a_node("n4").address("10.0.0.4").build())
    unreported = seen(a_node("n5").pod_cidr("10.244.5.0/24").build())
    assert a_chart(ONE, TWO, registering, unreported) == Chart((Peer("n2", "10.0.0.2", "10.244.2.0/24"),))
    # Before this node's own registration is seen nothing is missed.
    assert a_chart(TWO) == Chart((Peer("n2", "10.0.0.2", "10.244.2.0/24"),))


def test_a_range_that_overlaps_goes_to_the_older_node() -> None:
    young = a_peer("a", "10.244.2.128/25", "10.0.0.5", since="2026-02-01T00:00:00Z")
    wide = a_peer("b", "10.244.0.0/20", "10.0.0.6", since="2026-03-01T00:00:00Z")
    chart = a_chart(young, wide, TWO, ONE)
    assert chart.peers == (Peer("n2", "10.0.0.2", "10.244.2.0/24"),)
    assert chart.remarks == (
        "the pod network 10.244.2.128/25 of node a overlaps 10.244.2.0/24 of node n2",
        "the pod network 10.244.0.0/20 of node b overlaps 10.244.1.0/24 of node n1",
    )
    assert chart.fault is None


def test_a_node_whose_range_an_older_one_has_says_so_of_itself() -> None:
    older = a_peer("n0", "10.244.1.0/24", "10.0.0.7", since="2025-01-01T00:00:00Z")
    chart = a_chart(ONE, older)
    why = "the pod network 10.244.1.0/24 of node n1 overlaps 10.244.1.0/24 of node n0"
    assert chart.fault == Fault("PodCIDROverlap", why)


def test_ranges_that_take_the_hosts_own_network_are_faults() -> None:
    def fault(pods: str, services: str, own: str = "10.244.1.0/24") -> tuple[str, str]:
        found = a_chart(own=OWN._replace(pod_cidr=own), ranges=Ranges(pods, services)).fault
        assert found is not None
        return found

    assert fault("10.244.0.0/16", "10.0.0.0/24") == (
        "ServiceCIDROverlap",
        "the range of services 10.0.0.0/24 overlaps the network 10.0.0.0/24 of interface eth0",
    )
    assert fault("10.0.0.0/16", "10.96.0.0/12", "10.0.1.0/24")[0] == "PodCIDROverlap"
    assert fault("10.96.0.0/16", "10.96.0.0/12", "10.96.1.0/24") == (
        "PodCIDROverlap",
        "the range of pods 10.96.0.0/16 overlaps the range of services 10.96.0.0/12",
    )
    assert fault("10.32.0.0/16", "10.96.0.0/12")[0] == "PodCIDROutOfRange"


def test_a_wider_network_of_hosts_works_but_for_those_within() -> None:
    own = OWN._replace(underlay=UNDERLAY._replace(prefix=8))
    inside = a_peer("n3", "10.244.3.0/24", "10.244.2.9")
    chart = a_chart(TWO, inside, own=own)
    assert chart.fault is None
    assert chart.peers == (Peer("n3", "10.244.2.9", "10.244.3.0/24"),)
    assert chart.remarks == (
        "hosts of eth0's network 10.0.0.0/8 that are within 10.244.0.0/16 cannot be reached",
        "hosts of eth0's network 10.0.0.0/8 that are within 10.96.0.0/12 cannot be reached",
        "the pod network 10.244.2.0/24 of node n2 contains the address 10.244.2.9 of a node",
    )


def test_a_node_with_this_ones_address() -> None:
    chart = a_chart(ONE, TWO, a_peer("twin", "10.244.9.0/24", "10.0.0.1"))
    assert chart.fault == Fault(
        "DuplicateAddress",
        "node twin has the address 10.0.0.1 as well: name another with --node-ip or --interface",
    )
    assert [peer.name for peer in chart.peers] == ["n2"]
    # One that is gone is only the former name of this host.
    former = a_chart(ONE, TWO, a_peer("former", "10.244.9.0/24", "10.0.0.1", ready=False))
    assert (former.fault, former.remarks) == (None, ("node former has this node's address 10.0.0.1",))


def test_two_others_with_one_address_are_told() -> None:
    chart = a_chart(TWO, a_peer("n3", "10.244.3.0/24", "10.0.0.2"))
    assert [peer.name for peer in chart.peers] == ["n2", "n3"]
    assert chart.remarks == ("nodes n2 and n3 both have the address 10.0.0.2",)


def test_mtu() -> None:
    assert overlay_mtu("vxlan", UNDERLAY) == 1450
    assert overlay_mtu("host-gw", UNDERLAY) == 1500
    assert overlay_mtu("vxlan", Underlay(1, "lo", 65536, "127.0.0.1", 8)) == 1500
    small = OWN._replace(underlay=UNDERLAY._replace(mtu=1329))
    assert a_chart(TWO, own=small).fault == Fault(
        "MTUTooSmall", "the MTU 1329 of interface eth0 leaves 1279 bytes for pods' packets, fewer than 1280"
    )
    assert a_chart(TWO, own=OWN._replace(underlay=UNDERLAY._replace(mtu=1330))).fault is None
    assert a_chart(TWO, own=small, backend="host-gw").fault is None


def test_host_gw_leads_to_its_own_network_alone() -> None:
    far = a_peer("n3", "10.244.3.0/24", "10.7.0.3")
    chart = a_chart(TWO, far, backend="host-gw")
    assert [peer.name for peer in chart.peers] == ["n2"]
    assert chart.remarks == (
        "node n3 at 10.7.0.3 is not on the network 10.0.0.0/24 of interface eth0, as host-gw needs: "
        "use --overlay vxlan",
    )
    assert [peer.name for peer in a_chart(TWO, far).peers] == ["n2", "n3"]


def test_a_heartbeat_counts_for_nothing() -> None:
    def change(**parts: Any) -> bool:
        node = a_node("n2").pod_cidr("10.244.2.0/24").address(parts.get("address", "10.0.0.2"))
        return what_counts(seen(node.ready(parts.get("since", "t")).build())) != what_counts(
            seen(a_node("n2").pod_cidr("10.244.2.0/24").address("10.0.0.2").ready("t").build())
        )

    assert not change(since="2026-01-01T00:05:00Z")
    assert change(address="10.0.0.3")


def test_the_time_for_many_nodes_grows_with_their_number_alone() -> None:
    nodes = [a_peer(f"n{i}", f"10.{i // 256}.{i % 256}.0/24", f"172.16.{i // 250}.{i % 250}") for i in range(3000)]
    own = Own("me", "10.200.0.0/24", "172.31.0.1", UNDERLAY._replace(address="172.31.0.1"))

    def spent_s(count: int) -> float:
        begin = time.process_time()
        chart = a_chart(*nodes[:count], own=own, ranges=Ranges("10.0.0.0/8", "192.168.0.0/16"))
        assert (len(chart.peers), chart.fault, chart.remarks) == (count, None, ())
        return time.process_time() - begin

    # Six times as many, and not thirty-six times the work, however slow the machine is; it may be slower for a moment.
    assert any(spent_s(3000) < 18 * spent_s(500) for _ in range(3))
