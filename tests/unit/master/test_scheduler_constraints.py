"""What a pod may ask of its node, must or would rather: affinity, taints, ports, amounts, images, spreading."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from barque.api import codec
from barque.api.types.core_v1 import Container, ContainerImage, Node, Pod, ResourceRequirements, Taint
from barque.api.types.meta_v1 import OwnerReference
from barque.api.views import PodView
from barque.master.scheduler.demand import Demand, demand_of, image_name
from barque.master.scheduler.ranking import Rankings
from barque.master.scheduler.scheduler import plan_round
from barque.master.scheduler.snapshot import Placed, Snapshot, facts_of, images_of
from tests.support.workloads import a_node, a_pod

NO_MATCH = "node(s) didn't match Pod's node affinity/selector"


@dataclasses.dataclass
class Yard:
    snapshot: Snapshot
    rankings: Rankings

    def place(self, *pods: Pod) -> list[str]:
        """Where they go, in order; the sentence where one goes nowhere."""
        plan = plan_round(self.rankings, [view(pod) for pod in pods])
        said = {p.metadata.name: node for p, node in plan.placements} | {p.metadata.name: w for p, w in plan.refusals}
        return [said[pod.metadata.name] for pod in pods]

    def put(self, node: Node) -> None:
        self.snapshot.set_node(node.metadata.name, facts_of(node))
        self.snapshot.set_images(node.metadata.name, images_of(node))


def view(pod: Pod) -> PodView:
    return codec.decode(PodView, codec.encode(pod))


def a_yard(*nodes: Node) -> Yard:
    snapshot = Snapshot()
    yard = Yard(snapshot, Rankings(snapshot))
    for node in nodes:
        yard.put(node)
    return yard


def wanting(name: str = "web-1", **spec: Any) -> Pod:
    """A pod with these fields in its spec, as a manifest has them."""
    manifest = msgspec.to_builtins(a_pod(name))
    manifest["spec"] |= spec
    return codec.decode(Pod, msgspec.json.encode(manifest))


def requiring(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def preferring(*weighed: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    terms = [{"weight": weight, "preference": term} for weight, term in weighed]
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}


def labelled(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("term", "fits"),
    [
        (labelled("disk", "In", "ssd", "nvme"), ["fast"]),
        (labelled("disk", "NotIn", "ssd"), ["bare", "slow"]),
        (labelled("disk", "Exists"), ["fast", "slow"]),
        (labelled("disk", "DoesNotExist"), ["bare"]),
        (labelled("cores", "Gt", "8"), ["fast"]),
        (labelled("cores", "Lt", "9"), ["slow"]),
        (labelled("disk", "Gt", "1"), []),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["slow"]}]}, ["slow"]),
        ({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["slow"]}]}, ["bare", "fast"]),
        ({}, []),
    ],
    ids=str,
)
def test_required_affinity_knows_every_operator(term: dict[str, Any], fits: list[str]) -> None:
    nodes = {
        "bare": a_node("bare"),
        "fast": a_node("fast", labels={"disk": "ssd", "cores": "16"}),
        "slow": a_node("slow", labels={"disk": "hdd", "cores": "8"}),
    }
    pod = wanting(affinity=requiring(term))
    assert [name for name, node in nodes.items() if a_yard(node).place(pod) == [name]] == fits
    if not fits:
        assert a_yard(*nodes.values()).place(pod) == [f"0/3 nodes are available: 3 {NO_MATCH}."]


def test_one_term_of_several_is_enough_and_the_selector_counts_beside_it() -> None:
    yard = a_yard(a_node("n1", labels={"disk": "ssd"}), a_node("n2", labels={"disk": "hdd", "rack": "r1"}))
    either = requiring(labelled("disk", "In", "ssd"), labelled("rack", "Exists"))
    assert yard.place(wanting(affinity=either, nodeSelector={"disk": "hdd"})) == ["n2"]


def test_preferred_affinity_outweighs_free_room_and_follows_a_change_of_labels() -> None:
    yard = a_yard(a_node("empty"), a_node("ssd", cpu="2", labels={"disk": "ssd"}))
    preferred = preferring((10, labelled("disk", "In", "ssd")), (1, {}))
    assert yard.place(wanting("a", affinity=preferred), wanting("b")) == ["ssd", "empty"]
    yard.put(a_node("empty", labels={"disk": "ssd"}))
    assert yard.place(wanting("c", affinity=preferred)) == ["empty"]


def test_the_greater_weight_wins() -> None:
    yard = a_yard(a_node("a", labels={"disk": "ssd"}), a_node("b", labels={"rack": "r1"}))
    pods = [
        wanting(str(n), affinity=preferring((n, labelled("disk", "Exists")), (50, labelled("rack", "Exists"))))
        for n in (10, 90)
    ]
    assert yard.place(*pods) == ["b", "a"]


def test_a_taint_that_would_rather_not_is_avoided_but_no_bar() -> None:
    tainted = a_node("tainted")
    tainted.spec.taints = [Taint(key="spot", value="yes", effect="PreferNoSchedule")]
    yard = a_yard(tainted, a_node("small", cpu="1"))
    tolerant = wanting("tolerant", tolerations=[{"key": "spot", "operator": "Exists"}])
    assert yard.place(wanting("a"), tolerant) == ["small", "tainted"]
    assert yard.place(a_pod("b", cpu="2")) == ["tainted"]


def test_a_cordon_and_a_node_that_is_not_ready_can_be_tolerated() -> None:
    cordoned, lost = a_node("cordoned"), a_node("lost", ready=False)
    cordoned.spec.unschedulable = True
    lost.status.conditions[0].status = "Unknown"
    yard = a_yard(cordoned, lost)
    assert yard.place(wanting()) == [
        "0/2 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, "
        "1 node(s) were unschedulable."
    ]
    keys = {"cordoned": "node.kubernetes.io/unschedulable", "lost": "node.kubernetes.io/unreachable"}
    for node, key in keys.items():
        assert yard.place(wanting(node, tolerations=[{"key": key, "operator": "Exists"}])) == [node]


def with_port(name: str, port: int, address: str = "", protocol: str = "TCP") -> Pod:
    pod = a_pod(name)
    (declared,) = pod.spec.containers[0].ports
    declared.hostPort, declared.hostIP, declared.protocol = port, address, protocol
    return pod


def test_a_host_port_is_held_once_per_address_and_protocol() -> None:
    yard = a_yard(a_node("n1"))
    refused = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    assert yard.place(with_port("a", 80), with_port("b", 80, "127.0.0.1"), with_port("c", 80, "0.0.0.0")) == [
        "n1",
        refused,
        refused,
    ]
    assert yard.place(with_port("d", 80, protocol="UDP"), with_port("e", 81, "10.0.0.1")) == ["n1", "n1"]
    assert yard.place(with_port("f", 81, "10.0.0.2"), with_port("g", 81)) == ["n1", refused]
    yard.snapshot.release("uid-a")
    assert yard.place(with_port("b", 80, "127.0.0.1")) == ["n1"]


def test_whatever_is_asked_for_is_counted() -> None:
    node = a_node("n1")
    node.status.allocatable |= {"ephemeral-storage": "10Gi", "example.com/gpu": "1"}
    yard = a_yard(node)
    pods = [a_pod(name) for name in ("a", "b", "c")]
    for pod, requests in zip(
        pods, ({"example.com/gpu": "1"}, {"example.com/gpu": "1"}, {"ephemeral-storage": "11Gi"}), strict=True
    ):
        pod.spec.containers[0].resources = ResourceRequirements(requests=dict(requests))
    assert yard.place(*pods) == [
        "n1",
        "0/1 nodes are available: 1 Insufficient example.com/gpu.",
        "0/1 nodes are available: 1 Insufficient ephemeral-storage.",
    ]


def asking(cpu: str, *, sidecar: bool = False) -> Container:
    return Container(
        name=f"c{cpu}",
        image="bb:1",
        resources=ResourceRequirements(requests={"cpu": cpu}),
        restartPolicy="Always" if sidecar else "",
    )


@pytest.mark.parametrize(
    ("init", "main", "cpu_milli"),
    [
        ([], ["1", "1"], 2000),
        ([asking("3")], ["1", "1"], 3000),
        ([asking("1", sidecar=True)], ["1"], 2000),
        ([asking("1", sidecar=True), asking("2")], ["1"], 3000),
        ([asking("2"), asking("1", sidecar=True)], ["500m"], 2000),
        ([asking("1", sidecar=True), asking("1", sidecar=True)], ["1"], 3000),
    ],
)
def test_init_containers_and_sidecars_are_counted_as_they_run(
    init: list[Container], main: list[str], cpu_milli: int
) -> None:
    pod = a_pod()
    pod.spec.initContainers, pod.spec.containers = init, [asking(cpu) for cpu in main]
    assert demand_of(view(pod)).cpu_milli == cpu_milli
    pod.spec.overhead = {"cpu": "100m"}
    assert demand_of(view(pod)).cpu_milli == cpu_milli + 100
    pod.spec.resources = ResourceRequirements(requests={"cpu": "7"})
    assert demand_of(view(pod)).cpu_milli == 7100


def test_equal_pods_share_one_demand() -> None:
    first, second = (demand_of(view(a_pod(name, cpu="1", memory="1Gi"))) for name in ("a", "b"))
    assert first is second


def test_cpu_and_memory_are_used_up_together() -> None:
    yard = a_yard(a_node("n1", cpu="8", memory="8Gi"), a_node("n2", cpu="8", memory="8Gi"))
    # Both have as much taken, in sum; of n1 memory, of n2 cpu.
    yard.snapshot.place("x", Placed("n1", "", Demand(0, 4 * 1024**3, (), 0, 4 * 1024**3), False))
    yard.snapshot.place("y", Placed("n2", "", Demand(4000, 0, (), 4000, 0), False))
    assert yard.place(a_pod("a", cpu="2"), a_pod("b", memory="2Gi")) == ["n1", "n2"]


def test_an_image_that_is_there_already_counts_the_more_the_more_nodes_have_it() -> None:
    def holding(name: str, *images: str) -> Node:
        node = a_node(name)
        node.status.images = [ContainerImage(names=[image], sizeBytes=900 * 1024**2) for image in images]
        return node

    yard = a_yard(a_node("n1"), holding("n2", "docker.io/library/bb:1"), a_node("n3"))
    assert yard.place(a_pod("a")) == ["n2"]
    yard.put(a_node("n2"))
    yard.put(holding("n3", "bb:1"))
    assert yard.place(a_pod("b")) == ["n3"]
    yard.snapshot.drop_node("n3")
    assert yard.snapshot.images == {}


@pytest.mark.parametrize(
    ("name", "known_as"),
    [
        ("web", "web:latest"),
        ("docker.io/library/web:1", "web:1"),
        ("docker.io/me/web", "me/web:latest"),
        ("r.example:5000/web", "r.example:5000/web:latest"),
        ("web@sha256:00", "web@sha256:00"),
    ],
)
def test_an_image_has_one_name(name: str, known_as: str) -> None:
    assert image_name(name) == known_as


def test_replicas_spread_over_zones_before_nodes_repeat() -> None:
    nodes = [a_node(f"{zone}{n}", labels={"topology.kubernetes.io/zone": zone}) for zone in "ab" for n in range(3)]
    yard = a_yard(*nodes)
    assert sorted(where[0] for where in yard.place(*replicas(4))) == ["a", "a", "b", "b"]
    # A zone of its own, all of a sudden, is where the next two go.
    yard.put(a_node("a2", labels={"topology.kubernetes.io/zone": "c"}))
    yard.snapshot.drop_node("b0")
    assert "a2" in yard.place(*replicas(2, first=4))


def test_zones_are_left_clean() -> None:
    nodes = [a_node(f"n{n}", labels={"topology.kubernetes.io/zone": f"z{n}"}) for n in range(3)]
    yard = a_yard(*nodes)
    pods = replicas(6)
    yard.place(*pods)
    yard.put(a_node("n0", labels={"topology.kubernetes.io/zone": "z7"}))
    yard.snapshot.drop_node("n1")
    yard.put(a_node("n1", labels={"topology.kubernetes.io/zone": "z2"}))
    assert dict(yard.snapshot.zone_spread["rs"]) == {"z2": 4, "z7": 2}
    yard.put(a_node("n0"))
    assert dict(yard.snapshot.zone_spread["rs"]) == {"z2": 4}
    for pod in pods:
        yard.snapshot.release(pod.metadata.uid)
    assert yard.snapshot.zone_spread == yard.snapshot.spread == {}


def replicas(count: int, first: int = 0) -> list[Pod]:
    reference = OwnerReference(apiVersion="apps/v1", kind="ReplicaSet", name="rs", uid="rs", controller=True)
    return [a_pod(f"rs-{first + n}", owner=reference) for n in range(count)]


def test_no_change_of_a_node_helps_a_gated_pod() -> None:
    yard = a_yard(a_node("n1"))
    gated = demand_of(view(wanting(schedulingGates=[{"name": "example.com/quota"}])))
    assert yard.rankings.can_any_take([0], gated._replace(is_gated=False))
    assert not yard.rankings.can_any_take([0], gated)
