"""A client of SPDY/3.1 connections, over a socket or over a WebSocket: what it is sent is kept as it came."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from barque.master.apiserver.streams import spdy_frames as spdy


class SpdyClient:
    """`send` and `receive` carry its bytes; `windows` says whether it gives windows back as it reads."""

    def __init__(
        self, send: Callable[[bytes], Awaitable[Any]], receive: Callable[[], Awaitable[bytes]], *, windows: bool = False
    ) -> None:
        self._send = send
        self._receive = receive
        self._windows = windows
        self._encoder, self._decoder = spdy.Encoder(), spdy.Decoder()
        self._last = -1
        self.frames: list[spdy.Frame] = []
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()

    async def send(self, frame: spdy.Frame) -> None:
        await self._send(self._encoder.encode(frame))

    async def open(self, **headers: str) -> int:
        self._last += 2
        await self.send(spdy.SynStream(self._last, headers))
        return self._last

    async def read(self, until: Callable[[], object]) -> bool:
        """Take frames until something holds; False where the connection ends before."""
        async with asyncio.timeout(30):
            while not until():
                data = await self._receive()
                if not data:
                    return bool(until())
                for frame in self._decoder.feed(data):
                    await self._take(frame)
        return True

    async def read_to_end(self) -> None:
        await self.read(lambda: False)

    async def _take(self, frame: spdy.Frame) -> None:
        self.frames.append(frame)
        match frame:
            case spdy.Data(stream, data, fin):
                self.received[stream] = self.received.get(stream, b"") + data
                if fin:
                    self.ended.add(stream)
                if self._windows and data:
                    await self.send(spdy.WindowUpdate(0, len(data)))
                    await self.send(spdy.WindowUpdate(stream, len(data)))
            case spdy.RstStream(stream, _):
                self.ended.add(stream)


class UpgradedClient(SpdyClient):
    """Over a socket that has left HTTP. `head` is the answer to its request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, **options: bool) -> None:
        super().__init__(self._write, self._read_some, **options)
        self._reader, self._writer = reader, writer
        self.head = head

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _read_some(self) -> bytes:
        try:
            return await self._reader.read(65536)
        except ConnectionError:
            return b""

    def close(self) -> None:
        break_off(self._writer.transport)


def break_off(transport: asyncio.WriteTransport) -> None:
    """Reset the connection: what was not sent yet does not hold its end back."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def upgrade(port: int, path: str, *protocols: str, method: str = "POST", windows: bool = False) -> UpgradedClient:
    """A connection that was asked to become one of SPDY; `head` tells whether it has."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    versions = "".join(f"X-Stream-Protocol-Version: {protocol}\r\n" for protocol in protocols)
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{versions}"
    writer.write(f"{request}Content-Length: 0\r\n\r\n".encode())
    async with asyncio.timeout(30):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    return UpgradedClient(reader, writer, head, windows=windows)
