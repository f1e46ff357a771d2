"""Pulls: by policy, with whose login, in which words, and how failures are waited out."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from barque.api.types import core_v1
from barque.api.types.meta_v1 import ObjectMeta
from barque.worker.images import keyring, names
from barque.worker.images.images import ImageFault, Images
from barque.worker.images.keyring import PullSecretError
from barque.worker.images.names import ImageName, InvalidNameError
from barque.worker.runtime.fake import FakeRuntime
from barque.worker.runtime.port import ImageRecord, Login, PullError
from tests.support.clock import FakeClock, settle
from tests.support.worker_world import a_container, a_pod, a_world

ALICE = Login("alice", "wonder", "registry.example")


class Said:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def __call__(self, kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))


class SlowRuntime(FakeRuntime):
    """Pulls take ten seconds; `most` is how many went on at the same time."""

    def __init__(self, clock: FakeClock, **fields: Any) -> None:
        super().__init__(clock, **fields)
        self._time = clock
        self.now = self.most = 0

    async def pull(self, reference: str, login: Login | None = None) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await self._time.sleep(10)
        self.now -= 1
        await super().pull(reference, login)


async def as_alice() -> list[Login]:
    return [Login("bob", "builder"), ALICE]


def a_secret(kind: str, data: dict[str, Any], name: str = "login") -> core_v1.Secret:
    key = ".dockercfg" if kind == "dockercfg" else ".dockerconfigjson"
    text = base64.b64encode(json.dumps(data).encode()).decode()
    meta = ObjectMeta(name=name, namespace="default")
    return core_v1.Secret(metadata=meta, type=f"kubernetes.io/{kind}", data={key: text})


def an_auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


async def test_a_pull_is_told_with_its_durations_and_size() -> None:
    runtime = SlowRuntime(clock := FakeClock(), images=(), registry=("a:1", "b:1"))
    images = Images(runtime, clock, parallel=1)
    first, second = Said(), Said()
    tasks = [
        asyncio.create_task(images.ensure("a:1", "Always", first)),
        asyncio.create_task(images.ensure("b:1", "IfNotPresent", second)),
    ]
    await clock.advance(20)
    assert [task.result() for task in tasks] == [ImageRecord("sha256:a:1"), ImageRecord("sha256:b:1")]
    assert second.events == [
        ("Normal", "Pulling", 'Pulling image "b:1"'),
        ("Normal", "Pulled", 'Successfully pulled image "b:1" in 10s (20s including waiting). Image size: 0 bytes.'),
    ]
    assert runtime.most == 1


async def test_so_many_pulls_go_on_at_once_and_one_serves_all_who_ask() -> None:
    wanted = [f"image:{n}" for n in range(5)]
    runtime = SlowRuntime(clock := FakeClock(), images=(), registry=wanted)
    images = Images(runtime, clock, parallel=3)
    tasks = [asyncio.create_task(images.ensure(name, "Always", Said())) for name in [*wanted, *wanted]]
    await clock.advance(20)
    await asyncio.gather(*tasks)
    assert runtime.most == 3
    assert sum(call.startswith("pull ") for call in runtime.calls) == 5


async def test_present_absent_and_never() -> None:
    runtime = FakeRuntime(clock := FakeClock())
    images, said = Images(runtime, clock), Said()
    await images.ensure("web:1", "Never", said)
    words = 'Container image "web:1" already present on machine and can be accessed by the pod'
    assert said.events == [("Normal", "Pulled", words)]
    with pytest.raises(ImageFault) as refused:
        await images.ensure("other:1", "Never", said)
    assert refused.value.fault.reason == "ErrImageNeverPull"
    assert str(refused.value) == 'Container image "other:1" is not present with pull policy of Never'
    assert not any(call.startswith("pull") for call in runtime.calls)


async def test_a_name_no_image_can_have_is_not_asked_for() -> None:
    runtime = FakeRuntime(clock := FakeClock())
    said = Said()
    with pytest.raises(ImageFault) as refused:
        await Images(runtime, clock).ensure("Web:1", "IfNotPresent", said)
    assert refused.value.fault.reason == "InvalidImageName"
    why = "invalid reference format: repository name (Web) must be lowercase"
    message = f'Failed to apply default image tag "Web:1": couldn\'t parse image name "Web:1": {why}'
    assert said.events[0] == ("Warning", "InspectFailed", message)
    assert runtime.calls == []


async def test_failures_double_their_delay_up_to_five_minutes() -> None:
    runtime = FakeRuntime(clock := FakeClock(), images=())
    images = Images(runtime, clock)
    delays: list[float] = []
    for _ in range(8):
        with pytest.raises(ImageFault) as refused:
            await images.ensure("a:1", "IfNotPresent", Said())
        delays.append(refused.value.fault.retry_s - clock.monotonic())
        await clock.advance(delays[-1])
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300]
    runtime.registry.add("a:1")
    await images.ensure("a:1", "IfNotPresent", Said())
    runtime.registry.clear()
    with pytest.raises(ImageFault) as refused:
        await images.ensure("a:1", "Always", Said())
    assert refused.value.fault.retry_s - clock.monotonic() == 10


async def test_each_login_is_tried_and_a_new_one_need_not_wait() -> None:
    runtime = FakeRuntime(clock := FakeClock(), images=(), registry=("registry.example/a:1",))
    runtime.logins["registry.example/a:1"] = ALICE
    images = Images(runtime, clock)
    with pytest.raises(ImageFault):
        await images.ensure("registry.example/a:1", "IfNotPresent", Said())
    await images.ensure("registry.example/a:1", "IfNotPresent", Said(), as_alice)
    assert [call for call in runtime.calls if call.startswith("pull")] == [
        "pull registry.example/a:1",
        "pull registry.example/a:1 as bob",
        "pull registry.example/a:1 as alice",
    ]


async def test_a_pull_that_nobody_waits_for_any_more_harms_nobody() -> None:
    runtime = SlowRuntime(clock := FakeClock(), images=())
    task = asyncio.create_task(Images(runtime, clock).ensure("a:1", "Always", Said()))
    await settle()
    task.cancel()
    await clock.advance(10)
    assert task.cancelled()


async def test_a_pod_pulls_with_its_secret_and_says_which_is_missing(tmp_path: Path) -> None:
    image = "registry.example/team/web:1"
    async with a_world(tmp_path, images=(), registry=(image,)) as world:
        world.runtime.logins[image] = Login("alice", "wonder", "https://registry.example")
        pod = a_pod("p", a_container("web", image))
        pod.spec.imagePullSecrets = [core_v1.LocalObjectReference(name=n) for n in ("login", "gone")]
        await world.want(pod)
        assert world.state() == "ErrImagePull"
        missing = (
            "Unable to retrieve some image pull secrets (login, gone); attempting to pull the image may not succeed."
        )
        assert ("Warning", "FailedToRetrieveImagePullSecret", missing) in world.recorder.events
        auths = {"auths": {"https://registry.example": an_auth("alice:wonder")}}
        world.masters.put(a_secret("dockerconfigjson", auths))
        await world.pass_time(10)
        assert world.state() == "running"


@pytest.mark.parametrize(
    ("reference", "parsed"),
    [
        ("web", ImageName("docker.io", "library/web", "latest")),
        ("team/web:1", ImageName("docker.io", "team/web", "1")),
        ("localhost/web", ImageName("localhost", "web", "latest")),
        ("r.example:5000/a/b:v1.2_3", ImageName("r.example:5000", "a/b", "v1.2_3")),
        ("a@sha256:" + "0" * 64, ImageName("docker.io", "library/a", "", "sha256:" + "0" * 64)),
        ("[::1]:5000/a__b", ImageName("[::1]:5000", "a__b", "latest")),
    ],
)
def test_names_are_taken_apart(reference: str, parsed: ImageName) -> None:
    assert names.parse(reference) == parsed


@pytest.mark.parametrize("reference", ["", "A", "a b", "a:", "a:-1", "a@sha256:12", "/a", "a//b", "a" * 256, "-a/b"])
def test_what_is_no_name_is_refused(reference: str) -> None:
    with pytest.raises(InvalidNameError, match="invalid reference format"):
        names.parse(reference)


@pytest.mark.parametrize(
    ("key", "image", "fits"),
    [
        ("registry.example", "registry.example/web:1", True),
        ("https://registry.example/v2/", "registry.example/web:1", True),
        ("registry.example", "registry.example:5000/web:1", False),
        ("registry.example:5000", "registry.example:5000/web:1", True),
        ("*.example", "registry.example/web:1", True),
        ("*.example", "a.registry.example/web:1", False),
        ("registry.example/team", "registry.example/team/web:1", True),
        ("registry.example/team", "registry.example/other/web:1", False),
        ("other.example", "registry.example/web:1", False),
        ("https://index.docker.io/v1/", "web:1", True),
        ("https://index.docker.io/v1/", "docker.io/team/web:1", True),
        ("https://index.docker.io/v1/", "registry.example/web:1", False),
    ],
)
def test_logins_fit_by_registry_and_path(key: str, image: str, fits: bool) -> None:
    logins = keyring.logins_of(a_secret("dockerconfigjson", {"auths": {key: an_auth("u:p:with:colons")}}))
    found = keyring.matching(image, [logins])
    assert found == ([Login("u", "p:with:colons", key)] if fits else [])


def test_the_closest_login_comes_first_and_both_formats_are_read() -> None:
    old = keyring.logins_of(a_secret("dockercfg", {"r.example/team": {"username": "near", "password": "1"}}))
    new = keyring.logins_of(a_secret("dockerconfigjson", {"auths": {"r.example": an_auth("far:2")}}))
    assert [login.username for login in keyring.matching("r.example/team/web", [new, old])] == ["near", "far"]


def test_a_secret_that_cannot_be_read_says_so_and_another_type_gives_nothing() -> None:
    damaged = a_secret("dockerconfigjson", {})
    damaged.data = {".dockerconfigjson": base64.b64encode(b"{").decode()}
    with pytest.raises(PullSecretError, match="secret login holds no docker configuration"):
        keyring.logins_of(damaged)
    assert keyring.logins_of(core_v1.Secret(type="Opaque", data={"a": "Yg=="})) == {}


async def test_a_registry_may_lie_about_a_pull() -> None:
    class Liar(FakeRuntime):
        async def pull(self, reference: str, login: Login | None = None) -> None:
            """Says it is done."""

    with pytest.raises(ImageFault, match="pulled but is not there"):
        await Images(Liar(clock := FakeClock(), images=()), clock).ensure("a:1", "Always", Said())
    with pytest.raises(PullError):
        await FakeRuntime(clock, images=()).pull("a:1")
