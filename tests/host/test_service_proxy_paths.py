"""Which endpoint a packet finds, and by which ways: the loopback, zones, named ports, the last resort, other hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.api.types import core_v1, discovery_v1, meta_v1
from barque.network.cleanup import cleanup
from barque.network.iptables.chains import LOCALNET, PROXIED
from barque.network.proxy.proxy import ROUTE_LOCALNET, ZONE_LABEL
from barque.network.proxy.render import endpoint_chain, service_chain
from barque.network.proxy.state import Backend, service_ports
from tests.support.namespaces import HOST_ADDRESS, OUTSIDE_ADDRESS, missing, saved
from tests.support.service_ship import NODE, SERVICE_IP, Proxy, Ship, a_ship, away, endpoints, service

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]

BALANCER_IP = "203.0.113.7"


@pytest.fixture(params=["nft", "legacy"])
def ship(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ship]:
    with a_ship(request.param, tmp_path) as made:
        yield made


def meant_for(zone: str, found: discovery_v1.EndpointSlice) -> discovery_v1.EndpointSlice:
    found.endpoints[0].hints = discovery_v1.EndpointHints(forZones=[discovery_v1.ForZone(name=zone)])
    return found


def a_node(zone: str) -> core_v1.Node:
    return core_v1.Node(metadata=meta_v1.ObjectMeta(name=NODE, labels={ZONE_LABEL: zone}))


def test_a_node_port_answers_on_the_loopback_which_stays_closed_to_others(ship: Ship) -> None:
    setting = ROUTE_LOCALNET.replace("/", ".")
    ship.host.serve(9999)
    # A neighbour that takes the host's loopback for an address of the network.
    ship.outside.run("sysctl", "-qw", f"{setting}=1")
    ship.outside.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
    ship.outside.run("ip", "route", "add", "127.0.0.1/32", "via", HOST_ADDRESS, "src", OUTSIDE_ADDRESS)

    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service(node_port=30080))
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        assert await away(lambda: ship.host.ask("127.0.0.1", 30080)) == ("b", HOST_ADDRESS)
        assert await away(lambda: ship.host.ask_udp("127.0.0.1", 30080)) == ("b", HOST_ADDRESS)
        with pytest.raises(TimeoutError):
            await away(lambda: ship.outside.ask("127.0.0.1", 9999, 0.3))
        await away(lambda: ship.host.iptables(ship.mode, "-F", LOCALNET.name))
        assert (await away(lambda: ship.outside.ask("127.0.0.1", 9999)))[0] == "host"

    ship.sail(story)
    assert ship.host.run("sysctl", "-n", setting) == "1\n"
    ship.host.call(lambda: asyncio.run(cleanup(ship.state_dir)))
    assert ship.host.run("sysctl", "-n", setting) == "0\n"


def test_endpoints_for_this_nodes_zone_are_used_as_it_changes(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service())
        ship.cluster.put(meant_for("east", endpoints(ship.ip["a"], on=NODE)))
        ship.cluster.put(meant_for("west", endpoints(ship.ip["b"], on="n2")))
        for zone, pod in (("east", "a"), ("west", "b")):
            proxy.proxy.handle_node(None, a_node(zone))
            await proxy.synced()
            assert {(await away(lambda: ship.host.ask(SERVICE_IP, 80)))[0] for _ in range(8)} == {pod}

    ship.sail(story)


def test_two_ports_of_one_service_lead_to_their_own_targets(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        one, there = service(udp=False), endpoints(ship.ip["b"])
        one.spec.ports.append(core_v1.ServicePort(name="admin", port=81, protocol="TCP"))
        there.ports.append(discovery_v1.EndpointPort(name="admin", port=9090, protocol="TCP"))
        ship.cluster.put(one)
        ship.cluster.put(there)
        await proxy.synced()
        assert (await away(lambda: ship.a.ask(SERVICE_IP, 80)))[0] == "b"
        with pytest.raises(ConnectionRefusedError):
            await away(lambda: ship.a.ask(SERVICE_IP, 81))
        ship.b.serve(9090)
        assert (await away(lambda: ship.a.ask(SERVICE_IP, 81)))[0] == "b"

    ship.sail(story)


def test_one_that_ends_but_serves_is_the_last_resort(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        both = endpoints(ship.ip["a"], ship.ip["b"])
        both.endpoints[0].conditions = discovery_v1.EndpointConditions(ready=False, serving=True, terminating=True)
        ship.cluster.put(service())
        ship.cluster.put(both)
        await proxy.synced()
        assert {(await away(lambda: ship.host.ask(SERVICE_IP, 80)))[0] for _ in range(8)} == {"b"}
        both.endpoints[1].conditions = discovery_v1.EndpointConditions(ready=False, serving=False, terminating=True)
        ship.cluster.put(both)
        await proxy.synced()
        assert {(await away(lambda: ship.host.ask(SERVICE_IP, 80)))[0] for _ in range(8)} == {"a"}

    ship.sail(story)


def test_an_endpoint_outside_the_pods_network_is_reached_though_others_drop_what_is_forwarded(ship: Ship) -> None:
    ship.host.run("sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.uplink.send_redirects=0")
    ship.outside.serve(8080)

    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service(node_port=30080))
        ship.cluster.put(endpoints(OUTSIDE_ADDRESS, on="n2"))
        await proxy.synced()
        assert await away(lambda: ship.outside.ask(HOST_ADDRESS, 30080)) == ("outside", HOST_ADDRESS)
        assert (await away(lambda: ship.a.ask(SERVICE_IP, 80)))[0] == "outside"
        await away(lambda: ship.host.iptables(ship.mode, "-F", PROXIED.name))
        with pytest.raises(TimeoutError):
            await away(lambda: ship.outside.ask(HOST_ADDRESS, 30080, 0.3))

    ship.sail(story)


def test_a_balancers_address_leads_to_the_service(ship: Ship) -> None:
    ship.outside.run("ip", "route", "add", f"{BALANCER_IP}/32", "via", HOST_ADDRESS)

    async def story(proxy: Proxy) -> None:
        balanced = service(type="LoadBalancer", externalTrafficPolicy="Local")
        ingress = core_v1.LoadBalancerIngress(ip=BALANCER_IP, ipMode="VIP")
        balanced.status.loadBalancer = core_v1.LoadBalancerStatus(ingress=[ingress])
        ship.cluster.put(balanced)
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        assert await away(lambda: ship.outside.ask(BALANCER_IP, 80)) == ("b", OUTSIDE_ADDRESS)
        assert (await away(lambda: ship.a.ask(BALANCER_IP, 80)))[0] == "b"

    ship.sail(story)


def test_a_udp_flow_ends_with_its_service(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        gone = service(node_port=30080)
        ship.cluster.put(gone)
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        ask = lambda: ship.outside.ask_udp(HOST_ADDRESS, 30080, source_port=40000)  # noqa: E731
        assert (await away(ask))[0] == "b"
        ship.cluster.remove(gone)
        await proxy.synced()
        with pytest.raises(ConnectionRefusedError):
            await away(ask)

    ship.sail(story)


def test_headless_and_external_services_have_no_rules(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        await proxy.synced()
        empty = saved(ship.host, ship.mode)
        ship.cluster.put(service("headless", "None"))
        ship.cluster.put(endpoints(ship.ip["b"], of="headless"))
        ship.cluster.put(service("external", "", type="ExternalName", externalName="example.org"))
        await proxy.synced()
        assert saved(ship.host, ship.mode) == empty

    ship.sail(story)


def test_each_chain_that_another_program_empties_is_noticed(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        web = service()
        ship.cluster.put(web)
        ship.cluster.put(endpoints(ship.ip["a"], ship.ip["b"]))
        await proxy.synced()
        whole = saved(ship.host, ship.mode)
        http = service_ports(web, ())[0]
        for chain in (service_chain(http), endpoint_chain(http, Backend(ship.ip["b"], 8080)), PROXIED, LOCALNET):
            await asyncio.to_thread(ship.host.iptables, ship.mode, "-t", chain.table, "-F", chain.name)
            assert not await proxy.proxy.check()
            await proxy.synced()
            assert await proxy.proxy.check()
            assert saved(ship.host, ship.mode) == whole

    ship.sail(story)
