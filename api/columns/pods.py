"""Rows of Pod."""

from __future__ import annotations

import datetime

from barque.api import conditions, timestamps
from barque.api.columns.age import age, human_duration
from barque.api.columns.words import NONE
from barque.api.podstatus import is_terminal
from barque.api.types.core_v1 import ContainerState, ContainerStatus, Pod

# The reason a pod carries whose node is gone.
_NODE_LOST = "NodeLost"


def pod_cells(pod: Pod, now: datetime.datetime) -> list[str]:
    ready = sum(1 for status in pod.status.containerStatuses if _is_running(status))
    return [
        pod.metadata.name,
        f"{ready}/{len(pod.spec.containers)}",
        pod_status(pod),
        _restarts(pod, now),
        age(pod.metadata.creationTimestamp, now),
        pod.status.podIP or NONE,
        pod.spec.nodeName or NONE,
        pod.status.nominatedNodeName or NONE,
        NONE,
    ]


def pod_status(pod: Pod) -> str:
    """One word for how the pod is: what its first container that is not well says, else its phase."""
    word = pod.status.reason or pod.status.phase
    for status in reversed(pod.status.containerStatuses):
        word = _reason(status.state or ContainerState()) or word
    if word == "Completed" and any(_is_running(status) for status in pod.status.containerStatuses):
        word = "Running" if conditions.is_true(pod.status.conditions, "Ready") else "NotReady"
    if pod.metadata.deletionTimestamp and pod.status.reason == _NODE_LOST:
        return "Unknown"
    if pod.metadata.deletionTimestamp and not is_terminal(pod):
        return "Terminating"
    return word


def _reason(state: ContainerState) -> str:
    if state.waiting is not None and state.waiting.reason:
        return state.waiting.reason
    if state.terminated is not None:
        signal, code = state.terminated.signal, state.terminated.exitCode
        return state.terminated.reason or (f"Signal:{signal}" if signal else f"ExitCode:{code}")
    return ""


def _is_running(status: ContainerStatus) -> bool:
    return status.ready and status.state is not None and status.state.running is not None


def _restarts(pod: Pod, now: datetime.datetime) -> str:
    count = sum(status.restartCount for status in pod.status.containerStatuses)
    ended = [
        moment
        for status in pod.status.containerStatuses
        if status.lastState is not None
        and status.lastState.terminated is not None
        and (moment := timestamps.parse(status.lastState.terminated.finishedAt)) is not None
    ]
    if not count or not ended:
        return str(count)
    return f"{count} ({human_duration((now - max(ended)).total_seconds())} ago)"
