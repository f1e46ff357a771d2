"""Port-forward over a WebSocket's channels (`v4.channel.k8s.io`): one connection for each port that the query names.

The n-th port has the channels 2n for data and 2n + 1 for what went wrong; the first message on each is the port, little
endian.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress

from barque.master.apiserver.streams.channels import V4, V4_BASE64, ChannelSocket
from barque.master.apiserver.streams.forwarding import Join, attempt
from barque.master.apiserver.streams.inflow import Backlog, Inflow

PROTOCOLS = (V4, V4_BASE64, "")


class _Channel:
    """The client's side of one connection (`forwarding.Local`)."""

    def __init__(self, socket: ChannelSocket, number: int, backlog: Backlog) -> None:
        self.number = number
        self._socket = socket
        self._inflow = Inflow(backlog)

    async def read(self) -> bytes:
        # A message without data says nothing: there is no end of one direction in this protocol.
        return await self._inflow.read()

    async def write(self, data: bytes) -> None:
        await self._socket.send(self.number, data)

    async def put(self, data: bytes) -> None:
        """What the client sends; waits while too much of it was not taken, and is dropped once that is over."""
        await self._inflow.put(data)

    def close(self) -> None:
        self._inflow.drop()


async def serve(socket: ChannelSocket, ports: Sequence[int], join: Join) -> None:
    """Join each port with the pod until all connections are over or the client is gone."""
    backlog = Backlog()
    channels = [_Channel(socket, 2 * at, backlog) for at in range(len(ports))]
    with suppress(OSError):
        for channel, port in zip(channels, ports, strict=True):
            for number in (channel.number, channel.number + 1):
                await socket.send(number, struct.pack("<H", port))
    reading = asyncio.create_task(_read(socket, channels), name="a forwarding WebSocket")
    joined = asyncio.create_task(_join_all(socket, channels, ports, join), name="ports of a forwarding WebSocket")
    try:
        await asyncio.wait([reading, joined], return_when=asyncio.FIRST_COMPLETED)
    finally:
        reading.cancel()
        joined.cancel()
        await asyncio.gather(reading, joined, return_exceptions=True)
    await socket.close()


async def _read(socket: ChannelSocket, channels: Sequence[_Channel]) -> None:
    while (message := await socket.receive()) is not None:
        at, is_error = divmod(message.channel, 2)
        if not is_error and at < len(channels):
            await channels[at].put(message.data)


async def _join_all(socket: ChannelSocket, channels: Sequence[_Channel], ports: Sequence[int], join: Join) -> None:
    async with asyncio.TaskGroup() as group:
        for channel, port in zip(channels, ports, strict=True):
            group.create_task(_join(socket, channel, port, join), name=f"forwarded to {port}")


async def _join(socket: ChannelSocket, channel: _Channel, port: int, join: Join) -> None:
    message = await attempt(join, port, channel)
    channel.close()
    if message:
        with suppress(OSError):
            await socket.send(channel.number + 1, message.encode())
