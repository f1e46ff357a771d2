"""What services hold and what is reserved for them agree, or are made to."""

from __future__ import annotations

import dataclasses
from typing import Any

from barque.api import codec
from barque.api.types.core_v1 import Service, ServicePort, ServiceSpec
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.recorder import EventRecorder, EventType
from barque.master.admission.reservations import Fault, find_faults, full_ranges
from barque.master.apiserver.reservation_repair import ReservationRepair
from barque.master.apiserver.settings import ApiSettings
from barque.master.store.port import Key, Op
from tests.support.memory_store import Bench, a_bench

WEB, DB = Key("services", "default", "web"), Key("services", "default", "db")
TINY = ApiSettings(service_cidr="10.96.0.0/28", first_node_port=30000, last_node_port=30002)


def a_service(address: str, node_port: int | None = None) -> Service:
    ports = [ServicePort(port=80, protocol="TCP", nodePort=node_port)]
    return Service(metadata=ObjectMeta(name="web"), spec=ServiceSpec(clusterIP=address, ports=ports))


def test_sound_services_have_no_faults() -> None:
    services = {WEB: a_service("10.96.0.5", 30001), DB: a_service("None")}
    held = {"clusterip/10.96.0.5": WEB, "nodeport/tcp/30001": WEB, "podcidr/10.244.0.0/24": DB}
    assert find_faults(services, held, ApiSettings()) == []


def test_faults_are_named_in_kubernetes_words() -> None:
    services = {WEB: a_service("10.96.0.5", 30001), DB: a_service("10.96.0.6", 80)}
    held = {"clusterip/10.96.0.6": WEB, "nodeport/tcp/80": DB, "nodeport/tcp/30009": DB}
    assert find_faults(services, held, ApiSettings()) == [
        Fault(
            WEB,
            "ClusterIPNotAllocated",
            "Cluster IP [IPv4]:10.96.0.5 is not allocated; repairing",
            ("clusterip/10.96.0.5",),
        ),
        Fault(WEB, "PortNotAllocated", "Port 30001 is not allocated; repairing", ("nodeport/tcp/30001",)),
        Fault(
            DB,
            "ClusterIPAlreadyAllocated",
            "Cluster IP [IPv4]:10.96.0.6 was assigned to multiple services; please recreate service",
        ),
        Fault(DB, "PortOutOfRange", "Port 80 is not within the port range 30000-32767; please recreate service"),
        Fault(
            WEB,
            "ClusterIPLeaked",
            "Cluster IP 10.96.0.6 is held and not used; releasing",
            release=("clusterip/10.96.0.6",),
        ),
        Fault(DB, "PortLeaked", "Port 30009 is held and not used; releasing", release=("nodeport/tcp/30009",)),
    ]


def test_an_address_outside_a_narrowed_range_is_said() -> None:
    (fault,) = find_faults({WEB: a_service("10.97.0.5")}, {"clusterip/10.97.0.5": WEB}, TINY)
    assert (fault.reason, fault.message) == (
        "ClusterIPOutOfRange",
        "Cluster IP [IPv4]:10.97.0.5 is not within the service CIDR 10.96.0.0/28; please recreate service",
    )


def test_a_range_is_full_when_its_last_number_is_taken() -> None:
    addresses = [f"clusterip/10.96.0.{n}" for n in range(1, 15)]
    ports = [f"nodeport/tcp/{n}" for n in range(30000, 30003)]
    assert full_ranges([*addresses[:-1], *ports[:-1], "nodeport/udp/30002"], TINY) == []
    assert full_ranges([*addresses, *ports], TINY) == [
        "failed to allocate a serviceIP: range is full: no address of 10.96.0.0/28 is free",
        "failed to allocate a nodePort: range is full: no port of 30000-30002 is free",
    ]


