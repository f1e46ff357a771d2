"""The `Images` service: the images of one node, passed through to its worker, for who may use
`nodes/images`: `create` loads, `get` lists, `delete` removes.

An archive is handed on piece by piece: the master awaits each write, so a slow worker slows the sender down and nothing
piles up here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from barque.api.errors import ApiError, bad_request, unavailable
from barque.api.resources import by_plural
from barque.api.types.core_v1 import Node
from barque.client import wire
from barque.client.client import Client
from barque.client.endings import answered
from barque.client.pki import MASTERS_GROUP
from barque.client.verbs import Target
from barque.master.apiserver.grpc_audit import GrpcAudit, Recorded
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled
from barque.master.apiserver.node_channels import Dial
from barque.master.apiserver.places import node_address
from barque.master.apiserver.registry import Registry
from barque.master.audit.audit import Audit
from barque.master.auth.identity import User
from barque.proto import images_pb2 as pb
from barque.proto import images_pb2_grpc

# Listing and removing take Docker seconds at the most, even on a busy host.
TIMEOUT_S = 60.0
# Large archives over slow links; a worker that is gone is noticed by keepalive long before.
LOAD_TIMEOUT_S = 3600.0

_SEEKER = User("barque:images", (MASTERS_GROUP,))

T = TypeVar("T")


class ImagesService(images_pb2_grpc.ImagesServicer):
    """`dial(address, node)` opens a channel to a worker."""

    def __init__(self, registry: Registry, dial: Dial, bounds: Bounds, audit: Audit | None = None) -> None:
        self._audit = GrpcAudit(audit)
        self._registry = registry
        # For the master itself: who may do something to a node's images need not be one who reads nodes.
        self._nodes = Client(registry.as_user(_SEEKER))
        self._dial = dial
        self._bounds = bounds

    async def Load(self, request_iterator: AsyncIterator[pb.LoadInput], context: Context) -> pb.LoadReply:
        async with (
            Handled(context, self._bounds, "streams") as user,
            self._audit.of_path(context, user, "/barque.v1.Images/Load") as record,
        ):
            first = await anext(request_iterator, None)
            if first is None or first.WhichOneof("input") != "start":
                raise bad_request("the first message of a load must say which node is meant")

            async def messages() -> AsyncIterator[pb.LoadInput]:
                yield first
                async for message in request_iterator:
                    yield message

            return await self._ask(
                user,
                record,
                "create",
                first.start.node,
                lambda stub: answered(stub.Load(messages(), timeout=LOAD_TIMEOUT_S)),
            )
        raise AssertionError("a refused call does not come here")

    async def List(self, request: pb.ListImagesRequest, context: Context) -> pb.ListImagesReply:
        async with (
            Handled(context, self._bounds, "streams") as user,
            self._audit.of_path(context, user, "/barque.v1.Images/List") as record,
        ):
            return await self._ask(
                user, record, "get", request.node, lambda stub: stub.List(request, timeout=TIMEOUT_S)
            )
        raise AssertionError("a refused call does not come here")

    async def Remove(self, request: pb.RemoveImageRequest, context: Context) -> pb.RemoveImageReply:
        async with (
            Handled(context, self._bounds, "streams") as user,
            self._audit.of_path(context, user, "/barque.v1.Images/Remove") as record,
        ):
            return await self._ask(
                user, record, "delete", request.node, lambda stub: stub.Remove(request, timeout=TIMEOUT_S)
            )
        raise AssertionError("a refused call does not come here")

    async def _ask(self, user: User, record: Recorded, verb: str, name: str, call: Callable[[Any], Awaitable[T]]) -> T:
        """What the node's worker answers. Raises its refusal, 403, 404, or 503 where it cannot be reached."""
        authorizer = self._registry.environment.authorizer
        record.decided(await authorizer.authorize(user, verb, Target(by_plural("", "nodes"), "", name, "images")))
        node = await self._nodes.get(Node, name)
        address = node_address(node)
        async with self._dial(address, name) as channel:
            try:
                return await call(images_pb2_grpc.NodeImagesStub(channel))
            except grpc.aio.AioRpcError as error:
                raise _failure(error, name, address) from error


def _failure(error: grpc.aio.AioRpcError, node: str, address: str) -> ApiError:
    carried = wire.carried_status(error.trailing_metadata() or ())
    if carried is not None:
        return ApiError.from_status(carried)
    why = wire.plain_reason(error.details() or error.code().name)
    return unavailable(f"node {node} at {address} cannot be reached: {why}")
