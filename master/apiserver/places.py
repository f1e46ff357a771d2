"""Where a pod's streams come from: its node's API, for both doors.

Whether the caller may is the doors' own matter; from here on it is the master that looks the pod up and calls the
worker. A stream is handed on message by message, each write awaited, so that a slow end slows the other down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import grpc.aio

from barque.api.errors import ApiError, bad_request, unavailable
from barque.api.types.core_v1 import Node, Pod
from barque.client import wire
from barque.client.client import Client
from barque.client.endings import Ending
from barque.client.pki import MASTERS_GROUP
from barque.master.apiserver.node_channels import NodeChannels
from barque.master.apiserver.registry import Registry
from barque.master.auth.identity import User
from barque.proto import node_pb2_grpc

_SEEKER = User("barque:streams", (MASTERS_GROUP,))


class Place(NamedTuple):
    """The node, the `host:port` of its API, and the pod there."""

    node: str
    address: str
    pod: Pod


class Places:
    """`channels` lead to the workers."""

    def __init__(self, registry: Registry, channels: NodeChannels) -> None:
        self._client = Client(registry.as_user(_SEEKER))
        self._channels = channels

    async def look_up(self, namespace: str, name: str) -> Pod:
        """The pod. Raises 404."""
        return await self._client.get(Pod, name, namespace)

    async def find(self, namespace: str, name: str) -> Place:
        """Where the pod runs. Raises 404, 400 where it has no node, 503 where the node has told no address."""
        return await self.of(await self.look_up(namespace, name))

    async def of(self, pod: Pod) -> Place:
        """Where this pod runs. Raises as `find`."""
        if not pod.spec.nodeName:
            raise bad_request(f"pod {pod.metadata.name} does not have a host assigned")
        node = await self._client.get(Node, pod.spec.nodeName)
        return Place(node.metadata.name, node_address(node), pod)

    @asynccontextmanager
    async def stub(self, place: Place) -> AsyncIterator[Any]:
        """The worker's node API, for as long as a stream lasts."""
        async with self._channels.to(place.address, place.node) as channel:
            yield node_pb2_grpc.NodeStub(channel)


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


async def answers(call: Any, place: Place) -> AsyncGenerator[Any, None]:
    """What the worker sends. Raises its own refusal, or 503 where it cannot be reached; ends the call."""
    ending = Ending(call)
    try:
        async for answer in call:
            yield answer
    except grpc.aio.AioRpcError as error:
        refusal = await ending.of(error)
        if refusal is not None:
            raise _failure(refusal, place) from error
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
