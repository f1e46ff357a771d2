"""A command in a container, or its main process, at the far end of a gRPC stream.

Each side waits for the other: the engine is read no faster than the caller takes, and input is taken no faster than the
process reads. The stream ends with the process's output; a caller that goes away lets go of the process at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

from barque.api.errors import bad_request
from barque.proto import pods_pb2 as pb
from barque.worker.runtime.port import RuntimeFault, Session
from barque.worker.server.calls import read_first

log = logging.getLogger(__name__)


async def read_start(messages: AsyncIterator[pb.ExecInput], what: str) -> pb.ExecInput.Start:
    """The first message. Raises 400 where it is another, or does not come in time."""
    first = await read_first(messages, "what is wanted")
    if first is None or first.WhichOneof("input") != "start":
        raise bad_request(f"the first message of {what} stream must say what is wanted")
    return first.start


async def converse(session: Session, messages: AsyncIterator[pb.ExecInput]) -> AsyncGenerator[pb.ExecOutput, None]:
    """Pass input and output on until the output ends; closes the session."""
    feeder = asyncio.create_task(_feed(messages, session), name="input of a process in a container")
    try:
        async with aclosing(session.output()) as pieces:
            async for stream, data in pieces:
                yield pb.ExecOutput(stdout=data) if stream == "stdout" else pb.ExecOutput(stderr=data)
    finally:
        feeder.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await feeder
        finally:
            # Also where the caller's stream broke in a way of its own.
            await session.close()


async def _feed(messages: AsyncIterator[pb.ExecInput], session: Session) -> None:
    """The caller's input to the process, until either has ended."""
    try:
        async for message in messages:
            match message.WhichOneof("input"):
                case "stdin":
                    await session.write(message.stdin)
                case "resize":
                    await session.resize(message.resize.columns, message.resize.rows)
                case "stdin_end":
                    await session.end_input()
        await session.end_input()
    except (OSError, RuntimeFault) as error:
        # The process ended without reading everything: how it ended tells the rest.
        log.debug("a process's input ended early: %s", error)
