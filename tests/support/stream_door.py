"""Streams into pods at an HTTP door on loopback: the real handlers, and a worker whose processes do as they are told.

`async with a_stream_door(directory) as door` opens it; the pod `web` runs the containers `a` and `b`, `alone` just
`main`, and `homeless` has no node.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
from aiohttp import web

from barque.api.errors import ApiError
from barque.client import pki, wire
from barque.client.clock import Clock, SystemClock
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.node_channels import NodeChannels, dialer
from barque.master.apiserver.places import Places
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.limits import BoundedServer
from barque.master.apiserver.rest.request_info import RequestInfo
from barque.master.apiserver.streams.service import PodStreams
from barque.master.auth.identity import User
from barque.proto import pods_pb2 as pb
from tests.support.harbour import FakeWorker, Harbour, a_harbour

USER = User("alice", ("system:authenticated",))
FLOOD = b"x" * 65536
# Who asks for so many lines of a log gets lines without end.
FLOODS = 987_654


class ObedientWorker(FakeWorker):
    """Commands: `cat`, `exit N`, `both`, `flood`, `deaf` (reads nothing), `sizes`, `refuse`. Ports: 80 answers in
    capitals, 81 refuses, 82 says hello and ends, 83 floods, 84 reads nothing.
    """

    def forget(self) -> None:
        """As if nothing had been asked yet; what still ends tells it to whoever asked for it."""
        self.asked, self.ended, self.sent = [], asyncio.Event(), 0

    async def Logs(self, request: Any, context: Any) -> AsyncIterator[pb.LogsChunk]:
        self.asked.append(request)
        ended = self.ended
        if request.previous:
            await _refuse(context, 'previous terminated container "main" in pod "alone" not found')
        try:
            yield pb.LogsChunk(data=b"line 1\n")
            if request.follow:
                yield pb.LogsChunk(data=b"line 2\n")
                while request.tail_lines == FLOODS:
                    yield pb.LogsChunk(data=FLOOD)
                    self.sent += 1
                if request.container == "b":
                    await _refuse(context, "the log broke off")
                await asyncio.Event().wait()
        finally:
            ended.set()

    async def Exec(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.ExecOutput]:
        first = await anext(request_iterator)
        self.asked.append(first)
        ended = self.ended
        try:
            async for output in self._run(first.start, request_iterator, context):
                yield output
        finally:
            ended.set()

    Attach = Exec

    async def _run(self, start: Any, messages: Any, context: Any) -> AsyncIterator[pb.ExecOutput]:
        command = list(start.command) or ["cat"]
        match command[0]:
            case "exit":
                yield pb.ExecOutput(exit_code=int(command[1]))
            case "both":
                yield pb.ExecOutput(stdout=b"out\n")
                yield pb.ExecOutput(stderr=b"err\n")
                yield pb.ExecOutput(exit_code=0)
            case "refuse":
                await _refuse(context, 'container not found ("main")')
            case "flood":
                for _ in range(int(command[1]) if len(command) > 1 else 10**9):
                    yield pb.ExecOutput(stdout=FLOOD)
                    self.sent += 1
                yield pb.ExecOutput(exit_code=0)
            case "deaf":
                yield pb.ExecOutput(stdout=b"ready")
                await asyncio.Event().wait()
            case _:
                async for message in messages:
                    match message.WhichOneof("input"):
                        case "stdin":
                            yield pb.ExecOutput(stdout=message.stdin)
                        case "resize":
                            size = message.resize
                            yield pb.ExecOutput(stdout=b"%dx%d\n" % (size.columns, size.rows))
                        case "stdin_end":
                            break
                yield pb.ExecOutput(exit_code=0)

    async def PortForward(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.PortForwardOutput]:
        start = (await anext(request_iterator)).start
        self.asked.append(start)
        ended = self.ended
        if start.port == 81:
            await _refuse(context, f"error forwarding port 81 to pod {start.pod}: connection refused")
        yield pb.PortForwardOutput(connected=True)
        try:
            if start.port == 82:
                yield pb.PortForwardOutput(data=b"hello")
            for _ in itertools.count() if start.port == 83 else ():
                yield pb.PortForwardOutput(data=FLOOD)
                self.sent += 1
            if start.port == 84:
                await asyncio.Event().wait()
            while start.port == 80 and (message := await anext(request_iterator, None)) is not None:
                if message.WhichOneof("input") == "end":
                    break
                yield pb.PortForwardOutput(data=message.data.upper())
            yield pb.PortForwardOutput(end=True)
        finally:
            ended.set()


async def _refuse(context: Any, message: str) -> None:
    error = ApiError(400, "BadRequest", message)
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message, wire.status_metadata(error))


class StreamDoor:
    """`port` is that of the HTTP server; `streams` may be exchanged for one with other bounds."""

    def __init__(self, harbour: Harbour, worker: ObedientWorker, channels: NodeChannels, clock: Clock) -> None:
        self.harbour = harbour
        self.worker = worker
        self.places = Places(harbour.registry, channels)
        self.clock = clock
        self.bounds = Bounds()
        self.streams = PodStreams(self.places, self.bounds, clock)
        self.server: BoundedServer | None = None
        self.port = 0
        self.unexpected: list[Exception] = []

    def url(self, pod: str, subresource: str, query: str = "") -> str:
        return f"http://127.0.0.1:{self.port}/api/v1/namespaces/default/pods/{pod}/{subresource}?{query}"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """What the door of the API does around a handler."""
        parts = request.path.strip("/").split("/")
        if len(parts) != 7:
            return await self._object(request, parts)
        info = RequestInfo(request.path, True, "get", "", "v1", "pods", parts[6], parts[3], parts[5])
        try:
            return await self.streams.handlers()[parts[6]](RestCall(request, info, USER))
        except ApiError as error:
            body = msgspec.json.encode(error.status())
            return web.Response(body=body, status=error.code, content_type="application/json")
        except Exception as error:
            self.unexpected.append(error)
            raise

    async def _object(self, request: web.BaseRequest, parts: list[str]) -> web.StreamResponse:
        """The pod itself, which kubectl looks at first; running, as far as it is told."""
        if request.path == "/api":
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        if request.path == "/apis":
            return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
        if request.path == "/api/v1":
            pods = {"name": "pods", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"], "shortNames": ["po"]}
            return web.json_response({"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]})
        if len(parts) != 6:
            return web.json_response({}, status=404)
        pod = msgspec.json.decode(msgspec.json.encode(await self.places.look_up(parts[3], parts[5])))
        status = {"phase": "Running", "containerStatuses": []}
        return web.json_response({"kind": "Pod", "apiVersion": "v1", **pod, "status": status})


@asynccontextmanager
async def a_stream_door(directory: Path, clock: Clock | None = None) -> AsyncIterator[StreamDoor]:
    """A door whose store and keys are kept in `directory`."""
    async with a_harbour(directory) as harbour:
        identity = harbour.identity_of(pki.node_subject("n1"), (pki.node_host("n1"),))
        worker = ObedientWorker()
        await worker.start(identity)
        harbour.workers.append(worker)
        await harbour.node("n1", worker.port)
        await harbour.pod("web", "n1", "a", "b")
        await harbour.pod("alone", "n1")
        await harbour.pod("homeless")
        channels = NodeChannels(dialer(lambda: harbour.pki.master), SystemClock())
        door = StreamDoor(harbour, worker, channels, clock or SystemClock())
        server = door.server = BoundedServer(door.answer)
        site = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        door.port = site.sockets[0].getsockname()[1]
        try:
            yield door
        finally:
            site.close()
            await server.shutdown(1)
            await channels.close()
    assert not door.unexpected
