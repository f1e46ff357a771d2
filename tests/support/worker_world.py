"""A worker's pods in a world of fakes: stories say what the cluster wants and what befalls the containers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from barque.api import codec
from barque.api.errors import ApiError, not_found, unavailable
from barque.api.types import core_v1, meta_v1
from barque.client import verbs
from barque.client.client import Client
from barque.client.clock import timestamp
from barque.worker.images import Images
from barque.worker.pods.config import NodeFacts
from barque.worker.pods.manager import PodManager
from barque.worker.pods.parts import Parts
from barque.worker.probes import Outcome, Target
from barque.worker.references import References
from barque.worker.runtime.fake import FakeNetwork, FakeRuntime
from barque.worker.status_writer import StatusWriter
from barque.worker.volumes.volumes import PodVolumes
from tests.support.clock import FakeClock, settle

SETTLE_TURNS = 400


def a_container(name: str = "web", image: str = "web:1", **fields: Any) -> core_v1.Container:
    return core_v1.Container(
        name=name, image=image, imagePullPolicy=fields.pop("imagePullPolicy", "IfNotPresent"), **fields
    )


def a_pod(
    name: str = "p", *containers: core_v1.Container, uid: str = "", restart: str = "Always", **spec: Any
) -> core_v1.Pod:
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default", uid=uid or f"uid-{name}", resourceVersion="1"),
        spec=core_v1.PodSpec(
            containers=list(containers) or [a_container()],
            restartPolicy=restart,
            nodeName="n1",
            terminationGracePeriodSeconds=spec.pop("terminationGracePeriodSeconds", 30),
            **spec,
        ),
    )


class FakeMounter:
    """Implements `Mounter` on paper."""

    def __init__(self) -> None:
        self.mounted: dict[Path, str] = {}

    def mount_tmpfs(self, path: Path, *, mode: int, size_bytes: int = 0, executable: bool = False) -> None:
        self.mounted[path.resolve()] = f"mode={mode:o},size={size_bytes}"

    def unmount(self, path: Path) -> None:
        del self.mounted[path]

    def mounts_under(self, path: Path) -> list[Path]:
        return [m for m in self.mounted if m.is_relative_to(path.resolve())]


class FakeMasters:
    """The masters as far as pods need them: objects by (kind, namespace, name), merge patches on status, deletes."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.up = True
        self.revision = 10
        self.patches: list[dict[str, Any]] = []
        self.deleted: list[tuple[str, dict[str, Any]]] = []
        self.on_change: Any = lambda old, new: None

    def put(self, obj: Any) -> None:
        meta = obj.metadata
        self.revision += 1
        obj.metadata.resourceVersion = str(self.revision)
        self.objects[(type(obj).__name__, meta.namespace, meta.name)] = msgspec.to_builtins(obj)

    def pod(self, name: str) -> core_v1.Pod:
        return codec.decode(core_v1.Pod, msgspec.json.encode(self.objects[("Pod", "default", name)]))

    async def get(self, target: verbs.Target) -> bytes:
        self._check()
        found = self.objects.get((target.resource.kind, target.namespace, target.name))
        if found is None:
            raise not_found(target.resource.plural, "", target.name)
        return msgspec.json.encode(found)

    async def batch(self, writes: Sequence[verbs.Write]) -> list[bytes | ApiError]:
        self._check()
        return [self._patch(write) for write in writes if isinstance(write, verbs.Patch)]

    async def delete(self, target: verbs.Target, options: bytes = b"") -> bytes:
        self._check()
        self.deleted.append((target.name, msgspec.json.decode(options)))
        old = self.pod(target.name)
        del self.objects[("Pod", target.namespace, target.name)]
        self.on_change(old, None)
        return codec.encode(old)

    def _patch(self, write: verbs.Patch) -> bytes | ApiError:
        held = self.objects.get(("Pod", write.target.namespace, write.target.name))
        patch = msgspec.json.decode(write.patch)
        if held is None or held["metadata"]["uid"] != patch["metadata"]["uid"]:
            return not_found("pods", "", write.target.name)
        self.patches.append(patch)
        old = self.pod(write.target.name)
        status = held.setdefault("status", {})
        for key, value in patch["status"].items():
            if value is None:
                status.pop(key, None)
            else:
                status[key] = value
        self.revision += 1
        held["metadata"]["resourceVersion"] = str(self.revision)
        new = self.pod(write.target.name)
        self.on_change(old, new)
        return codec.encode(new)

    def _check(self) -> None:
        if not self.up:
            raise unavailable("no master is reachable")


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def event(self, obj: Any, type: str, reason: str, message: str) -> None:
        self.events.append((type, reason, message))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.events]


