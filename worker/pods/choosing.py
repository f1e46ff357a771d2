"""Which container of a pod is meant by `logs`, `exec` and `attach`, and why there is none. Pure.

What cannot be is told as the kubelet tells it.
"""

from __future__ import annotations

from barque.api.errors import ApiError, bad_request
from barque.api.types import core_v1
from barque.worker.pods.members import Member, members
from barque.worker.pods.observed import Instance, Observed
from barque.worker.pods.plan import Desired
from barque.worker.pods.status import Moment, pod_status

# What the kubelet says instead of these reasons.
_WAITING = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}


def choose_member(pod: core_v1.Pod, asked: str) -> Member:
    """The container meant; asked for none, the only one. Raises 400."""
    name, apps = pod.metadata.name, [c.name for c in pod.spec.containers]
    if not asked and len(apps) > 1:
        inits = [c.name for c in pod.spec.initContainers]
        more = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(apps)}]{more}")
    found = next((one for one in members(pod) if one.name == (asked or apps[0])), None)
    if found is None:
        raise bad_request(f"container {asked} is not valid for pod {name}")
    return found


def choose_logged(pod: core_v1.Pod, observed: Observed, asked: str, now: Moment, *, previous: bool = False) -> Instance:
    """The attempt whose log is meant: the newest that has begun, or the one before it. Raises 400."""
    who, name = choose_member(pod, asked).name, pod.metadata.name
    held = observed.containers.get(who, [])
    if previous:
        return _previous(who, name, held)
    begun = [instance for instance in held if instance.state != "created"]
    if not begun:
        raise bad_request(
            f'container "{who}" in pod "{name}" is waiting to start: {_why_waiting(pod, observed, who, now)}'
        )
    if begun[-1].gone:
        raise bad_request(f'container "{who}" in pod "{name}" is terminated')
    return begun[-1]


def choose_running(pod: core_v1.Pod, observed: Observed, asked: str) -> Instance:
    """The running container meant. Raises 400, or 404 where it does not run."""
    who = choose_member(pod, asked).name
    newest = observed.newest(who)
    if newest is None or not newest.running:
        raise ApiError(404, "NotFound", f'container not found ("{who}")')
    return newest


def _previous(who: str, pod_name: str, held: list[Instance]) -> Instance:
    """The attempt before the present one; where the newest has ended and will be followed by another, that one."""
    ended = [instance for instance in held[:-1] if not instance.gone]
    if not ended and held and held[-1].state == "exited" and not held[-1].gone:
        ended = [held[-1]]
    if not ended:
        raise bad_request(f'previous terminated container "{who}" in pod "{pod_name}" not found')
    return ended[-1]


def _why_waiting(pod: core_v1.Pod, observed: Observed, who: str, now: Moment) -> str:
    status = pod_status(Desired(pod), observed, now, "")
    listed = (*status.containerStatuses, *status.initContainerStatuses, *status.ephemeralContainerStatuses)
    state = next((one.state for one in listed if one.name == who), None)
    reason = state.waiting.reason if state is not None and state.waiting is not None else "ContainerCreating"
    return _WAITING.get(reason, reason)
