"""The service proxy in a real kernel, with real pods behind it, fed by informers on a cluster of the test's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from barque.api.types import core_v1, discovery_v1, meta_v1
from barque.client.clock import SystemClock
from barque.client.informer import Informer
from barque.client.supervise import run_all
from barque.network.cleanup import cleanup
from barque.network.iptables.driver import Iptables, Mode
from barque.network.pods.network import PodNetwork
from barque.network.proxy.proxy import ServiceProxy
from tests.support.fake_verbs import FakeVerbs
from tests.support.namespaces import (
    HOST_ADDRESS,
    Namespace,
    a_host_with_an_outside,
    like_docker,
    links,
    missing,
    saved,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]

NODE_CIDR = "10.244.3.0/24"
SERVICE_IP = "10.96.0.10"


def service(name: str = "web", ip: str = SERVICE_IP, node_port: int = 0, udp: bool = True) -> core_v1.Service:
    ports = [
        core_v1.ServicePort(name="http", port=80, protocol="TCP", nodePort=node_port or None),
        core_v1.ServicePort(name="dns", port=53, protocol="UDP", nodePort=node_port or None),
    ]
    ports = ports if udp else ports[:1]
    meta = meta_v1.ObjectMeta(name=name, namespace="default")
    return core_v1.Service(metadata=meta, spec=core_v1.ServiceSpec(clusterIP=ip, ports=ports, type="ClusterIP"))


def endpoints(*addresses: str, of: str = "web") -> discovery_v1.EndpointSlice:
    ports = [
        discovery_v1.EndpointPort(name="http", port=8080, protocol="TCP"),
        discovery_v1.EndpointPort(name="dns", port=8080, protocol="UDP"),
    ]
    meta = meta_v1.ObjectMeta(name=f"{of}-1", namespace="default", labels={"kubernetes.io/service-name": of})
    ready = discovery_v1.EndpointConditions(ready=True)
    found = [discovery_v1.Endpoint(addresses=[a], conditions=ready) for a in addresses]
    return discovery_v1.EndpointSlice(metadata=meta, addressType="IPv4", endpoints=found, ports=ports)


class Ship:
    """A host with two pods, the proxy, and a cluster that the test changes."""

    def __init__(self, host: Namespace, outside: Namespace, mode: Mode, state_dir: Path) -> None:
        self.host, self.outside, self.mode, self.state_dir = host, outside, mode, state_dir
        self.a, self.b = Namespace("a"), Namespace("b")
        self.ip: dict[str, str] = {}
        self.cluster = FakeVerbs(SystemClock())

    def sail(self, story: Callable[[Proxy], Awaitable[Any]]) -> Any:
        """Run the pod network, the proxy and the story, all on the host."""

        async def voyage() -> Any:
            iptables = Iptables(self.mode)
            network = PodNetwork(self.state_dir, iptables=iptables)
            await network.start(NODE_CIDR, 1450)
            for pod in (self.a, self.b):
                self.ip[pod.name] = await network.attach(f"{pod.name * 8}-0000-4000-8000-000000000000", pod.path)
            proxy = Proxy(self.cluster, iptables)
            task = asyncio.create_task(proxy.run())
            try:
                return await story(proxy)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        return self.host.call(lambda: asyncio.run(voyage()))


class Proxy:
    def __init__(self, cluster: FakeVerbs, iptables: Iptables) -> None:
        self._synced = asyncio.Event()
        clock, client = SystemClock(), cluster.client
        self._services = Informer(client, core_v1.Service, clock=clock)
        self._slices = Informer(client, discovery_v1.EndpointSlice, clock=clock)
        self.proxy = ServiceProxy(self._services, self._slices, iptables, clock, on_synced=lambda _: self._synced.set())

    async def run(self) -> None:
        await run_all({"s": self._services.run(), "e": self._slices.run(), "p": self.proxy.run()})

    async def synced(self) -> None:
        """Wait for the next write to be in the kernel."""
        self._synced.clear()
        async with asyncio.timeout(30):
            await self._synced.wait()


async def away(work: Callable[[], Any]) -> Any:
    """Blocking calls of the test, off the proxy's loop."""
    return await asyncio.to_thread(work)


@pytest.fixture(params=["nft", "legacy"])
def ship(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ship]:
    with a_host_with_an_outside() as (host, outside):
        like_docker(host, request.param)
        made = Ship(host, outside, request.param, tmp_path / "network")
        for pod in (made.a, made.b):
            pod.serve(8080)
        try:
            yield made
        finally:
            made.a.close()
            made.b.close()


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
        # Always the same source port: for the kernel it is one and the same flow.
        for address, port in ((SERVICE_IP, 53), (HOST_ADDRESS, 30080)):
            ask = lambda ip=address, p=port: ship.host.ask_udp(ip, p, source_port=40000)[0]  # noqa: E731
            ship.cluster.put(endpoints(ship.ip["b"]))
            await asyncio.sleep(0.3)
            assert await away(ask) == "b"
            ship.cluster.put(endpoints(ship.ip["a"]))
            await proxy.synced()
            assert await away(ask) == "a"

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
        await away(lambda: ship.host.run(f"iptables-{ship.mode}", *blow))
        if not await proxy.proxy.check():
            await proxy.synced()
        assert await proxy.proxy.check()
        ours = [line for line in saved(ship.host, ship.mode).splitlines() if "BARQUE" in line]
        forwards = {line for line in whole.splitlines() if "BARQUE-FORWARD" in line or "BARQUE-MASQUERADE" in line}
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
                ship.a.ask(SERVICE_IP, 80, timeout_s=1)
            except OSError as error:
                failures.append(error)

    async def again(proxy: Proxy) -> None:
        nonlocal stop
        asking = asyncio.create_task(away(keep_asking))
        await proxy.synced()
        await asyncio.sleep(0.2)
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
        while proxy.proxy._program.size < 1000 or proxy.proxy._changed.is_set() or proxy.proxy._dirty:
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
