"""Exec and attach over WebSocket: channels stdin 0, stdout 1, stderr 2, error 3 and resize 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from aiohttp import web

from barque.api.types.meta_v1 import Status
from barque.master.apiserver.streams import channels
from barque.master.apiserver.streams.channels import V1, V1_BASE64, V4, V4_BASE64, V5, ChannelSocket
from barque.master.apiserver.streams.options import ProcessOptions
from barque.master.apiserver.streams.processes import Inputs, Sizes, status_bytes

PROTOCOLS = (V5, V4, V4_BASE64, V1, V1_BASE64, "")
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = range(5)


async def accept(request: web.BaseRequest, options: ProcessOptions, on_activity: Callable[[], None]) -> WebSocketTalk:
    """The client once its connection is a WebSocket. Raises 400 and 403 as long as it is none."""
    protocol = channels.choose_protocol(request, PROTOCOLS)
    websocket = await channels.accept(request, protocol)
    talk = WebSocketTalk(ChannelSocket(websocket, protocol, on_activity), options)
    await talk.greet()
    return talk


class WebSocketTalk:
    """The client of a process (`processes.Talk`)."""

    def __init__(self, socket: ChannelSocket, options: ProcessOptions) -> None:
        self.response: web.StreamResponse = socket.websocket
        self._socket = socket
        self._options = options

    async def greet(self) -> None:
        """An empty message on the first channel that is the client's to read: it may begin, as Kubernetes tells it."""
        first = _STDOUT if self._options.stdout else _STDERR if self._options.stderr else _ERROR
        await self._socket.send(first, b"")

    async def feed(self, inputs: Inputs) -> None:
        sizes, stdin = Sizes(), self._options.stdin
        while (message := await self._socket.receive()) is not None:
            if message.channel == _STDIN and stdin:
                await inputs.stdin(message.data)
                if message.ends:
                    await inputs.end()
                    stdin = False
            elif message.channel == _RESIZE:
                for columns, rows in sizes.feed(message.data):
                    await inputs.resize(columns, rows)

    async def write(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        if stream == "stdout" and self._options.stdout:
            await self._socket.send(_STDOUT, data)
        elif stream == "stderr" and self._options.stderr:
            await self._socket.send(_STDERR, data)

    async def finish(self, status: Status) -> None:
        said = status_bytes(status, as_json=self._socket.protocol.startswith(("v4.", "v5.")))
        if said:
            await self._socket.send(_ERROR, said)
        await self._socket.close()
