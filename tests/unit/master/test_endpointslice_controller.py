"""A service's slices show its pods' addresses, and change as little as they must."""

from __future__ import annotations

import pytest

from barque.api.types.core_v1 import Container, ContainerPort, Endpoints, Node, Pod, Service, Toleration
from barque.api.types.discovery_v1 import Endpoint, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone
from barque.api.types.meta_v1 import ObjectMeta, OwnerReference
from barque.client.verbs import Update, Write
from barque.master.controllers.slices import MANAGED_BY_LABEL, Frame, Group, identity, plan_slices, ports_key
from tests.support.clock import settle
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_node, a_pod, a_service, make_ready


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


def slices(plane: ControlPlane) -> list[EndpointSlice]:
    return sorted(plane.verbs.all(EndpointSlice), key=lambda s: s.metadata.name)


def is_of_slices(write: Write) -> bool:
    return write.target.resource.plural == "endpointslices"


def shown(plane: ControlPlane) -> list[tuple[str, bool | None, bool | None, bool | None]]:
    found = []
    for held in slices(plane):
        for e in held.endpoints:
            assert e.conditions is not None
            found.append((e.addresses[0], e.conditions.ready, e.conditions.serving, e.conditions.terminating))
    return sorted(found)


async def test_shows_ready_unready_and_terminating_pods(plane: ControlPlane) -> None:
    plane.verbs.put(a_node("n1"))
    plane.verbs.put(a_service())
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2", node="n1"))
    plane.verbs.put(a_pod("b", phase="Running", ip="10.244.0.3", node="n1"))
    going = a_pod("c", ready=True, ip="10.244.0.4", node="n1")
    going.metadata.deletionTimestamp = "2026-01-01T00:00:30Z"
    plane.verbs.put(going)
    plane.verbs.put(a_pod("no-address"))
    plane.verbs.put(a_pod("odd-address", ready=True, ip="somewhere"))
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
        assert held.metadata.labels[MANAGED_BY_LABEL] == "endpointslice-controller.k8s.io"
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
        assert len([w for w in plane.verbs.writes if isinstance(w, Update) and is_of_slices(w)]) == 1


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


def numbered(count: int, node: str = "") -> list[Pod]:
    return [a_pod(f"p{n:04}", ready=True, ip=f"10.244.{n // 200}.{n % 200 + 1}", node=node) for n in range(count)]


def slice_writes(plane: ControlPlane) -> list[Write]:
    return [write for write in plane.verbs.writes if is_of_slices(write)]


async def test_a_named_port_is_found_on_a_sidecar_too(plane: ControlPlane) -> None:
    plane.verbs.put(a_service(target="http"))
    pod = a_pod("a", ready=True, ip="10.244.0.2")
    starts = Container(name="starts", ports=[ContainerPort(name="http", containerPort=1111, protocol="TCP")])
    sidecar = Container(name="proxy", restartPolicy="Always")
    sidecar.ports, pod.spec.containers[0].ports = pod.spec.containers[0].ports, []
    pod.spec.initContainers = [starts, sidecar]
    plane.verbs.put(pod)
    async with plane.running():
        assert [[p.port for p in held.ports] for held in slices(plane)] == [[8080]]


async def test_pods_of_a_node_that_is_no_more_are_none(plane: ControlPlane) -> None:
    plane.verbs.put(a_node("n1"))
    plane.verbs.put(a_service())
    plane.verbs.put(a_service("bare", publish_not_ready=True))
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2", node="n1"))
    plane.verbs.put(a_pod("b", ready=True, ip="10.244.0.3", node="n1", app="bare"))
    async with plane.running():
        assert [address for address, *_ in shown(plane)] == ["10.244.0.2", "10.244.0.3"]
        plane.verbs.remove(plane.verbs.find(Node, "n1"))
        await plane.settle()
        assert [address for address, *_ in shown(plane)] == ["10.244.0.3"]


def serving(plane: ControlPlane) -> list[bool | None]:
    return [serves for _, _, serves, _ in shown(plane)]


