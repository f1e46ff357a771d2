"""The `Pods` service: logs, commands and connections, passed through to the worker that runs the pod.

The master checks who asks, finds the pod's node and its address, and hands the stream on message by message: it awaits
each write, so a slow end slows the other down and nothing piles up here. Workers may not call it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import grpc.aio

from barque.api.errors import bad_request
from barque.api.resources import by_plural
from barque.client.verbs import Target
from barque.master.apiserver.grpc_audit import GrpcAudit, Recorded
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled
from barque.master.apiserver.node_channels import NodeChannels
from barque.master.apiserver.places import Place, Places, answers, choose_container
from barque.master.apiserver.registry import Registry
from barque.master.audit.audit import Audit
from barque.master.auth.identity import User
from barque.proto import pods_pb2 as pb
from barque.proto import pods_pb2_grpc, resources_pb2

# How long a client may take to say what it wants.
START_TIMEOUT_S = 10.0
_METHODS = {"log": "Logs", "exec": "Exec", "attach": "Attach", "portforward": "PortForward"}


class PodsService(pods_pb2_grpc.PodsServicer):
    """`channels` lead to the workers."""

    def __init__(self, registry: Registry, channels: NodeChannels, bounds: Bounds, audit: Audit | None = None) -> None:
        self._registry = registry
        self._places = Places(registry, channels)
        self._bounds = bounds
        self._audit = GrpcAudit(audit)

    async def Logs(self, request: pb.LogsRequest, context: Context) -> AsyncIterator[pb.LogsChunk]:
        async with (
            Handled(context, self._bounds, "streams") as user,
            self._audited(context, user, "get", "log", request.namespace, request.pod) as record,
        ):
            place = await self._find(user, "get", "log", request.namespace, request.pod, record)
            request.container = choose_container(place.pod, request.container)
            record.started()
            async with self._places.stub(place) as stub, aclosing(answers(stub.Logs(request), place)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def Exec(
        self, request_iterator: AsyncIterator[pb.ExecInput], context: Context
    ) -> AsyncIterator[pb.ExecOutput]:
        async with aclosing(self._pass(context, "exec", request_iterator)) as outputs:
            async for output in outputs:
                yield output

    async def Attach(
        self, request_iterator: AsyncIterator[pb.ExecInput], context: Context
    ) -> AsyncIterator[pb.ExecOutput]:
        async with aclosing(self._pass(context, "attach", request_iterator)) as outputs:
            async for output in outputs:
                yield output

    async def PortForward(
        self, request_iterator: AsyncIterator[pb.PortForwardInput], context: Context
    ) -> AsyncIterator[pb.PortForwardOutput]:
        async with aclosing(self._pass(context, "portforward", request_iterator)) as outputs:
            async for output in outputs:
                yield output

    async def _pass(
        self, context: Context, subresource: str, messages: AsyncIterator[Any]
    ) -> AsyncGenerator[Any, None]:
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
                    feeder = asyncio.create_task(
                        _feed(call, first, messages), name=f"{subresource} to {first.start.pod}"
                    )
                    try:
                        async with aclosing(answers(call, place)) as outputs:
                            async for output in outputs:
                                yield output
                    finally:
                        feeder.cancel()
                        with suppress(asyncio.CancelledError):
                            await feeder

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


async def _feed(call: Any, first: Any, messages: AsyncIterator[Any]) -> None:
    """Pass the caller's messages on until they end or the worker has ended the call; the reader then hears how."""
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(first)
        async for message in messages:
            await call.write(message)
        await call.done_writing()
