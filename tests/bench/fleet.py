"""Simulated workers, many in one process: `python -m tests.bench.fleet PKI MASTER COUNT [--idle]`.

Each has a certificate, a connection, a Node object, a heartbeat and a watch of its own pods, as a worker has, and
reports the pods that come to it as running; with `--idle` it reports nothing. Used through `Fleet`, which starts the
process and waits until every node is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import uvloop

from barque.api import codec, conditions
from barque.api.errors import ApiError
from barque.api.types.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStatus,
    Node,
    NodeCondition,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
)
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client, target_of
from barque.client.clock import Clock, SystemClock, timestamp
from barque.client.pki import Authority, node_subject, split_pem
from barque.client.profile import Profile
from barque.client.reflector import Reflector
from barque.client.remote import connect
from barque.client.supervise import run_all
from barque.client.verbs import Selection
from barque.worker.sessions import Heartbeat
from barque.worker.status_writer import StatusWriter
from tests.bench.master import Master

# Connections being made at once: a handshake takes milliseconds of the master's time.
_JOINING = 16
_READY = "fleet ready"
_ALLOCATABLE = {"cpu": "32", "memory": "128Gi", "ephemeral-storage": "100Gi", "pods": "110"}


class Fleet:
    """`count` simulated workers of `master`, in a process of their own; use as a context."""

    def __init__(self, master: Master, count: int, *, idle: bool = False) -> None:
        self._argv = [
            *(sys.executable, "-m", "tests.bench.fleet", str(master.pki), f"127.0.0.1:{master.grpc_port}"),
            *(str(count), *(["--idle"] if idle else [])),
        ]

    def __enter__(self) -> Fleet:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != _READY:
            self._stop()
            raise RuntimeError("the simulated workers did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()


def node_name(number: int) -> str:
    return f"node-{number:04}"


def a_node(name: str, now: str) -> Node:
    """A node with room for 110 pods, ready from the first moment."""
    node = Node(metadata=ObjectMeta(name=name, labels={"kubernetes.io/hostname": name}))
    node.status.capacity, node.status.allocatable = dict(_ALLOCATABLE), dict(_ALLOCATABLE)
    node.status.conditions = [
        NodeCondition(
            type="Ready", status="True", reason="WorkerReady", message="the worker runs pods",
            lastHeartbeatTime=now, lastTransitionTime=now,
        )
    ]  # fmt: skip
    return node


class _Pods:
    """The sink of one node's watch: a pod that comes is reported as running, unless the worker is idle."""

    def __init__(self, prefix: str, writer: StatusWriter | None, clock: Clock) -> None:
        self._prefix = prefix
        self._writer = writer
        self._clock = clock
        self._count = 0

    def begin_list(self) -> None: ...

    def end_list(self) -> None: ...

    def drop(self, json: bytes) -> None: ...

    def put(self, json: bytes) -> None:
        if self._writer is None:
            return
        pod = codec.decode(Pod, json)
        if pod.status.phase != "Running":
            self._count += 1
            address = f"{self._prefix}.{self._count % 253 + 2}"
            self._writer.put(pod, _running(pod, address, timestamp(self._clock.wall())))


def _running(pod: Pod, address: str, now: str) -> PodStatus:
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    state = ContainerState(running=ContainerStateRunning(startedAt=now))
    return PodStatus(
        phase="Running",
        podIP=address,
        podIPs=[PodIP(ip=address)],
        hostIP="127.0.0.1",
        startTime=now,
        qosClass=pod.status.qosClass,
        conditions=[PodCondition(type=kind, status="True", lastTransitionTime=now) for kind in kinds],
        containerStatuses=[
            ContainerStatus(
                name=container.name, image=container.image, imageID=container.image, ready=True, started=True,
                restartCount=0, containerID=f"docker://{'9f' * 32}", state=state,
            )
            for container in pod.spec.containers
        ],
    )  # fmt: skip


async def _register(client: Client, node: Node, clock: Clock) -> Node:
    """Many that register at once compete for subnets; who loses too often tries again."""
    while True:
        try:
            return await client.create(node)
        except ApiError as error:
            if error.reason != "Conflict":
                raise
        await clock.sleep(random.uniform(0.01, 0.1))


async def _say_ready(client: Client, name: str, now: str) -> None:
    node = await client.get(Node, name)
    if not conditions.is_true(node.status.conditions, "Ready"):
        node.status.conditions = a_node(name, now).status.conditions
        await client.update_status(node)


async def _run_node(number: int, authority: Authority, master: str, joining: asyncio.Semaphore, idle: bool) -> None:
    """One worker: registers, then lives until cancelled; lets `joining` go once it is there."""
    clock = SystemClock()
    name = node_name(number)
    profile = Profile.of([master], authority.identity(node_subject(name), datetime.datetime.now(datetime.UTC)))
    async with connect(profile) as connection:
        node = await _register(connection.client, a_node(name, timestamp(clock.wall())), clock)
        heard = asyncio.Event()

        def note_session(begun: bool) -> None:
            if begun:
                heard.set()

        heartbeat = Heartbeat(
            connection, name, lambda: node.metadata.uid, lambda ok: heard.set() if ok else None, clock
        )
        writer = None if idle else StatusWriter(connection.client, clock)
        pods = _Pods(node.spec.podCIDR.rpartition(".")[0], writer, clock)
        watch = Reflector(
            connection.client, target_of(Pod), pods, selection=Selection(fields=f"spec.nodeName={name}"), clock=clock
        )

        async def keep_ready() -> None:
            """Joined once; heard again after a silence, it says so, for the masters may have taken it for lost."""
            await heard.wait()
            await watch.wait_synced()
            joining.release()
            while True:
                heard.clear()
                await heard.wait()
                await clock.sleep(1)
                with contextlib.suppress(ApiError):
                    await _say_ready(connection.client, name, timestamp(clock.wall()))

        parts = {"heartbeat": heartbeat.run(), "pods": watch.run(), "node": keep_ready()}
        await run_all(parts if writer is None else {**parts, "status": writer.run()})


async def _run(pki: Path, master: str, count: int, idle: bool) -> None:
    authority = Authority(*split_pem((pki / "authority.pem").read_bytes()))
    joining = asyncio.Semaphore(_JOINING)
    async with asyncio.TaskGroup() as nodes:
        for number in range(count):
            await joining.acquire()
            nodes.create_task(_run_node(number, authority, master, joining, idle))
        for _ in range(_JOINING):
            await joining.acquire()
        print(_READY, flush=True)


def main(arguments: Sequence[str]) -> None:
    pki, master, count, *options = arguments
    uvloop.run(_run(Path(pki), master, int(count), "--idle" in options))


if __name__ == "__main__":
    main(sys.argv[1:])