async def test_pods_of_a_node_whose_dockerd_is_dead_serve_no_more(plane: ControlPlane) -> None:
    """Its worker lives and says what it last knew of them."""
    plane.verbs.put(a_node("n1"))
    plane.verbs.put(a_service())
    patient = a_pod("a", ready=True, ip="10.244.0.2", node="n1")
    patient.spec.tolerations = [Toleration(operator="Exists")]
    plane.verbs.put(patient)
    async with plane.running():
        assert serving(plane) == [True]
        plane.verbs.put(a_node("n1", ready=False))
        await plane.settle()
        # A worker that starts says so for a moment.
        assert serving(plane) == [True]
        await plane.clock.advance(2)
        await plane.settle()
        assert serving(plane) == [False]
        (subset,) = plane.verbs.find(Endpoints, "web").subsets
        assert [a.ip for a in subset.notReadyAddresses] == ["10.244.0.2"]
        plane.verbs.put(a_node("n1"))
        await plane.settle()
        assert serving(plane) == [True]


async def test_pods_of_a_silent_node_serve_no_more_at_once(plane: ControlPlane) -> None:
    node = a_node("n1")
    plane.verbs.put(node)
    plane.verbs.put(a_service())
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2", node="n1"))
    async with plane.running():
        node.status.conditions[0].status = "Unknown"
        plane.verbs.put(node)
        await settle()
        assert serving(plane) == [False]


async def test_a_new_leader_believes_a_node_that_it_finds_unready(plane: ControlPlane) -> None:
    plane.verbs.put(a_node("n1", ready=False))
    plane.verbs.put(a_service())
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2", node="n1"))
    async with plane.running():
        assert serving(plane) == [False]


async def test_zone_and_hints_follow_the_node_and_the_service(plane: ControlPlane) -> None:
    plane.verbs.put(a_node("n1", labels={"topology.kubernetes.io/zone": "east"}))
    service = a_service()
    service.spec.trafficDistribution = "PreferSameNode"
    plane.verbs.put(service)
    plane.verbs.put(a_pod("a", ready=True, ip="10.244.0.2", node="n1"))
    plane.verbs.put(a_pod("b", phase="Running", ip="10.244.0.3", node="n1"))
    async with plane.running():
        first, second = slices(plane)[0].endpoints
        assert (first.zone, second.zone) == ("east", "east")
        assert first.hints == EndpointHints(forZones=[ForZone(name="east")], forNodes=[ForNode(name="n1")])
        # Nobody is sent to one that is not ready.
        assert second.hints is None
        plane.verbs.put(a_node("n1", labels={"topology.kubernetes.io/zone": "west"}))
        await plane.settle()
        first = slices(plane)[0].endpoints[0]
        assert (first.zone, first.hints.forZones if first.hints else []) == ("west", [ForZone(name="west")])
        service.spec.trafficDistribution = "PreferClose"
        plane.verbs.put(service)
        await plane.settle()
        assert slices(plane)[0].endpoints[0].hints == EndpointHints(forZones=[ForZone(name="west")])
        service.spec.trafficDistribution = ""
        plane.verbs.put(service)
        await plane.settle()
        assert slices(plane)[0].endpoints[0].hints is None


async def test_a_pod_with_a_name_of_its_own_shows_it(plane: ControlPlane) -> None:
    service = a_service()
    service.spec.clusterIP = "None"
    plane.verbs.put(service)
    named, stranger = a_pod("a", ready=True, ip="10.244.0.2"), a_pod("b", ready=True, ip="10.244.0.3")
    named.spec.hostname, named.spec.subdomain = "a", "web"
    stranger.spec.hostname, stranger.spec.subdomain = "b", "other"
    plane.verbs.put(named)
    plane.verbs.put(stranger)
    async with plane.running():
        (held,) = slices(plane)
        assert [endpoint.hostname for endpoint in held.endpoints] == ["a", ""]
        assert held.metadata.labels["service.kubernetes.io/headless"] == ""


