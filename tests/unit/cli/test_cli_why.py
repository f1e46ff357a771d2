"""`barque why`: one screen for each way in which a pod may not run."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api.types import core_v1
from barque.cli.diagnosis import Diagnosis, diagnose
from tests.support.builders import EventBuilder, PodBuilder, a_deployment, a_node, a_pod
from tests.support.registry_cluster import RegistryCluster, run

NODE = a_node("n1").ready().build()


def told(pod: PodBuilder, *events: tuple[str, str], node: Any = NODE) -> Diagnosis:
    built = pod.build()
    made = [
        EventBuilder(f"e{i}", built).says("Warning", reason, message).build()
        for i, (reason, message) in enumerate(events)
    ]
    return diagnose(built, made, node)


def states(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(finding.part, finding.state) for finding in diagnosis.findings]


def test_a_pod_that_no_node_can_take() -> None:
    full = "0/3 nodes are available: 3 Insufficient cpu."
    found = told(a_pod("web-1").phase("Pending"), ("FailedScheduling", full), node=None)
    assert found.headline == "pod/web-1 is Pending: no node can take it"
    assert found.findings[0].words == full
    assert found.advice == ("barque describe nodes", "barque describe pod web-1")
    assert told(a_pod("web-1")).headline == "pod/web-1 is Pending: it waits for a node"
    gated = a_pod("web-1").with_spec(schedulingGates=[core_v1.PodSchedulingGate(name="quota")])
    assert told(gated).findings[0].words == "scheduling gates: quota"


def test_a_pod_whose_node_does_not_answer_or_is_gone() -> None:
    lost = a_node("n1").unknown().build()
    found = told(a_pod("web-1").on("n1").phase("Pending"), node=lost)
    assert found.headline == "pod/web-1 is Pending: its node n1 is not ready"
    assert found.advice[0] == "barque describe node n1"
    assert told(a_pod("web-1").on("n1"), node=None).headline.endswith("its node n1 is gone")
    well = told(a_pod("web-1").on("n1").ready(), node=lost)
    assert well.headline == "pod/web-1 runs and is ready, but not well: its node n1 is not ready"


def test_an_image_that_cannot_be_pulled() -> None:
    pod = a_pod("web-1").container("web", "web:9").on("n1").waiting("ImagePullBackOff", "Back-off pulling image")
    found = told(pod)
    assert found.headline == "pod/web-1 is Pending: the image web:9 cannot be pulled"
    assert ("image web:9", "failed") in states(found)


def test_a_container_that_crashes_again_and_again() -> None:
    pod = a_pod("web-1").container("web").on("n1").waiting("CrashLoopBackOff", "back-off 10s", restarts=4).build()
    ended = core_v1.ContainerStateTerminated(exitCode=2, reason="Error", message="starting\nno such table: users\n")
    pod.status.containerStatuses[0].lastState = core_v1.ContainerState(terminated=ended)
    pod.status.phase = "Running"
    found = diagnose(pod, [], NODE)
    assert found.headline == "pod/web-1 runs, but is not ready: container web ends again and again"
    assert found.findings[-1].words == "exit code 2: no such table: users; 4 restarts"
    assert found.advice[0] == "barque logs -p web-1 -c web"


def test_volumes_and_sandbox_before_the_container_that_waits_for_them() -> None:
    pod = a_pod("web-1").on("n1").waiting("ContainerCreating")
    lacking = 'MountVolume.SetUp failed for volume "conf" : configmap "web" not found'
    found = told(pod, ("FailedMount", lacking))
    assert found.headline == "pod/web-1 is Pending: its volumes cannot be mounted"
    assert found.findings[2].words == f"FailedMount: {lacking}"
    sandbox = told(pod, ("FailedCreatePodSandBox", "Failed to create pod sandbox: no address left"))
    assert sandbox.headline.endswith("its network or sandbox cannot be made")


def test_a_container_that_lacks_what_it_needs() -> None:
    found = told(a_pod("web-1").on("n1").waiting("CreateContainerConfigError", 'secret "db" not found'))
    assert found.headline == "pod/web-1 is Pending: container main cannot be started"
    assert found.findings[-1].words == 'CreateContainerConfigError: secret "db" not found'


def test_a_probe_that_fails() -> None:
    pod = a_pod("web-1").on("n1").running().build()
    pod.status.containerStatuses[0].ready = False
    unhealthy = EventBuilder("e", pod).says("Warning", "Unhealthy", "Readiness probe failed: HTTP 503").build()
    found = diagnose(pod, [unhealthy], NODE)
    assert found.headline == "pod/web-1 runs, but is not ready: the readiness probe of container main does not succeed"
    assert found.findings[-1].words == "Readiness probe failed: HTTP 503"
    pod.spec.containers[0].startupProbe, pod.status.containerStatuses[0].started = core_v1.Probe(), False
    assert "the startup probe" in diagnose(pod, [unhealthy], NODE).headline


def test_an_init_container_that_has_not_finished() -> None:
    pod = a_pod("web-1").on("n1").waiting("PodInitializing").build()
    pod.spec.initContainers = [core_v1.Container(name="migrate", image="web:1")]
    running = core_v1.ContainerState(running=core_v1.ContainerStateRunning(startedAt="2026-01-01T00:00:00Z"))
    pod.status.initContainerStatuses = [
        core_v1.ContainerStatus(name="migrate", state=running, containerID="docker://1")
    ]
    found = diagnose(pod, [], NODE)
    assert found.headline == "pod/web-1 is Pending: init container migrate has not finished"
    assert states(found)[-2:] == [("init container migrate", "waiting"), ("container main", "waiting")]
    assert found.advice[0] == "barque logs web-1 -c migrate"


def test_pods_that_have_ended() -> None:
    assert told(a_pod("job").on("n1").succeeded()).headline.startswith("pod/job has done its work")
    evicted = a_pod("job").on("n1").failed().with_status(reason="Evicted", message="The node was low on memory")
    assert told(evicted).headline == "pod/job is Failed: it was ended: Evicted"


def test_a_pod_that_is_well_or_going() -> None:
    well = told(a_pod("web-1").on("n1").ready())
    assert well.headline == "pod/web-1 runs and is ready"
    assert well.advice == ()
    going = told(a_pod("web-1").on("n1").ready().deleting("2026-01-01T00:00:00Z"))
    assert going.headline == "pod/web-1 is being deleted since 2026-01-01T00:00:00Z"


def test_a_gate_that_is_shut() -> None:
    pod = a_pod("web-1").on("n1").ready().with_spec(readinessGates=[core_v1.PodReadinessGate(conditionType="lb/ok")])
    assert told(pod).headline == "pod/web-1 runs, but is not ready: its readiness gate lb/ok is shut"


def test_the_screen() -> None:
    pod = a_pod("web-1").labelled(app="web").on("n1").waiting("ErrImagePull", "pull access denied").build()
    cluster = RegistryCluster(NODE, pod, a_deployment("web").build())
    result = run(cluster, "why", "deployment/web")
    assert result.stdout.splitlines() == [
        "pod/web-1 is Pending: the image web:1 cannot be pulled",
        "",
        "PART          STATE    WHY",
        "scheduling    ok       on node n1",
        "node          ok       n1 is ready",
        "image web:1   failed   ErrImagePull: pull access denied",
        "",
        "More:",
        "  barque describe pod web-1",
    ]
    assert result.exit_code == 0
    assert set(cluster.verbs_called()) <= {"get", "list"}


@pytest.mark.parametrize(("what", "said"), [("web-9", 'pods "web-9" not found'), ("configmap/x", "has no pods")])
def test_what_cannot_be_asked(what: str, said: str) -> None:
    result = run(RegistryCluster(), "why", what)
    assert said in result.stderr
    assert result.exit_code == 1
