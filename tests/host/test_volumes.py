"""Volumes of pods on a real kernel and a real dockerd: sizes, owners, updates, mounts within mounts, and escapes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from barque.api.types import core_v1
from barque.api.types.meta_v1 import ObjectMeta
from barque.worker.eviction.evictor import Evictor, Measures
from barque.worker.eviction.signals import Signal, SignalName, read_signals
from barque.worker.mounts import KernelMounter
from barque.worker.pods.env import ConfigError
from barque.worker.stats.gauges import Gauges
from barque.worker.volumes import contents
from barque.worker.volumes.subpaths import bind_sub_path
from tests.host.test_docker_runtime import (
    _WHY,
    RealWorld,
    _image,
    a_sleeper,
    cluster,
    expect_soon,
    output,
    uid,
    until,
    world,
)
from tests.support.worker_world import a_pod

__all__ = ["_image", "cluster", "world"]

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(_WHY), reason=_WHY), pytest.mark.timeout(300)]


def a_volume(name: str, **source: Any) -> core_v1.Volume:
    return core_v1.Volume(name=name, **source)


def an_empty(name: str, **fields: Any) -> core_v1.Volume:
    return a_volume(name, emptyDir=core_v1.EmptyDirVolumeSource(**fields))


def a_host_path(path: Path, kind: str = "", name: str = "host") -> core_v1.Volume:
    return a_volume(name, hostPath=core_v1.HostPathVolumeSource(path=str(path), type=kind))


def at(name: str, path: str, **fields: Any) -> core_v1.VolumeMount:
    return core_v1.VolumeMount(name=name, mountPath=path, **fields)


def settings(**data: str) -> core_v1.ConfigMap:
    return core_v1.ConfigMap(metadata=ObjectMeta(name="settings", namespace="default"), data=data)


async def started(
    world: RealWorld, *mounts: core_v1.VolumeMount, volumes: list[core_v1.Volume], **spec: Any
) -> core_v1.Pod:
    container = spec.pop("container", {})
    pod = a_pod("p", a_sleeper(volumeMounts=list(mounts), **container), uid=uid(), volumes=volumes, **spec)
    await world.want(pod)
    await until(world, "running")
    return pod


async def sh(world: RealWorld, script: str) -> str:
    """What a command in the container prints, with both its streams."""
    app = world.manager.find("default", "p", "app", running=True).id
    out, err, code = await output(world.docker, app, "/bin/sh", "-c", script)
    return f"{out}{err}" + (f"[{code}]" if code else "")


def mount_within(directory: Path) -> None:
    KernelMounter().mount_tmpfs(directory / "inner", mode=0o777)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory whose mounts are shared with others' namespaces, as /mnt is on most hosts."""
    directory = tmp_path / "shared"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
    subprocess.run(["mount", "--make-shared", directory], check=True)
    (directory / "inner").mkdir()
    yield directory
    subprocess.run(["umount", "--recursive", directory], check=True)


async def test_memory_has_its_size_and_a_group_owns_what_is_the_pods(world: RealWorld) -> None:
    context = core_v1.PodSecurityContext(runAsUser=1000, runAsGroup=1000, fsGroup=2000)
    world.masters.put(settings(colour="red"))
    pod = await started(
        world,
        at("fast", "/fast"),
        at("disk", "/disk"),
        at("settings", "/settings"),
        volumes=[
            an_empty("fast", medium="Memory", sizeLimit="1Mi"),
            an_empty("disk"),
            a_volume("settings", configMap=core_v1.ConfigMapVolumeSource(name="settings", defaultMode=0o400)),
        ],
        securityContext=context,
    )
    busybox = "/bin/busybox"
    full = await sh(world, f"{busybox} dd if=/dev/zero of=/fast/big bs=64k count=32")
    assert "No space left on device" in full
    assert (await sh(world, f"{busybox} stat -c %s /fast/big")).strip() == str(1024 * 1024)
    await sh(world, "echo mine > /disk/file")
    assert (await sh(world, f"{busybox} stat -c '%u %g %a' /disk /disk/file")).split("\n")[:2] == [
        "0 2000 2777", "1000 2000 644"
    ]  # fmt: skip
    # Its mode alone would have kept the pod's user out.
    assert await sh(world, "cat /settings/colour") == "red"
    assert "Read-only file system" in await sh(world, "echo blue > /settings/colour")
    home = world.root / pod.metadata.uid
    assert "fast" in {mount.name for mount in KernelMounter().mounts_under(home)}


