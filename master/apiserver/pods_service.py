"""The `Pods` service: logs, commands and connections, passed through to the worker that runs the pod.

The master checks who asks, finds the pod's node and its address, and hands the stream on message by message: it awaits
each write, so a slow end slows the other down and nothing piles up here. Workers may not call it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

import grpc
import grpc.aio

from barque.api.errors import ApiError, bad_request, unavailable
from barque.api.resources import by_plural
from barque.api.types.core_v1 import Node, Pod
from barque.client import wire
from barque.client.client import Client
from barque.client.verbs import Target
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled
from barque.master.apiserver.node_channels import NodeChannels
from barque.master.apiserver.registry import Registry
from barque.master.auth.authorizer import denied
from barque.master.auth.identity import User
from barque.proto import node_pb2_grpc, pods_pb2_grpc
from barque.proto import pods_pb2 as pb

# How long a client may take to say what it wants.
START_TIMEOUT_S = 10.0


class Place(NamedTuple):
    """Where a pod's streams come from."""

    node: str
    address: str
    pod: Pod


class PodsService(pods_pb2_grpc.PodsServicer):
    """`channels` lead to the workers."""

    def __init__(self, registry: Registry, channels: NodeChannels, bounds: Bounds) -> None:
        self._registry = registry
        self._channels = channels
        self._bounds = bounds

    async def Logs(self, request: pb.LogsRequest, context: Context) -> AsyncIterator[pb.LogsChunk]:
        async with Handled(context, self._bounds, "streams") as user:
            place = await self._find(user, "get", "log", request.namespace, request.pod)
            request.container = choose_container(place.pod, request.container)
            async with self._channels.to(place.address, place.node) as channel:
                call = node_pb2_grpc.NodeStub(channel).Logs(request)
                async with aclosing(_answers(call, place)) as chunks:
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
            place = await self._find(user, "create", subresource, first.start.namespace, first.start.pod)
            if subresource != "portforward":
                first.start.container = choose_container(place.pod, first.start.container)
            async with self._channels.to(place.address, place.node) as channel:
                stub = node_pb2_grpc.NodeStub(channel)
                call = {"exec": stub.Exec, "attach": stub.Attach, "portforward": stub.PortForward}[subresource]()
                feeder = asyncio.create_task(_feed(call, first, messages), name=f"{subresource} to {first.start.pod}")
                try:
                    async with aclosing(_answers(call, place)) as outputs:
                        async for output in outputs:
                            yield output
                finally:
                    feeder.cancel()
                    with suppress(asyncio.CancelledError):
                        await feeder

    async def _find(self, user: User, verb: str, subresource: str, namespace: str, name: str) -> Place:
        """Where the pod runs. Raises what the user is told if it does not, or if they may not."""
        if not user.is_master:
            raise denied(user, verb, Target(by_plural("", "pods"), namespace, name, subresource))
        client = Client(self._registry.as_user(user))
        pod = await client.get(Pod, name, namespace)
        if not pod.spec.nodeName:
            raise bad_request(f"pod {name} does not have a host assigned")
        node = await client.get(Node, pod.spec.nodeName)
        return Place(node.metadata.name, node_address(node), pod)


def choose_container(pod: Pod, asked: str) -> str:
    """The container meant; asked for none, the only one. Raises 400 in Kubernetes' words."""
    spec, name = pod.spec, pod.metadata.name
    apps, inits = [c.name for c in spec.containers], [c.name for c in spec.initContainers]
    if asked:
        if asked not in [*apps, *inits, *(c.name for c in spec.ephemeralContainers)]:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(apps) != 1:
        more = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(apps)}]{more}")
    return apps[0]


def node_address(node: Node) -> str:
    """`host:port` of the worker's node API. Raises 503 where the node has not told it."""
    host = next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
    endpoints = node.status.daemonEndpoints
    port = endpoints.kubeletEndpoint.Port if endpoints is not None and endpoints.kubeletEndpoint is not None else 0
    if not host or not port:
        raise unavailable(f"node {node.metadata.name} has not told the address of its node API yet")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


async def _answers(call: Any, place: Place) -> AsyncGenerator[Any, None]:
    """What the worker sends. Raises its own refusal, or 503 where it cannot be reached."""
    try:
        async for answer in call:
            yield answer
    except grpc.aio.AioRpcError as error:
        raise _failure(error, place) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise unavailable(f"node {place.node} ended the stream") from None
    finally:
        call.cancel()


def _failure(error: grpc.aio.AioRpcError, place: Place) -> ApiError:
    carried = wire.carried_status(error.trailing_metadata() or ())
    if carried is not None:
        return ApiError.from_status(carried)
    why = wire.plain_reason(error.details() or error.code().name)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return unavailable(f"node {place.node} at {place.address} cannot be reached: {why}")
    return unavailable(f"node {place.node} at {place.address} refused the stream: {why}")
