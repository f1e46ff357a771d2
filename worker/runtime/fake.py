"""A container engine in memory, and a pod network to go with it: for tests and for thousands of simulated nodes.

It keeps the port's promises; what a test does behind the worker's back is done with `exit`, `lose`, `stop_engine`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from barque.client.clock import Clock
from barque.network.pods.host_ports import PortMapping, check_free
from barque.worker import labels
from barque.worker.runtime.port import (
    Changed,
    ContainerNotFoundError,
    ContainerRecord,
    ContainerSpec,
    ContainerSummary,
    ExecOptions,
    ImageInUseError,
    ImageMissingError,
    ImageRecord,
    ImageUsage,
    Limits,
    Login,
    LogOptions,
    LogRecord,
    NameTakenError,
    PullError,
    Resync,
    RuntimeEvent,
    RuntimeFault,
    RuntimeInfo,
    RuntimeUnavailableError,
)

SANDBOX_IMAGE = "barque/pause:fake"
_MEMORY_BYTES = 8 * 1024**3
# Remembered calls: more than any story makes, little enough for thousands of nodes in one process.
MAX_CALLS = 500


@dataclass
class FakeContainer:
    spec: ContainerSpec
    record: ContainerRecord
    signals: list[str] = field(default_factory=list)
    log: list[LogRecord] = field(default_factory=list)
    # Something was logged, or nothing more will be.
    logged: asyncio.Event = field(default_factory=asyncio.Event)


class FakeRuntime:
    """Implements `Runtime`. `images` are on the node, `registry` can be pulled; `ignores_term` names containers that do
    not stop when told to; `calls` is what was asked of it last.
    """

    def __init__(self, clock: Clock, images: Sequence[str] = ("web:1",), registry: Sequence[str] = ()) -> None:
        self.containers: dict[str, FakeContainer] = {}
        self.images_here = {name: f"sha256:{name}" for name in (*images, SANDBOX_IMAGE)}
        self.registry = set(registry)
        # Who alone may pull an image, and what one takes, where it matters.
        self.logins: dict[str, Login] = {}
        self.sizes: dict[str, int] = {}
        self.ignores_term: set[str] = set()
        self.unstartable: dict[str, str] = {}
        self.exec_code = 0
        self.sessions: list[FakeSession] = []
        self.calls: list[str] = []
        self.up = True
        # The beginning of a call at which the engine stops, once.
        self.leaves_at = ""
        self._clock = clock
        self._ids = itertools.count(1)
        self._listeners: list[asyncio.Queue[RuntimeEvent | None]] = []

    # What happens behind the worker's back.

    def exit(self, container_id: str, code: int = 0, *, oom: bool = False) -> None:
        """The container's process ends."""
        held = self.containers[container_id]
        if held.record.state != "running":
            return
        now = self._clock.wall().isoformat()
        ended = held.record._replace(state="exited", exit_code=code, oom_killed=oom, finished_at=now)
        held.record = ended._replace(pid=0, netns="")
        held.logged.set()
        self._tell(Changed(container_id))

    def write_log(self, container_id: str, *lines: bytes) -> None:
        """The container's process writes; all of it at one moment."""
        held = self.containers[container_id]
        held.log += [LogRecord(f"{self._clock.wall():%Y-%m-%dT%H:%M:%S.%f}000Z", line) for line in lines]
        held.logged.set()

    def lose(self, container_id: str) -> None:
        """Somebody removes the container."""
        self.containers.pop(container_id).logged.set()
        self._tell(Changed(container_id, gone=True))

    def stop_engine(self, *, kill_containers: bool = False) -> None:
        self.up = False
        if kill_containers:
            for container_id in self.containers:
                self.exit(container_id, 137)
        for listener in self._listeners:
            listener.put_nowait(None)

    def start_engine(self) -> None:
        self.up = True

    def named(self, name: str) -> list[FakeContainer]:
        """The attempts of a container by its name in the pod ("" for sandboxes), oldest first."""
        return [c for c in self.containers.values() if c.record.labels.get(labels.CONTAINER_NAME, "") == name]

    def running(self, name: str) -> ContainerRecord:
        """The one running container of this name."""
        (found,) = [c.record for c in self.named(name) if c.record.state == "running"]
        return found

    # The port.

    @property
    def sandbox_image(self) -> str:
        return SANDBOX_IMAGE

    async def prepare(self) -> RuntimeInfo:
        self._ask("prepare")
        return RuntimeInfo("fake", "1", "/", "fake", "amd64", "fake", 4, _MEMORY_BYTES)

    async def list(self) -> Sequence[ContainerSummary]:
        self._ask("list")
        return [ContainerSummary(i, c.record.labels, c.record.state) for i, c in self.containers.items()]

    async def inspect(self, container_id: str) -> ContainerRecord:
        self._ask(f"inspect {container_id}")
        return self._get(container_id).record

    async def create(self, spec: ContainerSpec) -> str:
        self._ask(f"create {spec.name}")
        if any(c.spec.name == spec.name for c in self.containers.values()):
            raise NameTakenError(f"the container name {spec.name} is already in use")
        if spec.image not in self.images_here:
            raise ImageMissingError(f"No such image: {spec.image}")
        if spec.sandbox and spec.sandbox not in self.containers:
            raise ContainerNotFoundError(f"No such container: {spec.sandbox}")
        container_id = f"c{next(self._ids):04d}"
        record = ContainerRecord(
            container_id, spec.name, dict(spec.labels), "created", spec.image, self.images_here[spec.image],
            created_at=self._clock.wall().isoformat(), limits=spec.limits._replace(oom_score_adj=0, pids=0),
        )  # fmt: skip
        self.containers[container_id] = FakeContainer(spec, record)
        return container_id

    async def start(self, container_id: str) -> None:
        self._ask(f"start {container_id}")
        held = self._get(container_id)
        if held.record.state == "running":
            return
        now = self._clock.wall().isoformat()
        sandbox = self.containers.get(held.spec.sandbox)
        if held.spec.sandbox and (sandbox is None or sandbox.record.state != "running"):
            raise RuntimeFault(f"cannot join network of a non running container: {held.spec.sandbox}")
        words = self.unstartable.get(held.record.labels.get(labels.CONTAINER_NAME, ""))
        if words:
            held.record = held.record._replace(state="exited", exit_code=127, error=words, finished_at=now)
            raise RuntimeFault(words)
        pid = 1000 + int(container_id[1:])
        held.record = held.record._replace(state="running", started_at=now, pid=pid, netns=f"/proc/{pid}/ns/net")
        self.write_log(container_id, f"log of {held.record.name}\n".encode())

    async def update(self, container_id: str, limits: Limits) -> None:
        self._ask(f"update {container_id}")
        held = self._get(container_id)
        held.record = held.record._replace(limits=limits._replace(oom_score_adj=0, pids=0))

    async def signal(self, container_id: str, signal: str) -> None:
        self._ask(f"signal {container_id} {signal}")
        held = self.containers.get(container_id)
        if held is None:
            return
        held.signals.append(signal)
        if signal == "SIGKILL" or held.record.labels.get(labels.CONTAINER_NAME) not in self.ignores_term:
            self.exit(container_id, 137 if signal == "SIGKILL" else 143)

    async def remove(self, container_id: str) -> None:
        self._ask(f"remove {container_id}")
        if container_id in self.containers:
            self.exit(container_id, 137)
            self.lose(container_id)

    async def image(self, reference: str) -> ImageRecord | None:
        self._ask(f"image {reference}")
        found = self.images_here.get(reference)
        return ImageRecord(found) if found else None

    async def images(self) -> Sequence[ImageUsage]:
        self._ask("images")
        return [ImageUsage((name,), self.sizes.get(name, 1024), id) for name, id in self.images_here.items()]

    async def images_in_use(self) -> Mapping[str, bool]:
        self._ask("images in use")
        return {held.record.image_id: True for held in self.containers.values()}

    async def pull(self, reference: str, login: Login | None = None) -> None:
        self._ask(f"pull {reference}" + (f" as {login.username}" if login else ""))
        wanted = self.logins.get(reference)
        if reference not in self.registry or (wanted is not None and login != wanted):
            raise PullError(f"pull access denied for {reference}, repository does not exist")
        self.images_here[reference] = f"sha256:{reference}"

    async def load_images(self, archive: AsyncIterator[bytes], size_bytes: int) -> Sequence[str]:
        self._ask("load")
        names = b"".join([piece async for piece in archive]).decode().split()
        self.images_here |= {name: f"sha256:{name}" for name in names}
        return names

    async def remove_image(self, reference: str) -> None:
        self._ask(f"remove image {reference}")
        names = [name for name, id in self.images_here.items() if reference in (name, id)]
        if not names:
            raise ImageMissingError(f"No such image: {reference}")
        if self.images_here[names[0]] in await self.images_in_use():
            raise ImageInUseError(f"conflict: unable to remove {reference}: a container is using it")
        for name in names:
            del self.images_here[name]

    async def watch(self) -> AsyncGenerator[RuntimeEvent, None]:
        self._ask("watch")
        # Bounded by what tests and simulated nodes can cause; a real engine's stream is bounded by its socket.
        queue: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue(maxsize=10_000)
        self._listeners.append(queue)
        try:
            yield Resync()
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._listeners.remove(queue)
        raise RuntimeUnavailableError("the engine stopped")

    async def logs(self, container_id: str, options: LogOptions) -> AsyncGenerator[LogRecord, None]:
        self._ask(f"logs {container_id}")
        held = self._get(container_id)
        sent = max(0, len(held.log) - options.tail_lines) if options.tail_lines >= 0 else 0
        while True:
            held.logged.clear()
            while sent < len(held.log):
                if held.log[sent].time >= options.since:
                    yield held.log[sent]
                sent += 1
            if not options.follow or held.record.state != "running" or container_id not in self.containers:
                return
            await held.logged.wait()

    async def exec(self, container_id: str, options: ExecOptions) -> FakeSession:
        self._ask(f"exec {container_id} {' '.join(options.command)}")
        return self._talk(container_id, options.stdin)

    async def attach(self, container_id: str, *, stdin: bool) -> FakeSession:
        self._ask(f"attach {container_id}")
        return self._talk(container_id, stdin)

    def _talk(self, container_id: str, stdin: bool) -> FakeSession:
        self._get(container_id)
        self.sessions.append(FakeSession(self.exec_code, stdin=stdin))
        return self.sessions[-1]

    async def close(self) -> None:
        self.calls.append("close")

    def _ask(self, call: str) -> None:
        self.calls.append(call)
        del self.calls[:-MAX_CALLS]
        if self.leaves_at and call.startswith(self.leaves_at):
            self.leaves_at = ""
            self.stop_engine()
        if not self.up:
            raise RuntimeUnavailableError("the engine does not answer")

    def _get(self, container_id: str) -> FakeContainer:
        held = self.containers.get(container_id)
        if held is None:
            raise ContainerNotFoundError(f"No such container: {container_id}")
        return held

    def _tell(self, event: RuntimeEvent) -> None:
        for listener in self._listeners:
            listener.put_nowait(event)