async def test_a_changed_object_reaches_whole_mounts_and_not_parts_of_them(
    world: RealWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "REFRESH_S", 0.3)
    monkeypatch.setattr("barque.worker.references.FRESH_S", 0.1)
    world.masters.put(settings(colour="red", shape="round"))
    names = core_v1.DownwardAPIVolumeFile(
        path="labels", fieldRef=core_v1.ObjectFieldSelector(fieldPath="metadata.labels")
    )
    token = core_v1.VolumeProjection(serviceAccountToken=core_v1.ServiceAccountTokenProjection(path="token"))
    parts = [core_v1.VolumeProjection(downwardAPI=core_v1.DownwardAPIProjection(items=[names])), token]
    await started(
        world,
        at("settings", "/whole"),
        at("settings", "/part", subPath="colour"),
        at("about", "/about"),
        volumes=[
            a_volume("settings", configMap=core_v1.ConfigMapVolumeSource(name="settings")),
            a_volume("about", projected=core_v1.ProjectedVolumeSource(sources=parts)),
        ],
    )
    assert await sh(world, "cat /whole/colour /whole/shape /part /about/token") == "redroundredtoken-1"
    world.masters.put(settings(colour="blue", size="big"))
    changed = world.masters.pod("p")
    changed.metadata.labels = {"tier": "front"}
    world.masters.put(changed)
    world.manager.handle_pod(None, world.masters.pod("p"))

    async def seen() -> bool:
        said = await sh(world, "cat /whole/colour /whole/size /about/labels; ls /whole")
        return said == 'bluebigtier="front"colour\nsize\n'

    await expect_soon(seen, "the new files are there")
    assert await sh(world, "cat /part") == "red"
    # The next attempt of the container sees what is there by then.
    os.kill(world.manager.find("default", "p", "app", running=True).pid, 9)
    await expect_soon(lambda: world.status().containerStatuses[0].restartCount == 1, "the container is restarted")
    await until(world, "running")
    assert await sh(world, "cat /part") == "blue"


