"""`pod_status`: a pod's status from what is desired and observed. Pure.

The worker owns every field but the conditions it does not know (PodScheduled, readiness gates), which are kept.
"""

from __future__ import annotations

from typing import NamedTuple

from barque.api import conditions, podstatus
from barque.api.types import core_v1
from barque.worker.pods import names, resizing
from barque.worker.pods.backoff import Fault
from barque.worker.pods.members import Member, Role, ending, is_initialized, members, outcome, restarts
from barque.worker.pods.observed import Instance, Observed
from barque.worker.pods.plan import Desired, awaits_post_start, restart_due_s
from barque.worker.pods.resizing import Pending

# For how long the failure itself (ErrImagePull, RunContainerError) is shown before the back-off that follows it.
FAILURE_SHOWN_S = 3.0
# Of all the termination messages of a pod, as in Kubernetes.
MESSAGES_BYTES = 12 * 1024


_RESIZES = (resizing.PENDING, resizing.IN_PROGRESS)


class Moment(NamedTuple):
    """Now: in monotonic seconds, and as `metav1.Time`."""

    monotonic_s: float
    time: str


def pod_status(desired: Desired, observed: Observed, now: Moment, host_ip: str) -> core_v1.PodStatus:
    """The whole status. `desired.pod` must be there; its own status is the previous one."""
    pod = desired.pod
    if pod is None:
        raise ValueError("a pod that the cluster does not know has no status")
    before = pod.status
    found: dict[Role, list[core_v1.ContainerStatus]] = {"init": [], "app": [], "ephemeral": []}
    for one in members(pod):
        found["init" if one.role == "sidecar" else one.role].append(container_status(pod, one, observed, now))
    _bound_messages([status for statuses in found.values() for status in statuses])
    phase = _phase(desired, pod, observed, found["init"], found["app"])
    # The address of a pod that has ended is told on; it is not the pod's any more.
    address = observed.address or before.podIP
    verdict = observed.verdict if phase == "Failed" else None
    return core_v1.PodStatus(
        phase=phase,
        conditions=_conditions(pod, observed, found["init"], found["app"], phase, now, desired.pending),
        initContainerStatuses=found["init"],
        containerStatuses=found["app"],
        ephemeralContainerStatuses=found["ephemeral"],
        hostIP=host_ip,
        hostIPs=[core_v1.HostIP(ip=host_ip)],
        podIP=address,
        podIPs=[core_v1.PodIP(ip=address)] if address else [],
        qosClass=before.qosClass or podstatus.qos_class(pod.spec),
        startTime=before.startTime or now.time,
        observedGeneration=pod.metadata.generation,
        reason=verdict.reason if verdict else before.reason,
        message=verdict.message if verdict else before.message,
        nominatedNodeName=before.nominatedNodeName,
    )


def _bound_messages(statuses: list[core_v1.ContainerStatus]) -> None:
    """Share out among the containers what their last words may take together."""
    limit = MESSAGES_BYTES // max(len(statuses), 1)
    for status in statuses:
        for state in (status.state, status.lastState):
            if state is not None and state.terminated is not None:
                said = state.terminated.message.encode()
                if len(said) > limit:
                    state.terminated.message = said[:limit].decode(errors="ignore")


def _phase(
    desired: Desired,
    pod: core_v1.Pod,
    observed: Observed,
    inits: list[core_v1.ContainerStatus],
    apps: list[core_v1.ContainerStatus],
) -> str:
    ended = outcome(pod, observed)
    if ended:
        return ended
    ends = [c.state.terminated for c in apps if c.state and c.state.terminated]
    if desired.stopping and apps and len(ends) == len(apps) and not any(_runs(c) for c in inits):
        return "Failed" if any(end.exitCode for end in ends) else "Succeeded"
    if not _is_initialized(pod, observed):
        return "Pending"
    # Running once every container has been started at least once, also while one waits for its restart.
    if apps and all(c.restartCount or (c.containerID and c.state and not _is_unstarted(c)) for c in apps):
        return "Running"
    return "Pending"


def _is_initialized(pod: core_v1.Pod, observed: Observed) -> bool:
    """Whether the pod is past its init containers; one whose sandbox is being replaced still is."""
    if is_initialized(pod, observed):
        return True
    sandbox = observed.sandbox
    gone = sandbox is None or sandbox.state == "exited"
    return gone and any((held := observed.newest(c.name)) and held.state != "created" for c in pod.spec.containers)


def _runs(status: core_v1.ContainerStatus) -> bool:
    return status.state is not None and status.state.running is not None


def _is_unstarted(status: core_v1.ContainerStatus) -> bool:
    waiting = status.state.waiting if status.state else None
    return waiting is not None and status.lastState is None