class FakeSession:
    """A process that gives back what it is told, and, told nothing, prints "ok" and ends. `sizes` are those that its
    terminal had.
    """

    def __init__(self, code: int, *, stdin: bool) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.closed = False
        self._code = code
        # One piece at a time: a writer waits for the reader.
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        self._stdin = stdin

    async def output(self) -> AsyncGenerator[tuple[Literal["stdout", "stderr"], bytes], None]:
        if not self._stdin:
            yield "stdout", b"ok\n"
            return
        while data := await self._pieces.get():
            yield "stdout", data

    async def write(self, data: bytes) -> None:
        await self._pieces.put(data)

    async def end_input(self) -> None:
        if self._stdin:
            await self._pieces.put(b"")

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def exit_code(self) -> int:
        return self._code

    async def close(self) -> None:
        self.closed = True


class FakeNetwork:
    """A pod network in memory: gives out addresses, connects nothing."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.ports: dict[str, tuple[PortMapping, ...]] = {}
        self._prefix = "10.244.0."

    def use_mtu(self, mtu: int) -> None:
        pass

    async def start(self, pod_cidr: str, mtu: int = 1500) -> None:
        self._prefix = pod_cidr.partition("/")[0].rpartition(".")[0] + "."

    async def attach(self, pod_uid: str, netns_path: str, ports: Sequence[PortMapping] = ()) -> str:
        check_free(pod_uid, ports, self.ports)
        self.ports[pod_uid] = tuple(ports)
        if pod_uid not in self.held:
            taken = set(self.held.values())
            self.held[pod_uid] = next(ip for n in itertools.count(2) if (ip := f"{self._prefix}{n}") not in taken)
        return self.held[pod_uid]

    async def detach(self, pod_uid: str) -> None:
        self.held.pop(pod_uid, None)
        self.ports.pop(pod_uid, None)

    def addresses(self) -> dict[str, str]:
        return dict(self.held)

    async def retain(self, uids: set[str]) -> None:
        self.held = {uid: ip for uid, ip in self.held.items() if uid in uids}

    async def run(self) -> None:
        await asyncio.Event().wait()
