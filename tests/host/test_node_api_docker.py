"""The worker's door before a real dockerd: terminals, long logs, connections into a pod, debuggers, usage."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio
import pytest

from barque.api.types import core_v1
from barque.client import wire
from barque.client.clock import SystemClock
from barque.client.pki import create_authority, master_subject, node_host, node_subject
from barque.client.usage import decode
from barque.deploy.images import build_busybox
from barque.proto import node_pb2, node_pb2_grpc
from barque.proto import pods_pb2 as pb
from barque.worker.pods.observed import Instance
from barque.worker.server.door import serve
from barque.worker.server.images import NodeImagesService
from barque.worker.server.service import NodeService
from barque.worker.stats.disks import Disks
from barque.worker.stats.gauges import Gauges
from barque.worker.stats.meter import Meter
from barque.worker.stats.sampler import Sampler
from tests.host.test_docker_runtime import _WHY, IMAGE, RealWorld, a_sleeper, cluster, expect_soon, uid, until, world
from tests.support import dockerd
from tests.support.control_groups import Counters
from tests.support.worker_world import a_container, a_pod

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(_WHY), reason=_WHY), pytest.mark.timeout(300)]
__all__ = ["cluster", "world"]  # fixtures
NOW = SystemClock().wall()
AUTHORITY = create_authority(NOW)
TIMEOUT_S = 60
HELD_BYTES = 32 * 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def _docker() -> Iterator[None]:
    with dockerd.running():
        build_busybox(dockerd.HOST, IMAGE)
        yield


class Door(NamedTuple):
    """A worker on a real dockerd, and a master's stub on it."""

    world: RealWorld
    stub: Any


@pytest.fixture
async def door(world: RealWorld, tmp_path: Path) -> AsyncIterator[Door]:
    identity = AUTHORITY.identity(node_subject("n1"), NOW, [node_host("n1")])
    meter = Meter(Gauges(world.clock, tmp_path), Disks(world.docker, world.clock), world.clock)
    service = NodeService(world.manager, world.docker, meter, world.clock)
    images = NodeImagesService(world.docker, lambda _: None)
    server, port = await serve(service, images, "127.0.0.1:0", identity.server_credentials())
    credentials = AUTHORITY.identity(master_subject("m1"), NOW).channel_credentials()
    options = wire.channel_options(node_host("n1"))
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield Door(world, node_pb2_grpc.NodeStub(channel))
    await server.stop(None)


class Talk:
    """A two-way stream under a time limit; all that was said so far is in `heard`."""

    def __init__(self, method: Any, **start: Any) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self.say(start=pb.ExecInput.Start(namespace="default", pod="p", **start))
        self.heard = b""
        self.code: int | None = None
        self.call = method(self)
        self._answers = aiter(self.call)

    def __aiter__(self) -> Talk:
        return self

    async def __anext__(self) -> Any:
        return await self._queue.get()

    def say(self, **message: Any) -> None:
        self._queue.put_nowait(pb.ExecInput(**message))

    async def hear(self, words: bytes) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while words not in self.heard:
                await self._next()

    async def end(self) -> None:
        with contextlib.suppress(StopAsyncIteration):
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    await self._next()

    async def _next(self) -> None:
        output = await anext(self._answers)
        self.heard += output.stdout + output.stderr
        self.code = output.exit_code if output.WhichOneof("output") == "exit_code" else self.code


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async with asyncio.timeout(TIMEOUT_S):
            await anext(aiter(call))
    return wire.api_error(refused.value).message


def logs(**fields: Any) -> pb.LogsRequest:
    return pb.LogsRequest(**({"namespace": "default", "pod": "p", "tail_lines": -1} | fields))


async def text(call: Any) -> bytes:
    async with asyncio.timeout(TIMEOUT_S):
        return b"".join([chunk.data async for chunk in call])


