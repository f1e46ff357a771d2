"""Pods on a real dockerd: made, watched, entered, killed, adopted, removed; nothing stays behind.

The pod network is a fake, so the host's own network is not touched; its mounts are, under a temporary directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import pytest

from barque.api.errors import ApiError
from barque.api.types import core_v1
from barque.client.clock import SystemClock
from barque.deploy.images import build_busybox, busybox
from barque.worker import labels
from barque.worker.actions import HostProber
from barque.worker.mounts import KernelMounter
from barque.worker.pods.config import NodeFacts
from barque.worker.pods.observed import Instance
from barque.worker.runtime.docker_runtime import DockerRuntime
from barque.worker.runtime.port import (
    Changed,
    ContainerNotFoundError,
    ContainerSpec,
    ExecOptions,
    ImageMissingError,
    Limits,
    LogOptions,
    LogRecord,
    NameTakenError,
    PullError,
    Resync,
    RuntimeFault,
    RuntimeUnavailableError,
)
from tests.support import dockerd
from tests.support.expecting import expect_soon_async
from tests.support.worker_world import World, a_container, a_pod

HOST = dockerd.HOST
IMAGE = "barque-test/busybox:runtime"
TIMEOUT_S = 60.0
T = TypeVar("T")


def _missing() -> str:
    try:
        busybox()
    except FileNotFoundError as error:
        return str(error)
    return dockerd.missing()


_WHY = _missing()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(_WHY), reason=_WHY), pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def _image() -> Iterator[None]:
    with dockerd.running():
        build_busybox(HOST, IMAGE)
        yield


@pytest.fixture
async def cluster() -> AsyncIterator[str]:
    """A cluster's name of this test's own; its containers go when the test ends."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    await remove_containers(name)


async def remove_containers(cluster: str) -> None:
    """Whatever a worker was still at when it was killed: to make one, or to remove one itself."""

    def removed() -> bool:
        left = held_by(cluster)
        with contextlib.closing(docker.APIClient(base_url=HOST)) as api:
            for container in left:
                # Gone by now, or on its way.
                with contextlib.suppress(docker.errors.APIError):
                    api.remove_container(container, force=True)
        return not left

    await expect_soon(removed, "the containers are gone")


def held_by(cluster: str) -> set[str]:
    """The ids of all containers of a cluster, running or not."""
    with contextlib.closing(docker.APIClient(base_url=HOST)) as api:
        found = api.containers(all=True, filters={"label": f"{labels.CLUSTER}={cluster}"})
        return {entry["Id"] for entry in found}


@pytest.fixture
async def runtime(cluster: str) -> AsyncIterator[DockerRuntime]:
    made = DockerRuntime(HOST, cluster, "n1")
    await made.prepare()
    yield made
    await made.close()


async def expect_soon(look: Callable[[], Awaitable[T] | T], what: str) -> T:
    """Wait until `look` finds something true."""
    return await expect_soon_async(look, TIMEOUT_S, what)


def spec(cluster: str, name: str, sandbox: str = "", **fields: Any) -> ContainerSpec:
    marks = {labels.CLUSTER: cluster, labels.NODE: "n1"}
    image = fields.pop("image", IMAGE)
    return ContainerSpec(name=f"{cluster}_{name}", image=image, labels=marks, sandbox=sandbox, **fields)


async def a_sandbox(runtime: DockerRuntime, cluster: str) -> str:
    made = await runtime.create(spec(cluster, "POD", image=runtime.sandbox_image, hostname="the-pod"))
    await runtime.start(made)
    return made


async def a_running(runtime: DockerRuntime, cluster: str, *command: str, **fields: Any) -> str:
    sandbox = await a_sandbox(runtime, cluster)
    made = await runtime.create(spec(cluster, "app", sandbox, command=command, **fields))
    await runtime.start(made)
    return made


async def output(runtime: DockerRuntime, container: str, *command: str, **options: Any) -> tuple[str, str, int]:
    session = await runtime.exec(container, ExecOptions(command, **options))
    said = {"stdout": b"", "stderr": b""}
    async for stream, data in session.output():
        said[stream] += data
    code = await session.exit_code()
    await session.close()
    return said["stdout"].decode(), said["stderr"].decode(), code


# The runtime port.


