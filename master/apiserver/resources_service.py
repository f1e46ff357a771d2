"""The `Resources` service: protobuf envelopes to the registry's verbs and back. Objects stay the bytes they are.

A caller that does not read what it asked for is cut off with 503: neither a list nor a watch waits for it without end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal, cast

import grpc.aio
import msgspec

from barque.api import resources
from barque.api.errors import ApiError, bad_request
from barque.client import verbs
from barque.client.verbs import IncludeObject, Page, RawEvent, RawList, Selection, Target, WriteOptions
from barque.master.apiserver.framing import list_chunks, watch_batches
from barque.master.apiserver.grpc_audit import GrpcAudit, Recorded
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled, write_within
from barque.master.apiserver.messages import Registrar
from barque.master.apiserver.reads import memo_of
from barque.master.apiserver.registry import Registry
from barque.master.audit.audit import Audit
from barque.master.auth.identity import User
from barque.proto import resources_pb2 as pb
from barque.proto import resources_pb2_grpc

_SERVICE = "/barque.v1.Resources/"
# A caller that is alive takes an event, or a part of a list, within this.
WRITE_S = 30.0


class ResourcesService(resources_pb2_grpc.ResourcesServicer):
    """Serves every verb on every kind, each call in the name of its certificate.

    List, Watch and DeleteCollection answer with protobuf bytes: register it with `add_to_server`.
    """

    def __init__(self, registry: Registry, bounds: Bounds, audit: Audit | None = None) -> None:
        self._registry = registry
        self._bounds = bounds
        self._audit = GrpcAudit(audit)

    def add_to_server(self, server: grpc.aio.Server) -> None:
        """Serve this at a door."""
        resources_pb2_grpc.add_ResourcesServicer_to_server(self, Registrar(server, encoded_streams=True))

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.Object:
        async with self._handled(context, "get", "Get", request) as (user, record):
            as_user = self._registry.as_user(user, decided=record.decided)
            record.answer = await as_user.get(target_of(request.target), request.resource_version)
            return pb.Object(json=record.answer)

    async def List(self, request: pb.ListRequest, context: Context) -> None:
        async with self._handled(context, "list", "List", request) as (user, record):
            as_user, target = self._registry.as_user(user, decided=record.decided), target_of(request.target)
            selection, page = Selection(request.label_selector, request.field_selector), _page(request)
            columns = b""
            if request.rows:
                table = await as_user.table(target, selection, page, _include(request.rows))
                columns, listed = table.columns, RawList(table.rows, *table[2:])
            else:
                listed = await as_user.list(target, selection, page)
            await _write_list(context, list_chunks(listed.items, _tail(listed, columns)))

    async def Watch(self, request: pb.WatchRequest, context: Context) -> None:
        async with self._handled(context, "watch", "Watch", request, sort="streams") as (user, record):
            record.started()
            selection = Selection(request.label_selector, request.field_selector)
            rows = _include(request.rows) if request.rows else None
            as_user, target = self._registry.as_user(user, decided=record.decided), target_of(request.target)
            changes = cast(Any, as_user.watch(target, selection, request.resource_version, rows))
            async with aclosing(changes):
                async for events in changes:
                    for message in _messages(events, request.bookmarks):
                        await write_within(context, message, WRITE_S, "resume from the last revision that came")

    async def Create(self, request: pb.CreateRequest, context: Context) -> pb.Object:
        async with self._handled(context, "create", "Create", request, "json") as (user, record):
            warnings: list[str] = []
            as_user = self._registry.as_user(user, warnings, record.decided)
            json = await as_user.create(target_of(request.target), request.json, _options(request.options))
            record.answer = json
            return pb.Object(json=json, warnings=warnings)

    async def Update(self, request: pb.UpdateRequest, context: Context) -> pb.Object:
        async with self._handled(context, "update", "Update", request, "json") as (user, record):
            warnings: list[str] = []
            as_user = self._registry.as_user(user, warnings, record.decided)
            json = await as_user.update(target_of(request.target), request.json, _options(request.options))
            record.answer = json
            return pb.Object(json=json, warnings=warnings)

    async def Patch(self, request: pb.PatchRequest, context: Context) -> pb.Object:
        async with self._handled(context, "patch", "Patch", request, "patch") as (user, record):
            warnings: list[str] = []
            json = await self._registry.as_user(user, warnings, record.decided).patch(
                target_of(request.target), request.content_type, request.patch, _options(request.options)
            )
            record.answer = json
            return pb.Object(json=json, warnings=warnings)

    async def Delete(self, request: pb.DeleteRequest, context: Context) -> pb.Object:
        async with self._handled(context, "delete", "Delete", request, "options") as (user, record):
            as_user = self._registry.as_user(user, decided=record.decided)
            record.answer = await as_user.delete(target_of(request.target), request.options)
            return pb.Object(json=record.answer)

    async def DeleteCollection(self, request: pb.DeleteCollectionRequest, context: Context) -> None:
        verb = "deletecollection"
        async with self._handled(context, verb, "DeleteCollection", request, "options") as (user, record):
            selection = Selection(request.label_selector, request.field_selector)
            as_user, target = self._registry.as_user(user, decided=record.decided), target_of(request.target)
            deleted = await as_user.delete_collection(target, selection, request.options)
            await _write_list(context, list_chunks(deleted.items, _tail(deleted)))

    async def Batch(self, request: pb.BatchRequest, context: Context) -> pb.BatchReply:
        async with (
            Handled(context, self._bounds) as user,
            self._audit.of_batch(context, user, f"{_SERVICE}Batch", request.writes) as records,
        ):
            # A write whose target is not served must not spoil the others.
            readable = [_write(write) for write in request.writes]
            asked = [write for write in readable if not isinstance(write, ApiError)]
            told = zip(records.records, readable, strict=False)
            decided = [record.decided for record, write in told if not isinstance(write, ApiError)]
            answers = iter(await self._registry.as_user(user).batch(asked, decided))
            results = [write if isinstance(write, ApiError) else next(answers) for write in readable]
            records.end(results)
            return pb.BatchReply(results=[_result(answer) for answer in results])

    @asynccontextmanager
    async def _handled(
        self, context: Context, verb: str, method: str, request: Any, body: str = "", sort: str = "calls"
    ) -> AsyncIterator[tuple[User, Recorded]]:
        """The frame of a call about a resource, audited. `body` names the request's field that holds the object. A
        request that cannot be read is looked into in here, and refused.
        """
        async with Handled(context, self._bounds, sort) as user:
            target, sent = request.target, getattr(request, body) if body else b""
            done = "get" if verb == "list" and target.name else verb
            async with self._audit.of(context, user, done, _SERVICE + method, target, sent) as record:
                yield user, record


def target_of(target: pb.Target) -> Target:
    """A target as the verbs know it. Raises 404 for a resource or version that is not served."""
    resource = resources.by_plural(target.group, target.resource, target.version)
    return Target(resource, target.namespace, target.name, target.subresource)


def _page(request: pb.ListRequest) -> Page:
    match = cast(Literal["", "Exact", "NotOlderThan"], request.resource_version_match)  # the registry checks it
    return Page(request.limit, request.continue_token, request.resource_version, match)


def _include(rows: str) -> IncludeObject:
    return cast(IncludeObject, rows)  # the registry checks it


async def _write_list(context: Context, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        await write_within(context, chunk, WRITE_S, "ask for the list again")


def _tail(listed: RawList, columns: bytes = b"") -> pb.ListChunk:
    """What the last chunk says of the list."""
    return pb.ListChunk(
        resource_version=listed.resource_version,
        continue_token=listed.continue_,
        remaining=listed.remaining,
        columns=columns,
    )


def _messages(events: Sequence[RawEvent], bookmarks: bool) -> list[bytes]:
    """The messages of a batch; watchers who are handed the same batch send the same bytes."""
    memo = memo_of(events)
    form = "gRPC" if bookmarks else "gRPC without bookmarks"
    messages: list[bytes] | None = memo.get(form)
    if messages is None:
        wanted = events if bookmarks else [event for event in events if event.type != "BOOKMARK"]
        messages = memo[form] = list(watch_batches(wanted))
    return messages


def _options(options: pb.WriteOptions) -> WriteOptions:
    validation = cast(Literal["", "Ignore", "Warn", "Strict"], options.field_validation)  # the registry checks it
    return WriteOptions(options.dry_run, options.field_manager, validation, options.force)


def _write(write: pb.Write) -> verbs.Write | ApiError:
    """One write of a batch, or why it cannot be read."""
    try:
        match write.WhichOneof("verb"):
            case "create":
                return verbs.Create(_plain_target(write.create), write.create.json)
            case "update":
                return verbs.Update(_plain_target(write.update), write.update.json)
            case "patch":
                return verbs.Patch(_plain_target(write.patch), write.patch.content_type, write.patch.patch)
            case "delete":
                return verbs.Delete(target_of(write.delete.target), write.delete.options)
            case _:
                return bad_request("a write of the batch names no verb")
    except ApiError as refused:
        return refused


def _plain_target(request: pb.CreateRequest | pb.UpdateRequest | pb.PatchRequest) -> Target:
    """The target of a write in a batch, where options have no place."""
    if _options(request.options) not in (WriteOptions(), WriteOptions(field_validation="Strict")):
        raise bad_request("writes of a batch take no options")
    return target_of(request.target)


def _result(answer: bytes | ApiError) -> pb.WriteResult:
    if isinstance(answer, ApiError):
        return pb.WriteResult(error=msgspec.json.encode(answer.status()))
    return pb.WriteResult(json=answer)
