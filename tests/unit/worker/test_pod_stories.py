"""Stories of pods on a node: wanted, running, crashing, deleted, forgotten, taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from barque.api.types import core_v1
from barque.worker.probes import Outcome
from barque.worker.runtime.port import ContainerRecord, RuntimeFault
from tests.support.clock import settle
from tests.support.worker_world import a_container, a_pod, a_world


async def test_a_wanted_pod_runs(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        status = world.status()
        assert status.phase == "Running"
        assert status.podIP == "10.244.0.2"
        assert status.hostIP == "192.168.0.1"
        assert world.condition("Ready") == "True"
        assert world.recorder.reasons() == ["Pulled", "Created", "Started"]
        app = world.runtime.running("web")
        assert status.containerStatuses[0].containerID == f"docker://{app.id}"
        assert "10.244.0.2\tp\n" in (tmp_path / "pods/uid-p/etc/hosts").read_text()


async def test_the_sandbox_is_made_while_the_image_is_pulled(tmp_path: Path) -> None:
    async with a_world(tmp_path, images=(), registry=("web:1",)) as world:
        await world.want(a_pod())
        calls = world.runtime.calls
        assert calls.index("pull web:1") < calls.index(next(c for c in calls if c.startswith("start")))
        assert world.state() == "running"
        assert world.recorder.reasons()[:2] == ["Pulling", "Pulled"]


async def test_no_container_is_looked_at_needlessly(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.runtime.calls.clear()
        await world.want(a_pod())
        kinds = [call.split()[0] for call in world.runtime.calls]
        assert sorted(kinds) == ["create", "create", "image", "inspect", "inspect", "start", "start"]


async def test_a_crash_is_restarted_at_once_then_ever_later(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        world.runtime.exit(world.runtime.running("web").id, 1)
        await world.settle()
        assert world.status().containerStatuses[0].restartCount == 1
        for delay_s in (10, 20, 40, 80, 160, 300, 300):
            world.runtime.exit(world.runtime.running("web").id, 1)
            await world.settle()
            assert world.state() == "CrashLoopBackOff"
            assert world.status().phase == "Running"
            last = world.status().containerStatuses[0].lastState
            assert last is not None
            assert last.terminated is not None
            assert last.terminated.exitCode == 1
            await world.pass_time(delay_s - 1)
            assert world.state() == "CrashLoopBackOff"
            await world.pass_time(1)
            assert world.state() == "running"
        assert "BackOff" in world.recorder.reasons()
        # Of all attempts, the running one and the one before it are kept.
        assert len(world.runtime.named("web")) == 2


async def test_ten_minutes_of_running_end_a_crash_loop(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        for _ in range(3):
            world.runtime.exit(world.runtime.running("web").id, 1)
            await world.pass_time(40)
        await world.pass_time(600)
        world.runtime.exit(world.runtime.running("web").id, 1)
        await world.settle()
        assert world.state() == "running"


async def test_a_job_that_succeeds_is_not_run_again(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(restart="OnFailure"))
        world.runtime.exit(world.runtime.running("web").id, 3)
        await world.settle()
        assert world.status().phase == "Running"
        world.runtime.exit(world.runtime.running("web").id, 0)
        await world.settle()
        assert world.status().phase == "Succeeded"
        assert world.state() == "Completed"
        assert world.condition("Ready") == "False"
        assert world.runtime.named("") == []
        assert world.network.held == {}
        assert len(world.runtime.named("web")) >= 1


async def test_a_pod_that_is_never_restarted_fails(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod(restart="Never"))
        world.runtime.exit(world.runtime.running("web").id, 137, oom=True)
        await world.settle()
        assert world.status().phase == "Failed"
        assert world.state() == "OOMKilled"


async def test_a_deleted_pod_stops_gracefully_and_leaves_nothing(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        app = world.runtime.named("web")[0]
        await world.delete("p")
        assert app.signals == ["SIGTERM"]
        assert world.runtime.containers == {}
        assert world.network.held == {}
        assert list(world.root.iterdir()) == []
        assert world.masters.deleted == [("p", {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-p"}})]


async def test_what_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.runtime.ignores_term.add("web")
        await world.want(a_pod())
        app = world.runtime.named("web")[0]
        await world.delete("p", grace_s=5)
        await world.pass_time(4.9)
        assert app.signals == ["SIGTERM"]
        await world.pass_time(0.1)
        assert app.signals == ["SIGTERM", "SIGKILL"]
        assert world.runtime.containers == {}


async def test_deleting_again_without_grace_kills_at_once(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.runtime.ignores_term.add("web")
        await world.want(a_pod())
        await world.delete("p", grace_s=500)
        await world.delete("p", grace_s=0)
        assert world.runtime.containers == {}


async def test_a_pod_deleted_while_its_image_is_pulled_goes(tmp_path: Path) -> None:
    async with a_world(tmp_path, images=()) as world:
        await world.want(a_pod())
        assert world.state() == "ErrImagePull"
        await world.delete("p")
        assert world.masters.deleted != []
        assert world.runtime.containers == {}


async def test_an_absent_image_is_told_and_tried_again(tmp_path: Path) -> None:
    async with a_world(tmp_path, images=()) as world:
        await world.want(a_pod())
        assert world.state() == "ErrImagePull"
        assert "pull access denied" in world.status().containerStatuses[0].state.waiting.message  # type: ignore[union-attr]
        await world.pass_time(3)
        assert world.state() == "ImagePullBackOff"
        assert world.recorder.reasons() == ["Pulling", "Failed", "Failed", "BackOff", "Failed"]
        world.runtime.registry.add("web:1")
        await world.pass_time(7)
        assert world.state() == "running"


async def test_never_pulling_says_so(tmp_path: Path) -> None:
    async with a_world(tmp_path, images=(), registry=("web:1",)) as world:
        await world.want(a_pod("p", a_container(imagePullPolicy="Never")))
        assert world.state() == "ErrImageNeverPull"


async def test_always_pulls_even_what_is_here(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod("p", a_container(imagePullPolicy="Always")))
        assert world.state() == "ErrImagePull"


async def test_a_missing_config_map_holds_the_container_back_until_it_is_there(tmp_path: Path) -> None:
    reference = core_v1.EnvFromSource(configMapRef=core_v1.ConfigMapEnvSource(name="settings"))
    async with a_world(tmp_path) as world:
        await world.want(a_pod("p", a_container(envFrom=[reference])))
        assert world.state() == "CreateContainerConfigError"
        waiting = world.status().containerStatuses[0].state.waiting  # type: ignore[union-attr]
        assert waiting is not None
        assert waiting.message == 'configmap "settings" not found'
        config_map = core_v1.ConfigMap(data={"COLOUR": "red"})
        config_map.metadata.name, config_map.metadata.namespace = "settings", "default"
        world.masters.put(config_map)
        await world.pass_time(5)
        assert world.state() == "running"
        assert "COLOUR=red" in world.runtime.named("web")[0].spec.env


async def test_a_command_that_cannot_run_is_told_in_the_engines_words(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.runtime.unstartable["web"] = 'exec: "nope": executable file not found in $PATH'
        await world.want(a_pod())
        assert world.state() == "RunContainerError"
        await world.pass_time(4)
        assert world.state() == "CrashLoopBackOff"
        last = world.status().containerStatuses[0].lastState
        assert last is not None
        assert last.terminated is not None
        assert (last.terminated.reason, last.terminated.exitCode) == ("StartError", 127)


async def test_a_container_removed_behind_the_workers_back_returns(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        world.runtime.lose(world.runtime.running("web").id)
        await world.settle()
        assert world.state() == "running"
        assert world.status().containerStatuses[0].restartCount == 1


async def test_a_dead_sandbox_is_replaced_with_its_address_kept(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        old = world.runtime.named("")[0].record.id
        world.runtime.lose(old)
        await world.settle()
        await world.settle()
        assert world.state() == "running"
        assert world.status().podIP == "10.244.0.2"
        app = world.runtime.running("web")
        assert world.runtime.containers[app.id].spec.sandbox == world.runtime.named("")[0].record.id != old


async def test_a_restarted_worker_adopts_and_restarts_nothing(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        probe = core_v1.Probe(httpGet=core_v1.HTTPGetAction(port=80), periodSeconds=10)
        await world.want(a_pod("p", a_container(readinessProbe=probe)))
        await world.pass_time(1)
        assert world.condition("Ready") == "True"
        before = dict(world.runtime.containers)
        await world.kill()
        world.runtime.calls.clear()
        world.masters.writes.clear()
        await world.start()
        await world.pass_time(30)
        assert world.runtime.containers == before
        assert not [c for c in world.runtime.calls if c.startswith(("create", "start", "signal", "remove"))]
        assert world.condition("Ready") == "True"
        assert world.masters.patches == []


async def test_a_worker_killed_between_create_and_start_finishes(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        app = world.runtime.named("web")[0]
        await world.kill()
        app.record = app.record._replace(state="created", started_at="", pid=0)
        await world.start()
        assert world.runtime.running("web").id == app.record.id


async def test_nothing_unknown_is_removed_before_the_first_sync(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        await world.kill()
        world.masters.remove(world.masters.pod("p"))
        await world.start(synced=False)
        await world.pass_time(300)
        assert world.runtime.running("web")
        # Not even when one of its containers ends meanwhile.
        world.runtime.exit(world.runtime.running("web").id)
        await world.pass_time(300)
        assert len(world.runtime.containers) == 2
        await world.sync()
        assert world.runtime.containers == {}
        assert world.network.held == {}
        assert list(world.root.iterdir()) == []


async def test_cached_pods_are_kept_up_while_the_masters_are_away(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        cached = [world.masters.pod("p")]
        await world.kill()
        world.masters.down = True
        await world.start(synced=False, cached=cached)
        world.runtime.exit(world.runtime.running("web").id, 1)
        await world.settle()
        assert world.runtime.running("web").labels["barque.io/attempt"] == "1"
        world.masters.down = False
        await world.pass_time(10)
        assert world.status().containerStatuses[0].restartCount == 1


async def test_an_engine_that_restarts_is_waited_for(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        world.runtime.stop_engine(kill_containers=True)
        await world.pass_time(30)
        assert world.health[-1] != ""
        world.runtime.start_engine()
        await world.pass_time(5)
        assert world.health[-1] == ""
        assert world.state() == "running"
        assert world.status().containerStatuses[0].restartCount == 1


async def test_an_engine_that_leaves_while_it_is_looked_through_is_waited_for(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        world.runtime.stop_engine(kill_containers=True)
        await world.pass_time(5)
        world.runtime.leaves_at = "inspect"
        world.runtime.start_engine()
        await world.pass_time(5)
        assert world.runtime.leaves_at == ""
        assert world.health[-1] != ""
        world.runtime.start_engine()
        await world.pass_time(5)
        assert world.health[-1] == ""
        assert world.state() == "running"


async def test_a_container_that_the_engine_cannot_tell_about_harms_its_own_pod_alone(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod("hurt"))
        await world.want(a_pod("well"))
        await world.kill()
        hurt = next(c.record.id for c in world.runtime.named("web") if "_hurt_" in c.record.name)
        inspect = world.runtime.inspect

        async def damaged(container_id: str) -> ContainerRecord:
            if container_id == hurt:
                raise RuntimeFault("layer does not exist")
            return await inspect(container_id)

        world.runtime.inspect = damaged  # type: ignore[method-assign]
        await world.start()
        assert world.health[-1] == ""
        assert world.state("well") == "running"
        assert world.status("well").containerStatuses[0].restartCount == 0


async def test_a_failing_liveness_probe_restarts_the_container(tmp_path: Path) -> None:
    probe = core_v1.Probe(httpGet=core_v1.HTTPGetAction(port=80), periodSeconds=5, failureThreshold=3)
    async with a_world(tmp_path) as world:
        await world.want(a_pod("p", a_container(livenessProbe=probe)))
        world.prober.answers["httpGet"] = Outcome(False, "HTTP probe failed with statuscode: 500")
        await world.pass_time(5)
        await world.pass_time(5)
        assert world.status().containerStatuses[0].restartCount == 0
        await world.pass_time(5)
        assert world.status().containerStatuses[0].restartCount == 1
        assert world.runtime.named("web")[0].signals == ["SIGTERM"]
        assert (
            "Warning",
            "Unhealthy",
            "Liveness probe failed: HTTP probe failed with statuscode: 500",
        ) in world.recorder.events
        assert ("Normal", "Killing", "Container web failed liveness probe, will be restarted") in world.recorder.events


async def test_readiness_moves_the_conditions_at_once(tmp_path: Path) -> None:
    probe = core_v1.Probe(tcpSocket=core_v1.TCPSocketAction(port=80), periodSeconds=10, failureThreshold=1)
    async with a_world(tmp_path) as world:
        world.prober.answers["tcpSocket"] = Outcome(False, "connection refused")
        await world.want(a_pod("p", a_container(readinessProbe=probe)))
        assert world.state() == "running"
        assert (world.condition("Ready"), world.condition("ContainersReady")) == ("False", "False")
        world.prober.answers["tcpSocket"] = Outcome(True)
        await world.pass_time(10)
        assert world.condition("Ready") == "True"
        world.prober.answers["tcpSocket"] = Outcome(False, "connection refused")
        await world.pass_time(10)
        assert world.condition("Ready") == "False"


async def test_a_new_image_replaces_the_container(tmp_path: Path) -> None:
    async with a_world(tmp_path, images=("web:1", "web:2")) as world:
        await world.want(a_pod())
        changed = world.masters.pod("p")
        changed.spec.containers[0].image = "web:2"
        await world.want(changed)
        await world.settle()
        assert world.runtime.running("web").image == "web:2"
        assert world.status().containerStatuses[0].restartCount == 1
        assert ("Normal", "Killing", "Container web definition changed, will be restarted") in world.recorder.events


async def test_a_status_somebody_else_changed_is_put_right(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        doubted = world.masters.pod("p")
        next(c for c in doubted.status.conditions if c.type == "Ready").status = "False"
        await world.want(doubted)
        assert world.condition("Ready") == "True"


async def test_many_pods_start_and_all_run(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        for index in range(40):
            await world.want(a_pod(f"p{index}"))
        await world.settle()
        assert {world.status(f"p{index}").phase for index in range(40)} == {"Running"}
        assert len({world.status(f"p{index}").podIP for index in range(40)}) == 40


async def test_an_address_that_comes_while_volumes_are_made_is_in_hosts(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:

        async def slowly(work: Any, *args: Any) -> Any:
            done = work(*args)
            await settle(100)
            return done

        world.parts.blocking = slowly
        await world.want(a_pod())
        await world.settle()
        assert world.state() == "running"
        assert "10.244.0.2\tp\n" in (tmp_path / "pods/uid-p/etc/hosts").read_text()


async def test_pods_of_one_absent_image_share_its_back_off(tmp_path: Path) -> None:
    async with a_world(tmp_path, images=()) as world:
        await world.want(a_pod("a"))
        await world.pass_time(5)
        await world.want(a_pod("b"))
        assert world.state("b") in ("ErrImagePull", "ImagePullBackOff")
        assert world.runtime.calls.count("pull web:1") == 1
        await world.pass_time(5)
        assert world.runtime.calls.count("pull web:1") == 2
