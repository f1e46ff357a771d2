"""Stories of a pod's course: init containers, sidecars, hooks, deadlines, last words, ephemeral containers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from barque.api.types import core_v1
from barque.network.pods.host_ports import PortMapping
from barque.worker.pods import verdict
from barque.worker.probes import Outcome
from barque.worker.runtime.port import LogOptions, LogRecord
from tests.support.worker_world import World, a_container, a_pod, a_world


def a_sidecar(name: str = "proxy", **fields: Any) -> core_v1.Container:
    return a_container(name, restartPolicy="Always", **fields)


def a_hook(*command: str) -> core_v1.LifecycleHandler:
    return core_v1.LifecycleHandler(exec=core_v1.ExecAction(command=list(command)))


def begun(world: World) -> list[str]:
    """The names of the pod's containers in the order in which they were created."""
    names = [call.split("_")[1] for call in world.runtime.calls if call.startswith("create ")]
    return [name for name in names if name != "POD"]


def reason(status: core_v1.ContainerStatus) -> str:
    assert status.state is not None
    if status.state.waiting:
        return status.state.waiting.reason
    return status.state.terminated.reason if status.state.terminated else "running"


def condition(world: World, kind: str) -> core_v1.PodCondition:
    return next(c for c in world.status().conditions if c.type == kind)


async def test_init_containers_run_one_after_another_before_the_apps(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(initContainers=[a_container("first"), a_container("second")]))
        assert begun(world) == ["first"]
        status = world.status()
        assert status.phase == "Pending"
        assert [reason(c) for c in status.initContainerStatuses] == ["running", "PodInitializing"]
        assert reason(status.containerStatuses[0]) == "PodInitializing"
        found = condition(world, "Initialized")
        assert (found.status, found.reason) == ("False", "ContainersNotInitialized")
        assert found.message == "containers with incomplete status: [first second]"
        world.runtime.exit(world.runtime.running("first").id)
        await world.settle()
        assert begun(world) == ["first", "second"]
        assert condition(world, "Initialized").message == "containers with incomplete status: [second]"
        world.runtime.exit(world.runtime.running("second").id)
        await world.settle()
        assert begun(world) == ["first", "second", "web"]
        status = world.status()
        assert (status.phase, world.condition("Initialized"), world.condition("Ready")) == ("Running", "True", "True")
        assert [(c.ready, reason(c)) for c in status.initContainerStatuses] == [(True, "Completed")] * 2


async def test_a_failing_init_container_is_tried_again_with_back_off(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(initContainers=[a_container("init")]))
        world.runtime.exit(world.runtime.running("init").id, 1)
        await world.settle()
        world.runtime.exit(world.runtime.running("init").id, 1)
        await world.settle()
        (status,) = world.status().initContainerStatuses
        assert (reason(status), status.restartCount, world.status().phase) == ("CrashLoopBackOff", 1, "Pending")
        assert begun(world) == ["init", "init"]
        await world.pass_time(10)
        world.runtime.exit(world.runtime.running("init").id)
        await world.settle()
        assert world.status().phase == "Running"
        assert reason(world.status().initContainerStatuses[0]) == "Completed"


async def test_an_init_container_that_fails_for_good_fails_the_pod(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(restart="Never", initContainers=[a_container("init")]))
        world.runtime.exit(world.runtime.running("init").id, 2)
        await world.settle()
        assert world.status().phase == "Failed"
        assert begun(world) == ["init"]
        assert reason(world.status().initContainerStatuses[0]) == "Error"
        assert world.condition("Initialized") == "False"


async def test_init_containers_run_again_in_a_new_sandbox(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(initContainers=[a_container("init")]))
        world.runtime.exit(world.runtime.running("init").id)
        await world.settle()
        world.runtime.lose(world.runtime.named("")[0].record.id)
        for _ in range(3):
            await world.settle()
        assert begun(world) == ["init", "web", "init"]
        world.runtime.exit(world.runtime.running("init").id)
        await world.settle()
        assert world.state() == "running"


async def test_removed_init_containers_do_not_run_again_beside_the_app(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(initContainers=[a_container("init")]))
        world.runtime.exit(world.runtime.running("init").id)
        await world.settle()
        world.runtime.lose(world.runtime.named("init")[0].record.id)
        await world.settle()
        await world.kill()
        await world.start()
        assert begun(world) == ["init", "web"]
        assert world.status().phase == "Running"
        assert reason(world.status().initContainerStatuses[0]) == "Completed"


