"""This terminal, or a pipe, at a process in a container: what exec, attach, debug and cp share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from barque.api.errors import ApiError
from barque.cli.output import CliError

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

Take = Callable[[bytes], Awaitable[None]]
NO_TTY = "Unable to use a TTY - input is not a terminal or the right kind of file"


class Source(Protocol):
    """Where input comes from, chunk by chunk; an empty one is its end."""

    def start(self) -> None: ...
    async def get(self) -> bytes: ...


def wants_tty(session: Session, *, stdin: bool, tty: bool) -> bool:
    """Whether a terminal asked for can be had; says so where not."""
    from barque.cli import terminal

    if not tty or not stdin or terminal.is_terminal():
        return tty
    session.screen.note(NO_TTY)
    return False


async def converse(
    session: Session,
    connection: Connection,
    method: str,
    start: Any,
    *,
    source: Source | None = None,
    out: Take | None = None,
    err: Take | None = None,
) -> int | None:
    """Talk to a process by `method` ("Exec" or "Attach") until it ends; its exit code, None where none was told.

    `source` feeds it, this process's standard input where the start asks for input and there is no other; `out`
    and `err` take its outputs instead of this process's own. Raises `ApiError`.
    """
    from barque.cli import terminal
    from barque.client.podstreams import Process

    interactive = start.tty and start.stdin and terminal.is_terminal()
    if interactive:
        start.size.columns, start.size.rows = terminal.size()
    process = Process(start)
    await connection.ready()
    session.screen.quiet()
    if start.stdin and source is None:
        source = terminal.Input(sys.stdin.fileno())

    def resized() -> None:
        process.resize(*terminal.size())

    with terminal.raw(resized) if interactive else contextlib.nullcontext():
        feeding = asyncio.create_task(_feed(process, source)) if source is not None else None
        try:
            return await _print(process.outputs(getattr(connection.pods, method)), out or _to_stdout, err or _to_stderr)
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)


def unable(error: ApiError) -> Exception:
    """A refusal as kubectl words it when there is nothing to talk to."""
    if error.message.startswith("container not found"):
        return CliError(f"unable to upgrade connection: {error.message}")
    if error.message.startswith("Internal error occurred: "):
        return CliError(error.message)
    return error


async def _feed(process: Any, source: Source) -> None:
    """Pass input on to its end."""
    source.start()
    while chunk := await source.get():
        await process.send(chunk)
    await process.end_input()


async def _print(outputs: Any, out: Take, err: Take) -> int | None:
    async with aclosing(outputs):
        async for output in outputs:
            match output.WhichOneof("output"):
                case "stdout":
                    await out(output.stdout)
                case "stderr":
                    await err(output.stderr)
                case "exit_code":
                    return int(output.exit_code)
    return None


async def _to_stdout(data: bytes) -> None:
    _write(sys.stdout, data)


async def _to_stderr(data: bytes) -> None:
    _write(sys.stderr, data)


def _write(stream: Any, data: bytes) -> None:
    """All bytes at once to a descriptor that may be a slow terminal."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        os.write(stream.fileno(), data)
        return
    buffer.write(data)
    buffer.flush()
