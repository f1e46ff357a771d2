"""What keeps clients' frames within bounds, without a socket: masks, turns, and what is held of a connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barque.master.apiserver.rest.websockets import MaskedFrames
from barque.master.apiserver.streams import spdy_connection
from barque.master.apiserver.streams import spdy_frames as spdy
from barque.master.apiserver.streams.inflow import CONNECTION_BYTES, STREAM_BYTES, Backlog, Inflow
from barque.master.apiserver.streams.spdy_connection import SpdyConnection, SpdyStream, StreamReset
from tests.support.clock import settle
from tests.support.raw_websocket import BINARY, PING, frame

FRAMES = st.builds(frame, st.sampled_from([0, 1, BINARY, 8, PING]), st.binary(max_size=300), fin=st.booleans())


class Parser:
    """Keeps what it is fed, as bytes."""

    def __init__(self) -> None:
        self.fed = b""
        self.ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.fed += data
        return False, b""

    def feed_eof(self) -> None:
        self.ended = True


def fed(data: bytes, piece: int) -> bytes:
    parser = Parser()
    guard = MaskedFrames(parser)
    for at in range(0, len(data), piece):
        guard.feed_data(data[at : at + piece])
    guard.feed_eof()
    assert parser.ended
    return parser.fed


@settings(max_examples=100, deadline=None)
@given(st.lists(FRAMES, max_size=6), st.integers(1, 400))
def test_masked_frames_are_passed_on_as_they_are(frames: list[bytes], piece: int) -> None:
    said = b"".join(frames)
    assert fed(said, piece) == said


@settings(max_examples=100, deadline=None)
@given(st.lists(FRAMES, max_size=4), st.binary(max_size=300), st.integers(1, 400))
def test_of_a_frame_without_a_mask_and_what_follows_nothing_is_heard(
    frames: list[bytes], payload: bytes, piece: int
) -> None:
    said = b"".join(frames)
    # In its place stands a frame that there is none of, which ends the connection.
    assert fed(said + frame(BINARY, payload, masked=False) + said, piece) == said + b"\x83\x00"


@pytest.mark.parametrize("size", [125, 126, 65535, 65536])
def test_heads_of_every_length(size: int) -> None:
    said = frame(BINARY, b"x" * size) + frame(PING)
    assert fed(said, 7) == said


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["put", "read", "drop", "end"])), max_size=120))
async def test_however_streams_are_read_little_is_held_of_all(steps: list[tuple[int, str]]) -> None:
    """And what is counted is what there is: once all are dropped, nothing is."""
    size = 60_000
    backlog = Backlog()
    inflows = [Inflow(backlog) for _ in range(5)]
    puts: asyncio.Queue[int] = asyncio.Queue()

    async def put_all() -> None:
        while True:
            await inflows[await puts.get()].put(b"x" * size)
            assert backlog.held_bytes < CONNECTION_BYTES + size

    putting = asyncio.create_task(put_all())
    readers: dict[int, asyncio.Task[bytes]] = {}
    for at, step in steps:
        match step:
            case "put":
                puts.put_nowait(at)
            case "read" if at not in readers or readers[at].done():
                readers[at] = asyncio.create_task(inflows[at].read())
            case "drop":
                inflows[at].drop()
            case "end":
                inflows[at].end()
        await settle(3)
        assert 0 <= backlog.held_bytes < CONNECTION_BYTES + size
        assert all(inflow._waiting_bytes < STREAM_BYTES + size for inflow in inflows)
    for inflow in inflows:
        inflow.drop()
    await settle()
    assert not putting.done()
    assert (puts.empty(), backlog.held_bytes) == (True, 0)
    for task in [putting, *readers.values()]:
        task.cancel()


async def test_many_streams_together_hold_no_more_than_a_connection_may() -> None:
    backlog, piece = Backlog(), b"x" * 65536
    inflows = [Inflow(backlog) for _ in range(100)]

    async def put_all() -> None:
        for inflow in inflows:
            await inflow.put(piece)

    putting = asyncio.create_task(put_all())
    await settle()
    assert (backlog.held_bytes, putting.done()) == (CONNECTION_BYTES, False)
    # What is being passed on is held still; only when the next piece is asked for has it gone.
    await inflows[0].read()
    await settle()
    assert inflows[CONNECTION_BYTES // len(piece)]._waiting_bytes == 0
    reading = asyncio.create_task(inflows[0].read())
    await settle()
    assert inflows[CONNECTION_BYTES // len(piece)]._waiting_bytes == len(piece)
    assert (backlog.held_bytes, reading.done(), putting.done()) == (CONNECTION_BYTES, False, False)
    for inflow in inflows:
        inflow.drop()
    await putting
    assert (await reading, backlog.held_bytes) == (b"", 0)


class Script:
    """A wire that brings these bytes, and the end; what is sent is counted."""

    def __init__(self, *said: bytes) -> None:
        self._said = list(said)
        self.sent = bytearray()

    async def receive(self) -> bytes:
        return self._said.pop(0) if self._said else b""

    async def send(self, data: bytes) -> None:
        self.sent += data


STREAM_NUMBERS = st.integers(0, 9)
SPDY_FRAMES: st.SearchStrategy[spdy.Frame] = st.one_of(
    st.builds(spdy.SynStream, STREAM_NUMBERS, st.just({"a": "b"}), st.booleans()),
    st.builds(spdy.Data, STREAM_NUMBERS, st.binary(max_size=9), st.booleans()),
    st.builds(spdy.RstStream, STREAM_NUMBERS, st.integers(0, 20)),
    st.builds(spdy.WindowUpdate, STREAM_NUMBERS, st.integers(0, 2**31 - 1)),
    st.builds(spdy.Settings, st.dictionaries(st.integers(0, 9), st.integers(0, 2**32 - 1), max_size=3)),
    st.builds(spdy.GoAway, STREAM_NUMBERS, st.integers(0, 20)),
    st.builds(spdy.Headers, STREAM_NUMBERS, st.just({}), st.booleans()),
    st.builds(spdy.SynReply, STREAM_NUMBERS, st.just({})),
    st.builds(spdy.Ping, st.integers(0, 9)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SPDY_FRAMES, max_size=30))
async def test_any_frames_in_any_order_end_with_the_wire_or_a_goodbye(frames: list[spdy.Frame]) -> None:
    encoder = spdy.Encoder()
    wire = Script(*[encoder.encode(frame) for frame in frames])
    streams: list[SpdyStream] = []
    connection = SpdyConnection(wire, streams.append)
    await asyncio.wait_for(connection.run(), 60)
    said = list(spdy.Decoder().feed(bytes(wire.sent)))
    assert [frame for frame in said if isinstance(frame, spdy.GoAway)] in (
        [], [spdy.GoAway(connection._last, spdy.GOAWAY_PROTOCOL_ERROR)],
    )  # fmt: skip
    assert connection.backlog.held_bytes == 0
    for stream in streams:
        if not stream._inflow.ended:
            with pytest.raises(StreamReset):
                await stream.read()


@pytest.mark.parametrize(
    "flood",
    [
        spdy.Encoder().encode(spdy.Data(1, b"")), spdy.Encoder().encode(spdy.Ping(2)), b"\x80\3\0\x0a\0\0\0\0",
        spdy.Encoder().encode(spdy.Ping(1)), spdy.Encoder().encode(spdy.Data(9, b"x")),
    ],
    ids=["empty data", "answers to no ping", "unknown frames", "pings", "data of no stream"],
)  # fmt: skip
async def test_a_flood_of_small_frames_leaves_the_loop_to_others(flood: bytes) -> None:
    """A message of a tunnel is of four megabytes; these are as many frames as its bytes make."""
    size = 4 * spdy_connection.TURN_BYTES
    encoder = spdy.Encoder()
    wire = Script(encoder.encode(spdy.SynStream(1, {})), flood * (size // len(flood)))
    running = asyncio.create_task(SpdyConnection(wire, lambda _: None).run())
    turns = 0
    while not running.done():
        await asyncio.sleep(0)
        turns += 1
    # Those that mean nothing are passed over without being looked at one by one.
    most = spdy_connection.TURN_BYTES // 8 if flood[3] == 10 else spdy_connection.TURN_FRAMES
    assert turns >= size // len(flood) // most


async def test_a_stream_whose_window_is_too_wide_ends_alone() -> None:
    encoder = spdy.Encoder()
    frames = [spdy.SynStream(1, {}), spdy.SynStream(3, {}), spdy.WindowUpdate(1, 2**31 - 1), spdy.Ping(1)]
    wire = Script(*map(encoder.encode, frames))
    await SpdyConnection(wire, lambda _: None).run()
    assert list(spdy.Decoder().feed(bytes(wire.sent)))[2:] == [spdy.RstStream(1, spdy.FLOW_CONTROL_ERROR), spdy.Ping(1)]


async def test_data_of_streams_that_never_were_is_refused_and_of_those_that_are_over_passed_over() -> None:
    encoder = spdy.Encoder()
    frames: list[spdy.Frame] = [
        spdy.SynStream(3, {}), spdy.RstStream(3, spdy.CANCEL), spdy.RstStream(9, spdy.CANCEL), spdy.Data(3, b"x"),
        spdy.Data(1, b"x"), spdy.Data(2, b"x"), spdy.Data(0, b"x"), spdy.Data(5, b"x"), spdy.Headers(7, {}, fin=True),
    ]  # fmt: skip
    wire = Script(*map(encoder.encode, frames))
    await SpdyConnection(wire, lambda _: None).run()
    refused = [frame.stream for frame in spdy.Decoder().feed(bytes(wire.sent)) if isinstance(frame, spdy.RstStream)]
    assert refused == [2, 0, 5, 7]


async def test_after_our_goodbye_new_streams_are_passed_over() -> None:
    opened: list[SpdyStream] = []
    wire = Script(spdy.Encoder().encode(spdy.SynStream(1, {})))
    connection = SpdyConnection(wire, opened.append)
    await connection.go_away()
    await connection.run()
    assert opened == []
    assert list(spdy.Decoder().feed(bytes(wire.sent))) == [spdy.GoAway(0)]


async def test_a_client_that_broke_the_protocol_and_reads_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stuck(Script):
        async def send(self, data: bytes) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(spdy_connection, "GOODBYE_S", 0.0)
    with suppress(TimeoutError):
        await asyncio.wait_for(SpdyConnection(Stuck(b"\xff" * 8 + b"\x80\2\0\1" + bytes(4)), lambda _: None).run(), 60)
        return
    pytest.fail("it is waited for")