def container_status(pod: core_v1.Pod, one: Member, observed: Observed, now: Moment) -> core_v1.ContainerStatus:
    """One container's state, last state, count of restarts and readiness."""
    container = one.container
    held = observed.containers.get(one.name, [])
    newest = held[-1] if held else None
    status = core_v1.ContainerStatus(name=one.name, image=container.image, imageID="")
    if one.role != "ephemeral":
        status.started = False
    status.volumeMounts = [
        core_v1.VolumeMountStatus(
            name=mount.name,
            mountPath=mount.mountPath,
            readOnly=mount.readOnly,
            recursiveReadOnly=(mount.recursiveReadOnly or "Disabled") if mount.readOnly else "",
        )
        for mount in container.volumeMounts
    ]
    if newest is not None:
        status.restartCount = newest.attempt
        status.imageID = newest.image_id
        status.containerID = f"docker://{newest.id}"
        if container.resources is not None:
            status.resources = _in_effect(pod, container, newest)
            status.allocatedResources = container.resources.requests
    before = held[-2] if len(held) > 1 else None
    if before is not None:
        status.lastState = core_v1.ContainerState(terminated=terminated(before))
    if newest is None or newest.state == "created":
        if newest is not None and before is None:
            status.containerID = ""
        status.state = core_v1.ContainerState(waiting=_waiting(pod, container, observed, now))
    elif newest.state == "running" and awaits_post_start(container, newest, observed):
        status.state = core_v1.ContainerState(waiting=_waiting(pod, container, observed, now))
    elif newest.state == "running":
        status.state = core_v1.ContainerState(running=core_v1.ContainerStateRunning(startedAt=newest.started_at))
        if one.role != "ephemeral":
            status.started = container.startupProbe is None or newest.id in observed.started
        if one.role in ("app", "sidecar"):
            status.ready = container.readinessProbe is None or newest.id in observed.ready
            status.ready = status.ready and bool(status.started)
    else:
        _end(status, pod, one, newest, observed, now)
    return status


def _in_effect(pod: core_v1.Pod, container: core_v1.Container, newest: Instance) -> core_v1.ResourceRequirements | None:
    """What a container may use: until a resize is done, what was reported before it."""
    if not newest.running or not resizing.changes(pod, container, newest.limits):
        return container.resources
    reported = (*pod.status.containerStatuses, *pod.status.initContainerStatuses)
    return next((each.resources for each in reported if each.name == container.name), container.resources)


def _end(
    status: core_v1.ContainerStatus,
    pod: core_v1.Pod,
    one: Member,
    ended: Instance,
    observed: Observed,
    now: Moment,
) -> None:
    """The state of a container whose newest attempt has ended."""
    end = terminated(ended)
    status.state = core_v1.ContainerState(terminated=end)
    status.ready = one.role == "init" and end.exitCode == 0
    if pod.metadata.deletionTimestamp or ending(pod, observed) or not restarts(pod, one, ended.exit_code):
        return
    fault = _fault_of(one.name, observed)
    due_s = restart_due_s(ended)
    if fault is not None:
        waiting = _waiting(pod, one.container, observed, now)
    elif ended.start_error and now.monotonic_s < ended.ended_s + FAILURE_SHOWN_S:
        waiting = core_v1.ContainerStateWaiting(reason="RunContainerError", message=ended.start_error)
    elif due_s > now.monotonic_s:
        waiting = core_v1.ContainerStateWaiting(reason="CrashLoopBackOff", message=crash_loop(pod, ended))
    else:
        return
    status.state = core_v1.ContainerState(waiting=waiting)
    status.lastState = core_v1.ContainerState(terminated=end)


def crash_loop(pod: core_v1.Pod, ended: Instance) -> str:
    """The sentence on a container that waits for its restart."""
    delay_s = int(restart_due_s(ended) - ended.ended_s)
    shown = f"{delay_s // 60}m{delay_s % 60}s" if delay_s >= 60 else f"{delay_s}s"
    return f"back-off {shown} restarting failed container={ended.name} pod={names.shown(pod)}"


def terminated(ended: Instance) -> core_v1.ContainerStateTerminated:
    """How one attempt ended."""
    if ended.reason:
        reason = ended.reason
    elif ended.start_error:
        reason = "StartError"
    elif ended.oom_killed:
        reason = "OOMKilled"
    else:
        reason = "Completed" if ended.exit_code == 0 else "Error"
    return core_v1.ContainerStateTerminated(
        containerID=f"docker://{ended.id}",
        exitCode=ended.exit_code,
        reason=reason,
        message=ended.message or ended.start_error,
        startedAt=ended.started_at,
        finishedAt=ended.finished_at,
    )


def _fault_of(name: str, observed: Observed) -> Fault | None:
    return observed.faults.get(f"image/{name}") or observed.faults.get(f"container/{name}")


def _waiting(
    pod: core_v1.Pod, container: core_v1.Container, observed: Observed, now: Moment
) -> core_v1.ContainerStateWaiting:
    fault = _fault_of(container.name, observed)
    if fault is None:
        return core_v1.ContainerStateWaiting(
            reason="PodInitializing" if pod.spec.initContainers else "ContainerCreating"
        )
    if fault.reason == "ErrImagePull" and now.monotonic_s >= fault.since_s + FAILURE_SHOWN_S:
        message = f'Back-off pulling image "{container.image}": ErrImagePull: {fault.message}'
        return core_v1.ContainerStateWaiting(reason="ImagePullBackOff", message=message)
    return core_v1.ContainerStateWaiting(reason=fault.reason, message=fault.message)


