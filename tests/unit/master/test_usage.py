"""Usage on a master: which samples are believed, what is made of them, and what is shown of it."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.api import codec, quantity, resources
from barque.api.types.core_v1 import ComponentStatus
from barque.api.types.metrics_v1beta1 import NodeMetrics, PodMetrics
from barque.client.usage import MAX_CONTAINERS, MAX_PODS, ContainerUsage, NodeUsage, PodUsage, encode
from barque.client.verbs import Page, Selection, Target
from barque.master.store.port import StoreUnavailableError
from barque.master.usage import rendering, samples, table
from barque.master.usage.samples import BadSampleError, read_sample
from barque.proto.cluster_pb2 import Component
from tests.support.memory_store import Bench, refusal, target
from tests.support.registry_cluster import RegistryCluster, run

NODES = resources.by_plural("metrics.k8s.io", "nodes")
PODS = resources.by_plural("metrics.k8s.io", "pods")
KI = 1024


def a_sample(*pods: PodUsage, cpu: int = 1_500_000_001, memory: int = 3 * KI * KI, window_s: float = 10.0) -> NodeUsage:
    return NodeUsage(window_s, cpu, memory, 0, list(pods))


def used(name: str = "web", uid: str = "", *, namespace: str = "default", cpu: int = 12_345) -> PodUsage:
    return PodUsage(namespace, name, uid or f"uid-{name}", [ContainerUsage("main", cpu, 1234 * KI)])


class Ship(RegistryCluster):
    """Two nodes, on each a pod, and one pod that is bound to none; `take` has a node's worker send a sample."""

    def __init__(self) -> None:
        super().__init__()
        for node in ("n1", "n2"):
            self.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": {"disk": "ssd"}}})
        self.pod("web", "n1")
        self.pod("db", "n2")
        self.pod("lost", "")

    def pod(self, name: str, node: str, uid: str = "", **metadata: Any) -> None:
        spec = {"nodeName": node, "containers": [{"name": "main", "image": "web:1"}]}
        meta = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", **metadata}
        self.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    def take(self, node: str, *pods: PodUsage, **numbers: Any) -> bool:
        return self.bench.usage.take(node, encode(a_sample(*pods, **numbers)))

    async def shown(self, resource: resources.Resource = PODS, selection: Selection = Selection()) -> list[str]:
        listed = await self.bench.admin.list(Target(resource), selection)
        return [msgspec.json.decode(item)["metadata"]["name"] for item in listed.items]

    async def pass_s(self, seconds: float) -> None:
        await self.clock.advance(seconds)


@pytest.fixture
def ship() -> Ship:
    return Ship()


@pytest.fixture
def bench(ship: Ship) -> Bench:
    return ship.bench


# --- what is believed


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (a_sample(cpu=-1), "the node cannot use -1 nanocores"),
        (a_sample(memory=2**61), f"the node cannot use {2**61} bytes of memory"),
        (a_sample(window_s=0.0), "its window is 0.0 s"),
        (a_sample(window_s=math.nan), "its window is nan s"),
        (a_sample(used(cpu=10**18)), "container 'main' cannot use 1000000000000000000 nanocores"),
        (a_sample(used(uid="u" * 200)), "the uid of pod 'web' is too long"),
        (a_sample(*[used()] * (MAX_PODS + 1)), "it names 1025 pods, at most 1024 are taken"),
        (
            a_sample(PodUsage("default", "web", "u", [ContainerUsage("main", 0, 0)] * (MAX_CONTAINERS + 1))),
            "it names more than 4096 containers",
        ),
        (
            a_sample(PodUsage("default", "web", "u", [ContainerUsage('a","x":"', 0, 0)])),
            '\'a","x":"\' is no name of a container',
        ),
    ],
)
def test_what_cannot_be_is_refused(sample: NodeUsage, why: str) -> None:
    with pytest.raises(BadSampleError) as refused:
        read_sample(encode(sample))
    assert str(refused.value) == why


@given(st.binary(max_size=64) | st.just(b"\x91" * 10_000) | st.just(b"x" * (1024 * 1024 + 1)))
def test_what_is_no_sample_is_refused(data: bytes) -> None:
    with pytest.raises(BadSampleError):
        read_sample(data)


