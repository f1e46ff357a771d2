"""The `Resources` service: protobuf envelopes to the registry's verbs and back. Objects stay the bytes they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from barque.api import resources
from barque.api.errors import ApiError, bad_request
from barque.client import verbs
from barque.client.verbs import RawEvent, Selection, Target, WriteOptions
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled
from barque.master.apiserver.registry import Registry
from barque.proto import resources_pb2 as pb
from barque.proto import resources_pb2_grpc

# One chunk of a list or batch of a watch; an object larger than this travels alone.
CHUNK_BYTES = 1024 * 1024

T = TypeVar("T")

_EVENT_TYPES = {
    "ADDED": pb.WatchEvent.ADDED,
    "MODIFIED": pb.WatchEvent.MODIFIED,
    "DELETED": pb.WatchEvent.DELETED,
    "BOOKMARK": pb.WatchEvent.BOOKMARK,
}


class ResourcesService(resources_pb2_grpc.ResourcesServicer):
    """Serves every verb on every kind, each call in the name of its certificate."""

    def __init__(self, registry: Registry, bounds: Bounds) -> None:
        self._registry = registry
        self._bounds = bounds

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.Object:
        async with Handled(context, self._bounds) as user:
            return pb.Object(json=await self._registry.as_user(user).get(target_of(request.target)))

    async def List(self, request: pb.ListRequest, context: Context) -> AsyncIterator[pb.ListChunk]:
        async with Handled(context, self._bounds) as user:
            selection = Selection(request.label_selector, request.field_selector)
            listed = await self._registry.as_user(user).list(target_of(request.target), selection)
            chunks = list(chunked((item, len(item)) for item in listed.items)) or [[]]
            for chunk in chunks[:-1]:
                yield pb.ListChunk(items=chunk)
            yield pb.ListChunk(items=chunks[-1], resource_version=listed.resource_version)

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchBatch]:
        async with Handled(context, self._bounds, "streams") as user:
            selection = Selection(request.label_selector, request.field_selector)
            target = target_of(request.target)
            changes = self._registry.as_user(user).watch(target, selection, request.resource_version)
            try:
                async for events in changes:
                    for batch in _batches(events, request.bookmarks):
                        yield batch
            finally:
                await changes.aclose()  # type: ignore[attr-defined]  # an async generator

    async def Create(self, request: pb.CreateRequest, context: Context) -> pb.Object:
        async with Handled(context, self._bounds) as user:
            warnings: list[str] = []
            as_user = self._registry.as_user(user, warnings)
            json = await as_user.create(target_of(request.target), request.json, _options(request.options))
            return pb.Object(json=json, warnings=warnings)

    async def Update(self, request: pb.UpdateRequest, context: Context) -> pb.Object:
        async with Handled(context, self._bounds) as user:
            warnings: list[str] = []
            as_user = self._registry.as_user(user, warnings)
            json = await as_user.update(target_of(request.target), request.json, _options(request.options))
            return pb.Object(json=json, warnings=warnings)

    async def Patch(self, request: pb.PatchRequest, context: Context) -> pb.Object:
        async with Handled(context, self._bounds) as user:
            warnings: list[str] = []
            json = await self._registry.as_user(user, warnings).patch(
                target_of(request.target), request.content_type, request.patch, _options(request.options)
            )
            return pb.Object(json=json, warnings=warnings)

    async def Delete(self, request: pb.DeleteRequest, context: Context) -> pb.Object:
        async with Handled(context, self._bounds) as user:
            return pb.Object(json=await self._registry.as_user(user).delete(target_of(request.target), request.options))

    async def Batch(self, request: pb.BatchRequest, context: Context) -> pb.BatchReply:
        async with Handled(context, self._bounds) as user:
            # A write whose target is not served must not spoil the others.
            readable = [_write(write) for write in request.writes]
            answers = iter(
                await self._registry.as_user(user).batch([w for w in readable if not isinstance(w, ApiError)])
            )
            results = [write if isinstance(write, ApiError) else next(answers) for write in readable]
            return pb.BatchReply(results=[_result(answer) for answer in results])


def target_of(target: pb.Target) -> Target:
    """A target as the verbs know it. Raises 404 for a resource or version that is not served."""
    resource = resources.by_plural(target.group, target.resource)
    if target.version not in ("", resource.version):
        raise ApiError(404, "NotFound", f"barque serves {resource.group_resource} as {resource.api_version} only")
    return Target(resource, target.namespace, target.name, target.subresource)


def chunked(sized: Iterable[tuple[T, int]], limit_bytes: int = CHUNK_BYTES) -> Iterator[list[T]]:
    """Items in order, together at most `limit_bytes`; a larger one alone."""
    chunk: list[T] = []
    size = 0
    for item, item_bytes in sized:
        if chunk and size + item_bytes > limit_bytes:
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item_bytes
    if chunk:
        yield chunk


def _batches(events: Sequence[RawEvent], bookmarks: bool) -> Iterator[pb.WatchBatch]:
    wanted = ((event, len(event.json)) for event in events if bookmarks or event.type != "BOOKMARK")
    for chunk in chunked(wanted):
        yield pb.WatchBatch(
            events=[pb.WatchEvent(type=_EVENT_TYPES[e.type], json=e.json, revision=e.revision) for e in chunk]
        )


def _options(options: pb.WriteOptions) -> WriteOptions:
    validation = options.field_validation
    if validation not in ("", "Ignore", "Warn", "Strict"):
        raise bad_request(f"fieldValidation: Unsupported value: {validation!r}: supported values: Ignore, Warn, Strict")
    return WriteOptions(options.dry_run, options.field_manager, validation)  # type: ignore[arg-type]  # just checked


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
    if request.options.dry_run or request.options.field_validation not in ("", "Strict"):
        raise bad_request("writes of a batch take no options")
    return target_of(request.target)


def _result(answer: bytes | ApiError) -> pb.WriteResult:
    if isinstance(answer, ApiError):
        return pb.WriteResult(error=msgspec.json.encode(answer.status()))
    return pb.WriteResult(json=answer)
