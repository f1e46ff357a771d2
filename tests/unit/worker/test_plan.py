"""`plan` as a table: what is, what is wanted, what comes next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from barque.api.types import core_v1
from barque.worker.pods.backoff import Fault
from barque.worker.pods.config import HASH_VERSION, config_hash
from barque.worker.pods.observed import Instance, Observed
from barque.worker.pods.plan import (
    AttachNetwork,
    ConfirmDeletion,
    CreateContainer,
    CreateSandbox,
    Desired,
    DetachNetwork,
    EnsureImage,
    KillContainer,
    PrepareVolumes,
    RemoveContainer,
    RemoveVolumes,
    StartContainer,
    StartSandbox,
    StopContainer,
    Wake,
    is_done,
    plan,
)
from tests.support.worker_world import a_container, a_pod

NOW = 1000.0
NEVER = float("inf")


def a_sandbox(**fields: Any) -> Instance:
    return Instance(**({"id": "sb", "name": "", "attempt": 0, "state": "running", "netns": "/proc/7/ns/net"} | fields))


def an_app(**fields: Any) -> Instance:
    given = {
        "id": "app",
        "name": "web",
        "attempt": 0,
        "state": "running",
        "sandbox": "sb",
        "hash_version": HASH_VERSION,
    }
    return Instance(**(given | {"config_hash": config_hash(a_container())} | fields))


def observed(*instances: Instance, **fields: Any) -> Observed:
    given: dict[str, Any] = {"address": "10.0.0.2", "volumes": "ready", "volumes_due_s": NEVER}
    found = Observed(**(given | fields))
    for instance in instances:
        found.put(instance, "container" if instance.name else "sandbox")
    return found


def steps(found: Observed, pod: core_v1.Pod | None = None, **desired: Any) -> list[Any]:
    return [
        s for s in plan(Desired(pod or a_pod(), **desired), found, NOW) if not (isinstance(s, Wake) and s.at_s == NEVER)
    ]


def test_at_first_everything_independent_begins_at_once() -> None:
    assert steps(Observed()) == [PrepareVolumes(), CreateSandbox(0), EnsureImage("image/web", "web")]


def test_a_created_sandbox_is_started_while_its_container_is_created() -> None:
    found = observed(a_sandbox(state="created"), address="", images={"web": "sha256:1"})
    assert steps(found) == [StartSandbox("sb"), CreateContainer("container/web", "web", 0, 0, "sb")]


def test_a_container_whose_environment_names_the_address_waits_for_it() -> None:
    field = core_v1.EnvVarSource(fieldRef=core_v1.ObjectFieldSelector(fieldPath="status.podIP"))
    pod = a_pod("p", a_container(env=[core_v1.EnvVar(name="IP", valueFrom=field)]))
    assert steps(observed(a_sandbox(), address="", images={"web": "x"}), pod) == [AttachNetwork("/proc/7/ns/net")]
    assert steps(observed(a_sandbox(), images={"web": "x"}), pod) == [
        CreateContainer("container/web", "web", 0, 0, "sb")
    ]


def test_nothing_is_started_before_it_has_address_and_volumes() -> None:
    assert steps(observed(a_sandbox(), an_app(state="created"), address="")) == [AttachNetwork("/proc/7/ns/net")]
    assert steps(observed(a_sandbox(), an_app(state="created"), volumes="absent")) == [PrepareVolumes()]
    assert steps(observed(a_sandbox(), an_app(state="created"))) == [StartContainer("container/web", "web", "app")]


def test_what_is_busy_is_not_begun_again() -> None:
    assert steps(replace(Observed(), busy={"sandbox", "volumes", "image/web"})) == []


def test_a_fault_is_waited_out() -> None:
    fault = Fault("ErrImagePull", "no", 1, NOW, NOW + 10)
    found = observed(a_sandbox(), faults={"image/web": fault})
    assert steps(found) == [Wake(NOW + 10)]
    assert plan(Desired(a_pod()), found, NOW + 10) == [EnsureImage("image/web", "web"), Wake(NEVER)]


def test_a_running_pod_needs_nothing() -> None:
    assert steps(observed(a_sandbox(), an_app())) == []


def test_volumes_are_refreshed_when_due() -> None:
    assert steps(observed(a_sandbox(), an_app(), volumes_due_s=NOW)) == [PrepareVolumes()]


def test_a_changed_definition_replaces_unless_the_hash_is_of_another_version() -> None:
    changed = an_app(config_hash="other")
    (stop,) = steps(observed(a_sandbox(), changed))
    assert stop == StopContainer("container/web", "web", "app", "SIGTERM", NOW + 30, "definition changed")
    assert steps(observed(a_sandbox(), replace(changed, hash_version="0"))) == []


def test_a_failed_liveness_probe_uses_its_own_grace() -> None:
    probe = core_v1.Probe(terminationGracePeriodSeconds=3)
    pod = a_pod("p", a_container(livenessProbe=probe))
    (stop,) = steps(observed(a_sandbox(), an_app(), unhealthy={"app": "failed liveness probe"}), pod)
    assert stop.kill_at_s == NOW + 3


def test_a_container_is_told_to_stop_once_and_killed_when_due() -> None:
    found = observed(a_sandbox(), an_app(config_hash="other"), killing={"app": NOW + 5})
    assert steps(found) == [Wake(NOW + 5)]
    found.killing["app"] = NOW
    assert steps(found) == [KillContainer("container/web", "web", "app")]
    found.killed_until["app"] = NOW + 2
    assert steps(found) == [Wake(NOW + 2)]


def test_an_image_s_own_stop_signal_is_respected() -> None:
    found = observed(a_sandbox(), an_app(stop_signal="SIGQUIT"))
    assert steps(found, stopping=True, kill_at_s=NOW + 9)[0].signal == "SIGQUIT"


def test_restarts_follow_policy_and_back_off() -> None:
    ended = an_app(state="exited", exit_code=0, attempt=2, streak=2, ended_s=NOW, ran_s=5)
    found = observed(a_sandbox(), ended)
    assert steps(found) == [Wake(NOW + 20)]
    assert EnsureImage("image/web", "web") in plan(Desired(a_pod()), found, NOW + 20)
    found.images["web"] = "x"
    assert CreateContainer("container/web", "web", 3, 3, "sb") in plan(Desired(a_pod()), found, NOW + 20)
    two = a_pod("p", a_container(), a_container("other"), restart="OnFailure")
    assert not [s for s in plan(Desired(two), found, NOW + 99) if getattr(s, "container", "") == "web"]


def test_only_the_last_end_is_kept() -> None:
    first, second = an_app(id="a", state="exited"), an_app(id="b", state="exited", attempt=1)
    found = observed(a_sandbox(), first, second, an_app(id="c", attempt=2))
    assert steps(found) == [RemoveContainer("remove/a", "a")]


def test_containers_of_a_dead_sandbox_stop_before_a_new_one_is_made() -> None:
    found = observed(a_sandbox(state="exited"), an_app(), address="")
    assert [type(s) for s in steps(found)] == [RemoveContainer, StopContainer]
    ended = observed(a_sandbox(state="exited"), an_app(state="exited", ended_s=NOW - 99), address="")
    assert CreateSandbox(1) in steps(ended)


def test_containers_of_a_dead_sandbox_have_two_seconds_at_most() -> None:
    dead = a_sandbox(state="exited")

    def deadline(found: Observed, pod: core_v1.Pod) -> float:
        return next(step.kill_at_s for step in steps(found, pod) if isinstance(step, StopContainer))

    for lost in (observed(dead, an_app(), address=""), observed(an_app(), address="")):
        assert deadline(lost, a_pod()) == NOW + 2
        assert deadline(lost, a_pod(terminationGracePeriodSeconds=1)) == NOW + 1
    stray = observed(an_app(id="old", name="old"), address="")
    assert deadline(stray, a_pod()) == NOW + 2
    # Told before to stop by a later moment, for another reason: it has been told, and has no network now.
    told = observed(dead, an_app(), address="", killing={"app": NOW + 25})
    assert KillContainer("container/web", "web", "app") in steps(told)
    told.killing["app"] = NOW + 1
    assert Wake(NOW + 1) in steps(told)


def test_a_container_created_in_a_sandbox_that_is_gone_is_removed() -> None:
    found = observed(a_sandbox(id="sb2", attempt=1), an_app(state="created"))
    assert steps(found) == [RemoveContainer("remove/app", "app")]


def test_a_pod_that_has_ended_gives_up_all_but_its_logs() -> None:
    pod = a_pod(restart="Never")
    found = observed(a_sandbox(), an_app(state="exited", exit_code=1))
    assert steps(found, pod) == [RemoveContainer("remove/sb", "sb")]
    found.sandboxes.clear()
    assert steps(found, pod) == [DetachNetwork(), RemoveVolumes()]
    found.network_detached, found.volumes = True, "removed"
    assert steps(found, pod) == []


def test_removal_goes_in_order() -> None:
    found = observed(a_sandbox(), an_app())
    wanted: dict[str, Any] = {"stopping": True, "kill_at_s": NOW + 5}
    assert [type(s) for s in steps(found, **wanted)] == [StopContainer]
    found.put(an_app(state="exited"), "container")
    assert steps(found, **wanted) == [RemoveContainer("remove/sb", "sb"), RemoveContainer("remove/app", "app")]
    found.sandboxes.clear()
    found.containers.clear()
    found.busy = {"container/web"}
    assert steps(found, **wanted) == []
    found.busy = set()
    assert steps(found, **wanted) == [DetachNetwork(), RemoveVolumes()]
    found.network_detached, found.volumes = True, "removed"
    assert steps(found, **wanted) == [ConfirmDeletion()]
    assert not is_done(Desired(a_pod(), stopping=True), found)
    found.confirmed = True
    assert is_done(Desired(a_pod(), stopping=True), found)


def test_an_unknown_pod_is_removed_without_asking_anyone() -> None:
    found = observed(a_sandbox(), an_app(state="exited"))
    assert [type(s) for s in plan(Desired(None), found, NOW)] == [RemoveContainer, RemoveContainer]
    bare = Observed(network_detached=True, volumes="removed")
    assert plan(Desired(None), bare, NOW) == []
    assert is_done(Desired(None), bare)


def test_containers_the_pod_does_not_name_are_stopped_then_removed() -> None:
    stray = an_app(id="old", name="old")
    (stop,) = steps(observed(a_sandbox(), an_app(), stray))
    assert (type(stop), stop.id, stop.why) == (StopContainer, "old", "its pod does not name it")
    ended = replace(stray, state="exited")
    assert steps(observed(a_sandbox(), an_app(), ended)) == [RemoveContainer("remove/old", "old")]


def test_a_failed_startup_probe_uses_its_own_grace_and_not_the_liveness_probes() -> None:
    probes = {"startupProbe": core_v1.Probe(terminationGracePeriodSeconds=7), "livenessProbe": core_v1.Probe()}
    pod = a_pod("p", a_container(**probes))
    (stop,) = steps(observed(a_sandbox(), an_app(), unhealthy={"app": "failed startup probe"}), pod)
    assert stop.kill_at_s == NOW + 7
    (stop,) = steps(observed(a_sandbox(), an_app(), unhealthy={"app": "x"}, started={"app"}), pod)
    assert stop.kill_at_s == NOW + 30
