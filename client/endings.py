"""How a call that sends a stream really ended: the status that its peer sent, and not the one put in its place.

A peer may end a stream before it has read all of it, with a refusal or well, and the end may come while a message is
still on its way out. That write then fails, and grpc.aio overwrites the status it has received with `INTERNAL`,
"Internal error from Core", without the trailing metadata in which a refusal travels. `Ending` hears of each status as
it is set, and keeps the peer's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import grpc
import grpc.aio

from barque.client.wire import WRITE_FAILED

# A write may fail a moment before the status comes that says why.
_PATIENCE_S = 1.0

T = TypeVar("T")


class Ending:
    """Make it as soon as the call is: what has ended before cannot be heard any more. What answers in the same process
    is no call of gRPC, and raises what it means.
    """

    def __init__(self, call: Any) -> None:
        self._told: grpc.aio.AioRpcError | None = None
        self._came = asyncio.Event()
        listen: Callable[[Callable[[Any], None]], object] | None = getattr(call, "add_done_callback", None)
        if listen is not None:
            listen(self._hear)

    @property
    def refusal(self) -> grpc.aio.AioRpcError | None:
        """What the peer has refused the call with; None where it has ended it well, or not yet."""
        told = self._told
        return None if told is None or told.code() is grpc.StatusCode.OK else told

    async def of(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError | None:
        """The error that the peer sent where `error` stands in its place, else `error` itself; None where the peer has
        ended the call well, and only wanted no more of what was sent.
        """
        if error.details() != WRITE_FAILED:
            return error
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._came.wait()
        return error if self._told is None else self.refusal

    def _hear(self, call: Any) -> None:
        details = _at_once(call.details())
        if details != WRITE_FAILED:
            code, trailing = _at_once(call.code()), _at_once(call.trailing_metadata())
            self._told = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)
            self._came.set()


async def answered(call: Any) -> Any:
    """The answer to a stream. Raises `AioRpcError` with the status that the peer sent."""
    ending = Ending(call)
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        # A call that has ended well has an answer.
        raise await ending.of(error) or error from error


def _at_once(known: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that has nothing to wait for: a turn of the loop later it may be another status."""
    try:
        known.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    known.close()
    raise AssertionError("a call that is done knows its status")