def a_script(script: str, **fields: Any) -> core_v1.Container:
    return a_container("app", IMAGE, command=["/bin/sh", "-c", script], **fields)


async def a_running_pod(door: Door, *containers: core_v1.Container, **spec: Any) -> None:
    await door.world.want(a_pod("p", *containers, uid=uid(), terminationGracePeriodSeconds=1, **spec))
    await until(door.world, "running")


async def test_a_terminal_has_a_size_and_a_code(door: Door) -> None:
    await a_running_pod(door, a_sleeper())
    shell = Talk(door.stub.Exec, command=["/bin/sh"], stdin=True, tty=True, size=pb.TerminalSize(columns=91, rows=17))
    shell.say(stdin=b"stty size\n")
    await shell.hear(b"17 91")
    shell.say(resize=pb.TerminalSize(columns=120, rows=33))
    shell.say(stdin=b"stty size\n")
    await shell.hear(b"33 120")
    # Docker lets go of a terminal at Ctrl-P Ctrl-Q by default; here the first recalls a command, as in any shell.
    shell.say(stdin=b"echo no''recall\n")
    await shell.hear(b"norecall")
    shell.heard = b""
    shell.say(stdin=b"\x10")
    await shell.hear(b"echo no''recall")
    shell.say(stdin=b"\x11\x15exit 5\n")
    await shell.end()
    assert shell.code == 5


async def test_a_command_without_a_terminal(door: Door) -> None:
    await a_running_pod(door, a_sleeper())
    cat = Talk(door.stub.Exec, command=["/bin/sh", "-c", "cat; echo bad >&2; exit 3"], stdin=True)
    cat.say(stdin=b"x" * 300_000)
    cat.say(stdin_end=True)
    await cat.end()
    assert (len(cat.heard), cat.heard.count(b"bad\n"), cat.code) == (300_004, 1, 3)
    missing = await refusal(Talk(door.stub.Exec, command=["nowhere"]).call)
    assert missing.startswith("Internal error occurred: OCI runtime exec failed: ")
    assert 'exec: "nowhere": executable file not found in $PATH' in missing
    feigned = Talk(door.stub.Exec, command=["echo", "OCI runtime exec failed"])
    await feigned.end()
    assert (feigned.heard, feigned.code) == (b"OCI runtime exec failed\n", 0)


async def test_attaching_detaching_and_attaching_again(door: Door) -> None:
    shell = a_container("app", IMAGE, command=["/bin/sh"], stdin=True, tty=True)
    await a_running_pod(door, shell)
    first = Talk(door.stub.Attach, stdin=True, size=pb.TerminalSize(columns=77, rows=20))
    first.say(stdin=b"ship=barque; stty size\n")
    await first.hear(b"20 77")
    first.call.cancel()
    second = Talk(door.stub.Attach, stdin=True)
    second.say(stdin=b"echo the $ship sails\n")
    await second.hear(b"the barque sails")
    second.say(stdin=b"exit\n")
    await second.end()
    assert second.code is None
    await expect_soon(lambda: door.world.status().containerStatuses[0].restartCount == 1, "it is started again")


async def test_a_container_that_has_ended_is_not_entered(door: Door) -> None:
    await door.world.want(a_pod("p", a_script("exit 1"), uid=uid(), restart="Never"))
    await until(door.world, "Error")
    for method in (door.stub.Exec, door.stub.Attach):
        assert await refusal(Talk(method, command=["ls"]).call) == 'container not found ("app")'
    await expect_soon(lambda: len(door.world.ids()) == 1, "of its containers the one with the log is left")


