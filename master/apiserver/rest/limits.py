"""What a connection to the REST door may cost before there is a request, and what becomes of one that asks too much.

* A request's headers must all have come within ten seconds of their first byte, a connection's first ones of its
  beginning; whoever is slower is cut off without a word, as Go's server does it. One task looks after all of them.
* Lines and headers are bounded in size and number; what is larger is refused with 431, what is no HTTP with 400.
* There are at most so many connections, those that shake hands among them; fewer where the process may not open as
  many files (`limits_within`). Beyond them some few are let in whose requests about the master's health are
  answered, and others refused with 429; beyond those, none.
* Of a body that nobody reads, as its request was refused without, so much is taken in as comes within two seconds: a
  connection that is closed while more of it comes is reset, and its client would never read why.
* A peer that has vanished is found out by TCP: while nothing is sent within a minute and three quarters, while
  something is, within half a minute.

Bodies are bounded where they are read (`bodies`), handshakes in `tls`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from aiohttp import hdrs, web
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from barque.api.errors import ApiError, bad_request, too_many_requests

# Paths that are answered however full the door is.
HEALTH_PATHS = ("/healthz", "/livez", "/readyz")
_KEEPALIVE_IDLE_S = 60
_KEEPALIVE_INTERVAL_S = 15
_KEEPALIVE_PROBES = 3
# What was sent and is not acknowledged by then goes to nobody.
_UNACKNOWLEDGED_MS = 30_000
_LOOK_S = 1.0
# Sessions of some hundred workers, channels to their nodes, the store's segments, the other masters.
_FILES_OF_OTHERS = 1024

Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Limits(NamedTuple):
    """Of all connections. `line_bytes` is of the request's line, `field_bytes` of one header; `reserve` is how many
    connections are let in beyond the most, for health.
    """

    connections: int = 16_384
    reserve: int = 64
    headers_s: float = 10.0
    unread_body_s: float = 2.0
    line_bytes: int = 64 * 1024
    field_bytes: int = 64 * 1024
    fields: int = 128


def limits_within(files: int) -> Limits:
    """For a process that may open so many files: a quarter of them, and a good many where there are few, are for the
    store, the other doors and the bus.
    """
    limits = Limits()
    others = max(files // 4, min(_FILES_OF_OTHERS, files // 2))
    return limits._replace(connections=max(1, min(limits.connections, files - others - limits.reserve)))


class BoundedServer(web.Server):
    """aiohttp's server within limits: the protocol factory for `create_server`. `run` is a task of the owner.

    `options` are those of `web.RequestHandler`.
    """

    def __init__(self, answer: Answering, limits: Limits = Limits(), **options: Any) -> None:
        super().__init__(self._answer_bounded, request_factory=self._request, handler_cancellation=True)
        self._answer = answer
        self._options = {
            "access_log": None, "max_line_size": limits.line_bytes, "max_field_size": limits.field_bytes,
            "max_headers": limits.fields, "lingering_time": limits.unread_body_s, **options,
        }  # fmt: skip
        self.limits = limits
        # Connections that are no longer aiohttp's (`BoundedConnection.detach`).
        self.detached = 0
        # Whose headers have not all come, and since when; the longest first.
        self._awaited: dict[BoundedConnection, float] = {}

    def __call__(self) -> BoundedConnection:
        return BoundedConnection(self, loop=asyncio.get_running_loop(), **self._options)

    async def run(self) -> None:
        """Cut off connections whose headers do not come, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_LOOK_S, self.limits.headers_s))
            latest = loop.time() - self.limits.headers_s
            while self._awaited:
                connection, since = next(iter(self._awaited.items()))
                if since > latest:
                    break
                del self._awaited[connection]
                connection.cut_off()

    def has_room(self) -> bool:
        """Whether there are fewer connections than may be."""
        return self._open <= self.limits.connections

    def has_reserve(self) -> bool:
        """Whether one more may be let in to ask for the master's health."""
        return self._open <= self.limits.connections + self.limits.reserve

    def admits(self, handshakes: int) -> bool:
        """Whether so many connections may be shaking hands."""
        return self._open + handshakes <= self.limits.connections + self.limits.reserve

    @property
    def _open(self) -> int:
        return len(self._connections) + self.detached

    def await_headers(self, connection: BoundedConnection) -> None:
        """The connection owes the rest of a request's headers, from now on unless it did already."""
        self._awaited.setdefault(connection, connection.loop_time())

    def headers_came(self, connection: BoundedConnection) -> None:
        """The connection owes nothing."""
        self._awaited.pop(connection, None)

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> _Request:
        return _Request(message, payload, protocol, writer, task, self._loop)

    async def _answer_bounded(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        if isinstance(connection, BoundedConnection) and connection.reserved and request.path not in HEALTH_PATHS:
            response = _refusal(too_many_requests("too many connections, please try again later."))
            response.headers["Retry-After"] = "1"
            return response
        return await self._answer(request)


class _Request(web.BaseRequest):
    """A request whose answer does not tell what the door is made of; what a proxied server says of itself stays."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        if response.headers.get(hdrs.SERVER) == SERVER_SOFTWARE:
            del response.headers[hdrs.SERVER]


class BoundedConnection(web.RequestHandler):
    """One connection. `reserved` is one beyond the most that are let in for anything."""

    __slots__ = ("_bounded", "reserved")

    def __init__(self, server: BoundedServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._bounded = server
        self.reserved = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        _watch_peer(transport.get_extra_info("socket"))
        self.reserved = not self._bounded.has_room()
        if self.reserved and not self._bounded.has_reserve():
            self.cut_off()
        else:
            self._bounded.await_headers(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._bounded.headers_came(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._bounded.headers_came(self)
        elif self._waiter is not None and not self._messages and self.transport is not None:
            # It waits for a request, so this is the beginning of one, and not the body of the one that came before.
            self._bounded.await_headers(self)

    def detach(self, protocol: Detached) -> asyncio.Transport:
        """Give the connection to `protocol`, which answers what was asked here: all that aiohttp keeps of it goes.

        Raises `ConnectionError` where it is gone already.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionError("the client has left")
        self._bounded.headers_came(self)
        self._bounded.detached += 1
        protocol.server = self._bounded
        transport.set_protocol(protocol)
        # To aiohttp the connection is lost; whoever detaches it goes on to its own end all the same.
        self.transport = self._task_handler = None
        super().connection_lost(None)
        return transport

    async def _drain_helper(self) -> None:
        """Wait until more may be written. aiohttp has all who wait await one future itself: were one of them cancelled,
        so were the streams of everybody else on this connection.
        """
        if self.transport is None:
            raise ConnectionResetError("the client has left")
        if not self._paused:
            return
        if self._drain_waiter is None:
            self._drain_waiter = self._loop.create_future()
            # Where nobody waits any more, nobody asks what became of it.
            self._drain_waiter.add_done_callback(asyncio.Future.exception)
        waiter = self._drain_waiter
        await asyncio.wait([waiter])
        waiter.result()

    def loop_time(self) -> float:
        return self._loop.time()

    def cut_off(self) -> None:
        """Drop the connection, whatever is under way on it."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The Status for what is no request; what befalls one that is has been told by whoever answers it."""
        if not isinstance(exc, BadHttpMessage):
            return super().handle_error(request, status, exc, message)
        if isinstance(exc, LineTooLong) or "headers" in (message or "").lower():
            return _refusal(ApiError(431, "RequestHeaderFieldsTooLarge", "the request's headers are too large"))
        return _refusal(bad_request("the request is no HTTP that this server understands"))


class Detached(asyncio.Protocol):
    """What a connection is given to that leaves aiohttp; still counted among the server's."""

    __slots__ = ("server",)

    def __init__(self) -> None:
        self.server: BoundedServer | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self.server is not None:
            self.server.detached -= 1
            self.server = None


def _refusal(error: ApiError) -> web.Response:
    response = web.Response(body=msgspec.json.encode(error.status()), status=error.code)
    response.content_type = "application/json"
    response.force_close()
    return response


def _watch_peer(connection: socket.socket | None) -> None:
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # it may be gone already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