def test_the_largest_sample_is_taken() -> None:
    sample = a_sample(*[used(f"p{number}") for number in range(MAX_PODS)], window_s=samples.MAX_WINDOW_S)
    assert read_sample(encode(sample)) == sample


# --- what is made of it


@given(st.integers(0, samples.MAX_NANOCORES), st.integers(0, samples.MAX_BYTES))
def test_amounts_are_canonical(nanocores: int, size_bytes: int) -> None:
    assert rendering.cpu(nanocores) == quantity.canonical(f"{nanocores}n")
    assert quantity.whole(rendering.memory(size_bytes)) == size_bytes
    for pages in (size_bytes // 4096, size_bytes // 2**30 * 2**18, 2 ** (size_bytes % 48)):
        assert rendering.memory(pages * 4096) == quantity.canonical(f"{pages * 4}Ki")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(10.0, "10s"), (9.99849, "9.998s"), (0.5, "500ms"), (60.0, "1m0s"), (90.25, "1m30.25s"), (3600.0, "1h0m0s")],
)
def test_windows_are_written_as_go_does(seconds: float, text: str) -> None:
    assert rendering.duration(seconds) == text


async def test_pod_metrics_to_the_byte(ship: Ship) -> None:
    ship.pod("web", "n1", labels={"app": "web", "tier": 'a"b'})
    assert ship.take("n1", used())
    json = await ship.bench.admin.get(Target(PODS, "default", "web"))
    assert json == (
        b'{"apiVersion":"metrics.k8s.io/v1beta1","kind":"PodMetrics","metadata":{"name":"web","namespace":"default",'
        b'"creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"web","tier":"a\\"b"}},'
        b'"timestamp":"2026-01-01T00:00:00Z","window":"10s",'
        b'"containers":[{"name":"main","usage":{"cpu":"12345n","memory":"1234Ki"}}]}'
    )
    assert codec.encode(codec.decode(PodMetrics, json)) == json


async def test_node_metrics_to_the_byte(ship: Ship) -> None:
    assert ship.take("n1")
    json = await ship.bench.admin.get(Target(NODES, "", "n1"))
    assert json == (
        b'{"apiVersion":"metrics.k8s.io/v1beta1","kind":"NodeMetrics","metadata":{"name":"n1",'
        b'"creationTimestamp":"2026-01-01T00:00:00Z","labels":{"disk":"ssd"}},'
        b'"timestamp":"2026-01-01T00:00:00Z","window":"10s","usage":{"cpu":"1500000001n","memory":"3Mi"}}'
    )
    assert codec.encode(codec.decode(NodeMetrics, json)) == json


# --- what is shown


async def test_a_worker_speaks_for_its_own_pods_alone(ship: Ship, bench: Bench) -> None:
    assert ship.take("n1", used(), used("db"), used("lost"), used("none"), used("web", namespace="other"))
    assert await ship.shown() == ["web"]
    assert bench.usage.left_out == 4
    assert not ship.take("n9", used())
    assert bench.usage.refused == {"no such node": 1}


async def test_a_pod_of_the_same_name_is_another_pod(ship: Ship) -> None:
    assert ship.take("n1", used(uid="uid-older"))
    assert await ship.shown() == []
    await ship.pass_s(10)
    assert ship.take("n1", used())
    assert await ship.shown() == ["web"]
    ship.remove("pods", "web")
    assert await ship.shown() == []
    ship.pod("web", "n1", "uid-newer")
    assert await ship.shown() == []


async def test_a_pod_that_came_up_elsewhere_is_not_taken_away_by_its_last_node(ship: Ship) -> None:
    assert ship.take("n1", used())
    ship.remove("pods", "web")
    ship.pod("web", "n2", "uid-newer")
    assert ship.take("n2", used(uid="uid-newer"))
    await ship.pass_s(10)
    assert ship.take("n1")
    assert await ship.shown() == ["web"]


