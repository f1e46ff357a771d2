"""Streams at the worker's door that break off in the middle: what was opened for them is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

import pytest

from barque.proto import pods_pb2 as pb
from barque.worker.server import commands, forwarding


class BrokenError(Exception):
    """As gRPC's own, which nothing here expects."""


async def breaking(*messages: Any) -> AsyncIterator[Any]:
    for message in messages:
        yield message
    raise BrokenError


class ASession:
    """Says one thing, and ends once its input has come."""

    def __init__(self) -> None:
        self.input = asyncio.Event()
        self.closed = False

    async def output(self) -> AsyncGenerator[tuple[Literal["stdout", "stderr"], bytes], None]:
        yield "stdout", b"hello"
        await self.input.wait()

    async def write(self, data: bytes) -> None:
        self.input.set()

    async def end_input(self) -> None:
        pass

    async def resize(self, columns: int, rows: int) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


class AWriter:
    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None:
        pass


async def drained(outputs: AsyncGenerator[Any, None]) -> None:
    async with aclosing(outputs):
        async for _ in outputs:
            pass


async def test_a_process_is_let_go_whose_callers_stream_broke() -> None:
    session = ASession()
    with pytest.raises(BrokenError):
        await drained(commands.converse(session, breaking(pb.ExecInput(stdin=b"x"))))
    assert session.closed


async def test_a_forwarded_connection_is_closed_whose_callers_stream_broke() -> None:
    reader, writer = asyncio.StreamReader(), AWriter()
    reader.feed_eof()
    stream: Any = (reader, writer)
    with pytest.raises(BrokenError):
        await drained(forwarding.splice(stream, breaking(pb.PortForwardInput(data=b"x"))))
    assert writer.closed
