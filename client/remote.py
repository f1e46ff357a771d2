"""The verbs over gRPC, to any of several masters: `connect(profile)` gives a `Connection`.

Every unary call has a deadline. What fails is repeated on another master where that does no harm:

* whatever was provably not done: it was not sent, or a master says so (503 with `retryAfterSeconds`, as without a
  leader). Every other master is tried once at once; then, with `patience_s`, all of them again and again for so long;
* what may have been done (the connection broke, 504 "outcome unknown") only where twice is as good as once: reads, dry
  runs, server-side apply without a resourceVersion, and a delete of one very object (with its uid), whose repetition
  may then say 404 or 409. Any other write ends with 504, and the caller decides.

A watch is never resumed here: it ends with 503, and the informer resumes it from its last revision, on another master
where this one is gone.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
import msgspec

from barque.api.errors import ApiError, outcome_unknown, unavailable
from barque.api.types.meta_v1 import DeleteOptions, Status
from barque.client import verbs as port
from barque.client import wire
from barque.client.channels import Channels, Say
from barque.client.client import Client
from barque.client.clock import Clock, SystemClock
from barque.client.pki import Identity
from barque.client.profile import Profile
from barque.client.verbs import (
    APPLY_PATCH,
    EventType,
    IncludeObject,
    Page,
    RawEvent,
    RawList,
    RawTable,
    Selection,
    Target,
    Verbs,
    WriteOptions,
)
from barque.proto import (
    cluster_pb2_grpc,
    feed_pb2_grpc,
    images_pb2_grpc,
    pods_pb2_grpc,
    resources_pb2,
    resources_pb2_grpc,
    sessions_pb2_grpc,
)

# Far above what any answer takes; a wedged master is noticed by keepalive long before.
DEADLINE_S = 30.0
# A list of everything in a large cluster is many chunks.
LIST_DEADLINE_S = 120.0
# Between two rounds of asking masters none of which can serve.
PAUSE_S = 0.25

T = TypeVar("T")
Warn = Callable[[str], None]

_EVENT_TYPES: dict[int, EventType] = {
    resources_pb2.WatchEvent.ADDED: "ADDED",
    resources_pb2.WatchEvent.MODIFIED: "MODIFIED",
    resources_pb2.WatchEvent.DELETED: "DELETED",
    resources_pb2.WatchEvent.BOOKMARK: "BOOKMARK",
}


class Connection:
    """One process's way to the masters. `pods`, `cluster`, `feed`, `images` and `sessions` are stubs on the master in
    use: their calls raise `grpc.aio.AioRpcError`, which `wire.api_error` translates; `await ready()` first, to move
    past a dead master.
    """

    def __init__(self, channels: Channels, on_warning: Warn | None = None, *, patience_s: float = 0.0) -> None:
        self.channels = channels
        self.verbs: Verbs = RemoteVerbs(channels, on_warning, patience_s=patience_s)
        self.client = Client(self.verbs)

    @property
    def master(self) -> str:
        return self.channels.master

    @property
    def pods(self) -> pods_pb2_grpc.PodsStub:
        return pods_pb2_grpc.PodsStub(self.channels.channel)

    @property
    def cluster(self) -> cluster_pb2_grpc.ClusterStub:
        return cluster_pb2_grpc.ClusterStub(self.channels.channel)

    @property
    def feed(self) -> feed_pb2_grpc.FeedStub:
        return feed_pb2_grpc.FeedStub(self.channels.channel)

    @property
    def images(self) -> images_pb2_grpc.ImagesStub:
        return images_pb2_grpc.ImagesStub(self.channels.channel)

    @property
    def sessions(self) -> sessions_pb2_grpc.SessionsStub:
        return sessions_pb2_grpc.SessionsStub(self.channels.channel)

    async def ready(self) -> None:
        """Connect to a master that answers. Raises 503 saying what is wrong with each."""
        await self.channels.ready()

    async def renew(self) -> None:
        """Use the identity as it is now for new calls."""
        await self.channels.renew()

    async def close(self) -> None:
        await self.channels.close()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def connect(
    profile: Profile,
    *,
    identity: Callable[[], Identity] | None = None,
    on_warning: Warn | None = None,
    say: Say | None = None,
    patience_s: float = 0.0,
) -> Connection:
    """A connection as the profile says; nothing is sent yet. `identity` overrides who one is (a renewing identity's
    `lambda: renewing.current`); `on_warning` hears what the master remarks about an accepted object, `say` what is done
    about masters that do not serve, for at most `patience_s` where none does.
    """
    own = profile.identity
    channels = Channels(profile.masters, identity or (lambda: own))
    if say is not None:
        channels.say = say
    return Connection(channels, on_warning, patience_s=patience_s)


class RemoteVerbs:
    """`client.verbs.Verbs` over the Resources service."""

    def __init__(
        self,
        channels: Channels,
        on_warning: Warn | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        patience_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self._channels = channels
        self._on_warning = on_warning
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._clock = clock or SystemClock()

    async def get(self, target: Target, resource_version: str = "") -> bytes:
        request = resources_pb2.GetRequest(target=_target(target), resource_version=resource_version)
        return self._object(await self._call(lambda stub: stub.Get(request, timeout=self._deadline_s), Twice.READS))

    async def watch(
        self,
        target: Target,
        selection: Selection = Selection(),
        resource_version: str = "",
        rows: IncludeObject | None = None,
    ) -> AsyncIterator[Sequence[RawEvent]]:
        request = resources_pb2.WatchRequest(
            target=_target(target),
            label_selector=selection.labels,
            field_selector=selection.fields,
            resource_version=resource_version,
            bookmarks=True,
            rows=rows or "",
        )
        channel = await self._channels.ready()
        master = self._channels.master
        call = resources_pb2_grpc.ResourcesStub(channel).Watch(request)
        try:
            async for batch in call:
                yield [RawEvent(_EVENT_TYPES[event.type], event.json, event.revision) for event in batch.events]
            raise unavailable(f"the master {master} ended the watch")
        except grpc.aio.AioRpcError as error:
            ended = wire.api_error(error)
            if wire.is_broken(error) or wire.is_undone(ended):
                self._channels.move_on(master)
            raise ended from error
        except asyncio.CancelledError:
            if _cancelled_here():
                raise
            raise unavailable(f"the master {master} ended the watch") from None
        finally:
            call.cancel()

    async def create(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        request, dry = _create(target, body, options), options.dry_run
        return self._object(
            await self._call(lambda stub: stub.Create(request, timeout=self._deadline_s), Twice.of(dry))
        )

    async def update(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        request, dry = _update(target, body, options), options.dry_run
        return self._object(
            await self._call(lambda stub: stub.Update(request, timeout=self._deadline_s), Twice.of(dry))
        )

    async def patch(
        self, target: Target, content_type: str, patch: bytes, options: WriteOptions = WriteOptions()
    ) -> bytes:
        request = _patch(target, content_type, patch, options)
        applies = content_type == APPLY_PATCH and b"resourceVersion" not in patch
        call = self._call(
            lambda stub: stub.Patch(request, timeout=self._deadline_s), Twice.of(options.dry_run or applies)
        )
        return self._object(await call)

    async def delete(self, target: Target, options: bytes = b"") -> bytes:
        request = resources_pb2.DeleteRequest(target=_target(target), options=options)
        call = self._call(
            lambda stub: stub.Delete(request, timeout=self._deadline_s), Twice.of(_names_one_object(options))
        )
        return self._object(await call)

    async def batch(self, writes: Sequence[port.Write]) -> list[bytes | ApiError]:
        if not writes:
            return []
        request = resources_pb2.BatchRequest(writes=[_write(write) for write in writes])
        reply = await self._call(lambda stub: stub.Batch(request, timeout=self._deadline_s), Twice.HARMS)
        return [_outcome(result) for result in reply.results]

    async def list(self, target: Target, selection: Selection = Selection(), page: Page = Page()) -> RawList:
        request = _list(target, selection, page)
        return (await self._listed(request))[0]

    async def table(
        self,
        target: Target,
        selection: Selection = Selection(),
        page: Page = Page(),
        include: IncludeObject = "Metadata",
    ) -> RawTable:
        request = _list(target, selection, page, rows=include)
        listed, columns = await self._listed(request)
        return RawTable(columns, *listed)

    async def delete_collection(
        self, target: Target, selection: Selection = Selection(), options: bytes = b""
    ) -> RawList:
        request = resources_pb2.DeleteCollectionRequest(
            target=_target(target), label_selector=selection.labels, field_selector=selection.fields, options=options
        )
        deleted = await self._call(
            lambda stub: _gather(stub.DeleteCollection(request, timeout=LIST_DEADLINE_S)), Twice.HARMS
        )
        return deleted[0]

    async def _listed(self, request: resources_pb2.ListRequest) -> tuple[RawList, bytes]:
        return await self._call(lambda stub: _gather(stub.List(request, timeout=LIST_DEADLINE_S)), Twice.READS)

    async def _call(self, call: Callable[[Any], Awaitable[T]], twice: Twice) -> T:
        """Make the call on a connected master, and again as the module's text says."""
        channels, give_up_at = self._channels, self._clock.monotonic() + self._patience_s
        others, repeats = len(channels.masters) - 1, len(channels.masters)
        # Why an earlier attempt at a write may have succeeded: no later one may be told as if nothing had been done.
        doubt: ApiError | None = None
        while True:
            try:
                channel = await channels.ready()
            except ApiError as unreachable:
                raise doubt or unreachable from None
            master = channels.master
            answer, broken = await self._attempt(call, channel, master, twice)
            if not isinstance(answer, ApiError):
                return answer
            undone, unknown = wire.is_undone(answer), wire.is_unknown(answer)
            doubt = answer if unknown else doubt
            if broken or undone:
                channels.move_on(master)
            if undone and others:
                others -= 1
                channels.say(f"master {master} cannot serve ({answer.message}), trying {channels.master}")
            elif undone and self._clock.monotonic() < give_up_at:
                channels.say(f"no master can serve ({answer.message}), trying again")
                await self._clock.sleep(PAUSE_S)
            elif twice is not Twice.HARMS and repeats and (broken or unknown):
                repeats -= 1
                if channels.master != master:
                    channels.say(f"master {master} broke off, trying {channels.master}")
            else:
                raise (doubt or answer) if undone or broken else answer

    async def _attempt(
        self, call: Callable[[Any], Awaitable[T]], channel: grpc.aio.Channel, master: str, twice: Twice
    ) -> tuple[T | ApiError, bool]:
        """The answer or the failure, and whether its connection broke."""
        try:
            return await call(resources_pb2_grpc.ResourcesStub(channel)), False
        except grpc.aio.AioRpcError as error:
            return wire.api_error(error, unsent=twice is Twice.READS), wire.is_broken(error)
        except asyncio.CancelledError:
            if _cancelled_here():
                raise
        except _EndedError:
            pass
        ended = f"the master {master} broke off its answer"
        return (unavailable if twice is Twice.READS else outcome_unknown)(ended), True

    def _object(self, answer: Any) -> bytes:
        if self._on_warning is not None:
            for warning in answer.warnings:
                self._on_warning(warning)
        json: bytes = answer.json
        return json