def next_change_s(desired: Desired, observed: Observed, now_s: float) -> float | None:
    """When the status will change merely because time passes, in monotonic seconds."""
    pod = desired.pod
    if pod is None:
        return None
    moments = [f.since_s + FAILURE_SHOWN_S for f in observed.faults.values() if f.reason == "ErrImagePull"]
    for one in members(pod):
        newest = observed.newest(one.name)
        if newest is not None and newest.start_error:
            moments.append(newest.ended_s + FAILURE_SHOWN_S)
    return min((m for m in moments if m > now_s), default=None)


def _conditions(
    pod: core_v1.Pod,
    observed: Observed,
    inits: list[core_v1.ContainerStatus],
    apps: list[core_v1.ContainerStatus],
    phase: str,
    now: Moment,
    pending: Pending | None,
) -> list[core_v1.PodCondition]:
    held = [
        core_v1.PodCondition(
            type=c.type, status=c.status, reason=c.reason, message=c.message, lastProbeTime=c.lastProbeTime,
            lastTransitionTime=c.lastTransitionTime, observedGeneration=c.observedGeneration,
        )
        for c in pod.status.conditions
        if c.type not in _RESIZES
    ]  # fmt: skip
    # A worker that has just come back has not looked at the network yet: what was reported holds until it has.
    known = bool(observed.address) or conditions.is_true(held, "PodReadyToStartContainers")
    attached = known and observed.sandbox is not None and observed.sandbox.state == "running"
    sidecars = {c.name for c in pod.spec.initContainers if podstatus.is_sidecar(c)}
    contained = _contained([c for c in inits if c.name in sidecars] + apps, phase)
    wanted = [
        ("PodReadyToStartContainers", _Truth(attached)),
        ("Initialized", _initialized(pod, observed, inits, sidecars, phase)),
        ("Ready", _ready(pod, contained, held)),
        ("ContainersReady", contained),
    ]
    if observed.verdict is not None and observed.verdict.disrupted:
        wanted.append(("DisruptionTarget", _Truth(True, "TerminationByKubelet", observed.verdict.message)))
    if pending is not None:
        wanted.append((resizing.PENDING, _Truth(True, pending.reason, pending.message)))
    if (progress := _resize_progress(pod, observed)) is not None:
        wanted.append((resizing.IN_PROGRESS, progress))
    held += [c for c in pod.status.conditions if c.type in _RESIZES and c.type in dict(wanted)]
    for kind, truth in wanted:
        conditions.set_condition(
            held,
            core_v1.PodCondition(
                type=kind, status="True" if truth.holds else "False", reason=truth.reason, message=truth.message,
                lastTransitionTime=now.time,
            ),
        )  # fmt: skip
    return held


class _Truth(NamedTuple):
    """Whether a condition holds, and why not (or why though)."""

    holds: bool
    reason: str = ""
    message: str = ""


def _resize_progress(pod: core_v1.Pod, observed: Observed) -> _Truth | None:
    """Whether the limits of a running container are still to be changed, and why that fails if it does."""
    for one in members(pod):
        newest = observed.newest(one.name)
        if newest is not None and newest.running and resizing.changes(pod, one.container, newest.limits):
            fault = observed.faults.get(f"resize/{one.name}")
            return _Truth(True, "Error", fault.message) if fault else _Truth(True)
    return None


def _initialized(
    pod: core_v1.Pod, observed: Observed, inits: list[core_v1.ContainerStatus], sidecars: set[str], phase: str
) -> _Truth:
    if phase == "Succeeded":
        return _Truth(True, "PodCompleted")
    if _is_initialized(pod, observed) or (
        conditions.is_true(pod.status.conditions, "Initialized") and phase == "Failed"
    ):
        return _Truth(True)
    incomplete = [c.name for c in inits if not (c.started if c.name in sidecars else c.ready)]
    return _Truth(False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")


def _contained(containers: list[core_v1.ContainerStatus], phase: str) -> _Truth:
    if phase == "Succeeded":
        return _Truth(False, "PodCompleted")
    if phase == "Failed":
        return _Truth(False, "PodFailed")
    unready = [c.name for c in containers if not c.ready]
    if unready:
        return _Truth(False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    return _Truth(True)


def _ready(pod: core_v1.Pod, contained: _Truth, held: list[core_v1.PodCondition]) -> _Truth:
    """Ready are all its containers and, beyond them, what its readiness gates name."""
    if not contained.holds:
        return contained
    faults: list[str] = []
    for gate in pod.spec.readinessGates:
        found = conditions.find(held, gate.conditionType)
        if found is None:
            faults.append(f'corresponding condition of pod readiness gate "{gate.conditionType}" does not exist.')
        elif found.status != "True":
            faults.append(f'the status of pod readiness gate "{gate.conditionType}" is not "True", but {found.status}')
    return _Truth(False, "ReadinessGatesNotReady", ", ".join(faults)) if faults else _Truth(True)
