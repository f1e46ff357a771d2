"""Tables of Pod and PodTemplate."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from barque.api import conditions, timestamps
from barque.api.columns.age import age, human_duration
from barque.api.columns.table import AGE, NAME, Cell, Table, column, wide
from barque.api.columns.words import NONE, containers, labels
from barque.api.podstatus import is_sidecar, is_terminal
from barque.api.types.core_v1 import ContainerState, ContainerStatus, Pod, PodTemplate, PodTemplateSpec
from barque.api.types.meta_v1 import ObjectMeta

# The reason a pod carries whose node is gone.
_NODE_LOST = "NodeLost"
_GATED = "SchedulingGated"


def _pod(pod: Pod, now: datetime.datetime) -> list[Cell]:
    sidecars = _sidecars(pod)
    counted = [*_initialised(pod), *(pod.status.containerStatuses if _is_initialised(pod) else [])]
    ready = sum(1 for status in counted if _is_ready(status, sidecars))
    return [
        pod.metadata.name,
        f"{ready}/{len(pod.spec.containers) + len(sidecars)}",
        pod_status(pod),
        _restarts(pod, now),
        age(pod.metadata.creationTimestamp, now),
        (pod.status.podIPs[0].ip if pod.status.podIPs else pod.status.podIP) or NONE,
        pod.spec.nodeName or NONE,
        pod.status.nominatedNodeName or NONE,
        _readiness_gates(pod),
    ]


def _pod_template(pod_template: PodTemplate, _now: datetime.datetime) -> list[Cell]:
    template = pod_template.template or PodTemplateSpec()
    names, images = containers(template)
    return [pod_template.metadata.name, names, images, labels((template.metadata or ObjectMeta()).labels)]


def pod_status(pod: Pod) -> str:
    """One word for how the pod is: what its first container that is not well says, else its phase."""
    word = _container_word(pod)
    if pod.metadata.deletionTimestamp and pod.status.reason == _NODE_LOST:
        return "Unknown"
    if pod.metadata.deletionTimestamp and not is_terminal(pod):
        return "Terminating"
    return word


def _container_word(pod: Pod) -> str:
    word = pod.status.reason or pod.status.phase
    scheduled = conditions.find(pod.status.conditions, "PodScheduled")
    if scheduled is not None and scheduled.reason == _GATED:
        word = _GATED
    if not _is_initialised(pod):
        return _initialising(pod)
    failure = ""
    for status in reversed(pod.status.containerStatuses):
        state = status.state or ContainerState()
        word = _reason(state) or word
        failure = word if state.terminated is not None and state.terminated.exitCode else failure
    running = any(_is_running(status) for status in pod.status.containerStatuses)
    if word != "Completed":
        return word
    if running and conditions.is_true(pod.status.conditions, "Ready"):
        return "Running"
    return failure or ("NotReady" if running else word)


def _is_initialised(pod: Pod) -> bool:
    return _current_init(pod) is None or conditions.is_true(pod.status.conditions, "Initialized")


def _current_init(pod: Pod) -> int | None:
    """The place of the first init container that has neither done its work nor, as a sidecar, started."""
    sidecars = _sidecars(pod)
    for index, status in enumerate(pod.status.initContainerStatuses):
        ended = status.state.terminated if status.state is not None else None
        done = ended is not None and ended.exitCode == 0
        if not done and not (status.name in sidecars and status.started):
            return index
    return None


def _initialised(pod: Pod) -> list[ContainerStatus]:
    return pod.status.initContainerStatuses[: _current_init(pod)]


def _initialising(pod: Pod) -> str:
    index = _current_init(pod) or 0
    state = pod.status.initContainerStatuses[index].state or ContainerState()
    word = _reason(state)
    if not word or (state.terminated is None and word == "PodInitializing"):
        word = f"{index}/{len(pod.spec.initContainers)}"
    return f"Init:{word}"


def _sidecars(pod: Pod) -> set[str]:
    return {container.name for container in pod.spec.initContainers if is_sidecar(container)}


def _reason(state: ContainerState) -> str:
    if state.waiting is not None and state.waiting.reason:
        return state.waiting.reason
    if state.terminated is not None:
        signal, code = state.terminated.signal, state.terminated.exitCode
        return state.terminated.reason or (f"Signal:{signal}" if signal else f"ExitCode:{code}")
    return ""


def _is_running(status: ContainerStatus) -> bool:
    return status.ready and status.state is not None and status.state.running is not None


def _is_ready(status: ContainerStatus, sidecars: set[str]) -> bool:
    """A sidecar counts once it has started, any other container while it runs, so no init container that is done."""
    return bool(status.ready and status.started) if status.name in sidecars else _is_running(status)


def _restarts(pod: Pod, now: datetime.datetime) -> str:
    """Those of init containers count only until they have done their work."""
    sidecars = _sidecars(pod)
    counted = pod.status.initContainerStatuses
    if _is_initialised(pod):
        counted = [*(status for status in counted if status.name in sidecars), *pod.status.containerStatuses]
    count, last = sum(status.restartCount for status in counted), _last_end(counted)
    if not count or last is None:
        return str(count)
    return f"{count} ({human_duration((now - last).total_seconds())} ago)"


def _last_end(statuses: Iterable[ContainerStatus]) -> datetime.datetime | None:
    ended = (status.lastState.terminated for status in statuses if status.lastState is not None)
    moments = (timestamps.parse(end.finishedAt) for end in ended if end is not None)
    return max((moment for moment in moments if moment is not None), default=None)


def _readiness_gates(pod: Pod) -> str:
    gates = pod.spec.readinessGates
    met = sum(1 for gate in gates if conditions.is_true(pod.status.conditions, gate.conditionType))
    return f"{met}/{len(gates)}" if gates else NONE


TABLES = {
    "Pod": Table(
        (
            NAME,
            column("Ready", "How many of the pod's containers may be sent traffic."),
            column("Status", "How the pod is, in one word."),
            column("Restarts", "How often its containers were restarted, and when last."),
            AGE,
            wide("IP", "The pod's address."),
            wide("Node", "The node that the pod is on."),
            wide("Nominated Node", "The node where room is being made for the pod."),
            wide("Readiness Gates", "How many of the conditions hold that the pod's readiness hangs on."),
        ),
        _pod,
    ),
    "PodTemplate": Table(
        (
            NAME,
            column("Containers", "The names of the template's containers."),
            column("Images", "The images of the template's containers."),
            column("Pod Labels", "The labels of the template's pods."),
        ),
        _pod_template,
    ),
}
