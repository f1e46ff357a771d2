"""Affinity, traffic policies, addresses from outside and health checks of services, in a real kernel."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.api.types import core_v1
from tests.support.namespaces import HOST_ADDRESS, OUTSIDE_ADDRESS, Namespace, missing, saved
from tests.support.sctp import deliver_sctp
from tests.support.service_ship import SERVICE_IP, Proxy, Ship, a_ship, away, endpoints, service

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]

EXTERNAL_IP = "203.0.113.9"
HEALTH_PORT = 31000


@pytest.fixture(params=["nft", "legacy"])
def ship(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ship]:
    with a_ship(request.param, tmp_path) as made:
        yield made


def sticky(seconds: int) -> core_v1.Service:
    config = core_v1.SessionAffinityConfig(clientIP=core_v1.ClientIPConfig(timeoutSeconds=seconds))
    return service(sessionAffinity="ClientIP", sessionAffinityConfig=config)


def test_a_client_stays_with_its_endpoint_until_it_goes(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        ship.cluster.put(sticky(3600))
        ship.cluster.put(endpoints(ship.ip["a"], ship.ip["b"]))
        await proxy.synced()
        answers = await away(lambda: Counter(ship.host.ask(SERVICE_IP, 80)[0] for _ in range(20)))
        (chosen,) = answers
        # By UDP it is another port of the service, which may choose another endpoint, but stays with that one too.
        assert len(await away(lambda: Counter(ship.host.ask_udp(SERVICE_IP, 53)[0] for _ in range(10)))) == 1
        # A change elsewhere writes the choice anew and forgets nobody.
        ship.cluster.put(endpoints("10.244.9.9", on="n2"))
        await proxy.synced()
        assert set(await away(lambda: Counter(ship.host.ask(SERVICE_IP, 80)[0] for _ in range(10)))) == {chosen}
        other = "b" if chosen == "a" else "a"
        ship.cluster.remove(endpoints("10.244.9.9", on="n2"))
        ship.cluster.put(endpoints(ship.ip[other]))
        await proxy.synced()
        assert (await away(lambda: ship.host.ask(SERVICE_IP, 80)))[0] == other

    ship.sail(story)


def test_affinity_ends_when_a_client_has_been_away_long_enough(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        ship.cluster.put(sticky(1))
        ship.cluster.put(endpoints(ship.ip["a"], ship.ip["b"]))
        await proxy.synced()

        async def first_after_a_pause() -> str:
            await asyncio.sleep(2.1)
            return (await away(lambda: ship.host.ask(SERVICE_IP, 80)))[0]

        # Twenty-seven fair throws are all the same once in 67 million times; the kernel counts whole seconds.
        seen = set()
        for _ in range(27):
            seen.add(await first_after_a_pause())
            if len(seen) == 2:
                break
        assert seen == {"a", "b"}

    ship.sail(story)


def test_an_external_address_leads_to_the_service(ship: Ship) -> None:
    # The host's way to the address leads back through the cable; a redirect would use up what is allowed of ICMP.
    ship.host.run("sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.uplink.send_redirects=0")
    ship.outside.run("ip", "route", "add", f"{EXTERNAL_IP}/32", "via", HOST_ADDRESS)
    # A program of the host's own must not answer in the service's place.
    ship.host.serve(80)

    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service(externalIPs=[EXTERNAL_IP, HOST_ADDRESS]))
        await proxy.synced()
        for address in (EXTERNAL_IP, HOST_ADDRESS):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(ship.outside.ask, address, 80)
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        for caller in (ship.outside, ship.host, ship.a):
            assert await asyncio.to_thread(caller.ask, EXTERNAL_IP, 80) == ("b", HOST_ADDRESS)
        assert await away(lambda: ship.outside.ask(HOST_ADDRESS, 80)) == ("b", HOST_ADDRESS)
        assert await away(lambda: ship.outside.ask_udp(EXTERNAL_IP, 53)) == ("b", HOST_ADDRESS)

    ship.sail(story)


def test_with_the_external_policy_local_callers_keep_their_address(ship: Ship) -> None:
    ship.outside.run("ip", "route", "add", f"{EXTERNAL_IP}/32", "via", HOST_ADDRESS)

    async def story(proxy: Proxy) -> None:
        ship.cluster.put(
            service(node_port=30080, type="NodePort", externalTrafficPolicy="Local", externalIPs=[EXTERNAL_IP])
        )
        ship.cluster.put(endpoints(ship.ip["b"]))
        # Nobody answers there: were it chosen, half of the calls would be lost.
        ship.cluster.put(endpoints("10.244.9.9", on="n2"))
        await proxy.synced()
        for address, port in ((HOST_ADDRESS, 30080), (EXTERNAL_IP, 80)):
            for _ in range(5):
                assert await asyncio.to_thread(ship.outside.ask, address, port) == ("b", OUTSIDE_ADDRESS)
        assert await away(lambda: ship.outside.ask_udp(HOST_ADDRESS, 30080)) == ("b", OUTSIDE_ADDRESS)
        # None here: from outside it is silence, as another node is to be asked; inside all endpoints are there.
        ship.cluster.put(endpoints(ship.ip["b"], on="n2"))
        ship.cluster.remove(endpoints(ship.ip["b"]))
        await proxy.synced()
        for address, port in ((HOST_ADDRESS, 30080), (EXTERNAL_IP, 80)):
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(ship.outside.ask, address, port, 0.4)
        assert (await away(lambda: ship.a.ask(HOST_ADDRESS, 30080)))[0] == "b"
        assert (await away(lambda: ship.host.ask(HOST_ADDRESS, 30080)))[0] == "b"
        assert (await away(lambda: ship.a.ask(SERVICE_IP, 80)))[0] == "b"

    ship.sail(story)


def test_with_the_internal_policy_local_only_endpoints_here_are_used(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service(internalTrafficPolicy="Local"))
        ship.cluster.put(endpoints(ship.ip["b"]))
        ship.cluster.put(endpoints("10.244.9.9", on="n2"))
        await proxy.synced()
        for _ in range(5):
            assert await away(lambda: ship.a.ask(SERVICE_IP, 80)) == ("b", ship.ip["a"])
        assert await away(lambda: ship.host.ask(SERVICE_IP, 80)) == ("b", HOST_ADDRESS)
        ship.cluster.remove(endpoints(ship.ip["b"]))
        await proxy.synced()
        with pytest.raises(TimeoutError):
            await away(lambda: ship.a.ask(SERVICE_IP, 80, 0.4))

    ship.sail(story)


def asked(caller: Namespace) -> tuple[int, dict[str, object]]:
    """Status and document of the health check port, from outside."""

    def ask() -> tuple[int, dict[str, object]]:
        try:
            with urllib.request.urlopen(f"http://{HOST_ADDRESS}:{HEALTH_PORT}/", timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return caller.call(ask)


def test_a_balancer_hears_whether_endpoints_are_here(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        ship.cluster.put(
            service(
                node_port=30080, type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=HEALTH_PORT
            )
        )
        ship.cluster.put(endpoints(ship.ip["a"], ship.ip["b"]))
        await proxy.synced()
        assert await asyncio.to_thread(asked, ship.outside) == (
            200,
            {"service": {"namespace": "default", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": True},
        )
        ship.cluster.put(endpoints())
        await proxy.synced()
        assert (await asyncio.to_thread(asked, ship.outside))[0] == 503
        ship.cluster.remove(service())
        await proxy.synced()
        with pytest.raises(urllib.error.URLError, match="refused"):
            await asyncio.to_thread(asked, ship.outside)

    ship.sail(story)


def test_sctp_is_carried_too(ship: Ship) -> None:
    sctp = core_v1.ServicePort(name="http", port=80, protocol="SCTP")

    async def story(proxy: Proxy) -> None:
        one, there = service(), endpoints(ship.ip["b"])
        one.spec.ports, there.ports[0].protocol = [sctp], "SCTP"
        ship.cluster.put(one)
        ship.cluster.put(there)
        await proxy.synced()
        source, port = await asyncio.to_thread(deliver_sctp, ship.a, SERVICE_IP, 80, ship.b)
        assert (source, port) == (ship.ip["a"], 8080)

    ship.sail(story)


@pytest.mark.parametrize("value", ["0", "1"])
def test_pods_of_one_host_meet_through_a_service_whatever_bridges_do(ship: Ship, value: str) -> None:
    """No bridge carries pods, so the setting that breaks others on some hosts has no say."""
    setting = "net.bridge.bridge-nf-call-iptables"
    if not Path("/proc/sys", *setting.split(".")).exists():
        pytest.skip("this kernel has no br_netfilter")
    ship.host.run("sysctl", "-qw", f"{setting}={value}")

    async def story(proxy: Proxy) -> None:
        ship.cluster.put(service())
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        assert await away(lambda: ship.a.ask(SERVICE_IP, 80)) == ("b", ship.ip["a"])
        assert await away(lambda: ship.a.ask_udp(SERVICE_IP, 53)) == ("b", ship.ip["a"])
        assert await away(lambda: ship.b.ask(SERVICE_IP, 80)) == ("b", HOST_ADDRESS)

    ship.sail(story)


def test_what_policies_and_affinity_wrote_goes_with_the_service(ship: Ship) -> None:
    async def story(proxy: Proxy) -> None:
        await proxy.synced()
        empty = saved(ship.host, ship.mode)
        one = sticky(60)
        one.spec.externalIPs, one.spec.externalTrafficPolicy = [EXTERNAL_IP], "Local"
        ship.cluster.put(one)
        ship.cluster.put(endpoints(ship.ip["b"]))
        await proxy.synced()
        assert await proxy.proxy.check()
        ship.cluster.remove(one)
        await proxy.synced()
        assert saved(ship.host, ship.mode) == empty

    ship.sail(story)
