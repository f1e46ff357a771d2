"""Docker's long-lived answers (events, logs, pulls, commands) as asyncio streams over its socket.

They may stay open for days, so they hold no thread of the pool that serves the short calls, and a slow reader is felt
by Docker itself through the socket. Requests speak HTTP/1.0: the answer then ends where the connection ends, unchunked.
"""

from __future__ import annotations

import asyncio
import json
import struct
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
                status, _ = await _read_head(reader)
                if status >= 400:
                    raise _refusal(status, await reader.read(CHUNK_BYTES))
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
                status, _ = await _read_head(stream.reader)
                if status >= 400:
                    raise _refusal(status, await stream.reader.read(CHUNK_BYTES))
        except BaseException:
            await stream.close()
            raise
        return stream
    except (OSError, EOFError, asyncio.LimitOverrunError) as error:
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


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, list[bytes]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    return int(lines[0].split(b" ", 2)[1]), lines[1:]


def _refusal(status: int, body: bytes) -> RuntimeFault:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace").strip() or f"HTTP status {status}"
    return ContainerNotFoundError(message) if status == 404 else RuntimeFault(message)


async def json_lines(stream: Stream) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of a body, one by one; a broken connection ends them."""
    decoder, held = json.JSONDecoder(), ""
    while data := await stream.reader.read(CHUNK_BYTES):
        held += data.decode(errors="replace")
        held = held.lstrip()
        while held:
            try:
                found, end = decoder.raw_decode(held)
            except ValueError:
                break
            yield found
            held = held[end:].lstrip()


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
