"""Sandboxes without containers on a real dockerd that knows the worker's OCI runtime: entered, kept, lost, removed.

The pod network is a fake; the namespaces, the mounts and the containers are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from barque.deploy.images import build_busybox
from barque.worker import labels
from barque.worker.mounts import KernelMounter
from barque.worker.runtime import registration
from barque.worker.runtime.docker_runtime import DockerRuntime
from barque.worker.runtime.port import ContainerNotFoundError, ContainerSpec, NameTakenError, RuntimeFault
from barque.worker.runtime.sandboxes import RUNTIME, Sandboxes
from tests.host.test_docker_runtime import (
    _WHY,
    IMAGE,
    RealWorld,
    a_sleeper,
    expect_soon,
    output,
    remove_containers,
    uid,
    until,
)
from tests.support import dockerd
from tests.support.worker_world import a_pod

FOLDER = Path(tempfile.gettempdir()) / f"barque-test-sandboxes-{os.getpid()}"
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(_WHY), reason=_WHY), pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[dockerd.Dockerd]:
    sandboxes = Sandboxes(FOLDER, lambda: 0.0)
    with dockerd.running(f"--add-runtime={RUNTIME}={sandboxes.script}") as running:
        build_busybox(dockerd.HOST, IMAGE)
        yield running
        sandboxes.clear()


@pytest.fixture
async def cluster() -> AsyncIterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    await remove_containers(name)


@pytest.fixture
async def runtime(cluster: str) -> AsyncIterator[DockerRuntime]:
    made = DockerRuntime(dockerd.HOST, cluster, "n1", sandboxes=FOLDER)
    await made.prepare()
    yield made
    for found in await made.list():
        await made.remove(found.id)
    await made.close()


def spec(cluster: str, name: str, sandbox: str = "", **fields: Any) -> ContainerSpec:
    marks = {labels.CLUSTER: cluster, labels.NODE: "n1"}
    if sandbox:
        marks[labels.SANDBOX] = sandbox
    return ContainerSpec(f"{cluster}_{name}", IMAGE, marks, sandbox=sandbox, **fields)


async def a_sandbox(runtime: DockerRuntime, cluster: str, **fields: Any) -> str:
    made = await runtime.create(spec(cluster, "POD", hostname="the-pod", **fields))
    await runtime.start(made)
    return made


async def a_container_in(runtime: DockerRuntime, cluster: str, sandbox: str, name: str = "app", **fields: Any) -> str:
    made = await runtime.create(spec(cluster, name, sandbox, command=("/bin/sleep", "100"), **fields))
    await runtime.start(made)
    return made


async def test_containers_enter_it_and_share_name_network_and_memory(runtime: DockerRuntime, cluster: str) -> None:
    sandbox = await a_sandbox(runtime, cluster, sysctls=(("net.ipv4.tcp_syncookies", "0"), ("kernel.shmmni", "77")))
    first = await a_container_in(runtime, cluster, sandbox, "first")
    second = await a_container_in(runtime, cluster, sandbox, "second")
    record = await runtime.inspect(sandbox)
    assert (record.state, record.pid) == ("running", 0)
    pid = (await runtime.inspect(first)).pid
    assert os.stat(record.netns).st_ino == os.stat(f"/proc/{pid}/ns/net").st_ino
    assert os.stat(f"/proc/{pid}/ns/pid").st_ino != os.stat("/proc/self/ns/pid").st_ino
    script = "hostname; echo $HOSTNAME; cat /etc/hostname; ls /sys/class/net; cat /proc/sys/net/ipv4/tcp_syncookies"
    said = ("the-pod\n" * 3 + "lo\n0\n", "", 0)
    assert await output(runtime, first, "/bin/sh", "-c", script) == said
    assert await output(runtime, second, "/bin/sh", "-c", script) == said
    assert (await output(runtime, first, "cat", "/proc/sys/kernel/shmmni"))[0] == "77\n"
    await output(runtime, first, "/bin/sh", "-c", "echo shared > /dev/shm/note")
    assert (await output(runtime, second, "cat", "/dev/shm/note"))[0] == "shared\n"
    assert Path("/proc/sys/kernel/shmmni").read_text() != "77\n"


async def test_only_containers_are_in_docker(runtime: DockerRuntime, cluster: str) -> None:
    sandbox = await a_sandbox(runtime, cluster)
    app = await a_container_in(runtime, cluster, sandbox)
    api = docker.APIClient(base_url=dockerd.HOST)
    assert [c["Id"] for c in api.containers(filters={"label": f"{labels.CLUSTER}={cluster}"})] == [app]
    api.close()
    assert {c.id: c.state for c in await runtime.list()} == {sandbox: "running", app: "running"}
    with pytest.raises(NameTakenError):
        await a_sandbox(runtime, cluster)
    await runtime.signal(sandbox, "SIGKILL")
    await runtime.remove(sandbox)
    await runtime.remove(sandbox)
    with pytest.raises(ContainerNotFoundError):
        await runtime.inspect(sandbox)
    assert KernelMounter().mounts_under(FOLDER) == []


async def test_pods_with_shared_processes_get_a_pause_container(runtime: DockerRuntime, cluster: str) -> None:
    sandbox = await runtime.create(spec(cluster, "POD", share_processes=True)._replace(image=runtime.sandbox_image))
    assert not sandbox.startswith("ns-")


async def test_a_container_that_was_not_let_in_does_not_start_at_all(runtime: DockerRuntime, cluster: str) -> None:
    sandbox = await a_sandbox(runtime, cluster)
    app = await runtime.create(spec(cluster, "app", sandbox, command=("/bin/sleep", "100")))
    (FOLDER / sandbox / "joined" / app).unlink()
    with pytest.raises(RuntimeFault, match="has no sandbox to enter"):
        await runtime.start(app)
    assert (await runtime.inspect(app)).pid == 0


async def test_a_worker_killed_before_it_let_the_container_in_does_so_later(
    runtime: DockerRuntime, cluster: str
) -> None:
    sandbox = await a_sandbox(runtime, cluster)
    app = await runtime.create(spec(cluster, "app", sandbox, command=("/bin/sleep", "100")))
    (FOLDER / sandbox / "joined" / app).unlink()
    next_worker = DockerRuntime(dockerd.HOST, cluster, "n1", sandboxes=FOLDER)
    await next_worker.start(app)
    pid = (await next_worker.inspect(app)).pid
    await next_worker.close()
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat((await runtime.inspect(sandbox)).netns).st_ino


async def test_settings_of_the_host_are_refused(runtime: DockerRuntime, cluster: str) -> None:
    for name in ("kernel.panic", "vm.swappiness", "net/../kernel/panic", "kernel.hostname"):
        with pytest.raises(RuntimeFault, match="is not in a separate kernel namespace"):
            await runtime.create(spec(cluster, "POD", sysctls=((name, "1"),)))
    sandbox = await runtime.create(spec(cluster, "POD", sysctls=(("net.ipv4.no_such_thing", "1"),)))
    with pytest.raises(RuntimeFault, match=r"cannot set net\.ipv4\.no_such_thing"):
        await runtime.start(sandbox)
    assert KernelMounter().mounts_under(FOLDER) == []


_LIFE = """
import itertools, pathlib, sys
from barque.worker.runtime.port import ContainerSpec
from barque.worker.runtime.sandboxes import Sandboxes
made = Sandboxes(pathlib.Path(sys.argv[1]), lambda: 0.0)
made.install()
print("begun", flush=True)
for number in itertools.count():
    one = made.create(ContainerSpec(str(number), "", {}, hostname="a"))
    made.start(one)
    made.join(one, "a" * 64)
    made.remove(one)
