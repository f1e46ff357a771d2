"""A SPDY/3.1 connection whose other end opens the streams, with their flow control in both directions.

What comes in waits in its stream until it is read, up to a bound of each and one of all (`inflow`); then nothing more
is read from the wire: the clients that Kubernetes has (moby/spdystream) know no windows, and a full connection is what
they wait at. What goes out waits for the wire, and for the windows of a client that has shown that it knows them.

What breaks the protocol of one stream ends that stream by RST_STREAM, what breaks the connection's ends it by GOAWAY;
as for moby/spdystream, frames for a stream that is over are no fault. A flood of frames does not hold the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from barque.master.apiserver.streams import spdy_frames as spdy
from barque.master.apiserver.streams.inflow import Backlog, Inflow

# Small enough that streams take turns on the wire.
PIECE_BYTES = 16 * 1024
# What is read from the wire at once, and so many frames of it: then others have their turn, for a frame may be of
# eight bytes.
TURN_BYTES = 64 * 1024
TURN_FRAMES = 256
# The draft's window of a stream and of a connection that has not said otherwise.
WINDOW_BYTES = 64 * 1024
_LARGEST_WINDOW = 2**31 - 1
MAX_STREAMS = 512
# How long a client that broke the protocol may take to hear so.
GOODBYE_S = 5.0


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
    """Raised by who is asked whether a stream is wanted; `status` is that of its RST_STREAM."""

    def __init__(self, why: str, status: int = spdy.CANCEL) -> None:
        super().__init__(why)
        self.status = status


class SpdyStream:
    """One stream. Read it from one task, or `discard` what comes."""

    def __init__(self, connection: SpdyConnection, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self.window = connection.initial_window
        self._connection = connection
        self._inflow = Inflow(connection.backlog)
        self._unreported_bytes = 0
        self._closed, self._reset = False, False

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises StreamReset where the stream was broken off."""
        piece = await self._inflow.read()
        if self._reset:
            raise StreamReset(f"stream {self.number} was reset")
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
            self.break_off()
            with suppress(OSError):
                await self._connection.send(spdy.RstStream(self.number, status))

    async def discard(self) -> None:
        """From now on what comes is dropped."""
        await self._report(self._inflow.drop())

    @property
    def over(self) -> bool:
        """Whether both directions have ended, or it was broken off."""
        return self._reset or (self._inflow.ended and self._closed)

    @property
    def broken(self) -> bool:
        return self._reset

    # For the connection.

    async def put(self, data: bytes, fin: bool) -> None:
        """What came; waits while too much of it has not been read."""
        kept = await self._inflow.put(data)
        if fin:
            self._inflow.end()
        if not kept:
            await self._report(len(data))

    def break_off(self) -> None:
        """What was not read is dropped."""
        self._reset = True
        self._inflow.drop()
        self._connection.forget_ended(self)

    async def _report(self, count: int) -> None:
        """Give the sender its window back, half a window at a time."""
        self._unreported_bytes += count
        if self._unreported_bytes >= WINDOW_BYTES // 2 and not self._inflow.ended and not self._reset:
            delta, self._unreported_bytes = self._unreported_bytes, 0
            with suppress(OSError):
                await self._connection.send(spdy.WindowUpdate(self.number, delta))
        await self._connection.report(count)


