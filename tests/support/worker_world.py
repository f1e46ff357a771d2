"""A worker's pods in a world of fakes: stories say what the cluster wants and what befalls the containers."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from barque.api.errors import ApiError
from barque.api.types import core_v1, meta_v1
from barque.client import verbs
from barque.client.clock import Clock, timestamp
from barque.worker.images.images import Images
from barque.worker.images.pull_secrets import PullSecrets
from barque.worker.pods.config import NodeFacts
from barque.worker.pods.manager import PodManager
from barque.worker.pods.parts import Parts
from barque.worker.probes import Outcome, Target
from barque.worker.references import References
from barque.worker.runtime.fake import FakeNetwork, FakeRuntime
from barque.worker.status_writer import StatusWriter
from barque.worker.volumes.contents import VolumeContents
from barque.worker.volumes.payloads import TokenKey
from barque.worker.volumes.tokens import IssuedToken, PodTokens
from barque.worker.volumes.volumes import PodVolumes
from tests.support.clock import FakeClock, settle
from tests.support.fake_verbs import FakeVerbs

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

    def bind(self, source: Path, target: Path) -> None:
        assert target.resolve() not in self.mounted, "a mount upon a mount, of which the lower one is never seen again"
        self.mounted[target.resolve()] = f"bind={os.readlink(source)}"

    def unmount(self, path: Path) -> None:
        del self.mounted[path]

    def is_tmpfs(self, path: Path) -> bool:
        return self.mounted.get(path.resolve(), "").startswith("mode=")

    def mounts_under(self, path: Path) -> list[Path]:
        return [m for m in self.mounted if m.is_relative_to(path.resolve())]


class FakeMasters(FakeVerbs):
    """The masters of one worker. `on_change` stands for its watch of pods: told what the worker itself writes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.on_change: Callable[[core_v1.Pod | None, core_v1.Pod | None], None] = lambda old, new: None

    def pod(self, name: str) -> core_v1.Pod:
        found: core_v1.Pod = self.find(core_v1.Pod, name)
        return copy.deepcopy(found)

    @property
    def patches(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(w.patch) for w in self.writes if isinstance(w, verbs.Patch)]

    @property
    def deleted(self) -> list[tuple[str, dict[str, Any]]]:
        return [(w.target.name, msgspec.json.decode(w.options)) for w in self.writes if isinstance(w, verbs.Delete)]

    def _one(self, write: verbs.Write) -> bytes:
        before = {p.metadata.name: p for p in self.all(core_v1.Pod)}
        answer = super()._one(write)
        after = {p.metadata.name: p for p in self.all(core_v1.Pod)}
        old, new = before.get(write.target.name), after.get(write.target.name)
        if old is not new:
            self.on_change(copy.deepcopy(old), copy.deepcopy(new))
        return answer


class FakeTokens:
    """Implements `TokenSource`: numbered tokens that last as long as asked; `asked` is by whom and for whom."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, TokenKey]] = []
        self.refusal: ApiError | None = None

    async def request(self, pod: core_v1.Pod, key: TokenKey) -> IssuedToken:
        self.asked.append((pod.metadata.name, key))
        if self.refusal is not None:
            raise self.refusal
        return IssuedToken(f"token-{len(self.asked)}", key.expiration_s)


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

        self.about: list[str] = []

    def event(self, obj: Any, type: str, reason: str, message: str, field_path: str = "") -> None:
        self.events.append((type, reason, message))
        self.about.append(field_path)

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.events]


class FakeProber:
    """Answers as told: by (container, kind of action)."""

    def __init__(self) -> None:
        self.answers: dict[str, Outcome] = {}
        self.asked: list[str] = []
        self.hooks: list[str] = []
        self.hanging: set[str] = set()

    async def ask(self, target: Target, probe: core_v1.Probe) -> Outcome:
        action = next(name for name in ("exec", "httpGet", "tcpSocket", "grpc") if getattr(probe, name) is not None)
        self.asked.append(action)
        return self.answers.get(action, Outcome(True))

    async def run_hook(self, target: Target, handler: core_v1.LifecycleHandler) -> Outcome:
        """As told for this command or path; one that is told to hang never ends."""
        name = " ".join(handler.exec.command) if handler.exec else handler.httpGet.path if handler.httpGet else ""
        self.hooks.append(name)
        if name in self.hanging:
            await asyncio.Event().wait()
        return self.answers.get(name, Outcome(True))


async def in_place(work: Any, *args: Any) -> Any:
    return work(*args)


class World:
    """One node. `want` and `unwant` are the cluster's doing; `runtime` is there to be tampered with."""

    def __init__(self, tmp_path: Path, **engine: Any) -> None:
        self.clock = FakeClock()
        self.runtime = FakeRuntime(self.clock, **engine)
        self.network = FakeNetwork()
        self.mounter = FakeMounter()
        self.masters = FakeMasters(self.clock)
        self.recorder = Recorder()
        self.prober = FakeProber()
        self.tokens = FakeTokens()
        self.root = tmp_path / "pods"
        self.root.mkdir(parents=True, exist_ok=True)
        self.health: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._make()

    def _make(self) -> None:
        client = self.masters.client
        self.statuses = StatusWriter(client, self.clock)
        self.volumes = PodVolumes(self.root, self.mounter)
        references = References(client, self.clock)
        self.parts = Parts(
            client=client, runtime=self.runtime, network=self.network, volumes=self.volumes,
            volume_contents=VolumeContents(references, PodTokens(self.tokens, self.clock, lambda: 0.0), self.clock),
            images=Images(self.runtime, self.clock), pull_secrets=PullSecrets(references), references=references,
            services=list,
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
        pods = [self.masters.pod(pod.metadata.name) for pod in self.masters.all(core_v1.Pod)]
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
        deleting = self.masters.pod(name)
        deleting.metadata.deletionTimestamp = timestamp(self.clock.wall())
        deleting.metadata.deletionGracePeriodSeconds = grace_s
        self.masters.put(deleting)
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
