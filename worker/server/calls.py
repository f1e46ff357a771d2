"""What every call at the worker's door has in common: who may call, how many at once, how a refusal is told.

mTLS admits certificates of the cluster's CA; of those only the group `barque:masters` is served.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio

from barque.api.errors import ApiError, bad_request, internal, too_many_requests, unavailable
from barque.client import wire
from barque.client.pki import MASTERS_GROUP, PkiError, subject_of
from barque.worker.runtime.port import ContainerNotFoundError, RuntimeFault, RuntimeUnavailableError

log = logging.getLogger(__name__)

M = TypeVar("M")

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

# How long a caller may take to say what it wants.
START_TIMEOUT_S = 10.0

# Docker's streams hold a connection to it each; a forwarded connection is two sockets and 64 KiB at most.
MAX_CALLS = {"streams": 256, "connections": 1024, "calls": 64}
_MAX_DETAILS = 400
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}


class Bounds:
    """How many calls of each sort are under way."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()

    def enter(self, sort: str) -> None:
        """Count one more. Raises 429 where there are too many."""
        if self._running[sort] >= MAX_CALLS[sort]:
            raise too_many_requests(f"this worker serves {MAX_CALLS[sort]} {sort} already")
        self._running[sort] += 1

    def leave(self, sort: str) -> None:
        self._running[sort] -= 1


class Handled:
    """The frame of every handler: entering lets a master in or ends the call; what is raised inside becomes its end."""

    def __init__(self, context: Context, bounds: Bounds, sort: str) -> None:
        self._context = context
        self._bounds = bounds
        self._sort = sort
        self._entered = False

    async def __aenter__(self) -> None:
        try:
            check_master(self._context)
            self._bounds.enter(self._sort)
        except ApiError as refused:
            await _abort(self._context, refused)
        self._entered = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered:
            self._bounds.leave(self._sort)
        match error:
            case ApiError():
                await _abort(self._context, error)
            case ContainerNotFoundError():
                await _abort(self._context, ApiError(404, "NotFound", f"the container is gone: {error}"))
            case RuntimeUnavailableError():
                await _abort(self._context, unavailable(str(error)))
            case RuntimeFault():
                await _abort(self._context, internal(f"Internal error occurred: {error}"))
            case Exception() if not isinstance(error, grpc.aio.AbortError):
                log.error("a call at the worker's door failed unexpectedly", exc_info=error)
                await _abort(self._context, internal("an internal error occurred; the worker's log says which"))


async def read_first(messages: AsyncIterator[M], what: str) -> M | None:
    """A stream's first message, which must say `what`; None where there is none. Raises 400 where it does not come in
    time.
    """
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            return await anext(messages, None)
    except TimeoutError:
        raise bad_request(f"the stream did not say within {START_TIMEOUT_S:.0f} s {what}") from None


def check_master(context: Any) -> None:
    """Raise 401 or 403 unless the peer's certificate is a master's."""
    certificates = context.auth_context().get("x509_pem_cert")
    if not certificates:
        raise ApiError(401, "Unauthorized", "the connection carries no client certificate")
    try:
        subject = subject_of(bytes(certificates[0]))
    except PkiError as error:
        raise ApiError(401, "Unauthorized", f"the client certificate is refused: {error}") from error
    if MASTERS_GROUP not in subject.groups:
        raise ApiError(403, "Forbidden", f'User "{subject.name}" is no master: a worker serves masters only')


async def _abort(context: Context, error: ApiError) -> None:
    code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    await context.abort(code, error.message[:_MAX_DETAILS], wire.status_metadata(error))