async def test_a_container_shares_its_sandboxs_name_and_network(runtime: DockerRuntime, cluster: str) -> None:
    app = await a_running(
        runtime, cluster, "/bin/sleep", "100", limits=Limits(nano_cpus=500_000_000, memory_bytes=1 << 25)
    )
    record = await runtime.inspect(app)
    (sandbox,) = [s for s in await runtime.list() if s.id != app]
    pids = [record.pid, (await runtime.inspect(sandbox.id)).pid]
    for kind in ("net", "ipc"):
        assert len({os.readlink(f"/proc/{pid}/ns/{kind}") for pid in pids}) == 1
    assert await output(runtime, app, "hostname") == ("the-pod\n", "", 0)
    out, _, _ = await output(runtime, app, "ls", "/sys/class/net")
    assert "eth0" not in out
    with contextlib.closing(docker.APIClient(base_url=HOST)) as api:
        raw = api.inspect_container(app)["HostConfig"]
    assert (raw["NanoCpus"], raw["Memory"], raw["RestartPolicy"]["Name"]) == (500_000_000, 1 << 25, "no")


async def test_the_sandbox_reaps_orphans_and_stops_at_once(runtime: DockerRuntime, cluster: str) -> None:
    sandbox = await a_sandbox(runtime, cluster)
    app = await runtime.create(
        spec(cluster, "app", sandbox, share_processes=True, command=("/bin/sh", "-c", "(sleep 999 &) ; sleep 999"))
    )
    await runtime.start(app)
    pid = (await runtime.inspect(sandbox)).pid

    def orphans() -> list[str]:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    await expect_soon(orphans, "the orphan is the sandbox's child")
    for orphan in orphans():
        os.kill(int(orphan), signal.SIGKILL)
    await expect_soon(lambda: not orphans(), "the orphan is reaped")
    await runtime.signal(sandbox, "SIGTERM")

    async def ended() -> bool:
        return (await runtime.inspect(sandbox)).state == "exited"

    await expect_soon(ended, "the sandbox stops at SIGTERM")
    assert (await runtime.inspect(sandbox)).exit_code == 0


async def test_exit_codes_and_times_are_told(runtime: DockerRuntime, cluster: str) -> None:
    app = await a_running(runtime, cluster, "/bin/sh", "-c", "exit 7")

    async def ended() -> bool:
        return (await runtime.inspect(app)).state == "exited"

    await expect_soon(ended, "the container ends")
    record = await runtime.inspect(app)
    assert record.exit_code == 7
    assert record.started_at
    assert record.finished_at
    assert not record.oom_killed


async def test_a_command_that_is_not_there_is_told_in_dockers_words(runtime: DockerRuntime, cluster: str) -> None:
    sandbox = await a_sandbox(runtime, cluster)
    app = await runtime.create(spec(cluster, "app", sandbox, command=("/nope",)))
    with pytest.raises(RuntimeFault, match="nope"):
        await runtime.start(app)
    record = await runtime.inspect(app)
    assert record.state == "exited"
    assert record.exit_code == 127
    assert "nope" in record.error


async def test_refusals_have_types(runtime: DockerRuntime, cluster: str) -> None:
    sandbox = await a_sandbox(runtime, cluster)
    with pytest.raises(NameTakenError):
        await runtime.create(spec(cluster, "POD", image=runtime.sandbox_image))
    with pytest.raises(ImageMissingError, match="No such image"):
        await runtime.create(spec(cluster, "app", sandbox, image="barque-test/not-there:1"))
    with pytest.raises(ContainerNotFoundError):
        await runtime.inspect("0" * 64)
    await runtime.remove("0" * 64)
    await runtime.signal("0" * 64, "SIGKILL")
    assert await runtime.image("barque-test/not-there:1") is None


async def test_an_engine_that_is_not_there_is_said_to_be_unavailable(cluster: str) -> None:
    away = DockerRuntime("unix:///nonexistent/docker.sock", cluster, "n1")
    with pytest.raises(RuntimeUnavailableError, match=r"/nonexistent/docker\.sock"):
        await away.list()
    with pytest.raises(RuntimeUnavailableError):
        await away.pull("x:1")
    await away.close()


async def test_an_image_nobody_serves_cannot_be_pulled(runtime: DockerRuntime) -> None:
    # Port 1 of loopback refuses at once: a registry that is not there.
    with pytest.raises(PullError):
        await runtime.pull("127.0.0.1:1/nobody/nothing:1")


async def test_ends_and_removals_are_told_as_they_happen(runtime: DockerRuntime, cluster: str) -> None:
    events = runtime.watch()
    assert await anext(events) == Resync()
    app = await a_running(runtime, cluster, "/bin/sleep", "100")
    await runtime.signal(app, "SIGKILL")
    assert await asyncio.wait_for(anext(events), TIMEOUT_S) == Changed(app)
    await runtime.remove(app)
    assert await asyncio.wait_for(anext(events), TIMEOUT_S) == Changed(app, gone=True)
    await events.aclose()


