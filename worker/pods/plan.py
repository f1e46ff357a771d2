"""`plan`: what to do next for one pod. Pure.

In: what should be (`Desired`), what is (`Observed`), and the moment. Out: every instruction that can be carried out at
once; each has a subject, and the runner carries out one instruction per subject at a time and plans again whenever one
ends or anything is heard. So the order of a pod's start is nowhere written as a sequence: a sandbox is created while
volumes are filled and images are pulled, containers are created while the network is attached, and a worker that was
killed at any instruction goes on from what it finds.
"""

from __future__ import annotations

from typing import NamedTuple

from barque.api.types import core_v1
from barque.worker.pods import backoff
from barque.worker.pods.config import HASH_VERSION, config_hash, needs_address
from barque.worker.pods.observed import Instance, Observed, outcome

DEFAULT_GRACE_S = 30.0
# For a container whose sandbox died. Kubernetes gives it the whole grace period, and so long the pod is broken; but its
# network is gone for good, so no caller is left to finish with: time to write its files, and no more.
LOST_SANDBOX_GRACE_S = 2.0


class PrepareVolumes(NamedTuple):
    subject: str = "volumes"


class RemoveVolumes(NamedTuple):
    subject: str = "volumes"


class EnsureImage(NamedTuple):
    subject: str
    container: str


class CreateSandbox(NamedTuple):
    attempt: int
    subject: str = "sandbox"


class StartSandbox(NamedTuple):
    id: str
    subject: str = "sandbox"


class AttachNetwork(NamedTuple):
    """Bring the pod's address into the network namespace of process `pid`."""

    pid: int
    subject: str = "network"


class DetachNetwork(NamedTuple):
    subject: str = "network"


class CreateContainer(NamedTuple):
    subject: str
    container: str
    attempt: int
    streak: int
    sandbox: str


class StartContainer(NamedTuple):
    subject: str
    container: str
    id: str


class StopContainer(NamedTuple):
    """Send the stop signal; what still runs at `kill_at_s` is killed."""

    subject: str
    container: str
    id: str
    signal: str
    kill_at_s: float
    why: str


class KillContainer(NamedTuple):
    subject: str
    container: str
    id: str


class RemoveContainer(NamedTuple):
    subject: str
    id: str


class ConfirmDeletion(NamedTuple):
    """Nothing of the pod is left: the masters may forget it."""

    subject: str = "deletion"


class Wake(NamedTuple):
    """Nothing to do before `at_s`; plan again then."""

    at_s: float
    subject: str = ""


Instruction = (
    PrepareVolumes
    | RemoveVolumes
    | EnsureImage
    | CreateSandbox
    | StartSandbox
    | AttachNetwork
    | DetachNetwork
    | CreateContainer
    | StartContainer
    | StopContainer
    | KillContainer
    | RemoveContainer
    | ConfirmDeletion
    | Wake
)


class Desired(NamedTuple):
    """What the cluster wants of one pod here. `pod` is None for one that it does not know; `stopping` pods are
    taken down, their containers killed at `kill_at_s` (monotonic seconds) at the latest.
    """

    pod: core_v1.Pod | None
    stopping: bool = False
    kill_at_s: float = 0.0


def plan(desired: Desired, observed: Observed, now: float) -> list[Instruction]:
    """Every instruction whose time has come, whose faults have been waited out, and whose subject is not busy."""
    if desired.pod is None or desired.stopping:
        found = _plan_removal(desired, observed, now)
    elif outcome(desired.pod, observed):
        found = _plan_rest(observed)
    else:
        found = _plan_running(desired.pod, observed, now)
    return _due(found, observed, now)


def is_done(desired: Desired, observed: Observed) -> bool:
    """Whether nothing of a removed pod is left, and whoever asked for its removal has been told."""
    if not (desired.pod is None or desired.stopping):
        return False
    return not _left(observed) and _is_bare(observed) and (desired.pod is None or observed.confirmed)


def _due(found: list[Instruction], observed: Observed, now: float) -> list[Instruction]:
    """Hold back what is busy; turn what waits for another try into a `Wake`."""
    ready: list[Instruction] = []
    wakes = [step.at_s for step in found if isinstance(step, Wake)]
    for step in found:
        if isinstance(step, Wake) or step.subject in observed.busy:
            continue
        fault = observed.faults.get(step.subject)
        if fault is not None and fault.retry_s > now:
            wakes.append(fault.retry_s)
        else:
            ready.append(step)
    if wakes:
        ready.append(Wake(min(wakes)))
    return ready