async def test_readers_never_see_half_of_an_update(world: RealWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    # The worker's own look at the object would write the first version again.
    monkeypatch.setattr(contents, "REFRESH_S", 3600.0)
    world.masters.put(settings(a="0", b="0"))
    pod = await started(
        world,
        at("settings", "/whole"),
        volumes=[a_volume("settings", configMap=core_v1.ConfigMapVolumeSource(name="settings"))],
    )
    directory = world.root / pod.metadata.uid / "volumes/settings"
    torn: list[tuple[bytes, bytes]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                held = os.open(directory / "..data", os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                # The version that the link was read to lead to may have gone since; the link itself never does.
                if not os.path.lexists(directory / "..data"):
                    torn.append((b"nothing", b"at all"))
                continue
            # One version may go while it is read; what is read of it is whole.
            with suppress(FileNotFoundError):
                both = []
                for name in ("a", "b"):
                    file = os.open(name, os.O_RDONLY, dir_fd=held)
                    both.append(os.read(file, 100))
                    os.close(file)
                if both[0] != both[1]:
                    torn.append((both[0], both[1]))
            os.close(held)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(1, 150):
            held = await world.parts.volume_contents.fetch(pod, contents.Sources({}, {}))
            mine = settings(a=str(turn), b=str(turn))
            one = held._replace(sources=held.sources._replace(config_maps={"settings": mine}))
            await asyncio.to_thread(world.volumes.prepare, pod, "", one)
    finally:
        done.set()
        await asyncio.to_thread(reader.join)
    assert torn == []
    assert await sh(world, "cat /whole/a") == "149"


async def test_host_paths_and_the_words_for_wrong_ones(world: RealWorld, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "file").write_text("from the host")
    made = tmp_path / "made/deep"
    await started(
        world,
        at("here", "/here", readOnly=True),
        at("made", "/made"),
        at("null", "/null"),
        volumes=[
            a_host_path(here, "Directory", "here"),
            a_host_path(made, "DirectoryOrCreate", "made"),
            a_host_path(Path("/dev/null"), "CharDevice", "null"),
        ],
    )
    assert await sh(world, "cat /here/file; echo x > /null; echo pod > /made/file") == "from the host"
    assert "Read-only file system" in await sh(world, "echo x > /here/file")
    assert (made / "file").read_text() == "pod\n"
    wrong = a_pod("q", a_sleeper(), uid=uid(), volumes=[a_host_path(here / "file", "Directory")])
    await world.want(wrong)
    words = f'MountVolume.SetUp failed for volume "host" : hostPath type check failed: {here}/file is not a directory'
    await expect_soon(lambda: ("Warning", "FailedMount", words) in world.recorder.events, "the wrong type is told")
    await until(world, "ContainerCreating", "q")
    (here / "file").unlink()
    (here / "file").mkdir()
    await until(world, "running", "q")


async def test_a_pod_cannot_mount_its_way_out_of_a_volume(world: RealWorld, tmp_path: Path) -> None:
    pod = await started(world, at("disk", "/disk"), at("disk", "/part", subPath="part"), volumes=[an_empty("disk")])
    assert await sh(world, "echo kept > /part/file; cat /disk/part/file") == "kept\n"
    # From inside, the pod puts a link to the host's /etc where its part was, and ends, to be mounted anew.
    await sh(world, "cd /disk; /bin/busybox mv part old; /bin/busybox ln -s /etc part")
    os.kill(world.manager.find("default", "p", "app", running=True).pid, 9)
    await until(world, "CreateContainerConfigError")
    state = world.status().containerStatuses[0].state
    assert state is not None
    assert state.waiting is not None
    assert state.waiting.message == 'failed to prepare subPath for volumeMount "disk" of container "app"'
    disk = world.root / pod.metadata.uid / "volumes/disk"
    (disk / "part").unlink()
    (disk / "old").rename(disk / "part")
    await until(world, "running")
    assert await sh(world, "cat /part/file") == "kept\n"


def test_a_link_swapped_in_at_the_worst_moment_is_not_followed(tmp_path: Path) -> None:
    volume, secret, target = tmp_path / "volume", tmp_path / "secret", tmp_path / "target"
    (volume / "a/b").mkdir(parents=True)
    (secret / "b").mkdir(parents=True)
    (secret / "b/stolen").touch()
    (volume / "link").symlink_to(secret)
    libc, mounter = __import__("ctypes").CDLL(None), KernelMounter()
    done = threading.Event()

    def swap() -> None:
        # renameat2(2) with RENAME_EXCHANGE: at no moment is there neither.
        one, other = os.fsencode(volume / "a"), os.fsencode(volume / "link")
        while not done.is_set():
            libc.renameat2(-100, one, -100, other, 2)

    swapper = threading.Thread(target=swap)
    swapper.start()
    mounted = refused = turns = 0
    deadline = time.monotonic() + 60
    try:
        # Both are to be met, or nothing was tried: the other thread may be slow to begin.
        while turns < 3000 or (not (mounted and refused) and time.monotonic() < deadline):
            turns += 1
            try:
                bind_sub_path(volume, "a/b", target, mounter)
            except (ConfigError, OSError):
                refused += 1
                continue
            mounted += 1
            assert not (target / "stolen").exists()
            mounter.unmount(target)
    finally:
        done.set()
        swapper.join()
        for mount in mounter.mounts_under(target):
            mounter.unmount(mount)
    assert mounted
    assert refused


async def test_mounts_made_later_show_as_far_as_was_asked(world: RealWorld, shared: Path) -> None:
    await started(
        world,
        at("host", "/private"),
        at("host", "/slave", mountPropagation="HostToContainer"),
        at("host", "/both", mountPropagation="Bidirectional"),
        volumes=[a_host_path(shared)],
    )
    mount_within(shared)
    (shared / "inner/late").touch()
    assert await sh(world, "ls /private/inner; echo -; ls /slave/inner; echo -; ls /both/inner") == "-\nlate\n-\nlate\n"
    # As a privileged container would, from its own mount namespace.
    pid = str(world.manager.find("default", "p", "app", running=True).pid)
    mount = ["/bin/busybox", "mount", "-t", "tmpfs", "tmpfs", "/both/mine"]
    (shared / "mine").mkdir()
    entered = await asyncio.create_subprocess_exec("nsenter", "-t", pid, "-m", "--", *mount)
    assert await entered.wait() == 0
    assert await sh(world, "echo > /both/mine/up") == ""
    assert (shared / "mine/up").exists()


async def test_a_read_only_mount_is_so_without_the_mounts_within(world: RealWorld, shared: Path) -> None:
    mount_within(shared)
    await started(world, at("host", "/host", readOnly=True), volumes=[a_host_path(shared)])
    assert "Read-only file system" in await sh(world, "echo > /host/x")
    assert await sh(world, "echo > /host/inner/x") == ""


async def test_a_killed_worker_leaves_no_mount_behind(world: RealWorld) -> None:
    pod = await started(
        world,
        at("fast", "/fast"),
        at("fast", "/part", subPath="deep/er"),
        volumes=[an_empty("fast", medium="Memory")],
        terminationGracePeriodSeconds=1,
    )
    home = world.root / pod.metadata.uid
    assert len(KernelMounter().mounts_under(home)) == 2
    await world.kill()
    world.masters.remove(world.masters.pod("p"))
    await world.start()
    await expect_soon(lambda: not home.exists(), "the pod's directory is gone")
    assert KernelMounter().mounts_under(world.root) == []


async def test_a_pod_that_overfills_its_volume_is_ended(world: RealWorld) -> None:
    await started(world, at("disk", "/disk"), volumes=[an_empty("disk", sizeLimit="1Mi")])
    pods = world.manager
    gauges = Gauges(world.clock, world.root)

    def signals() -> dict[SignalName, Signal]:
        # This machine may be short of something itself; the pod is to be ended for its own sake.
        return {name: found._replace(available=found.capacity) for name, found in read_signals(home, home).items()}

    home = world.root
    measures = Measures(signals, gauges.working_set, world.volumes.disk_use)

    async def clear() -> int:
        return 0

    def an_evictor() -> Evictor:
        return Evictor(pods, measures, world.clock, clear, lambda pressure: None, lambda *said: None)

    (app,) = pods.running(pods.pods()[0].metadata.uid).values()
    assert (gauges.working_set(app) or 0) > 0
    await an_evictor().look()
    assert world.state() == "running"
    await sh(world, "/bin/busybox dd if=/dev/zero of=/disk/big bs=64k count=32")
    await an_evictor().look()
    await expect_soon(lambda: world.status().phase == "Failed", "the pod is ended")
    await expect_soon(lambda: len(world.ids()) == 1, "its last container stays, for its logs")
    status = world.status()
    assert (status.reason, status.message) == ("Evicted", 'Usage of EmptyDir volume "disk" exceeds the limit "1Mi". ')
