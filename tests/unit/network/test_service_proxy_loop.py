"""The proxy's loop on a clock of the test's own: when it writes, waits, retries and heals."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable

import pytest

from barque.api.types import core_v1, discovery_v1, meta_v1
from barque.client.informer import Informer
from barque.client.supervise import run_all
from barque.network.conntrack import Ways
from barque.network.iptables.driver import IptablesError
from barque.network.proxy import proxy
from barque.network.proxy.proxy import FIRST_RETRY_S, LINES_PER_SERVICE, LOOK_S, RESYNC_S, ZONE_LABEL, ServiceProxy
from tests.support.clock import FakeClock, settle
from tests.support.fake_verbs import FakeVerbs
from tests.support.packet_tracer import MemoryIptables


class NoFlows:
    """Stands in for the kernel's connections."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answering: list[Ways] = []
        self.faults: list[OSError] = []

    def delete_stale(self, ways: Callable[[list[str]], Ways]) -> int:
        self.answering.append(ways([]))
        self.asked.append(sorted(address for address, _ in ways([])))
        if self.faults:
            raise self.faults.pop(0)
        return 0


class Stage:
    def __init__(self) -> None:
        self.clock, self.kernel, self.flows = FakeClock(), MemoryIptables(), NoFlows()
        self.cluster = FakeVerbs(self.clock)
        client = self.cluster.client
        self.services = Informer(client, core_v1.Service, clock=self.clock)
        self.slices = Informer(client, discovery_v1.EndpointSlice, clock=self.clock)
        self.proxy = ServiceProxy(
            self.services,
            self.slices,
            self.kernel,
            self.clock,
            node="n1",
            conntrack=self.flows,  # type: ignore[arg-type]
        )

    async def run(self) -> None:
        await run_all({"s": self.services.run(), "e": self.slices.run(), "p": self.proxy.run()})

    async def quiet(self) -> None:
        """Let a write end, with the thread that looks at flows after it."""
        await settle()
        async with asyncio.timeout(60):
            while self.proxy._writing:
                await asyncio.sleep(0)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let what threads do for the proxy come to its end."""
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0)

    def dispatch(self) -> list[str]:
        return [rule for rule in self.kernel.tables["nat"].get("BARQUE-SERVICES", []) if "-d 10." in rule]

    def put(self, name: str, *endpoints: str, protocol: str = "TCP") -> None:
        number = int(name[1:])
        meta = meta_v1.ObjectMeta(name=name, namespace="default")
        ports = [core_v1.ServicePort(port=80, protocol=protocol)]
        spec = core_v1.ServiceSpec(clusterIP=f"10.96.0.{number}", ports=ports)
        self.cluster.put(core_v1.Service(metadata=meta, spec=spec))
        meta = meta_v1.ObjectMeta(name=name, namespace="default", labels={"kubernetes.io/service-name": name})
        self.cluster.put(
            discovery_v1.EndpointSlice(
                metadata=meta,
                addressType="IPv4",
                endpoints=[discovery_v1.Endpoint(addresses=[ip]) for ip in endpoints],
                ports=[discovery_v1.EndpointPort(port=8080, protocol=protocol)],
            )
        )


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    made.put("s1", "10.244.1.2")
    task = asyncio.create_task(made.run())
    await made.quiet()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_first_write_is_whole_and_the_jumps_stand(stage: Stage) -> None:
    assert len(stage.dispatch()) == 1
    assert stage.kernel.tables["nat"]["PREROUTING"][0].endswith("-j BARQUE-SERVICES")
    assert stage.kernel.tables["filter"]["OUTPUT"][0].endswith("-j BARQUE-SERVICES")


async def test_nothing_is_written_before_both_lists_are_here() -> None:
    stage = Stage()
    real = stage.cluster.list
    gate = asyncio.Event()

    async def slow(target, *rest):  # type: ignore[no-untyped-def]
        if target.resource.plural == "endpointslices":
            await gate.wait()
        return await real(target, *rest)

    stage.cluster.list = slow  # type: ignore[method-assign]
    stage.put("s1", "10.244.1.2")
    task = asyncio.create_task(stage.run())
    await settle()
    assert stage.kernel.texts == []
    gate.set()
    await stage.quiet()
    assert len(stage.dispatch()) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_change_is_written_at_once_and_alone(stage: Stage) -> None:
    before = len(stage.kernel.texts)
    stage.put("s1", "10.244.1.3")
    await stage.quiet()
    (text,) = stage.kernel.texts[before:]
    assert text.count("\n:") == 3, "the service's chain, the new endpoint's and the old one's"


async def test_changes_while_a_write_runs_are_taken_together(stage: Stage) -> None:
    before = len(stage.kernel.texts)
    for number in range(2, 30):
        stage.put(f"s{number}", "10.244.1.2")
    await stage.quiet()
    await stage.clock.advance(1)
    await stage.quiet()
    assert len(stage.dispatch()) == 29
    assert len(stage.kernel.texts) - before <= 3


async def test_a_failed_write_is_tried_again_as_a_whole(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.kernel.fail = ["the lock is held", "the lock is held"]
    stage.put("s2", "10.244.1.2")
    await stage.until(lambda: "the lock is held" in caplog.text)
    assert len(stage.dispatch()) == 1
    await stage.clock.advance(0.5)
    await stage.until(lambda: caplog.text.count("the lock is held") == 2)
    assert len(stage.dispatch()) == 1
    await stage.clock.advance(1.0)
    await stage.quiet()
    assert len(stage.dispatch()) == 2


async def test_what_others_break_is_healed_at_the_next_look(stage: Stage) -> None:
    await stage.clock.advance(LOOK_S)
    whole = {name: list(rules) for name, rules in stage.kernel.tables["nat"].items()}
    for broken in ("BARQUE-SERVICES", "PREROUTING"):
        stage.kernel.tables["nat"][broken] = []
        stage.kernel.generation += 1
        await stage.clock.advance(LOOK_S)
        await stage.until(lambda: stage.kernel.tables["nat"] == whole)
        await stage.quiet()
    texts = len(stage.kernel.texts)
    await stage.clock.advance(10 * LOOK_S)
    assert len(stage.kernel.texts) == texts


async def test_a_change_that_leaves_no_trace_is_found_by_the_count(stage: Stage) -> None:
    stage.proxy._watch._exact = False  # type: ignore[union-attr]
    await stage.clock.advance(LOOK_S)
    stage.kernel.tables["nat"]["BARQUE-SERVICES"] = []
    await stage.clock.advance(RESYNC_S / 2)
    assert stage.dispatch() == []
    await stage.clock.advance(RESYNC_S)
    await stage.until(lambda: len(stage.dispatch()) == 1)
    await stage.quiet()
    assert len(stage.dispatch()) == 1


async def test_flows_are_looked_at_only_for_udp(stage: Stage) -> None:
    assert stage.flows.asked == []
    stage.put("s1", "10.244.1.3")
    await stage.quiet()
    stage.put("s2", "10.244.1.2", protocol="UDP")
    await stage.quiet()
    assert stage.flows.asked == [["10.96.0.2"]]


async def test_a_removed_service_goes(stage: Stage) -> None:
    (service,) = [o for (kind, *_), o in stage.cluster.objects.items() if kind == "services"]
    stage.cluster.remove(service)
    await stage.quiet()
    assert stage.dispatch() == []
    assert [name for name in stage.kernel.tables["nat"] if "-SVC-" in name or "-SEP-" in name] == []


async def test_of_a_removed_udp_service_nobody_may_answer(stage: Stage) -> None:
    stage.put("s2", "10.244.1.2", protocol="UDP")
    await stage.quiet()
    (service,) = [o for (kind, _, name), o in stage.cluster.objects.items() if (kind, name) == ("services", "s2")]
    stage.cluster.remove(service)
    await stage.quiet()
    assert stage.flows.asked == [["10.96.0.2"], ["10.96.0.2"]]
    # It is told once.
    stage.put("s3", "10.244.1.2", protocol="UDP")
    await stage.quiet()
    assert stage.flows.asked[2:] == [["10.96.0.3"]]


async def test_flows_that_could_not_be_deleted_are_tried_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.put("s2", "10.244.1.2", protocol="UDP")
    await stage.quiet()
    (service,) = [o for (kind, _, name), o in stage.cluster.objects.items() if (kind, name) == ("services", "s2")]
    stage.flows.faults = [OSError(errno.ENOBUFS, "no buffer space") for _ in range(2)]
    stage.cluster.remove(service)
    await stage.quiet()
    for tries in (3, 4):
        await stage.clock.advance(LOOK_S)
        await stage.until(lambda tries=tries: len(stage.flows.asked) == tries)  # type: ignore[misc]
        await stage.quiet()
    assert stage.flows.asked == [["10.96.0.2"]] * 4
    assert stage.flows.answering[-1] == {("10.96.0.2", 80): set()}
    assert caplog.text.count("cannot delete stale UDP flows") == 1
    await stage.clock.advance(3 * LOOK_S)
    assert len(stage.flows.asked) == 4
    stage.flows.faults = [OSError(errno.ENOBUFS, "no buffer space")]
    stage.put("s3", "10.244.1.2", protocol="UDP")
    await stage.quiet()
    assert caplog.text.count("cannot delete stale UDP flows") == 2, "it went well in between"


async def test_a_port_that_is_back_when_flows_are_tried_again_is_answered_by_its_own(stage: Stage) -> None:
    stage.put("s2", "10.244.1.2", protocol="UDP")
    await stage.quiet()
    (service,) = [o for (kind, _, name), o in stage.cluster.objects.items() if (kind, name) == ("services", "s2")]
    stage.flows.faults = [OSError(errno.ENOBUFS, "no buffer space")]
    stage.cluster.remove(service)
    await stage.quiet()
    stage.put("s2", "10.244.1.9", protocol="UDP")
    await stage.quiet()
    assert stage.flows.answering[-1] == {("10.96.0.2", 80): {"10.244.1.9"}}


async def test_closed_ports_that_wait_are_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MOST_CLOSED", 2)
    for number in (2, 3, 4):
        stage.put(f"s{number}", "10.244.1.2", protocol="UDP")
    await stage.quiet()
    stage.flows.faults = [OSError(errno.ENOBUFS, "no buffer space")] * 3
    for name in ("s2", "s3", "s4"):
        (service,) = [o for (kind, _, one), o in stage.cluster.objects.items() if (kind, one) == ("services", name)]
        stage.cluster.remove(service)
        await stage.quiet()
        await stage.clock.advance(1.0)
        await stage.quiet()
    assert stage.flows.faults == []
    await stage.clock.advance(LOOK_S)
    await stage.until(lambda: stage.flows.asked[-1] == ["10.96.0.3", "10.96.0.4"])
    await stage.quiet()
    assert stage.flows.asked[-1] == ["10.96.0.3", "10.96.0.4"]


async def test_another_zone_looks_at_every_service_again(stage: Stage) -> None:
    def node(name: str, zone: str) -> core_v1.Node:
        return core_v1.Node(metadata=meta_v1.ObjectMeta(name=name, labels={ZONE_LABEL: zone}))

    def sent_to() -> set[str]:
        return {
            rule.rpartition(" ")[2] for rules in stage.kernel.tables["nat"].values() for rule in rules if "DNAT" in rule
        }

    meta = meta_v1.ObjectMeta(name="s1", namespace="default", labels={"kubernetes.io/service-name": "s1"})
    found = [
        discovery_v1.Endpoint(
            addresses=[ip], hints=discovery_v1.EndpointHints(forZones=[discovery_v1.ForZone(name=zone)])
        )
        for ip, zone in (("10.244.1.2", "east"), ("10.244.1.3", "west"))
    ]
    ports = [discovery_v1.EndpointPort(port=8080, protocol="TCP")]
    stage.cluster.put(discovery_v1.EndpointSlice(metadata=meta, addressType="IPv4", endpoints=found, ports=ports))
    await stage.quiet()
    assert sent_to() == {"10.244.1.2:8080", "10.244.1.3:8080"}
    # Another node's zone is not this one's.
    stage.proxy.handle_node(None, node("n2", "east"))
    await stage.quiet()
    assert sent_to() == {"10.244.1.2:8080", "10.244.1.3:8080"}
    stage.proxy.handle_node(None, node("n1", "west"))
    await stage.quiet()
    assert sent_to() == {"10.244.1.3:8080"}


async def test_nothing_is_forgotten_when_the_first_write_fails_midway(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    for number in range(1, 9):
        stage.put(f"s{number}", "10.244.1.2")
    stage.kernel.max_lines = LINES_PER_SERVICE * 2
    writes = 0

    def break_among_services(text: str) -> None:
        nonlocal writes
        writes += 1
        # After the base and the jumps in two tables: among the services, of which some are not looked at yet.
        if writes == 5:
            raise IptablesError("another program has the lock")
        MemoryIptables.load(stage.kernel, text)

    stage.kernel.load = break_among_services  # type: ignore[method-assign]
    task = asyncio.create_task(stage.run())
    # Said by the loop, which then sleeps: the write itself fails in a thread.
    await stage.until(lambda: "another program has the lock" in caplog.text)
    assert writes == 5
    await stage.clock.advance(FIRST_RETRY_S)
    await stage.until(lambda: len(stage.dispatch()) == 8)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len([name for name in stage.kernel.tables["nat"] if "-SVC-" in name]) == 8


async def test_rules_seen_while_another_program_changes_them_prove_nothing(stage: Stage) -> None:
    async def halfway(table: str, entrances: object) -> dict[str, int]:
        stage.kernel.generation += 1
        return {}

    texts = len(stage.kernel.texts)
    stage.kernel.measure = halfway  # type: ignore[method-assign, assignment]
    assert await stage.proxy.check()
    await stage.quiet()
    assert len(stage.kernel.texts) == texts