async def test_a_static_pod_is_known_by_what_its_mirror_says(ship: Ship) -> None:
    ship.pod("etcd", "n1", "uid-mirror", annotations={"kubernetes.io/config.mirror": "uid-static"})
    assert ship.take("n1", used("etcd", "uid-static"))
    assert await ship.shown() == ["etcd"]


async def test_labels_are_those_of_now(ship: Ship, bench: Bench) -> None:
    ship.pod("web", "n1", labels={"app": "old"})
    assert ship.take("n1", used())
    for labels in ({"app": "newer", "tier": "front"}, {}, {"app": "new"}):
        ship.pod("web", "n1", labels=labels)
        shown = msgspec.json.decode(await bench.admin.get(Target(PODS, "default", "web")), type=PodMetrics)
        assert shown.metadata.labels == labels
        assert shown.containers[0].name == "main"
    assert await ship.shown(selection=Selection(labels="app=new")) == ["web"]
    assert await ship.shown(selection=Selection(labels="app=old")) == []


async def test_lists_are_ordered_and_selected(ship: Ship, bench: Bench) -> None:
    ship.pod("api", "n1")
    assert ship.take("n1", used(), used("api"))
    assert ship.take("n2", used("db"))
    assert await ship.shown() == ["api", "db", "web"]
    assert await ship.shown(selection=Selection(fields="metadata.name!=db")) == ["api", "web"]
    assert await ship.shown(selection=Selection(fields="metadata.namespace=lab")) == []
    assert await ship.shown(NODES, Selection(fields="metadata.name=n2")) == ["n2"]
    first = await bench.admin.list(Target(PODS), page=Page(limit=2))
    rest = await bench.admin.list(Target(PODS), page=Page(limit=2, continue_=first.continue_))
    assert (len(first.items), len(rest.items), rest.continue_) == (2, 1, "")
    typed = await bench.client.list(PodMetrics, "default")
    assert [pod.containers[0].usage["cpu"] for pod in typed.items] == ["12345n"] * 3


async def test_after_a_minute_a_silent_node_is_not_shown(ship: Ship, bench: Bench) -> None:
    assert ship.take("n1", used())
    await ship.pass_s(50)
    assert ship.take("n2", used("db"))
    await ship.pass_s(10)
    assert await ship.shown(NODES) == ["n1", "n2"]
    await ship.pass_s(0.5)
    assert (await ship.shown(), await ship.shown(NODES)) == (["db"], ["n2"])
    assert bench.usage.remark() == "1 node, 1 pod"
    assert bench.usage._bytes == sum(sample.size_bytes for sample in bench.usage._samples.values()) > 0


async def test_a_deleted_node_is_forgotten(ship: Ship, bench: Bench) -> None:
    assert ship.take("n1", used())
    ship.remove("nodes", "n1", "")
    assert await ship.shown(NODES) == []
    assert await ship.shown() == []
    assert (bench.usage.remark(), bench.usage._bytes) == ("0 nodes, 0 pods", 0)


async def test_the_newest_sample_counts(ship: Ship, bench: Bench) -> None:
    assert ship.take("n1", used(cpu=1))
    await ship.pass_s(10)
    assert ship.take("n1", used(cpu=2))
    shown = msgspec.json.decode(await bench.admin.get(Target(PODS, "default", "web")), type=PodMetrics)
    assert (shown.containers[0].usage["cpu"], shown.timestamp) == ("2n", "2026-01-01T00:00:10Z")
    await ship.pass_s(10)
    assert ship.take("n1")
    assert await ship.shown() == []


