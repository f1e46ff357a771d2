"""SPDY/3.1 without a socket: frames to and from bytes, streams, and their flow control."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barque.master.apiserver.streams import inflow
from barque.master.apiserver.streams import spdy_frames as spdy
from barque.master.apiserver.streams.spdy_connection import SpdyConnection, SpdyStream, StreamRefused, StreamReset
from tests.support.clock import settle
from tests.support.spdy_client import SpdyClient

# What Debian's kubectl 1.20 sends first: a stream whose headers are `Streamtype: error`.
OF_KUBECTL = bytes.fromhex(
    "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff"
)
FRAMES: list[spdy.Frame] = [
    spdy.SynStream(1, {"streamtype": "error"}),
    spdy.SynStream(3, {"streamtype": "data", "port": "80"}, fin=True, unidirectional=True),
    spdy.SynReply(1, {}, fin=True),
    spdy.RstStream(3, spdy.CANCEL),
    spdy.Settings({4: 100, 7: 65536}),
    spdy.Ping(7),
    spdy.GoAway(3, spdy.GOAWAY_PROTOCOL_ERROR),
    spdy.Headers(1, {"a": "b"}, fin=True),
    spdy.WindowUpdate(0, 32768),
    spdy.Data(1, b"hello"),
    spdy.Data(1, b"", fin=True),
]


def decoded(data: bytes, piece: int) -> list[spdy.Frame]:
    decoder = spdy.Decoder()
    pieces = (data[at : at + piece] for at in range(0, len(data), piece))
    return [frame for piece in pieces for frame in decoder.feed(piece)]


def test_what_kubectl_sends_is_read() -> None:
    assert decoded(OF_KUBECTL, 7) == [spdy.SynStream(1, {"streamtype": "error"})]


def test_the_dictionary_is_the_drafts() -> None:
    # Its checksum begins every compressed header: kubectl's own bytes carry it, too.
    assert zlib.adler32(spdy.DICTIONARY).to_bytes(4, "big") == OF_KUBECTL[20:24]


def test_frames_survive_the_wire() -> None:
    encoder = spdy.Encoder()
    data = b"".join(map(encoder.encode, FRAMES))
    assert decoded(data, len(data)) == FRAMES


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50))
def test_frames_may_come_in_any_pieces(piece: int) -> None:
    encoder = spdy.Encoder()
    joined: dict[Any, bytes] = {}
    for frame in decoded(b"".join(map(encoder.encode, FRAMES)), piece):
        if isinstance(frame, spdy.Data):
            joined[frame.stream] = joined.get(frame.stream, b"") + frame.data + b"." * frame.fin
    assert joined == {1: b"hello."}


def test_a_large_data_frame_is_handed_on_as_it_comes() -> None:
    decoder = spdy.Decoder()
    head = spdy.Encoder().encode(spdy.Data(5, b"x" * 1_000_000, fin=True))[:8]
    assert list(decoder.feed(head + b"ab")) == [spdy.Data(5, b"ab")]
    rest = list(decoder.feed(b"x" * 999_998))
    assert [(len(frame.data), frame.fin) for frame in rest if isinstance(frame, spdy.Data)] == [(999_998, True)]


def _block(plain: bytes) -> bytes:
    compressor = zlib.compressobj(zdict=spdy.DICTIONARY)
    return compressor.compress(plain) + compressor.flush(zlib.Z_SYNC_FLUSH)


def _syn(block: bytes) -> bytes:
    body = b"\0\0\0\1\0\0\0\0\0\0" + block
    return b"\x80\3\0\1" + len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\2\0\1\0\0\0\0", "SPDY version 2 is not spoken here, only 3"),
        (b"\x80\3\0\1\0\xff\xff\xff", "a control frame of 16777215 bytes is longer than 16384"),
        (b"\x80\3\0\6\0\0\0\0", "a control frame cannot be read: unpack_from"),
        (b"\x80\3\0\3\0\0\0\4\0\0\0\1", "a control frame cannot be read: unpack requires"),
        (_syn(b"nothing of zlib"), "a control frame cannot be read: Error -3"),
        (_syn(_block(b"\0" * 10_000_000)), "headers are longer than 4096 bytes"),
        (_syn(_block(b"\0\0\0\x41")), "65 headers are more than 64"),
        (_syn(_block(b"\0\0\0\1\0\0\xff\xffa")), "a header is longer than its block"),
        (_syn(_block(b"\0\0\0\1\0\0\0\0\0\0\0\1a")), "a header has no name, or the name of another"),
        (_syn(_block(b"\0\0\0\2" + 2 * b"\0\0\0\1a\0\0\0\0")), "a header has no name, or the name of another"),
        (_syn(_block(b"\0\0\0\1\0\0\0\1\xff\0\0\0\0")), "a control frame cannot be read: 'utf-8'"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(spdy.SpdyError, match=f"^{words}"):
        list(spdy.Decoder().feed(data))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_raise_nothing_else(data: bytes, control: bool) -> None:
    found: list[spdy.Frame] = []
    with suppress(spdy.SpdyError):
        found += spdy.Decoder().feed((b"\x80\3\0" if control else b"") + data)
    assert len(found) <= len(data)


def test_unknown_frames_are_passed_over() -> None:
    assert decoded(b"\x80\3\0\x0a\0\0\0\2ab" + spdy.Encoder().encode(spdy.Ping(1)), 3) == [spdy.Ping(1)]


class Pipe:
    """Two wires that are joined; what was sent waits without bound, and is counted."""

    def __init__(self) -> None:
        self.to_server: asyncio.Queue[bytes] = asyncio.Queue()
        self.to_client: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(self) -> bytes:
        return await self.to_server.get()

    async def send(self, data: bytes) -> None:
        self.to_client.put_nowait(data)


class Joined:
    def __init__(self, max_streams: int) -> None:
        self.pipe = Pipe()
        self.streams: list[SpdyStream] = []
        self.connection = SpdyConnection(self.pipe, self._accept, max_streams)
        self.client = SpdyClient(self.pipe.to_server.put, self.pipe.to_client.get)

    def _accept(self, stream: SpdyStream) -> None:
        if "unwanted" in stream.headers:
            raise StreamRefused("not wanted")
        self.streams.append(stream)

    async def heard(self) -> list[spdy.Frame]:
        """All that has come by now."""
        await settle()
        await self.client.read(lambda: self.pipe.to_client.empty())
        return self.client.frames

    async def opened(self, **headers: str) -> SpdyStream:
        await self.client.open(**headers)
        await settle()
        return self.streams[-1]


@asynccontextmanager
async def joined(max_streams: int = 8) -> AsyncIterator[Joined]:
    both = Joined(max_streams)
    running = asyncio.create_task(both.connection.run())
    try:
        yield both
        both.pipe.to_server.put_nowait(b"")
        await running
    finally:
        running.cancel()


async def test_a_stream_both_ways() -> None:
    async with joined() as both:
        stream = await both.opened(streamType="data")
        assert stream.headers == {"streamtype": "data"}
        await both.client.send(spdy.Data(1, b"hello"))
        await both.client.send(spdy.Data(1, b"", fin=True))
        assert [await stream.read(), await stream.read()] == [b"hello", b""]
        await stream.write(b"x" * 40_000)
        await stream.end()
        frames = await both.heard()
        assert frames[0] == spdy.SynReply(1, {})
        sizes = [(len(frame.data), frame.fin) for frame in frames if isinstance(frame, spdy.Data)]
        assert sizes == [(16384, False), (16384, False), (7232, False), (0, True)]
        with pytest.raises(StreamReset):
            await stream.write(b"late")


async def test_pings_of_the_client_are_answered_and_its_answers_are_not() -> None:
    async with joined() as both:
        await both.client.send(spdy.Ping(5))
        await both.client.send(spdy.Ping(6))
        assert await both.heard() == [spdy.Ping(5)]


async def test_a_reset_stream_wakes_who_reads_and_who_writes() -> None:
    async with joined() as both:
        stream = await both.opened()
        reading = asyncio.create_task(stream.read())
        await both.client.send(spdy.Settings({spdy.INITIAL_WINDOW_SIZE: 0}))
        await settle()
        writing = asyncio.create_task(stream.write(b"x"))
        await settle()
        assert (reading.done(), writing.done()) == (False, False)
        await both.client.send(spdy.RstStream(1, spdy.CANCEL))
        for task in (reading, writing):
            with pytest.raises(StreamReset):
                await task
        assert await both.heard() == [spdy.SynReply(1, {})]


async def test_the_end_of_the_connection_breaks_its_streams_off() -> None:
    async with joined() as both:
        stream = await both.opened()
    with pytest.raises(StreamReset):
        await stream.read()


async def test_streams_that_are_not_wanted_or_too_many_are_refused() -> None:
    async with joined(max_streams=1) as both:
        await both.client.open(unwanted="yes")
        await both.client.open()
        await both.client.open()
        assert await both.heard() == [
            spdy.RstStream(1, spdy.CANCEL), spdy.SynReply(3, {}), spdy.RstStream(5, spdy.REFUSED_STREAM),
        ]  # fmt: skip
        await both.streams[0].reset()
        await both.client.open()
        assert (await both.heard())[3:] == [spdy.RstStream(3, spdy.CANCEL), spdy.SynReply(7, {})]


@pytest.mark.parametrize(
    "frame",
    [
        spdy.SynStream(0, {}),
        spdy.SynStream(2, {}),
        spdy.SynStream(1, {}),
        spdy.WindowUpdate(0, 2**31 - 1),
        spdy.Settings({spdy.INITIAL_WINDOW_SIZE: 2**31}),
    ],
)
async def test_a_broken_protocol_ends_the_connection(frame: spdy.Frame) -> None:
    async with joined() as both:
        await both.opened()
        await both.client.send(frame)
        assert (await both.heard())[-1] == spdy.GoAway(1, spdy.GOAWAY_PROTOCOL_ERROR)


async def test_what_is_not_read_holds_the_wire_back() -> None:
    async with joined() as both:
        stream = await both.opened()
        size, pieces = 32768, 2 * inflow.STREAM_BYTES // 32768
        for _ in range(pieces):
            await both.client.send(spdy.Data(1, b"x" * size))
        await settle()
        assert both.pipe.to_server.qsize() == pieces // 2 - 1
        for _ in range(pieces):
            assert len(await stream.read()) == size
        # What was read is given back to a client that keeps windows, of the stream and of the connection.
        given: dict[int, int] = {}
        for frame in await both.heard():
            if isinstance(frame, spdy.WindowUpdate):
                given[frame.stream] = given.get(frame.stream, 0) + frame.delta
        assert given == {0: pieces * size, 1: pieces * size}


async def test_what_is_dropped_holds_nothing_back() -> None:
    async with joined() as both:
        stream = await both.opened()
        await stream.discard()
        for _ in range(20):
            await both.client.send(spdy.Data(1, b"x" * 65536))
        await settle()
        assert both.pipe.to_server.empty()


async def test_a_client_without_windows_is_sent_all_and_one_with_them_what_they_hold() -> None:
    async with joined() as both:
        stream = await both.opened()
        await stream.write(b"x" * 200_000)
        await both.heard()
        assert len(both.client.received[1]) == 200_000
        await both.client.send(spdy.WindowUpdate(0, 200_000))
        await both.client.send(spdy.WindowUpdate(1, 150_000))
        await settle()
        writing = asyncio.create_task(stream.write(b"y" * 100_000))
        await both.heard()
        # The stream's window was the draft's 64 KiB; what had been sent before counts.
        assert (len(both.client.received[1]), writing.done()) == (65536 + 150_000, False)
        await both.client.send(spdy.WindowUpdate(1, 2**30))
        await both.heard()
        # Now the connection's is the narrower one.
        assert (len(both.client.received[1]), writing.done()) == (65536 + 200_000, False)
        await both.client.send(spdy.WindowUpdate(0, 2**30))
        await writing
        await both.heard()
        assert len(both.client.received[1]) == 300_000
