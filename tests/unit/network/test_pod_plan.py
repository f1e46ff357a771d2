"""The steps that make a pod's network."""

import pytest

from barque.network.iptables.chains import FORWARD, HOST_PORTS, LOOPBACK, MASQUERADE
from barque.network.pods.plan import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddVeth,
    Attachment,
    DeleteLink,
    Observed,
    OccupiedError,
    SetMtu,
    SetSysctl,
    SetUp,
    is_link_name,
    link_name,
    plan_attach,
    pod_mac,
)
from barque.network.pods.rules import render_pod_chains

WANTED = Attachment("bq0123456789a", "10.244.3.2", 1450)


def test_a_fresh_pod() -> None:
    host, pod = plan_attach(WANTED, Observed())
    assert host == (
        AddVeth("bq0123456789a", "ee:ee:ee:ee:ee:ee", "02:ba:0a:f4:03:02", 1450),
        SetSysctl("net/ipv6/conf/bq0123456789a/disable_ipv6", "1", optional=True),
        SetSysctl("net/ipv4/conf/bq0123456789a/forwarding", "1"),
        SetSysctl("net/ipv4/conf/bq0123456789a/rp_filter", "1"),
        SetSysctl("net/ipv4/conf/bq0123456789a/send_redirects", "0"),
        SetSysctl("net/ipv4/conf/bq0123456789a/route_localnet", "0"),
        SetUp("bq0123456789a"),
        AddNeighbour("bq0123456789a", "10.244.3.2", "02:ba:0a:f4:03:02"),
        AddRoute("bq0123456789a", "10.244.3.2", 32),
    )
    assert pod == (
        SetUp("lo"),
        SetMtu("eth0", 1450),
        SetSysctl("net/ipv6/conf/eth0/disable_ipv6", "1", optional=True),
        SetSysctl("net/ipv4/conf/all/accept_redirects", "0"),
        SetSysctl("net/ipv4/conf/eth0/accept_redirects", "0"),
        AddAddress("eth0", "10.244.3.2"),
        SetUp("eth0"),
        AddNeighbour("eth0", "169.254.1.1", "ee:ee:ee:ee:ee:ee"),
        AddRoute("eth0", "0.0.0.0", 0, "169.254.1.1"),
    )


def test_one_half_made_is_completed() -> None:
    plan = plan_attach(WANTED, Observed(7, 2, 2, 7))
    fresh = plan_attach(WANTED, Observed())
    assert plan.host == (SetMtu("bq0123456789a", 1450), *fresh.host[1:])
    assert plan.pod == fresh.pod


def test_the_link_of_a_former_sandbox_is_replaced() -> None:
    plan = plan_attach(WANTED, Observed(link_index=7, link_peer=2))
    assert plan.host[:2] == (DeleteLink("bq0123456789a"), plan_attach(WANTED, Observed()).host[0])


def test_only_a_port_of_the_loopback_opens_the_loopback() -> None:
    opened = SetSysctl("net/ipv4/conf/bq0123456789a/route_localnet", "1")
    assert opened in plan_attach(WANTED._replace(on_loopback=True), Observed()).host
    assert opened not in plan_attach(WANTED, Observed(7, 2, 2, 7)).host


def test_anothers_eth0_is_left_alone() -> None:
    for seen in (Observed(0, 0, 2, 9), Observed(7, 2, 2, 9), Observed(7, 3, 2, 7)):
        with pytest.raises(OccupiedError):
            plan_attach(WANTED, seen)


def test_links_are_named_after_pods_and_fit_the_kernel() -> None:
    assert link_name("01234567-89ab-4def-8123-456789abcdef") == "bq0123456789a"
    for uid in ("01234567-89ab-4def-8123-456789abcdef", "uid-web", "", "ABCDEF01-2345-6789-0000-000000000000"):
        assert is_link_name(link_name(uid))
        assert len(link_name(uid)) <= 15
    assert link_name("uid-a") != link_name("uid-b")
    assert not is_link_name("bq-mine")
    assert not is_link_name("bqdeadbeef0000")


def test_pods_have_addresses_of_their_own_below_ip() -> None:
    assert pod_mac("10.244.3.2") == "02:ba:0a:f4:03:02"


def test_the_pod_chains() -> None:
    assert render_pod_chains("10.244.3.0/24", "10.244.0.0/16", "10.96.0.0/12") == {
        FORWARD: (
            "-m conntrack --ctstate NEW -j BARQUE-SERVICES",
            "-s 10.244.0.0/16 -m conntrack --ctstate INVALID -j DROP",
            "-d 10.244.0.0/16 -m conntrack --ctstate INVALID -j DROP",
            "-s 10.244.0.0/16 -j ACCEPT",
            "-d 10.244.0.0/16 -j ACCEPT",
        ),
        LOOPBACK: ("-i bq+ -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",),
        HOST_PORTS: (),
        MASQUERADE: (
            "! -s 10.244.3.0/24 -j RETURN",
            "-d 10.244.0.0/16 -j RETURN",
            "-d 10.96.0.0/12 -j RETURN",
            "-j MASQUERADE --random-fully",
        ),
    }
