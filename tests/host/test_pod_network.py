"""The pod network in a real kernel: a host that is a fresh network namespace, its pods, and a world outside."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.network.cleanup import cleanup
from barque.network.iptables.driver import Iptables, Mode, detect_mode
from barque.network.pods.book import AddressesExhaustedError
from barque.network.pods.network import PodNetwork
from barque.network.pods.plan import OccupiedError, link_name
from tests.support.namespaces import (
    HOST_ADDRESS,
    OUTSIDE_ADDRESS,
    Namespace,
    a_host_with_an_outside,
    like_docker,
    links,
    missing,
    saved,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]

UIDS = [f"{i:08x}-1111-4222-8333-444455556666" for i in range(64)]
NODE_CIDR = "10.244.3.0/24"


class Ship:
    """A host with its pod network and its pods."""

    def __init__(self, host: Namespace, outside: Namespace, mode: Mode, state_dir: Path) -> None:
        self.host, self.outside, self.mode, self.state_dir = host, outside, mode, state_dir
        self.pods: list[Namespace] = []

    def network(self) -> PodNetwork:
        return PodNetwork(self.state_dir, iptables=Iptables(self.mode))

    def pod(self, name: str) -> Namespace:
        self.pods.append(Namespace(name))
        return self.pods[-1]

    def two_pods(self) -> tuple[Namespace, Namespace, str, str]:
        a, b = self.pod("a"), self.pod("b")

        async def story() -> tuple[str, str]:
            network = self.network()
            await network.start(NODE_CIDR, 1450)
            one, two = await asyncio.gather(network.attach(UIDS[0], a.path), network.attach(UIDS[1], b.path))
            return one, two

        ip_a, ip_b = self.host.call(lambda: asyncio.run(story()))
        return a, b, ip_a, ip_b

    def cleanup(self) -> list[str]:
        return self.host.call(lambda: asyncio.run(cleanup(self.state_dir)))


@pytest.fixture(params=["nft", "legacy"])
def ship(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ship]:
    with a_host_with_an_outside() as (host, outside):
        like_docker(host, request.param)
        made = Ship(host, outside, request.param, tmp_path / "network")
        try:
            yield made
        finally:
            for pod in made.pods:
                pod.close()


def test_pods_reach_each_other_the_host_and_the_world(ship: Ship) -> None:
    a, b, ip_a, ip_b = ship.two_pods()
    for namespace in (a, b, ship.host, ship.outside):
        namespace.serve(8080)

    assert a.ask(ip_b, 8080) == ("b", ip_a)
    assert b.ask(ip_a, 8080) == ("a", ip_b)
    assert a.ask(HOST_ADDRESS, 8080) == ("host", ip_a)
    assert ship.host.ask(ip_a, 8080) == ("a", HOST_ADDRESS)
    assert ship.host.ask_udp(ip_b, 8080) == ("b", HOST_ADDRESS)
    # The world sees the host's address, never a pod's.
    assert a.ask(OUTSIDE_ADDRESS, 8080) == ("outside", HOST_ADDRESS)


def test_a_pod_has_one_address_one_route_and_no_ipv6(ship: Ship) -> None:
    a, _, ip_a, _ = ship.two_pods()
    assert ip_a == "10.244.3.2"
    assert f"inet {ip_a}/32" in a.run("ip", "-4", "address", "show", "eth0")
    assert a.run("ip", "route").split() == ["default", "via", "169.254.1.1", "dev", "eth0", "proto", "static", "onlink"]
    assert "PERMANENT" in a.run("ip", "neighbour")
    assert a.run("ip", "-6", "address", "show", "eth0") == ""
    assert "mtu 1450" in a.run("ip", "link", "show", "eth0")
    assert ship.host.run("ip", "-6", "address", "show", link_name(UIDS[0])) == ""


def test_a_pod_cannot_forge_its_address(ship: Ship) -> None:
    a, b, _, ip_b = ship.two_pods()
    b.serve(8080)
    a.run("ip", "address", "add", "10.244.3.99/32", "dev", "eth0")
    a.run("ip", "route", "replace", "default", "via", "169.254.1.1", "dev", "eth0", "onlink", "src", "10.244.3.99")
    with pytest.raises(TimeoutError):
        a.ask(ip_b, 8080, timeout_s=0.5)


def test_everything_is_taken_over_after_a_crash(ship: Ship) -> None:
    a, _, ip_a, ip_b = ship.two_pods()
    before = links(ship.host)

    async def story() -> None:
        network = ship.network()
        await network.start(NODE_CIDR, 1450)
        assert network.addresses() == {UIDS[0]: ip_a, UIDS[1]: ip_b}
        assert await network.attach(UIDS[0], a.path) == ip_a

    ship.host.call(lambda: asyncio.run(story()))
    assert links(ship.host) == before


def test_without_its_book_it_still_gives_no_address_twice(ship: Ship) -> None:
    a, _, ip_a, ip_b = ship.two_pods()
    (ship.state_dir / "addresses.json").write_text("torn")
    c = ship.pod("c")

    async def story() -> None:
        network = ship.network()
        await network.start(NODE_CIDR, 1450)
        fresh = await network.attach(UIDS[2], c.path)
        assert fresh not in (ip_a, ip_b)
        assert await network.attach(UIDS[0], a.path) == ip_a
        await network.retain({UIDS[0], UIDS[2]})
        assert network.addresses() == {UIDS[0]: ip_a, UIDS[2]: fresh}

    ship.host.call(lambda: asyncio.run(story()))
    assert link_name(UIDS[1]) not in links(ship.host)
    assert link_name(UIDS[0]) in links(ship.host)


def test_a_new_sandbox_of_the_same_pod_keeps_its_address(ship: Ship) -> None:
    _, b, ip_a, ip_b = ship.two_pods()
    b.serve(8080)
    again = ship.pod("a2")

    async def story() -> str:
        network = ship.network()
        await network.start(NODE_CIDR, 1450)
        return await network.attach(UIDS[0], again.path)

    assert ship.host.call(lambda: asyncio.run(story())) == ip_a
    assert again.ask(ip_b, 8080) == ("b", ip_a)


def test_detach_removes_the_link_and_may_be_repeated(ship: Ship) -> None:
    ship.two_pods()

    async def story() -> None:
        network = ship.network()
        await network.start(NODE_CIDR, 1450)
        await network.detach(UIDS[0])
        await network.detach(UIDS[0])
        await network.detach("never heard of")
        assert set(network.addresses()) == {UIDS[1]}

    ship.host.call(lambda: asyncio.run(story()))
    assert link_name(UIDS[0]) not in links(ship.host)


def test_faults_are_told_clearly_and_leave_nothing_half_made(ship: Ship) -> None:
    taken, gone = ship.pod("taken"), ship.pod("gone")
    taken.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")

    async def story() -> None:
        network = ship.network()
        await network.start("10.244.3.0/30", 1450)
        with pytest.raises(OccupiedError, match="already has a device eth0"):
            await network.attach(UIDS[0], taken.path)
        with pytest.raises(FileNotFoundError):
            await network.attach(UIDS[0], "/proc/0/ns/net")
        await network.attach(UIDS[0], gone.path)
        with pytest.raises(AddressesExhaustedError, match="no address left in the node's pod CIDR"):
            await network.attach(UIDS[1], taken.path)

    ship.host.call(lambda: asyncio.run(story()))
    assert "bq00000001" not in links(ship.host)


def test_dockers_jump_before_ours_is_put_behind(ship: Ship) -> None:
    a, b, ip_a, ip_b = ship.two_pods()
    b.serve(8080)
    ship.host.iptables(ship.mode, "-I", "FORWARD", "-j", "DROP")
    ship.host.iptables(ship.mode, "-t", "nat", "-F", "BARQUE-MASQUERADE")
    ship.host.iptables(ship.mode, "-P", "FORWARD", "DROP")
    ship.host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")

    async def story() -> None:
        network = ship.network()
        network._pod_cidr = NODE_CIDR
        await network.heal()

    ship.host.call(lambda: asyncio.run(story()))
    forward = [line for line in saved(ship.host, ship.mode).splitlines() if line.startswith("-A FORWARD")]
    assert forward[0].endswith("-j BARQUE-FORWARD")
    assert forward[1] == "-A FORWARD -j DROP"
    assert sum("BARQUE" in line for line in forward) == 1
    ship.outside.serve(8080)
    assert a.ask(ip_b, 8080) == ("b", ip_a)
    assert a.ask(OUTSIDE_ADDRESS, 8080) == ("outside", HOST_ADDRESS)


def test_cleanup_leaves_the_host_as_it_was(ship: Ship) -> None:
    ship.host.iptables(ship.mode, "-F")
    ship.host.iptables(ship.mode, "-t", "nat", "-F")
    for table, chain in (("filter", "DOCKER"), ("filter", "DOCKER-USER"), ("nat", "DOCKER")):
        ship.host.iptables(ship.mode, "-t", table, "-X", chain)
    rules, devices = saved(ship.host, ship.mode), links(ship.host)
    ship.host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    ship.two_pods()
    assert ship.host.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"
    assert saved(ship.host, ship.mode) != rules

    assert ship.cleanup()
    assert saved(ship.host, ship.mode) == rules
    assert links(ship.host) == devices
    assert ship.host.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"
    assert ship.cleanup() == []


def test_the_variant_that_docker_uses_is_found(ship: Ship) -> None:
    assert ship.host.call(lambda: asyncio.run(detect_mode())) == ship.mode