async def test_logs_of_both_streams_with_tail_and_follow(runtime: DockerRuntime, cluster: str) -> None:
    # Each is said once the one before has been read: Docker keeps the order within a stream alone.
    script = "echo one; read x; echo two >&2; read x; echo three; read x; echo four; read x"
    app = await a_running(runtime, cluster, "/bin/sh", "-c", script, stdin=True)
    keyboard = await runtime.attach(app, stdin=True)

    async def read(**options: Any) -> list[LogRecord]:
        return [record async for record in runtime.logs(app, LogOptions(**options))]

    followed = []
    async with asyncio.timeout(TIMEOUT_S):
        async for record in runtime.logs(app, LogOptions(follow=True)):
            followed.append(record)
            await keyboard.write(b"\n")
    await keyboard.close()
    assert [record.data for record in followed] == [b"one\n", b"two\n", b"three\n", b"four\n"]
    assert await read(tail_lines=1) == followed[-1:]
    assert await read(since=followed[2].time) == followed[2:]


async def test_commands_take_input_and_give_output_and_a_code(runtime: DockerRuntime, cluster: str) -> None:
    app = await a_running(runtime, cluster, "/bin/sleep", "100")
    assert await output(runtime, app, "/bin/sh", "-c", "echo out; echo err >&2; exit 3") == ("out\n", "err\n", 3)
    session = await runtime.exec(app, ExecOptions(["/bin/cat"], stdin=True))
    await session.write(b"a" * 300_000)
    await session.end_input()
    assert sum([len(data) async for _, data in session.output()]) == 300_000
    assert await session.exit_code() == 0
    await session.close()
    terminal = await runtime.exec(app, ExecOptions(["/bin/sh"], stdin=True, tty=True, columns=77, rows=33))
    await terminal.write(b"exit 5\n")
    assert b"exit 5" in b"".join([data async for _, data in terminal.output()])
    assert await terminal.exit_code() == 5
    await terminal.close()


async def test_a_container_that_has_ended_is_not_attached_to(runtime: DockerRuntime, cluster: str) -> None:
    app = await a_running(runtime, cluster, "/bin/sleep", "100")
    session = await runtime.attach(app, stdin=False)
    await session.close()
    await runtime.signal(app, "KILL")
    async with asyncio.timeout(TIMEOUT_S):
        while (await runtime.inspect(app)).state != "exited":
            await asyncio.sleep(0.02)
    with pytest.raises(RuntimeFault, match="the container has ended"):
        await asyncio.wait_for(runtime.attach(app, stdin=False), 30)


# The whole worker side of a pod, on real containers.


class RealWorld(World):
    """The world of fakes with a real engine, real mounts and a real clock in it."""

    sandboxes: Path | None = None

    def __init__(self, tmp_path: Path, cluster: str) -> None:
        self._cluster = cluster
        super().__init__(tmp_path)

    def _make(self) -> None:
        self.clock = SystemClock()  # type: ignore[assignment]
        self.mounter = KernelMounter()  # type: ignore[assignment]
        self.docker = DockerRuntime(HOST, self._cluster, "n1", sandboxes=self.sandboxes)
        self.runtime = self.docker  # type: ignore[assignment]
        super()._make()
        self.parts.node = NodeFacts(self._cluster, "n1", "node-uid", 8 * 1024**3)
        self.parts.prober = HostProber(self.docker)
        self.parts.blocking = asyncio.to_thread

    async def settle(self) -> None:
        await asyncio.sleep(0)

    async def kill(self) -> None:
        killed = self.docker
        await super().kill()
        await killed.close()

    def ids(self) -> set[str]:
        return held_by(self._cluster)

    async def adopted(self) -> bool:
        """Whether the worker knows the pod's container and that it runs."""
        with contextlib.suppress(ApiError):
            return bool(self.app())
        return False

    def app(self, name: str = "p") -> Instance:
        return self.manager.find("default", name, "app", running=True)

    async def leave(self) -> None:
        """End the worker for good, and with it every mount of its pods'."""
        await self.kill()
        # A thread that was filling a volume goes on, and would mount it after the last mounts were looked for.
        await asyncio.get_running_loop().shutdown_default_executor()
        mounts = KernelMounter()
        for mount in mounts.mounts_under(self.root):
            mounts.unmount(mount)


