"""What a worker knows of one pod's containers, read from their labels; the input of `plan` and of `status`.

`Observed` is owned by the pod's runner, which changes it as things happen; `plan` and `status` only read it. A
container that vanished after it had run stays in it as `gone`: neither its exit nor its attempt is forgotten.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from barque.api.types import core_v1
from barque.client.clock import Clock, timestamp
from barque.worker import labels
from barque.worker.pods.backoff import Fault
from barque.worker.pods.verdict import Verdict
from barque.worker.runtime.port import ContainerRecord, Limits, State

# What a worker reports for a container that vanished without a trace of its exit: as if killed.
LOST_EXIT_CODE = 137
LOST_REASON = "ContainerStatusUnknown"
LOST_MESSAGE = "The container could not be located when the pod was checked"
_FRACTION = re.compile(r"(\.\d{1,6})\d*")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One attempt of a container, or of the sandbox. `ended_s` is in monotonic seconds, the others are RFC 3339."""

    id: str
    name: str
    attempt: int
    state: State
    streak: int = 0
    sandbox: str = ""
    config_hash: str = ""
    hash_version: str = ""
    image: str = ""
    image_id: str = ""
    pid: int = 0
    netns: str = ""
    exit_code: int = 0
    oom_killed: bool = False
    start_error: str = ""
    started_at: str = ""
    finished_at: str = ""
    ended_s: float = 0.0
    ran_s: float = 0.0
    stop_signal: str = ""
    grace_s: float = labels.DEFAULT_GRACE_S
    message: str = ""
    reason: str = ""
    gone: bool = False
    # Those in effect; None where they are not known.
    limits: Limits | None = None

    @property
    def running(self) -> bool:
        return self.state == "running" and not self.gone


VolumeState = Literal["absent", "ready", "removed"]


@dataclass
class Observed:
    """Everything known of one pod on this node.

    `killing` says by when each container that was told to stop must have; `unhealthy` holds the ids whose liveness
    probe or postStart hook failed, with the words for it; `ready` the ids whose readiness probe succeeds; `started`
    those past their startup probe.
    """

    sandboxes: list[Instance] = field(default_factory=list)
    containers: dict[str, list[Instance]] = field(default_factory=dict)
    address: str = ""
    volumes: VolumeState = "absent"
    volumes_due_s: float = 0.0
    network_detached: bool = False
    confirmed: bool = False
    # Containers whose image is on this node for the next attempt: the image's id.
    images: dict[str, str] = field(default_factory=dict)
    # By subject: "volumes", "sandbox", "network", "image/<name>", "container/<name>", ...
    faults: dict[str, Fault] = field(default_factory=dict)
    killing: dict[str, float] = field(default_factory=dict)
    # Until when to wait for a SIGKILL to show before sending another.
    killed_until: dict[str, float] = field(default_factory=dict)
    unhealthy: dict[str, str] = field(default_factory=dict)
    # Told to stop, or about to be: their preStop hook has begun.
    stopping: set[str] = field(default_factory=set)
    # Told to stop only when their time was up.
    late: set[str] = field(default_factory=set)
    # Whose preStop hook has ended, and whose postStart hook has succeeded.
    prestopped: set[str] = field(default_factory=set)
    poststarted: set[str] = field(default_factory=set)
    # Ended with a fault and without a word: their log is to be read for one, once.
    unread: set[str] = field(default_factory=set)
    # Why this node ends the pod.
    verdict: Verdict | None = None
    ready: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)
    # Subjects of instructions being carried out at this moment.
    busy: set[str] = field(default_factory=set)

    @property
    def sandbox(self) -> Instance | None:
        """The newest sandbox there is."""
        return next((s for s in reversed(self.sandboxes) if not s.gone), None)

    def newest(self, name: str) -> Instance | None:
        found = self.containers.get(name)
        return found[-1] if found else None

    def instances(self) -> list[Instance]:
        """All attempts of all containers, without sandboxes."""
        return [instance for found in self.containers.values() for instance in found]

    def running(self) -> list[Instance]:
        """The running attempt of each container that has one: init and ephemeral containers, too."""
        return list({instance.name: instance for instance in self.instances() if instance.running}.values())

    def put(self, instance: Instance, role: str) -> None:
        """Take in what the runtime says of one container."""
        held = self.sandboxes if role == labels.SANDBOX_ROLE else self.containers.setdefault(instance.name, [])
        at = next((i for i, known in enumerate(held) if known.id == instance.id), None)
        if at is None:
            held.append(instance)
            held.sort(key=lambda i: i.attempt)
        else:
            # The end of a run is dated once, whatever the clock of the day does later; so is what it left to say.
            known = held[at]
            if known.state == "exited" == instance.state:
                instance = replace(instance, ended_s=known.ended_s, message=known.message)
            held[at] = instance

    def tell_words(self, container_id: str, said: str) -> None:
        """Take in what a container that ended had left to say."""
        self.unread.discard(container_id)
        for held in self.containers.values():
            for at, known in enumerate(held):
                if known.id == container_id and not known.message:
                    held[at] = replace(known, message=said)

    def vanish(self, container_id: str, clock: Clock) -> None:
        """Take in that a container is no more. One that never ran is forgotten, one that did becomes `gone`."""
        for ids in (self.ready, self.started, self.stopping, self.late, self.prestopped, self.poststarted, self.unread):
            ids.discard(container_id)
        for by_id in (self.killing, self.killed_until, self.unhealthy):
            by_id.pop(container_id, None)
        self.sandboxes = [s for s in self.sandboxes if s.id != container_id]
        for name, held in self.containers.items():
            for at, known in enumerate(held):
                if known.id != container_id:
                    continue
                if known.state == "created" or known is not held[-1]:
                    del held[at]
                elif known.state == "running":
                    started = parse_time(known.started_at)
                    ran_s = max(0.0, (clock.wall() - started).total_seconds()) if started else 0.0
                    held[at] = replace(known, state="exited", gone=True, exit_code=LOST_EXIT_CODE, reason=LOST_REASON,
                                       message=LOST_MESSAGE, ended_s=clock.monotonic(), ran_s=ran_s,
                                       finished_at=timestamp(clock.wall()))  # fmt: skip
                else:
                    held[at] = replace(known, gone=True)
                break
            else:
                continue
            if not held:
                del self.containers[name]
            return


