"""`PodRunner`: one pod's loop. Plans, has the steps carried out side by side, reports, waits for anything to change.

Level-triggered: whatever wakes it, it plans from what is observed at that moment. Its tasks end with it; a worker that
stops leaves the containers as they are.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping

import msgspec

from barque.api.errors import ApiError
from barque.api.types import core_v1
from barque.client.clock import timestamp
from barque.worker import labels
from barque.worker.images.images import ImageFault
from barque.worker.pods import backoff, members, names, plan, resizing, status, verdict
from barque.worker.pods.backoff import Fault
from barque.worker.pods.config import grace_of
from barque.worker.pods.env import ConfigError
from barque.worker.pods.members import outcome
from barque.worker.pods.observed import Instance, Observed, instance_of, parse_time, remember
from barque.worker.pods.parts import Parts
from barque.worker.pods.plan import Desired
from barque.worker.pods.steps import Steps
from barque.worker.pods.verdict import Verdict, deadline_in_s
from barque.worker.probes import Kind, Outcome, Probes, Target
from barque.worker.runtime.port import ContainerRecord, RuntimeFault, RuntimeUnavailableError

log = logging.getLogger(__name__)

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 30.0
# The engine's own return wakes every runner, so these retries need not be frequent.
AWAY_RETRY_S = 5.0
# Room for a deferred resize comes when another pod goes, which nobody tells.
RESIZE_RETRY_S = 10.0
_OWN_CONDITIONS = (
    "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", resizing.PENDING, resizing.IN_PROGRESS,
)  # fmt: skip


class PodRunner:
    """`update` says what is wanted, `take` and `vanish` what is there; `run` ends once a removed pod is gone."""

    def __init__(self, uid: str, parts: Parts) -> None:
        self.uid = uid
        self.observed = Observed()
        self.desired = Desired(None)
        # As the masters have it, whatever of it is granted here.
        self._wanted: core_v1.Pod | None = None
        self._parts = parts
        self._steps = Steps(uid, self.observed, parts, self.take)
        self._probes = Probes(parts.prober, parts.clock, self._hear_probe, self._hear_note)
        self._woken = asyncio.Event()
        self._alarm: asyncio.Task[None] | None = None
        self._reported: core_v1.PodStatus | None = None
        self._backed_off: dict[str, str] = {}
        self._resizes = resizing.Story()
        self._adopted: set[str] = set()
        self._pulling: dict[str, asyncio.Task[None]] = {}
        self._hooks: dict[str, asyncio.Task[None]] = {}

    # What is heard.

    def update(self, pod: core_v1.Pod | None, grace_s: float = 0.0) -> None:
        """The cluster wants this; None: it knows no such pod; its containers may take `grace_s` to stop."""
        now = self._parts.clock.monotonic()
        before = self.desired
        stopping = pod is None or bool(pod.metadata.deletionTimestamp)
        kill_at_s = 0.0
        if stopping:
            if pod is not None:
                given = pod.metadata.deletionGracePeriodSeconds
                grace_s = grace_of(pod) if given is None else float(given)
            kill_at_s = now + grace_s
            if before.stopping:
                kill_at_s = min(kill_at_s, before.kill_at_s)
        # A deleted pod's last form still names its events, its hooks and the order of its end.
        self._wanted = pod
        self.desired = Desired(pod, stopping, kill_at_s, pod or before.pod or before.last)
        if pod is not None:
            self._steps.pod = pod
        self.wake()

    def adopt(self, records: Mapping[str, ContainerRecord]) -> None:
        """Take over what an earlier run of this worker left."""
        pod = self.desired.pod
        for record in records.values():
            self.take(record)
            if record.state == "running":
                self._adopted.add(record.id)
        if pod is None:
            return
        remember(self.observed, pod, self._parts.clock.monotonic())
        for reported in (*pod.status.initContainerStatuses, *pod.status.containerStatuses):
            container_id = reported.containerID.partition("://")[2]
            # Reported as ready and still running: it stays so until a probe says otherwise.
            if reported.ready:
                self.observed.ready.add(container_id)
            if reported.started:
                self.observed.started.add(container_id)
            # It was reported as running only after its hook; any other's hook runs again: at least once.
            if reported.state and reported.state.running:
                self.observed.poststarted.add(container_id)

    def take(self, record: ContainerRecord) -> None:
        """The runtime says this of one of the pod's containers."""
        instance = instance_of(record, self._parts.clock)
        if instance.state == "exited" and self.observed.volumes != "removed":
            said = self._parts.volumes.message(self.uid, instance.name, instance.attempt)
            instance = dataclasses.replace(instance, message=said)
            if not said and self._leaves_log(instance):
                self.observed.unread.add(instance.id)
        self.observed.put(instance, record.labels.get(labels.ROLE, ""))
        self.wake()

    def _leaves_log(self, ended: Instance) -> bool:
        """Whether the end of its log is what this container has to say of its end, and is not known yet."""
        pod = self.desired.pod or self.desired.last
        who = members.member(pod, ended.name) if pod else None
        if who is None or who.container.terminationMessagePolicy != "FallbackToLogsOnError" or ended.exit_code == 0:
            return False
        return not any(known.id == ended.id and known.state == "exited" for known in self.observed.instances())

    def vanish(self, container_id: str) -> None:
        """The runtime knows this container no more."""
        self.observed.vanish(container_id, self._parts.clock)
        self.wake()

    def runtime_is_back(self) -> None:
        """Try at once what failed while the engine was away."""
        for subject in [s for s, fault in self.observed.faults.items() if fault.reason == "RuntimeUnavailable"]:
            del self.observed.faults[subject]
        self.wake()

    def wake(self) -> None:
        self._woken.set()

    # The loop.

    async def run(self) -> None:
        """Until a removed pod is gone, or cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                while not plan.is_done(self.desired, self.observed):
                    self._woken.clear()
                    wake_s = self._begin(group)
                    self._keep_probes(group)
                    change_s = self._report()
                    await self._wait(group, min(wake_s, change_s))
                self._probes.stop()
                self._silence()
        finally:
            self._steps.let_others_start()

    def _begin(self, group: asyncio.TaskGroup) -> float:
        """Set every due instruction going; returns when to plan again at the latest."""
        now = self._parts.clock.monotonic()
        wake_s = min(self._judge(now), self._grant(now))
        if self.desired.stopping:
            for pull in self._pulling.values():
                pull.cancel()
        running = {instance.id for instance in self.observed.instances() if instance.running}
        for container_id, hook in self._hooks.items():
            if container_id not in running:
                hook.cancel()
        for step in plan.plan(self.desired, self.observed, now):
            if isinstance(step, plan.Wake):
                wake_s = min(wake_s, step.at_s)
                continue
            self.observed.busy.add(step.subject)
            task = group.create_task(self._carry_out(step), name=f"{type(step).__name__} of pod {self.uid}")
            if isinstance(step, plan.EnsureImage):
                self._pulling[step.subject] = task
            elif isinstance(step, plan.RunPostStart | plan.RunPreStop):
                self._hooks[step.id] = task
        if not any(s in ("sandbox", "network") or s.startswith("container/") for s in self.observed.busy):
            self._steps.let_others_start()
        return wake_s

    def _judge(self, now: float) -> float:
        """Find out whether this node ends the pod by itself; returns when its time is up at the latest."""
        pod, never = self.desired.pod, float("inf")
        if pod is None or self.desired.stopping or self.observed.verdict or outcome(pod, self.observed):
            return never
        began = parse_time(pod.status.startTime or (self._reported.startTime if self._reported else ""))
        left_s = deadline_in_s(pod, began, self._parts.clock.wall())
        if left_s <= 0:
            self.end(verdict.DEADLINE)
        elif refused := verdict.admit(pod):
            self.end(refused)
        elif not self.observed.instances() and (held_off := self._parts.admit(pod)):
            self.end(Verdict("Evicted", f"Pod was rejected: {held_off}", held_off))
        return never if self.observed.verdict else now + left_s

    def _grant(self, now: float) -> float:
        """Find out which resources the pod has here; returns when to ask again at the latest."""
        pod, never = self._wanted, float("inf")
        if pod is None:
            return never
        held = self._reported or pod.status
        others = (other for other in self._parts.neighbours() if other.metadata.uid != self.uid)
        granted = resizing.grant(pod, held, others, self._parts.allocatable)
        self._tell_resize(self._resizes.granted(granted))
        self.desired = self.desired._replace(pod=granted.pod, pending=granted.pending)
        self._steps.pod = granted.pod
        return now + RESIZE_RETRY_S if granted.pending else never

    def end(self, why: Verdict) -> None:
        """End the pod as Failed, gracefully; it stays in the cluster with the verdict as its status."""
        if self.observed.verdict is None:
            self.observed.verdict = why
            self._steps.say(why.event_type, why.reason, why.event)
            self.wake()

    async def _wait(self, group: asyncio.TaskGroup, until_s: float) -> None:
        self._silence()
        if until_s != float("inf"):
            delay_s = max(0.0, until_s - self._parts.clock.monotonic())
            self._alarm = group.create_task(self._ring(delay_s))
        await self._woken.wait()

    async def _ring(self, delay_s: float) -> None:
        await self._parts.clock.sleep(delay_s)
        self._woken.set()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def _carry_out(self, step: plan.Instruction) -> None:
        """One step, its failure turned into a fault that is waited out."""
        subject = step.subject
        try:
            await self._steps.carry_out(step)
            self.observed.faults.pop(subject, None)
        except RuntimeUnavailableError as error:
            now = self._parts.clock.monotonic()
            self.observed.faults[subject] = Fault("RuntimeUnavailable", str(error), 1, now, now + AWAY_RETRY_S)
        except ImageFault as error:
            self.observed.faults[subject] = error.fault
        except ConfigError as error:
            reason = "FailedMount" if isinstance(step, plan.PrepareVolumes) else "Failed"
            self._note(step, "CreateContainerConfigError", str(error), reason)
        except ApiError as error:
            self._note(step, "CreateContainerConfigError", str(error), "")
        except RuntimeFault as error:
            self._note(step, _runtime_reason(step), str(error), "Failed")
        except Exception as error:
            # One pod's misfortune must not take down its node: it is told, logged in full, and tried again.
            log.exception("%s of pod %s failed", type(step).__name__, self.uid)
            self._note(step, _runtime_reason(step), f"{type(error).__name__}: {error}", "FailedSync")
        finally:
            self.observed.busy.discard(subject)
            self._pulling.pop(subject, None)
            if isinstance(step, plan.RunPostStart | plan.RunPreStop):
                self._hooks.pop(step.id, None)
            self._woken.set()

    def _note(self, step: plan.Instruction, reason: str, message: str, event: str) -> None:
        before = self.observed.faults.get(step.subject)
        if before is not None and before.reason != reason:
            before = None
        self.observed.faults[step.subject] = backoff.again(
            before, reason, message, self._parts.clock.monotonic(), first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S
        )
        if isinstance(step, plan.CreateSandbox | plan.StartSandbox | plan.AttachNetwork):
            self._steps.say("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {message}")
        elif isinstance(step, plan.StopContainer | plan.KillContainer | plan.DetachNetwork):
            self._steps.say("Warning", "FailedKillPod", f"error killing pod: {message}")
        elif event == "FailedMount" or event == "FailedSync":
            self._steps.say("Warning", event, message)
        elif event and isinstance(step, plan.CreateContainer | plan.StartContainer | plan.EnsureImage):
            self._steps.say_of(step.container, "Warning", event, f"Error: {message}")
        elif event:
            self._steps.say("Warning", event, f"Error: {message}")
        if not event:
            log.warning("pod %s: %s: %s", self.uid, type(step).__name__, message)

    # Probes.

    def _keep_probes(self, group: asyncio.TaskGroup) -> None:
        pod = self.desired.pod
        running: dict[str, Target] = {}
        if pod is not None and self.observed.address:
            for one in members.members(pod):
                container, newest = one.container, self.observed.newest(one.name)
                if newest is None or not newest.running or newest.id in self.observed.stopping:
                    continue
                if plan.awaits_post_start(container, newest, self.observed):
                    continue
                if container.startupProbe is None and newest.id not in self.observed.started:
                    self.observed.started.add(newest.id)
                    if one.role == "sidecar":
                        # What comes after it may begin.
                        self.wake()
                running[newest.id] = Target(newest.id, container, self.observed.address)
        self._probes.keep(group, running, self.observed.started, self._adopted, self.observed.ready)

    def _hear_probe(self, kind: Kind, container_id: str, holds: bool, message: str) -> None:
        if kind == "Readiness":
            (self.observed.ready.add if holds else self.observed.ready.discard)(container_id)
        elif kind == "Startup" and holds:
            self.observed.started.add(container_id)
        elif not holds and not self.desired.stopping:
            self.observed.unhealthy[container_id] = f"failed {kind.lower()} probe"
        self.wake()

    def _hear_note(self, kind: Kind, container: str, found: Outcome) -> None:
        reason, what = ("ProbeWarning", "warning") if found.ok else ("Unhealthy", "failed")
        self._steps.say_of(container, "Warning", reason, f"{kind} probe {what}: {found.message}")

    # Reports.

    def _report(self) -> float:
        """Hand in the status; returns when it will change by itself."""
        pod = self.desired.pod
        never = float("inf")
        if pod is None or self.observed.confirmed:
            return never
        if pod.status.phase in ("Succeeded", "Failed") and not pod.metadata.deletionTimestamp:
            return never
        clock = self._parts.clock
        now = status.Moment(clock.monotonic(), timestamp(clock.wall()))
        based = msgspec.structs.replace(pod, status=self._previous(pod))
        desired = self.desired._replace(pod=based)
        found = status.pod_status(desired, self.observed, now, self._parts.host_ip)
        self._reported = found
        self._parts.statuses.put(pod, found)
        self._tell_back_off(pod, found)
        self._tell_resize(self._resizes.reported(self._wanted or pod, pod, based.status, found))
        change_s = status.next_change_s(desired, self.observed, now.monotonic_s)
        return never if change_s is None else change_s

    def _previous(self, pod: core_v1.Pod) -> core_v1.PodStatus:
        """The status reported last, which the watch may not have brought back yet, with what others wrote since."""
        if self._reported is None:
            return pod.status
        own = [c for c in self._reported.conditions if c.type in _OWN_CONDITIONS]
        foreign = [c for c in pod.status.conditions if c.type not in _OWN_CONDITIONS]
        phase = pod.status.phase if outcome(pod, self.observed) else self._reported.phase
        return msgspec.structs.replace(
            self._reported, conditions=[*foreign, *own], phase=phase, nominatedNodeName=pod.status.nominatedNodeName
        )

    def _tell_resize(self, told: list[resizing.Told]) -> None:
        for event in told:
            self._steps.say(event.type, event.reason, event.message)

    def _tell_back_off(self, pod: core_v1.Pod, found: core_v1.PodStatus) -> None:
        """An event whenever a container begins to wait out a back-off."""
        for container in (*found.initContainerStatuses, *found.containerStatuses, *found.ephemeralContainerStatuses):
            waiting = container.state.waiting if container.state else None
            reason = waiting.reason if waiting else ""
            sign = f"{reason} {container.restartCount}" if reason == "CrashLoopBackOff" else reason
            if self._backed_off.get(container.name, "") == sign:
                continue
            self._backed_off[container.name] = sign
            if reason == "CrashLoopBackOff":
                message = f"Back-off restarting failed container {container.name} in pod {names.shown(pod)}"
                self._steps.say_of(container.name, "Warning", "BackOff", message)
            elif reason == "ImagePullBackOff":
                self._steps.say_of(container.name, "Normal", "BackOff", f'Back-off pulling image "{container.image}"')
                self._steps.say_of(container.name, "Warning", "Failed", "Error: ImagePullBackOff")


def _runtime_reason(step: plan.Instruction) -> str:
    return "RunContainerError" if isinstance(step, plan.StartContainer) else "CreateContainerError"
