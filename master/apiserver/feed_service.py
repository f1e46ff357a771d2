"""The `Feed` service: the change feed through a master, for whoever may watch what is asked for.

A caller that does not read is cut off with 503, and goes on after the last sequence it has: nothing waits here for it.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, cast

from barque.api.errors import ApiError
from barque.api.types.meta_v1 import StatusDetails
from barque.client import subjects
from barque.client.subjects import CLUSTER_SCOPE, Pattern
from barque.client.verbs import Target
from barque.master.apiserver.grpc_audit import GrpcAudit
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled, write_within
from barque.master.audit.audit import Audit
from barque.master.auth.attributes import Attributes, Decision
from barque.master.auth.authorizer import Authorizer, denied
from barque.master.auth.identity import User
from barque.master.bus.relay import FeedRelay, Page
from barque.proto import feed_pb2 as pb
from barque.proto import feed_pb2_grpc, resources_pb2

# A caller that is alive takes a batch within this, or has its reasons to begin again later.
WRITE_S = 30.0
_METHOD = "/barque.v1.Feed/Follow"


class FeedService(feed_pb2_grpc.FeedServicer):
    """Serves `relay` to callers whom `authorizer` lets watch; to `audit`, if there is one, each of them is a watch."""

    def __init__(self, relay: FeedRelay, authorizer: Authorizer, bounds: Bounds, audit: Audit | None = None) -> None:
        self._audit = GrpcAudit(audit)
        self._relay = relay
        self._authorizer = authorizer
        self._bounds = bounds

    async def Follow(self, request: pb.FollowRequest, context: Context) -> None:
        async with (
            Handled(context, self._bounds, "streams") as user,
            self._audit.of(context, user, "watch", _METHOD, _watched(request.subject)) as record,
        ):
            pattern = subjects.parse(request.subject)
            record.decided(await check_may_follow(self._authorizer, user, pattern))
            record.started()
            generation = self._authorizer.generation
            pages = cast(Any, self._relay.follow(pattern, request.after))
            async with aclosing(pages):
                async for page in pages:
                    if self._authorizer.generation != generation:
                        await check_may_follow(self._authorizer, user, pattern)
                        generation = self._authorizer.generation
                    await _write(context, page)


async def check_may_follow(authorizer: Authorizer, user: User, pattern: Pattern) -> Decision:
    """The decision if the user may watch all that the pattern can match; raise 403 in Kubernetes' words if not."""
    target = _target(pattern)
    if target is None:
        # Who may watch every resource everywhere may follow whatever several of them a pattern means.
        decision = await authorizer.decide_current(Attributes(user, "watch", "*", resource="*"))
        if not decision.allowed:
            raise _denied_everything(user)
        return decision
    if user.node:
        # What a node may watch it has a selector for, which a subject is not.
        raise denied(user, "watch", target, "the change feed is not for nodes")
    return await authorizer.authorize(user, "watch", target)


def _target(pattern: Pattern) -> Target | None:
    """What of the one resource that the pattern means, None where it may be several."""
    resource = pattern.served()
    if resource is None:
        return None
    namespace = "" if pattern.namespace in (None, CLUSTER_SCOPE) else subjects.text_of(pattern.namespace)
    return Target(resource, namespace, subjects.text_of(pattern.name) if pattern.name is not None else "")


def _watched(subject: str) -> resources_pb2.Target:
    """What the audit log says is watched: nothing where the subject cannot be read."""
    try:
        target = _target(subjects.parse(subject))
    except ApiError:
        return resources_pb2.Target()
    if target is None:
        return resources_pb2.Target(group="*", resource="*")
    resource = target.resource
    return resources_pb2.Target(
        group=resource.group, version=resource.version, resource=resource.plural, namespace=target.namespace,
        name=target.name,
    )  # fmt: skip


def _denied_everything(user: User) -> ApiError:
    message = f'forbidden: User "{user.name}" cannot watch resource "*" in API group "*" at the cluster scope'
    return ApiError(403, "Forbidden", message, StatusDetails(group="*", kind="*"))


async def _write(context: Context, page: Page) -> None:
    entries = [pb.FeedEntry(sequence=e.sequence, subject=e.subject, message=e.message) for e in page.entries]
    batch = pb.FeedBatch(entries=entries, sequence=page.sequence)
    await write_within(context, batch, WRITE_S, "go on after the last sequence that came")
