"""The life of a pod on its node as its events tell it, in the kubelet's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from barque.api.types import core_v1, meta_v1
from barque.worker.probes import Outcome
from barque.worker.runtime.port import RuntimeFault
from tests.support.worker_world import a_container, a_pod, a_world

PROBE = core_v1.Probe(httpGet=core_v1.HTTPGetAction(port=80), periodSeconds=5)


async def test_from_the_pull_to_the_end(tmp_path: Path) -> None:
    async with a_world(tmp_path, images=(), registry=("web:1",)) as world:
        await world.want(a_pod())
        await world.delete("p")
        assert world.recorder.events == [
            ("Normal", "Pulling", 'Pulling image "web:1"'),
            (
                "Normal",
                "Pulled",
                'Successfully pulled image "web:1" in 0s (0s including waiting). Image size: 0 bytes.',
            ),
            ("Normal", "Created", "Container created"),
            ("Normal", "Started", "Container started"),
            ("Normal", "Killing", "Stopping container web"),
        ]
        assert set(world.recorder.about) == {"spec.containers{web}"}


async def test_an_image_that_cannot_be_had(tmp_path: Path) -> None:
    async with a_world(tmp_path, images=()) as world:
        await world.want(a_pod())
        await world.pass_time(3)
        why = "pull access denied for web:1, repository does not exist"
        assert world.recorder.events == [
            ("Normal", "Pulling", 'Pulling image "web:1"'),
            ("Warning", "Failed", f'Failed to pull image "web:1": {why}'),
            ("Warning", "Failed", "Error: ErrImagePull"),
            ("Normal", "BackOff", 'Back-off pulling image "web:1"'),
            ("Warning", "Failed", "Error: ImagePullBackOff"),
        ]


async def test_a_container_that_crashes(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        for _ in range(2):
            world.runtime.exit(world.runtime.running("web").id, 1)
            await world.settle()
        assert world.recorder.events[-1] == (
            "Warning",
            "BackOff",
            "Back-off restarting failed container web in pod p_default(uid-p)",
        )


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (
            Outcome(False, "HTTP probe failed with statuscode: 503"),
            ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        ),
        (
            Outcome(True, "Probe terminated redirects, Response body: gone", doubtful=True),
            ("ProbeWarning", "Readiness probe warning: Probe terminated redirects, Response body: gone"),
        ),
    ],
)
async def test_a_probe_that_fails_or_warns(tmp_path: Path, outcome: Outcome, event: tuple[str, str]) -> None:
    async with a_world(tmp_path) as world:
        world.prober.answers["httpGet"] = outcome
        await world.want(a_pod("p", a_container(readinessProbe=PROBE)))
        await world.pass_time(6)
        assert world.recorder.events[-1] == ("Warning", *event)


async def test_a_volume_that_cannot_be_made(tmp_path: Path) -> None:
    volume = core_v1.Volume(name="conf", configMap=core_v1.ConfigMapVolumeSource(name="absent"))
    async with a_world(tmp_path) as world:
        await world.want(a_pod(volumes=[volume]))
        words = 'MountVolume.SetUp failed for volume "conf" : configmap "absent" not found'
        assert ("Warning", "FailedMount", words) in world.recorder.events


async def test_a_sandbox_that_cannot_be_made(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        start = world.runtime.start

        async def refuse(container_id: str) -> None:
            world.runtime.start = start  # type: ignore[method-assign]
            raise RuntimeFault("no space left on device")

        world.runtime.start = refuse  # type: ignore[method-assign]
        await world.want(a_pod())
        words = "Failed to create pod sandbox: no space left on device"
        assert ("Warning", "FailedCreatePodSandBox", words) in world.recorder.events


async def test_a_container_that_cannot_be_stopped(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.want(a_pod())
        signal = world.runtime.signal

        async def refuse(container_id: str, number: str) -> None:
            world.runtime.signal = signal  # type: ignore[method-assign]
            raise RuntimeFault("cannot kill container")

        world.runtime.signal = refuse  # type: ignore[method-assign]
        await world.delete("p")
        assert ("Warning", "FailedKillPod", "error killing pod: cannot kill container") in world.recorder.events


async def test_dns_beyond_its_limits_is_told_once(tmp_path: Path) -> None:
    extra = core_v1.PodDNSConfig(nameservers=[f"9.9.9.{n}" for n in range(1, 5)])
    # What is in it is looked up again and again, and the pod's files are written with it.
    volume = core_v1.Volume(name="conf", configMap=core_v1.ConfigMapVolumeSource(name="conf"))
    async with a_world(tmp_path) as world:
        world.masters.put(core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name="conf", namespace="default")))
        await world.want(a_pod(dnsPolicy="None", dnsConfig=extra, volumes=[volume]))
        await world.pass_time(600)
        told = [event for event in world.recorder.events if event[1] == "DNSConfigForming"]
        assert told == [
            (
                "Warning",
                "DNSConfigForming",
                "Nameserver limits were exceeded, some nameservers have been omitted, "
                "the applied nameserver line is: 9.9.9.1 9.9.9.2 9.9.9.3",
            )
        ]
