"""`DockerRuntime`: the runtime port on Docker's API (20.10 and newer).

A sandbox is namespaces alone (`sandboxes`) where this Docker has been seen to bring a container into them, and a pause
container elsewhere, and wherever a pod shares its processes or uses the host's namespaces.

Short calls go through the `docker` SDK's low-level client in a bounded pool of threads, with as many connections;
long-lived answers are asyncio streams (`docker_streams`). The client is made on first use, and again after Docker was
away, since a restarted Docker may speak another API version.
"""

from __future__ import annotations

import asyncio
import json
import logging
import platform
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import requests
import urllib3.exceptions

from barque.worker import labels
from barque.worker.runtime import (
    docker_images,
    docker_logs,
    docker_records,
    docker_sandboxes,
    docker_sessions,
    docker_streams,
    pause,
)
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
    LogRotation,
    NameTakenError,
    Resync,
    RuntimeEvent,
    RuntimeFault,
    RuntimeInfo,
    RuntimeUnavailableError,
)
from barque.worker.runtime.sandboxes import RUNTIME, Sandboxes

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_HOST = "unix:///var/run/docker.sock"
# Docker itself starts only so many containers at a time usefully; eight pods start at once, each with up to two calls.
THREADS = 16
# Creating or starting under heavy load may take long; beyond this the engine counts as unavailable.
CALL_TIMEOUT_S = 120
# Between questions whether a removal that somebody else has begun is over: of large containers it takes seconds.
REMOVAL_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
# When to look whether a container has ended with its log: Docker may note it a moment later.
ENDED_PAUSES_S = (0.0, 0.1, 0.4)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "amd64": "amd64", "arm64": "arm64"}
_CAP_SYS_RESOURCE = 1 << 24
# Starts are made by this worker alone, which looks at once; one that somebody else makes is seen at the next resync.
_WATCHED = ["die", "destroy"]


def go_architecture(machine: str = "") -> str:
    """The machine's architecture in Go's and Kubernetes' words."""
    name = machine or platform.machine()
    return _ARCHITECTURES.get(name, name)


