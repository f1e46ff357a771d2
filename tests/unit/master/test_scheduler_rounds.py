"""The scheduler at work: it binds at once, counts what it has bound, and explains what it cannot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from barque.api import conditions
from barque.api.errors import ApiError, unavailable
from barque.api.types.core_v1 import ContainerImage, Event, Node, Pod, PodSchedulingGate, Service
from barque.client.informers import Informers
from barque.client.supervise import run_all
from barque.client.verbs import Create, Write
from barque.master.scheduler.scheduler import Scheduler
from tests.support.clock import FakeClock, settle
from tests.support.fake_verbs import FakeVerbs
from tests.support.workloads import a_node, a_pod, a_service


class Yard:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.verbs = FakeVerbs(self.clock)
        self.informers = Informers(self.verbs.client, self.clock)
        self.scheduler = Scheduler(self.verbs.client, self.informers, self.clock, host="m1")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(run_all({"informers": self.informers.run(), "rounds": self.scheduler.run()}))
        await settle()
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def node_of(self, name: str) -> str:
        found: Pod = self.verbs.find(Pod, name)
        return found.spec.nodeName

    def events(self) -> list[str]:
        return [f"{e.reason}: {e.message}" for e in self.verbs.all(Event)]

    def tellers(self) -> list[tuple[str, str, str]]:
        return [(e.reportingComponent, e.reportingInstance, e.action) for e in self.verbs.all(Event)]


@pytest.fixture
def yard() -> Yard:
    return Yard()


def is_binding(write: Write) -> bool:
    return isinstance(write, Create) and write.target.subresource == "binding"


async def test_binds_a_new_pod_without_any_time_passing(yard: Yard) -> None:
    yard.verbs.put(a_node("n1"))
    async with yard.running():
        yard.verbs.put(a_pod("web-1"))
        await settle()
        assert yard.node_of("web-1") == "n1"
        assert yard.clock.monotonic() == 0
        assert yard.events() == ["Scheduled: Successfully assigned default/web-1 to n1"]
        assert yard.tellers() == [("default-scheduler", "default-scheduler-m1", "Binding")]


async def test_many_pods_are_bound_in_one_batch(yard: Yard) -> None:
    yard.verbs.put(a_node("n1"))
    for number in range(100):
        yard.verbs.put(a_pod(f"p{number}"))
    async with yard.running():
        assert all(p.spec.nodeName for p in yard.verbs.all(Pod))
        assert yard.verbs.batches[0] == 100


async def test_says_why_and_tries_again_when_a_node_comes(yard: Yard) -> None:
    yard.verbs.put(a_node("n1", cpu="1"))
    yard.verbs.put(a_pod("web-1", cpu="2"))
    async with yard.running():
        condition = conditions.find(yard.verbs.find(Pod, "web-1").status.conditions, "PodScheduled")
        assert condition is not None
        assert (condition.status, condition.reason) == ("False", "Unschedulable")
        assert condition.message == "0/1 nodes are available: 1 Insufficient cpu."
        assert yard.events() == ["FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu."]
        assert yard.tellers() == [("default-scheduler", "default-scheduler-m1", "Scheduling")]
        yard.verbs.put(a_node("n2", cpu="4"))
        await yard.clock.advance(0.2)
        assert yard.node_of("web-1") == "n2"


async def test_a_repeated_refusal_is_written_once(yard: Yard) -> None:
    yard.verbs.put(a_node("n1", cpu="1"))
    yard.verbs.put(a_pod("web-1", cpu="2"))
    async with yard.running():
        writes = [w for w in yard.verbs.writes if w.target.resource.kind == "Pod"]
        await yard.clock.advance(1000)
        assert [w for w in yard.verbs.writes if w.target.resource.kind == "Pod"] == writes


async def test_room_freed_by_a_pod_is_used(yard: Yard) -> None:
    yard.verbs.put(a_node("n1", cpu="2"))
    yard.verbs.put(a_pod("old", cpu="2", node="n1"))
    yard.verbs.put(a_pod("new", cpu="2"))
    async with yard.running():
        assert yard.node_of("new") == ""
        await yard.clock.advance(1)
        done = yard.verbs.find(Pod, "old")
        done.status.phase = "Succeeded"
        yard.verbs.put(done)
        await settle()
        assert yard.node_of("new") == "n1"


async def test_pods_count_where_they_were_bound_before_the_watch_shows_it(yard: Yard) -> None:
    yard.verbs.put(a_node("n1", cpu="1"))
    async with yard.running():
        yard.verbs.put(a_pod("first", cpu="1"))
        await settle(3)
        yard.verbs.put(a_pod("second", cpu="1"))
        await settle()
        bound = [p.metadata.name for p in yard.verbs.all(Pod) if p.spec.nodeName]
        assert bound == ["first"]


async def test_a_change_of_a_pod_that_is_being_bound_binds_it_no_second_time(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, batch = asyncio.Event(), yard.verbs.batch

    async def slow(writes: Sequence[Write]) -> list[bytes | ApiError]:
        await gate.wait()
        return await batch(writes)

    monkeypatch.setattr(yard.verbs, "batch", slow)
    yard.verbs.put(a_node("n1"))
    yard.verbs.put(a_pod("web-1"))
    async with yard.running():
        changed = yard.verbs.find(Pod, "web-1")
        changed.metadata.annotations = {"note": "x"}
        yard.verbs.put(changed)
        await settle()
        gate.set()
        await settle()
        assert yard.node_of("web-1") == "n1"
        assert sum(is_binding(w) for w in yard.verbs.writes) == 1


async def test_a_binding_that_fails_is_tried_again_and_its_room_given_back(yard: Yard) -> None:
    failures = 2

    def refuse(write: Write) -> ApiError | None:
        nonlocal failures
        if is_binding(write) and failures:
            failures -= 1
            return unavailable("the store is stopping")
        return None

    yard.verbs.refuse = refuse
    yard.verbs.put(a_node("n1", cpu="1"))
    yard.verbs.put(a_pod("web-1", cpu="1"))
    async with yard.running():
        assert yard.node_of("web-1") == ""
        await yard.clock.advance(1)
        assert yard.node_of("web-1") == "n1"


async def test_a_binding_whose_answer_is_lost_is_not_repeated_elsewhere(yard: Yard) -> None:
    yard.verbs.lose = is_binding
    yard.verbs.put(a_node("n1"))
    yard.verbs.put(a_node("n2"))
    yard.verbs.put(a_pod("web-1"))
    async with yard.running():
        first = yard.node_of("web-1")
        await yard.clock.advance(30)
        assert yard.node_of("web-1") == first != ""
        assert sum(is_binding(w) for w in yard.verbs.writes) <= 2


async def test_leaves_other_schedulers_and_dying_pods_alone(yard: Yard) -> None:
    yard.verbs.put(a_node("n1"))
    foreign = a_pod("foreign")
    foreign.spec.schedulerName = "mine"
    dying = a_pod("dying")
    dying.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
    dying.metadata.finalizers = ["example.com/wait"]
    yard.verbs.put(foreign)
    yard.verbs.put(dying)
    async with yard.running():
        assert yard.node_of("foreign") == yard.node_of("dying") == ""


async def test_waits_for_a_node_to_be_ready(yard: Yard) -> None:
    yard.verbs.put(a_node("n1", ready=False))
    yard.verbs.put(a_pod("web-1"))
    async with yard.running():
        assert yard.node_of("web-1") == ""
        assert "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }" in yard.events()[0]
        await yard.clock.advance(0.05)
        yard.verbs.put(a_node("n1", ready=True))
        await yard.clock.advance(0.1)
        assert yard.node_of("web-1") == "n1"


async def test_a_removed_node_is_never_chosen(yard: Yard) -> None:
    yard.verbs.put(a_node("n1"))
    yard.verbs.put(a_node("n2", cpu="1"))
    async with yard.running():
        yard.verbs.remove(yard.verbs.find(Node, "n1"))
        await settle()
        yard.verbs.put(a_pod("web-1"))
        await settle()
        assert yard.node_of("web-1") == "n2"


async def test_a_gated_pod_says_so_and_is_bound_once_its_gates_are_gone(yard: Yard) -> None:
    gated = a_pod("web-1")
    gated.spec.schedulingGates = [PodSchedulingGate(name="example.com/quota")]
    yard.verbs.put(a_node("n1"))
    yard.verbs.put(gated)
    async with yard.running():
        condition = conditions.find(yard.verbs.find(Pod, "web-1").status.conditions, "PodScheduled")
        assert condition is not None
        assert (condition.status, condition.reason) == ("False", "SchedulingGated")
        assert condition.message == "Scheduling is blocked due to non-empty scheduling gates"
        assert yard.events() == []
        yard.verbs.put(a_node("n2"))
        await yard.clock.advance(1000)
        open_ = yard.verbs.find(Pod, "web-1")
        assert open_.spec.nodeName == ""
        open_.spec.schedulingGates = []
        yard.verbs.put(open_)
        # The watches fell silent for a quarter of an hour and are begun anew after a pause.
        await yard.clock.advance(5)
        assert yard.node_of("web-1") != ""


async def test_a_change_that_does_not_help_costs_no_try(yard: Yard) -> None:
    yard.verbs.put(a_node("n1", cpu="1"))
    yard.verbs.put(a_pod("web-1", cpu="2"))
    async with yard.running():
        await yard.clock.advance(10)
        yard.verbs.put(a_node("n2", cpu="1"))
        await yard.clock.advance(10)
        assert yard.events() == ["FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu."]
        yard.verbs.put(a_node("n2", cpu="3"))
        await settle()
        assert yard.node_of("web-1") == "n2"


async def test_the_first_node_gives_those_who_wait_another_sentence(yard: Yard) -> None:
    yard.verbs.put(a_pod("web-1"))
    async with yard.running():
        assert yard.events() == ["FailedScheduling: no nodes available to schedule pods"]
        await yard.clock.advance(1)
        yard.verbs.put(a_node("n1", ready=False))
        await settle()
        assert "0/1 nodes are available" in yard.events()[-1]


async def test_an_image_that_was_pulled_since_draws_the_next_pod(yard: Yard) -> None:
    for name in ("n1", "n2", "n3"):
        yard.verbs.put(a_node(name))
    async with yard.running():
        holder = yard.verbs.find(Node, "n3")
        holder.status.images = [ContainerImage(names=["bb:1"], sizeBytes=900 * 1024**2)]
        yard.verbs.put(holder)
        await settle()
        yard.verbs.put(a_pod("web-1"))
        await settle()
        assert yard.node_of("web-1") == "n3"


async def test_pods_of_a_service_are_spread_though_nobody_controls_them(yard: Yard) -> None:
    yard.verbs.put(a_node("big", cpu="64", memory="256Gi"))
    yard.verbs.put(a_node("small", cpu="8"))
    async with yard.running():
        for name in ("alone-1", "alone-2"):
            yard.verbs.put(a_pod(name, app="alone"))
        yard.verbs.put(a_pod("web-1"))
        await settle()
        assert {yard.node_of(name) for name in ("alone-1", "alone-2", "web-1")} == {"big"}
        yard.verbs.put(a_service("web"))
        await settle()
        yard.verbs.put(a_pod("web-2"))
        await settle()
        assert yard.node_of("web-2") == "small"
        yard.verbs.remove(yard.verbs.find(Service, "web"))
        await settle()
        yard.verbs.put(a_pod("web-3"))
        await settle()
        assert yard.node_of("web-3") == "big"
        assert yard.scheduler.snapshot.spread == {}


async def test_a_service_that_was_there_first_groups_the_pods_that_were_too(yard: Yard) -> None:
    for node in (a_node("big", cpu="64", memory="256Gi"), a_node("small", cpu="8")):
        yard.verbs.put(node)
    yard.verbs.put(a_service("web"))
    yard.verbs.put(a_pod("web-1", node="big"))
    async with yard.running():
        yard.verbs.put(a_pod("web-2"))
        await settle()
        assert yard.node_of("web-2") == "small"
