"""A container engine in memory, and a pod network to go with it: for tests and for thousands of simulated nodes.

It keeps the port's promises; what a test does behind the worker's back is done with `exit`, `lose`, `stop_engine`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from barque.client.clock import Clock
from barque.worker.runtime.port import (
    Changed,
    ContainerNotFoundError,
    ContainerRecord,
    ContainerSpec,
    ContainerSummary,
    ExecOptions,
    ImageMissingError,
    ImageRecord,
    ImageUsage,
    LogOptions,
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


@dataclass
class FakeContainer:
    spec: ContainerSpec
    record: ContainerRecord
    signals: list[str] = field(default_factory=list)


class FakeRuntime:
    """Implements `Runtime`. `images` are on the node, `registry` can be pulled; `ignores_term` names containers that do
    not stop when told to; `calls` is everything asked of it.
    """

    def __init__(self, clock: Clock, images: Sequence[str] = ("web:1",), registry: Sequence[str] = ()) -> None:
        self.containers: dict[str, FakeContainer] = {}
        self.images_here = {name: f"sha256:{name}" for name in (*images, SANDBOX_IMAGE)}
        self.registry = set(registry)
        self.ignores_term: set[str] = set()
        self.unstartable: dict[str, str] = {}
        self.exec_code = 0
        self.calls: list[str] = []
        self.up = True
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
        held.record = held.record._replace(state="exited", exit_code=code, oom_killed=oom, finished_at=now, pid=0)
        self._tell(Changed(container_id))

    def lose(self, container_id: str) -> None:
        """Somebody removes the container."""
        del self.containers[container_id]
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
        return [c for c in self.containers.values() if c.record.labels.get("barque.io/container-name", "") == name]

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
        container_id = f"c{next(self._ids):04d}"
        record = ContainerRecord(
            container_id, spec.name, dict(spec.labels), "created", spec.image, self.images_here[spec.image],
            created_at=self._clock.wall().isoformat(),
        )  # fmt: skip
        self.containers[container_id] = FakeContainer(spec, record)
        return container_id

    async def start(self, container_id: str) -> None:
        self._ask(f"start {container_id}")
        held = self._get(container_id)
        if held.record.state == "running":
            return
        now = self._clock.wall().isoformat()
        words = self.unstartable.get(held.record.labels.get("barque.io/container-name", ""))
        if words:
            held.record = held.record._replace(state="exited", exit_code=127, error=words, finished_at=now)
            raise RuntimeFault(words)
        held.record = held.record._replace(state="running", started_at=now, pid=1000 + int(container_id[1:]))

    async def signal(self, container_id: str, signal: str) -> None:
        self._ask(f"signal {container_id} {signal}")
        held = self.containers.get(container_id)
        if held is None:
            return
        held.signals.append(signal)
        if signal == "SIGKILL" or held.record.labels.get("barque.io/container-name") not in self.ignores_term:
            self.exit(container_id, 137 if signal == "SIGKILL" else 143)

    async def remove(self, container_id: str) -> None:
        self._ask(f"remove {container_id}")
        if container_id in self.containers:
            self.lose(container_id)

    async def image(self, reference: str) -> ImageRecord | None:
        self._ask(f"image {reference}")
        found = self.images_here.get(reference)
        return ImageRecord(found) if found else None

    async def images(self) -> Sequence[ImageUsage]:
        self._ask("images")
        return [ImageUsage((name,), 1024) for name in self.images_here]

    async def pull(self, reference: str) -> None:
        self._ask(f"pull {reference}")
        if reference not in self.registry:
            raise PullError(f"pull access denied for {reference}, repository does not exist")
        self.images_here[reference] = f"sha256:{reference}"

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

    async def logs(self, container_id: str, options: LogOptions) -> AsyncGenerator[bytes, None]:
        self._ask(f"logs {container_id}")
        yield f"log of {self._get(container_id).record.name}\n".encode()

    async def exec(self, container_id: str, options: ExecOptions) -> FakeExec:
        self._ask(f"exec {container_id} {' '.join(options.command)}")
        self._get(container_id)
        return FakeExec(self.exec_code)

    async def close(self) -> None:
        self.calls.append("close")

    def _ask(self, call: str) -> None:
        self.calls.append(call)
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


class FakeExec:
    """A command that prints "ok" and ends."""

    def __init__(self, code: int) -> None:
        self._code = code

    async def output(self) -> AsyncGenerator[tuple[Literal["stdout", "stderr"], bytes], None]:
        yield "stdout", b"ok\n"

    async def write(self, data: bytes) -> None: ...

    async def end_input(self) -> None: ...

    async def resize(self, columns: int, rows: int) -> None: ...

    async def exit_code(self) -> int:
        return self._code

    async def close(self) -> None: ...


class FakeNetwork:
    """A pod network in memory: gives out addresses, connects nothing."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self._prefix = "10.244.0."
        self._next = itertools.count(2)

    async def start(self, pod_cidr: str, mtu: int = 1500) -> None:
        self._prefix = pod_cidr.partition("/")[0].rpartition(".")[0] + "."

    async def attach(self, pod_uid: str, netns_path: str) -> str:
        if pod_uid not in self.held:
            self.held[pod_uid] = f"{self._prefix}{next(self._next)}"
        return self.held[pod_uid]

    async def detach(self, pod_uid: str) -> None:
        self.held.pop(pod_uid, None)

    def addresses(self) -> dict[str, str]:
        return dict(self.held)

    async def retain(self, uids: set[str]) -> None:
        self.held = {uid: ip for uid, ip in self.held.items() if uid in uids}

    async def run(self) -> None:
        await asyncio.Event().wait()