class FakeProber:
    """Answers as told: by (container, kind of action)."""

    def __init__(self) -> None:
        self.answers: dict[str, Outcome] = {}
        self.asked: list[str] = []

    async def ask(self, target: Target, probe: core_v1.Probe) -> Outcome:
        action = "exec" if probe.exec else "httpGet" if probe.httpGet else "tcpSocket"
        self.asked.append(action)
        return self.answers.get(action, Outcome(True))


async def in_place(work: Any, *args: Any) -> Any:
    return work(*args)


class World:
    """One node. `want` and `unwant` are the cluster's doing; `runtime` is there to be tampered with."""

    def __init__(self, tmp_path: Path, **engine: Any) -> None:
        self.clock = FakeClock()
        self.runtime = FakeRuntime(self.clock, **engine)
        self.network = FakeNetwork()
        self.mounter = FakeMounter()
        self.masters = FakeMasters()
        self.recorder = Recorder()
        self.prober = FakeProber()
        self.root = tmp_path / "pods"
        self.root.mkdir(parents=True, exist_ok=True)
        self.health: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._make()

    def _make(self) -> None:
        client = Client(self.masters)  # type: ignore[arg-type]
        self.statuses = StatusWriter(client, self.clock)
        self.volumes = PodVolumes(self.root, self.mounter)
        self.parts = Parts(
            client=client, runtime=self.runtime, network=self.network, volumes=self.volumes,
            images=Images(self.runtime, self.clock), references=References(client, self.clock), services=list,
            prober=self.prober, recorder=self.recorder, statuses=self.statuses, clock=self.clock,
            node=NodeFacts("c1", "n1", "node-uid", 8 * 1024**3), host_ip="192.168.0.1", blocking=in_place,
        )  # fmt: skip
        self.manager = PodManager(self.parts, lambda info, why: self.health.append(why))
        self.masters.on_change = self.manager.handle_pod

    async def start(self, *, synced: bool = True, cached: Sequence[core_v1.Pod] = ()) -> None:
        """The worker starts (again)."""
        self.manager.load(cached)
        self._tasks = [asyncio.create_task(self.manager.run()), asyncio.create_task(self.statuses.run())]
        await self.settle()
        if synced:
            await self.sync()

    async def sync(self) -> None:
        pods = [self.masters.pod(name) for kind, _, name in self.masters.objects if kind == "Pod"]
        for pod in pods:
            self.manager.handle_pod(None, pod)
        await self.manager.synced(pods)
        await self.settle()

    async def kill(self) -> None:
        """SIGKILL to the worker: its tasks are gone, the containers stay."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks)
        self._make()

    async def want(self, pod: core_v1.Pod) -> None:
        self.masters.put(pod)
        self.manager.handle_pod(None, self.masters.pod(pod.metadata.name))
        await self.settle()

    async def delete(self, name: str, grace_s: int = 30) -> None:
        """Somebody deletes the pod: it carries a deletionTimestamp until the worker confirms."""
        old = self.masters.pod(name)
        held = self.masters.objects[("Pod", "default", name)]
        held["metadata"] |= {"deletionTimestamp": timestamp(self.clock.wall()), "deletionGracePeriodSeconds": grace_s}
        self.manager.handle_pod(old, self.masters.pod(name))
        await self.settle()

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        await settle(SETTLE_TURNS)

    def status(self, name: str = "p") -> core_v1.PodStatus:
        return self.masters.pod(name).status

    def state(self, name: str = "p", container: int = 0) -> str:
        """A container's state as `get pods` would tell it."""
        state = self.status(name).containerStatuses[container].state
        assert state is not None
        if state.waiting:
            return state.waiting.reason
        return state.terminated.reason if state.terminated else "running"

    def condition(self, kind: str, name: str = "p") -> str:
        return next((c.status for c in self.status(name).conditions if c.type == kind), "")


@contextlib.asynccontextmanager
async def a_world(tmp_path: Path, **engine: Any) -> AsyncIterator[World]:
    """A world whose worker runs, until the story ends."""
    world = World(tmp_path, **engine)
    await world.start()
    try:
        yield world
    finally:
        await world.kill()
