"""Who is where in a lab, and what its switch is told, word by word."""

from __future__ import annotations

import pytest

from barque.deploy.lab import plan
from barque.deploy.lab.plan import HostPlan, LabError


def test_hosts_are_the_switch_masters_and_workers() -> None:
    assert plan.plan_hosts(1, 2) == [
        HostPlan("switch", "switch", "192.168.88.1", 24, "02:ba:00:00:00:01"),
        HostPlan("m1", "master", "192.168.88.2", 24, "02:ba:00:00:00:02"),
        HostPlan("w1", "worker", "192.168.88.11", 24, "02:ba:00:00:00:0b"),
        HostPlan("w2", "worker", "192.168.88.12", 24, "02:ba:00:00:00:0c"),
    ]


def test_a_wider_subnet_has_room_for_more() -> None:
    last = plan.plan_hosts(1, 300, "10.200.0.0/16")[-1]
    assert last == HostPlan("w300", "worker", "10.200.1.54", 16, "02:ba:00:00:01:36")


@pytest.mark.parametrize(
    ("masters", "workers", "subnet", "words"),
    [
        (0, 1, "10.0.0.0/24", "a lab needs a master: --masters 1"),
        (6, 1, "10.0.0.0/24", "--masters 6: at most 5"),
        (1, -1, "10.0.0.0/24", "--workers -1: must be 0 or more"),
        (1, 245, "10.0.0.0/24", "--subnet 10.0.0.0/24 has room for 244 workers, not for 245"),
        (1, 1, "10.0.0.0/30", "--subnet 10.0.0.0/30 has room for 0 workers, not for 1"),
        (1, 1, "10.0.0.1/24", "--subnet: 10.0.0.1/24 has host bits set"),
    ],
)
def test_what_cannot_be_built_is_refused(masters: int, workers: int, subnet: str, words: str) -> None:
    with pytest.raises(LabError) as refused:
        plan.plan_hosts(masters, workers, subnet)
    assert str(refused.value) == words


def test_what_the_switch_and_a_host_are_told() -> None:
    switch, _, worker = plan.plan_hosts(1, 1)
    assert plan.render_switch(switch).splitlines() == [
        "link set lo up",
        "link add br0 address 02:ba:00:00:00:01 type bridge",
        "address add 192.168.88.1/24 dev br0",
        "link set br0 up",
    ]
    assert plan.render_port(worker, 4711).splitlines() == [
        "link add w1 type veth peer name eth0 address 02:ba:00:00:00:0b netns 4711",
        "link set w1 master br0 up",
    ]
    assert plan.render_uplink(worker, switch).splitlines() == [
        "link set lo up",
        "address add 192.168.88.11/24 broadcast + dev eth0",
        "link set eth0 up",
        "route add default via 192.168.88.1",
    ]
    assert plan.render_hosts_file([worker]) == "127.0.0.1 localhost\n192.168.88.11 w1\n"


def test_cuts_are_ports_that_are_down_and_pairs_that_are_filtered() -> None:
    cuts = [plan.normal_cut("w2", "w1"), plan.normal_cut("m1")]
    assert cuts == [("w1", "w2"), ("m1", "")]
    assert plan.render_ports(cuts, ["m1", "w1", "w2"]) == "link set m1 down\nlink set w1 up\nlink set w2 up\n"
    assert plan.render_filter(cuts).splitlines() == [
        "*filter",
        ":INPUT ACCEPT",
        ":FORWARD ACCEPT",
        ":OUTPUT ACCEPT",
        "-A FORWARD -i w1 -o w2 -j DROP",
        "-A FORWARD -i w2 -o w1 -j DROP",
    ]
    assert plan.render_filter([]).splitlines()[1:] == [":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT"]


def test_healing_mends_what_is_named() -> None:
    cuts = [("w1", "w2"), ("w1", "w3"), ("w2", "")]
    assert plan.heal(cuts, "w2", "w1") == [("w1", "w3"), ("w2", "")]
    assert plan.heal(cuts, "w2") == [("w1", "w3")]
    assert plan.heal(cuts) == []


def test_a_link_in_words() -> None:
    cuts = [("w1", "w2"), ("w1", "w3"), ("w2", "")]
    assert [plan.link_words(name, cuts) for name in ("m1", "w1", "w2", "w3")] == [
        "up", "cut from w2, w3", "cut", "cut from w1",
    ]  # fmt: skip


def test_who_is_connected() -> None:
    cuts = [("w1", "w2"), ("w3", "")]
    assert plan.connected(cuts, "w1", "m1")
    assert plan.connected(cuts, "w1", "")
    assert not plan.connected(cuts, "w2", "w1")
    assert not plan.connected(cuts, "m1", "w3")
    assert not plan.connected(cuts, "w3", "")


def test_the_table_has_columns_as_wide_as_their_words() -> None:
    assert plan.render_table([["HOST", "STATE"], ["w1", "up"], ["worker", "off"]]) == (
        "HOST     STATE\nw1       up\nworker   off\n"
    )


def test_masters_have_addresses_below_the_workers() -> None:
    hosts = plan.plan_hosts(5, 1)
    assert [(host.name, host.address) for host in hosts[1:]] == [
        ("m1", "192.168.88.2"),
        ("m2", "192.168.88.3"),
        ("m3", "192.168.88.4"),
        ("m4", "192.168.88.5"),
        ("m5", "192.168.88.6"),
        ("w1", "192.168.88.11"),
    ]


@pytest.mark.parametrize(
    ("running", "cuts", "serves"),
    [
        (["m1", "m2", "m3"], [], True),
        (["m1", "m3"], [], True),
        (["m2"], [], False),
        (["m1", "m2"], [("m1", "m2")], False),
        (["m1", "m2", "m3"], [("m1", "m2")], True),
        (["m1", "m2", "m3"], [("m1", ""), ("m2", "")], False),
        (["m1", "m2", "m3"], [("m1", "")], True),
        (["m1", "m2", "m3"], [("m1", "w1"), ("m2", "w1")], True),
        ([], [], False),
    ],
)
def test_masters_serve_where_a_majority_runs_in_sight(running: list[str], cuts: list[plan.Cut], serves: bool) -> None:
    assert plan.majority(cuts, ["m1", "m2", "m3"], running) is serves
