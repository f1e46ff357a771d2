"""WebSockets at the door (RFC 6455): aiohttp's, held to what it lets pass.

In: a request that asks for one. Out: an open `Socket`. Guarantees, beyond aiohttp's own (1002 for frames that are none,
1007 for text that is none, 1009 for messages that are too large): frames without a mask are a protocol error, as
section 5.1 wants it; pings in any number do not hold the loop; closing ends in its time, also where the client does not
read, and what it did not take is dropped with the connection; a token that a browser shows as a subprotocol goes into
no log.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web

from barque.api.errors import bad_request

# How long a client may take to answer the end of the connection.
CLOSE_S = 5.0
# So many messages of one client are looked at in one turn of the loop.
TURN_MESSAGES = 64
# An opcode that there is none of: to the parser, a protocol error.
_NO_FRAME = b"\x83\x00"
_MASKED, _LENGTH, _MASK_BYTES = 0x80, 0x7F, 4
# How many bytes follow that tell a longer frame's length.
_LENGTH_BYTES = {126: 2, 127: 8}


async def open_socket(
    request: web.BaseRequest, protocol: str = "", *, max_bytes: int, decode_text: bool = False
) -> Socket:
    """A WebSocket that is open; `protocol` is the one of the client's that is spoken, if any. Raises 400 for a
    handshake that is none.
    """
    socket = Socket(
        protocols=[protocol] if protocol else [], compress=False, max_msg_size=max_bytes,
        decode_text=decode_text, timeout=CLOSE_S,
    )  # fmt: skip
    try:
        await socket.prepare(request)
    except web.HTTPBadRequest as refused:
        raise bad_request(refused.text or "not a WebSocket handshake") from None
    return socket


class Socket(web.WebSocketResponse):
    """One WebSocket; make it with `open_socket`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._heard = 0

    async def pong(self, message: bytes = b"") -> None:
        await super().pong(message)
        await self.take_turns()

    async def take_turns(self) -> None:
        """To be awaited for each message: what has come already is handed over without waiting, however much it is."""
        self._heard += 1
        if self._heard % TURN_MESSAGES == 0:
            await asyncio.sleep(0)

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        """Say goodbye, with this code, and wait for the client's for a while."""
        try:
            async with asyncio.timeout(CLOSE_S):
                return await super().close(code=code, message=message, drain=drain)
        except TimeoutError:
            self.abort()
            return True

    def abort(self) -> None:
        """Drop a connection whose client does not read: waiting for it to take the rest would hold its memory."""
        if self._req is not None and self._req.transport is not None:
            self._req.transport.abort()

    def _post_start(self, request: web.BaseRequest, protocol: Any, writer: Any) -> None:
        # aiohttp asks no more of the request than to set the parser, and what it is fed by.
        super()._post_start(cast(web.BaseRequest, _Guarded(request)), protocol, writer)


class _Guarded:
    """A request's connection, whose parser is put behind `MaskedFrames`."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.protocol = self
        self._protocol = request.protocol

    def set_parser(self, parser: Any, data_received_cb: Any = None) -> None:
        self._protocol.set_parser(cast(Any, MaskedFrames(parser)), data_received_cb)

    def keep_alive(self, wanted: bool) -> None:
        self._protocol.keep_alive(wanted)


class MaskedFrames:
    """Passes on to a parser the frames that have a mask, in pieces as they come, and a protocol error for the first
    that has none. Of a frame only a head that is not complete is kept.
    """

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._head = b""
        # Of the frame that is coming in.
        self._left_bytes = 0
        self._refused = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """As aiohttp's parsers."""
        if self._refused:
            return True, b""
        data, at = self._head + data, self._left_bytes
        while (head := _head_size(data, at)) and at + head <= len(data):
            if not data[at + 1] & _MASKED:
                self._refused = True
                data = data[:at] + _NO_FRAME
                break
            at += head + _payload_size(data, at)
        if self._refused:
            self._head = b""
        else:
            self._head, data = data[at:], data[:at]
            self._left_bytes = at - len(data)
        fed: tuple[bool, bytes] = self._parser.feed_data(data)
        return fed

    def feed_eof(self) -> None:
        self._parser.feed_eof()


def _head_size(data: bytes, at: int) -> int:
    """Of the frame that begins there; 0 where too little of it has come to tell."""
    if at + 2 > len(data):
        return 0
    second = data[at + 1]
    return 2 + _LENGTH_BYTES.get(second & _LENGTH, 0) + _MASK_BYTES if second & _MASKED else 2


def _payload_size(data: bytes, at: int) -> int:
    length = data[at + 1] & _LENGTH
    more = _LENGTH_BYTES.get(length, 0)
    return int.from_bytes(data[at + 2 : at + 2 + more]) if more else length