async def test_a_flood_is_looked_at_once_a_second(ship: Ship, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert ship.take("n1", used(cpu=1))
    assert not any(ship.take("n1", used(cpu=n)) for n in range(100))
    await ship.pass_s(1)
    assert not bench.usage.take("n1", b"junk")
    assert not bench.usage.take("n1", b"junk")
    await ship.pass_s(1)
    assert not bench.usage.take("n1", b"junk")
    assert bench.usage.refused == {"too often": 101, "malformed": 2}
    assert [record.getMessage()[:43] for record in caplog.records] == ["a usage sample of node n1 is refused: it ca"]
    assert await ship.shown() == ["web"]
    assert bench.usage.remark() == "1 node, 1 pod; samples refused: 2 malformed, 101 too often"


async def test_a_full_table_takes_no_more(ship: Ship, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_TABLE_BYTES", 300)
    assert ship.take("n1", used())
    assert not ship.take("n2", used("db"))
    assert bench.usage.refused == {"table full": 1}
    await ship.pass_s(10)
    assert ship.take("n1", used())


# --- through the registry


async def test_metrics_are_read_only(bench: Bench) -> None:
    body = b'{"metadata":{"name":"web"}}'
    where = Target(PODS, "default", "web")
    for call in (
        bench.admin.create(where._replace(name=""), body),
        bench.admin.update(where, body),
        bench.admin.delete(where),
        anext(bench.admin.watch(where._replace(name=""))),
    ):
        assert (await refusal(call)).code == 405


async def test_refusals_are_those_of_the_metrics_server(bench: Bench) -> None:
    said = {
        ("pods", "web"): 'podmetrics.metrics.k8s.io "default/web" not found',
        ("pods", "gone"): 'pods "gone" not found',
        ("nodes", "n1"): 'nodemetrics.metrics.k8s.io "n1" not found',
        ("nodes", "n9"): 'nodes "n9" not found',
    }
    for (plural, name), message in said.items():
        refused = await refusal(bench.admin.get(target(f"{plural}.metrics.k8s.io", name)))
        assert (refused.code, refused.message) == (404, message)


async def test_nodes_may_not_read_them(bench: Bench) -> None:
    for where in (Target(PODS, "default", "web"), Target(NODES, "", "n1"), target("cs", "store")):
        assert (await refusal(bench.as_node("n1").get(where))).code == 403
        assert (await refusal(bench.as_node("n1").list(where._replace(name="")))).code == 403


async def test_they_are_read_without_a_quorum(ship: Ship, bench: Bench) -> None:
    assert ship.take("n1", used())
    bench.store.failure = StoreUnavailableError("no quorum")
    assert await ship.shown() == ["web"]


def test_get_shows_what_the_metrics_server_shows(ship: Ship) -> None:
    both = PodUsage("default", "web", "uid-web", [ContainerUsage("a", 500, 3 * KI), ContainerUsage("b", 600, 4 * KI)])
    assert ship.take("n1", both)
    assert run(ship, "get", "pods.metrics.k8s.io").stdout == (
        "NAME   CPU     MEMORY   WINDOW\n"
        "web    1100n   7Ki      10s\n"
    )  # fmt: skip
    assert run(ship, "get", "nodemetrics", "--no-headers").stdout == "n1    1500000001n   3Mi   10s\n"
    assert run(ship, "get", "podmetrics", "-o", "name").stdout == "podmetrics.metrics.k8s.io/web\n"
    assert "STATUS" in run(ship, "get", "pods").stdout


# --- the parts of the master


async def test_components_as_conditions(bench: Bench) -> None:
    bench.components[:] = [
        Component(name="store", healthy=True, message="revision 7"),
        Component(name="bus", healthy=False, message="cannot connect"),
        Component(name="scheduler", healthy=True),
    ]
    listed = await bench.client.list(ComponentStatus)
    shown = {c.metadata.name: [(d.type, d.status, d.message, d.error) for d in c.conditions] for c in listed.items}
    assert shown == {
        "bus": [("Healthy", "False", "", "cannot connect")],
        "scheduler": [("Healthy", "True", "ok", "")],
        "store": [("Healthy", "True", "revision 7", "")],
    }
    assert (await bench.client.get(ComponentStatus, "bus")).metadata.name == "bus"
    refused = await refusal(bench.admin.get(target("cs", "kubelet")))
    assert (refused.code, refused.message) == (404, 'componentstatuses "kubelet" not found')
    assert (await refusal(bench.admin.delete(target("cs", "bus")))).code == 405


def test_components_as_a_table(ship: Ship) -> None:
    ship.bench.components.append(Component(name="bus", healthy=False, message="cannot connect"))
    assert run(ship, "get", "cs").stdout == (
        "NAME    STATUS      MESSAGE      ERROR\n"
        "bus     Unhealthy                cannot connect\n"
        "store   Healthy     revision 1\n"
    )
