"""The service proxy in a real kernel, with real pods behind it, fed by informers on a cluster of the test's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.network.cleanup import cleanup
from barque.network.iptables.chains import POD_CHAINS
from barque.network.iptables.driver import Iptables
from barque.network.pods.network import PodNetwork
from tests.support.expecting import expect_soon
from tests.support.namespaces import HOST_ADDRESS, links, missing, saved
from tests.support.service_ship import NODE_CIDR, SERVICE_IP, Proxy, Ship, a_ship, away, endpoints, service

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(params=["nft", "legacy"])
def ship(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ship]:
    with a_ship(request.param, tmp_path) as made:
        yield made


def test_a_service_is_reached_from_pods_host_and_outside(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        await proxy.synced()
        ship.cluster.put(service(node_port=30080))
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        a, b = ship.ip["a"], ship.ip["b"]
        # A pod is seen with its own address; others with one of the host's.
        assert await away(lambda: ship.a.ask(SERVICE_IP, 80)) == ("b", a)
        assert await away(lambda: ship.a.ask_udp(SERVICE_IP, 53)) == ("b", a)
        assert await away(lambda: ship.host.ask(SERVICE_IP, 80)) == ("b", HOST_ADDRESS)
        assert await away(lambda: ship.host.ask_udp(SERVICE_IP, 53)) == ("b", HOST_ADDRESS)
        assert await away(lambda: ship.outside.ask(HOST_ADDRESS, 30080)) == ("b", HOST_ADDRESS)
        assert await away(lambda: ship.outside.ask_udp(HOST_ADDRESS, 30080)) == ("b", HOST_ADDRESS)
        assert await away(lambda: ship.host.ask(HOST_ADDRESS, 30080)) == ("b", HOST_ADDRESS)
        assert await away(lambda: ship.a.ask(HOST_ADDRESS, 30080)) == ("b", HOST_ADDRESS)
        # A pod reaches itself through its service (hairpin), seeing the host as the caller.
        assert await away(lambda: ship.b.ask(SERVICE_IP, 80)) == ("b", HOST_ADDRESS)
        assert await away(lambda: ship.b.ask_udp(SERVICE_IP, 53)) == ("b", HOST_ADDRESS)
        assert b

    ship.sail(story)


def test_all_endpoints_are_chosen_about_equally(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service())
        ship.cluster.put(endpoints(ship.ip["a"], ship.ip["b"]))
        await proxy.synced()
        answers = await away(lambda: Counter(ship.host.ask(SERVICE_IP, 80)[0] for _ in range(200)))
        assert set(answers) == {"a", "b"}
        # 200 fair throws fall outside 60..140 once in a hundred million.
        assert 60 <= answers["a"] <= 140

    ship.sail(story)


def test_without_endpoints_a_caller_is_refused_at_once(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service(node_port=30080))
        await proxy.synced()
        for caller, address, tcp, udp in (
            (ship.a, SERVICE_IP, 80, 53),
            (ship.host, SERVICE_IP, 80, 53),
            (ship.outside, HOST_ADDRESS, 30080, 30080),
            (ship.a, HOST_ADDRESS, 30080, 30080),
        ):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(caller.ask, address, tcp)
            # The host's own packets are refused as they are sent, others' by an ICMP message.
            with pytest.raises((ConnectionRefusedError, PermissionError)):
                await asyncio.to_thread(caller.ask_udp, address, udp)
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        assert (await away(lambda: ship.a.ask(SERVICE_IP, 80)))[0] == "b"
        ship.cluster.put(endpoints())
        await proxy.synced()
        with pytest.raises(ConnectionRefusedError):
            await away(lambda: ship.a.ask(SERVICE_IP, 80))

    ship.sail(story)


def test_a_udp_flow_moves_when_its_endpoint_goes(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service(node_port=30080))
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        # Always the same source port: for the kernel it is one and the same flow, and lives on each time it is asked.
        for address, port in ((SERVICE_IP, 53), (HOST_ADDRESS, 30080)):
            for pod in ("b", "a"):
                ship.cluster.put(endpoints(ship.ip[pod]))

                def moved(ip: str = address, port: int = port, pod: str = pod) -> bool:
                    return ship.host.ask_udp(ip, port, source_port=40000)[0] == pod

                await asyncio.to_thread(expect_soon, moved, 30, f"the flow to {address} leads to {pod}")
                assert await away(moved), "it has moved back"

    ship.sail(story)


def test_a_deleted_service_leaves_no_rule(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        await proxy.synced()
        empty = saved(ship.host, ship.mode)
        web = service(node_port=30080)
        ship.cluster.put(web)
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        assert saved(ship.host, ship.mode) != empty
        ship.cluster.remove(web)
        await proxy.synced()
        assert saved(ship.host, ship.mode) == empty

    ship.sail(story)


@pytest.mark.parametrize(
    "blow",
    [
        ["-t", "nat", "-F"],
        ["-t", "nat", "-F", "BARQUE-SERVICES"],
        ["-t", "nat", "-D", "PREROUTING", "1"],
        ["-t", "nat", "-I", "PREROUTING", "-j", "RETURN"],
        ["-P", "FORWARD", "DROP"],
        ["-F"],
    ],
    ids=" ".join,
)
def test_what_others_break_is_put_right(ship: Ship, blow: list[str]) -> None:
    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service(node_port=30080))
        ship.cluster.put(service("idle", "10.96.0.11"))
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        whole = saved(ship.host, ship.mode)
        assert await proxy.proxy.check()
        await away(lambda: ship.host.iptables(ship.mode, *blow))
        if not await proxy.proxy.check():
            await proxy.synced()
        assert await proxy.proxy.check()
        ours = [line for line in saved(ship.host, ship.mode).splitlines() if "BARQUE" in line]
        # The pod network's own chains are healed by the pod network.
        forwards = {line for line in whole.splitlines() if any(chain.name in line for chain in POD_CHAINS)}
        assert set(whole.splitlines()) & set(ours) | forwards == {x for x in whole.splitlines() if "BARQUE" in x}
        network = PodNetwork(ship.state_dir, iptables=Iptables(ship.mode))
        await network.start(NODE_CIDR, 1450)
        assert (await away(lambda: ship.a.ask(SERVICE_IP, 80)))[0] == "b"
        with pytest.raises(ConnectionRefusedError):
            await away(lambda: ship.a.ask("10.96.0.11", 80))

    ship.sail(story)


def test_a_restart_takes_over_without_a_gap(ship: Ship) -> None:
    async def begin(proxy: Proxy) -> None:
        ship.cluster.put(service())
        ship.cluster.put(service("old", "10.96.0.12"))
        ship.cluster.put(endpoints(ship.ip["b"]))
        ship.cluster.put(endpoints(ship.ip["b"], of="old"))
        await proxy.synced()

    ship.sail(begin)
    ship.cluster.remove(service("old", "10.96.0.12"))
    failures: list[Exception] = []
    stop = False

    def keep_asking() -> None:
        while not stop:
            try:
                ship.a.ask(SERVICE_IP, 80)
            except OSError as error:
                failures.append(error)

    async def again(proxy: Proxy) -> None:
        nonlocal stop
        asking = asyncio.create_task(away(keep_asking))
        try:
            await proxy.synced()
            await asyncio.sleep(0.2)
        finally:
            stop = True
            await asking
        assert "10.96.0.12" not in saved(ship.host, ship.mode)

    ship.sail(again)
    assert failures == []


def test_cleanup_leaves_the_host_as_it_was(ship: Ship) -> None:
    rules, devices = saved(ship.host, ship.mode), links(ship.host)

    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service(node_port=30080))
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()

    ship.sail(story)
    assert saved(ship.host, ship.mode) != rules
    ship.host.call(lambda: asyncio.run(cleanup(ship.state_dir)))
    assert saved(ship.host, ship.mode) == rules
    assert links(ship.host) == devices


def test_a_thousand_services(ship: Ship) -> None:
    """A full program, then single changed endpoints: the last service answers, no chain lacks or is too many."""
    ips = [f"10.96.{i // 250}.{i % 250 + 1}" for i in range(1000)]

    async def story(proxy: Proxy) -> None:
        await proxy.synced()
        for i, ip in enumerate(ips):
            ship.cluster.put(service(f"s{i}", ip, udp=False))
            ship.cluster.put(endpoints("10.244.9.1", "10.244.9.2", f"10.244.8.{i % 250}", of=f"s{i}"))
        await proxy.synced()
        for i in range(15):
            ship.cluster.put(endpoints("10.244.9.1", f"10.244.7.{i + 1}", of="s500"))
            await proxy.synced()
        ship.cluster.put(endpoints(ship.ip["b"], of="s999"))
        await proxy.synced()
        assert (await away(lambda: ship.a.ask(ips[999], 80)))[0] == "b"
        assert await proxy.proxy.check()

    ship.sail(story)
    rules, chains = saved(ship.host, ship.mode), "BARQUE-SEP-"
    assert rules.count(f":{chains}") == 998 * 3 + 2 + 1
    ship.host.call(lambda: asyncio.run(cleanup(ship.state_dir)))
    assert "BARQUE" not in saved(ship.host, ship.mode)