@pytest.fixture
async def world(tmp_path: Path, cluster: str) -> AsyncIterator[RealWorld]:
    made = RealWorld(tmp_path, cluster)
    await made.start()
    yield made
    await made.leave()


def a_sleeper(**fields: Any) -> core_v1.Container:
    script = "trap 'exit 0' TERM; while true; do sleep 0.1; done"
    return a_container("app", IMAGE, command=["/bin/sh", "-c", script], **fields)


async def until(world: RealWorld, state: str, name: str = "p") -> None:
    def reached() -> bool:
        statuses = world.status(name).containerStatuses
        return bool(statuses) and world.state(name) == state

    await expect_soon(reached, f"{name} is {state}")


def uid() -> str:
    return str(uuid.uuid4())


async def test_a_pod_with_volumes_and_variables_lives_and_leaves_nothing(world: RealWorld, tmp_path: Path) -> None:
    config_map = core_v1.ConfigMap(data={"greeting": "hello", "COLOUR": "red"})
    secret = core_v1.Secret(data={"password": "czNjcjN0"})
    for obj, name in ((config_map, "settings"), (secret, "keys")):
        obj.metadata.name, obj.metadata.namespace = name, "default"
        world.masters.put(obj)
    own_name = core_v1.ObjectFieldSelector(fieldPath="metadata.name")
    pod = a_pod(
        "p",
        a_sleeper(
            env=[
                core_v1.EnvVar(name="WHO", valueFrom=core_v1.EnvVarSource(fieldRef=own_name)),
                core_v1.EnvVar(name="SAY", value="I am $(WHO)"),
            ],
            envFrom=[core_v1.EnvFromSource(configMapRef=core_v1.ConfigMapEnvSource(name="settings"))],
            volumeMounts=[
                core_v1.VolumeMount(name="settings", mountPath="/settings"),
                core_v1.VolumeMount(name="keys", mountPath="/keys"),
                core_v1.VolumeMount(name="scratch", mountPath="/scratch"),
                core_v1.VolumeMount(name="fast", mountPath="/fast"),
            ],
        ),
        uid=uid(),
        volumes=[
            core_v1.Volume(name="settings", configMap=core_v1.ConfigMapVolumeSource(name="settings")),
            core_v1.Volume(name="keys", secret=core_v1.SecretVolumeSource(secretName="keys", defaultMode=0o400)),
            core_v1.Volume(name="scratch", emptyDir=core_v1.EmptyDirVolumeSource()),
            core_v1.Volume(name="fast", emptyDir=core_v1.EmptyDirVolumeSource(medium="Memory")),
        ],
    )  # fmt: skip
    await world.want(pod)
    await until(world, "running")
    app = world.manager.find("default", "p", "app", running=True).id
    script = "cat /settings/greeting /keys/password; echo; echo $SAY $COLOUR; echo > /scratch/a; echo > /fast/b; "
    script += "hostname; cat /etc/hosts"
    out, err, code = await output(world.docker, app, "/bin/sh", "-c", script)
    assert (err, code) == ("", 0)
    assert out.splitlines()[:3] == ["hellos3cr3t", "I am p red", "p"]
    assert f"{world.status().podIP}\tp" in out
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    kinds = {words[4]: words[words.index("-") + 1] for words in lines}
    home = tmp_path.resolve() / "pods" / pod.metadata.uid / "volumes"
    assert kinds[str(home / "keys")] == kinds[str(home / "fast")] == "tmpfs"
    await world.delete("p", grace_s=10)
    await expect_soon(lambda: world.masters.deleted, "the pod is confirmed gone")
    assert world.ids() == set()
    assert list((tmp_path / "pods").iterdir()) == []
    assert KernelMounter().mounts_under(tmp_path) == []
    assert world.network.held == {}


async def test_a_killed_process_comes_back_and_its_end_is_kept(world: RealWorld) -> None:
    await world.want(a_pod("p", a_sleeper(), uid=uid()))
    await until(world, "running")
    first = world.manager.find("default", "p", "app", running=True)
    os.kill(first.pid, signal.SIGKILL)
    await expect_soon(lambda: world.status().containerStatuses[0].restartCount == 1, "the container is restarted")
    await until(world, "running")
    last = world.status().containerStatuses[0].lastState
    assert last is not None
    assert last.terminated is not None
    assert last.terminated.exitCode == 137
    assert world.manager.find("default", "p", "app", previous=True).id == first.id


