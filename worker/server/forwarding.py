"""One TCP connection into a pod, or to the node itself, at the far end of a gRPC stream.

One into a pod is made from within its network namespace: to its loopback address, so that a server that listens on
nothing else is reached too, or to the address by which other pods know it. Each direction ends by itself (half-close),
and neither is read faster than the other side takes it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

from barque.api.errors import bad_request, unavailable
from barque.proto import pods_pb2 as pb
from barque.worker.server.calls import read_first

CONNECT_TIMEOUT_S = 10.0
CHUNK_BYTES = 64 * 1024

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
# Connects to a port of the pod with the network namespace at a path, at an address of it, "" for its loopback. Raises
# OSError.
Dial: TypeAlias = Callable[[str, int, str], Awaitable[Stream]]


async def read_start(messages: AsyncIterator[pb.PortForwardInput]) -> pb.PortForwardInput.Start:
    """The first message. Raises 400 where it is another, does not come in time, or names no port."""
    first = await read_first(messages, "which port is wanted")
    if first is None or first.WhichOneof("input") != "start":
        raise bad_request("the first message of a port-forward stream must say which port is wanted")
    if not 0 < first.start.port < 65536:
        raise bad_request(f"{first.start.port} is not a port")
    return first.start


async def connect(dial: Dial, netns: str, start: pb.PortForwardInput.Start) -> Stream:
    """The connection. Raises 400 in the kubelet's words where the pod does not take it."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await dial(netns, start.port, "")
    except TimeoutError:
        why = f"no answer within {CONNECT_TIMEOUT_S:.0f} s"
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
    raise bad_request(
        f"error forwarding port {start.port} to pod {start.pod}: failed to connect to localhost:{start.port} "
        f"inside the pod's network namespace: {why}"
    )


async def reach(connecting: Awaitable[Stream], host: str, port: int) -> Stream:
    """The connection to `host`. Raises 503 in the words of Go's dialer, which is what users of proxies read."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await connecting
    except TimeoutError:
        why = "i/o timeout"
    except OSError as error:
        why = f"connect: {os.strerror(error.errno).lower()}" if error.errno else str(error)
    raise unavailable(f"dial tcp {f'[{host}]' if ':' in host else host}:{port}: {why}")


async def dial_node(address: str, port: int) -> Stream:
    """A connection to a port of this node, at its address: what listens on its loopback alone does so to be met by
    nobody else. Raises OSError.
    """
    return await asyncio.open_connection(address, port)


async def splice(
    stream: Stream, messages: AsyncIterator[pb.PortForwardInput]
) -> AsyncGenerator[pb.PortForwardOutput, None]:
    """Pass both directions on until both have ended; closes the connection."""
    reader, writer = stream
    feeder = asyncio.create_task(_feed(messages, writer), name="a forwarded connection")
    try:
        yield pb.PortForwardOutput(connected=True)
        while data := await _read(reader):
            yield pb.PortForwardOutput(data=data)
        yield pb.PortForwardOutput(end=True)
        await feeder
    finally:
        feeder.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await feeder
        finally:
            # Also where the caller's stream broke in a way of its own.
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """The next piece; empty at the end, and where the pod broke the connection off."""
    try:
        return await reader.read(CHUNK_BYTES)
    except OSError:
        return b""


async def _feed(messages: AsyncIterator[pb.PortForwardInput], writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        async for message in messages:
            if message.WhichOneof("input") == "end":
                break
            writer.write(message.data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
