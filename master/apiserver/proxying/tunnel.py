"""Both directions of a connection that has left HTTP: the caller's own transport on one side, the backend on the other.

The transport is taken from aiohttp, which knows no upgrade but its own WebSockets.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TypeAlias

from aiohttp import web

from barque.master.apiserver.proxying.connections import PIECE_BYTES, Connection
from barque.master.apiserver.proxying.headers import Header

Caller: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Upgraded(web.StreamResponse):
    """The answer of a request whose connection was taken over: everything is sent, and nothing may follow."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing: the head went out as the backend wrote it, and the connection is not HTTP's any more."""
        self.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing."""


class _Taken(asyncio.StreamReaderProtocol):
    """Reads and writes in place of aiohttp's own protocol, which still hears of the connection's end."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connection_lost(exc)


def take_over(request: web.BaseRequest) -> Caller:
    """The caller's connection, as streams. Raises OSError where the caller has gone."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the caller has gone")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=PIECE_BYTES, loop=loop)
    protocol = _Taken(reader, request.protocol)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def switching_head(reason: str, headers: list[Header]) -> bytes:
    """The head of a 101 answer."""
    lines = [f"HTTP/1.1 101 {reason or 'Switching Protocols'}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


async def pass_on(caller: Caller, backend: Connection, first: bytes) -> None:
    """Both directions, until either end has ended: TLS knows no end of one direction alone. `first` goes to the caller
    before what the backend says now.
    """
    reader, writer = caller
    sending = asyncio.create_task(_send(reader, backend), name="the caller's side of a tunnel")
    receiving = asyncio.create_task(_receive(backend, writer, first), name="the backend's side of a tunnel")
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
        writer.close()


async def _send(reader: asyncio.StreamReader, backend: Connection) -> None:
    with suppress(OSError):
        while data := await reader.read(PIECE_BYTES):
            await backend.write(data)


async def _receive(backend: Connection, writer: asyncio.StreamWriter, first: bytes) -> None:
    with suppress(OSError):
        data = first or await backend.read()
        while data:
            writer.write(data)
            await writer.drain()
            data = await backend.read()
