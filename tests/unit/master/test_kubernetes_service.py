"""The cluster's own services lead to the masters wherever these are, and cannot be lost."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator

import pytest

from barque.api.types.core_v1 import Endpoints, Service, ServicePort
from barque.api.types.discovery_v1 import EndpointSlice
from barque.client.client import Client
from barque.client.informers import Informers
from barque.client.supervise import run_all
from barque.master.controllers.kubernetesservice import Doors, certificate_names
from barque.master.controllers.manager import ControllerManager
from tests.support.clock import FakeClock, settle
from tests.support.fake_verbs import FakeVerbs
from tests.support.memory_store import Bench, a_bench


class World:
    """The real controllers over verbs in memory, with masters whose addresses the test sets."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.verbs = FakeVerbs(self.clock)
        self.masters = ["192.168.56.10"]
        self.client = self.verbs.client

    @contextlib.asynccontextmanager
    async def running(self, client: Client | None = None) -> AsyncIterator[None]:
        informers = Informers(client or self.client, self.clock)
        doors = Doors(lambda: self.masters, lambda: 6443, 7443, ipaddress.IPv4Network("10.96.0.0/12"))
        manager = ControllerManager(client or self.client, informers, lambda node: None, self.clock, doors=doors)
        task = asyncio.create_task(run_all({"informers": informers.run(), "controllers": manager.run()}))
        await self.settle()
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settle(self) -> None:
        for _ in range(12):
            await settle()
            await self.clock.advance(0.02)

    def slice(self, name: str) -> tuple[list[str], list[int | None]]:
        held: EndpointSlice = self.verbs.find(EndpointSlice, name)
        return [e.addresses[0] for e in held.endpoints], [p.port for p in held.ports]

    def subsets(self, name: str) -> list[tuple[list[str], list[int]]]:
        held: Endpoints = self.verbs.find(Endpoints, name)
        return [([a.ip for a in s.addresses], [p.port for p in s.ports]) for s in held.subsets]


@pytest.fixture
def world() -> World:
    return World()


async def test_they_are_made_with_their_endpoints(world: World) -> None:
    async with world.running():
        kubernetes: Service = world.verbs.find(Service, "kubernetes")
        assert kubernetes.spec.clusterIP == "10.96.0.1"
        assert [(p.name, p.port, p.targetPort) for p in kubernetes.spec.ports] == [("https", 443, 6443)]
        assert kubernetes.metadata.labels == {"component": "apiserver", "provider": "kubernetes"}
        assert world.slice("kubernetes") == (["192.168.56.10"], [6443])
        assert world.subsets("kubernetes") == [(["192.168.56.10"], [6443])]
        assert world.slice("barque") == (["192.168.56.10"], [7443])
        assert [(p.name, p.port) for p in world.verbs.find(Service, "barque").spec.ports] == [("grpc", 7443)]
        # One slice each: their Endpoints are not mirrored.
        assert sorted(s.metadata.name for s in world.verbs.all(EndpointSlice)) == ["barque", "kubernetes"]


async def test_the_cluster_dns_has_an_address_and_no_rules(world: World) -> None:
    async with world.running():
        dns: Service = world.verbs.find(Service, "kube-dns", "kube-system")
        assert dns.spec.clusterIP == "10.96.0.10"
        assert [(p.name, p.port, p.protocol) for p in dns.spec.ports] == [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")]
        assert dns.spec.selector == {}
        assert dns.metadata.labels["service.kubernetes.io/service-proxy-name"] == "barque-dns"
        assert [e.metadata.name for e in world.verbs.all(Endpoints)] == ["kubernetes", "barque"]


async def test_what_is_deleted_is_made_again(world: World) -> None:
    async with world.running():
        for kind, name in ((Service, "kubernetes"), (Endpoints, "barque"), (EndpointSlice, "barque")):
            world.verbs.remove(world.verbs.find(kind, name))
        world.verbs.remove(world.verbs.find(Service, "kube-dns", "kube-system"))
        await world.settle()
        assert world.verbs.find(Service, "kubernetes").spec.clusterIP == "10.96.0.1"
        assert world.subsets("barque") == [(["192.168.56.10"], [7443])]
        assert world.slice("barque") == (["192.168.56.10"], [7443])
        assert world.verbs.find(Service, "kube-dns", "kube-system")
        # The Endpoints went with their Service, and are back too.
        assert world.subsets("kubernetes") == [(["192.168.56.10"], [6443])]


async def test_what_leads_elsewhere_is_set_right_and_the_rest_is_left(world: World) -> None:
    async with world.running():
        service: Service = world.verbs.find(Service, "kubernetes")
        service.spec.ports = [ServicePort(name="https", port=443, protocol="TCP", targetPort=1)]
        service.metadata.labels = {"mine": "x"}
        world.verbs.put(service)
        held: EndpointSlice = world.verbs.find(EndpointSlice, "kubernetes")
        held.endpoints[0].addresses = ["6.6.6.6"]
        world.verbs.put(held)
        await world.settle()
        service = world.verbs.find(Service, "kubernetes")
        assert service.spec.ports[0].targetPort == 6443
        assert service.metadata.labels == {"mine": "x", "component": "apiserver", "provider": "kubernetes"}
        assert world.slice("kubernetes") == (["192.168.56.10"], [6443])


async def test_they_follow_the_masters(world: World) -> None:
    async with world.running():
        world.masters = ["192.168.56.11", "192.168.56.9", "127.0.0.1", "m1.example.com"]
        await world.clock.advance(5)
        await world.settle()
        assert world.slice("kubernetes") == (["192.168.56.9", "192.168.56.11"], [6443])
        assert world.subsets("kubernetes") == [(["192.168.56.9", "192.168.56.11"], [6443])]
        written = len(world.verbs.writes)
        await world.clock.advance(30)
        assert [w for w in world.verbs.writes[written:] if w.target.name in ("kubernetes", "barque")] == []


async def test_masters_on_loopback_are_nobodys_endpoints(world: World) -> None:
    world.masters = ["127.0.0.1"]
    async with world.running():
        assert world.slice("kubernetes") == ([], [6443])
        assert world.subsets("kubernetes") == []


async def test_the_registry_takes_them_and_writes_nothing_twice(world: World) -> None:
    """Defaults and admission change nothing that would be changed back."""
    bench: Bench = await a_bench()
    async with world.running(bench.client):
        assert set(await bench.names("services")) == {"barque", "kube-dns", "kubernetes"}
        assert set(await bench.names("endpointslices")) == {"barque", "kubernetes"}
        assert set(await bench.names("endpoints")) == {"barque", "kubernetes"}
        written = bench.store.revision
        await world.clock.advance(30)
        await world.settle()
        assert bench.store.revision == written


def test_the_masters_certificates_are_good_for_the_names_that_pods_use() -> None:
    names = certificate_names(ipaddress.IPv4Network("10.96.0.0/12"))
    assert {"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "barque.default.svc"} < set(names)
    assert names[-1] == "10.96.0.1"