class Owner(NamedTuple):
    """Whose a container is."""

    uid: str
    namespace: str
    name: str


def owner_of(found: Mapping[str, str]) -> Owner:
    return Owner(found.get(labels.POD_UID, ""), found.get(labels.POD_NAMESPACE, ""), found.get(labels.POD_NAME, ""))


def instance_of(record: ContainerRecord, clock: Clock) -> Instance:
    """An instance from a record of one of our containers."""
    found = record.labels
    ran_s, ended_s = 0.0, 0.0
    if record.state == "exited":
        ended, started = parse_time(record.finished_at), parse_time(record.started_at)
        if ended and started:
            ran_s = max(0.0, (ended - started).total_seconds())
        age_s = max(0.0, (clock.wall() - ended).total_seconds()) if ended else 0.0
        ended_s = clock.monotonic() - age_s
    return Instance(
        id=record.id,
        name=found.get(labels.CONTAINER_NAME, ""),
        attempt=_number(found.get(labels.ATTEMPT)),
        state=record.state,
        streak=_number(found.get(labels.STREAK)),
        sandbox=found.get(labels.SANDBOX, ""),
        config_hash=found.get(labels.CONFIG_HASH, ""),
        hash_version=found.get(labels.CONFIG_HASH_VERSION, ""),
        image=record.image,
        image_id=record.image_id,
        pid=record.pid,
        netns=record.netns,
        exit_code=record.exit_code,
        oom_killed=record.oom_killed,
        start_error=record.error if record.state == "exited" and not record.started_at else "",
        started_at=to_seconds(record.started_at),
        finished_at=to_seconds(record.finished_at),
        ended_s=ended_s,
        ran_s=ran_s,
        stop_signal=record.stop_signal,
        limits=record.limits,
        grace_s=float(_number(found.get(labels.GRACE), labels.DEFAULT_GRACE_S)),
    )


def remember(observed: Observed, pod: core_v1.Pod, now: float) -> None:
    """Fill in, from the pod's last reported status, the containers that are no longer there."""
    reported = pod.status
    for status in (
        *reported.initContainerStatuses,
        *reported.containerStatuses,
        *reported.ephemeralContainerStatuses,
    ):
        if not status.containerID or status.name in observed.containers:
            continue
        ended = status.state.terminated if status.state else None
        if ended is None and status.state and status.state.waiting and status.lastState:
            ended = status.lastState.terminated
        terminated = ended or core_v1.ContainerStateTerminated(
            exitCode=LOST_EXIT_CODE, reason=LOST_REASON, message=LOST_MESSAGE
        )
        observed.containers[status.name] = [
            Instance(
                id=status.containerID.partition("://")[2],
                name=status.name,
                attempt=status.restartCount,
                state="exited",
                image=status.image,
                image_id=status.imageID,
                exit_code=terminated.exitCode,
                reason=terminated.reason,
                message=terminated.message,
                started_at=terminated.startedAt,
                finished_at=terminated.finishedAt,
                ended_s=now,
                gone=True,
            )
        ]


def parse_time(text: str) -> datetime.datetime | None:
    """RFC 3339 with up to nanoseconds, as Docker writes it."""
    if not text:
        return None
    return datetime.datetime.fromisoformat(_FRACTION.sub(r"\1", text).replace("Z", "+00:00"))


def to_seconds(text: str) -> str:
    """The same moment as `metav1.Time`."""
    found = parse_time(text)
    return timestamp(found.astimezone(datetime.UTC)) if found else ""


def _number(text: str | None, otherwise: int = 0) -> int:
    return int(text) if text and text.isdecimal() else otherwise
