"""`pod_status`: a pod's status from what is desired and observed. Pure.

The worker owns every field but the conditions it does not know (PodScheduled, readiness gates), which are kept.
"""

from __future__ import annotations

from typing import NamedTuple

from barque.api import conditions, podstatus
from barque.api.types import core_v1
from barque.worker.pods.backoff import Fault
from barque.worker.pods.observed import Instance, Observed, outcome
from barque.worker.pods.plan import Desired, restart_due_s, should_restart

# For how long the failure itself (ErrImagePull, RunContainerError) is shown before the back-off that follows it.
FAILURE_SHOWN_S = 3.0


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
    containers = [container_status(pod, container, observed, now) for container in pod.spec.containers]
    phase = _phase(desired, pod, observed, containers)
    # The address of a pod that has ended is told on; it is not the pod's any more.
    address = observed.address or before.podIP
    return core_v1.PodStatus(
        phase=phase,
        conditions=_conditions(pod, observed, containers, phase, now),
        containerStatuses=containers,
        hostIP=host_ip,
        hostIPs=[core_v1.HostIP(ip=host_ip)],
        podIP=address,
        podIPs=[core_v1.PodIP(ip=address)] if address else [],
        qosClass=before.qosClass or podstatus.qos_class(pod.spec),
        startTime=before.startTime or now.time,
        observedGeneration=pod.metadata.generation,
        reason=before.reason,
        message=before.message,
        nominatedNodeName=before.nominatedNodeName,
    )


def _phase(desired: Desired, pod: core_v1.Pod, observed: Observed, containers: list[core_v1.ContainerStatus]) -> str:
    ended = outcome(pod, observed)
    if ended:
        return ended
    ends = [c.state.terminated for c in containers if c.state and c.state.terminated]
    if desired.stopping and containers and len(ends) == len(containers):
        return "Failed" if any(end.exitCode for end in ends) else "Succeeded"
    # Running once every container has been started at least once, also while one waits for its restart.
    if containers and all(c.restartCount or (c.containerID and c.state and not _is_unstarted(c)) for c in containers):
        return "Running"
    return "Pending"


def _is_unstarted(status: core_v1.ContainerStatus) -> bool:
    waiting = status.state.waiting if status.state else None
    return waiting is not None and status.lastState is None


def container_status(
    pod: core_v1.Pod, container: core_v1.Container, observed: Observed, now: Moment
) -> core_v1.ContainerStatus:
    """One container's state, last state, count of restarts and readiness."""
    held = observed.containers.get(container.name, [])
    newest = held[-1] if held else None
    status = core_v1.ContainerStatus(name=container.name, image=container.image, imageID="", started=False)
    if newest is not None:
        status.restartCount = newest.attempt
        status.imageID = newest.image_id
        status.containerID = f"docker://{newest.id}"
    before = held[-2] if len(held) > 1 else None
    if before is not None:
        status.lastState = core_v1.ContainerState(terminated=terminated(before))
    if newest is None or newest.state == "created":
        waiting = _waiting(container, observed, now)
        if newest is not None and before is None:
            status.containerID = ""
        status.state = core_v1.ContainerState(waiting=waiting)
    elif newest.state == "running":
        status.state = core_v1.ContainerState(running=core_v1.ContainerStateRunning(startedAt=newest.started_at))
        status.started = container.startupProbe is None or newest.id in observed.started
        status.ready = container.readinessProbe is None or newest.id in observed.ready
        status.ready = status.ready and bool(status.started)
    else:
        _end(status, pod, container, newest, observed, now)
    return status


def _end(
    status: core_v1.ContainerStatus,
    pod: core_v1.Pod,
    container: core_v1.Container,
    ended: Instance,
    observed: Observed,
    now: Moment,
) -> None:
    """The state of a container whose newest attempt has ended."""
    end = terminated(ended)
    status.state = core_v1.ContainerState(terminated=end)
    if pod.metadata.deletionTimestamp or outcome(pod, observed) or not should_restart(pod, ended):
        return
    fault = _fault_of(container.name, observed)
    due_s = restart_due_s(ended)
    if fault is not None:
        waiting = _waiting(container, observed, now)
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
    meta = pod.metadata
    return f"back-off {shown} restarting failed container={ended.name} pod={meta.name}_{meta.namespace}({meta.uid})"


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


def _waiting(container: core_v1.Container, observed: Observed, now: Moment) -> core_v1.ContainerStateWaiting:
    fault = _fault_of(container.name, observed)
    if fault is None:
        return core_v1.ContainerStateWaiting(reason="ContainerCreating")
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
    for container in pod.spec.containers:
        newest = observed.newest(container.name)
        if newest is not None and newest.start_error:
            moments.append(newest.ended_s + FAILURE_SHOWN_S)
    return min((m for m in moments if m > now_s), default=None)


def _conditions(
    pod: core_v1.Pod, observed: Observed, containers: list[core_v1.ContainerStatus], phase: str, now: Moment
) -> list[core_v1.PodCondition]:
    held = [
        core_v1.PodCondition(
            type=c.type, status=c.status, reason=c.reason, message=c.message, lastProbeTime=c.lastProbeTime,
            lastTransitionTime=c.lastTransitionTime, observedGeneration=c.observedGeneration,
        )
        for c in pod.status.conditions
    ]  # fmt: skip
    # A worker that has just come back has not looked at the network yet: what was reported holds until it has.
    known = bool(observed.address) or conditions.is_true(held, "PodReadyToStartContainers")
    attached = known and observed.sandbox is not None and observed.sandbox.state == "running"
    ready, reason, message = _readiness(containers, phase)
    gates = [g.conditionType for g in pod.spec.readinessGates if not conditions.is_true(held, g.conditionType)]
    pod_ready, pod_reason, pod_message = ready, reason, message
    if ready and gates:
        listed = ", ".join(f'"{gate}"' for gate in gates)
        pod_ready, pod_reason, pod_message = (
            False,
            "ReadinessGatesNotReady",
            f"corresponding conditions of {listed} are not True",
        )
    wanted = [
        ("PodReadyToStartContainers", attached, "", ""),
        ("Initialized", True, "PodCompleted" if phase == "Succeeded" else "", ""),
        ("Ready", pod_ready, pod_reason, pod_message),
        ("ContainersReady", ready, reason, message),
    ]
    for kind, true, why, words in wanted:
        conditions.set_condition(
            held,
            core_v1.PodCondition(
                type=kind, status="True" if true else "False", reason=why, message=words, lastTransitionTime=now.time
            ),
        )
    return held


def _readiness(containers: list[core_v1.ContainerStatus], phase: str) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    unready = [c.name for c in containers if not c.ready]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""
