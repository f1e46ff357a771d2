"""Why a pod does not run, from what the masters know: its status, its events, and its node's. Pure.

Each part of a pod's way to readiness gets one finding, in the order in which a pod goes that way: a place, its node,
sandbox, volumes, images and containers, probes. The first that is not well is what the headline says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from barque.api.occurrences import order_of

State = Literal["ok", "waiting", "failed"]

_IMAGE_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)
_VOLUME_REASONS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_SANDBOX_REASONS = ("FailedCreatePodSandBox", "NetworkNotReady", "FailedPodSandBoxStatus")
_SELF_EXPLAINING = ("ContainerCreating", "PodInitializing", "")


class Finding(NamedTuple):
    """One part: how it is, in whose words, and what that comes to as the end of a sentence about the pod."""

    part: str
    state: State
    words: str
    comes_to: str = ""


class Diagnosis(NamedTuple):
    """`advice` are commands that tell more."""

    headline: str
    findings: tuple[Finding, ...]
    advice: tuple[str, ...]


def diagnose(pod: Any, events: Iterable[Any], node: Any | None) -> Diagnosis:
    """`events` are the pod's own; `node` is the one it is bound to, None where there is none or it is gone."""
    newest = sorted((e for e in events if e.involvedObject.uid in ("", pod.metadata.uid)), key=order_of, reverse=True)
    findings = tuple(_findings(pod, newest, node))
    first = next((finding for finding in findings if finding.state != "ok"), None)
    name = f"pod/{pod.metadata.name}"
    if pod.metadata.deletionTimestamp:
        headline = f"{name} is being deleted since {pod.metadata.deletionTimestamp}"
        headline += f": {first.comes_to}" if first is not None else ""
    elif pod.status.phase == "Succeeded":
        headline = f"{name} has done its work: all its containers have ended well"
    elif first is None:
        headline = f"{name} runs and is ready"
    else:
        headline = f"{name} {_doing(pod, first)}: {first.comes_to}"
    return Diagnosis(headline, findings, tuple(_advice(pod, first)))


def _doing(pod: Any, first: Finding) -> str:
    if pod.status.phase != "Running":
        return f"is {pod.status.phase or 'Pending'}"
    ready = _condition(pod, "Ready")
    if first.part == "node" and ready is not None and ready.status == "True":
        return "runs and is ready, but not well"
    return "runs, but is not ready"


def _findings(pod: Any, events: Sequence[Any], node: Any | None) -> Iterable[Finding]:
    if pod.status.phase == "Failed" and pod.status.reason:
        yield Finding(
            "pod", "failed", f"{pod.status.reason}: {pod.status.message}", f"it was ended: {pod.status.reason}"
        )
    if not pod.spec.nodeName:
        yield _place(pod, events)
        return
    yield Finding("scheduling", "ok", f"on node {pod.spec.nodeName}")
    yield _node(pod, node)
    if pod.status.phase in ("Succeeded", "Failed"):
        yield from _containers(pod, events)
        return
    started = any(s.containerID for s in (*pod.status.initContainerStatuses, *pod.status.containerStatuses))
    if not started:
        yield from _event(events, _SANDBOX_REASONS, "sandbox", "its network or sandbox cannot be made")
        yield from _event(events, _VOLUME_REASONS, "volumes", "its volumes cannot be mounted")
    yield from _containers(pod, events)
    for gate in pod.spec.readinessGates:
        condition = _condition(pod, gate.conditionType)
        if condition is None or condition.status != "True":
            words = (condition.message or condition.reason) if condition is not None else "nobody has set it yet"
            yield Finding(
                f"gate {gate.conditionType}", "waiting", words, f"its readiness gate {gate.conditionType} is shut"
            )


def _place(pod: Any, events: Sequence[Any]) -> Finding:
    if pod.spec.schedulingGates:
        gates = ", ".join(gate.name for gate in pod.spec.schedulingGates)
        return Finding(
            "scheduling", "waiting", f"scheduling gates: {gates}", "somebody holds it back by scheduling gates"
        )
    condition = _condition(pod, "PodScheduled")
    event = next((e for e in events if e.reason == "FailedScheduling"), None)
    words = (condition.message if condition is not None else "") or (event.message if event is not None else "")
    if words:
        return Finding("scheduling", "waiting", words, "no node can take it")
    own = pod.spec.schedulerName
    words = "no scheduler has looked at it yet"
    if own and own != "default-scheduler":
        words += f"; it asks for the scheduler {own}"
    return Finding("scheduling", "waiting", words, "it waits for a node")


def _node(pod: Any, node: Any | None) -> Finding:
    name = pod.spec.nodeName
    if node is None:
        return Finding("node", "failed", f"there is no node {name} any more", f"its node {name} is gone")
    ready = _condition(node, "Ready")
    if ready is not None and ready.status == "True":
        return Finding("node", "ok", f"{name} is ready")
    words = (ready.message or ready.reason) if ready is not None else "its worker has not reported yet"
    return Finding("node", "failed", words or "NotReady", f"its node {name} is not ready")