async def test_a_rollout_of_a_thousand_pods_shares_its_writes(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    old = numbered(1000)
    for pod in old:
        plane.verbs.put(pod)
    async with plane.running():
        before = len(slice_writes(plane))
        # Fifty times a second a pod goes and another, with a new address, takes its place and is ready.
        for number, pod in enumerate(old):
            plane.verbs.remove(pod)
            plane.verbs.put(a_pod(f"n{number:04}", ready=True, ip=f"10.245.{number // 200}.{number % 200 + 1}"))
            if number % 5 == 4:
                await plane.clock.advance(0.1)
        await plane.clock.advance(1)
        await plane.settle()
        assert [address for address, *_ in shown(plane)] == sorted(
            f"10.245.{n // 200}.{n % 200 + 1}" for n in range(1000)
        )
        # Twenty seconds, two plans a second; what is emptied at one end of a plan is filled at the other.
        assert len(slice_writes(plane)) - before < 100


async def test_a_change_after_a_rest_is_written_at_once(plane: ControlPlane) -> None:
    plane.verbs.put(a_service())
    for pod in numbered(1000):
        plane.verbs.put(pod)
    async with plane.running():
        await plane.clock.advance(1)
        before = len(slice_writes(plane))
        plane.verbs.remove(a_pod("p0000"))
        await settle()
        assert len(slice_writes(plane)) - before == 1
        plane.verbs.remove(a_pod("p0001"))
        await plane.clock.advance(0.4)
        assert len(slice_writes(plane)) - before == 1
        await plane.clock.advance(0.2)
        assert len(slice_writes(plane)) - before == 2


def a_slice_of(name: str, addresses: list[str]) -> EndpointSlice:
    held = EndpointSlice(metadata=ObjectMeta(name=name, labels=dict(FRAME.labels)), addressType="IPv4")
    held.endpoints = [Endpoint(addresses=[address]) for address in addresses]
    return held


FRAME = Frame("web", "default", {"a": "b"}, None, OwnerReference(uid="u"), 10)


def plan_for(existing: list[EndpointSlice], wanted: list[str], frame: Frame = FRAME) -> tuple[list[int], ...]:
    """How many endpoints each slice that is made, changed or deleted has in the plan."""
    endpoints = [Endpoint(addresses=[address]) for address in wanted]
    groups = {ports_key([]): Group([], {identity(e): e for e in endpoints})} if wanted else {}
    plan = plan_slices(frame, groups, existing, lambda name: False)
    return tuple([len(held.endpoints) for held in listed] for listed in plan)


def names(first: int, last: int) -> list[str]:
    return [f"10.0.0.{n}" for n in range(first, last)]


def test_unchanged_slices_are_left_unless_one_takes_all_that_is_new() -> None:
    held = [a_slice_of("a", names(0, 8)), a_slice_of("b", names(10, 17)), a_slice_of("c", names(20, 25))]
    present = [*names(0, 8), *names(10, 17), *names(20, 25)]
    # Two fit into the fullest, four into the last alone, seven into none.
    assert plan_for(held, [*present, *names(30, 32)]) == ([], [10], [])
    assert plan_for(held, [*present, *names(30, 34)]) == ([], [9], [])
    assert plan_for(held, [*present, *names(30, 37)]) == ([7], [], [])
    # One that changes anyway is filled first.
    assert plan_for(held, [*names(1, 8), *names(10, 17), *names(20, 25), *names(30, 33)]) == ([], [10], [])


def test_a_slice_to_be_deleted_becomes_the_one_to_be_made() -> None:
    held = a_slice_of("a", names(0, 3))
    held.ports = [EndpointPort(name="old", port=1, protocol="TCP")]
    assert plan_for([held], names(5, 9)) == ([], [4], [])
    assert plan_for([held, a_slice_of("b", names(5, 9))], names(5, 9)) == ([], [], [3])


def test_another_label_on_the_service_rewrites_every_slice() -> None:
    held = [a_slice_of("a", names(0, 3))]
    assert plan_for(held, names(0, 3)) == ([], [], [])
    assert plan_for(held, names(0, 3), FRAME._replace(labels={"a": "c"})) == ([], [3], [])
