"""The lab's one way in from the machine: hands the connections of a socket of the machine's on to a master.

Started with a listening socket that belongs to the machine's network, in the switch, from where the master is reached:
`python -m barque.deploy.lab.door DESCRIPTOR HOST PORT`. It reads nothing of what it hands on; TLS ends at the master.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

_CHUNK_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 10.0


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Hand every connection on, until cancelled. One that the master does not take is closed."""

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    inner_reader, inner_writer = await asyncio.open_connection(host, port)
            except (OSError, TimeoutError):
                return
            with contextlib.closing(inner_writer), contextlib.suppress(OSError):
                await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    async with await asyncio.start_server(hand_on, sock=listener) as server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that comes, and the end of it; no more is held than one chunk and what the kernel takes."""
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], int(sys.argv[3])))
