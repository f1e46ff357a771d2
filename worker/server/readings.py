"""What a kubelet tells by HTTP, at the node API: the paths that people and tools read through a node's proxy.

In: a path and a query as a request line has them; out: a code, a content type and the body in pieces, made as fast as
the caller takes them. Nothing here changes anything; commands and connections are rpcs of their own.
"""

from __future__ import annotations

import asyncio
import html
import os
import resource
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qs, quote, unquote

import msgspec

from barque.api import codec
from barque.api.errors import ApiError, bad_request
from barque.api.types import core_v1
from barque.proto import node_pb2
from barque.proto import pods_pb2 as pb
from barque.worker.server import rendering
from barque.worker.server.rendering import PROMETHEUS, Series

TEXT, JSON, HTML = "text/plain; charset=utf-8", "application/json", "text/html; charset=utf-8"
PIECE_BYTES = 64 * 1024

Query: TypeAlias = Mapping[str, str]
Logs: TypeAlias = Callable[[pb.LogsRequest], AsyncGenerator[pb.LogsChunk, None]]
Stats: TypeAlias = Callable[[], Awaitable[node_pb2.StatsReply]]


@dataclass
class About:
    """The node, as it tells of itself. `settings` are shown as the kubelet's configuration, `logs` as its log files."""

    name: str = ""
    address: str = "127.0.0.1"
    settings: Mapping[str, Any] = field(default_factory=dict)
    logs: Path = Path("/var/log")


class Answer(NamedTuple):
    code: int
    content_type: str
    body: AsyncGenerator[bytes, None]


class Readings:
    """`pods` are those of this node, `stats` measures, `logs` reads a container's log."""

    def __init__(self, about: About, pods: Callable[[], Sequence[core_v1.Pod]], stats: Stats, logs: Logs) -> None:
        self._about = about
        self._pods = pods
        self._stats = stats
        self._logs = logs
        self._whole: dict[str, Callable[[], Awaitable[tuple[str, bytes]]]] = {
            "/healthz": self._healthz,
            "/healthz/ping": self._healthz,
            "/pods": self._show_pods,
            "/stats/summary": self._summary,
            "/metrics": self._own_metrics,
            "/metrics/resource": self._resource_metrics,
            "/metrics/cadvisor": self._cadvisor_metrics,
            "/configz": self._configz,
        }

    async def answer(self, path: str, query: str) -> Answer:
        """The answer to a GET. Raises `ApiError` where a pod or a log is refused."""
        plain = unquote(path)
        show = self._whole.get(plain.rstrip("/") or "/")
        if show is not None:
            content_type, body = await show()
            return Answer(200, content_type, _whole(body))
        if plain.startswith("/containerLogs/"):
            return self._container_logs(plain, _first_values(query))
        if plain == "/logs" or plain.startswith("/logs/"):
            return await asyncio.to_thread(_file, self._about.logs, plain.removeprefix("/logs").strip("/"))
        return _missing()

    async def _healthz(self) -> tuple[str, bytes]:
        return TEXT, b"ok"

    async def _show_pods(self) -> tuple[str, bytes]:
        items = [codec.to_builtins(pod) for pod in self._pods()]
        return JSON, msgspec.json.encode({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _summary(self) -> tuple[str, bytes]:
        return JSON, msgspec.json.encode(rendering.summary(self._about.name, await self._stats()))

    async def _resource_metrics(self) -> tuple[str, bytes]:
        return PROMETHEUS, rendering.exposition(rendering.resource_series(await self._stats()))

    async def _cadvisor_metrics(self) -> tuple[str, bytes]:
        stats = await self._stats()
        return PROMETHEUS, rendering.exposition(rendering.cadvisor_series(stats, os.cpu_count() or 1))

    async def _own_metrics(self) -> tuple[str, bytes]:
        pods = list(self._pods())
        running = sum(1 for pod in pods for c in pod.status.containerStatuses if c.state and c.state.running)
        used = resource.getrusage(resource.RUSAGE_SELF)
        return PROMETHEUS, rendering.exposition(
            [
                Series("kubelet_node_name", "gauge", "The node's name. The count is always 1.",
                       [({"node": self._about.name}, 1, None)]),
                Series("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox",
                       [({}, sum(1 for pod in pods if pod.status.phase == "Running"), None)]),
                Series("kubelet_running_containers", "gauge", "Number of containers currently running",
                       [({"container_state": "running"}, running, None)]),
                Series("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
                       [({}, used.ru_utime + used.ru_stime, None)]),
                Series("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
                       [({}, _resident_bytes(), None)]),
            ]
        )  # fmt: skip

    async def _configz(self) -> tuple[str, bytes]:
        return JSON, msgspec.json.encode({"kubeletconfig": dict(self._about.settings)})

    def _container_logs(self, path: str, query: Query) -> Answer:
        """`/containerLogs/NAMESPACE/POD/CONTAINER` with the fields of PodLogOptions."""
        parts = path.split("/")[2:]
        if len(parts) != 3 or not all(parts):
            return _missing()
        namespace, pod, container = parts
        request = pb.LogsRequest(
            namespace=namespace,
            pod=pod,
            container=container,
            follow=_flag(query, "follow"),
            previous=_flag(query, "previous"),
            timestamps=_flag(query, "timestamps"),
            tail_lines=_number(query, "tailLines", -1),
            since_s=_number(query, "sinceSeconds", 0),
            since_time=query.get("sinceTime", ""),
            limit_bytes=_number(query, "limitBytes", 0),
        )
        return Answer(200, "text/plain", self._log_pieces(request))

    async def _log_pieces(self, request: pb.LogsRequest) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._logs(request)) as chunks:
            async for chunk in chunks:
                yield chunk.data


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _file(folder: Path, name: str) -> Answer:
    """A file below the folder, or the names in a directory of it. Nothing that leads out of it is followed."""
    if "\0" in name:
        return _missing()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return _missing()
    if path.is_dir():
        names = sorted(f"{each.name}/" if each.is_dir() else each.name for each in path.iterdir())
        lines = "".join(f'<a href="{quote(each)}">{html.escape(each)}</a>\n' for each in names)
        return Answer(200, HTML, _whole(f"<pre>\n{lines}</pre>\n".encode()))
    return Answer(200, TEXT, _read(path)) if path.is_file() else _missing()


async def _read(path: Path) -> AsyncGenerator[bytes, None]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def _missing() -> Answer:
    return Answer(404, TEXT, _whole(b"404 page not found\n"))


def _first_values(query: str) -> Query:
    try:
        return {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    except ValueError as error:
        raise bad_request(f"the query cannot be read: {error}") from None


def _flag(query: Query, name: str) -> bool:
    return query.get(name, "false").lower() not in ("false", "0", "f")


def _number(query: Query, name: str, otherwise: int) -> int:
    text = query.get(name, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ApiError(400, "BadRequest", f'strconv.ParseInt: parsing "{text[:80]}": invalid syntax')
    return int(text)
