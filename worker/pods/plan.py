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
from barque.worker.pods import backoff, resizing
from barque.worker.pods.config import HASH_VERSION, config_hash, grace_of, needs_address
from barque.worker.pods.members import Member, ending, members, restarts, startable, stop_turn
from barque.worker.pods.observed import Instance, Observed
from barque.worker.pods.resizing import Pending

# Why a container is stopped, where its event has a wording of its own.
FAILED_POST_START, CHANGED, RESIZED = "FailedPostStartHook", "definition changed", "resize requires restart"
# For a container whose sandbox died. Kubernetes gives it the whole grace period, and so long the pod is broken; but its
# network is gone for good, so no caller is left to finish with: time to write its files, and no more.
LOST_SANDBOX_GRACE_S = 2.0
# What Kubernetes leaves between the signal and the kill where the grace period is used up already.
LEAST_GRACE_S = 2.0


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
    """Bring the pod's address into the network namespace at the path `netns`."""

    netns: str
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
    """Send the stop signal; what still runs at `kill_at_s` is killed. `late`: its time was up already, and what is left
    to it is not cut short any more.
    """

    subject: str
    container: str
    id: str
    signal: str
    kill_at_s: float
    why: str
    late: bool = False


class ResizeContainer(NamedTuple):
    """Bring the limits that the pod says into effect."""

    subject: str
    container: str
    id: str


class RunPostStart(NamedTuple):
    subject: str
    container: str
    id: str


class RunPreStop(NamedTuple):
    """Run the hook, at most until `kill_at_s`; the stop signal follows."""

    subject: str
    container: str
    id: str
    kill_at_s: float
    why: str


class ReadLastWords(NamedTuple):
    """Take the end of the log of a container that ended with a fault as its termination message."""

    subject: str
    id: str


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
    | ResizeContainer
    | RunPostStart
    | RunPreStop
    | ReadLastWords
    | KillContainer
    | RemoveContainer
    | ConfirmDeletion
    | Wake
)


class Desired(NamedTuple):
    """What the cluster wants of one pod here. `pod` is None for one that it does not know; `stopping` pods are
    taken down, their containers killed at `kill_at_s` (monotonic seconds) at the latest. `last` is how a pod that is no
    longer known was last.
    """

    pod: core_v1.Pod | None
    stopping: bool = False
    kill_at_s: float = 0.0
    last: core_v1.Pod | None = None
    # Why its containers have other resources here than the masters say.
    pending: Pending | None = None


def plan(desired: Desired, observed: Observed, now: float) -> list[Instruction]:
    """Every instruction whose time has come, whose faults have been waited out, and whose subject is not busy."""
    if desired.pod is None or desired.stopping:
        found = _plan_removal(desired, observed, now)
    elif ending(desired.pod, observed):
        found = _plan_end(desired.pod, observed, now)
    else:
        found = _plan_running(desired.pod, observed, now)
    found += [ReadLastWords(f"words/{container_id}", container_id) for container_id in sorted(observed.unread)]
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
    turns = startable(pod, observed)
    for one in turns:
        steps += _plan_container(pod, one, observed, now)
    names = {one.name for one in turns}
    for one in members(pod):
        if one.name not in names:
            steps += _plan_waiting(pod, one, observed, now)
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
        steps.append(AttachNetwork(current.netns))
    return steps


def _plan_container(pod: core_v1.Pod, one: Member, observed: Observed, now: float) -> list[Instruction]:
    """A container whose turn it is: to be created, started, kept, started again."""
    steps: list[Instruction] = []
    name = one.name
    newest = observed.newest(name)
    sandbox = observed.sandbox
    alive = sandbox is not None and sandbox.state != "exited"
    if newest is not None and newest.running:
        steps += _plan_run(pod, one.container, newest, observed, now)
    elif newest is not None and newest.state == "created":
        if sandbox is None or newest.sandbox != sandbox.id:
            steps.append(_remove(newest))
        elif sandbox.state == "running" and observed.address and observed.volumes == "ready":
            steps.append(StartContainer(f"container/{name}", name, newest.id))
    elif newest is None or _runs_again(pod, one, newest, sandbox):
        due_s = restart_due_s(newest)
        if due_s > now:
            steps.append(Wake(due_s))
        else:
            steps += _plan_creation(one.container, newest, observed, sandbox if alive else None)
    return steps + _forget_old(name, observed)


def _plan_waiting(pod: core_v1.Pod, one: Member, observed: Observed, now: float) -> list[Instruction]:
    """A container whose turn is over or has not come (again): what runs of it from before has lost its sandbox."""
    newest = observed.newest(one.name)
    steps: list[Instruction] = []
    if newest is not None and newest.running:
        steps += _plan_run(pod, one.container, newest, observed, now)
    return steps + _forget_old(one.name, observed)


def _runs_again(pod: core_v1.Pod, one: Member, newest: Instance, sandbox: Instance | None) -> bool:
    if restarts(pod, one, newest.exit_code):
        return True
    # A new sandbox has seen nothing of what the init containers did in the old one.
    return one.role == "init" and newest.exit_code == 0 and (sandbox is None or newest.sandbox != sandbox.id)