def _event(events: Sequence[Any], reasons: Sequence[str], part: str, comes_to: str) -> Iterable[Finding]:
    """What the newest of these warnings says, where there is one."""
    found = next((event for event in events if event.reason in reasons), None)
    if found is not None:
        yield Finding(part, "failed", f"{found.reason}: {found.message}", comes_to)


def _containers(pod: Any, events: Sequence[Any]) -> Iterable[Finding]:
    known = {s.name: s for s in (*pod.status.initContainerStatuses, *pod.status.containerStatuses)}
    for container in pod.spec.initContainers:
        sidecar = container.restartPolicy == "Always"
        yield _container("init container", container, known.get(container.name), events, ends=not sidecar)
    for container in pod.spec.containers:
        ends = pod.spec.restartPolicy != "Always"
        yield _container("container", container, known.get(container.name), events, ends=ends)


def _container(kind: str, container: Any, status: Any | None, events: Sequence[Any], *, ends: bool) -> Finding:
    """`ends` is whether it is to end by itself."""
    part, state = f"{kind} {container.name}", status.state if status is not None else None
    if state is not None and state.waiting is not None:
        return _waiting(part, container, status, events)
    if state is not None and state.terminated is not None:
        return _terminated(part, state.terminated, ends)
    if state is None or state.running is None:
        return Finding(part, "waiting", "its node has not reported it yet", f"{part} has not been started")
    if kind == "init container" and ends:
        return Finding(part, "waiting", f"runs since {state.running.startedAt}", f"{part} has not finished")
    return _running(part, container, status, events)


def _waiting(part: str, container: Any, status: Any, events: Sequence[Any]) -> Finding:
    waiting, last = status.state.waiting, status.lastState
    if waiting.reason in _IMAGE_REASONS:
        words = f"{waiting.reason}: {waiting.message}"
        return Finding(f"image {container.image}", "failed", words, f"the image {container.image} cannot be pulled")
    if waiting.reason == "CrashLoopBackOff":
        ended = last.terminated if last is not None else None
        words = f"{_end(ended)}; {status.restartCount} restarts" if ended is not None else waiting.message
        return Finding(part, "failed", words, f"{part} ends again and again")
    if waiting.reason in _SELF_EXPLAINING:
        newest = next((e for e in events if e.reason in ("Pulling", *_VOLUME_REASONS, *_SANDBOX_REASONS)), None)
        words = newest.message if newest is not None else waiting.reason or "waits for its turn"
        return Finding(part, "waiting", words, f"{part} is not started yet")
    return Finding(part, "failed", f"{waiting.reason}: {waiting.message}".rstrip(": "), f"{part} cannot be started")


def _terminated(part: str, ended: Any, ends: bool) -> Finding:
    if ends and not ended.exitCode:
        return Finding(part, "ok", "has finished")
    return Finding(part, "failed", _end(ended), f"{part} has ended")


def _running(part: str, container: Any, status: Any, events: Sequence[Any]) -> Finding:
    if status.ready:
        restarts = f", {status.restartCount} restarts" if status.restartCount else ""
        return Finding(part, "ok", f"runs and is ready{restarts}")
    probe = "Startup" if container.startupProbe is not None and not status.started else "Readiness"
    said = next((e for e in events if e.reason == "Unhealthy" and _speaks_of(e, container.name, probe)), None)
    words = said.message if said is not None else f"runs, but its {probe.lower()} probe has not succeeded yet"
    return Finding(part, "waiting", words, f"the {probe.lower()} probe of {part} does not succeed")


def _speaks_of(event: Any, container: str, probe: str) -> bool:
    path = event.involvedObject.fieldPath
    return event.message.startswith(probe) and (not path or f"{{{container}}}" in path)


def _end(ended: Any) -> str:
    """How a container ended, with the last line it left."""
    words = f"exit code {ended.exitCode}" + (f" by signal {ended.signal}" if ended.signal else "")
    if ended.reason and ended.reason not in ("Error", "Completed"):
        words = f"{ended.reason}, {words}"
    lines = (ended.message or "").strip().splitlines()
    return f"{words}: {lines[-1]}" if lines else words


def _advice(pod: Any, first: Finding | None) -> Iterable[str]:
    """Commands that tell more about the first thing that is not well."""
    if first is None or first.state == "ok":
        return
    where = f" -n {pod.metadata.namespace}" if pod.metadata.namespace != "default" else ""
    kind, _, name = first.part.rpartition(" ")
    if kind.endswith("container") and "restarts" in first.words:
        yield f"barque logs{where} -p {pod.metadata.name} -c {name}"
    elif kind.endswith("container") and first.comes_to.endswith(("has ended", "does not succeed", "has not finished")):
        yield f"barque logs{where} {pod.metadata.name} -c {name}"
    elif first.part == "node":
        yield f"barque describe node {pod.spec.nodeName}"
    elif first.part == "scheduling" and first.comes_to == "no node can take it":
        yield "barque describe nodes"
    yield f"barque describe{where} pod {pod.metadata.name}"


def _condition(obj: Any, type: str) -> Any | None:
    return next((condition for condition in obj.status.conditions if condition.type == type), None)
