"""One question to one server, by a socket of its own: a port that nobody can foretell, and refusals that are heard.

The caller bounds the wait. Raises `OSError`, or `EOFError` where a server hangs up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from barque.network.dns.upstreams import Server

LENGTH_BYTES = 2


async def exchange(server: Server, message: bytes, stream: bool, accepts: Callable[[bytes], bool]) -> bytes:
    """Send a message and return the first answer that is accepted; over TCP the first answer."""
    if stream:
        return await _by_stream(server, message)
    return await _by_datagram(server, message, accepts)


class _Asking(asyncio.DatagramProtocol):
    def __init__(self, accepts: Callable[[bytes], bool], answer: asyncio.Future[bytes]) -> None:
        self._accepts = accepts
        self._answer = answer

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._answer.done() and self._accepts(data):
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


async def _by_datagram(server: Server, message: bytes, accepts: Callable[[bytes], bool]) -> bytes:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Asking(accepts, answer), remote_addr=(server.address, server.port)
    )
    try:
        transport.sendto(message)
        return await answer
    finally:
        transport.close()


async def _by_stream(server: Server, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server.address, server.port)
    try:
        writer.write(len(message).to_bytes(LENGTH_BYTES, "big") + message)
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        return await reader.readexactly(length)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