async def test_a_sidecar_starts_before_what_follows_it_and_runs_beside_it(tmp_path: Path) -> None:
    probe = core_v1.Probe(httpGet=core_v1.HTTPGetAction(port=80), periodSeconds=1)
    async with a_world(tmp_path) as world:
        world.prober.answers["httpGet"] = Outcome(False, "not yet")
        await world.want(a_pod(initContainers=[a_sidecar(startupProbe=probe), a_container("init")]))
        await world.pass_time(0.1)
        assert begun(world) == ["proxy"]
        assert condition(world, "Initialized").message == "containers with incomplete status: [proxy init]"
        world.prober.answers["httpGet"] = Outcome(True)
        await world.pass_time(2)
        assert begun(world) == ["proxy", "init"]
        world.runtime.exit(world.runtime.running("init").id)
        await world.settle()
        assert begun(world) == ["proxy", "init", "web"]
        assert world.status().initContainerStatuses[0].started is True
        assert world.condition("Ready") == "True"


async def test_an_unready_sidecar_makes_the_pod_unready(tmp_path: Path) -> None:
    probe = core_v1.Probe(tcpSocket=core_v1.TCPSocketAction(port=80))
    async with a_world(tmp_path) as world:
        world.prober.answers["tcpSocket"] = Outcome(False, "connection refused")
        await world.want(a_pod(initContainers=[a_sidecar(readinessProbe=probe)]))
        assert world.status().phase == "Running"
        assert condition(world, "ContainersReady").message == "containers with unready status: [proxy]"


async def test_a_sidecar_is_restarted_even_where_nothing_else_is(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(restart="Never", initContainers=[a_sidecar()]))
        world.runtime.exit(world.runtime.running("proxy").id, 1)
        await world.settle()
        assert world.runtime.running("proxy").labels["barque.io/attempt"] == "1"
        assert world.runtime.running("web").labels["barque.io/attempt"] == "0"


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
async def test_sidecars_do_not_keep_a_finished_pod_running(tmp_path: Path, code: int, phase: str) -> None:
    async with a_world(tmp_path) as world:
        world.runtime.ignores_term.add("second")
        await world.want(a_pod(restart="Never", initContainers=[a_sidecar("first"), a_sidecar("second")]))
        first, second = world.runtime.named("first")[0], world.runtime.named("second")[0]
        world.runtime.exit(world.runtime.running("web").id, code)
        await world.settle()
        # In reverse order, the pod running until all are down.
        assert (first.signals, second.signals, world.status().phase) == ([], ["SIGTERM"], "Running")
        world.runtime.exit(second.record.id)
        await world.settle()
        assert first.signals == ["SIGTERM"]
        assert world.status().phase == phase
        assert world.runtime.named("") == []