@pytest.mark.parametrize("tty", [False, True], ids=["frames", "terminal"])
async def test_long_lines_keep_one_date_and_logs_go_on_where_they_broke_off(door: Door, tty: bool) -> None:
    """Lines of 40 KB, which Docker writes in pieces, and many of one moment."""
    many = "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); done"
    script = f"{many}; cat /long; echo; sleep 0.5; echo end; sleep 999"
    build_busybox(dockerd.HOST, "barque-test/long:1", {"long": "y" * 40_000})
    long = a_script(script, tty=tty)
    long.image = "barque-test/long:1"
    await a_running_pod(door, long)
    written = b"".join(b"line %d\n" % n for n in range(40)) + b"y" * 40_000 + b"\nend\n"
    seen, position, breaks = b"", "", 0
    async with asyncio.timeout(TIMEOUT_S):
        while not seen.endswith(b"end\n"):
            call = door.stub.Logs(logs(follow=True, position=position))
            async for chunk in call:
                seen += chunk.data.replace(b"\r", b"")
                position = chunk.position
                if chunk.data and breaks < 60:
                    # Away after every piece: as often as can be.
                    breaks += 1
                    call.cancel()
                    break
    assert seen == written
    assert breaks > 40
    stamped = (await text(door.stub.Logs(logs(timestamps=True, tail_lines=2)))).replace(b"\r", b"").splitlines()
    assert [len(line) for line in stamped[-2:]] == [31 + 40_000, 31 + 3]
    assert await text(door.stub.Logs(logs(limit_bytes=9))) == (b"line 0\r\nl" if tty else b"line 0\nli")


async def test_since_and_the_container_before(door: Door) -> None:
    await a_running_pod(door, a_script("echo first; sleep 1.2; echo second; exec sleep 999"))
    await expect_soon(lambda: _has(door, b"second\n"), "both are written")
    dated = (await text(door.stub.Logs(logs(timestamps=True)))).decode().splitlines()
    time = dated[1].split(" ")[0]
    assert await text(door.stub.Logs(logs(since_time=time))) == b"second\n"
    assert await text(door.stub.Logs(logs(since_s=3600))) == b"first\nsecond\n"
    killed = door.world.manager.find("default", "p", "app", running=True).id
    await door.world.docker.signal(killed, "SIGKILL")
    await expect_soon(lambda: door.world.status().containerStatuses[0].restartCount == 1, "it is started again")
    assert await text(door.stub.Logs(logs(previous=True))) == b"first\nsecond\n"


async def _has(door: Door, words: bytes) -> bool:
    return words in await text(door.stub.Logs(logs()))


def forwarded(
    port: int, *messages: pb.PortForwardInput, at_address: bool = False
) -> AsyncIterator[pb.PortForwardInput]:
    async def inputs() -> AsyncIterator[pb.PortForwardInput]:
        start = pb.PortForwardInput.Start(namespace="default", pod="p", port=port, at_address=at_address)
        yield pb.PortForwardInput(start=start)
        for message in messages:
            yield message

    return inputs()


async def test_connections_reach_what_listens_on_the_pods_localhost_alone(door: Door) -> None:
    page = "echo hello > /www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www"
    await a_running_pod(door, a_script(page))
    ask = pb.PortForwardInput(data=b"GET / HTTP/1.0\r\n\r\n")

    async def fetch() -> bytes:
        call = door.stub.PortForward(forwarded(8080, ask, pb.PortForwardInput(end=True)))
        return b"".join([output.data async for output in call])

    async def answers() -> bool:
        with contextlib.suppress(grpc.aio.AioRpcError):
            return (await fetch()).endswith(b"\nhello\n")
        return False

    await expect_soon(answers, "the server answers")
    async with asyncio.timeout(TIMEOUT_S):
        pages = await asyncio.gather(*(fetch() for _ in range(50)))
    assert all(page.endswith(b"\nhello\n") for page in pages)
    refused = await refusal(door.stub.PortForward(forwarded(8081)))
    assert refused == (
        "error forwarding port 8081 to pod p: failed to connect to localhost:8081 inside the pod's network namespace: "
        "connection refused"
    )
    assert (await fetch()).endswith(b"\nhello\n")