class NotingRecorder(EventRecorder):
    """Remembers the names of the objects, and the reasons."""

    def __init__(self, client: Client, component: str, host: str, clock: Clock) -> None:
        super().__init__(client, component, host, clock)
        self.noted: list[tuple[str, str]] = []

    def event(self, obj: Any, type: EventType, reason: str, message: str, field_path: str = "") -> None:
        if (obj.metadata.name, reason) not in self.noted:
            self.noted.append((obj.metadata.name, reason))
        super().event(obj, type, reason, message, field_path)


class Repairs:
    """The repair over a registry in memory; what is recorded is noted on its way to the real recorder."""

    def __init__(self, bench: Bench, settings: ApiSettings | None = None) -> None:
        self.bench = bench
        self.recorder = NotingRecorder(bench.client, "reservation-repair-controller", "m1", bench.clock)
        environment = bench.registry.environment
        if settings is not None:
            environment = dataclasses.replace(environment, settings=settings)
        self.repair = ReservationRepair(environment, self.recorder)

    async def reasons(self) -> list[str]:
        return [fault.reason for fault in await self.repair.look()]

    def events(self) -> list[tuple[str, str]]:
        return self.recorder.noted


async def tamper(bench: Bench, made: dict[str, Any], **change: tuple[str, ...]) -> None:
    """The same object, with other reservations, as a fault would leave it."""
    key = Key("services", "default", made["metadata"]["name"])
    stored = bench.store.get(key)
    assert stored is not None
    slotted = codec.encode_slotted(unrevised(codec.decode(Service, stored.json)))
    await bench.store.commit([Op("put", key, slotted.json, slotted.slot, **change)])  # type: ignore[arg-type]


def unrevised(service: Service) -> Service:
    service.metadata.resourceVersion = ""
    return service


async def test_what_is_missing_is_taken_and_what_leaked_is_freed() -> None:
    bench = await a_bench()
    made = await bench.create("services", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})
    own = f"clusterip/{made['spec']['clusterIP']}"
    repairs = Repairs(bench)
    assert await repairs.reasons() == []
    await tamper(bench, made, release=(own,), reserve=("nodeport/tcp/30005",))
    assert sorted(bench.store.reserved("")) == ["nodeport/tcp/30005"]
    assert await repairs.reasons() == ["ClusterIPNotAllocated", "PortLeaked"]
    assert sorted(bench.store.reserved("")) == [own]
    assert repairs.events() == [("web", "ClusterIPNotAllocated"), ("web", "PortLeaked")]
    assert await repairs.reasons() == []
    assert (await bench.get("services", "web"))["spec"] == made["spec"]


async def test_a_service_that_changes_meanwhile_is_left_for_the_next_look() -> None:
    bench = await a_bench()
    made = await bench.create("services", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})
    await tamper(bench, made, reserve=("nodeport/tcp/30005",))
    repairs = Repairs(bench)
    bench.store.before_commit = lambda: bench.patch("services", "web", {"metadata": {"labels": {"a": "b"}}})
    assert await repairs.reasons() == ["PortLeaked"]
    assert "nodeport/tcp/30005" in bench.store.reserved("")
    assert (await bench.get("services", "web"))["metadata"]["labels"] == {"a": "b"}
    assert await repairs.reasons() == ["PortLeaked"]
    assert "nodeport/tcp/30005" not in bench.store.reserved("")


async def test_a_full_range_is_an_event_of_the_cluster_s_own_service() -> None:
    bench = await a_bench(TINY)
    for n in range(2, 15):
        name = {10: "kube-dns"}.get(n, f"s{n}")
        where = "kube-system" if n == 10 else "default"
        spec = {"clusterIP": f"10.96.0.{n}", "ports": [{"port": 80}]}
        await bench.create("services", {"metadata": {"name": name}, "spec": spec}, where)
    repairs = Repairs(bench)
    await repairs.repair.look()
    assert repairs.events() == []
    spec = {"clusterIP": "10.96.0.1", "ports": [{"port": 443}]}
    await bench.create("services", {"metadata": {"name": "kubernetes"}, "spec": spec})
    await repairs.repair.look()
    assert repairs.events() == [("kubernetes", "RangeFull")]