def _forget_old(name: str, observed: Observed) -> list[Instruction]:
    """The last end is kept for its logs and its exit code; those before it go."""
    ended = [instance for instance in observed.containers.get(name, []) if instance.state == "exited"]
    return [_remove(old) for old in ended[:-1] if not old.gone]


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
    """A running container goes on, unless its sandbox died, its definition changed, or a probe or hook failed."""
    grace_s = grace_of(pod)
    if _lost_sandbox(newest, observed):
        # Its hook would talk to a network that is gone.
        return _stop(
            newest, None, observed, now, now + _hurried_s(newest, grace_s, observed, now), "its sandbox is gone"
        )
    if newest.hash_version == HASH_VERSION and newest.config_hash != config_hash(container):
        why = CHANGED
    elif newest.id in observed.unhealthy:
        why = observed.unhealthy[newest.id]
        starting = container.startupProbe is not None and newest.id not in observed.started
        probe = container.startupProbe if starting else container.livenessProbe
        if probe and probe.terminationGracePeriodSeconds is not None:
            grace_s = float(probe.terminationGracePeriodSeconds)
    elif changed := resizing.changes(pod, container, newest.limits):
        if not resizing.needs_restart(container, changed):
            return [ResizeContainer(f"resize/{container.name}", container.name, newest.id)]
        why = RESIZED
    elif awaits_post_start(container, newest, observed):
        return [RunPostStart(f"hook/{container.name}", container.name, newest.id)]
    else:
        return []
    return _stop(newest, container, observed, now, now + grace_s, why)


def awaits_post_start(container: core_v1.Container, newest: Instance, observed: Observed) -> bool:
    """Whether the container runs, but does not count as running before its postStart hook has succeeded."""
    hooks = container.lifecycle
    return hooks is not None and hooks.postStart is not None and newest.id not in observed.poststarted


def _plan_strays(pod: core_v1.Pod, observed: Observed, now: float) -> list[Instruction]:
    """Containers that the pod does not name."""
    names = {one.name for one in members(pod)}
    steps: list[Instruction] = []
    for instance in observed.instances():
        if instance.name in names or instance.gone:
            continue
        if instance.running:
            grace_s = grace_of(pod)
            if _lost_sandbox(instance, observed):
                grace_s = _hurried_s(instance, grace_s, observed, now)
            steps += _stop(instance, None, observed, now, now + grace_s, "its pod does not name it")
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


def restart_due_s(last: Instance | None) -> float:
    """When the next attempt may begin, in monotonic seconds."""
    if last is None:
        return 0.0
    streak = 0 if last.ran_s >= backoff.RESET_AFTER_S else last.streak
    return last.ended_s + backoff.restart_delay_s(streak)


# At its end, but still in the cluster.


def _plan_end(pod: core_v1.Pod, observed: Observed, now: float) -> list[Instruction]:
    """Stop what still runs of a pod that has ended, sidecars above all; then keep it at rest."""
    if any(instance.running for instance in observed.instances()):
        limit_s = observed.verdict.grace_s if observed.verdict else None
        grace_s = grace_of(pod) if limit_s is None else min(limit_s, grace_of(pod))
        return _plan_stops(pod, observed, now, now + grace_s, "its pod has ended")
    return _plan_rest(observed)


def _plan_rest(observed: Observed) -> list[Instruction]:
    steps: list[Instruction] = []
    sandboxes = [_remove(s) for s in observed.sandboxes if not s.gone]
    steps += sandboxes
    for held in observed.containers.values():
        # The newest end stays, for its logs.
        steps += [_remove(old) for old in held if not old.gone and (old is not held[-1] or old.state == "created")]
    if not sandboxes and not _building(observed):
        steps += _plan_bare(observed)
    return steps


# Removal.


def _plan_removal(desired: Desired, observed: Observed, now: float) -> list[Instruction]:
    if any(instance.running for instance in observed.instances()):
        return _plan_stops(desired.pod or desired.last, observed, now, desired.kill_at_s, "its pod is deleted")
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


def _plan_stops(
    pod: core_v1.Pod | None, observed: Observed, now: float, kill_at_s: float, why: str
) -> list[Instruction]:
    """Stop everything: hooks at once, signals in turn."""
    containers = {one.name: one.container for one in members(pod)} if pod else {}
    turn = stop_turn(pod, observed)
    steps: list[Instruction] = []
    for instance in observed.instances():
        if instance.running:
            container = containers.get(instance.name)
            steps += _stop(instance, container, observed, now, kill_at_s, why, turn=instance.name in turn)
    return steps


def _stop(
    instance: Instance,
    container: core_v1.Container | None,
    observed: Observed,
    now: float,
    kill_at_s: float,
    why: str,
    *,
    turn: bool = True,
) -> list[Instruction]:
    """Run its preStop hook, tell it to stop once it is its turn, wait, kill what did not."""
    subject = f"container/{instance.name}"
    killed = observed.killed_until.get(instance.id, 0.0)
    if killed > now:
        return [Wake(killed)]
    told = observed.killing.get(instance.id)
    if told is not None:
        due_s = told if instance.id in observed.late else min(told, kill_at_s)
        return [Wake(due_s)] if due_s > now else [KillContainer(subject, instance.name, instance.id)]
    signal = instance.stop_signal or "SIGTERM"
    hook = container is not None and container.lifecycle is not None and container.lifecycle.preStop is not None
    if kill_at_s > now:
        if hook and instance.id not in observed.prestopped:
            run = RunPreStop(f"hook/{instance.name}", instance.name, instance.id, kill_at_s, why)
            return [run, Wake(kill_at_s)]
        if not turn:
            return [Wake(kill_at_s)]
        return [StopContainer(subject, instance.name, instance.id, signal, kill_at_s, why)]
    if instance.id in observed.stopping or not turn:
        # All its time went to its hook or to those before it; a little is left to it, as in Kubernetes.
        return [StopContainer(subject, instance.name, instance.id, signal, now + LEAST_GRACE_S, why, late=True)]
    return [KillContainer(subject, instance.name, instance.id)]


def _remove(instance: Instance) -> RemoveContainer:
    return RemoveContainer(f"remove/{instance.id}", instance.id)
