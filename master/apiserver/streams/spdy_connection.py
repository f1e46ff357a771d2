"""A SPDY/3.1 connection whose other end opens the streams, with their flow control in both directions.

What comes in waits in its stream until it is read, up to `BUFFER_BYTES`; then nothing more is read from the wire: the
clients that Kubernetes has (moby/spdystream) know no windows, and a full connection is what they wait at. What goes
out waits for the wire, and for the windows of a client that has shown that it knows them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from barque.master.apiserver.streams import spdy_frames as spdy

# A stream's own share of what came and was not read: keystrokes and requests fit; a flood waits on the wire.
BUFFER_BYTES = 256 * 1024
# Small enough that streams take turns on the wire.
PIECE_BYTES = 16 * 1024
# The draft's window of a stream and of a connection that has not said otherwise.
WINDOW_BYTES = 64 * 1024
_LARGEST_WINDOW = 2**31 - 1
MAX_STREAMS = 512


class Wire(Protocol):
    """What carries a connection's bytes."""

    async def receive(self) -> bytes:
        """What has come, empty at the end. Nothing is read ahead but a bounded piece."""
        ...

    async def send(self, data: bytes) -> None:
        """Wait where the other end is slow. Raises OSError once it is gone. Calls keep their order."""
        ...


class StreamReset(ConnectionError):
    """The stream was broken off, or its connection was."""


class StreamRefused(Exception):
    """Raised by who is asked whether a stream is wanted."""


