"""Port-forward over SPDY/3.1: a pair of streams, data and error, for each connection into the pod.

The client opens both with the headers `streamType`, `port` and `requestID`; clients of Kubernetes before 1.3 send no
`requestID` and open data right after error. What goes wrong with one connection is told on its error stream.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from barque.master.apiserver.streams import spdy_frames as spdy
from barque.master.apiserver.streams.forwarding import Join, attempt
from barque.master.apiserver.streams.spdy_connection import (
    MAX_STREAMS,
    SpdyConnection,
    SpdyStream,
    StreamRefused,
    Wire,
)

PROTOCOL = "portforward.k8s.io"
# What clients since Kubernetes 1.31 ask for: the same inside a WebSocket.
TUNNEL_PROTOCOL = "SPDY/3.1+" + PROTOCOL
# How long a client may take to open the other stream of a pair.
PAIR_TIMEOUT_S = 30.0
# Streams that are reset at once count no longer, but their pair is there until it is given up.
MAX_PAIRS = MAX_STREAMS // 2
_MAX_MESSAGE_BYTES = 4096


class _Pair:
    """Becomes complete once both streams are there."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.data: SpdyStream | None = None
        self.error: SpdyStream | None = None
        self.complete = asyncio.Event()

    def add(self, kind: str, stream: SpdyStream) -> None:
        """Raises StreamRefused for a second one of its kind."""
        if getattr(self, kind) is not None:
            raise StreamRefused(f"{kind} stream already assigned")
        setattr(self, kind, stream)
        if self.data is not None and self.error is not None:
            self.complete.set()


class SpdyForwarding:
    """The pairs of one client; `join` joins each with the pod."""

    def __init__(self, wire: Wire, join: Join) -> None:
        self._connection = SpdyConnection(wire, self._accept)
        self._join = join
        self._pairs: dict[str, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve the client until it is gone."""
        try:
            await self._connection.run()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, stream: SpdyStream) -> None:
        port = _port(stream.headers.get("port", ""))
        kind = stream.headers.get("streamtype", "")
        if kind not in ("data", "error"):
            raise StreamRefused(f"invalid stream type {kind!r}")
        before = stream.number - 2 if kind == "data" else stream.number
        number = stream.headers.get("requestid") or str(before)
        pair = self._pairs.get(number)
        if pair is None:
            if len(self._tasks) >= MAX_PAIRS:
                raise StreamRefused("too many connections at once", spdy.REFUSED_STREAM)
            pair = self._pairs[number] = _Pair(port)
            pair.add(kind, stream)
            task = asyncio.create_task(self._serve(number, pair), name=f"forwarded connection {number}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            pair.add(kind, stream)

    async def _serve(self, number: str, pair: _Pair) -> None:
        message = ""
        try:
            async with asyncio.timeout(PAIR_TIMEOUT_S):
                await pair.complete.wait()
            assert pair.data is not None
            assert pair.error is not None
            await pair.error.discard()
            message = await attempt(self._join, pair.port, pair.data)
        except TimeoutError:
            message = f"request={number}: timed out waiting for streams"
        finally:
            self._pairs.pop(number, None)
        await _finish(pair, message)


async def _finish(pair: _Pair, message: str) -> None:
    """Say what went wrong, and end both streams: a client that waits for the error stream's end goes on."""
    with suppress(OSError):
        # First of all: what nobody reads any more must not keep the client's frames from being read.
        for stream in (pair.data, pair.error):
            if stream is not None:
                await stream.discard()
        if pair.data is not None:
            await pair.data.end()
        if pair.error is not None:
            if message:
                await pair.error.write(message.encode()[:_MAX_MESSAGE_BYTES])
            await pair.error.end()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 0 < int(text) < 65536:
        raise StreamRefused(f"unable to parse {text[:80]!r} as a port")
    return int(text)
