"""The worker's own gRPC door: logs and commands of its pods, for masters only.

mTLS admits certificates of the cluster's CA; of those only the group `barque:masters` is served. Every stream waits for
its reader: Docker is read no faster than the caller takes, and a command's input is taken no faster than it reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, TypeAlias

import grpc
import grpc.aio

from barque.api.errors import ApiError, bad_request, unavailable
from barque.client import wire
from barque.client.pki import MASTERS_GROUP, PkiError, subject_of
from barque.proto import pods_pb2 as pb
from barque.proto import pods_pb2_grpc
from barque.worker.pods.manager import PodManager
from barque.worker.runtime.port import (
    ContainerNotFoundError,
    ExecOptions,
    ExecSession,
    LogOptions,
    Runtime,
    RuntimeFault,
    RuntimeUnavailableError,
)

log = logging.getLogger(__name__)

# Streams at the same time; each holds a connection to Docker.
MAX_STREAMS = 256
START_TIMEOUT_S = 10.0
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
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class NodeService(pods_pb2_grpc.NodeServicer):
    """Serves `Logs` and `Exec`."""

    def __init__(self, manager: PodManager, runtime: Runtime) -> None:
        self._manager = manager
        self._runtime = runtime
        self._streams = 0

    async def Logs(self, request: pb.LogsRequest, context: Context) -> AsyncIterator[pb.LogsChunk]:
        async with _Call(self, context):
            found = self._manager.find(request.namespace, request.pod, request.container, previous=request.previous)
            options = LogOptions(
                follow=request.follow,
                timestamps=request.timestamps,
                tail_lines=request.tail_lines,
                since_s=request.since_s,
            )
            async with aclosing(self._runtime.logs(found.id, options)) as pieces:
                async for data in pieces:
                    yield pb.LogsChunk(data=data)

    async def Exec(
        self, request_iterator: AsyncIterator[pb.ExecInput], context: Context
    ) -> AsyncIterator[pb.ExecOutput]:
        async with _Call(self, context):
            start = await _first(request_iterator)
            found = self._manager.find(start.namespace, start.pod, start.container, running=True)
            options = ExecOptions(start.command, start.stdin, start.tty, start.size.columns, start.size.rows)
            session = await self._runtime.exec(found.id, options)
            feeder = asyncio.create_task(_feed(request_iterator, session), name=f"input of a command in {start.pod}")
            try:
                async with aclosing(session.output()) as pieces:
                    async for stream, data in pieces:
                        yield pb.ExecOutput(stdout=data) if stream == "stdout" else pb.ExecOutput(stderr=data)
                yield pb.ExecOutput(exit_code=await session.exit_code())
            finally:
                feeder.cancel()
                with suppress(asyncio.CancelledError):
                    await feeder
                await session.close()


class _Call:
    """Who may call, how many at once, and how a refusal is told."""

    def __init__(self, service: NodeService, context: Context) -> None:
        self._service = service
        self._context = context
        self._counted = False

    async def __aenter__(self) -> None:
        try:
            check_master(self._context)
            if self._service._streams >= MAX_STREAMS:
                raise ApiError(429, "TooManyRequests", f"this worker serves {MAX_STREAMS} streams already")
        except ApiError as error:
            await _abort(self._context, error)
        self._service._streams += 1
        self._counted = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._counted:
            self._service._streams -= 1
        match error:
            case ApiError():
                await _abort(self._context, error)
            case ContainerNotFoundError():
                await _abort(self._context, ApiError(404, "NotFound", f"the container is gone: {error}"))
            case RuntimeUnavailableError():
                await _abort(self._context, unavailable(str(error)))
            case RuntimeFault():
                await _abort(self._context, ApiError(500, "InternalError", str(error)))


def check_master(context: Any) -> None:
    """Raise 403 unless the peer's certificate is a master's."""
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
    await context.abort(
        _CODES.get(error.code, grpc.StatusCode.UNKNOWN), error.message[:400], wire.status_metadata(error)
    )


async def _first(messages: AsyncIterator[pb.ExecInput]) -> pb.ExecInput.Start:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            first = await anext(messages, None)
    except TimeoutError:
        first = None
    if first is None or first.WhichOneof("input") != "start":
        raise bad_request("the first message of an exec stream must say what to run")
    if not first.start.command:
        raise bad_request("no command was named")
    return first.start


async def _feed(messages: AsyncIterator[pb.ExecInput], session: ExecSession) -> None:
    """The caller's input to the command, until either has ended."""
    try:
        async for message in messages:
            match message.WhichOneof("input"):
                case "stdin":
                    await session.write(message.stdin)
                case "resize":
                    await session.resize(message.resize.columns, message.resize.rows)
                case "stdin_end":
                    await session.end_input()
        await session.end_input()
    except (OSError, RuntimeFault) as error:
        # The command ended without reading everything: its exit code tells the rest.
        log.debug("a command's input ended early: %s", error)


async def serve(service: NodeService, address: str, credentials: grpc.ServerCredentials) -> tuple[grpc.aio.Server, int]:
    """A running server and its port. Raises OSError where the address is taken."""
    server = grpc.aio.server(options=wire.SERVER_OPTIONS)
    pods_pb2_grpc.add_NodeServicer_to_server(service, server)
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error
    if port == 0:
        raise OSError(f"cannot listen on {address}: the address is taken or not of this host")
    await server.start()
    return server, port