async def test_a_killed_worker_takes_over_what_runs(world: RealWorld) -> None:
    await world.want(a_pod("p", a_sleeper(), uid=uid()))
    await until(world, "running")
    before = world.ids()
    app = world.manager.find("default", "p", "app", running=True)
    await world.kill()
    await world.start()
    await expect_soon(world.adopted, "the container is adopted")
    await asyncio.sleep(0.5)
    assert world.ids() == before
    assert world.app().pid == app.pid
    # What ends while no worker looks is noticed by the next one.
    await world.kill()
    os.kill(app.pid, signal.SIGKILL)
    await world.start()
    await expect_soon(lambda: world.status().containerStatuses[0].restartCount == 1, "the lost container is restarted")


async def test_a_removed_container_and_a_removed_sandbox_return(world: RealWorld) -> None:
    await world.want(a_pod("p", a_sleeper(), uid=uid()))
    await until(world, "running")
    address = world.status().podIP
    api = docker.APIClient(base_url=HOST)
    api.remove_container(world.manager.find("default", "p", "app").id, force=True)
    await expect_soon(lambda: world.status().containerStatuses[0].restartCount == 1, "the container is back")
    await until(world, "running")
    (sandbox,) = api.containers(filters={"label": [f"{labels.CLUSTER}={world._cluster}", f"{labels.ROLE}=sandbox"]})
    api.remove_container(sandbox["Id"], force=True)
    await expect_soon(lambda: world.status().containerStatuses[0].restartCount == 2, "the pod is back")
    await until(world, "running")
    assert world.status().podIP == address
    api.close()


async def test_a_command_that_ends_before_its_terminal_is_sized_is_answered(
    runtime: DockerRuntime, cluster: str
) -> None:
    app = await a_running(runtime, cluster, "/bin/sleep", "100")
    for _ in range(10):
        answer = await output(runtime, app, "/bin/echo", "ahoy", tty=True, columns=90, rows=20)
        assert answer == ("ahoy\r\n", "", 0)


async def test_a_dead_sandbox_costs_a_pod_seconds_and_not_its_grace_period(world: RealWorld) -> None:
    stubborn = a_container("app", IMAGE, command=["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    await world.want(a_pod("p", stubborn, uid=uid(), terminationGracePeriodSeconds=600))
    await until(world, "running")
    api = docker.APIClient(base_url=HOST)
    (sandbox,) = api.containers(filters={"label": [f"{labels.CLUSTER}={world._cluster}", f"{labels.ROLE}=sandbox"]})
    api.kill(sandbox["Id"])
    await expect_soon(lambda: world.status().containerStatuses[0].restartCount == 1, "the pod is back")
    await until(world, "running")
    api.close()


async def test_pods_nobody_wants_go_after_the_first_sync(world: RealWorld, tmp_path: Path) -> None:
    await world.want(a_pod("p", a_sleeper(), uid=uid(), terminationGracePeriodSeconds=1))
    await until(world, "running")
    await world.kill()
    world.masters.remove(world.masters.pod("p"))
    await world.start(synced=False)
    await asyncio.sleep(0.5)
    assert len(world.ids()) == 2
    await world.sync()
    await expect_soon(lambda: not world.ids() and not list((tmp_path / "pods").iterdir()), "everything is gone")


async def test_words_at_the_end_and_reasons_are_reported(world: RealWorld) -> None:
    script = "echo out of tea > /dev/termination-log; exit 4"
    await world.want(
        a_pod("p", a_container("app", IMAGE, command=["/bin/sh", "-c", script]), restart="Never", uid=uid())
    )
    await expect_soon(lambda: world.status().phase == "Failed", "the pod fails")
    state = world.status().containerStatuses[0].state
    assert state is not None
    assert state.terminated is not None
    assert (state.terminated.reason, state.terminated.exitCode) == ("Error", 4)
    assert state.terminated.message == "out of tea\n"
    # Its logs stay until it is deleted; its sandbox does not.
    await expect_soon(lambda: len(world.ids()) == 1, "the sandbox is gone")


async def test_exec_probes_ask_inside_the_container(world: RealWorld) -> None:
    probe = core_v1.Probe(
        exec=core_v1.ExecAction(command=["/bin/cat", "/tmp/ready"]),
        periodSeconds=1,
        timeoutSeconds=5,
        failureThreshold=1,
    )
    await world.want(a_pod("p", a_sleeper(readinessProbe=probe), uid=uid()))
    await until(world, "running")
    assert world.condition("Ready") == "False"
    app = world.manager.find("default", "p", "app", running=True).id
    await output(world.docker, app, "/bin/sh", "-c", "echo > /tmp/ready")
    await expect_soon(lambda: world.condition("Ready") == "True", "the pod is ready")
