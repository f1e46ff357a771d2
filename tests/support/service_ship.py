"""A host with two pods, the service proxy and a cluster of the test's own that feeds it: for tests in a real kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from barque.api.types import core_v1, discovery_v1, meta_v1
from barque.client.clock import SystemClock
from barque.client.informer import Informer
from barque.client.supervise import run_all
from barque.network.iptables.driver import Iptables, Mode
from barque.network.pods.network import PodNetwork
from barque.network.proxy import proxy as service_proxy
from barque.network.proxy.proxy import PROXY_SYSCTL_FILE, ServiceProxy
from barque.network.sysctls import SysctlRecord
from tests.support.fake_verbs import FakeVerbs
from tests.support.namespaces import Namespace, a_host_with_an_outside, like_docker

NODE = "n1"
NODE_CIDR = "10.244.3.0/24"
SERVICE_IP = "10.96.0.10"


def service(
    name: str = "web", ip: str = SERVICE_IP, node_port: int = 0, udp: bool = True, **spec: Any
) -> core_v1.Service:
    ports = [
        core_v1.ServicePort(name="http", port=80, protocol="TCP", nodePort=node_port or None),
        core_v1.ServicePort(name="dns", port=53, protocol="UDP", nodePort=node_port or None),
    ]
    ports = ports if udp else ports[:1]
    meta = meta_v1.ObjectMeta(name=name, namespace="default")
    more = {"type": "ClusterIP", **spec}
    return core_v1.Service(metadata=meta, spec=core_v1.ServiceSpec(clusterIP=ip, ports=ports, **more))


def endpoints(*addresses: str, of: str = "web", on: str = NODE) -> discovery_v1.EndpointSlice:
    """Ready endpoints, all on one node."""
    ports = [
        discovery_v1.EndpointPort(name="http", port=8080, protocol="TCP"),
        discovery_v1.EndpointPort(name="dns", port=8080, protocol="UDP"),
    ]
    meta = meta_v1.ObjectMeta(name=f"{of}-{on}", namespace="default", labels={"kubernetes.io/service-name": of})
    ready = discovery_v1.EndpointConditions(ready=True)
    found = [discovery_v1.Endpoint(addresses=[a], conditions=ready, nodeName=on) for a in addresses]
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
            proxy = Proxy(self.cluster, iptables, SysctlRecord(self.state_dir / PROXY_SYSCTL_FILE))
            task = asyncio.create_task(proxy.run())
            try:
                return await story(proxy)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        # Stories look themselves at what others break, when they want to: on a slow machine the proxy's own look, every
        # few seconds, would come between a blow and what is asserted of it.
        with patch.object(service_proxy, "LOOK_S", 3600.0):
            return self.host.call(lambda: asyncio.run(voyage()))


class Proxy:
    """The proxy and its informers."""

    def __init__(self, cluster: FakeVerbs, iptables: Iptables, sysctls: SysctlRecord) -> None:
        self._cluster = cluster
        clock, client = SystemClock(), cluster.client
        self._services = Informer(client, core_v1.Service, clock=clock)
        self._slices = Informer(client, discovery_v1.EndpointSlice, clock=clock)
        self.proxy = ServiceProxy(self._services, self._slices, iptables, clock, node=NODE, sysctls=sysctls)

    async def run(self) -> None:
        await run_all({"s": self._services.run(), "e": self._slices.run(), "p": self.proxy.run()})

    async def synced(self) -> None:
        """Wait until the kernel has all that the cluster was told; one write may have brought but a part of it."""
        async with asyncio.timeout(60):
            while not self._is_written():
                await asyncio.sleep(0.01)

    def _is_written(self) -> bool:
        proxy = self.proxy
        heard = self._has_heard(self._services, core_v1.Service) and self._has_heard(
            self._slices, discovery_v1.EndpointSlice
        )
        return heard and not (proxy._whole or proxy._dirty or proxy._changed.is_set() or proxy._writing)

    def _has_heard(self, informer: Informer[Any], kind: type[Any]) -> bool:
        known, told = (
            {obj.metadata.resourceVersion for obj in objects} for objects in (informer.list(), self._cluster.all(kind))
        )
        return known == told


async def away(work: Callable[[], Any]) -> Any:
    """Blocking calls of the test, off the proxy's loop."""
    return await asyncio.to_thread(work)


@contextmanager
def a_ship(mode: Mode, folder: Path) -> Iterator[Ship]:
    """A host with rules like Docker's, and two pods that serve port 8080."""
    with a_host_with_an_outside() as (host, outside):
        like_docker(host, mode)
        made = Ship(host, outside, mode, folder / "network")
        for pod in (made.a, made.b):
            pod.serve(8080)
        try:
            yield made
        finally:
            made.a.close()
            made.b.close()
