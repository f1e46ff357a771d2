"""`Scheduler`: binds waiting pods to nodes.

In: shared informers of Pods, Nodes and Services, which whoever made them runs. Out: bindings, all pods of one round in
one batch; for a pod that no node can take, or that is gated, the condition PodScheduled=False with one sentence, and
for the former an event. It reacts to each change at once; while a batch is being written the next round is planned, and
pods count where they were placed before the watch shows them there. Only pods whose `schedulerName` is
`default-scheduler` are looked at.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from barque.api import codec, podstatus, resources
from barque.api.errors import ApiError
from barque.api.types.core_v1 import Binding, Node, ObjectReference, Pod, PodCondition, Service
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.views import PodView
from barque.client.client import Client
from barque.client.clock import Clock, timestamp
from barque.client.informers import Informers
from barque.client.patches import condition_patch
from barque.client.recorder import SeriesRecorder
from barque.client.supervise import run_all
from barque.client.verbs import Create, Patch, Target, Write
from barque.master.scheduler.demand import demand_of
from barque.master.scheduler.groups import Groups, controller_of
from barque.master.scheduler.queue import SchedulingQueue
from barque.master.scheduler.ranking import Rankings
from barque.master.scheduler.snapshot import Placed, Snapshot, facts_of, images_of

log = logging.getLogger(__name__)

NAME = "default-scheduler"
GATED = "Scheduling is blocked due to non-empty scheduling gates"
# One round stays below 20 ms of the loop's time.
ROUND = 256
# Batches being written at once: enough to plan while one is fsynced; more only delays what is decided last.
IN_FLIGHT = 4

_PODS = resources.by_type(Pod)


class Plan(NamedTuple):
    """One round's decisions: (pod, node), (pod, why not), and the pods that are not to be placed yet."""

    placements: list[tuple[PodView, str]]
    refusals: list[tuple[PodView, str]]
    gated: list[PodView]


def plan_round(rankings: Rankings, pods: Iterable[PodView], group_of: Callable[[PodView], str] = controller_of) -> Plan:
    """Decide for each pod in turn; each placement counts for the next, of the same group twice."""
    plan = Plan([], [], [])
    for pod in pods:
        demand = demand_of(pod)
        if demand.is_gated:
            plan.gated.append(pod)
            continue
        node = rankings.assume(pod.metadata.uid, demand, group_of(pod))
        if node is None:
            plan.refusals.append((pod, rankings.refusal(demand)))
        else:
            plan.placements.append((pod, node))
    return plan