def lowest_oom_score(process: Path) -> int:
    """The lowest `oom_score_adj` this host's root may give: below its own only with CAP_SYS_RESOURCE (capabilities(7)),
    which root lacks inside many containers and small VMs.
    """
    status = (process / "status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return -1000 if effective & _CAP_SYS_RESOURCE else int((process / "oom_score_adj").read_text())


class DockerRuntime:
    """Implements `Runtime`. `cluster` and `node` are the label values by which it finds its own containers; `wall` is
    the time of day in seconds since the epoch; `sandboxes` is a folder for sandboxes without containers, None for
    having none.
    """

    def __init__(
        self,
        host: str,
        cluster: str,
        node: str,
        wall: Callable[[], float] = time.time,
        rotation: LogRotation = LogRotation(),
        sandboxes: Path | None = None,
    ) -> None:
        self._rotation = rotation
        self._host = host or DEFAULT_HOST
        own = {labels.CLUSTER: cluster, labels.NODE: node}
        self._own = own.items()
        self._labels = [f"{name}={value}" for name, value in own.items()]
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._api: docker.APIClient | None = None
        self._pause = pause.image(go_architecture())
        self._lowest_oom_score = lowest_oom_score(Path("/proc/self"))
        # Made in any case: a pod may still have one from a time when Docker could.
        self._sandboxes = Sandboxes(sandboxes, wall) if sandboxes is not None else None
        self._rehearsal = (
            docker_sandboxes.Rehearsal(self._sandboxes, self._pause.tag, own) if self._sandboxes is not None else None
        )
        self._enters = False
        # Created by this process and not started yet. Any other may lack the note that lets it into its sandbox.
        self._made: set[str] = set()

    @property
    def sandbox_image(self) -> str:
        return self._pause.tag

    async def prepare(self) -> RuntimeInfo:
        def look(api: docker.APIClient) -> RuntimeInfo:
            version, info = api.version(), api.info()
            if not api.images(name=self._pause.tag):
                for line in _untyped(api).load_image(self._pause.archive, quiet=True):
                    if "error" in line:
                        raise RuntimeFault(f"Docker refused the sandbox image: {line['error']}")
            if self._rehearsal is not None:
                self._enters = self._rehearsal.succeeds(api, version["Version"], info.get("Runtimes") or {})
            return RuntimeInfo(
                version=version["Version"],
                api_version=version["ApiVersion"],
                root_dir=info["DockerRootDir"],
                operating_system=info["OperatingSystem"],
                architecture=go_architecture(info["Architecture"]),
                kernel=info["KernelVersion"],
                cpus=info["NCPU"],
                memory_bytes=info["MemTotal"],
            )

        return await self._call(look)

    async def list(self) -> Sequence[ContainerSummary]:
        found = await self._call(lambda api: api.containers(all=True, filters={"label": self._labels}))
        summaries = [docker_records.summary_of(entry) for entry in found]
        if self._sandboxes is not None:
            records = await self._blocking(self._sandboxes.records)
            summaries += [ContainerSummary(r.id, r.labels, r.state) for r in records if self._own <= r.labels.items()]
        return summaries

    async def inspect(self, container_id: str) -> ContainerRecord:
        if self._is_bare(container_id):
            return await self._blocking(lambda: self._bare.record(container_id))
        return docker_records.record_of(await self._call(lambda api: api.inspect_container(container_id)))

    async def create(self, spec: ContainerSpec) -> str:
        if self._enters and docker_sandboxes.suits(spec):
            return await self._blocking(lambda: self._bare.create(spec))
        body = docker_records.create_body(spec, self._lowest_oom_score, self._rotation)

        def create(api: docker.APIClient) -> str:
            if not self._is_bare(spec.sandbox):
                return send(api, body)
            if not self._enters:
                raise RuntimeFault(f"the pod's sandbox needs Docker's runtime {RUNTIME!r}, which is not registered")
            hostname, shm = self._bare.hostname(spec.sandbox), self._bare.shm(spec.sandbox)
            container_id = send(api, docker_sandboxes.entering(body, hostname, shm))
            self._bare.join(spec.sandbox, container_id)
            return container_id

        def send(api: docker.APIClient, body: dict[str, Any]) -> str:
            try:
                answer = _untyped(api).create_container_from_config(body, name=spec.name)
            except docker.errors.ImageNotFound as error:
                raise ImageMissingError(_words(error)) from error
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    raise NameTakenError(_words(error)) from error
                raise
            return str(answer["Id"])

        made = await self._call(create)
        self._made.add(made)
        return made

    async def start(self, container_id: str) -> None:
        if self._is_bare(container_id):
            await self._blocking(lambda: self._bare.start(container_id))
            return

        def start(api: docker.APIClient) -> None:
            if container_id not in self._made and self._sandboxes is not None:
                sandbox = api.inspect_container(container_id)["Config"]["Labels"].get(labels.SANDBOX, "")
                if self._is_bare(sandbox):
                    self._bare.join(sandbox, container_id)
            api.start(container_id)

        await self._call(start)
        self._made.discard(container_id)

    async def update(self, container_id: str, limits: Limits) -> None:
        body = docker_records.update_body(limits)

        def update(api: docker.APIClient) -> None:
            # The SDK's own method knows no NanoCpus, and Docker takes no quota for a container that has them.
            raw = _untyped(api)
            raw._raise_for_status(raw._post_json(raw._url("/containers/{0}/update", container_id), data=body))

        await self._call(update)

    async def signal(self, container_id: str, signal: str) -> None:
        if self._is_bare(container_id):
            # It has no process to hear it.
            return

        def kill(api: docker.APIClient) -> None:
            try:
                api.kill(container_id, signal)
            except docker.errors.APIError as error:
                # 409: it has ended meanwhile; 404: it is gone.
                if error.status_code not in (404, 409):
                    raise

        await self._call(kill)

    async def remove(self, container_id: str) -> None:
        if self._is_bare(container_id):
            await self._blocking(lambda: self._bare.remove(container_id))
            return

        def remove(api: docker.APIClient) -> bool:
            try:
                api.remove_container(container_id, v=True, force=True)
            except docker.errors.APIError as error:
                # 409: its removal is under way already; 404: it is gone.
                if error.status_code not in (404, 409):
                    raise
                return bool(error.status_code == 404)
            return True

        for pause_s in REMOVAL_PAUSES_S:
            if await self._call(remove):
                break
            await asyncio.sleep(pause_s)
        else:
            raise RuntimeFault(f"the removal of container {container_id}, begun before, does not come to its end")
        self._made.discard(container_id)
        if self._sandboxes is not None:
            await self._blocking(lambda: self._bare.leave(container_id))

    async def image(self, reference: str) -> ImageRecord | None:
        def look(api: docker.APIClient) -> ImageRecord | None:
            try:
                found = _untyped(api).inspect_image(reference)
            except docker.errors.ImageNotFound:
                return None
            user = (found.get("Config") or {}).get("User") or ""
            return ImageRecord(found["Id"], user, tuple(found.get("RepoDigests") or ()), found["Size"])

        return await self._call(look)

    async def images(self) -> Sequence[ImageUsage]:
        found = await self._call(lambda api: api.images())
        return [ImageUsage(tuple(_names(entry)), entry["Size"], entry["Id"]) for entry in found]

    async def images_in_use(self) -> Mapping[str, bool]:
        found = await self._call(lambda api: api.containers(all=True))
        own = {tuple(label.split("=", 1)) for label in self._labels}
        used: dict[str, bool] = {}
        for entry in found:
            ours = own <= set((entry.get("Labels") or {}).items())
            used[entry["ImageID"]] = used.get(entry["ImageID"], False) or ours
        return used

    async def pull(self, reference: str, login: Login | None = None) -> None:
        await docker_images.pull(self._host, reference, login)

    async def load_images(self, archive: AsyncIterator[bytes], size_bytes: int) -> Sequence[str]:
        return await docker_images.load(self._host, archive, size_bytes)

    async def remove_image(self, reference: str) -> None:
        def remove(api: docker.APIClient) -> None:
            try:
                api.remove_image(reference)
            except docker.errors.ImageNotFound as error:
                raise ImageMissingError(_words(error)) from error
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    raise ImageInUseError(_words(error)) from error
                raise

        await self._call(remove)

    async def watch(self) -> AsyncGenerator[RuntimeEvent, None]:
        filters = json.dumps({"type": ["container"], "event": _WATCHED, "label": self._labels})
        stream = await docker_streams.open_stream(self._host, "GET", "/events", {"filters": filters})
        try:
            yield Resync()
            async with aclosing(docker_streams.json_lines(stream)) as lines:
                async for line in lines:
                    yield Changed(line["id"], gone=line["Action"] == "destroy")
        except OSError as error:
            raise RuntimeUnavailableError(f"Docker's event stream broke: {error}") from error
        finally:
            await stream.close()
        raise RuntimeUnavailableError("Docker ended its event stream")

    async def logs(self, container_id: str, options: LogOptions) -> AsyncGenerator[LogRecord, None]:
        tty = (await self.inspect(container_id)).tty
        query = docker_logs.query_of(options)
        stream = await docker_streams.open_stream(self._host, "GET", f"/containers/{container_id}/logs", query)
        try:
            async with aclosing(docker_logs.records(stream, tty=tty)) as records:
                async for record in records:
                    yield record
            if options.follow:
                await self._check_ended(container_id)
        except OSError as error:
            raise RuntimeUnavailableError(f"the log's connection broke: {error}") from error
        finally:
            await stream.close()

    async def _check_ended(self, container_id: str) -> None:
        """A followed log ends with its container: of one that goes on, Docker has gone away for a moment, which its
        connections do not tell from an end.
        """
        for pause_s in ENDED_PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                record = await self.inspect(container_id)
            except ContainerNotFoundError:
                return
            if record.state != "running":
                return
        raise RuntimeUnavailableError("Docker ended the log of a container that goes on running")

    async def exec(self, container_id: str, options: ExecOptions) -> docker_sessions.DockerExec:
        return await docker_sessions.run(self._call, self._host, container_id, options)

    async def attach(self, container_id: str, *, stdin: bool) -> docker_sessions.DockerSession:
        tty = (await self.inspect(container_id)).tty
        session = await docker_sessions.attach(self._call, self._host, container_id, stdin=stdin, tty=tty)
        # To one that has ended Docker attaches as to one that is still to be started, and says nothing ever after.
        try:
            if (await self.inspect(container_id)).state == "exited":
                raise RuntimeFault("the container has ended: its log says what it said")
        except BaseException:
            await session.close()
            raise
        return session

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._api is not None:
            self._api.close()

    def _is_bare(self, container_id: str) -> bool:
        return self._sandboxes is not None and docker_sandboxes.is_bare(container_id)

    @property
    def _bare(self) -> Sandboxes:
        """For ids that say themselves that there are such."""
        assert self._sandboxes is not None
        return self._sandboxes

    async def _blocking(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _call(self, work: Callable[[docker.APIClient], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, work)

    def _run(self, work: Callable[[docker.APIClient], T]) -> T:
        """One call, in a thread; Docker's errors become the port's."""
        try:
            if self._api is None:
                self._api = _connect(self._host)
            return work(self._api)
        except docker.errors.NotFound as error:
            raise ContainerNotFoundError(_words(error)) from error
        except docker.errors.APIError as error:
            raise RuntimeFault(_words(error)) from error
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            docker.errors.DockerException,
            OSError,
        ) as error:
            broken, self._api = self._api, None
            if broken is not None:
                broken.close()
            raise RuntimeUnavailableError(f"Docker does not answer at {self._host}: {plain_reason(error)}") from error


def _connect(host: str) -> docker.APIClient:
    api = docker.APIClient(base_url=host, version="auto", timeout=CALL_TIMEOUT_S, max_pool_size=THREADS)
    # Docker's socket needs neither proxies nor .netrc, which requests would look up anew for every call.
    api.trust_env = False
    return api


def _names(image: dict[str, Any]) -> list[str]:
    names = (image.get("RepoDigests") or []) + (image.get("RepoTags") or [])
    return [name for name in names if "<none>" not in name]


def _untyped(api: docker.APIClient) -> Any:
    """The client, where its published types lack what it has."""
    return api


def plain_reason(error: BaseException) -> str:
    """The system's own reason at the bottom of what the SDK and its libraries make of it."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        found = found.__cause__ or found.__context__
    reasons = [e.strerror for e in seen if isinstance(e, OSError) and e.strerror]
    return reasons[-1] if reasons else str(error)


def _words(error: docker.errors.APIError) -> str:
    """Docker's own sentence."""
    return str(error.explanation or error)