async def test_connections_to_the_pods_address_are_made_within_its_network(door: Door) -> None:
    page = "echo hello > /www/index.html; until httpd -f -p 10.244.0.2:8080 -h /www; do sleep 0.1; done"
    await a_running_pod(door, a_script(page))
    _, observed = door.world.manager.look_up("default", "p")
    netns = observed.sandbox.netns if observed.sandbox else ""
    # The network of these pods is a fake: it hands out addresses, and lays none.
    command = ["nsenter", f"--net={netns}", "ip", "address", "add", f"{observed.address}/32", "dev", "lo"]
    process = await asyncio.create_subprocess_exec(*command)
    assert (await process.wait(), observed.address) == (0, "10.244.0.2")
    ask = pb.PortForwardInput(data=b"GET / HTTP/1.0\r\n\r\n")

    async def answers() -> bool:
        with contextlib.suppress(grpc.aio.AioRpcError):
            call = door.stub.PortForward(forwarded(8080, ask, pb.PortForwardInput(end=True), at_address=True))
            return b"".join([output.data async for output in call]).endswith(b"\nhello\n")
        return False

    await expect_soon(answers, "the server answers at the pod's address")
    refused = await refusal(door.stub.PortForward(forwarded(8081, at_address=True)))
    assert refused == "dial tcp 10.244.0.2:8081: connect: connection refused"


async def test_limits_change_while_a_container_runs(door: Door) -> None:
    world = door.world
    world.parts.allocatable = {"cpu": "4", "memory": "1Gi"}

    def asking(cpu: str, memory: str) -> core_v1.ResourceRequirements:
        return core_v1.ResourceRequirements(limits={"cpu": cpu, "memory": memory}, requests={"cpu": "100m"})

    await a_running_pod(door, a_script("exec sleep 1000", resources=asking("500m", "32Mi")))
    container_id = world.status().containerStatuses[0].containerID.removeprefix("docker://")

    async def resize(cpu: str, memory: str) -> None:
        old, new = world.masters.pod("p"), world.masters.pod("p")
        new.spec.containers[0].resources = asking(cpu, memory)
        world.masters.put(new)
        world.manager.handle_pod(old, new)

    async def figures() -> tuple[int, int]:
        limits = (await world.docker.inspect(container_id)).limits
        assert limits is not None
        return limits.nano_cpus, limits.memory_bytes // 2**20

    async def kernel() -> int:
        stats = await door.stub.Stats(node_pb2.StatsRequest())
        return int(stats.pods[0].containers[0].memory.limit_bytes) // 2**20

    assert (await figures(), await kernel()) == ((500_000_000, 32), 32)
    for cpu, memory, wanted in (("1", "64Mi", (1_000_000_000, 64)), ("250m", "16Mi", (250_000_000, 16))):
        await resize(cpu, memory)

        async def settled(wanted: tuple[int, int] = wanted, cpu: str = cpu) -> bool:
            shown = world.status().containerStatuses[0].resources
            return await figures() == wanted and shown is not None and shown.limits["cpu"] == cpu

        await expect_soon(settled, f"limits of {memory}")
        assert await kernel() == wanted[1]
    status = world.status().containerStatuses[0]
    assert (status.containerID, status.restartCount) == (f"docker://{container_id}", 0)
    await expect_soon(lambda: world.condition("PodResizeInProgress") == "", "nothing is left to be resized")


