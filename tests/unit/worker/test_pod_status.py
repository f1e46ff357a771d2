"""What a pod's status says of what is observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from barque.api.types import core_v1
from barque.client.clock import Clock
from barque.worker.pods import status as pod_statuses
from barque.worker.pods.backoff import Fault
from barque.worker.pods.observed import Instance, Observed, instance_of, remember, to_seconds
from barque.worker.pods.plan import Desired
from barque.worker.runtime.port import ContainerRecord
from tests.support.clock import FakeClock
from tests.support.worker_world import a_container, a_pod

NOW = pod_statuses.Moment(1000.0, "2026-01-01T00:00:00Z")


def an_end(**fields: Any) -> Instance:
    given = {"id": "app", "name": "web", "attempt": 0, "state": "exited", "ended_s": 1000.0}
    return Instance(**(given | fields))


def told(pod: core_v1.Pod, *instances: Instance, now: pod_statuses.Moment = NOW, **fields: Any) -> core_v1.PodStatus:
    found = Observed(**fields)
    for instance in instances:
        found.put(instance, "container" if instance.name else "sandbox")
    return pod_statuses.pod_status(Desired(pod), found, now, "192.168.0.1")


def reasons(status: core_v1.PodStatus) -> tuple[str, str]:
    """The reasons of the first container's state and of its last one."""

    def of(state: core_v1.ContainerState | None) -> str:
        if state is None:
            return ""
        if state.waiting:
            return state.waiting.reason
        return state.terminated.reason if state.terminated else "running"

    container = status.containerStatuses[0]
    return of(container.state), of(container.lastState)


def conditions(status: core_v1.PodStatus) -> dict[str, str]:
    return {c.type: c.status for c in status.conditions}


def test_a_new_pod_is_pending_and_being_created() -> None:
    status = told(a_pod())
    assert status.phase == "Pending"
    assert reasons(status) == ("ContainerCreating", "")
    assert status.startTime == NOW.time
    assert status.qosClass == "BestEffort"
    assert conditions(status) == {
        "PodReadyToStartContainers": "False", "Initialized": "True", "Ready": "False", "ContainersReady": "False",
    }  # fmt: skip
    ready = next(c for c in status.conditions if c.type == "Ready")
    assert ready.message == "containers with unready status: [web]"


def test_conditions_of_others_and_transition_times_are_kept() -> None:
    pod = a_pod()
    pod.status.conditions = [
        core_v1.PodCondition(type="PodScheduled", status="True", lastTransitionTime="2025-01-01T00:00:00Z"),
        core_v1.PodCondition(type="Initialized", status="True", lastTransitionTime="2025-01-01T00:00:00Z"),
    ]
    status = told(pod)
    assert status.conditions[0].type == "PodScheduled"
    assert status.conditions[1].lastTransitionTime == "2025-01-01T00:00:00Z"
    assert [c.lastTransitionTime for c in pod.status.conditions] == ["2025-01-01T00:00:00Z"] * 2


def test_ready_follows_the_readiness_probe() -> None:
    sandbox = Instance(id="sb", name="", attempt=0, state="running")
    running = an_end(state="running", started_at="2026-01-01T00:00:00Z", image_id="sha256:1")
    pod = a_pod("p", a_container(readinessProbe=core_v1.Probe()))
    status = told(pod, sandbox, running, address="10.0.0.2")
    assert (status.phase, status.podIP, conditions(status)["Ready"]) == ("Running", "10.0.0.2", "False")
    status = told(pod, sandbox, running, address="10.0.0.2", ready={"app"})
    assert conditions(status) == {
        "PodReadyToStartContainers": "True", "Initialized": "True", "Ready": "True", "ContainersReady": "True",
    }  # fmt: skip
    container = status.containerStatuses[0]
    assert (container.containerID, container.imageID, container.started) == ("docker://app", "sha256:1", True)


def test_pull_failures_turn_into_back_off() -> None:
    fault = Fault("ErrImagePull", "manifest unknown", 1, 1000.0, 1010.0)
    assert reasons(told(a_pod(), faults={"image/web": fault}))[0] == "ErrImagePull"
    later = pod_statuses.Moment(1003.0, NOW.time)
    status = told(a_pod(), faults={"image/web": fault}, now=later)
    assert reasons(status)[0] == "ImagePullBackOff"
    state = status.containerStatuses[0].state
    assert state is not None
    assert state.waiting is not None
    assert state.waiting.message == 'Back-off pulling image "web:1": ErrImagePull: manifest unknown'


def test_what_is_missing_is_said() -> None:
    fault = Fault("CreateContainerConfigError", 'secret "s" not found', 1, 1000.0, 1010.0)
    assert reasons(told(a_pod(), faults={"container/web": fault}))[0] == "CreateContainerConfigError"


