"""Docker's long-lived answers (events, logs, pulls, commands) as asyncio streams over its socket.

They may stay open for days, so they hold no thread of the pool that serves the short calls, and a slow reader is felt
by Docker itself through the socket. Requests speak HTTP/1.0: the answer then ends where the connection ends, unchunked.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
from codecs import getincrementaldecoder
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from barque.worker.runtime.port import ContainerNotFoundError, RuntimeFault, RuntimeUnavailableError

# Docker answers the head of a request at once, save when it is starved; a pull's head may wait for the registry.
HEAD_TIMEOUT_S = 60.0
CHUNK_BYTES = 64 * 1024
# Docker answers once it has unpacked all layers.
UPLOAD_TIMEOUT_S = 600.0
# An event carries all labels of its container, of which there may be many, but no more than this.
MAX_OBJECT_CHARACTERS = 4 * 1024 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})")
# Which stream a piece of output is of, and its length in bytes.
FRAME = struct.Struct(">BxxxI")
_STREAM_NAMES: dict[int, Literal["stdout", "stderr"]] = {0: "stdout", 1: "stdout", 2: "stderr"}


class Stream(NamedTuple):
    """An answer whose body is still coming; for an upgraded connection also the way in."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            # The far end was gone first: closed is what was wanted.
            return


async def open_stream(
    host: str,
    method: str,
    path: str,
    query: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | None = None,
    *,
    upgrade: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Stream:
    """Send one request to `unix://…` or `tcp://host:port` and return once its head is read.

    `upgrade` asks for a raw two-way connection (HTTP/1.1, 101). Raises `RuntimeUnavailableError`,
    `ContainerNotFoundError` (404), `RuntimeFault` with Docker's message.
    """
    try:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            reader, writer = await _connect(host)
            stream = Stream(reader, writer)
            try:
                writer.write(_request(method, path, query, body, upgrade, headers or {}))
                await writer.drain()
                await _check_answer(reader)
            except BaseException:
                await stream.close()
                raise
            return stream
    except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as error:
        raise RuntimeUnavailableError(f"Docker does not answer at {host}: {error or type(error).__name__}") from error


async def open_upload(
    host: str, path: str, query: Mapping[str, Any], body: AsyncIterator[bytes], size_bytes: int
) -> Stream:
    """Send `size_bytes` of tar archive and return once the answer's head is read; else as `open_stream`."""
    try:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            stream = Stream(*await _connect(host))
        try:
            target = f"{quote(path)}?{urlencode(query)}"
            lines = [f"POST {target} HTTP/1.0", "Host: docker", f"Content-Length: {size_bytes}"]
            lines += ["Content-Type: application/x-tar"]
            stream.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
            # Docker refuses a bad archive before it has read it all: then its answer tells more than a broken pipe.
            with suppress(ConnectionError):
                async for piece in body:
                    stream.writer.write(piece)
                    async with asyncio.timeout(HEAD_TIMEOUT_S):
                        await stream.writer.drain()
            async with asyncio.timeout(UPLOAD_TIMEOUT_S):
                await _check_answer(stream.reader)
        except BaseException:
            await stream.close()
            raise
        return stream
    except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as error:
        raise RuntimeUnavailableError(f"Docker does not answer at {host}: {error or type(error).__name__}") from error


async def _connect(host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if host.startswith("unix://"):
        return await asyncio.open_unix_connection(host.removeprefix("unix://"))
    parts = urlsplit(host)
    if parts.scheme != "tcp" or not parts.hostname:
        raise ValueError(f"{host!r} is neither unix:///path nor tcp://host:port")
    return await asyncio.open_connection(parts.hostname, parts.port or 2375)


def _request(
    method: str,
    path: str,
    query: Mapping[str, Any] | None,
    body: Mapping[str, Any] | None,
    upgrade: bool,
    headers: Mapping[str, str],
) -> bytes:
    target = quote(path) + (f"?{urlencode(query)}" if query else "")
    data = json.dumps(body).encode() if body is not None else b""
    lines = [f"{method} {target} HTTP/{'1.1' if upgrade else '1.0'}", "Host: docker", f"Content-Length: {len(data)}"]
    if body is not None:
        lines.append("Content-Type: application/json")
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


async def _check_answer(reader: asyncio.StreamReader) -> None:
    """Read an answer's head. Raises what it refuses with, and `OSError` where it is no answer."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    found = _STATUS_LINE.match(first)
    if found is None:
        raise ConnectionError("it does not speak HTTP")
    status = int(found[1])
    if status < 400:
        return
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    length = headers.get(b"content-length", b"")
    # The body may come after the head and in several pieces; only where its end is not told is the first one all.
    if length.isdigit():
        raise _refusal(status, await reader.readexactly(min(int(length), CHUNK_BYTES)))
    raise _refusal(status, await reader.read(CHUNK_BYTES))


def _refusal(status: int, body: bytes) -> RuntimeFault:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace").strip() or f"HTTP status {status}"
    return ContainerNotFoundError(message) if status == 404 else RuntimeFault(message)


async def json_lines(stream: Stream, *, silence_s: float | None = None) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of a body, one by one, until it ends.

    Raises `OSError` where it ends or goes on for ever within one, `TimeoutError` after `silence_s` without a byte.
    """
    decoder, characters, held = json.JSONDecoder(), getincrementaldecoder("utf-8")("replace"), ""
    while True:
        async with asyncio.timeout(silence_s):
            data = await stream.reader.read(CHUNK_BYTES)
        if not data:
            break
        # A character may begin in one piece and end in the next.
        held = (held + characters.decode(data)).lstrip()
        while held:
            try:
                found, end = decoder.raw_decode(held)
            except ValueError:
                break
            yield found
            held = held[end:].lstrip()
        if len(held) > MAX_OBJECT_CHARACTERS:
            raise ConnectionError("what it sends is no JSON")
    if held:
        raise ConnectionError("it ended in the middle of a message")


async def frames(stream: Stream, *, tty: bool) -> AsyncGenerator[tuple[Literal["stdout", "stderr"], bytes], None]:
    """Docker's multiplexed output, taken apart; a terminal's output comes raw, all of it as stdout.

    Large frames come in pieces of at most 64 KiB.
    """
    if tty:
        while data := await stream.reader.read(CHUNK_BYTES):
            yield "stdout", data
        return
    while True:
        try:
            kind, size = FRAME.unpack(await stream.reader.readexactly(FRAME.size))
        except asyncio.IncompleteReadError:
            return
        while size:
            data = await stream.reader.read(min(size, CHUNK_BYTES))
            if not data:
                return
            size -= len(data)
            yield _STREAM_NAMES.get(kind, "stderr"), data
