"""What clients send and the pod has not taken yet: one `Inflow` a stream, one `Backlog` a connection.

A connection carries many streams, so it is not enough that each is bounded: `Backlog` counts what all of them hold,
what their readers are passing on included. Who puts waits for room, and the connection is read no further: a client
that floods is held back by its own socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

# A stream's own share: keystrokes and requests fit; a flood waits on the wire.
STREAM_BYTES = 256 * 1024
# Of all streams of a connection; one piece more may come before it is noticed.
CONNECTION_BYTES = 1024 * 1024


class Backlog:
    """Counts the bytes of one connection."""

    def __init__(self, limit_bytes: int = CONNECTION_BYTES) -> None:
        self.held_bytes = 0
        self._limit_bytes = limit_bytes
        self._changed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return self.held_bytes >= self._limit_bytes

    def count(self, change_bytes: int = 0) -> None:
        """So much more is held, or less; whoever waits looks again."""
        self.held_bytes += change_bytes
        self._changed.set()

    async def wait(self, may_go_on: Callable[[], bool]) -> None:
        """Only the reader of the connection waits here."""
        while not may_go_on():
            self._changed.clear()
            await self._changed.wait()


class Inflow:
    """What comes on one stream. One task puts, one reads."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        # Of the piece that the reader has got: it is held until the next one is asked for.
        self._read_bytes = 0
        self._ended = False
        self._dropping = False
        self._come = asyncio.Event()

    @property
    def ended(self) -> bool:
        return self._ended

    async def put(self, data: bytes) -> bool:
        """Keep it for the reader; waits while too much is held. False where it was dropped."""
        await self._backlog.wait(self._may_put)
        if self._dropping or self._ended:
            return False
        if data:
            self._pieces.append(data)
            self._waiting_bytes += len(data)
            self._backlog.count(len(data))
            self._come.set()
        return True

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._come.set()

    def drop(self) -> int:
        """Nobody reads any more: what there is, whose size is returned, and what still comes is let go."""
        self._dropping = True
        dropped, self._waiting_bytes = self._waiting_bytes, 0
        self._pieces.clear()
        self._backlog.count(-dropped - self._read_bytes)
        self._read_bytes = 0
        self._come.set()
        return dropped

    async def read(self) -> bytes:
        """The next piece; empty at the end, and once it is dropped."""
        self._backlog.count(-self._read_bytes)
        self._read_bytes = 0
        while not (self._pieces or self._ended or self._dropping):
            self._come.clear()
            await self._come.wait()
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        self._read_bytes = len(piece)
        self._waiting_bytes -= self._read_bytes
        self._backlog.count()
        return piece

    def _may_put(self) -> bool:
        return self._dropping or self._ended or (self._waiting_bytes < STREAM_BYTES and not self._backlog.is_full)
