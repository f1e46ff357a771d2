"""Images on a real dockerd and a real registry: pulled with the right login, waited for, loaded, collected."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from barque.api.types import core_v1
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.clock import SystemClock
from barque.deploy.images import build_busybox
from barque.worker.images import images
from barque.worker.images.collector import Disk, ImageCollector
from barque.worker.runtime.docker_runtime import DockerRuntime
from barque.worker.runtime.port import ImageInUseError, ImageMissingError, LogRotation, RuntimeFault
from tests.host.test_docker_runtime import (
    _WHY,
    HOST,
    IMAGE,
    RealWorld,
    _image,
    a_running,
    cluster,
    expect_soon,
    runtime,
    uid,
    until,
    world,
)
from tests.support import image_registry
from tests.support.image_registry import PASSWORD, USER, ImageRegistry, a_registry
from tests.support.worker_world import a_container, a_pod

__all__ = ["_image", "cluster", "runtime", "world"]

_why = _WHY or image_registry.missing()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(_why), reason=_why), pytest.mark.timeout(300)]

SLEEP = ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"]


@pytest.fixture(scope="module")
def registry(_image: None) -> Iterator[ImageRegistry]:
    """Holds `team/web:1`, for its user alone."""
    with a_registry() as made:
        api = docker.APIClient(base_url=HOST)
        name = f"{made.address}/team/web"
        api.tag(IMAGE, name, "1")
        answers = list(
            api.push(name, "1", stream=True, decode=True, auth_config={"username": USER, "password": PASSWORD})
        )
        assert not any("error" in answer for answer in answers), answers
        api.remove_image(f"{name}:1")
        api.close()
        yield made


@pytest.fixture
def web(registry: ImageRegistry) -> Iterator[str]:
    """The name of an image that this host does not have yet."""
    name = f"{registry.address}/team/web:1"
    yield name
    api = docker.APIClient(base_url=HOST)
    with contextlib.suppress(docker.errors.ImageNotFound):
        # Takes the name off, also while a container of it still runs.
        api.remove_image(name, force=True)
    api.close()


def a_login(address: str, password: str = PASSWORD) -> core_v1.Secret:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    text = json.dumps({"auths": {address: {"auth": auth}}})
    return core_v1.Secret(
        metadata=ObjectMeta(name="login", namespace="default"),
        type="kubernetes.io/dockerconfigjson",
        data={".dockerconfigjson": base64.b64encode(text.encode()).decode()},
    )


def a_puller(image: str, **spec: Any) -> core_v1.Pod:
    pod = a_pod("p", a_container("app", image, command=SLEEP), uid=uid(), **spec)
    pod.spec.imagePullSecrets = [core_v1.LocalObjectReference(name="login")]
    return pod


def waiting(world: RealWorld) -> core_v1.ContainerStateWaiting:
    state = world.status().containerStatuses[0].state
    assert state is not None
    return state.waiting or core_v1.ContainerStateWaiting()


async def test_a_private_image_is_pulled_with_its_secret(
    world: RealWorld, web: str, registry: ImageRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "FIRST_DELAY_S", 0.5)
    world.masters.put(a_login(registry.address, "wrong"))
    await world.want(a_puller(web))
    await until(world, "ErrImagePull")
    assert "no basic auth credentials" in waiting(world).message or "unauthorized" in waiting(world).message
    world.masters.put(a_login(registry.address))
    await until(world, "running")
    told = [message for _, reason, message in world.recorder.events if reason == "Pulled"]
    words = rf'Successfully pulled image "{re.escape(web)}" in \S+ \(\S+ including waiting\)\. Image size: \d+ bytes\.'
    assert re.fullmatch(words, told[0])
    assert ("Normal", "Pulling", f'Pulling image "{web}"') in world.recorder.events
    assert world.status().containerStatuses[0].imageID.startswith("sha256:") or "@sha256:" in (
        world.status().containerStatuses[0].imageID
    )


async def test_without_a_login_it_is_refused_and_backed_off(world: RealWorld, web: str) -> None:
    await world.want(a_puller(web))
    await until(world, "ErrImagePull")
    missing = "Unable to retrieve some image pull secrets (login); attempting to pull the image may not succeed."
    assert ("Warning", "FailedToRetrieveImagePullSecret", missing) in world.recorder.events
    await until(world, "ImagePullBackOff")
    assert waiting(world).message.startswith(f'Back-off pulling image "{web}"')
    reasons = world.recorder.reasons()
    assert reasons[-2:] == ["BackOff", "Failed"]
    assert ("Warning", "Failed", "Error: ErrImagePull") in world.recorder.events


async def test_an_image_that_is_not_there_is_told_in_the_registrys_words(
    world: RealWorld, registry: ImageRegistry
) -> None:
    world.masters.put(a_login(registry.address))
    await world.want(a_puller(f"{registry.address}/team/absent:1"))
    await until(world, "ErrImagePull")
    assert "manifest unknown" in waiting(world).message


async def test_a_registry_that_comes_back_is_asked_again(
    world: RealWorld, web: str, registry: ImageRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "FIRST_DELAY_S", 0.5)
    world.masters.put(a_login(registry.address))
    registry.stop()
    try:
        await world.want(a_puller(web))
        await until(world, "ErrImagePull")
        assert "connection refused" in waiting(world).message
    finally:
        await asyncio.to_thread(registry.start)
    await until(world, "running")


async def an_archive(tag: str) -> bytes:
    def save() -> bytes:
        api = docker.APIClient(base_url=HOST)
        try:
            return b"".join(api.get_image(tag))
        finally:
            api.close()

    return await asyncio.to_thread(save)


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 65536):
        yield data[at : at + 65536]


async def test_an_archive_is_loaded_and_its_image_removed(runtime: DockerRuntime) -> None:
    build_busybox(HOST, "barque-test/loaded:1", {"mark": "one of its own\n"})
    data = await an_archive("barque-test/loaded:1")
    await runtime.remove_image("barque-test/loaded:1")
    assert await runtime.image("barque-test/loaded:1") is None
    assert await runtime.load_images(in_pieces(data), len(data)) == ["barque-test/loaded:1"]
    found = await runtime.image("barque-test/loaded:1")
    assert found is not None
    listed = {image.id: image for image in await runtime.images()}
    assert listed[found.id].names == ("barque-test/loaded:1",)
    assert found.size_bytes > 100_000
    await runtime.remove_image("barque-test/loaded:1")
    with pytest.raises(ImageMissingError):
        await runtime.remove_image("barque-test/loaded:1")


@pytest.mark.parametrize("data", [b"x" * 200_000, b""])
async def test_what_is_no_archive_is_refused(runtime: DockerRuntime, data: bytes) -> None:
    with pytest.raises(RuntimeFault):
        await runtime.load_images(in_pieces(data), len(data))


async def test_an_image_in_use_stays_and_only_the_workers_own_are_collected(
    runtime: DockerRuntime, cluster: str, tmp_path: Path
) -> None:
    for name in ("used", "pulled", "foreign"):
        build_busybox(HOST, f"barque-test/{name}:1", {"mark": f"{name} {cluster}\n"})
    ids = {}
    for name in ("used", "pulled", "foreign"):
        image = await runtime.image(f"barque-test/{name}:1")
        assert image is not None
        ids[name] = image.id
    await a_running(runtime, cluster, *SLEEP, image="barque-test/used:1")
    assert (await runtime.images_in_use())[ids["used"]]
    with pytest.raises(ImageInUseError):
        await runtime.remove_image("barque-test/used:1")

    async def full() -> Disk:
        return Disk(1, 1000)

    said: list[str] = []
    collector = ImageCollector(runtime, tmp_path / "images.json", SystemClock())
    collector.watch(full, lambda reason, message: said.append(reason))
    collector.note(ids["pulled"])
    # Younger than two minutes: not yet.
    assert await collector.collect() == 0
    assert said == ["FreeDiskSpaceFailed"]
    assert await collector.collect_all() > 0
    assert await runtime.image("barque-test/pulled:1") is None
    assert await runtime.image("barque-test/used:1") is not None
    assert await runtime.image("barque-test/foreign:1") is not None
    assert await runtime.image(runtime.sandbox_image) is not None
    await runtime.remove_image("barque-test/foreign:1")


async def test_logs_are_rotated_as_told(cluster: str) -> None:
    rotating = DockerRuntime(HOST, cluster, "n1", rotation=LogRotation(20_000, 2))
    await rotating.prepare()
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i of many lines; i=$((i+1)); done; sleep 100"
    app = await a_running(rotating, cluster, "/bin/sh", "-c", script)
    api = docker.APIClient(base_url=HOST)
    path = Path(api.inspect_container(app)["LogPath"])
    api.close()

    def rotated() -> bool:
        # Where one is renamed between the two calls, another look is taken.
        sizes = [file.stat().st_size for file in path.parent.glob("*-json.log*")]
        return len(sizes) == 2 and max(sizes) < 25_000

    try:
        await expect_soon(rotated, "two files of so many bytes")
    finally:
        await rotating.close()
