"""`PodManager`: the runners of all pods of this node, fed by what the cluster wants and what the runtime has.

No runner begins before the runtime's containers have been listed, so that none creates what is there already; nothing
unknown is removed before the cluster's own list of this node's pods is complete.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import aclosing

from barque.api.errors import not_found, unavailable
from barque.api.types import core_v1
from barque.client.clock import timestamp
from barque.worker.pods import choosing
from barque.worker.pods.observed import Instance, Observed, instance_of, owner_of
from barque.worker.pods.origin import is_mirror, is_static
from barque.worker.pods.parts import Parts
from barque.worker.pods.runner import PodRunner
from barque.worker.pods.status import Moment
from barque.worker.pods.verdict import Verdict
from barque.worker.runtime.port import (
    Changed,
    ContainerNotFoundError,
    ContainerRecord,
    RuntimeFault,
    RuntimeInfo,
    RuntimeUnavailableError,
)

log = logging.getLogger(__name__)

# The event stream tells every change at once; the full comparison is for what it cannot tell.
RESYNC_S = 60.0
AWAY_PAUSE_S = 1.0
# A runner that failed through a fault of ours is begun anew after this time.
RUNNER_PAUSE_S = 10.0
# Inspections at the same time during a resync.
LOOKS = 8
MAX_REMEMBERED_GONE = 4096

Health = Callable[[RuntimeInfo | None, str], None]


class PodManager:
    """`handle_pod` and `synced` bring the cluster's side; `run` follows the runtime until cancelled.

    `health(info, why)` hears whether the runtime answers: its info, or None and why not.
    """

    def __init__(self, parts: Parts, health: Health) -> None:
        self._parts = parts
        self._health = health
        self._pods: dict[str, core_v1.Pod] = {}
        self._runners: dict[str, PodRunner] = {}
        self._unowned: dict[str, dict[str, ContainerRecord]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._listed = False
        self._synced = False
        self._away = ""
        self._group: asyncio.TaskGroup | None = None
        self._resync_wanted = asyncio.Event()
        parts.resync = self._resync_wanted.set
        parts.neighbours = self._pods.values

    # The cluster's side.

    def load(self, pods: Iterable[core_v1.Pod]) -> None:
        """The pods as they were known before this worker's restart."""
        for pod in pods:
            if not is_mirror(pod):
                self._want(pod)

    def handle_pod(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        """A change of one of this node's pods; an informer's handler."""
        if new is not None and not is_mirror(new):
            self._want(new)
        elif new is None and old is not None:
            self._unwant(old.metadata.uid)

    def report_anew(self, uid: str) -> None:
        """Have the pod's whole status written again: its object at the masters is a new one."""
        self._parts.statuses.forget(uid)
        runner = self._runners.get(uid)
        if runner is not None:
            runner.wake()

    async def synced(self, pods: Iterable[core_v1.Pod]) -> None:
        """These are all pods of this node: whatever else is here goes."""
        known = {pod.metadata.uid for pod in pods}
        for uid in set(self._pods) - known:
            if not is_static(self._pods[uid]):
                self._unwant(uid)
        self._synced = True
        await self._settle()

    def pods(self) -> list[core_v1.Pod]:
        return list(self._pods.values())

    def _want(self, pod: core_v1.Pod) -> None:
        uid = pod.metadata.uid
        self._pods[uid] = pod
        runner = self._runners.get(uid)
        if runner is not None:
            runner.update(pod)
        elif self._listed:
            self._begin(uid)

    def _unwant(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        runner = self._runners.get(uid)
        if runner is not None:
            given = pod.metadata.deletionGracePeriodSeconds if pod else None
            runner.update(None, _grace(runner) if given is None else float(given))

    # Runners.

    async def _settle(self) -> None:
        """Begin whatever may begin by now."""
        if not self._listed:
            return
        for uid in self._pods:
            self._begin(uid)
        if not self._synced:
            return
        on_disk = await self._parts.blocking(self._parts.volumes.uids)
        for uid in {*self._unowned, *on_disk, *self._parts.network.addresses()}:
            self._begin(uid)
        await self._parts.network.retain(set(self._runners))

    def _begin(self, uid: str) -> None:
        if uid in self._runners or self._group is None:
            return
        runner = self._runners[uid] = PodRunner(uid, self._parts)
        records = self._unowned.pop(uid, {})
        pod = self._pods.get(uid)
        if pod is None:
            log.info("pod %s is not of this cluster any more: removing what is left of it", uid)
        left = [instance_of(record, self._parts.clock) for record in records.values()]
        runner.update(pod, max((instance.grace_s for instance in left), default=0.0))
        runner.adopt(records)
        self._group.create_task(self._run(runner), name=f"pod {uid}")

    async def _run(self, runner: PodRunner) -> None:
        uid = runner.uid
        try:
            await runner.run()
        except Exception:
            log.exception("the runner of pod %s failed; it begins anew in %d s", uid, RUNNER_PAUSE_S)
            await self._parts.clock.sleep(RUNNER_PAUSE_S)
            self._resync_wanted.set()
        del self._runners[uid]
        if uid not in self._pods:
            self._parts.statuses.forget(uid)
        elif not runner.observed.confirmed:
            self._begin(uid)

    # The runtime's side.

    async def run(self) -> None:
        """Follow the runtime until cancelled; its absence is waited out."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._resync_often(), name="runtime resync")
            while True:
                try:
                    await self._follow()
                except RuntimeUnavailableError as error:
                    self._note_away(str(error))
                    await self._parts.clock.sleep(AWAY_PAUSE_S)
                except RuntimeFault as error:
                    self._note_away(f"Docker refuses: {error}")
                    await self._parts.clock.sleep(AWAY_PAUSE_S)

    async def _follow(self) -> None:
        assert self._group is not None
        async with aclosing(self._parts.runtime.watch()) as events:
            async for event in events:
                if not isinstance(event, Changed):
                    await self._arrive()
                elif event.gone:
                    self._forget(event.id)
                else:
                    self._group.create_task(self._look_quietly(event.id))

    async def _arrive(self) -> None:
        """The engine is (again) here."""
        info = await self._parts.runtime.prepare()
        await self.resync()
        if self._away:
            log.info("the container runtime is back")
        self._away = ""
        self._health(info, "")
        if not self._listed:
            self._listed = True
        await self._settle()
        for runner in list(self._runners.values()):
            runner.runtime_is_back()

    def _note_away(self, why: str) -> None:
        if not self._away:
            log.warning("the container runtime does not answer; pods are left as they are: %s", why)
        self._away = why
        self._health(None, why)

    async def resync(self) -> None:
        """Compare everything the runtime has with what is remembered. Raises `RuntimeFault`."""
        known = {i.id: i.state for r in self._runners.values() for i in _present(r)}
        known |= {c: record.state for records in self._unowned.values() for c, record in records.items()}
        found = {summary.id: summary for summary in await self._parts.runtime.list()}
        slots = asyncio.Semaphore(LOOKS)

        async def look(container_id: str) -> None:
            async with slots:
                try:
                    await self._look(container_id)
                except RuntimeUnavailableError:
                    raise
                except RuntimeFault as error:
                    # What the engine cannot tell of one container is its pod's misfortune alone.
                    log.warning("cannot inspect container %s: %s", container_id[:12], error)

        failed: list[RuntimeUnavailableError] = []
        try:
            async with asyncio.TaskGroup() as group:
                for container_id, summary in found.items():
                    if known.get(container_id) != summary.state:
                        group.create_task(look(container_id))
        except* RuntimeUnavailableError as faults:
            failed += [fault for fault in faults.exceptions if isinstance(fault, RuntimeUnavailableError)]
        if failed:
            # One says it all, and callers need not know that many were asked at once.
            raise failed[0]
        for container_id in set(known) - set(found):
            self._forget(container_id)

    async def _resync_often(self) -> None:
        while True:
            wait = asyncio.create_task(self._resync_wanted.wait())
            sleep = asyncio.create_task(self._parts.clock.sleep(RESYNC_S))
            try:
                await asyncio.wait({wait, sleep}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                wait.cancel()
                sleep.cancel()
            self._resync_wanted.clear()
            if not self._listed or self._away:
                continue
            try:
                await self.resync()
                await self._settle()
            except RuntimeFault as error:
                log.warning("cannot compare with the container runtime: %s", error)

    async def _look_quietly(self, container_id: str) -> None:
        try:
            await self._look(container_id)
        except RuntimeUnavailableError as error:
            # The event stream ends too, and its return compares everything.
            log.debug("container %s is not inspected: %s", container_id[:12], error)
        except RuntimeFault as error:
            log.warning("cannot inspect container %s: %s", container_id[:12], error)
            self._resync_wanted.set()

    async def _look(self, container_id: str) -> None:
        try:
            record = await self._parts.runtime.inspect(container_id)
        except ContainerNotFoundError:
            self._forget(container_id)
            return
        # Inspected before, answered after its end was told.
        if container_id in self._gone:
            return
        uid = owner_of(record.labels).uid
        runner = self._runners.get(uid)
        if runner is not None:
            runner.take(record)
            return
        self._unowned.setdefault(uid, {})[container_id] = record
        if self._listed and (self._synced or uid in self._pods):
            self._begin(uid)

    def _forget(self, container_id: str) -> None:
        self._gone[container_id] = None
        while len(self._gone) > MAX_REMEMBERED_GONE:
            self._gone.popitem(last=False)
        for records in self._unowned.values():
            records.pop(container_id, None)
        for runner in self._runners.values():
            if any(instance.id == container_id for instance in _present(runner)):
                runner.vanish(container_id)

    # What others ask.

    def running(self, uid: str) -> dict[str, Instance]:
        """The running containers of a pod by name."""
        runner = self._runners.get(uid)
        return {instance.name: instance for instance in runner.observed.running()} if runner else {}

    def end(self, uid: str, why: Verdict) -> None:
        """This node ends the pod by itself; it stays in the cluster as Failed."""
        runner = self._runners.get(uid)
        if runner is not None:
            runner.end(why)

    def find(
        self, namespace: str, name: str, container: str, *, previous: bool = False, running: bool = False
    ) -> Instance:
        """A container of a pod: the newest attempt that has begun, the one before, or the one that runs now. Raises
        `ApiError` in Kubernetes' words.
        """
        pod, observed = self.look_up(namespace, name)
        if running:
            return choosing.choose_running(pod, observed, container)
        clock = self._parts.clock
        now = Moment(clock.monotonic(), timestamp(clock.wall()))
        return choosing.choose_logged(pod, observed, container, now, previous=previous)

    def look_up(self, namespace: str, name: str) -> tuple[core_v1.Pod, Observed]:
        """A pod of this node and what is known of it. Raises 404; 503 while the containers are not known yet."""
        if not self._listed:
            raise unavailable("this worker has just started and does not know its containers yet")
        for pod in self._pods.values():
            if (pod.metadata.namespace, pod.metadata.name) == (namespace, name):
                runner = self._runners.get(pod.metadata.uid)
                return pod, runner.observed if runner is not None else Observed()
        raise not_found("pods", "", name)

    def observations(self) -> list[tuple[core_v1.Pod, Observed]]:
        """All pods of this node with what is known of them."""
        return [(pod, self._runners[uid].observed) for uid, pod in self._pods.items() if uid in self._runners]


def _present(runner: PodRunner) -> list[Instance]:
    observed = runner.observed
    return [instance for instance in [*observed.sandboxes, *observed.instances()] if not instance.gone]


def _grace(runner: PodRunner) -> float:
    return max((instance.grace_s for instance in _present(runner)), default=0.0)
