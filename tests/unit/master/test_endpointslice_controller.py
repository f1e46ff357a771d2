"""A service's slices show its pods' addresses, and change as little as they must."""

from __future__ import annotations

import pytest

from barque.api.types.core_v1 import Pod, Service
from barque.api.types.discovery_v1 import EndpointSlice
from barque.client.verbs import Update
from barque.master.controllers import endpoints
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_pod, a_service, make_ready


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


def slices(plane: ControlPlane) -> list[EndpointSlice]:
    return sorted(plane.verbs.all(EndpointSlice), key=lambda s: s.metadata.name)


def shown(plane: ControlPlane) -> list[tuple[str, bool | None, bool | None, bool | None]]:
    found = []
    for held in slices(plane):
        for e in held.endpoints:
            assert e.conditions is not None
            found.append((e.addresses[0], e.conditions.ready, e.conditions.serving, e.conditions.terminating))
    return sorted(found)


async def test_shows_ready_unready_and_terminating_pods(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2", node="n1"))
    plane.verbs.put(a_pod("b", phase="Running", ip="10.244.0.3", node="n1"))
    going = a_pod("c", ready=True, ip="10.244.0.4", node="n1")
    going.metadata.deletionTimestamp = "2026-01-01T00:00:30Z"
    plane.verbs.put(going)
    plane.verbs.put(a_pod("no-address"))
    ended = a_pod("ended", phase="Succeeded", ip="10.244.0.9")
    plane.verbs.put(ended)
    plane.verbs.put(a_pod("stranger", ready=True, ip="10.244.0.8", app="db"))
    async with plane.running():
        assert shown(plane) == [
            ("10.244.0.2", True, True, False),
            ("10.244.0.3", False, False, False),
            ("10.244.0.4", False, True, True),
        ]
        (held,) = slices(plane)
        assert held.addressType == "IPv4"
        assert held.metadata.labels["kubernetes.io/service-name"] == "web"
        assert held.metadata.labels[endpoints.MANAGED_BY_LABEL] == "endpointslice-controller.k8s.io"
        assert held.metadata.ownerReferences[0].uid == "uid-svc-web"
        assert [(p.name, p.port, p.protocol) for p in held.ports] == [("http", 8080, "TCP")]
        target = held.endpoints[0].targetRef
        assert target is not None
        assert (target.kind, held.endpoints[0].nodeName) == ("Pod", "n1")


async def test_readiness_moves_one_slice_by_one_update(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    plane.verbs.put(a_pod("a", phase="Running", ip="10.244.0.2"))
    async with plane.running():
        before = slices(plane)[0].metadata.name
        plane.verbs.put(make_ready(plane.verbs.find(Pod, "a")))
        await plane.settle()
        assert shown(plane) == [("10.244.0.2", True, True, False)]
        assert slices(plane)[0].metadata.name == before
        assert sum(isinstance(w, Update) for w in plane.verbs.writes) == 1


async def test_an_unseen_change_of_a_pod_writes_nothing(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2"))
    async with plane.running():
        written = len(plane.verbs.writes)
        pod = plane.verbs.find(Pod, "a")
        pod.metadata.annotations = {"note": "x"}
        plane.verbs.put(pod)
        await plane.settle()
        assert len(plane.verbs.writes) == written


async def test_unready_addresses_are_published_where_wished(plane: ControlPlane) -> None:
    plane.verbs.put(a_service(publish_not_ready=True))
    plane.verbs.put(a_pod("a", phase="Running", ip="10.244.0.2"))
    async with plane.running():
        assert shown(plane) == [("10.244.0.2", True, False, False)]


async def test_named_ports_are_resolved_on_each_pod(plane: ControlPlane) -> None:
    plane.verbs.put(a_service(target="http"))
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2"))
    other = a_pod("b", ready=True, ip="10.244.0.3")
    other.spec.containers[0].ports[0].containerPort = 9090
    plane.verbs.put(other)
    async with plane.running():
        assert sorted((s.ports[0].port, s.endpoints[0].addresses[0]) for s in slices(plane)) == [
            (8080, "10.244.0.2"),
            (9090, "10.244.0.3"),
        ]


async def test_a_service_without_pods_has_one_empty_slice(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    async with plane.running():
        (held,) = slices(plane)
        assert (held.endpoints, held.ports) == ([], [])
        plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2"))
        await plane.settle()
        assert len(slices(plane)) == 1
        assert len(shown(plane)) == 1
        plane.verbs.remove(a_pod("a"))
        await plane.settle()
        assert [s.endpoints for s in slices(plane)] == [[]]


async def test_slices_hold_a_hundred_and_gaps_are_filled(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    for n in range(250):
        plane.verbs.put(a_pod(f"p{n:03}", ready=True, ip=f"10.244.{n // 200}.{n % 200 + 1}"))
    async with plane.running():
        assert sorted(len(s.endpoints) for s in slices(plane)) == [50, 100, 100]
        revisions = {s.metadata.name: s.metadata.resourceVersion for s in slices(plane)}
        plane.verbs.put(a_pod("late", ready=True, ip="10.244.9.9"))
        await plane.settle()
        assert sorted(len(s.endpoints) for s in slices(plane)) == [51, 100, 100]
        changed = [s for s in slices(plane) if revisions[s.metadata.name] != s.metadata.resourceVersion]
        assert len(changed) == 1


async def test_the_address_of_a_pod_is_never_shown_twice(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    async with plane.running():
        plane.verbs.hold_watches("endpointslices")
        plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2"))
        for _ in range(3):
            plane.manager.keyed[2].queue.add("default/web")
            await plane.settle()
        plane.verbs.release_watches()
        await plane.settle()
        assert len(shown(plane)) == 1


async def test_a_foreign_change_is_set_right(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2"))
    async with plane.running():
        held = slices(plane)[0]
        held.endpoints[0].addresses = ["6.6.6.6"]
        plane.verbs.put(held)
        await plane.settle()
        assert [s[0] for s in shown(plane)] == ["10.244.0.2"]
        plane.verbs.remove(held)
        await plane.settle()
        assert [s[0] for s in shown(plane)] == ["10.244.0.2"]


async def test_services_without_selector_are_left_alone(plane: ControlPlane) -> None:
    service = a_service()
    service.spec.selector = {}
    plane.verbs.put(service)
    async with plane.running():
        assert slices(plane) == []


async def test_a_service_that_goes_takes_its_slices_along(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2"))
    async with plane.running():
        plane.verbs.remove(plane.verbs.find(Service, "web"))
        await plane.settle()
        assert slices(plane) == []
