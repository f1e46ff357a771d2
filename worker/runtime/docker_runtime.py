"""`DockerRuntime`: the runtime port on Docker's API (20.10 and newer).

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
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, TypeVar

import docker
import docker.errors
import requests
import urllib3.exceptions

from barque.worker import labels
from barque.worker.runtime import docker_records, docker_streams, pause
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

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_HOST = "unix:///var/run/docker.sock"
# Docker itself starts only so many containers at a time usefully; eight pods start at once, each with up to two calls.
THREADS = 16
# Creating or starting under heavy load may take long; beyond this the engine counts as unavailable.
CALL_TIMEOUT_S = 120
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
    the time of day that Docker stamps log lines with, in seconds since the epoch.
    """

    def __init__(self, host: str, cluster: str, node: str, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._host = host or DEFAULT_HOST
        self._labels = [f"{labels.CLUSTER}={cluster}", f"{labels.NODE}={node}"]
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._api: docker.APIClient | None = None
        self._pause = pause.image(go_architecture())
        self._lowest_oom_score = lowest_oom_score(Path("/proc/self"))

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
        return [docker_records.summary_of(entry) for entry in found]

    async def inspect(self, container_id: str) -> ContainerRecord:
        return docker_records.record_of(await self._call(lambda api: api.inspect_container(container_id)))

    async def create(self, spec: ContainerSpec) -> str:
        body = docker_records.create_body(spec, self._lowest_oom_score)

        def create(api: docker.APIClient) -> str:
            try:
                answer = _untyped(api).create_container_from_config(body, name=spec.name)
            except docker.errors.ImageNotFound as error:
                raise ImageMissingError(_words(error)) from error
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    raise NameTakenError(_words(error)) from error
                raise
            return str(answer["Id"])

        return await self._call(create)

    async def start(self, container_id: str) -> None:
        await self._call(lambda api: api.start(container_id))

    async def signal(self, container_id: str, signal: str) -> None:
        def kill(api: docker.APIClient) -> None:
            try:
                api.kill(container_id, signal)
            except docker.errors.APIError as error:
                # 409: it has ended meanwhile; 404: it is gone.
                if error.status_code not in (404, 409):
                    raise

        await self._call(kill)

    async def remove(self, container_id: str) -> None:
        def remove(api: docker.APIClient) -> None:
            try:
                api.remove_container(container_id, v=True, force=True)
            except docker.errors.APIError as error:
                # 409: its removal is under way already.
                if error.status_code not in (404, 409):
                    raise

        await self._call(remove)

    async def image(self, reference: str) -> ImageRecord | None:
        def look(api: docker.APIClient) -> ImageRecord | None:
            try:
                found = _untyped(api).inspect_image(reference)
            except docker.errors.ImageNotFound:
                return None
            user = (found.get("Config") or {}).get("User") or ""
            return ImageRecord(found["Id"], user, tuple(found.get("RepoDigests") or ()))

        return await self._call(look)

    async def images(self) -> Sequence[ImageUsage]:
        found = await self._call(lambda api: api.images())
        return [ImageUsage(tuple(names), entry["Size"]) for entry in found if (names := _names(entry))]

    async def pull(self, reference: str) -> None:
        repository, tag = docker_records.split_reference(reference)
        query = {"fromImage": repository, "tag": tag}
        try:
            stream = await docker_streams.open_stream(self._host, "POST", "/images/create", query)
        except RuntimeUnavailableError:
            raise
        except RuntimeFault as error:
            raise PullError(str(error)) from error
        try:
            async with aclosing(docker_streams.json_lines(stream)) as lines:
                async for line in lines:
                    if "error" in line:
                        raise PullError(str(line["error"]))
        finally:
            await stream.close()

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

    async def logs(self, container_id: str, options: LogOptions) -> AsyncGenerator[bytes, None]:
        tty = (await self.inspect(container_id)).tty
        query: dict[str, Any] = {"stdout": 1, "stderr": 1, "follow": int(options.follow)}
        query["timestamps"] = int(options.timestamps)
        query["tail"] = options.tail_lines if options.tail_lines >= 0 else "all"
        if options.since_s:
            query["since"] = int(self._wall()) - options.since_s
        stream = await docker_streams.open_stream(self._host, "GET", f"/containers/{container_id}/logs", query)
        try:
            async with aclosing(docker_streams.frames(stream, tty=tty)) as pieces:
                async for _, data in pieces:
                    yield data
        finally:
            await stream.close()

    async def exec(self, container_id: str, options: ExecOptions) -> DockerExec:
        body = {
            "Cmd": list(options.command),
            "AttachStdin": options.stdin,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": options.tty,
        }
        created = await self._call(lambda api: _post_json(api, f"/containers/{container_id}/exec", body))
        exec_id = str(created["Id"])
        stream = await docker_streams.open_stream(
            self._host, "POST", f"/exec/{exec_id}/start", body={"Detach": False, "Tty": options.tty}, upgrade=True
        )
        session = DockerExec(self, exec_id, stream, tty=options.tty)
        if options.tty and options.columns and options.rows:
            try:
                await session.resize(options.columns, options.rows)
            except RuntimeUnavailableError:
                await session.close()
                raise
        return session

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._api is not None:
            self._api.close()

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


class DockerExec:
    """A running command: implements `ExecSession`."""

    def __init__(self, runtime: DockerRuntime, exec_id: str, stream: docker_streams.Stream, *, tty: bool) -> None:
        self._runtime = runtime
        self._id = exec_id
        self._stream = stream
        self._tty = tty

    async def output(self) -> AsyncGenerator[tuple[Literal["stdout", "stderr"], bytes], None]:
        try:
            async with aclosing(docker_streams.frames(self._stream, tty=self._tty)) as pieces:
                async for piece in pieces:
                    yield piece
        except OSError as error:
            raise RuntimeUnavailableError(f"the command's connection broke: {error}") from error

    async def write(self, data: bytes) -> None:
        self._stream.writer.write(data)
        await self._stream.writer.drain()

    async def end_input(self) -> None:
        if self._stream.writer.can_write_eof():
            self._stream.writer.write_eof()

    async def resize(self, columns: int, rows: int) -> None:
        try:
            await self._runtime._call(lambda api: api.exec_resize(self._id, height=rows, width=columns))
        except RuntimeUnavailableError:
            raise
        except RuntimeFault as error:
            # A short command has ended before its terminal got its size; its output and exit code are still to come.
            log.debug("exec %s has no terminal to resize: %s", self._id, error)

    async def exit_code(self) -> int:
        # The output may end a moment before Docker has noted the exit code.
        for pause_s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
            found = await self._runtime._call(lambda api: api.exec_inspect(self._id))
            if not found["Running"]:
                return int(found["ExitCode"] or 0)
            await asyncio.sleep(pause_s)
        raise RuntimeFault("the command closed its output but goes on running")

    async def close(self) -> None:
        await self._stream.close()


def _connect(host: str) -> docker.APIClient:
    api = docker.APIClient(base_url=host, version="auto", timeout=CALL_TIMEOUT_S, max_pool_size=THREADS)
    # Docker's socket needs neither proxies nor .netrc, which requests would look up anew for every call.
    api.trust_env = False
    return api


def _names(image: dict[str, Any]) -> list[str]:
    names = (image.get("RepoDigests") or []) + (image.get("RepoTags") or [])
    return [name for name in names if "<none>" not in name]


def _post_json(api: docker.APIClient, path: str, body: dict[str, Any]) -> Any:
    raw = _untyped(api)
    return raw._result(raw._post_json(raw._url(path), data=body), json=True)


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
