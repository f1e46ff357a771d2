"""TLS for the server's side of a connection, on top of the loop's plain one.

uvloop's own costs each connection a read buffer of 256 KiB, of which pages are touched, and more time a request; with
ten thousand watches that is a quarter of their memory. Here all connections of a door share its buffers (the loop
hands one read at a time, and what OpenSSL writes is taken from it at once), and a connection keeps what OpenSSL keeps:
25 KiB with a client's certificate.

In: a factory of protocols and an `SSLContext`. Out: a factory for `create_server` without `ssl`. What a protocol sees
is an `asyncio.Transport`, with `ssl_object` and `sslcontext` among its extra info; it is made once the handshake is
done. Guarantees: reads are taken 32 KiB at a time and writes given 16 KiB at a time, so that neither holds the loop nor
leaves large buffers behind; a handshake ends in its time or not at all, and so does closing. A step of a handshake
costs a millisecond or two, so they take turns, in the order they came in and a few in one turn of the loop: however
many connections are new, those that stand are served in between.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

log = logging.getLogger(__name__)

_READ_BYTES = 32 * 1024
# One record of TLS.
_WRITE_BYTES = 16 * 1024
# OpenSSL's incoming buffer does not shrink either: a client's certificate is given to it by and by.
_HANDSHAKE_BYTES = 512
# Steps of handshakes in one turn of the loop: at most two milliseconds each, so well below 20.
_STEPS = 4
# Of what comes while its connection waits for its turn, so much is kept; a client's first words are some 500 bytes.
_KEPT_BYTES = 4 * 1024
# Data that is still on its way when a connection is closed has this long to be taken.
_CLOSE_S = 30.0

Factory = Callable[[], asyncio.BaseProtocol]


def secured(
    factory: Factory, context: ssl.SSLContext, handshake_s: float, admit: Callable[[int], bool] = lambda _: True
) -> Callable[[], TlsConnection]:
    """The factory of connections whose protocols, made by `factory`, speak through TLS.

    `admit(n)` tells whether there may be n handshakes at once; a connection for whose there is no room is dropped.
    """
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # Go's clients, which most are, never come back with a session: its tickets would be written for nobody.
    context.num_tickets = 0
    loop = asyncio.get_running_loop()
    handshakes, buffers = Handshakes(loop, admit, handshake_s), Buffers()
    return lambda: TlsConnection(loop, factory, context, handshakes, buffers)


class Buffers:
    """What all connections of a door share. `outgoing` is empty but between a call of OpenSSL and what follows it: one
    of each connection's own would keep the size of its handshake.
    """

    __slots__ = ("encrypted", "outgoing", "plain")

    def __init__(self) -> None:
        self.encrypted = memoryview(bytearray(_READ_BYTES))
        self.plain = bytearray(_READ_BYTES)
        self.outgoing = ssl.MemoryBIO()


class Handshakes:
    """Those of a door that are under way, what bounds them, and whose turn it is to go on with theirs."""

    __slots__ = ("_loop", "_queue", "_scheduled", "admit", "under_way", "within_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, admit: Callable[[int], bool], within_s: float) -> None:
        self._loop = loop
        self._queue: deque[TlsConnection] = deque()
        self._scheduled = False
        self.admit = admit
        self.within_s = within_s
        self.under_way = 0

    def enqueue(self, connection: TlsConnection) -> None:
        """Something has come for the handshake of this connection, which does not wait for its turn already."""
        self._queue.append(connection)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._take_turns)

    def _take_turns(self) -> None:
        steps = 0
        try:
            while self._queue and steps < _STEPS:
                steps += self._queue.popleft().step()
        finally:
            self._scheduled = bool(self._queue)
            if self._scheduled:
                self._loop.call_soon(self._take_turns)


class _Handshake:
    """One connection's: `kept` is what waits for its turn, `since` when, and `deadline` until when it has time. The
    waiting is not its own, and is added.
    """

    __slots__ = ("context", "deadline", "factory", "kept", "since")

    def __init__(self, factory: Factory, context: ssl.SSLContext) -> None:
        self.factory = factory
        self.context = context
        self.kept = b""
        self.since = self.deadline = 0.0


class TlsConnection(asyncio.BufferedProtocol, asyncio.Transport):
    """The protocol of a plain connection, and the transport of what speaks through it."""

    # There are thousands that hear nothing: what only a handshake needs goes with it.
    __slots__ = (
        "_buffers", "_closing", "_connection", "_handshake", "_handshakes", "_incoming", "_loop", "_paused",
        "_protocol", "_ssl", "_timer",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Factory,
        context: ssl.SSLContext,
        handshakes: Handshakes,
        buffers: Buffers,
    ) -> None:
        self._loop = loop
        self._handshake: _Handshake | None = _Handshake(factory, context)
        self._handshakes = handshakes
        self._buffers = buffers
        self._incoming = ssl.MemoryBIO()
        # Made at the first step of the handshake, for it costs as much as all else of accepting a connection.
        self._ssl: Any = None
        self._connection: Any = None
        self._protocol: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._closing = False

    # --- as the protocol of the plain connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection = transport
        assert self._handshake is not None
        self._handshakes.under_way += 1
        if self._handshakes.admit(self._handshakes.under_way):
            self._handshake.deadline = self._loop.time() + self._handshakes.within_s
            self._timer = self._loop.call_at(self._handshake.deadline, self.abort)
        else:
            self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        encrypted = self._buffers.encrypted
        return encrypted if self._handshake is None else encrypted[:_KEPT_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        came = self._buffers.encrypted[:nbytes]
        if self._handshake is None:
            self._incoming.write(came)
            self._receive()
        elif not self._closing:
            self._keep(self._handshake, bytes(came))

    def _keep(self, handshake: _Handshake, came: bytes) -> None:
        """Wait for a turn with what has come of a handshake."""
        if not handshake.kept:
            self._stop_timer()
            handshake.since = self._loop.time()
            self._handshakes.enqueue(self)
        handshake.kept += came
        if len(handshake.kept) >= _KEPT_BYTES:
            self.pause_reading()

    def step(self) -> bool:
        """Go on with the handshake, as its turn has come. Returns whether that took time."""
        handshake = self._handshake
        if self._closing or handshake is None:
            return False
        came, handshake.kept = handshake.kept, b""
        self.resume_reading()
        now = self._loop.time()
        handshake.deadline += now - handshake.since
        self._timer = self._loop.call_at(max(handshake.deadline, now), self.abort)
        if self._ssl is None:
            self._ssl = handshake.context.wrap_bio(self._incoming, self._buffers.outgoing, server_side=True)
        taken = 0
        while self._handshake is not None and taken < len(came) and not self._closing:
            taken += self._incoming.write(came[taken : taken + _HANDSHAKE_BYTES])
            self._shake_hands(handshake)
        if self._handshake is None and not self._closing:
            self._incoming.write(came[taken:])
            self._receive()
        return True

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._closing = True
        if self._handshake is not None:
            self._handshakes.under_way -= 1
            self._handshake = None
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # --- as the transport of the protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._ssl.write(view[:_WRITE_BYTES]) :]
                self._flush()
        except ssl.SSLError as error:
            self._fail(error)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Say goodbye and close, once what was written has been taken."""
        if self._closing:
            return
        self._closing = True
        self._stop_timer()
        if self._handshake is None:
            # It wants the peer's goodbye as well, which nobody waits for.
            with suppress(ssl.SSLError):
                self._ssl.unwrap()
            self._flush()
        self._connection.close()
        self._timer = self._loop.call_later(_CLOSE_S, self._connection.abort)

    def abort(self) -> None:
        self._closing = True
        self._connection.abort()

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self._connection.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not self._connection.is_closing():
                self._connection.resume_reading()
            # What has come already is in OpenSSL's hands: no further byte may ever wake the loop for it.
            self._loop.call_soon(self._receive)

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        size: int = self._connection.get_write_buffer_size()
        return size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._connection.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "ssl_object":
                return self._ssl
            case "sslcontext":
                return self._ssl.context
        return self._connection.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    # --- between the two

    def _shake_hands(self, handshake: _Handshake) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ValueError) as error:  # a ValueError is a name that cannot be one
            self._fail(error)
            return
        self._flush()
        self._stop_timer()
        self._handshake = None
        self._handshakes.under_way -= 1
        self._protocol = handshake.factory()
        self._protocol.connection_made(self)

    def _receive(self) -> None:
        """Hand over what has come, for as long as the protocol takes it."""
        plain = self._buffers.plain
        try:
            while not self._paused and self._protocol is not None:
                # With a buffer it tells how much it has put there.
                count = cast(int, self._ssl.read(_READ_BYTES, plain))
                # It may have answered a change of keys; the next to write may be another connection.
                self._flush()
                if not count:
                    self.close()
                    return
                self._protocol.data_received(bytes(memoryview(plain)[:count]))
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLZeroReturnError:
            self.close()
        except ssl.SSLError as error:
            self._fail(error)

    def _flush(self) -> None:
        outgoing = self._buffers.outgoing
        if outgoing.pending:
            self._connection.write(outgoing.read())

    def _fail(self, error: Exception) -> None:
        """End a connection that does not keep to TLS; the peer is told so by an alert."""
        log.debug("a connection ends: %s", error)
        self._closing = True
        self._flush()
        self._connection.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