def test_how_containers_end() -> None:
    pod = a_pod(restart="Never")
    assert reasons(told(pod, an_end()))[0] == "Completed"
    assert reasons(told(pod, an_end(exit_code=1)))[0] == "Error"
    assert reasons(told(pod, an_end(exit_code=137, oom_killed=True)))[0] == "OOMKilled"
    assert reasons(told(pod, an_end(exit_code=127, start_error="no such file")))[0] == "StartError"
    assert told(pod, an_end()).phase == "Succeeded"
    assert told(pod, an_end(exit_code=1)).phase == "Failed"
    assert conditions(told(pod, an_end()))["Ready"] == "False"


def test_a_crash_loop_is_named_with_its_delay() -> None:
    status = told(a_pod(), an_end(exit_code=1, attempt=6, streak=5))
    assert reasons(status) == ("CrashLoopBackOff", "Error")
    state = status.containerStatuses[0].state
    assert state is not None
    assert state.waiting is not None
    assert state.waiting.message == "back-off 2m40s restarting failed container=web pod=p_default(uid-p)"
    assert (status.phase, status.containerStatuses[0].restartCount) == ("Running", 6)


def test_a_start_failure_is_shown_before_its_back_off() -> None:
    ended = an_end(exit_code=127, start_error="no such file", streak=1)
    assert reasons(told(a_pod(), ended)) == ("RunContainerError", "StartError")
    later = pod_statuses.Moment(1003.0, NOW.time)
    assert reasons(told(a_pod(), ended, now=later)) == ("CrashLoopBackOff", "StartError")
    found = Observed(containers={"web": [ended]})
    assert pod_statuses.next_change_s(Desired(a_pod()), found, 1000.0) == 1003.0
    assert pod_statuses.next_change_s(Desired(a_pod()), found, 1003.0) is None


def test_a_vanished_container_is_unknown_and_counts() -> None:
    clock: Clock = FakeClock()
    found = Observed(containers={"web": [an_end(state="running")]})
    found.vanish("app", clock)
    gone = found.containers["web"][0]
    assert (gone.gone, gone.exit_code, gone.reason) == (True, 137, "ContainerStatusUnknown")
    created = Observed(containers={"web": [an_end(state="created")]})
    created.vanish("app", clock)
    assert created.containers == {}


def test_what_was_reported_is_remembered_when_nothing_is_left() -> None:
    pod = a_pod()
    running = core_v1.ContainerState(running=core_v1.ContainerStateRunning(startedAt="2026-01-01T00:00:00Z"))
    pod.status.containerStatuses = [
        core_v1.ContainerStatus(name="web", restartCount=4, containerID="docker://old", state=running)
    ]
    found = Observed()
    remember(found, pod, 5.0)
    (last,) = found.containers["web"]
    assert (last.id, last.attempt, last.exit_code, last.gone) == ("old", 4, 137, True)


def test_the_end_of_a_run_is_dated_once() -> None:
    clock = FakeClock()
    record = ContainerRecord(
        "c", "n", {"barque.io/container-name": "web", "barque.io/streak": "2"}, "exited",
        started_at="2025-12-31T23:59:00.123456789Z", finished_at="2025-12-31T23:59:50.5Z",
    )  # fmt: skip
    instance = instance_of(record, clock)
    assert (instance.streak, round(instance.ran_s), instance.ended_s) == (2, 50, -9.5)
    found = Observed()
    found.put(instance, "container")
    found.put(replace(instance, ended_s=77.0), "container")
    assert found.containers["web"][0].ended_s == -9.5
    assert to_seconds("2025-12-31T23:59:00.123456789Z") == "2025-12-31T23:59:00Z"


def test_last_words_share_twelve_kibibytes() -> None:
    apps = [a_container(f"c{n}") for n in range(4)]
    ends = [an_end(id=app.name, name=app.name, exit_code=1, message="é" * 2048) for app in apps]
    status = told(a_pod("p", *apps, restart="Never"), *ends)
    messages = [c.state.terminated.message for c in status.containerStatuses]  # type: ignore[union-attr]
    assert [len(message.encode()) for message in messages] == [3072] * 4


def test_what_a_running_container_has_is_told() -> None:
    given = core_v1.ResourceRequirements(requests={"cpu": "100m"}, limits={"cpu": "1"})
    mount = core_v1.VolumeMount(name="v", mountPath="/v", readOnly=True)
    running = an_end(state="running", started_at="2026-01-01T00:00:00Z")
    (found,) = told(a_pod("p", a_container(resources=given, volumeMounts=[mount])), running).containerStatuses
    assert (found.resources, found.allocatedResources) == (given, {"cpu": "100m"})
    assert found.volumeMounts == [
        core_v1.VolumeMountStatus(name="v", mountPath="/v", readOnly=True, recursiveReadOnly="Disabled")
    ]
