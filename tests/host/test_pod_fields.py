"""What a pod's containers can say, on a real dockerd: the kernel shows what was asked for."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest

from barque.api.types import core_v1
from barque.deploy.images import build_busybox
from tests.host.test_docker_runtime import _WHY, IMAGE, RealWorld, cluster, expect_soon, output, uid, until
from tests.support import dockerd
from tests.support.worker_world import a_container, a_pod

__all__ = ["cluster"]

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(_WHY), reason=_WHY), pytest.mark.timeout(300)]
SLEEP = ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"]


@pytest.fixture(scope="module", autouse=True)
def _image() -> Iterator[None]:
    with dockerd.running():
        build_busybox(dockerd.HOST, IMAGE)
        yield


@pytest.fixture
async def world(tmp_path: Path, cluster: str) -> AsyncIterator[RealWorld]:
    made = RealWorld(tmp_path, cluster)
    made.parts.node = made.parts.node._replace(seccomp_root=tmp_path / "seccomp", pids=50)
    await made.start()
    yield made
    await made.leave()


def a_shell(name: str = "app", *script: str, **fields: Any) -> core_v1.Container:
    command = ["/bin/sh", "-c", *script] if script else SLEEP
    return a_container(name, IMAGE, command=command, **fields)


async def said(world: RealWorld, *script: str, container: str = "app", pod: str = "p") -> str:
    """What a command prints in a container of the pod."""
    found = world.manager.find("default", pod, container, running=True)
    out, err, code = await output(world.docker, found.id, "/bin/sh", "-c", " ; ".join(script))
    assert (err, code) == ("", 0)
    return out


def ended(world: RealWorld, pod: str = "p") -> core_v1.ContainerStateTerminated | None:
    statuses = world.status(pod).containerStatuses
    return statuses[0].state.terminated if statuses and statuses[0].state else None


async def test_names_users_privileges_and_limits_reach_the_kernel(world: RealWorld) -> None:
    limits = core_v1.ResourceRequirements(
        limits={"cpu": "500m", "memory": "64Mi"}, requests={"cpu": "250m", "memory": "32Mi"}
    )
    cpu = core_v1.ResourceFieldSelector(resource="limits.cpu", divisor="1m")
    app = a_shell(
        tty=True,
        stdin=True,
        workingDir="/proc",
        resources=limits,
        env=[
            core_v1.EnvVar(name="CPU", valueFrom=core_v1.EnvVarSource(resourceFieldRef=cpu)),
            core_v1.EnvVar(name="SAY", value="$(CPU)m $$(CPU) $(NONE)"),
        ],
        securityContext=core_v1.SecurityContext(
            runAsUser=1001,
            readOnlyRootFilesystem=True,
            allowPrivilegeEscalation=False,
            capabilities=core_v1.Capabilities(drop=["ALL"], add=["NET_BIND_SERVICE"]),
        ),
    )
    pod = a_pod(
        "p",
        app,
        uid=uid(),
        hostname="named",
        subdomain="sub",
        hostAliases=[core_v1.HostAlias(ip="10.9.9.9", hostnames=["far", "away"])],
        dnsPolicy="None",
        dnsConfig=core_v1.PodDNSConfig(nameservers=["9.9.9.9"], searches=["lab.example"]),
        shareProcessNamespace=True,
        securityContext=core_v1.PodSecurityContext(
            runAsUser=1000,
            runAsGroup=3000,
            supplementalGroups=[4000],
            sysctls=[core_v1.Sysctl(name="net.ipv4.ip_unprivileged_port_start", value="70")],
        ),
    )
    await world.want(pod)
    await until(world, "running")
    found = await said(world, "hostname", "id -u; id -G", "pwd", "echo $SAY", "cat /etc/resolv.conf", "cat /etc/hosts")
    lines = found.splitlines()
    assert lines[:3] == ["named", "1001", "3000 4000"]
    assert lines[3:7] == ["/proc", "500m $(CPU) $(NONE)", "nameserver 9.9.9.9", "search lab.example"]
    assert f"{world.status().podIP}\tnamed.sub.default.svc.cluster.local\tnamed" in lines
    assert "10.9.9.9\tfar\taway" in lines
    status = dict(line.split(":\t", 1) for line in (await said(world, "cat /proc/self/status")).splitlines())
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    # NET_BIND_SERVICE is all there is to be had.
    assert int(status["CapBnd"], 16) == 1 << 10
    assert (await said(world, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start")) == "70\n"
    assert "/pause" in await said(world, "cat /proc/1/cmdline") or "sleep" not in await said(world, "cat /proc/1/comm")
    assert await said(world, "(echo > /x) 2>/dev/null || echo no") == "no\n"
    record = world.manager.find("default", "p", "app", running=True)
    with contextlib.closing(docker.APIClient(base_url=dockerd.HOST)) as api:
        host = api.inspect_container(record.id)["HostConfig"]
    assert (host["CpuShares"], host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (256, 500_000_000, 1 << 26, 50)
    score = int(Path(f"/proc/{record.pid}/oom_score_adj").read_text())
    assert score == 1000 - 1000 * (1 << 25) // (8 * 1024**3)


async def test_the_hosts_own_namespaces(world: RealWorld) -> None:
    unconfined = core_v1.SecurityContext(seccompProfile=core_v1.SeccompProfile(type="Unconfined"))
    pod = a_pod("p", a_shell(securityContext=unconfined), uid=uid(), hostNetwork=True, hostPID=True, hostIPC=True)
    await world.want(pod)
    await until(world, "running")
    pid = world.manager.find("default", "p", "app", running=True).pid
    for kind in ("net", "pid", "ipc"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
    assert world.status().podIP == world.parts.host_ip
    assert "Seccomp:\t0" in await said(world, "cat /proc/self/status")
    hosts = await said(world, "cat /etc/hosts")
    assert hosts.splitlines()[0] == "# Kubernetes-managed hosts file (host network)."


async def test_a_privileged_container_has_every_capability_of_the_host(world: RealWorld) -> None:
    await world.want(a_pod("p", a_shell(securityContext=core_v1.SecurityContext(privileged=True)), uid=uid()))

    def asked() -> bool:
        with contextlib.closing(docker.APIClient(base_url=dockerd.HOST)) as api:
            return any(api.inspect_container(made)["HostConfig"]["Privileged"] for made in world.ids())

    await expect_soon(asked, "the container is made")
    own = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())["CapEff"]
    # Where this root itself lacks some, Docker cannot give all, and what it was asked for is what there is to see.
    if int(own, 16) == (1 << int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1) - 1:
        await until(world, "running")
        assert own in await said(world, "cat /proc/self/status")


async def test_a_seccomp_profile_of_the_nodes_own(world: RealWorld, tmp_path: Path) -> None:
    profile = core_v1.SeccompProfile(type="Localhost", localhostProfile="no-mkdir.json")
    guarded = a_shell(securityContext=core_v1.SecurityContext(seccompProfile=profile))
    await world.want(a_pod("p", guarded, uid=uid()))
    await until(world, "CreateContainerConfigError")
    assert "no-mkdir.json" in world.status().containerStatuses[0].state.waiting.message  # type: ignore[union-attr]
    (tmp_path / "seccomp").mkdir()
    (tmp_path / "seccomp/no-mkdir.json").write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    await until(world, "running")
    assert await said(world, "busybox mkdir /tmp/a 2>/dev/null || echo no") == "no\n"


async def test_init_containers_sidecars_and_hooks_in_their_order(world: RealWorld, tmp_path: Path) -> None:
    def note(what: str) -> str:
        return f"echo {what} >> /deck/log"

    def hook(what: str) -> core_v1.LifecycleHandler:
        return core_v1.LifecycleHandler(exec=core_v1.ExecAction(command=["/bin/sh", "-c", note(what)]))

    mounts = [core_v1.VolumeMount(name="work", mountPath="/deck")]
    # Long enough for a machine that takes seconds to start a process: a probe that gives up restarts the sidecar.
    up = core_v1.ExecAction(command=["/bin/cat", "/deck/up"])
    started = core_v1.Probe(exec=up, periodSeconds=1, timeoutSeconds=30, failureThreshold=100)
    stops = f"trap '{note('sidecar-stops')}; exit 0' TERM; while true; do sleep 0.1; done"
    app_stops = f"trap 'sleep 0.5; {note('app-stops')}; exit 0' TERM; while true; do sleep 0.1; done"
    sidecar = a_shell(
        "sidecar", f"{note('sidecar')}; sleep 0.5; echo > /deck/up; {stops}",
        restartPolicy="Always", startupProbe=started, volumeMounts=mounts,
    )  # fmt: skip
    init = a_shell("init", note("init"), volumeMounts=mounts)
    app = a_shell(
        "app", f"{note('app')}; {app_stops}", volumeMounts=mounts,
        lifecycle=core_v1.Lifecycle(postStart=hook("post-start"), preStop=hook("pre-stop")),
    )  # fmt: skip
    pod = a_pod(
        "p", app, uid=uid(), initContainers=[sidecar, init],
        volumes=[core_v1.Volume(name="work", hostPath=core_v1.HostPathVolumeSource(path=str(tmp_path)))],
    )  # fmt: skip
    await world.want(pod)
    await until(world, "running")
    log = tmp_path / "log"
    await expect_soon(lambda: len(log.read_text().split()) == 4, "the container has spoken, and the hook")
    assert log.read_text().split()[:2] == ["sidecar", "init"]
    assert sorted(log.read_text().split()[2:]) == ["app", "post-start"]
    await expect_soon(lambda: world.condition("Ready") == "True", "the pod is ready")
    assert world.status().initContainerStatuses[1].ready
    await world.delete("p", grace_s=60)
    await expect_soon(lambda: world.masters.deleted, "the pod is gone")
    assert log.read_text().split()[4:] == ["pre-stop", "app-stops", "sidecar-stops"]


async def test_ends_are_told_as_kubernetes_tells_them(world: RealWorld) -> None:
    loud = a_shell("app", "echo from the log; exit 3", terminationMessagePolicy="FallbackToLogsOnError")
    await world.want(a_pod("loud", loud, uid=uid(), restart="Never"))
    written = a_shell("app", "echo -n from the file > /dev/last; exit 4", terminationMessagePath="/dev/last")
    await world.want(a_pod("written", written, uid=uid(), restart="Never"))
    stranger = a_shell(securityContext=core_v1.SecurityContext(runAsNonRoot=True))
    await world.want(a_pod("stranger", stranger, uid="1-2"))
    dockerfile = io.BytesIO(f"FROM {IMAGE}\nUSER ghost\n".encode())
    for line in docker.APIClient(base_url=dockerd.HOST).build(fileobj=dockerfile, tag="barque-test/ghost:1", rm=True):
        assert b"errorDetail" not in line, line
    await world.want(a_pod("ghost", a_container("app", "barque-test/ghost:1", command=SLEEP), uid=uid()))
    for name, code, message in (("loud", 3, "from the log\n"), ("written", 4, "from the file")):
        await expect_soon(lambda name=name: world.status(name).phase == "Failed", f"{name} has failed")
        end = ended(world, name)
        assert end is not None
        assert (end.reason, end.exitCode, end.message) == ("Error", code, message)

    def ghostly() -> str:
        words = [message for _, reason, message in world.recorder.events if reason == "Failed"]
        return next((word for word in words if "ghost" in word), "")

    assert "unable to find user ghost" in await expect_soon(ghostly, "an unknown user is told of")
    stuck = ("RunContainerError", "CrashLoopBackOff")
    await expect_soon(lambda: world.state("ghost") in stuck, "it is waited for another try")
    await until(world, "CreateContainerConfigError", "stranger")
    waiting = world.status("stranger").containerStatuses[0].state.waiting  # type: ignore[union-attr]
    assert waiting is not None
    assert waiting.message == (
        'container has runAsNonRoot and image will run as root (pod: "stranger_default(1-2)", container: app)'
    )


async def test_a_container_that_takes_too_much_memory_says_so(world: RealWorld) -> None:
    limits = core_v1.ResourceRequirements(limits={"memory": "16Mi"})
    # Docker hears of the memory and of the end on two ways; where the end comes first, it knows no reason for it.
    for number in range(5):
        name = f"greedy-{number}"
        await world.want(a_pod(name, a_shell("app", "tail /dev/zero", resources=limits), uid=uid(), restart="Never"))
        end = await expect_soon(partial(ended, world, name), f"{name} has ended")
        assert end is not None
        assert end.exitCode == 137
        if end.reason == "OOMKilled":
            return
    raise AssertionError("five times Docker knew no reason")


async def test_a_debugger_sees_the_processes_of_its_target(world: RealWorld) -> None:
    await world.want(a_pod("p", a_shell(), uid=uid()))
    await until(world, "running")
    debugged = world.masters.pod("p")
    debugged.spec.ephemeralContainers = [
        core_v1.EphemeralContainer(
            name="debug", image=IMAGE, command=["/bin/sleep", "100"], imagePullPolicy="IfNotPresent",
            targetContainerName="app",
        )
    ]  # fmt: skip
    await world.want(debugged)

    def runs() -> bool:
        statuses = world.status().ephemeralContainerStatuses
        return bool(statuses) and statuses[0].state is not None and statuses[0].state.running is not None

    await expect_soon(runs, "the debugger runs")
    assert "while true" in await said(world, "ps", container="debug")
