"""The steps that bring the kernel to what the overlay should be."""

from __future__ import annotations

from barque.network.netlink import Entry, Route, Vxlan
from barque.network.overlay.peers import Own, Peer
from barque.network.overlay.plan import (
    AddAddress,
    AddDevice,
    AddForwarding,
    AddNeighbour,
    AddRoute,
    DeleteAddress,
    DeleteDevice,
    DeleteForwarding,
    DeleteNeighbour,
    DeleteRoute,
    Device,
    Observed,
    SeenDevice,
    SetMtu,
    SetOffload,
    SetUp,
    Wanted,
    is_device_name,
    plan,
    plan_removal,
    want_host_gw,
    want_vxlan,
)
from barque.network.overlay.underlay import Underlay

OWN = Own("n1", "10.244.1.0/24", "10.0.0.1", Underlay(2, "eth0", 1500, "10.0.0.1", 24))
PEERS = (Peer("n2", "10.0.0.2", "10.244.2.0/24"), Peer("n3", "10.0.0.3", "10.244.3.0/24"))
DEVICE = Device("barque.1", "02:bb:0a:f4:01:00", 1450, "10.244.1.0", Vxlan(1, 8472, 2, "10.0.0.1"))
NOWHERE = Route(0, "10.244.1.0", 24)
TO_2, TO_3 = (Route(7, f"10.244.{n}.0", 24, f"10.244.{n}.0") for n in (2, 3))
AT_2, AT_3 = (Entry(f"10.244.{n}.0", f"02:bb:0a:f4:0{n}:00") for n in (2, 3))
BEHIND_2, BEHIND_3 = (Entry(f"10.0.0.{n}", f"02:bb:0a:f4:0{n}:00") for n in (2, 3))
WHOLE = SeenDevice(
    7, "barque.1", DEVICE.mac, 1450, True, frozenset({"10.244.1.0/32"}), DEVICE.vxlan, True,
    frozenset({AT_2, AT_3}), frozenset({BEHIND_2, BEHIND_3}),
)  # fmt: skip
ROUTES = frozenset({NOWHERE, TO_2, TO_3})


def wanted(*, mtu: int = 1450, offload: bool = True, own: Own = OWN) -> Wanted:
    return want_vxlan(own, PEERS, vni=1, port=8472, mtu=mtu, offload=offload)


def steps(seen: SeenDevice = WHOLE, routes: frozenset[Route] = ROUTES, want: Wanted | None = None) -> list[object]:
    return list(plan(want or wanted(), Observed((seen,), routes)))


def test_from_nothing_entries_come_before_the_routes_that_need_them() -> None:
    assert plan(wanted(), Observed()) == [
        AddDevice(DEVICE),
        AddAddress("barque.1", "10.244.1.0"),
        SetUp("barque.1"),
        AddForwarding("barque.1", BEHIND_2),
        AddForwarding("barque.1", BEHIND_3),
        AddNeighbour("barque.1", AT_2),
        AddNeighbour("barque.1", AT_3),
        AddRoute(NOWHERE),
        AddRoute(TO_2._replace(number=0), "barque.1"),
        AddRoute(TO_3._replace(number=0), "barque.1"),
    ]


def test_what_is_whole_needs_no_step() -> None:
    assert steps() == []


def test_each_missing_part_is_one_step() -> None:
    assert steps(routes=ROUTES - {TO_2}) == [AddRoute(TO_2, "barque.1")]
    assert steps(WHOLE._replace(neighbours=frozenset({AT_3}))) == [AddNeighbour("barque.1", AT_2)]
    assert steps(WHOLE._replace(forwarding=frozenset({BEHIND_3}))) == [AddForwarding("barque.1", BEHIND_2)]
    assert steps(WHOLE._replace(up=False)) == [SetUp("barque.1")]
    assert steps(WHOLE._replace(mtu=1400)) == [SetMtu("barque.1", 1450)]
    assert steps(WHOLE._replace(offload=False)) == [SetOffload("barque.1", True)]
    assert steps(want=wanted(offload=False)) == [SetOffload("barque.1", False)]
    assert steps(WHOLE._replace(addresses=frozenset({"10.244.9.0/32"}))) == [
        DeleteAddress("barque.1", "10.244.9.0/32"),
        AddAddress("barque.1", "10.244.1.0"),
    ]