# Running.


def _plan_running(pod: core_v1.Pod, observed: Observed, now: float) -> list[Instruction]:
    steps: list[Instruction] = []
    if observed.volumes != "ready" or observed.volumes_due_s <= now:
        steps.append(PrepareVolumes())
    else:
        steps.append(Wake(observed.volumes_due_s))
    steps += _plan_sandbox(pod, observed)
    for container in pod.spec.containers:
        steps += _plan_container(pod, container, observed, now)
    steps += _plan_strays(pod, observed, now)
    return steps


def _plan_sandbox(pod: core_v1.Pod, observed: Observed) -> list[Instruction]:
    current = observed.sandbox
    steps: list[Instruction] = [_remove(old) for old in observed.sandboxes if old is not current and not old.gone]
    if current is None or current.state == "exited":
        if current is not None:
            steps.append(_remove(current))
        # What runs on in the namespaces of a dead sandbox is stopped first (`_plan_container`).
        if not any(instance.running for instance in observed.instances()):
            steps.append(CreateSandbox(max((s.attempt for s in observed.sandboxes), default=-1) + 1))
    elif current.state == "created":
        steps.append(StartSandbox(current.id))
    elif not observed.address:
        steps.append(AttachNetwork(current.pid))
    return steps


def _plan_container(
    pod: core_v1.Pod, container: core_v1.Container, observed: Observed, now: float
) -> list[Instruction]:
    steps: list[Instruction] = []
    held = observed.containers.get(container.name, [])
    newest = held[-1] if held else None
    sandbox = observed.sandbox
    alive = sandbox is not None and sandbox.state != "exited"
    if newest is not None and newest.running:
        steps += _plan_run(pod, container, newest, observed, now)
    elif newest is not None and newest.state == "created":
        if sandbox is None or newest.sandbox != sandbox.id:
            steps.append(_remove(newest))
        elif sandbox.state == "running" and observed.address and observed.volumes == "ready":
            steps.append(StartContainer(f"container/{container.name}", container.name, newest.id))
    elif newest is None or should_restart(pod, newest):
        due_s = restart_due_s(newest)
        if due_s > now:
            steps.append(Wake(due_s))
        else:
            steps += _plan_creation(container, newest, observed, sandbox if alive else None)
    # The last end is kept for its logs and its exit code; those before it go.
    ended = [instance for instance in held if instance.state == "exited"]
    steps += [_remove(old) for old in ended[:-1] if not old.gone]
    return steps


def _plan_creation(
    container: core_v1.Container, last: Instance | None, observed: Observed, sandbox: Instance | None
) -> list[Instruction]:
    if container.name not in observed.images:
        return [EnsureImage(f"image/{container.name}", container.name)]
    if sandbox is None or observed.volumes != "ready" or (needs_address(container) and not observed.address):
        return []
    attempt = last.attempt + 1 if last else 0
    streak = backoff.next_streak(last.streak, last.ran_s) if last else 0
    return [CreateContainer(f"container/{container.name}", container.name, attempt, streak, sandbox.id)]


def _plan_run(
    pod: core_v1.Pod, container: core_v1.Container, newest: Instance, observed: Observed, now: float
) -> list[Instruction]:
    """A running container goes on, unless its sandbox died, its definition changed, or its liveness probe failed."""
    grace_s = grace_of(pod)
    if _lost_sandbox(newest, observed):
        why = "its sandbox is gone"
        grace_s = _hurried_s(newest, grace_s, observed, now)
    elif newest.hash_version == HASH_VERSION and newest.config_hash != config_hash(container):
        why = "its definition changed"
    elif newest.id in observed.unhealthy:
        why = observed.unhealthy[newest.id]
        probe = container.livenessProbe
        if probe and probe.terminationGracePeriodSeconds is not None:
            grace_s = float(probe.terminationGracePeriodSeconds)
    else:
        return []
    return _stop(newest, observed, now, now + grace_s, why)


