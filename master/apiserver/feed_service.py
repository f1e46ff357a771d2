"""The `Feed` service: the change feed through a master, for whoever may watch what is asked for.

A caller that does not read is cut off with 503, and goes on after the last sequence it has: nothing waits here for it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, cast

from barque.api.errors import ApiError, unavailable
from barque.api.types.meta_v1 import StatusDetails
from barque.client import subjects
from barque.client.subjects import CLUSTER_SCOPE, Pattern
from barque.client.verbs import Target
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled
from barque.master.auth.attributes import Attributes
from barque.master.auth.authorizer import Authorizer, denied
from barque.master.auth.identity import User
from barque.master.bus.relay import FeedRelay, Page
from barque.proto import feed_pb2 as pb
from barque.proto import feed_pb2_grpc

# A caller that is alive takes a batch within this, or has its reasons to begin again later.
WRITE_S = 30.0


class FeedService(feed_pb2_grpc.FeedServicer):
    """Serves `relay` to callers whom `authorizer` lets watch."""

    def __init__(self, relay: FeedRelay, authorizer: Authorizer, bounds: Bounds) -> None:
        self._relay = relay
        self._authorizer = authorizer
        self._bounds = bounds

    async def Follow(self, request: pb.FollowRequest, context: Context) -> None:
        async with Handled(context, self._bounds, "streams") as user:
            pattern = subjects.parse(request.subject)
            await check_may_follow(self._authorizer, user, pattern)
            generation = self._authorizer.generation
            pages = cast(Any, self._relay.follow(pattern, request.after))
            async with aclosing(pages):
                async for page in pages:
                    if self._authorizer.generation != generation:
                        await check_may_follow(self._authorizer, user, pattern)
                        generation = self._authorizer.generation
                    await _write(context, page)


async def check_may_follow(authorizer: Authorizer, user: User, pattern: Pattern) -> None:
    """Return if the user may watch all that the pattern can match; raise 403 in Kubernetes' words if not."""
    resource = pattern.served()
    if resource is None:
        # Who may watch every resource everywhere may follow whatever several of them a pattern means.
        if not (await authorizer.decide_current(Attributes(user, "watch", "*", resource="*"))).allowed:
            raise _denied_everything(user)
        return
    namespace = "" if pattern.namespace in (None, CLUSTER_SCOPE) else subjects.text_of(pattern.namespace)
    target = Target(resource, namespace, subjects.text_of(pattern.name) if pattern.name is not None else "")
    if user.node:
        # What a node may watch it has a selector for, which a subject is not.
        raise denied(user, "watch", target, "the change feed is not for nodes")
    await authorizer.authorize(user, "watch", target)


def _denied_everything(user: User) -> ApiError:
    message = f'forbidden: User "{user.name}" cannot watch resource "*" in API group "*" at the cluster scope'
    return ApiError(403, "Forbidden", message, StatusDetails(group="*", kind="*"))


async def _write(context: Context, page: Page) -> None:
    entries = [pb.FeedEntry(sequence=e.sequence, subject=e.subject, message=e.message) for e in page.entries]
    try:
        async with asyncio.timeout(WRITE_S):
            await context.write(pb.FeedBatch(entries=entries, sequence=page.sequence))
    except TimeoutError:
        raise unavailable(f"nothing was read for {WRITE_S:.0f} s; go on after the last sequence that came") from None
