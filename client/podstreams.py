"""Logs, processes and connections of pods, as a client of the masters sees them.

`follow_log` goes on by itself where a master or worker went away, neither losing a line nor doubling one. A process or
a connection that broke off is gone, and who talks to it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Protocol

import grpc.aio

from barque.api.errors import ApiError, unavailable
from barque.client import wire
from barque.client.clock import Clock
from barque.client.endings import Ending
from barque.proto import pods_pb2 as pb

# A restarted worker is back within a second or two; asking more often than this would not help.
RETRY_S = 0.5
MAX_RETRY_S = 3.0
_PASSING = ("ServiceUnavailable", "Timeout", "TooManyRequests")
# Not sent yet: keystrokes and changes of the window's size.
PENDING = 16


class Connection(Protocol):
    """What of `barque.client.remote.Connection` is needed."""

    @property
    def pods(self) -> Any: ...
    async def ready(self) -> None: ...


async def read_log(connection: Connection, request: pb.LogsRequest) -> AsyncGenerator[pb.LogsChunk, None]:
    """A log as it is now, or followed until something breaks. Raises `ApiError`."""
    await connection.ready()
    async for chunk in translated(connection.pods.Logs(request)):
        yield chunk


async def follow_log(
    connection: Connection, request: pb.LogsRequest, clock: Clock, on_break: Callable[[str], None]
) -> AsyncGenerator[bytes, None]:
    """A log until its container ends, taken up again after each break; `on_break` hears why, and "" once it goes on.

    Raises `ApiError` for what does not pass, and for any refusal before the log was open.
    """
    retry_s, limit = RETRY_S, request.limit_bytes
    received = 0
    while True:
        try:
            async for chunk in read_log(connection, request):
                if retry_s != RETRY_S:
                    on_break("")
                    retry_s = RETRY_S
                request.position = chunk.position
                received += len(chunk.data)
                if chunk.data:
                    yield chunk.data
            return
        except ApiError as error:
            if error.reason not in _PASSING or not request.position:
                raise
            on_break(error.message)
        if limit:
            request.limit_bytes = limit - received
        await clock.sleep(retry_s)
        retry_s = min(retry_s * 2, MAX_RETRY_S)


class Process:
    """A command, or a container's own process: what is sent to it waits until it is read."""

    def __init__(self, start: pb.ExecInput.Start) -> None:
        self._pending: asyncio.Queue[pb.ExecInput] = asyncio.Queue(maxsize=PENDING)
        self._pending.put_nowait(pb.ExecInput(start=start))

    async def send(self, data: bytes) -> None:
        await self._pending.put(pb.ExecInput(stdin=data))

    async def end_input(self) -> None:
        await self._pending.put(pb.ExecInput(stdin_end=True))

    def resize(self, columns: int, rows: int) -> None:
        """Tell it its window's new size, unless so much is waiting that a later change will do."""
        with suppress(asyncio.QueueFull):
            self._pending.put_nowait(pb.ExecInput(resize=pb.TerminalSize(columns=columns, rows=rows)))

    async def outputs(self, method: Any) -> AsyncGenerator[pb.ExecOutput, None]:
        """Run it by `connection.pods.Exec` or `.Attach`; what it says, until it ends. Raises `ApiError`."""
        async for output in translated(method(self._inputs())):
            yield output

    async def _inputs(self) -> AsyncIterator[pb.ExecInput]:
        """The messages, for as long as the call lasts."""
        while True:
            yield await self._pending.get()


async def forward(
    connection: Connection,
    start: pb.PortForwardInput.Start,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Join a local connection with one into a pod until both directions have ended. Raises `ApiError`, OSError."""
    await connection.ready()
    async for output in translated(connection.pods.PortForward(_forwarded(start, reader))):
        match output.WhichOneof("output"):
            case "data":
                writer.write(output.data)
                await writer.drain()
            case "end" if writer.can_write_eof():
                writer.write_eof()


async def _forwarded(
    start: pb.PortForwardInput.Start, reader: asyncio.StreamReader
) -> AsyncIterator[pb.PortForwardInput]:
    yield pb.PortForwardInput(start=start)
    with suppress(OSError):
        while data := await reader.read(64 * 1024):
            yield pb.PortForwardInput(data=data)
    yield pb.PortForwardInput(end=True)


async def translated(call: Any) -> AsyncGenerator[Any, None]:
    """The answers of a stream. Raises `ApiError` for its refusal or its break."""
    ending = Ending(call)
    try:
        async for answer in call:
            yield answer
    except grpc.aio.AioRpcError as error:
        refusal = await ending.of(error)
        if refusal is not None:
            raise wire.api_error(refusal) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise unavailable("the master ended the stream") from None
    finally:
        close: Callable[[], object] | None = getattr(call, "cancel", None)
        if close is not None:
            close()
