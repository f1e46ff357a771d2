"""Connections through a worker's node API: into a pod on its overlay, or to the node itself; TLS on top where wanted.

Masters are not on the pods' network, so a connection is a two-way gRPC stream to the worker, which dials. Reading waits
for the far end and writing for its taking: nothing piles up.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Protocol

import grpc
import grpc.aio

from barque.api.errors import ApiError, unavailable
from barque.client import wire
from barque.client.endings import Ending
from barque.proto import pods_pb2 as pb

# The worker gives the dialled end 10 s.
CONNECT_TIMEOUT_S = 15.0
PIECE_BYTES = 64 * 1024


class Connection(Protocol):
    """A byte stream each way."""

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises OSError where the connection broke."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises OSError where the connection broke."""
        ...

    async def end_writing(self) -> None:
        """Say that no more is sent; reading goes on."""
        ...

    async def close(self) -> None: ...


class NodeStream:
    """A call of `PortForward` or `Dial`."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._ended = False

    @classmethod
    async def open(cls, call: Any, start: pb.PortForwardInput.Start) -> NodeStream:
        """The connection once the far end has taken it. Raises the worker's refusal, or 503."""
        ending = Ending(call)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await call.write(pb.PortForwardInput(start=start))
                first = await call.read()
        except grpc.aio.AioRpcError as error:
            refusal = await ending.of(error)
            raise (_refusal(refusal) if refusal is not None else unavailable("EOF")) from error
        except asyncio.InvalidStateError:
            raise await _ended(call) from None
        except TimeoutError:
            call.cancel()
            raise unavailable("the node did not connect in time") from None
        except BaseException:
            call.cancel()
            raise
        if first is grpc.aio.EOF:
            raise await _ended(call)
        return cls(call)

    async def read(self) -> bytes:
        if self._ended:
            return b""
        try:
            while True:
                output = await self._call.read()
                if output is grpc.aio.EOF or output.end:
                    self._ended = True
                    return b""
                if output.data:
                    data: bytes = output.data
                    return data
        except grpc.aio.AioRpcError as error:
            raise ConnectionResetError(wire.plain_reason(error.details() or error.code().name)) from error

    async def write(self, data: bytes) -> None:
        try:
            for start in range(0, len(data), PIECE_BYTES):
                await self._call.write(pb.PortForwardInput(data=data[start : start + PIECE_BYTES]))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise ConnectionResetError("the node ended the connection") from error

    async def end_writing(self) -> None:
        try:
            await self._call.write(pb.PortForwardInput(end=True))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise ConnectionResetError("the node ended the connection") from error

    async def close(self) -> None:
        self._call.cancel()


class TlsStream:
    """TLS on another connection. Backends are not verified, as Kubernetes' proxy does not: their certificates name
    nobody that a master would know.
    """

    def __init__(self, below: Connection) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._sending = asyncio.Lock()

    @classmethod
    async def open(cls, below: Connection) -> TlsStream:
        """The connection after the handshake. Raises OSError where there is none."""
        stream = cls(below)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            while True:
                try:
                    stream._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await stream._flush()
                    if not await stream._take():
                        raise ConnectionResetError("EOF") from None
            await stream._flush()
        return stream

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(PIECE_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._take():
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            self._tls.write(data[start : start + PIECE_BYTES])
            await self._flush()

    async def end_writing(self) -> None:
        """Nothing: TLS in Python's library ends both directions at once, so the far end hears of it at the close."""

    async def close(self) -> None:
        await self._below.close()

    async def _take(self) -> bool:
        """Take in what comes next; False at the end."""
        data = await self._below.read()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    async def _flush(self) -> None:
        """Send what TLS wants sent, in order even where reader and writer have something at once."""
        async with self._sending:
            if data := self._outgoing.read():
                await self._below.write(data)


async def _ended(call: Any) -> ApiError:
    """Why a call ended before it began."""
    carried = wire.carried_status(await call.trailing_metadata() or ())
    return ApiError.from_status(carried) if carried else unavailable(await call.details() or "EOF")


def _refusal(error: grpc.aio.AioRpcError) -> ApiError:
    carried = wire.carried_status(error.trailing_metadata() or ())
    if carried is not None:
        return ApiError.from_status(carried)
    return unavailable(wire.plain_reason(error.details() or error.code().name))
