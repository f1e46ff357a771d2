"""What carries SPDY: a connection that has left HTTP for it, or the binary messages of a WebSocket.

An upgraded connection is taken over as aiohttp's own WebSockets take it: a parser of ours gets what comes, the response
writes what goes. Reading is paused at the socket while `BUFFER_BYTES` wait, and a write waits for a full socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

from aiohttp import WSCloseCode, WSMsgType, web

from barque.api.errors import ApiError, bad_request
from barque.master.apiserver.rest.websockets import CLOSE_S, Socket

BUFFER_BYTES = 64 * 1024
SPDY = "SPDY/3.1"
# States of a connection whose client has closed or reset it (Linux' `tcp_states.h`: CLOSE and CLOSE_WAIT).
_LEFT = (7, 8)
# A client whose machine is gone is noticed after 30 s + 6 · 10 s where there is nothing to send; else by what it does
# not acknowledge. Of a probe whether its window is still full, each answer takes one back.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
_UNANSWERED, _SILENT_MS = 3, 30_000
# Linux' `struct tcp_info`: its state, retransmits and probes, and how long ago the last acknowledgement came.
_TCP_INFO = struct.Struct("=BxBB52xI")


def is_websocket(request: web.BaseRequest) -> bool:
    """Whether a WebSocket is asked for."""
    return "upgrade" in request.headers.get("Connection", "").lower() and (
        request.headers.get("Upgrade", "").strip().lower() == "websocket"
    )


def is_spdy(request: web.BaseRequest) -> bool:
    """Whether the connection is to become one of SPDY/3.1."""
    return "upgrade" in request.headers.get("Connection", "").lower() and (
        SPDY.lower() in request.headers.get("Upgrade", "").lower()
    )


def upgrade_required() -> ApiError:
    return bad_request("Upgrade request required")


def notice_dead_client(request: web.BaseRequest) -> Callable[[], bool]:
    """Have the kernel ask for a client that says nothing; the result tells whether the client has left.

    One that is there and does not read is waited for, as somebody who has paused what he looks at.
    """
    held = request.transport.get_extra_info("socket") if request.transport is not None else None
    if held is None or held.family not in (socket.AF_INET, socket.AF_INET6):
        return lambda: False
    held.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        held.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    # The door's own bound counts a full window as silence, however promptly the client says that it is still full.
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)
    return lambda: _is_left(held)


def _is_left(held: socket.socket) -> bool:
    try:
        known = _TCP_INFO.unpack(held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    except OSError:
        return True
    state, resent, probes, heard_ms = known
    return state in _LEFT or (resent + probes >= _UNANSWERED and heard_ms >= _SILENT_MS)


class UpgradedResponse(web.StreamResponse):
    """101, and from then on a `Wire`. `on_activity` hears of each piece in either direction."""

    # What follows the headers has neither length nor chunks.
    _length_check = False

    def __init__(self, headers: dict[str, str], on_activity: Callable[[], None] = lambda: None) -> None:
        super().__init__(status=101, headers={"Connection": "Upgrade", "Upgrade": SPDY, **headers})
        self._inbox: _Inbox
        self._on_activity = on_activity
        self.force_close()

    async def take_over(self, request: web.BaseRequest) -> None:
        """Answer, and leave HTTP."""
        if request.transport is None:
            raise ConnectionResetError("the client is gone")
        self._inbox = _Inbox(request.transport, self._on_activity)
        # Before the answer: what the client says to it is no HTTP any more. aiohttp asks of a parser no more than this.
        request.protocol.set_parser(cast(Any, self._inbox))
        request.protocol.keep_alive(False)
        await self.prepare(request)

    async def receive(self) -> bytes:
        return await self._inbox.receive()

    async def send(self, data: bytes) -> None:
        self._on_activity()
        await self.write(data)

    async def write_eof(self, data: bytes = b"") -> None:
        """What the client has not taken in a while is dropped, and the connection with it."""
        writer = self._payload_writer
        try:
            async with asyncio.timeout(CLOSE_S):
                await super().write_eof(data)
                if writer is not None:
                    await writer.drain()
        except TimeoutError:
            self._inbox.abort()


class _Inbox:
    """Gets a connection's bytes from aiohttp, as its parsers do."""

    def __init__(self, transport: asyncio.Transport, on_activity: Callable[[], None]) -> None:
        self._transport = transport
        self._on_activity = on_activity
        self._waiting = bytearray()
        self._ended = False
        self._paused = False
        self._come = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._on_activity()
        self._waiting += data
        self._come.set()
        if len(self._waiting) >= BUFFER_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._come.set()

    def abort(self) -> None:
        self._transport.abort()

    async def receive(self) -> bytes:
        while not self._waiting and not self._ended:
            self._come.clear()
            await self._come.wait()
        data = bytes(self._waiting)
        self._waiting.clear()
        if self._paused and not self._ended:
            self._paused = False
            self._transport.resume_reading()
        return data


class TunnelWire:
    """A `Wire` in the binary messages of a WebSocket."""

    def __init__(self, websocket: Socket, on_activity: Callable[[], None] = lambda: None) -> None:
        self._websocket = websocket
        self._on_activity = on_activity

    async def receive(self) -> bytes:
        while True:
            message = await self._websocket.receive()
            self._on_activity()
            await self._websocket.take_turns()
            if message.type is not WSMsgType.BINARY:
                # Nothing where it is over already.
                await self._websocket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                return b""
            if message.data:
                return bytes(message.data)

    async def send(self, data: bytes) -> None:
        self._on_activity()
        await self._websocket.send_bytes(data)
