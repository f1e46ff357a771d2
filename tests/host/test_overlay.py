"""The overlay in a real kernel: three hosts, each a network namespace, on one bridge; nothing made up but the Nodes."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from barque.network.cleanup import cleanup
from barque.network.overlay import overlay
from barque.network.overlay.offload import offloads_checksums, set_checksum_offload
from barque.network.overlay.settings import OverlaySettings
from tests.support.expecting import expect_soon
from tests.support.namespaces import Namespace, links, missing
from tests.support.overlay_hosts import (
    OUTSIDE,
    Fleet,
    OverlayHost,
    a_fleet,
    a_node_at,
    routes,
    send,
    stream,
    until_settled,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]

VXLAN, HOST_GW = OverlaySettings(), OverlaySettings(backend="host-gw")
SOON_S = 60


@pytest.fixture(scope="module", autouse=True)
def _told() -> Iterator[None]:
    """Whatever is put right is so because it was told of: the next full look is far away."""
    with patch.object(overlay, "RESYNC_S", 3600.0):
        yield


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with a_fleet(3) as made:
        yield made


def entries(host: OverlayHost) -> list[str]:
    """Neighbours and forwarding entries of the device, but those that its kernel makes for multicast."""
    shown = host.namespace.run("ip", "neigh", "show", "dev", "barque.1").splitlines()
    shown += host.namespace.run("bridge", "fdb", "show", "dev", "barque.1").splitlines()
    return sorted(line.strip() for line in shown if not line.startswith(("33:33", "01:00")))


def fault(host: OverlayHost) -> tuple[str, str]:
    """Reason and message of what is wrong, as it was said last; ("", "") where nothing is."""
    state = host.state
    return state.fault if state is not None and state.fault is not None else ("", "")


def device(host: OverlayHost) -> str:
    return host.namespace.run("ip", "-d", "link", "show", "barque.1")


@pytest.mark.parametrize(("settings", "mtu"), [(VXLAN, 1450), (HOST_GW, 1500)], ids=["vxlan", "host-gw"])
def test_pods_of_different_hosts_reach_each_other_and_the_world(
    fleet: Fleet, tmp_path: Path, settings: OverlaySettings, mtu: int
) -> None:
    fleet.start(settings)
    for host in fleet.hosts:
        assert host.overlay is not None
        assert host.overlay.mtu == mtu
        host.start_pod(tmp_path / host.name, mtu)
    one, two, three = fleet.hosts
    for namespace in (one.pod, two.pod, three.pod, two.namespace, fleet.bridge):
        namespace.serve(8080)

    # From pod to pod the address stays, and a packet as large as the pods' links take is let through whole.
    assert one.pod.ask(two.pod_ip, 8080) == ("pod-2", one.pod_ip)
    assert three.pod.ask_udp(one.pod_ip, 8080) == ("pod-1", three.pod_ip)
    assert send(one.pod, two.pod, two.pod_ip, mtu) == one.pod_ip
    with pytest.raises(OSError) as refused:  # noqa: PT011 - its number is asserted
        send(one.pod, two.pod, two.pod_ip, mtu + 1)
    assert refused.value.errno == errno.EMSGSIZE
    assert stream(one.pod, three.pod, three.pod_ip, 1 << 20) == 1 << 20
    # From a host to another's pod, and from a pod to another host and the world, which see the host's address.
    name, caller = one.namespace.ask(two.pod_ip, 8080)
    assert (name, caller) == ("pod-2", "10.244.1.0" if settings is VXLAN else one.address)
    assert one.pod.ask(two.address, 8080) == ("n2", one.address)
    assert one.pod.ask(OUTSIDE, 8080) == ("outside", one.address)
    # Of a pod that is gone one hears at once, from near and far.
    for asker in (one.pod, two.namespace, two.pod):
        with pytest.raises(OSError, match="No route to host"):
            asker.ask("10.244.1.200", 8080)


def test_what_the_device_is_and_where_it_leads(fleet: Fleet) -> None:
    fleet.start(OverlaySettings(vni=1, port=4789))
    shown = device(fleet.hosts[0])
    for part in ("mtu 1450", "02:bb:0a:f4:01:00", "vxlan id 1 local 192.168.77.11 dev uplink", "dstport 4789", "nolea"):
        assert part in shown
    assert "inet 10.244.1.0/32" in fleet.hosts[0].namespace.run("ip", "address", "show", "barque.1")
    assert "inet6" not in fleet.hosts[0].namespace.run("ip", "address", "show", "barque.1")
    assert fleet.hosts[0].namespace.call(lambda: offloads_checksums("barque.1"))
    assert entries(fleet.hosts[0]) == [
        "02:bb:0a:f4:02:00 dst 192.168.77.12 self permanent",
        "02:bb:0a:f4:03:00 dst 192.168.77.13 self permanent",
        "10.244.2.0 lladdr 02:bb:0a:f4:02:00 PERMANENT",
        "10.244.3.0 lladdr 02:bb:0a:f4:03:00 PERMANENT",
    ]


@pytest.mark.parametrize(
    "damage",
    [
        ("ip", "link", "delete", "barque.1"),
        ("ip", "link", "set", "barque.1", "down"),
        ("ip", "link", "set", "barque.1", "mtu", "1400"),
        ("ip", "address", "flush", "dev", "barque.1"),
        ("ip", "route", "delete", "10.244.2.0/24"),
        ("ip", "route", "delete", "unreachable", "10.244.1.0/24"),
        ("ip", "neigh", "delete", "10.244.2.0", "dev", "barque.1"),
        ("bridge", "fdb", "delete", "02:bb:0a:f4:02:00", "dev", "barque.1"),
    ],
    ids=lambda command: " ".join(command[1:4]),
)
def test_what_others_delete_is_back_within_seconds(damaged: Fleet, damage: tuple[str, ...]) -> None:
    host = damaged.hosts[0]
    before = (entries(host), routes(host))
    # Most likely, what announced the former damage has been looked at: this one has to be announced itself.
    time.sleep(0.6)
    host.namespace.run(*damage)

    def healed() -> bool:
        addressed = "inet 10.244.1.0/32" in host.namespace.run("ip", "address", "show", "barque.1")
        refused = "unreachable 10.244.1.0/24" in host.namespace.run("ip", "route")
        return (entries(host), routes(host)) == before and addressed and refused and "mtu 1450" in device(host)

    expect_soon(healed, SOON_S, "the overlay is as it was")
    assert send(damaged.bridge, damaged.hosts[1].namespace, "192.168.77.12", 1400) == OUTSIDE
    assert send(host.namespace, damaged.hosts[1].namespace, "10.244.2.0", 1450) == "10.244.1.0"


@pytest.fixture(scope="module")
def damaged() -> Iterator[Fleet]:
    with a_fleet(2) as made:
        made.start()
        yield made


@pytest.mark.parametrize("settings", [VXLAN, HOST_GW], ids=["vxlan", "host-gw"])
def test_a_changed_address_heals_on_all_hosts(fleet: Fleet, settings: OverlaySettings) -> None:
    fleet.start(settings)
    moved, other = fleet.hosts[0], fleet.hosts[1]
    for host in (moved, other):
        # What a pod of the host would answer with.
        host.namespace.run("ip", "address", "add", f"10.244.{host.number}.7/32", "dev", "lo")
    moved.namespace.run("ip", "address", "delete", "192.168.77.11/24", "dev", "uplink")
    moved.namespace.run("ip", "address", "add", "192.168.77.41/24", "dev", "uplink")
    moved.namespace.run("ip", "route", "add", "default", "via", OUTSIDE)

    def heard() -> bool:
        shown = other.namespace.run("bridge", "fdb", "show") + other.namespace.run("ip", "route")
        return "192.168.77.41" in shown and "192.168.77.11" not in shown

    expect_soon(heard, SOON_S, "the other host leads to the new address")
    until_settled(fleet, fleet.hosts)
    assert send(other.namespace, moved.namespace, "10.244.1.7", 1400) in ("10.244.2.0", other.address)
    assert send(moved.namespace, other.namespace, "10.244.2.7", 1400) in ("10.244.1.0", "192.168.77.41")


def test_an_interface_that_disappears_is_said_and_heals(fleet: Fleet) -> None:
    fleet.start(OverlaySettings(interface="uplink"))
    host = fleet.hosts[0]
    host.namespace.run("ip", "link", "delete", "uplink")
    said = ("InterfaceNotFound", "this host has no interface uplink")
    expect_soon(lambda: fault(host) == said, SOON_S, "the fault is said")
    host.plug()
    expect_soon(lambda: host.state is not None and host.state.fault is None, SOON_S, "the fault is over")
    until_settled(fleet, [host])
    assert send(host.namespace, fleet.hosts[1].namespace, "10.244.2.0", 1450) == "10.244.1.0"


def test_an_mtu_too_small_is_said_and_heals(fleet: Fleet) -> None:
    fleet.start()
    host = fleet.hosts[0]
    host.namespace.run("ip", "link", "set", "uplink", "mtu", "1300")
    expect_soon(lambda: fault(host)[0] == "MTUTooSmall", SOON_S, "the fault is said")
    expect_soon(lambda: "mtu 1250" in device(host), SOON_S, "the device takes smaller packets only")
    host.namespace.run("ip", "link", "set", "uplink", "mtu", "9000")
    expect_soon(lambda: host.state is not None and host.state.fault is None, SOON_S, "the fault is over")
    expect_soon(lambda: "mtu 8950" in device(host), SOON_S, "the device takes larger packets")


def test_another_program_with_the_same_network_is_named(fleet: Fleet) -> None:
    host = fleet.hosts[0]
    host.namespace.run("ip", "link", "add", "flannel.1", "type", "vxlan", "id", "1", "dev", "uplink", "dstport", "8472")
    for each in fleet.hosts:
        host.hear(each.node())
    host.start()
    said = "another device of this host uses VXLAN network 1 on UDP port 8472"
    expect_soon(lambda: said in fault(host)[1], SOON_S, "the fault is said")
    host.namespace.run("ip", "link", "delete", "flannel.1")
    expect_soon(lambda: host.state is not None and host.state.fault is None, SOON_S, "the fault is over")
    until_settled(fleet, [host])


def test_a_route_of_another_program_stays_and_is_named(fleet: Fleet) -> None:
    host = fleet.hosts[0]
    host.namespace.run("ip", "route", "add", "10.244.2.0/24", "via", OUTSIDE)
    for each in fleet.hosts:
        host.hear(each.node())
    host.start()
    said = ("OverlayFailed", "another program has a route to 10.244.2.0/24: remove it (ip route)")
    expect_soon(lambda: fault(host) == said, SOON_S, "the fault is said")
    assert routes(host) == ["10.244.3.0/24"]
    host.namespace.run("ip", "route", "delete", "10.244.2.0/24", "via", OUTSIDE)
    expect_soon(lambda: host.state is not None and host.state.fault is None, SOON_S, "the fault is over")
    until_settled(fleet, [host])


def test_a_node_that_goes_takes_its_way_along_and_the_last_one_the_device(fleet: Fleet) -> None:
    fleet.start()
    host = fleet.hosts[0]
    # A node without a pod network is as good as none.
    host.hear(a_node_at("n2", "", "192.168.77.12"))
    expect_soon(lambda: routes(host) == ["10.244.3.0/24"], SOON_S, "the route is gone")
    left = [
        "02:bb:0a:f4:03:00 dst 192.168.77.13 self permanent",
        "10.244.3.0 lladdr 02:bb:0a:f4:03:00 PERMANENT",
    ]
    expect_soon(lambda: entries(host) == left, SOON_S, "the entries are gone")
    host.hear(a_node_at("n3", "", "192.168.77.13"))
    expect_soon(lambda: "barque.1" not in links(host.namespace), SOON_S, "the device is gone")


def test_checksums_are_computed_by_the_kernel_where_the_user_says_so(fleet: Fleet) -> None:
    fleet.start(OverlaySettings(checksum_offload="off"))
    host = fleet.hosts[0]

    def offloads() -> bool:
        return host.namespace.call(lambda: offloads_checksums("barque.1"))

    assert not offloads()
    host.namespace.call(lambda: set_checksum_offload("barque.1", True))
    expect_soon(lambda: not offloads(), SOON_S, "it is off again")
    assert send(host.namespace, fleet.hosts[1].namespace, "10.244.2.0", 1450) == "10.244.1.0"


@pytest.mark.parametrize("settings", [VXLAN, HOST_GW], ids=["vxlan", "host-gw"])
def test_cleanup_leaves_links_and_routes_as_they_were(fleet: Fleet, tmp_path: Path, settings: OverlaySettings) -> None:
    host = fleet.hosts[0]
    before = look(host.namespace)
    fleet.start(settings)
    assert look(host.namespace) != before
    host.stop()
    done = host.namespace.call(lambda: asyncio.run(cleanup(tmp_path / "network", ["nft"])))
    assert any("routes of the overlay" in line for line in done)
    assert look(host.namespace) == before


def test_a_restart_changes_nothing_in_the_kernel_even_while_no_master_answers(fleet: Fleet) -> None:
    fleet.start()
    host = fleet.hosts[0]
    before, told = look(host.namespace), len(host.states)
    host.stop()
    assert look(host.namespace) == before
    host.silence()
    host.start()
    time.sleep(0.6)
    assert (look(host.namespace), len(host.states)) == (before, told)
    host.silence(False)
    expect_soon(lambda: len(host.states) > told, SOON_S, "it has heard of all nodes")
    assert look(host.namespace) == before


def look(namespace: Namespace) -> tuple[str, str, str]:
    return links(namespace), namespace.run("ip", "route"), namespace.run("ip", "neigh", "show", "nud", "permanent")