def _plan_strays(pod: core_v1.Pod, observed: Observed, now: float) -> list[Instruction]:
    """Containers that the pod does not name."""
    names = {container.name for container in pod.spec.containers}
    steps: list[Instruction] = []
    for instance in observed.instances():
        if instance.name in names or instance.gone:
            continue
        if instance.running:
            grace_s = grace_of(pod)
            if _lost_sandbox(instance, observed):
                grace_s = _hurried_s(instance, grace_s, observed, now)
            steps += _stop(instance, observed, now, now + grace_s, "its pod does not name it")
        else:
            steps.append(_remove(instance))
    return steps


def _lost_sandbox(instance: Instance, observed: Observed) -> bool:
    """Whether the namespaces it runs in belong to no living sandbox."""
    sandbox = observed.sandbox
    return sandbox is None or sandbox.state == "exited" or instance.sandbox != sandbox.id


def _hurried_s(instance: Instance, grace_s: float, observed: Observed, now: float) -> float:
    """The grace of a container without a sandbox; none where it was told to stop before and has longer than that."""
    short_s = min(grace_s, LOST_SANDBOX_GRACE_S)
    return 0.0 if observed.killing.get(instance.id, 0.0) > now + short_s else short_s


def should_restart(pod: core_v1.Pod, ended: Instance) -> bool:
    """Whether the restart policy wants another attempt after this one."""
    match pod.spec.restartPolicy:
        case "Never":
            return False
        case "OnFailure":
            return ended.exit_code != 0
        case _:
            return True


def restart_due_s(last: Instance | None) -> float:
    """When the next attempt may begin, in monotonic seconds."""
    if last is None:
        return 0.0
    streak = 0 if last.ran_s >= backoff.RESET_AFTER_S else last.streak
    return last.ended_s + backoff.restart_delay_s(streak)


def grace_of(pod: core_v1.Pod) -> float:
    grace_s = pod.spec.terminationGracePeriodSeconds
    return DEFAULT_GRACE_S if grace_s is None else float(grace_s)


# At rest: ended for good, but still in the cluster.


def _plan_rest(observed: Observed) -> list[Instruction]:
    steps: list[Instruction] = []
    sandboxes = [_remove(s) for s in observed.sandboxes if not s.gone]
    steps += sandboxes
    for held in observed.containers.values():
        # The newest stays, for its logs.
        steps += [_remove(old) for old in held[:-1] if not old.gone]
    if not sandboxes and not _building(observed):
        steps += _plan_bare(observed)
    return steps


# Removal.


def _plan_removal(desired: Desired, observed: Observed, now: float) -> list[Instruction]:
    running = [instance for instance in observed.instances() if instance.running]
    if running:
        return [step for one in running for step in _stop(one, observed, now, desired.kill_at_s, "its pod is deleted")]
    left = _left(observed)
    if left:
        return [_remove(instance) for instance in left]
    if _building(observed):
        return []
    if not _is_bare(observed):
        return _plan_bare(observed)
    return [ConfirmDeletion()] if desired.pod is not None and not observed.confirmed else []


def _left(observed: Observed) -> list[Instance]:
    return [instance for instance in [*observed.sandboxes, *observed.instances()] if not instance.gone]


def _building(observed: Observed) -> bool:
    """Whether an instruction under way may yet leave something behind."""
    return any(s in ("sandbox", "network", "volumes") or s.startswith("container/") for s in observed.busy)


def _is_bare(observed: Observed) -> bool:
    return observed.network_detached and observed.volumes == "removed"


def _plan_bare(observed: Observed) -> list[Instruction]:
    steps: list[Instruction] = []
    if not observed.network_detached:
        steps.append(DetachNetwork())
    if observed.volumes != "removed":
        steps.append(RemoveVolumes())
    return steps


def _stop(instance: Instance, observed: Observed, now: float, kill_at_s: float, why: str) -> list[Instruction]:
    """Tell it to stop, once; wait; kill what did not."""
    subject = f"container/{instance.name}"
    killed = observed.killed_until.get(instance.id, 0.0)
    if killed > now:
        return [Wake(killed)]
    told = observed.killing.get(instance.id)
    if told is None and kill_at_s > now:
        signal = instance.stop_signal or "SIGTERM"
        return [StopContainer(subject, instance.name, instance.id, signal, kill_at_s, why)]
    due_s = kill_at_s if told is None else min(told, kill_at_s)
    if due_s > now:
        return [Wake(due_s)]
    return [KillContainer(subject, instance.name, instance.id)]


def _remove(instance: Instance) -> RemoveContainer:
    return RemoveContainer(f"remove/{instance.id}", instance.id)