async def test_a_deleted_pods_sidecars_stop_after_its_apps_in_reverse_order(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.runtime.ignores_term |= {"web", "second", "first"}
        await world.want(a_pod(initContainers=[a_sidecar("first"), a_sidecar("second")]))
        first, second, web = (world.runtime.named(name)[0] for name in ("first", "second", "web"))
        await world.delete("p", grace_s=20)
        assert (web.signals, second.signals, first.signals) == (["SIGTERM"], [], [])
        world.runtime.exit(web.record.id)
        await world.settle()
        assert (second.signals, first.signals) == (["SIGTERM"], [])
        # Its time is up: the last one still gets its signal and a moment.
        await world.pass_time(20)
        assert (second.signals, first.signals) == (["SIGTERM", "SIGKILL"], ["SIGTERM"])
        await world.pass_time(2)
        assert first.signals == ["SIGTERM", "SIGKILL"]
        assert world.runtime.containers == {}


async def test_a_container_counts_as_running_once_its_post_start_hook_is_done(tmp_path: Path) -> None:
    hooks = core_v1.Lifecycle(postStart=core_v1.LifecycleHandler(sleep=core_v1.SleepAction(seconds=5)))
    async with a_world(tmp_path) as world:
        await world.want(a_pod("p", a_container(lifecycle=hooks)))
        assert world.runtime.running("web")
        assert (world.state(), world.status().phase) == ("ContainerCreating", "Pending")
        await world.pass_time(5)
        assert (world.state(), world.status().phase, world.condition("Ready")) == ("running", "Running", "True")


async def test_a_failed_post_start_hook_restarts_the_container(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.prober.answers["warm up"] = Outcome(False, "secret words")
        await world.want(a_pod("p", a_container(lifecycle=core_v1.Lifecycle(postStart=a_hook("warm", "up")))))
        assert world.runtime.named("web")[0].signals == ["SIGTERM"]
        assert ("Warning", "FailedPostStartHook", "PostStartHook failed") in world.recorder.events
        assert ("Normal", "Killing", "FailedPostStartHook") in world.recorder.events
        assert not any("secret words" in message for _, _, message in world.recorder.events)
        world.prober.answers["warm up"] = Outcome(True)
        await world.pass_time(10)
        assert world.state() == "running"


async def test_a_hook_in_progress_does_not_hold_up_a_deletion(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.prober.hanging.add("forever")
        await world.want(a_pod("p", a_container(lifecycle=core_v1.Lifecycle(postStart=a_hook("forever")))))
        await world.delete("p")
        assert world.runtime.containers == {}
        assert "FailedPostStartHook" not in world.recorder.reasons()


async def test_a_restarted_worker_does_not_repeat_the_post_start_hook(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod("p", a_container(lifecycle=core_v1.Lifecycle(postStart=a_hook("once")))))
        await world.kill()
        await world.start()
        assert world.prober.hooks == ["once"]
        assert world.state() == "running"


async def test_the_pre_stop_hook_runs_before_the_signal_and_within_the_grace(tmp_path: Path) -> None:
    hooks = core_v1.Lifecycle(preStop=core_v1.LifecycleHandler(sleep=core_v1.SleepAction(seconds=4)))
    async with a_world(tmp_path) as world:
        world.runtime.ignores_term.add("web")
        await world.want(a_pod("p", a_container(lifecycle=hooks)))
        app = world.runtime.named("web")[0]
        await world.delete("p", grace_s=10)
        await world.pass_time(3)
        assert app.signals == []
        await world.pass_time(1)
        assert app.signals == ["SIGTERM"]
        await world.pass_time(6)
        assert app.signals == ["SIGTERM", "SIGKILL"]
        assert world.recorder.reasons().count("Killing") == 1


async def test_a_hook_that_takes_all_the_time_leaves_two_seconds(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.prober.hanging.add("forever")
        world.runtime.ignores_term.add("web")
        await world.want(a_pod("p", a_container(lifecycle=core_v1.Lifecycle(preStop=a_hook("forever")))))
        app = world.runtime.named("web")[0]
        await world.delete("p", grace_s=5)
        await world.pass_time(5)
        assert app.signals == ["SIGTERM"]
        assert ("Warning", "FailedPreStopHook", "PreStopHook failed") in world.recorder.events
        await world.pass_time(2)
        assert app.signals == ["SIGTERM", "SIGKILL"]


async def test_a_failing_pre_stop_hook_is_told_and_the_signal_follows(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.prober.answers["bye"] = Outcome(False, "no")
        await world.want(a_pod("p", a_container(lifecycle=core_v1.Lifecycle(preStop=a_hook("bye")))))
        await world.delete("p")
        assert "FailedPreStopHook" in world.recorder.reasons()
        assert world.runtime.containers == {}


async def test_a_pod_whose_time_is_up_fails(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(activeDeadlineSeconds=60))
        await world.pass_time(59)
        assert world.status().phase == "Running"
        await world.pass_time(1)
        status = world.status()
        words = "Pod was active on the node longer than the specified deadline"
        assert (status.phase, status.reason, status.message) == ("Failed", "DeadlineExceeded", words)
        assert ("Normal", "DeadlineExceeded", words) in world.recorder.events
        assert not [c for c in world.runtime.containers.values() if c.record.state == "running"]


async def test_a_deadline_holds_across_a_restart_of_the_worker(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(activeDeadlineSeconds=60))
        await world.kill()
        await world.clock.advance(60)
        await world.start()
        assert world.status().reason == "DeadlineExceeded"


async def test_a_pod_with_an_unsafe_sysctl_is_refused(tmp_path: Path) -> None:
    context = core_v1.PodSecurityContext(sysctls=[core_v1.Sysctl(name="kernel.msgmax", value="65536")])
    async with a_world(tmp_path) as world:
        await world.want(a_pod(securityContext=context))
        status = world.status()
        words = 'forbidden sysctl: "kernel.msgmax" not allowlisted'
        assert (status.phase, status.reason) == ("Failed", "SysctlForbidden")
        assert status.message == f"Pod was rejected: {words}"
        assert world.recorder.events == [("Warning", "SysctlForbidden", words)]
        assert world.runtime.containers == {}


async def test_last_words_come_from_the_log_after_a_silent_failure(tmp_path: Path) -> None:
    container = a_container(terminationMessagePolicy="FallbackToLogsOnError")
    async with a_world(tmp_path) as world:
        await world.want(a_pod("p", container, restart="Never"))
        app = world.runtime.running("web")
        read = world.runtime.logs

        async def slowly(container_id: str, options: LogOptions) -> AsyncGenerator[LogRecord, None]:
            await world.clock.sleep(1)
            async for line in read(container_id, options):
                yield line

        world.runtime.logs = slowly  # type: ignore[method-assign]
        world.runtime.exit(app.id, 1)
        await world.settle()
        # An end is not told before its words are known.
        assert world.status().phase == "Running"
        await world.pass_time(1)
        end = world.status().containerStatuses[0].state.terminated  # type: ignore[union-attr]
        assert end is not None
        assert (world.status().phase, end.message) == ("Failed", f"log of {app.name}\n")


async def test_a_message_file_goes_before_the_log_and_its_end_counts(tmp_path: Path) -> None:
    container = a_container(terminationMessagePolicy="FallbackToLogsOnError")
    async with a_world(tmp_path) as world:
        await world.want(a_pod("p", container, restart="Never"))
        (world.root / "uid-p/ends/web/0").write_text("x" * 5000 + "the end")
        world.runtime.exit(world.runtime.running("web").id, 1)
        await world.settle()
        end = world.status().containerStatuses[0].state.terminated  # type: ignore[union-attr]
        assert end is not None
        assert (len(end.message), end.message[-7:]) == (4096, "the end")
        assert not [call for call in world.runtime.calls if call.startswith("logs")]


async def test_an_ephemeral_container_joins_runs_once_and_counts_for_nothing(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        web = world.runtime.running("web")
        debugged = world.masters.pod("p")
        debugged.spec.ephemeralContainers = [
            core_v1.EphemeralContainer(
                name="debug", image="web:1", imagePullPolicy="IfNotPresent", targetContainerName="web", tty=True
            )
        ]
        await world.want(debugged)
        (debug,) = world.runtime.named("debug")
        assert (debug.spec.processes_of, debug.spec.tty) == (web.id, True)
        assert reason(world.status().ephemeralContainerStatuses[0]) == "running"
        world.runtime.exit(debug.record.id, 1)
        await world.pass_time(60)
        assert len(world.runtime.named("debug")) == 1
        assert reason(world.status().ephemeralContainerStatuses[0]) == "Error"
        assert (world.status().phase, world.condition("Ready")) == ("Running", "True")


async def test_a_pod_with_a_fault_in_one_container_leaves_the_others_alone(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.runtime.unstartable["bad"] = 'exec: "nope": executable file not found in $PATH'
        await world.want(a_pod("p", a_container(), a_container("bad")))
        await world.want(a_pod("other"))
        await world.pass_time(60)
        assert world.runtime.named("web")[0].signals == []
        assert [c.restartCount for c in world.status().containerStatuses[:1]] == [0]
        assert world.status("other").phase == "Running"


async def test_a_containers_own_restart_policy_goes_before_the_pods(tmp_path: Path) -> None:
    rule = core_v1.ContainerRestartRule(
        action="Restart", exitCodes=core_v1.ContainerRestartRuleOnExitCodes(operator="In", values=[42])
    )
    async with a_world(tmp_path) as world:
        own = a_container(restartPolicy="Never", restartPolicyRules=[rule])
        await world.want(a_pod("p", own, a_container("other"), restart="Always"))
        world.runtime.exit(world.runtime.running("web").id, 42)
        await world.settle()
        assert world.runtime.running("web").labels["barque.io/attempt"] == "1"
        world.runtime.exit(world.runtime.running("web").id, 1)
        await world.pass_time(60)
        assert [world.state(), world.state(container=1)] == ["Error", "running"]
        assert world.status().phase == "Running"


async def test_readiness_gates_are_told_apart(tmp_path: Path) -> None:
    gates = [core_v1.PodReadinessGate(conditionType=kind) for kind in ("a.io/x", "a.io/y")]
    async with a_world(tmp_path) as world:
        await world.want(a_pod(readinessGates=gates))
        changed = world.masters.pod("p")
        changed.status.conditions.append(core_v1.PodCondition(type="a.io/y", status="False"))
        await world.want(changed)
        found = condition(world, "Ready")
        assert (found.status, found.reason) == ("False", "ReadinessGatesNotReady")
        assert found.message == (
            'corresponding condition of pod readiness gate "a.io/x" does not exist., '
            'the status of pod readiness gate "a.io/y" is not "True", but False'
        )
        assert world.condition("ContainersReady") == "True"


async def test_events_name_the_container_they_are_about(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(initContainers=[a_sidecar()]))
        assert world.recorder.events[-1] == ("Normal", "Started", "Container started")
        assert set(world.recorder.about) == {"spec.initContainers{proxy}", "spec.containers{web}"}


async def test_a_pod_on_the_hosts_network_has_its_address_and_no_link(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(hostNetwork=True, hostPID=True, hostIPC=True))
        assert (world.status().podIP, world.network.held) == ("192.168.0.1", {})
        for container in (world.runtime.named("")[0].spec, world.runtime.named("web")[0].spec):
            assert (container.host_network, container.host_pid, container.host_ipc) == (True, True, True)
        assert (
            (world.root / "uid-p/etc/hosts").read_text().startswith("# Kubernetes-managed hosts file (host network).")
        )


async def test_host_ports_lead_to_the_pod_and_to_no_second_one(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        ports = [core_v1.ContainerPort(containerPort=80, hostPort=8080, protocol="TCP", hostIP="127.0.0.1")]
        await world.want(a_pod("p", a_container(ports=ports)))
        assert world.network.ports["uid-p"] == (PortMapping(8080, 80, "TCP", "127.0.0.1"),)
        await world.want(a_pod("q", a_container(ports=ports)))
        words = "Failed to create pod sandbox: host port 127.0.0.1:8080/TCP is already used by pod uid-p"
        assert ("Warning", "FailedCreatePodSandBox", words) in world.recorder.events
        await world.delete("p")
        await world.pass_time(60)
        assert world.status("q").phase == "Running"


async def test_a_pod_removed_by_force_still_stops_in_order_with_its_hooks(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.runtime.ignores_term.add("web")
        hooks = core_v1.Lifecycle(preStop=a_hook("bye"))
        await world.want(a_pod("p", a_container(lifecycle=hooks), initContainers=[a_sidecar()]))
        web, proxy = world.runtime.named("web")[0], world.runtime.named("proxy")[0]
        gone = world.masters.pod("p")
        world.masters.remove(gone)
        world.manager.handle_pod(gone, None)
        await world.settle()
        assert (world.prober.hooks, web.signals, proxy.signals) == (["bye"], ["SIGTERM"], [])
        world.runtime.exit(web.record.id)
        await world.settle()
        assert proxy.signals == ["SIGTERM"]
        assert world.runtime.containers == {}


@pytest.mark.parametrize(
    ("name", "spec", "why"),
    [
        ("net.ipv4.tcp_syncookies", {}, ""),
        ("net/ipv4/tcp_syncookies", {}, ""),
        ("kernel.shm_rmid_forced", {}, ""),
        ("net.core.somaxconn", {}, '"net.core.somaxconn" not allowlisted'),
        (
            "net.ipv4.tcp_syncookies",
            {"hostNetwork": True},
            '"net.ipv4.tcp_syncookies" not allowed with host net enabled',
        ),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, '"kernel.shm_rmid_forced" not allowed with host ipc enabled'),
    ],
)
def test_sysctls_that_are_safe(name: str, spec: dict[str, Any], why: str) -> None:
    context = core_v1.PodSecurityContext(sysctls=[core_v1.Sysctl(name=name, value="1")])
    refused = verdict.admit(a_pod("p", securityContext=context, **spec))
    assert (refused.event if refused else "") == (f"forbidden sysctl: {why}" if why else "")
