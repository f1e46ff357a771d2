"""The `Pods` service: logs, commands and connections, passed through to the worker that runs the pod.

The master checks who asks, finds the pod's node and its address, and hands the stream on message by message: it awaits
each write, so a slow end slows the other down and nothing piles up here. A stream that is idle for as long as one of
the REST door may be, as when its caller does not read, ends with 504. Workers may not call it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import grpc.aio

from barque.api.errors import ApiError, bad_request
from barque.api.resources import by_plural
from barque.client.clock import Clock
from barque.client.verbs import Target
from barque.master.apiserver.grpc_audit import GrpcAudit, Recorded
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled, write
from barque.master.apiserver.node_channels import NodeChannels
from barque.master.apiserver.places import Place, Places, answers, choose_container
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.streams.idle import IDLE_S, Idleness
from barque.master.audit.audit import Audit
from barque.master.auth.identity import User
from barque.proto import pods_pb2 as pb
from barque.proto import pods_pb2_grpc, resources_pb2

# How long a client may take to say what it wants.
START_TIMEOUT_S = 10.0
_METHODS = {"log": "Logs", "exec": "Exec", "attach": "Attach", "portforward": "PortForward"}


class PodsService(pods_pb2_grpc.PodsServicer):
    """`channels` lead to the workers."""

    def __init__(
        self,
        registry: Registry,
        channels: NodeChannels,
        bounds: Bounds,
        clock: Clock,
        audit: Audit | None = None,
        idle_s: float = IDLE_S,
    ) -> None:
        self._registry = registry
        self._places = Places(registry, channels)
        self._bounds = bounds
        self._clock = clock
        self._audit = GrpcAudit(audit)
        self._idle_s = idle_s

    async def Logs(self, request: pb.LogsRequest, context: Context) -> None:
        async with (
            Handled(context, self._bounds, "streams") as user,
            self._audited(context, user, "get", "log", request.namespace, request.pod) as record,
        ):
            place = await self._find(user, "get", "log", request.namespace, request.pod, record)
            request.container = choose_container(place.pod, request.container)
            record.started()
            async with self._places.stub(place) as stub:
                idleness = Idleness(self._clock, self._idle_s)
                await self._run(idleness, _pass_log(context, answers(stub.Logs(request), place), idleness))

    async def Exec(self, request_iterator: AsyncIterator[pb.ExecInput], context: Context) -> None:
        await self._pass(context, "exec", request_iterator)

    async def Attach(self, request_iterator: AsyncIterator[pb.ExecInput], context: Context) -> None:
        await self._pass(context, "attach", request_iterator)

    async def PortForward(self, request_iterator: AsyncIterator[pb.PortForwardInput], context: Context) -> None:
        await self._pass(context, "portforward", request_iterator)

    async def _pass(self, context: Context, subresource: str, messages: AsyncIterator[Any]) -> None:
        """One two-way stream, on to the worker and back."""
        async with Handled(context, self._bounds, "streams") as user:
            first = await _first(messages)
            start = first.start
            async with self._audited(context, user, "create", subresource, start.namespace, start.pod) as record:
                place = await self._find(user, "create", subresource, start.namespace, start.pod, record)
                if subresource != "portforward":
                    first.start.container = choose_container(place.pod, first.start.container)
                record.started()
                async with self._places.stub(place) as stub:
                    call = {"exec": stub.Exec, "attach": stub.Attach, "portforward": stub.PortForward}[subresource]()
                    idleness = Idleness(self._clock, self._idle_s)
                    feeder = asyncio.create_task(
                        _feed(call, first, messages, idleness.touch), name=f"{subresource} to {first.start.pod}"
                    )
                    try:
                        await self._run(idleness, _pass_back(context, answers(call, place), idleness.touch))
                    finally:
                        feeder.cancel()
                        with suppress(asyncio.CancelledError):
                            await feeder

    async def _run(self, idleness: Idleness, session: Coroutine[Any, Any, None]) -> None:
        """Raises what the session does, and 504 where it was idle for too long."""
        if not await idleness.run(session):
            raise ApiError(504, "Timeout", f"the stream was idle for {self._idle_s:.0f} s")

    def _audited(
        self, context: Context, user: User, verb: str, subresource: str, namespace: str, name: str
    ) -> Recorded:
        """The frame of a stream that is audited."""
        target = resources_pb2.Target(
            version="v1", resource="pods", subresource=subresource, namespace=namespace, name=name
        )
        return self._audit.of(context, user, verb, f"/barque.v1.Pods/{_METHODS[subresource]}", target)

    async def _find(
        self, user: User, verb: str, subresource: str, namespace: str, name: str, record: Recorded
    ) -> Place:
        """Where the pod runs. Raises what the user is told if it does not, or if they may not."""
        authorizer = self._registry.environment.authorizer
        target = Target(by_plural("", "pods"), namespace, name, subresource)
        record.decided(await authorizer.authorize_connect(user, verb, target))
        return await self._places.find(namespace, name)


async def _first(messages: AsyncIterator[Any]) -> Any:
    """The message that says what is wanted. Raises 400 where another comes, or none in time."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            first = await anext(messages, None)
    except TimeoutError:
        raise bad_request(f"the stream did not say within {START_TIMEOUT_S:.0f} s what is wanted") from None
    if first is None or first.WhichOneof("input") != "start":
        raise bad_request("the first message of the stream must say what is wanted")
    return first


async def _pass_log(context: Context, chunks: AsyncGenerator[Any, None], idleness: Idleness) -> None:
    """A log may be silent for as long as it likes; what it says is to be taken."""
    idleness.rest()
    async with aclosing(chunks):
        async for chunk in chunks:
            idleness.touch()
            await write(context, chunk)
            idleness.rest()


async def _pass_back(context: Context, outputs: AsyncGenerator[Any, None], touch: Callable[[], None]) -> None:
    async with aclosing(outputs):
        async for output in outputs:
            touch()
            await write(context, output)


async def _feed(call: Any, first: Any, messages: AsyncIterator[Any], touch: Callable[[], None]) -> None:
    """Pass the caller's messages on until they end or the worker has ended the call; the reader then hears how."""
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(first)
        async for message in messages:
            touch()
            await call.write(message)
        await call.done_writing()
