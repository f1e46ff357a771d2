"""When volumes are looked at again, and how tokens are renewed before they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from barque.api.errors import unavailable
from barque.api.types import core_v1
from barque.api.types.meta_v1 import ObjectMeta
from barque.worker.pods.env import ConfigError
from barque.worker.volumes.payloads import TokenKey
from barque.worker.volumes.tokens import PodTokens
from tests.support.clock import FakeClock
from tests.support.worker_world import FakeTokens, a_container, a_pod, a_world

KEY = TokenKey("", 3600)


def a_map(**data: str) -> core_v1.ConfigMap:
    return core_v1.ConfigMap(metadata=ObjectMeta(name="settings", namespace="default"), data=data)


def showing(name: str = "settings") -> core_v1.Pod:
    mounts = [core_v1.VolumeMount(name="v", mountPath="/v")]
    volume = core_v1.Volume(name="v", configMap=core_v1.ConfigMapVolumeSource(name=name))
    return a_pod("p", a_container(volumeMounts=mounts), volumes=[volume])


async def test_a_changed_config_map_reaches_a_running_pod_within_seconds(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.masters.put(a_map(colour="red"))
        await world.want(showing())
        file = tmp_path / "pods/uid-p/volumes/v/colour"
        assert file.read_text() == "red"
        world.masters.put(a_map(colour="blue"))
        await world.pass_time(11)
        assert file.read_text() == "blue"
        assert world.state() == "running"


async def test_a_missing_config_map_is_told_and_waited_for(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(showing())
        assert world.state() == "ContainerCreating"
        told = [(reason, message) for _, reason, message in world.recorder.events if reason == "FailedMount"]
        assert told[0] == ("FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "settings" not found')
        world.masters.put(a_map(colour="red"))
        await world.pass_time(31)
        assert world.state() == "running"


async def test_a_token_is_renewed_at_four_fifths_of_its_life() -> None:
    source = FakeTokens()
    tokens = PodTokens(source, clock := FakeClock(), lambda: 0.0)
    pod = a_pod()
    assert await tokens.token(pod, KEY) == "token-1"
    await clock.advance(2879)
    assert await tokens.token(pod, KEY) == "token-1"
    assert tokens.due_s("uid-p") == 2880
    await clock.advance(1)
    assert await tokens.token(pod, KEY) == "token-2"
    assert await tokens.token(a_pod("q"), KEY) == "token-3"
    tokens.forget("uid-p")
    assert tokens.due_s("uid-p") == float("inf")


async def test_renewals_are_spread() -> None:
    clock = FakeClock()
    tokens = PodTokens(FakeTokens(), clock, lambda: 0.5)
    await tokens.token(a_pod(), KEY)
    assert tokens.due_s("uid-p") == 2875
    long = TokenKey("", 7 * 24 * 3600)
    await tokens.token(a_pod("q"), long)
    assert tokens.due_s("uid-q") == 24 * 3600 - 5


async def test_a_token_serves_on_while_no_master_answers_until_it_ends() -> None:
    source = FakeTokens()
    tokens = PodTokens(source, clock := FakeClock(), lambda: 0.0)
    pod = a_pod()
    await tokens.token(pod, KEY)
    source.refusal = unavailable("no master")
    await clock.advance(2880)
    assert await tokens.token(pod, KEY) == "token-1"
    # It is not asked for again and again.
    asked = len(source.asked)
    assert await tokens.token(pod, KEY) == "token-1"
    assert len(source.asked) == asked
    await clock.advance(720)
    with pytest.raises(ConfigError, match=r"^failed to fetch token: no master$"):
        await tokens.token(pod, KEY)
