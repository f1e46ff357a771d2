"""Exec and attach, whatever protocol carries them: a process in a pod, and the client that talks to it.

A `Talk` is the client's side. Input is taken no faster than the process reads, output read no faster than the client
takes it. How the process ended goes to the client as a Status, as the kubelet words it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from typing import Any, Literal, Protocol

import grpc.aio
import msgspec

from barque.api.errors import ApiError
from barque.api.types.meta_v1 import Status, StatusCause, StatusDetails
from barque.master.apiserver.places import Place, answers
from barque.proto import pods_pb2 as pb

# gRPC's messages: small enough that keystrokes and window sizes are not kept waiting for long.
PIECE_BYTES = 64 * 1024
# A window's size takes some thirty bytes; so many at once, or a longer one, are no terminal's.
MAX_SIZE_BYTES = 4096
_LARGEST_SIDE = 65535
SUCCESS = Status(status="Success")


class Talk(Protocol):
    """The client of a process."""

    async def feed(self, inputs: Inputs) -> None:
        """Hand the client's input on; ends once the client is gone."""
        ...

    async def write(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Raises OSError once the client is gone."""
        ...

    async def finish(self, status: Status) -> None:
        """Tell how it ended, and end the connection."""
        ...


class Inputs:
    """A process's input. Calls may come from several tasks; each waits until the worker has taken it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._turn = asyncio.Lock()
        self._ended = False

    async def stdin(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            await self._send(pb.ExecInput(stdin=data[start : start + PIECE_BYTES]))

    async def end(self) -> None:
        """The client sends no more."""
        if not self._ended:
            self._ended = True
            await self._send(pb.ExecInput(stdin_end=True))

    async def resize(self, columns: int, rows: int) -> None:
        await self._send(pb.ExecInput(resize=pb.TerminalSize(columns=columns, rows=rows)))

    async def start(self, start: pb.ExecInput.Start) -> None:
        await self._send(pb.ExecInput(start=start))

    async def _send(self, message: pb.ExecInput) -> None:
        # The worker may have ended the call: whoever reads its answers hears how.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._turn:
                await self._call.write(message)


async def converse(call: Any, start: pb.ExecInput.Start, place: Place, talk: Talk) -> None:
    """Join client and process until either has ended. `call` is the node API's Exec or Attach."""
    feeder = asyncio.create_task(_feed(call, start, talk), name=f"input of {start.pod}")
    try:
        status = await _outputs(call, place, talk)
        is_there = not feeder.done()
    except OSError:
        return
    finally:
        feeder.cancel()
        with suppress(asyncio.CancelledError):
            await feeder
    if is_there:
        with suppress(OSError):
            await talk.finish(status)


async def _outputs(call: Any, place: Place, talk: Talk) -> Status:
    """Pass the process's output on; how it ended. Raises OSError where the client is gone."""
    status = SUCCESS
    try:
        async with aclosing(answers(call, place)) as outputs:
            async for output in outputs:
                match output.WhichOneof("output"):
                    case "stdout":
                        await talk.write("stdout", output.stdout)
                    case "stderr":
                        await talk.write("stderr", output.stderr)
                    case "exit_code":
                        status = exit_status(output.exit_code)
    except ApiError as error:
        return error.status()
    return status


async def _feed(call: Any, start: pb.ExecInput.Start, talk: Talk) -> None:
    inputs = Inputs(call)
    await inputs.start(start)
    with suppress(OSError):
        await talk.feed(inputs)
    call.cancel()


def exit_status(code: int) -> Status:
    """How a command ended, as the kubelet tells it."""
    if code == 0:
        return SUCCESS
    return Status(
        status="Failure",
        message=f"command terminated with non-zero exit code: command terminated with exit code {code}",
        reason="NonZeroExitCode",
        details=StatusDetails(causes=[StatusCause(reason="ExitCode", message=str(code))]),
    )


def status_bytes(status: Status, *, as_json: bool) -> bytes:
    """What the error stream carries: since v4 the Status, before that the message of a failure alone."""
    if as_json:
        return msgspec.json.encode(status)
    return status.message.encode() if status.status != "Success" else b""


class Sizes:
    """Reads a terminal's sizes: JSON objects one after another, however they are cut into pieces."""

    def __init__(self) -> None:
        self._text = ""
        self._decoder = json.JSONDecoder()

    def feed(self, data: bytes) -> list[tuple[int, int]]:
        """The columns and rows of each size that these bytes complete; what cannot be read is dropped."""
        if len(self._text) + len(data) > MAX_SIZE_BYTES:
            self._text = ""
            return []
        self._text = (self._text + data.decode("utf-8", "replace")).lstrip()
        found: list[tuple[int, int]] = []
        while self._text:
            try:
                size, end = self._decoder.raw_decode(self._text)
            except (ValueError, RecursionError):
                if not self._text.startswith("{"):
                    self._text = ""
                break
            self._text = self._text[end:].lstrip()
            if isinstance(size, dict) and (sides := _sides(size)) is not None:
                found.append(sides)
        return found


def _sides(size: dict[str, Any]) -> tuple[int, int] | None:
    sides = {name.lower(): value for name, value in size.items()}
    columns, rows = sides.get("width"), sides.get("height")
    if (
        isinstance(columns, int)
        and isinstance(rows, int)
        and 0 < columns <= _LARGEST_SIDE
        and 0 < rows <= _LARGEST_SIDE
    ):
        return columns, rows
    return None