class SpdyConnection:
    """`accept` is asked for each stream that the other end opens; it raises StreamRefused for those not wanted."""

    def __init__(self, wire: Wire, accept: Callable[[SpdyStream], None], max_streams: int = MAX_STREAMS) -> None:
        self.initial_window = WINDOW_BYTES
        self.backlog = Backlog()
        self._wire = wire
        self._accept = accept
        self._max_streams = max_streams
        self._encoder = spdy.Encoder()
        self._streams: dict[int, SpdyStream] = {}
        self._last = 0
        self._leaving = False
        self._window = WINDOW_BYTES
        self._unreported_bytes = 0
        # Whether the other end has spoken of windows: one that never does would never open them again.
        self._windowed = False
        self._opened = asyncio.Condition()

    async def run(self) -> None:
        """Read until the other end is gone or has broken the protocol; then every stream is broken off."""
        try:
            await self._read()
        except spdy.SpdyError:
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self.go_away(spdy.GOAWAY_PROTOCOL_ERROR)
        except OSError:
            pass
        finally:
            for stream in list(self._streams.values()):
                stream.break_off()
            await self._notify()

    async def go_away(self, status: int = spdy.GOAWAY_OK) -> None:
        """Tell the other end that no more streams are taken; those it opens all the same are passed over."""
        self._leaving = True
        with suppress(OSError):
            await self.send(spdy.GoAway(self._last, status))

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

    async def _read(self) -> None:
        decoder, frames = spdy.Decoder(), 0
        while data := await self._wire.receive():
            for start in range(0, len(data), TURN_BYTES):
                for frame in decoder.feed(data[start : start + TURN_BYTES]):
                    await self._take(frame)
                    frames += 1
                    if frames % TURN_FRAMES == 0:
                        await asyncio.sleep(0)
                await asyncio.sleep(0)

    async def _take(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Data(number, data, fin):
                await self._put(number, data, fin)
            case spdy.SynStream():
                await self._open(frame)
            case spdy.Headers(number, _, True):
                await self._put(number, b"", True)
            case spdy.RstStream(number, _) if number in self._streams:
                self._streams[number].break_off()
                await self._notify()
            case spdy.Ping(number) if number % 2:
                await self.send(frame)
            case spdy.WindowUpdate(number, delta):
                await self._widen(number, delta)
            case spdy.Settings(values) if spdy.INITIAL_WINDOW_SIZE in values:
                await self._resize_windows(values[spdy.INITIAL_WINDOW_SIZE])

    async def _notify(self) -> None:
        """Whoever waits for a window looks again."""
        async with self._opened:
            self._opened.notify_all()

    async def _open(self, frame: spdy.SynStream) -> None:
        number = frame.stream
        if self._leaving:
            return
        if not number % 2 or number <= self._last:
            raise spdy.SpdyError(f"stream {number} cannot be opened after stream {self._last}")
        self._last = number
        if len(self._streams) >= self._max_streams:
            await self.send(spdy.RstStream(number, spdy.REFUSED_STREAM))
            return
        stream = SpdyStream(self, number, frame.headers)
        try:
            self._accept(stream)
        except StreamRefused as refused:
            await self.send(spdy.RstStream(number, refused.status))
            return
        self._streams[number] = stream
        await self.send(spdy.SynReply(number, {}))
        if frame.fin:
            await self._put(number, b"", True)

    async def _put(self, number: int, data: bytes, fin: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            # Unless it was never open, it was sent before the other end heard that the stream is over.
            if number > self._last or not number % 2:
                await self.send(spdy.RstStream(number, spdy.INVALID_STREAM))
            await self.report(len(data))
            return
        await stream.put(data, fin)
        self.forget_ended(stream)

    async def _widen(self, number: int, delta: int) -> None:
        stream = self._streams.get(number)
        async with self._opened:
            self._windowed = True
            if number == 0:
                self._window += delta
                if self._window > _LARGEST_WINDOW:
                    raise spdy.SpdyError("the connection's window is wider than 2^31-1 bytes")
            elif stream is not None:
                stream.window += delta
            self._opened.notify_all()
        if stream is not None and stream.window > _LARGEST_WINDOW:
            await stream.reset(spdy.FLOW_CONTROL_ERROR)
            await self._notify()

    async def _resize_windows(self, size: int) -> None:
        if size > _LARGEST_WINDOW:
            raise spdy.SpdyError("a window is wider than 2^31-1 bytes")
        async with self._opened:
            self._windowed = True
            for stream in self._streams.values():
                stream.window += size - self.initial_window
            self.initial_window = size
            self._opened.notify_all()