def test_a_peer_at_another_address_changes_one_entry() -> None:
    old = Entry("10.0.0.9", BEHIND_2.mac)
    assert steps(WHOLE._replace(forwarding=frozenset({old, BEHIND_3}))) == [
        DeleteForwarding("barque.1", old),
        AddForwarding("barque.1", BEHIND_2),
    ]


def test_a_peer_that_is_gone_loses_its_route_first() -> None:
    alone = want_vxlan(OWN, PEERS[1:], vni=1, port=8472, mtu=1450, offload=True)
    assert steps(want=alone) == [
        DeleteRoute(TO_2),
        DeleteNeighbour("barque.1", AT_2),
        DeleteForwarding("barque.1", BEHIND_2),
    ]


def test_a_device_of_another_make_is_made_anew_with_all_that_went_with_it() -> None:
    for other in (
        WHOLE._replace(vxlan=Vxlan(1, 4789, 2, "10.0.0.1")),
        WHOLE._replace(vxlan=Vxlan(1, 8472, 2, "10.0.0.77")),
        WHOLE._replace(vxlan=Vxlan(1, 8472, 2, "10.0.0.1", learning=True)),
        WHOLE._replace(mac="02:bb:0a:f4:09:00"),
        WHOLE._replace(vxlan=None),
    ):
        assert steps(other) == [DeleteDevice(7, "barque.1"), *plan(wanted(), Observed((), frozenset({NOWHERE})))]
    moved = OWN._replace(underlay=OWN.underlay._replace(number=9))
    assert steps(want=wanted(own=moved))[0] == DeleteDevice(7, "barque.1")


def test_without_peers_there_is_no_device() -> None:
    alone = want_vxlan(OWN, (), vni=1, port=8472, mtu=1450, offload=True)
    assert alone == Wanted(routes=frozenset({NOWHERE}))
    assert steps(want=alone) == [DeleteDevice(7, "barque.1")]


def test_a_range_that_is_the_hosts_own_is_never_refused() -> None:
    within = OWN._replace(pod_cidr="10.0.0.0/24")
    assert want_host_gw(within, ()) == Wanted()
    assert want_vxlan(within, (), vni=1, port=8472, mtu=1450, offload=True) == Wanted()


def test_host_gw_leads_through_the_peers_themselves() -> None:
    by_2, by_3 = Route(2, "10.244.2.0", 24, "10.0.0.2"), Route(2, "10.244.3.0", 24, "10.0.0.3")
    want = want_host_gw(OWN, PEERS)
    assert plan(want, Observed()) == [AddRoute(NOWHERE), AddRoute(by_2), AddRoute(by_3)]
    assert plan(want, Observed((), frozenset({NOWHERE, by_2, by_3}))) == []
    # From VXLAN: the device takes its routes away.
    assert plan(want, Observed((WHOLE,), ROUTES)) == [DeleteDevice(7, "barque.1"), AddRoute(by_2), AddRoute(by_3)]
    # A way that is replaced goes only once the new one is there.
    former = by_2._replace(gateway="10.0.0.9")
    assert plan(want, Observed((), frozenset({NOWHERE, former, by_3}))) == [
        AddRoute(by_2, replace=True),
        DeleteRoute(former),
    ]


def test_removal_takes_every_device_and_route_of_ours() -> None:
    stray, left = WHOLE._replace(number=8, name="barque.77"), Route(2, "10.244.5.0", 24, "10.0.0.5")
    assert plan_removal(Observed((WHOLE, stray), ROUTES | {left})) == [
        DeleteDevice(7, "barque.1"),
        DeleteDevice(8, "barque.77"),
        DeleteRoute(NOWHERE),
        DeleteRoute(left),
    ]
    assert [name for name in ("barque.1", "barque.16777215", "barque.x", "barque", "bq1") if is_device_name(name)] == [
        "barque.1",
        "barque.16777215",
    ]