"""


def test_killed_at_any_instruction_it_leaves_nothing_that_is_not_known(tmp_path: Path) -> None:
    folder = tmp_path / "sandboxes"
    seen: set[str] = set()
    for number in range(25):
        process = subprocess.Popen([sys.executable, "-c", _LIFE, str(folder)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.001 * number)
        process.kill()
        process.wait()
        process.stdout.close()
        # What the next worker finds is whole, or goes.
        again = Sandboxes(folder, lambda: 0.0)
        again.install()
        for record in again.records():
            seen.add(record.state)
            if record.state == "created":
                again.start(record.id)
                assert again.record(record.id).state == "running"
            again.remove(record.id)
        assert [box.name for box in folder.iterdir()] == ["oci-runtime"]
        assert KernelMounter().mounts_under(folder) == []
    assert seen, "never killed between a creation and its removal"


# The whole worker side of a pod.


class BareWorld(RealWorld):
    sandboxes = FOLDER

    def sandbox_ids(self) -> list[str]:
        return [r.id for r in Sandboxes(FOLDER, lambda: 0.0).records() if r.labels[labels.CLUSTER] == self._cluster]

    def remove_sandboxes(self) -> None:
        for sandbox in self.sandbox_ids():
            Sandboxes(FOLDER, lambda: 0.0).remove(sandbox)


class PlainWorld(BareWorld):
    """One whose pods each have a pause container."""

    sandboxes = None


@contextlib.asynccontextmanager
async def a_world(kind: type[BareWorld], tmp_path: Path, cluster: str) -> AsyncIterator[BareWorld]:
    made = kind(tmp_path, cluster)
    await made.start()
    await expect_soon(lambda: made.health and made.health[-1] == "", "the engine answers")
    yield made
    await made.leave()
    made.remove_sandboxes()


@pytest.fixture
async def world(tmp_path: Path, cluster: str) -> AsyncIterator[BareWorld]:
    async with a_world(BareWorld, tmp_path, cluster) as made:
        yield made


@pytest.fixture(params=[BareWorld, PlainWorld])
async def any_world(request: pytest.FixtureRequest, tmp_path: Path, cluster: str) -> AsyncIterator[BareWorld]:
    async with a_world(request.param, tmp_path, cluster) as made:
        yield made


async def restarted(world: BareWorld, times: int) -> None:
    def reached() -> bool:
        status = world.status().containerStatuses[0]
        return status.restartCount == times and status.state is not None and status.state.running is not None

    await expect_soon(reached, f"the container runs, restarted {times} times")


async def test_a_pod_in_it_lives_and_leaves_nothing(world: BareWorld, tmp_path: Path) -> None:
    await world.want(a_pod("p", a_sleeper(), uid=uid()))
    await until(world, "running")
    assert (len(world.ids()), len(world.sandbox_ids())) == (1, 1)
    assert (await output(world.docker, world.app().id, "hostname"))[0] == "p\n"
    await world.delete("p", grace_s=10)
    await expect_soon(lambda: world.masters.deleted, "the pod is confirmed gone")
    assert (world.ids(), world.sandbox_ids()) == (set(), [])
    assert KernelMounter().mounts_under(tmp_path) == []
    assert world.network.held == {}


async def test_a_killed_worker_takes_over_what_runs_in_it(world: BareWorld) -> None:
    await world.want(a_pod("p", a_sleeper(), uid=uid()))
    await until(world, "running")
    before, sandboxes = world.app(), world.sandbox_ids()
    await world.kill()
    await world.start()
    await expect_soon(world.adopted, "the container is adopted")
    assert (world.app().id, world.app().pid, world.sandbox_ids()) == (before.id, before.pid, sandboxes)
    os.kill(before.pid, signal.SIGKILL)
    await restarted(world, 1)
    assert world.sandbox_ids() == sandboxes


async def test_after_a_reboot_pods_return_in_new_sandboxes(world: BareWorld) -> None:
    await world.want(a_pod("p", a_sleeper(), uid=uid()))
    await until(world, "running")
    before, address = world.sandbox_ids(), world.status().podIP
    await world.kill()
    # What a reboot leaves: no process, no mount, all files.
    api = docker.APIClient(base_url=dockerd.HOST)
    for container in world.ids():
        api.kill(container)
        api.wait(container, timeout=60)
    api.close()
    for mount in KernelMounter().mounts_under(FOLDER / before[0]):
        KernelMounter().unmount(mount)
    await world.start()
    await restarted(world, 1)
    await expect_soon(lambda: len(world.sandbox_ids()) == 1, "the old sandbox is gone")
    assert world.sandbox_ids() != before
    assert world.status().podIP == address
    assert (await output(world.docker, world.app().id, "hostname"))[0] == "p\n"


async def test_pods_outlive_a_restart_of_docker_that_restores_live_containers(
    any_world: BareWorld, engine: dockerd.Dockerd
) -> None:
    world = any_world
    engine.stop()
    engine.start("--live-restore")
    await world.want(a_pod("p", a_sleeper(), uid=uid()))
    await until(world, "running")
    before = world.app()
    engine.stop()
    await expect_soon(lambda: "Docker" in world.health[-1], "the absence is told")
    assert world.state() == "running"
    os.kill(before.pid, 0)
    engine.start("--live-restore")
    await expect_soon(lambda: world.health[-1] == "", "the return is told")
    await asyncio.sleep(0.3)
    await expect_soon(world.adopted, "the container is known")
    assert (world.app().id, world.app().pid) == (before.id, before.pid)
    # What ends while Docker is away is noticed on its return.
    engine.stop(signal.SIGKILL)
    os.kill(before.pid, signal.SIGKILL)
    engine.start()
    await restarted(world, 1)


async def test_a_docker_that_takes_its_containers_along_brings_pods_back(
    any_world: BareWorld, engine: dockerd.Dockerd
) -> None:
    world = any_world
    await world.want(a_pod("p", a_sleeper(), uid=uid()))
    await until(world, "running")
    sandboxes = world.sandbox_ids()
    engine.stop()
    await world.want(a_pod("q", a_sleeper(), uid=uid()))
    engine.start()
    await restarted(world, 1)
    await until(world, "running", "q")
    # Namespaces are none of Docker's.
    assert set(sandboxes) <= set(world.sandbox_ids())
    assert world.status("q").containerStatuses[0].restartCount == 0


# Registering with dockerd.


async def test_a_dockerd_gets_to_know_the_runtime_and_forgets_it_while_it_runs(
    engine: dockerd.Dockerd, cluster: str, tmp_path: Path
) -> None:
    config, options = tmp_path / "daemon.json", engine.options
    config.write_text('{"max-concurrent-downloads": 2}\n')
    sandboxes = tmp_path / "sandboxes"
    engine.stop()
    engine.options = (f"--config-file={config}",)
    engine.start()
    made = DockerRuntime(dockerd.HOST, cluster, "n1", sandboxes=sandboxes)
    try:
        await made.prepare()
        plain = await made.create(spec(cluster, "plain")._replace(image=made.sandbox_image))
        assert not plain.startswith("ns-")
        assert registration.register(dockerd.HOST, sandboxes)
        assert not registration.register(dockerd.HOST, sandboxes)

        async def enters() -> bool:
            await made.prepare()
            return made._enters

        await expect_soon(enters, "Docker has read its configuration anew")
        bare = await a_sandbox(made, cluster)
        await a_container_in(made, cluster, bare)
        # A pod that began plain stays so.
        await made.start(plain)
        await a_container_in(made, cluster, plain, "plain-app")
        assert registration.unregister(dockerd.HOST, sandboxes)
        assert json.loads(config.read_text()) == {"max-concurrent-downloads": 2}
        engine.stop()
        engine.start()
        assert not await enters()
        with pytest.raises(RuntimeFault, match="runtime 'barque', which is not registered"):
            await made.create(spec(cluster, "late", bare))
    finally:
        for found in await made.list():
            await made.remove(found.id)
        await made.close()
        engine.stop()
        engine.options = options
        engine.start()
