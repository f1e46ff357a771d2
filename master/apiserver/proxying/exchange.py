"""One HTTP/1.1 exchange with a backend, its bodies in pieces each way, by h11.

The request's body is sent while the answer is read, for a backend may answer before it has read everything. After an
answer of 101 the connection is raw: `rest` is what came behind the answer's head.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import h11

from barque.master.apiserver.proxying.connections import Connection
from barque.master.apiserver.proxying.headers import Header

# Of an answer's head; as much as Go's client takes is a megabyte.
MAX_HEAD_BYTES = 256 * 1024
SWITCHING_PROTOCOLS = 101


class BackendError(OSError):
    """What came back is no HTTP, or ended too early."""


class Exchange:
    """`begin`, then `send` the body beside `answer`, then `body`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def begin(self, method: str, target: str, headers: Sequence[Header]) -> None:
        """Send the request's head. Raises OSError, and `h11.LocalProtocolError` for what cannot be one."""
        encoded = [
            (name.encode("latin-1", "replace"), value.encode("utf-8", "surrogateescape")) for name, value in headers
        ]
        await self._send(h11.Request(method=method, target=target, headers=encoded))

    async def send(self, body: AsyncIterator[bytes]) -> None:
        """Send the request's body. Raises OSError."""
        async for piece in body:
            await self._send(h11.Data(data=piece))
        await self._send(h11.EndOfMessage())

    async def answer(self) -> h11.Response | h11.InformationalResponse:
        """The answer's head: a final one, or 101. Raises OSError."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == SWITCHING_PROTOCOLS:
                    return event
            else:
                raise BackendError("EOF")

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The answer's body. Raises OSError where it ends too early."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    @property
    def rest(self) -> bytes:
        return self._http.trailing_data[0]

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            await self._connection.write(data)

    async def _next(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            while True:
                event = self._http.next_event()
                if not isinstance(event, type) or event is not h11.NEED_DATA:
                    return event
                self._http.receive_data(await self._connection.read())
        except h11.RemoteProtocolError as error:
            raise BackendError(f"malformed HTTP response: {error}") from error