class Scheduler:
    """One term of leadership: made anew by each new leader, whose name is `host`."""

    def __init__(self, client: Client, informers: Informers, clock: Clock, host: str = "") -> None:
        self.snapshot = Snapshot()
        self.queue = SchedulingQueue()
        self._client = client
        self._clock = clock
        self._rankings = Rankings(self.snapshot)
        self._recorder = SeriesRecorder(client, NAME, host, clock)
        self._pods = informers.of(PodView)
        self._nodes = informers.of(Node)
        self._services = informers.of(Service)
        self._groups = Groups()
        self._services.add_handler(self._handle_service)
        self._pods.add_handler(self._handle_pod)
        self._nodes.add_handler(self._handle_node)
        self._is_synced = False
        self._wake = asyncio.Event()
        # Positions at which more may be possible than before.
        self._better: set[int] = set()
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def run(self) -> None:
        """Schedule until cancelled."""
        await run_all({"events": self._recorder.run(), "rounds": self._run_rounds()})

    def _handle_node(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            assert old is not None
            self.snapshot.drop_node(old.metadata.name)
            return
        name = new.metadata.name
        if not self.snapshot.positions:
            # Not room as yet, but another sentence for those who wait.
            self.queue.wake(self._clock.monotonic(), lambda _: True)
        self._note_better(self.snapshot.set_node(name, facts_of(new)))
        if old is None or old.status.images != new.status.images:
            self.snapshot.set_images(name, images_of(new))

    def _handle_pod(self, old: PodView | None, new: PodView | None) -> None:
        pod = new or old
        assert pod is not None
        uid = pod.metadata.uid
        if new is None or podstatus.is_terminal(pod):
            self.queue.forget(uid)
            self._note_better(self.snapshot.release(uid))
        elif pod.spec.nodeName:
            held = self.snapshot.held(uid)
            if held is None or held.assumed or held.node != pod.spec.nodeName:
                self.queue.forget(uid)
            if held is not None and held.node == pod.spec.nodeName:
                held.assumed = False
            else:
                self.snapshot.place(uid, Placed(pod.spec.nodeName, self._groups.of(pod), demand_of(pod), False))
        elif _is_ours(pod):
            if self.snapshot.held(uid) is None:
                self.queue.add(pod, self._clock.monotonic())
        else:
            self.queue.forget(uid)
        if self.queue.has_active:
            self._wake.set()

    def _handle_service(self, old: Service | None, new: Service | None) -> None:
        known = new or old
        assert known is not None
        if self._groups.note(old, new) and self._is_synced:
            self._regroup([p for p in self._pods.list() if p.metadata.namespace == known.metadata.namespace])

    def _regroup(self, pods: Iterable[PodView]) -> None:
        for pod in pods:
            if not controller_of(pod):
                self.snapshot.regroup(pod.metadata.uid, self._groups.of(pod))

    def _note_better(self, at: int | None) -> None:
        """Something has become free, or otherwise, at this position."""
        if at is not None:
            self._better.add(at)
            self._wake.set()

    async def _run_rounds(self) -> None:
        await self._nodes.wait_synced()
        await self._pods.wait_synced()
        await self._services.wait_synced()
        self._is_synced = True
        self._regroup(self._pods.list())
        async with asyncio.TaskGroup() as writes:
            while True:
                now = self._clock.monotonic()
                if self._better:
                    better, self._better = self._better, set()
                    self.queue.wake(now, functools.partial(self._rankings.can_any_take, better))
                self.queue.flush(now)
                if not self.queue.has_active:
                    await self._wait_work()
                    continue
                await self._in_flight.acquire()
                plan = plan_round(self._rankings, self.queue.take(ROUND), self._groups.of)
                for pod in (*(refused for refused, _ in plan.refusals), *plan.gated):
                    self.queue.refuse(pod, now)
                writes.create_task(self._write(plan))

    async def _wait_work(self) -> None:
        """Until a handler wakes us, or a back-off ends."""
        self._wake.clear()
        due = self.queue.next_due()
        if due is None:
            await self._wake.wait()
            return
        left_s = max(due - self._clock.monotonic(), 0.0)
        tasks = {asyncio.create_task(self._wake.wait()), asyncio.create_task(self._clock.sleep(left_s))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _write(self, plan: Plan) -> None:
        try:
            writes: list[Write] = [_binding(pod, node) for pod, node in plan.placements]
            said = [(pod, "Unschedulable", why) for pod, why in plan.refusals]
            said += [(pod, "SchedulingGated", GATED) for pod in plan.gated]
            writes += [patch for refused in said if (patch := self._unscheduled(*refused)) is not None]
            answers: Sequence[bytes | ApiError] = []
            if writes:
                try:
                    answers = await self._client.batch(writes)
                except ApiError as error:
                    answers = [error] * len(writes)
            for (pod, node), answer in zip(plan.placements, answers, strict=False):
                self._note_bound(pod, node, answer)
            for pod, why in plan.refusals:
                self._recorder.event(pod, "Warning", "FailedScheduling", "Scheduling", why)
        finally:
            self._in_flight.release()

    def _note_bound(self, pod: PodView, node: str, answer: bytes | ApiError) -> None:
        meta = pod.metadata
        if not isinstance(answer, ApiError):
            self.queue.forget(meta.uid)
            said = f"Successfully assigned {meta.namespace}/{meta.name} to {node}"
            self._recorder.event(pod, "Normal", "Scheduled", "Binding", said)
            return
        held = self.snapshot.held(meta.uid)
        if held is not None and held.assumed:
            self._note_better(self.snapshot.release(meta.uid))
        current = self._pods.get(meta.name, meta.namespace)
        if current is None or current.metadata.uid != meta.uid or not _is_ours(current):
            self.queue.forget(meta.uid)
        elif not current.spec.nodeName:
            log.info("pod %s/%s could not be bound to %s: %s", meta.namespace, meta.name, node, answer.message)
            self.queue.retry(current, self._clock.monotonic())
        self._wake.set()

    def _unscheduled(self, pod: PodView, reason: str, why: str) -> Patch | None:
        """The pod's status saying why it has no node; None where it says so already."""
        current = self._pods.get(pod.metadata.name, pod.metadata.namespace) or pod
        condition = PodCondition(
            type="PodScheduled",
            status="False",
            reason=reason,
            message=why,
            lastTransitionTime=timestamp(self._clock.wall()),
        )
        return condition_patch(current, condition)


def _is_ours(pod: PodView) -> bool:
    return pod.spec.schedulerName == NAME and not pod.metadata.deletionTimestamp


def _binding(pod: PodView, node: str) -> Create:
    meta = pod.metadata
    binding = Binding(
        metadata=ObjectMeta(name=meta.name, namespace=meta.namespace, uid=meta.uid),
        target=ObjectReference(apiVersion="v1", kind="Node", name=node),
    )
    return Create(Target(_PODS, meta.namespace, meta.name, "binding"), codec.encode(binding))