class SpdyStream:
    """One stream. Read it from one task, or `discard` what comes."""

    def __init__(self, connection: SpdyConnection, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self.window = connection.initial_window
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._unreported_bytes = 0
        self._discarding = False
        self._ended, self._closed, self._reset = False, False, False
        self._changed = asyncio.Condition()

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises StreamReset where the stream was broken off."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._pieces or self._ended or self._reset)
            if not self._pieces:
                if self._reset:
                    raise StreamReset(f"stream {self.number} was reset")
                return b""
            piece = self._pieces.popleft()
            self._waiting_bytes -= len(piece)
            self._changed.notify_all()
        await self._report(len(piece))
        return piece

    async def write(self, data: bytes) -> None:
        """Wait for the wire and for the windows. Raises StreamReset, or OSError once the connection is gone."""
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            while piece:
                room = await self._connection.take_window(self, len(piece))
                if self._closed:
                    raise StreamReset(f"stream {self.number} has ended")
                await self._connection.send(spdy.Data(self.number, piece[:room]))
                piece = piece[room:]

    async def end(self) -> None:
        """No more will be written; nothing where the stream is over already."""
        if not self._closed and not self._reset:
            self._closed = True
            self._connection.forget_ended(self)
            with suppress(OSError):
                await self._connection.send(spdy.Data(self.number, b"", fin=True))

    async def reset(self, status: int = spdy.CANCEL) -> None:
        """Break it off in both directions."""
        if not self._reset and not self.over:
            await self.break_off()
            with suppress(OSError):
                await self._connection.send(spdy.RstStream(self.number, status))

    async def discard(self) -> None:
        """From now on what comes is dropped."""
        async with self._changed:
            self._discarding = True
            dropped, self._waiting_bytes = self._waiting_bytes, 0
            self._pieces.clear()
            self._changed.notify_all()
        await self._report(dropped)

    @property
    def over(self) -> bool:
        """Whether both directions have ended, or it was broken off."""
        return self._reset or (self._ended and self._closed)

    @property
    def broken(self) -> bool:
        return self._reset

    # For the connection.

    async def put(self, data: bytes, fin: bool) -> None:
        """What came; waits while too much of it has not been read."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting_bytes < BUFFER_BYTES or self._reset)
            kept = not self._discarding and not self._reset and not self._ended
            if kept and data:
                self._pieces.append(data)
                self._waiting_bytes += len(data)
            self._ended = self._ended or fin
            self._changed.notify_all()
        if not kept:
            await self._report(len(data))

    async def break_off(self) -> None:
        async with self._changed:
            self._reset = True
            self._changed.notify_all()
        self._connection.forget_ended(self)

    async def _report(self, count: int) -> None:
        """Give the sender its window back, half a window at a time."""
        self._unreported_bytes += count
        if self._unreported_bytes >= WINDOW_BYTES // 2 and not self._ended and not self._reset:
            delta, self._unreported_bytes = self._unreported_bytes, 0
            with suppress(OSError):
                await self._connection.send(spdy.WindowUpdate(self.number, delta))
        await self._connection.report(count)


class SpdyConnection:
    """`accept` is asked for each stream that the other end opens; it raises StreamRefused for those not wanted."""

    def __init__(self, wire: Wire, accept: Callable[[SpdyStream], None], max_streams: int = MAX_STREAMS) -> None:
        self.initial_window = WINDOW_BYTES
        self._wire = wire
        self._accept = accept
        self._max_streams = max_streams
        self._encoder = spdy.Encoder()
        self._streams: dict[int, SpdyStream] = {}
        self._last = 0
        self._window = WINDOW_BYTES
        self._unreported_bytes = 0
        # Whether the other end has spoken of windows: one that never does would never open them again.
        self._windowed = False
        self._opened = asyncio.Condition()

    async def run(self) -> None:
        """Read until the other end is gone or has broken the protocol; then every stream is broken off."""
        decoder = spdy.Decoder()
        try:
            while data := await self._wire.receive():
                for frame in decoder.feed(data):
                    await self._take(frame)
        except spdy.SpdyError:
            with suppress(OSError):
                await self.send(spdy.GoAway(self._last, spdy.GOAWAY_PROTOCOL_ERROR))
        except OSError:
            pass
        finally:
            for stream in list(self._streams.values()):
                await stream.break_off()
            async with self._opened:
                self._opened.notify_all()

    async def go_away(self) -> None:
        """Tell the other end that no more streams are taken."""
        with suppress(OSError):
            await self.send(spdy.GoAway(self._last))

    async def send(self, frame: spdy.Frame) -> None:
        """Nothing may come between the encoding and the wire: the compression of headers has an order."""
        await self._wire.send(self._encoder.encode(frame))

    async def take_window(self, stream: SpdyStream, wanted: int) -> int:
        """How much of so many bytes may be sent now; waits until it is something. Raises StreamReset."""
        async with self._opened:
            await self._opened.wait_for(
                lambda: stream.broken or not self._windowed or (self._window > 0 and stream.window > 0)
            )
            if stream.broken:
                raise StreamReset(f"stream {stream.number} was reset")
            room = min(wanted, self._window, stream.window) if self._windowed else wanted
            self._window -= room
            stream.window -= room
            return room

    async def report(self, count: int) -> None:
        """So many bytes have been read, or dropped."""
        self._unreported_bytes += count
        if self._unreported_bytes >= WINDOW_BYTES // 2:
            delta, self._unreported_bytes = self._unreported_bytes, 0
            with suppress(OSError):
                await self.send(spdy.WindowUpdate(0, delta))

    def forget_ended(self, stream: SpdyStream) -> None:
        if stream.over:
            self._streams.pop(stream.number, None)

    async def _take(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Data(number, data, fin):
                await self._put(number, data, fin)
            case spdy.SynStream():
                await self._open(frame)
            case spdy.Headers(number, _, True):
                await self._put(number, b"", True)
            case spdy.RstStream(number, _) if number in self._streams:
                await self._streams[number].break_off()
                async with self._opened:
                    self._opened.notify_all()
            case spdy.Ping(number) if number % 2:
                await self.send(frame)
            case spdy.WindowUpdate(number, delta):
                await self._widen(number, delta)
            case spdy.Settings(values) if spdy.INITIAL_WINDOW_SIZE in values:
                await self._resize_windows(values[spdy.INITIAL_WINDOW_SIZE])

    async def _open(self, frame: spdy.SynStream) -> None:
        number = frame.stream
        if not number % 2 or number <= self._last:
            raise spdy.SpdyError(f"stream {number} cannot be opened after stream {self._last}")
        self._last = number
        if len(self._streams) >= self._max_streams:
            await self.send(spdy.RstStream(number, spdy.REFUSED_STREAM))
            return
        stream = SpdyStream(self, number, frame.headers)
        try:
            self._accept(stream)
        except StreamRefused:
            await self.send(spdy.RstStream(number, spdy.CANCEL))
            return
        self._streams[number] = stream
        await self.send(spdy.SynReply(number, {}))
        if frame.fin:
            await self._put(number, b"", True)

    async def _put(self, number: int, data: bytes, fin: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            # Sent before the other end heard that the stream is over.
            if number > self._last:
                raise spdy.SpdyError(f"data for stream {number}, which was never opened")
            await self.report(len(data))
            return
        await stream.put(data, fin)
        self.forget_ended(stream)

    async def _widen(self, number: int, delta: int) -> None:
        async with self._opened:
            self._windowed = True
            stream = self._streams.get(number)
            if number == 0:
                self._window += delta
            elif stream is not None:
                stream.window += delta
            if max(self._window, stream.window if stream else 0) > _LARGEST_WINDOW:
                raise spdy.SpdyError("a window is wider than 2^31-1 bytes")
            self._opened.notify_all()

    async def _resize_windows(self, size: int) -> None:
        if size > _LARGEST_WINDOW:
            raise spdy.SpdyError("a window is wider than 2^31-1 bytes")
        async with self._opened:
            self._windowed = True
            for stream in self._streams.values():
                stream.window += size - self.initial_window
            self.initial_window = size
            self._opened.notify_all()
