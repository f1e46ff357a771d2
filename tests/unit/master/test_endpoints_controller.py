"""Endpoints say in one object what the slices say, and those that users keep become slices."""

from __future__ import annotations

import pytest

from barque.api import codec
from barque.api.podstatus import is_ready
from barque.api.types.core_v1 import EndpointAddress, EndpointPort, Endpoints, EndpointSubset, Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.views import PodView
from barque.master.controllers.endpoints import OVER_CAPACITY, plan_endpoints
from barque.master.controllers.endpointslicemirroring import mirror
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_node, a_pod, a_service, make_ready


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


async def passing(plane: ControlPlane, seconds: float = 2) -> None:
    await plane.settle()
    await plane.clock.advance(seconds)
    await plane.settle()


def shown(plane: ControlPlane, name: str = "web") -> list[tuple[list[str], list[str], list[int]]]:
    found: Endpoints = plane.verbs.find(Endpoints, name)
    return [
        ([a.ip for a in s.addresses], [a.ip for a in s.notReadyAddresses], [p.port for p in s.ports])
        for s in found.subsets
    ]


def writes(plane: ControlPlane) -> int:
    return len([w for w in plane.verbs.writes if w.target.resource.plural == "endpoints"])


async def test_ready_and_unready_pods_stand_apart_and_those_that_go_not_at_all(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.10"))
    plane.verbs.put(a_pod("b", ready=True, ip="10.244.0.9"))
    plane.verbs.put(a_pod("c", phase="Running", ip="10.244.0.3"))
    plane.verbs.put(a_node("n1"))
    going = a_pod("d", ready=True, ip="10.244.0.4", node="n1")
    going.metadata.deletionTimestamp = "2026-01-01T00:00:30Z"
    plane.verbs.put(going)
    plane.verbs.put(a_pod("e", phase="Failed", ip="10.244.0.5"))
    async with plane.running():
        assert shown(plane) == [(["10.244.0.9", "10.244.0.10"], ["10.244.0.3"], [8080])]
        held = plane.verbs.find(Endpoints, "web")
        assert held.metadata.labels == {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
        assert held.subsets[0].addresses[0].targetRef.uid == "uid-b"
        plane.verbs.put(make_ready(plane.verbs.find(type(going), "c")))
        await passing(plane)
        assert shown(plane) == [(["10.244.0.3", "10.244.0.9", "10.244.0.10"], [], [8080])]
        # It mirrors nothing of its own.
        assert len(plane.verbs.all(EndpointSlice)) == 1


async def test_pods_with_other_ports_are_a_subset_of_their_own(plane: ControlPlane) -> None:
    plane.verbs.put(a_service(target="http"))
    other = a_pod("b", ready=True, ip="10.244.0.3")
    other.spec.containers[0].ports[0].containerPort = 9090
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2"))
    plane.verbs.put(other)
    async with plane.running():
        assert shown(plane) == [(["10.244.0.2"], [], [8080]), (["10.244.0.3"], [], [9090])]


async def test_changes_of_many_pods_are_gathered(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    async with plane.running():
        before = writes(plane)
        for n in range(1, 41):
            plane.verbs.put(a_pod(f"p{n}", ready=True, ip=f"10.244.0.{n}"))
            await plane.clock.advance(0.002)
        await passing(plane)
        assert len(shown(plane)[0][0]) == 40
        assert writes(plane) - before <= 2


async def test_a_service_that_goes_takes_its_endpoints_along(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    own = a_service("own")
    own.spec.selector = {}
    plane.verbs.put(own)
    plane.verbs.put(some_endpoints("own", "192.0.2.1"))
    plane.verbs.put(some_endpoints("early", "192.0.2.2"))
    async with plane.running():
        for name in ("web", "own"):
            plane.verbs.remove(plane.verbs.find(Service, name))
        await passing(plane)
        # Whoever writes Endpoints before their service keeps them.
        assert [held.metadata.name for held in plane.verbs.all(Endpoints)] == ["early"]
        assert plane.verbs.all(EndpointSlice) == []


def a_thousand_and(more: int, ready: int) -> tuple[Service, list[PodView]]:
    pods = [
        a_pod(f"p{n}", ready=n < ready, phase="Running", ip=f"10.244.{n // 250}.{n % 250 + 1}")
        for n in range(1000 + more)
    ]
    return a_service(), [codec.decode(PodView, codec.encode(pod)) for pod in pods]


@pytest.mark.parametrize(("ready", "kept"), [(1200, (1000, 0)), (700, (700, 300))])
def test_a_thousand_addresses_are_kept_the_ready_ones_first(ready: int, kept: tuple[int, int]) -> None:
    service, pods = a_thousand_and(200, ready)
    wanted = plan_endpoints(service, pods, None, is_ready)
    assert wanted is not None
    assert wanted.metadata.annotations == {OVER_CAPACITY: "truncated"}
    (subset,) = wanted.subsets
    assert (len(subset.addresses), len(subset.notReadyAddresses)) == kept
    assert plan_endpoints(service, pods, wanted, is_ready) is None
    fewer = plan_endpoints(service, pods[:900], wanted, is_ready)
    assert fewer is not None
    assert fewer.metadata.annotations == {}


def some_endpoints(name: str, *ips: str, unready: tuple[str, ...] = (), port: int = 80) -> Endpoints:
    subset = EndpointSubset(
        addresses=[EndpointAddress(ip=ip) for ip in ips],
        notReadyAddresses=[EndpointAddress(ip=ip) for ip in unready],
        ports=[EndpointPort(port=port, protocol="TCP")],
    )
    return Endpoints(metadata=ObjectMeta(name=name, namespace="default"), subsets=[subset])


def a_bare_service(name: str = "db") -> Service:
    service = a_service(name)
    service.spec.selector = {}
    return service


async def test_endpoints_of_users_are_mirrored(plane: ControlPlane) -> None:
    plane.verbs.put(a_bare_service())
    plane.verbs.put(some_endpoints("db", "192.0.2.1", unready=("192.0.2.2",)))
    async with plane.running():
        (held,) = plane.verbs.all(EndpointSlice)
        assert held.metadata.labels == {
            "kubernetes.io/service-name": "db",
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
        }
        assert held.metadata.ownerReferences[0].kind == "Endpoints"
        assert [(e.addresses, e.conditions.ready) for e in held.endpoints] == [
            (["192.0.2.1"], True),
            (["192.0.2.2"], False),
        ]
        plane.verbs.put(some_endpoints("db", "192.0.2.3", port=81))
        await plane.settle()
        (moved,) = plane.verbs.all(EndpointSlice)
        assert moved.metadata.name == held.metadata.name
        assert [(p.port, e.addresses) for p in moved.ports for e in moved.endpoints] == [(81, ["192.0.2.3"])]
        silent = some_endpoints("db", "192.0.2.3")
        silent.metadata.labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
        plane.verbs.put(silent)
        await plane.settle()
        assert plane.verbs.all(EndpointSlice) == []


async def test_endpoints_without_a_service_or_of_one_with_a_selector_are_not(plane: ControlPlane) -> None:
    plane.verbs.put(some_endpoints("early", "192.0.2.1"))
    async with plane.running():
        assert plane.verbs.all(EndpointSlice) == []
        plane.verbs.put(a_bare_service("early"))
        await plane.settle()
        assert len(plane.verbs.all(EndpointSlice)) == 1


async def test_what_cannot_be_mirrored_is_said(plane: ControlPlane) -> None:
    plane.verbs.put(a_bare_service())
    many = [f"192.0.{n // 250}.{n % 250 + 1}" for n in range(1003)]
    plane.verbs.put(some_endpoints("db", *many, "2001:db8::1"))
    assert [len(group.endpoints) for group in mirror(some_endpoints("db", *many)).groups.values()] == [1000]
    async with plane.running():
        await passing(plane)
        assert [len(held.endpoints) for held in plane.verbs.all(EndpointSlice)] == [1000]
        assert plane.events() == [
            "InvalidIPAddress: Skipped 1 invalid IP addresses when mirroring to EndpointSlices",
            "TooManyAddressesToMirror: A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. "
            "3 addresses were skipped",
        ]