class Twice(enum.Enum):
    """What it means that a call is made a second time."""

    READS = enum.auto()
    CHANGES_NOTHING = enum.auto()
    HARMS = enum.auto()

    @classmethod
    def of(cls, harmless: object) -> Twice:
        """Of a write."""
        return cls.CHANGES_NOTHING if harmless else cls.HARMS


class _EndedError(Exception):
    """The master cancelled the call: it is stopping."""


def _names_one_object(options: bytes) -> bool:
    """Whether a delete is of one very object, or of nothing at all."""
    try:
        told = msgspec.json.decode(options, type=DeleteOptions) if options else DeleteOptions()
    except (msgspec.DecodeError, RecursionError):
        return False
    return bool(told.dryRun) or (told.preconditions is not None and bool(told.preconditions.uid))


def _cancelled_here() -> bool:
    """Whether this task is being cancelled; grpc.aio raises CancelledError also where the peer ended the call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _gather(chunks: AsyncIterator[Any]) -> tuple[RawList, bytes]:
    """The list of all chunks, and its columns where it is one of rows."""
    items: list[bytes] = []
    last: Any = None
    async for last in chunks:
        items.extend(last.items)
    if last is None or not last.resource_version:
        raise _EndedError
    remaining = last.remaining if last.HasField("remaining") else None
    return RawList(items, last.resource_version, last.continue_token, remaining), last.columns


def _target(target: Target) -> resources_pb2.Target:
    resource = target.resource
    return resources_pb2.Target(
        group=resource.group,
        version=resource.version,
        resource=resource.plural,
        namespace=target.namespace,
        name=target.name,
        subresource=target.subresource,
    )


def _list(target: Target, selection: Selection, page: Page, rows: str = "") -> resources_pb2.ListRequest:
    return resources_pb2.ListRequest(
        target=_target(target),
        label_selector=selection.labels,
        field_selector=selection.fields,
        limit=page.limit,
        continue_token=page.continue_,
        resource_version=page.resource_version,
        resource_version_match=page.match,
        rows=rows,
    )


def _options(options: WriteOptions) -> resources_pb2.WriteOptions:
    return resources_pb2.WriteOptions(
        dry_run=options.dry_run,
        field_manager=options.field_manager,
        field_validation=options.field_validation,
        force=options.force,
    )


def _create(target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> resources_pb2.CreateRequest:
    return resources_pb2.CreateRequest(target=_target(target), json=body, options=_options(options))


def _update(target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> resources_pb2.UpdateRequest:
    return resources_pb2.UpdateRequest(target=_target(target), json=body, options=_options(options))


def _patch(
    target: Target, content_type: str, patch: bytes, options: WriteOptions = WriteOptions()
) -> resources_pb2.PatchRequest:
    return resources_pb2.PatchRequest(
        target=_target(target), content_type=content_type, patch=patch, options=_options(options)
    )


def _write(write: port.Write) -> resources_pb2.Write:
    match write:
        case port.Create(target, json):
            return resources_pb2.Write(create=_create(target, json))
        case port.Update(target, json):
            return resources_pb2.Write(update=_update(target, json))
        case port.Patch(target, content_type, patch):
            return resources_pb2.Write(patch=_patch(target, content_type, patch))
        case port.Delete(target, options):
            return resources_pb2.Write(delete=resources_pb2.DeleteRequest(target=_target(target), options=options))


def _outcome(result: resources_pb2.WriteResult) -> bytes | ApiError:
    if result.WhichOneof("outcome") == "error":
        return ApiError.from_status(msgspec.json.decode(result.error, type=Status))
    return result.json
