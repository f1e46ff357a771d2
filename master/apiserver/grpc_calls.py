"""What every call at the gRPC door has in common: who calls, how much at once, how long a stream waits for its reader,
how a refusal is told.

A refused call ends with a gRPC status and, in the trailing metadata `barque-status-bin`, the Kubernetes `Status`. An
unexpected exception is logged here and told as one short sentence: its traceback is ours, not the caller's.

gRPC hands nothing on to a caller that does not read, not even the end of its call. So what was behind the stream is let
go at the end of its time, and the end itself waits for the caller to read or to leave; until then the call counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from types import TracebackType
from typing import Any, TypeAlias

import grpc
import grpc.aio
import msgspec

from barque.api.errors import ApiError, internal, too_many_requests, unavailable
from barque.api.types.meta_v1 import StatusDetails
from barque.client import wire
from barque.master.auth.identity import User, user_of_call

log = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

# HTTP/2 headers are dropped above 8 KiB: what stays must fit there in base64, beside the message percent-encoded.
_MAX_STATUS_BYTES = 4096
_MAX_DETAILS = 400
_SHORTENED = " … (shortened)"

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    409: grpc.StatusCode.ABORTED,
    410: grpc.StatusCode.OUT_OF_RANGE,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def grpc_code(error: ApiError) -> grpc.StatusCode:
    """The gRPC status of a refusal."""
    if error.reason == "AlreadyExists":
        return grpc.StatusCode.ALREADY_EXISTS
    return _CODES.get(error.code, grpc.StatusCode.UNKNOWN)


class CallerLeft(Exception):
    """The caller has gone in the midst of a stream: there is nobody to tell anything."""


async def write(context: Context, message: object) -> None:
    """Write a message of a stream, once there is room for it. Raises `CallerLeft`."""
    try:
        await context.write(message)
    except grpc.aio.BaseError as error:
        raise CallerLeft from error


async def write_within(context: Context, message: object, seconds: float, advice: str) -> None:
    """As `write`. Raises 503, with `advice`, where the caller has not made room for the message by then."""
    try:
        async with asyncio.timeout(seconds):
            await write(context, message)
    except TimeoutError:
        raise unavailable(f"nothing was read for {seconds:.0f} s; {advice}") from None


async def abort(context: Context, error: ApiError) -> None:
    """End the call with this refusal, once the caller has read what came before or has left; raises out of the handler,
    as grpc wants it.
    """
    error = fitted(error)
    try:
        await context.abort(grpc_code(error), _cut(error.message, _MAX_DETAILS), wire.status_metadata(error))
    except grpc.aio.InternalError as left:
        raise asyncio.CancelledError from left


def fitted(error: ApiError) -> ApiError:
    """The same refusal, with as many causes and as much of the message as the metadata can carry."""
    if len(msgspec.json.encode(error.status())) <= _MAX_STATUS_BYTES:
        return error
    details = msgspec.structs.replace(error.details, causes=[]) if error.details is not None else None
    shorter = ApiError(error.code, error.reason, error.message, details)
    if len(msgspec.json.encode(shorter.status())) <= _MAX_STATUS_BYTES:
        return shorter
    # Non-ASCII text takes up to four bytes a character.
    message = _cut(error.message, _MAX_STATUS_BYTES // 8)
    if details is not None:
        details = msgspec.structs.replace(details, name=_cut(details.name, _MAX_DETAILS))
    return ApiError(error.code, error.reason, message, details)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - len(_SHORTENED)] + _SHORTENED


class Bounds:
    """How many calls one user may have under way; one worker gone wild must not take the door from the others. Once it
    is closed, none may begin.
    """

    def __init__(self, max_calls: int = 256, max_streams: int = 512) -> None:
        self._max = {"calls": max_calls, "streams": max_streams}
        self._running: Counter[tuple[str, str]] = Counter()
        self._closed = ""

    def close(self, why: str) -> None:
        """From now on every call is refused in such a way that its client goes to another master."""
        self._closed = why

    def enter(self, user: User, sort: str) -> None:
        """Count one call of this user; `sort` is "calls" or "streams". Raises 429 where there are too many, 503 once it
        is closed.
        """
        if self._closed:
            raise ApiError(503, "ServiceUnavailable", self._closed, StatusDetails(retryAfterSeconds=1))
        key = (user.name, sort)
        if self._running[key] >= self._max[sort]:
            raise too_many_requests(f"{user.name} has {self._max[sort]} {sort} under way: too many at once")
        self._running[key] += 1

    def leave(self, user: User, sort: str) -> None:
        """The end of a call that was let in."""
        key = (user.name, sort)
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]


class Handled:
    """The frame of every handler: `async with Handled(context, bounds) as user`.

    Entering gives the caller or ends the call with 401, 429 or 503; what is raised inside becomes the call's end.
    """

    def __init__(self, context: Context, bounds: Bounds, sort: str = "calls") -> None:
        self._context = context
        self._bounds = bounds
        self._sort = sort
        self._user: User | None = None

    async def __aenter__(self) -> User:
        try:
            user = user_of_call(self._context)
            self._bounds.enter(user, self._sort)
        except ApiError as refused:
            await abort(self._context, refused)
            raise
        self._user = user
        return user

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._tell(error)
        finally:
            if self._user is not None:
                self._bounds.leave(self._user, self._sort)

    async def _tell(self, error: BaseException | None) -> None:
        match error:
            case ApiError():
                await abort(self._context, error)
            case CallerLeft():
                # As grpc itself ends a handler whose caller has gone.
                raise asyncio.CancelledError from error
            case Exception() if not isinstance(error, grpc.aio.AbortError):
                log.error("a call at the gRPC door failed unexpectedly", exc_info=error)
                await abort(self._context, internal("an internal error occurred; the master's log says which"))