async def test_an_ephemeral_container_sees_its_targets_processes(door: Door) -> None:
    await a_running_pod(door, a_sleeper())
    debugged = door.world.masters.pod("p")
    debugged.spec.ephemeralContainers = [
        core_v1.EphemeralContainer(
            name="debugger", image=IMAGE, imagePullPolicy="IfNotPresent", command=["/bin/sh"], stdin=True, tty=True,
            targetContainerName="app",
        )
    ]  # fmt: skip
    door.world.masters.put(debugged)
    door.world.manager.handle_pod(None, debugged)

    def runs() -> bool:
        found = door.world.status().ephemeralContainerStatuses
        return bool(found) and found[0].state is not None and found[0].state.running is not None

    await expect_soon(runs, "the debugger runs")
    shell = Talk(door.stub.Attach, container="debugger", stdin=True)
    shell.say(stdin=b"ps\n")
    await shell.hear(b"trap 'exit 0' TERM")
    shell.say(stdin=b"exit\n")
    await shell.end()
    assert door.world.status().containerStatuses[0].restartCount == 0


async def test_usage_is_measured(door: Door) -> None:
    busy = "while :; do :; done & exec /bin/busybox dd if=/dev/zero of=/tmp/filled bs=1M count=8"
    await a_running_pod(door, a_script(f"({busy}); sleep 999"))

    async def used() -> node_pb2.ContainerStats | None:
        reply = await door.stub.Stats(node_pb2.StatsRequest())
        for pod in reply.pods:
            for container in pod.containers:
                if container.cpu.usage_core_ns > 100_000_000 and container.filesystem.used_bytes >= 8 * 1024 * 1024:
                    assert pod.cpu.usage_core_ns == container.cpu.usage_core_ns
                    return container
        return None

    await asyncio.sleep(0.5)
    found = await expect_soon(used, "the container's use shows")
    assert found is not None
    assert found.name == "app"
    assert 0 < found.memory.working_set_bytes <= found.memory.usage_bytes


async def test_a_sample_agrees_with_what_the_kernel_counted(world: RealWorld, tmp_path: Path) -> None:
    """One container burns what its quota lets it have, another holds 32 MiB; both within 5 %."""
    quota = core_v1.ResourceRequirements(limits={"cpu": "300m"})
    hold = "/bin/busybox dd if=/dev/zero of=/dev/shm/held bs=1M count=32; sleep 999"
    holder = a_container("holder", IMAGE, command=["/bin/sh", "-c", hold])
    await world.want(
        a_pod("p", a_script("while :; do :; done", resources=quota), holder, uid=uid(), terminationGracePeriodSeconds=1)
    )

    def running() -> list[Instance]:
        return [each for _, observed in world.manager.observations() for each in observed.running()]

    await expect_soon(lambda: len(running()) == 2, "both run")
    counters, memory = (Counters(each.id) for each in sorted(running(), key=lambda each: each.name))
    await expect_soon(lambda: memory.memory_bytes() > HELD_BYTES, "the memory is held")
    disks = Disks(world.docker, world.clock)

    def count() -> tuple[float, int]:
        return world.clock.monotonic(), counters.cpu_ns()

    async def sample() -> tuple[float, float, dict[str, Any]]:
        """Least and most that the kernel's counts allow, and what the sampler says of each container."""
        sampler = Sampler(world.manager.observations, Gauges(world.clock, tmp_path), disks, world.clock)
        counted: list[tuple[float, int]] = []
        for pause_s in (3.0, 0.0):
            counted.append(count())
            await sampler.look()
            counted.append(count())
            await asyncio.sleep(pause_s)
        # The sampler read between the first and the second count, and again between the third and the fourth.
        (a, least), (b, more), (c, then), (d, most) = counted
        (pod,) = decode(sampler.take()).pods
        return (then - more) / (d - a), (most - least) / (c - b), {each.name: each for each in pod.containers}

    # Where the machine was so busy that a look took long, the counts leave more room; then once more.
    for _ in range(5):
        low, high, containers = await sample()
        app, held = containers["app"], containers["holder"]
        assert low <= app.cpu_nanocores <= high
        assert app.cpu_nanocores < 315_000_000
        if high < 1.05 * low:
            break
    assert held.memory_bytes == pytest.approx(memory.memory_bytes(), rel=0.05)
    assert HELD_BYTES < held.memory_bytes < 1.05 * HELD_BYTES
