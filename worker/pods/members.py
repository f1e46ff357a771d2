"""The containers of a pod by their roles, and whose turn it is: to start, to start again, to stop. Pure.

Init containers run one after another and each must succeed; a sidecar (KEP-753) must have started before what follows
it does, runs on beside it and stops after it; the app containers start together once all that is done; ephemeral ones
look in and are never started again. A pod ends when its app containers have ended for good: sidecars do not hold it up.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from barque.api import podstatus
from barque.api.types import core_v1
from barque.worker.pods.observed import Instance, Observed

Role = Literal["init", "sidecar", "app", "ephemeral"]
End = Literal["", "Succeeded", "Failed"]


class Member(NamedTuple):
    container: core_v1.Container
    role: Role
    # For an ephemeral container: the name of the one whose processes it sees.
    target: str = ""

    @property
    def name(self) -> str:
        return self.container.name


def members(pod: core_v1.Pod) -> list[Member]:
    """All containers: init containers and sidecars in their order, apps, ephemeral ones."""
    found = [Member(c, "sidecar" if podstatus.is_sidecar(c) else "init") for c in pod.spec.initContainers]
    found += [Member(c, "app") for c in pod.spec.containers]
    found += [Member(_plain(c), "ephemeral", c.targetContainerName) for c in pod.spec.ephemeralContainers]
    return found


def member(pod: core_v1.Pod, name: str) -> Member | None:
    return next((m for m in members(pod) if m.name == name), None)


def _plain(container: core_v1.EphemeralContainer) -> core_v1.Container:
    return core_v1.Container(**{name: getattr(container, name) for name in core_v1.Container.__struct_fields__})


def restarts(pod: core_v1.Pod, who: Member, exit_code: int) -> bool:
    """Whether this container is started again after an end with `exit_code`."""
    policy = pod.spec.restartPolicy or "Always"
    match who.role:
        case "sidecar":
            return True
        case "ephemeral":
            return False
        case "init":
            # Its success is the end of its work; "Always" means for it: until it succeeds.
            return exit_code != 0 and podstatus.restarts(who.container, policy, exit_code)
        case "app":
            return podstatus.restarts(who.container, policy, exit_code)


# Starting.


def is_initialized(pod: core_v1.Pod, observed: Observed) -> bool:
    """Whether all that precedes the app containers has been done in the present sandbox."""
    if not pod.spec.initContainers:
        return True
    sandbox = observed.sandbox
    if sandbox is None:
        return False
    # An app container in it proves it, even where somebody has removed the ended init containers.
    if any(_began_in(observed.newest(app.name), sandbox.id) for app in pod.spec.containers):
        return True
    return all(_has_passed(m, observed, sandbox.id) for m in members(pod) if m.role in ("init", "sidecar"))


def startable(pod: core_v1.Pod, observed: Observed) -> list[Member]:
    """The containers that may run by now, in their order."""
    sandbox = observed.sandbox
    initialized = is_initialized(pod, observed)
    found: list[Member] = []
    blocked = False
    for one in members(pod):
        if one.role == "ephemeral":
            found.append(one)
        elif one.role == "app":
            if initialized:
                found.append(one)
        elif initialized:
            if one.role == "sidecar":
                found.append(one)
        elif not blocked:
            passed = sandbox is not None and _has_passed(one, observed, sandbox.id)
            blocked = not passed
            if one.role == "sidecar" or not passed:
                found.append(one)
    return found


def _began_in(newest: Instance | None, sandbox: str) -> bool:
    return newest is not None and newest.sandbox == sandbox and newest.state != "created"


def _has_passed(one: Member, observed: Observed, sandbox: str) -> bool:
    """Whether what follows this init container or sidecar may begin."""
    newest = observed.newest(one.name)
    if newest is None or newest.sandbox != sandbox:
        return False
    if one.role == "sidecar":
        return newest.running and newest.id in observed.started
    return newest.state == "exited" and newest.exit_code == 0


# Stopping.


def stop_turn(pod: core_v1.Pod | None, observed: Observed) -> set[str]:
    """The names of those that may be told to stop by now: first all but the sidecars, then these from the last on."""
    running = {instance.name for instance in observed.instances() if instance.running}
    sidecars = [c.name for c in pod.spec.initContainers if podstatus.is_sidecar(c)] if pod else []
    if others := running - set(sidecars):
        return others
    return set([name for name in sidecars if name in running][-1:])


# Ending.


def ending(pod: core_v1.Pod, observed: Observed) -> End:
    """How the pod ends, once what still runs of it has been stopped; "" while it goes on."""
    if pod.status.phase == "Succeeded":
        return "Succeeded"
    if pod.status.phase == "Failed" or observed.verdict is not None:
        return "Failed"
    if not is_initialized(pod, observed) and any(_failed_for_good(pod, m, observed) for m in members(pod)):
        return "Failed"
    ends: list[int] = []
    for one in members(pod):
        if one.role != "app":
            continue
        newest = observed.newest(one.name)
        if newest is None or newest.state != "exited" or restarts(pod, one, newest.exit_code):
            return ""
        ends.append(newest.exit_code)
    if not ends:
        return ""
    return "Failed" if any(ends) else "Succeeded"


def outcome(pod: core_v1.Pod, observed: Observed) -> End:
    """How the pod has ended for good, "" while it has not. A pod that has ended never runs again."""
    if pod.status.phase not in ("Succeeded", "Failed") and (
        observed.unread or any(instance.running for instance in observed.instances())
    ):
        return ""
    return ending(pod, observed)


def _failed_for_good(pod: core_v1.Pod, one: Member, observed: Observed) -> bool:
    newest = observed.newest(one.name)
    if one.role != "init" or newest is None or newest.state != "exited" or newest.exit_code == 0:
        return False
    return not restarts(pod, one, newest.exit_code)
