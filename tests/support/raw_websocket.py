"""A WebSocket client that sends whatever it is told to, well formed or not, and hears frames as they come."""

from __future__ import annotations

import asyncio
import base64
import os

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, length: int = -1) -> bytes:
    """One frame; `length` is what its head claims, where that is not the truth."""
    claimed = len(payload) if length < 0 else length
    head, mask = bytes([0x80 * fin | opcode]), 0x80 * masked
    if claimed < 126:
        head += bytes([mask | claimed])
    elif claimed < 1 << 16:
        head += bytes([mask | 126]) + claimed.to_bytes(2)
    else:
        head += bytes([mask | 127]) + claimed.to_bytes(8)
    # A mask of nothing but zeros changes nothing.
    return head + b"\0" * 4 * masked + payload


class RawWebSocket:
    """`status` is that of the handshake's answer, `head` all of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.reader, self.writer = reader, writer
        self.head = head
        self.status = int(head.split()[1])
        self.close_code = 0

    async def send(self, data: bytes) -> None:
        """Gives up without a word where the server has closed."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def receive(self) -> tuple[int, bytes] | None:
        """The next frame's opcode and payload; None at the end of the connection."""
        try:
            first, second = await self.reader.readexactly(2)
            length = second & 127
            if length > 125:
                length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8))
            payload = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        if first & 15 == CLOSE:
            self.close_code = int.from_bytes(payload[:2])
        return first & 15, payload

    async def until_closed(self, within_s: float = 30.0) -> int:
        """The code of the server's close, 0 where the connection ended without one. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while (heard := await self.receive()) is not None:
                if heard[0] == CLOSE:
                    await self.send(frame(CLOSE, heard[1]))
        return self.close_code

    def close(self) -> None:
        self.writer.close()


async def connect(port: int, path: str, protocol: str = "", key: bytes = b"", **headers: str) -> RawWebSocket:
    """Ask for a WebSocket, and read the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    lines = {
        "Host": "x", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(key or os.urandom(16)).decode(),
        **({"Sec-WebSocket-Protocol": protocol} if protocol else {}), **headers,
    }  # fmt: skip
    asked = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"GET {path} HTTP/1.1\r\n{asked}\r\n".encode())
    async with asyncio.timeout(30):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    return RawWebSocket(reader, writer, head)
