"""Exec and attach over SPDY/3.1: a stream each for error, stdin, stdout, stderr and the terminal's sizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal

from aiohttp import web

from barque.api.types.meta_v1 import Status
from barque.master.apiserver.streams.options import ProcessOptions, spdy_protocol
from barque.master.apiserver.streams.processes import Inputs, Sizes, status_bytes
from barque.master.apiserver.streams.spdy_connection import SpdyConnection, SpdyStream, StreamRefused
from barque.master.apiserver.streams.wires import UpgradedResponse

PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
# How long a client may take to open its streams.
STREAMS_TIMEOUT_S = 30.0
# How long it may take to close the connection once all is said: to close it before that could cut off what is on its
# way.
LINGER_S = 3.0
# Those of a process, and some more for a client that opens one twice.
_MAX_STREAMS = 8


@asynccontextmanager
async def talking(
    request: web.BaseRequest, options: ProcessOptions, on_activity: Callable[[], None]
) -> AsyncIterator[SpdyTalk]:
    """The client once its connection is one of SPDY. Raises 400 and 403 as long as it is none."""
    protocol = spdy_protocol(request.headers.getall("X-Stream-Protocol-Version", []), PROTOCOLS)
    response = UpgradedResponse({"X-Stream-Protocol-Version": protocol}, on_activity)
    await response.take_over(request)
    talk = SpdyTalk(response, options, protocol)
    reading = asyncio.create_task(talk.run(), name="a SPDY connection")
    try:
        yield talk
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


class SpdyTalk:
    """The client of a process (`processes.Talk`)."""

    def __init__(self, response: UpgradedResponse, options: ProcessOptions, protocol: str) -> None:
        self.response: web.StreamResponse = response
        self._options = options
        self._as_json = protocol.startswith("v4.")
        self._connection = SpdyConnection(response, self._accept, _MAX_STREAMS)
        self._streams: dict[str, SpdyStream] = {}
        resizes = options.tty and protocol.startswith(("v4.", "v3."))
        wanted = {"stdin": options.stdin, "stdout": options.stdout, "stderr": options.stderr, "resize": resizes}
        self._wanted = {"error", *(name for name, is_wanted in wanted.items() if is_wanted)}
        self._complete = asyncio.Event()
        self._gone = asyncio.Event()

    async def run(self) -> None:
        """Read the connection until the client is gone."""
        try:
            await self._connection.run()
        finally:
            self._gone.set()
            self._complete.set()

    async def opened(self) -> bool:
        """Whether the client opens all streams in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STREAMS_TIMEOUT_S):
                await self._complete.wait()
        return self._wanted <= self._streams.keys() and not self._gone.is_set()

    async def feed(self, inputs: Inputs) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._drop(name)) for name in ("error", "stdout", "stderr")]
            tasks.append(group.create_task(self._feed_stdin(inputs)))
            tasks.append(group.create_task(self._feed_sizes(inputs)))
            await self._gone.wait()
            for task in tasks:
                task.cancel()

    async def write(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        if stream in self._streams:
            await self._streams[stream].write(data)

    async def finish(self, status: Status) -> None:
        said = status_bytes(status, as_json=self._as_json)
        # What nobody reads any more must not keep the client's frames from being read.
        for name in ("stdin", "resize"):
            await self._drop(name)
        with suppress(OSError):
            await self._streams["error"].write(said)
        for name in ("stdout", "stderr", "error"):
            if name in self._streams:
                await self._streams[name].end()
        for name in ("stdin", "resize"):
            if name in self._streams:
                await self._streams[name].reset()
        await self._connection.go_away()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._gone.wait()

    def _accept(self, stream: SpdyStream) -> None:
        name = stream.headers.get("streamtype", "")
        if name not in self._wanted or name in self._streams:
            raise StreamRefused(f"unexpected stream type: {name!r}")
        self._streams[name] = stream
        if self._wanted <= self._streams.keys():
            self._complete.set()

    async def _drop(self, name: str) -> None:
        if name in self._streams:
            await self._streams[name].discard()

    async def _feed_stdin(self, inputs: Inputs) -> None:
        stream = self._streams.get("stdin")
        if stream is not None:
            with suppress(OSError):
                while data := await stream.read():
                    await inputs.stdin(data)
            await inputs.end()

    async def _feed_sizes(self, inputs: Inputs) -> None:
        stream, sizes = self._streams.get("resize"), Sizes()
        if stream is not None:
            with suppress(OSError):
                while data := await stream.read():
                    for columns, rows in sizes.feed(data):
                        await inputs.resize(columns, rows)
