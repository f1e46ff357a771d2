"""One connection into a pod, whatever protocol the client's side of it comes by.

Neither side is read faster than the other takes it. A client that sends no more still hears the pod; once the pod has
ended its side, or the client is gone, it is over: kubectl waits for nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Protocol, TypeAlias

import grpc.aio

from barque.api.errors import ApiError
from barque.master.apiserver.places import Place, answers
from barque.proto import pods_pb2 as pb

log = logging.getLogger(__name__)

PIECE_BYTES = 64 * 1024


class Local(Protocol):
    """The client's side of a forwarded connection."""

    async def read(self) -> bytes:
        """What the client sends; empty once it sends no more. Raises OSError where it broke the connection off."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises OSError where the client broke the connection off."""
        ...


# Joins the client's side of a connection with a port of the pod. Raises ApiError.
Join: TypeAlias = Callable[[int, Local], Coroutine[Any, Any, None]]


async def attempt(join: Join, port: int, local: Local) -> str:
    """Join them until it is over; what the client is to be told went wrong, "" for nothing."""
    try:
        await join(port, local)
    except ApiError as error:
        return error.message
    except Exception:
        log.exception("a forwarded connection failed unexpectedly")
        return "an internal error occurred; the master's log says which"
    return ""


async def forward(stub: Any, place: Place, port: int, local: Local) -> None:
    """Join the client with a port of the pod until it is over. Raises ApiError where the pod does not take it."""
    call = stub.PortForward()
    metadata = place.pod.metadata
    start = pb.PortForwardInput.Start(namespace=metadata.namespace, pod=metadata.name, port=port)
    gone = asyncio.Event()
    feeder = asyncio.create_task(_feed(call, start, local, gone), name=f"forwarded to {metadata.name}:{port}")
    outputs = asyncio.create_task(_outputs(call, place, local), name=f"forwarded from {metadata.name}:{port}")
    leaving = asyncio.create_task(gone.wait(), name=f"client of {metadata.name}:{port}")
    try:
        await asyncio.wait([outputs, leaving], return_when=asyncio.FIRST_COMPLETED)
        if outputs.done():
            with suppress(OSError):
                await outputs
    finally:
        call.cancel()
        for task in (feeder, outputs, leaving):
            task.cancel()
        await asyncio.gather(feeder, outputs, leaving, return_exceptions=True)


async def _outputs(call: Any, place: Place, local: Local) -> None:
    async with aclosing(answers(call, place)) as found:
        async for output in found:
            match output.WhichOneof("output"):
                case "data":
                    await local.write(output.data)
                case "end":
                    return


async def _feed(call: Any, start: pb.PortForwardInput.Start, local: Local, gone: asyncio.Event) -> None:
    """Whoever reads the answers hears how a call ended that takes no more."""
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(pb.PortForwardInput(start=start))
        try:
            while data := await local.read():
                for at in range(0, len(data), PIECE_BYTES):
                    await call.write(pb.PortForwardInput(data=data[at : at + PIECE_BYTES]))
        except OSError:
            gone.set()
            return
        await call.write(pb.PortForwardInput(end=True))
