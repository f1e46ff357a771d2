"""Kubernetes' channel protocols over WebSocket: every message begins with the number of the channel that it belongs to.

`v5.channel.k8s.io`, `v4.channel.k8s.io`, `channel.k8s.io` and no subprotocol at all carry bytes; the `base64` ones
carry the channel's number as a digit and the data in base64. In v5 a client ends its side of a channel with the message
255, channel.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiohttp import WSCloseCode, WSMsgType, web

from barque.api.errors import ApiError
from barque.master.apiserver.rest.websockets import Socket, open_socket
from barque.master.apiserver.streams.options import wanted_protocol

V5, V4, V4_BASE64 = "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
V1, V1_BASE64 = "channel.k8s.io", "base64.channel.k8s.io"
# The largest message of a client; held once per connection.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_CLOSE_SIGNAL = 255


class Message(NamedTuple):
    """What came on a channel; `ends` tells that nothing more will."""

    channel: int
    data: bytes
    ends: bool = False


def asked_protocols(request: web.BaseRequest) -> list[str]:
    """The subprotocols that the client speaks, the one it likes best first."""
    asked = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [word.strip() for header in asked for word in header.split(",") if word.strip()]


def choose_protocol(request: web.BaseRequest, served: Sequence[str]) -> str:
    """The subprotocol both speak; "" where the client names none and that will do. Raises 403."""
    asked = asked_protocols(request)
    if not asked and "" in served:
        return ""
    found = wanted_protocol(asked, served)
    if not found:
        why = f"client supports [{' '.join(asked)}], server accepts [{' '.join(filter(None, served))}]"
        raise ApiError(403, "Forbidden", f"unable to upgrade: unable to negotiate protocol: {why}")
    return found


async def accept(request: web.BaseRequest, protocol: str) -> Socket:
    """A WebSocket that is open. Raises 400 for a handshake that is none."""
    return await open_socket(request, protocol, max_bytes=MAX_MESSAGE_BYTES)


class ChannelSocket:
    """An open WebSocket of one of the protocols. `on_activity` hears of each message in either direction."""

    def __init__(self, websocket: Socket, protocol: str, on_activity: Callable[[], None] = lambda: None) -> None:
        self.websocket = websocket
        self.protocol = protocol
        self._base64 = "base64" in protocol
        self._on_activity = on_activity

    async def receive(self) -> Message | None:
        """The next message, None once the client is gone or has broken the protocol; then the WebSocket is closed."""
        while True:
            message = await self.websocket.receive()
            self._on_activity()
            await self.websocket.take_turns()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return None
            data: bytes = message.data
            if not data:
                continue
            if self.protocol == V5 and data[0] == _CLOSE_SIGNAL:
                if len(data) == 2:
                    return Message(data[1], b"", ends=True)
                continue
            if not self._base64:
                return Message(data[0], data[1:])
            try:
                # As Kubernetes counts, what is no digit is a high number, and so nobody's.
                return Message((data[0] - ord("0")) % 256, base64.b64decode(data[1:], validate=True))
            except binascii.Error:
                await self.websocket.close(code=WSCloseCode.INVALID_TEXT)
                return None

    async def send(self, channel: int, data: bytes) -> None:
        """Waits for a client that reads slowly. Raises OSError once it is gone."""
        self._on_activity()
        if self._base64:
            text = bytes([ord("0") + channel]) + base64.b64encode(data)
            await self.websocket.send_frame(text, WSMsgType.TEXT)
        else:
            await self.websocket.send_bytes(bytes([channel]) + data)

    async def close(self) -> None:
        await self.websocket.close()
