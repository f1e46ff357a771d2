"""The registry of verbs: the one way into the cluster's state, whichever door a request came through.

authorise → decode → default → mutate → validate → admit → commit. `Registry.as_user(user)` gives `client.verbs.Verbs`
with that caller bound in. What each verb does stands in the neighbours: `reads` (with `paging` and `tables`),
`creation`, `modification` (with `patching`, `scale` and `binding`), `applying`, `deletion` and `collection`;
`proposals` brings the writes to the backend. Every refusal is an `ApiError` in Kubernetes' words and changes nothing;
anything else that is raised is a fault of ours.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from random import Random
from secrets import randbits

from barque.api.errors import ApiError, bad_request, method_not_allowed
from barque.api.subresources import SUBRESOURCES
from barque.api.types.autoscaling_v1 import Scale
from barque.api.warnings import about_resource
from barque.client import verbs
from barque.client.clock import Clock
from barque.client.verbs import (
    APPLY_PATCH,
    IncludeObject,
    Page,
    RawEvent,
    RawList,
    RawTable,
    Selection,
    Target,
    Write,
    WriteOptions,
)
from barque.master.admission.events import EventLimits
from barque.master.apiserver import collection, reads, strategies, tables
from barque.master.apiserver.applying import Applying
from barque.master.apiserver.backend import Backend, StoreBackend
from barque.master.apiserver.binding import Bind, is_binding, read_binding
from barque.master.apiserver.cohorts import in_step
from barque.master.apiserver.creation import Creation, reader
from barque.master.apiserver.deletion import Deletion
from barque.master.apiserver.environment import Call, Environment
from barque.master.apiserver.event_turns import hold
from barque.master.apiserver.eviction import PodEviction
from barque.master.apiserver.lengthy import YAML_COSTS
from barque.master.apiserver.modification import Change, Modification, Replace
from barque.master.apiserver.options import check_apply, check_write, patch_type, read_delete
from barque.master.apiserver.patching import Merge, Patch
from barque.master.apiserver.proposals import SLICE, Writer, check_size, propose, propose_one
from barque.master.apiserver.reviews import REVIEWS
from barque.master.apiserver.scale import MergeScale, ReplaceScale
from barque.master.apiserver.settings import ApiSettings
from barque.master.apiserver.token_request import TokenIssue
from barque.master.apiserver.upsert import Replacing, Upsert
from barque.master.auth.account_keys import AccountKey
from barque.master.auth.account_tokens import AccountTokens
from barque.master.auth.attributes import Decision
from barque.master.auth.authorizer import Authorizer
from barque.master.auth.identity import User
from barque.master.store.epoch import Epoch
from barque.master.store.port import Store

# Who is told what the authoriser said of an allowed request.
Decided = Callable[[Decision], None]


class Registry:
    """The verbs over a store and the bus's events. Nothing here outlives a request but the number of the next op.

    `account_key` signs the tokens of service accounts; without it they are good for this registry's life. With an
    `epoch` it is for the work of that term's leader alone: what is written through it later is refused. `views` serve
    the resources that are in neither, by their `Resource.storage`.
    """

    def __init__(
        self,
        store: Store,
        events: Backend,
        settings: ApiSettings,
        clock: Clock,
        entropy: Random | None = None,
        account_key: AccountKey | None = None,
        epoch: Epoch | None = None,
        views: Mapping[str, Backend] | None = None,
    ) -> None:
        # Uids and names must be unique, not secret: so the system is asked once, not ten times a create.
        entropy = entropy or Random(randbits(256))
        objects = StoreBackend(store, f"{entropy.getrandbits(64):016x}", epoch)
        key = account_key or AccountKey.generate()
        tokens = AccountTokens(key, settings.service_account_issuer, objects, clock, entropy)
        self.environment = Environment(
            store, objects, events, views or {}, Authorizer(objects, store), tokens, settings, clock, entropy,
            EventLimits(),
        )  # fmt: skip

    def as_user(self, user: User, warnings: list[str] | None = None, decided: Decided | None = None) -> UserVerbs:
        """The verbs as this caller may use them; what is remarked about accepted objects is added to `warnings`."""
        return UserVerbs(self.environment, user, warnings, decided)


class UserVerbs:
    """`client.verbs.Verbs` in the name of one user. `created`: whether the last update or patch made its object."""

    def __init__(
        self, environment: Environment, user: User, warnings: list[str] | None, decided: Decided | None = None
    ) -> None:
        self.created = False
        self._environment = environment
        self._user = user
        self._warnings = warnings
        self._decided = decided

    async def get(self, target: Target, resource_version: str = "") -> bytes:
        await in_step()
        await self._authorize("get", target)
        return await reads.get(self._environment.backend(target.resource), target, resource_version)

    async def list(self, target: Target, selection: Selection = Selection(), page: Page = Page()) -> RawList:
        await self._authorize("list", target, selection)
        return await reads.list_objects(self._environment.backend(target.resource), target, selection, page)

    async def table(
        self,
        target: Target,
        selection: Selection = Selection(),
        page: Page = Page(),
        include: IncludeObject = "Metadata",
    ) -> RawTable:
        tables.check_include(include)
        await self._authorize("get" if target.name else "list", target, selection)
        environment, backend = self._environment, self._environment.backend(target.resource)
        if target.subresource == "scale":
            raise bad_request(f"{target.resource.plural}/scale has no table")
        if target.name:
            stored = await reads.find_one(backend, target, page.resource_version)
            found = reads.Found([stored], stored.revision)
        else:
            found = await reads.find(backend, target, selection, page)
        return await tables.table_of(found, target.resource, include, environment.clock.wall())

    async def watch(
        self,
        target: Target,
        selection: Selection = Selection(),
        resource_version: str = "",
        rows: IncludeObject | None = None,
    ) -> AsyncIterator[Sequence[RawEvent]]:
        if rows is not None:
            tables.check_include(rows)
        await self._authorize("watch", target, selection)
        clock = self._environment.clock
        changes = reads.watch(self._environment.backend(target.resource), target, selection, resource_version)
        authorizer = self._environment.authorizer
        allowed_at = authorizer.generation
        try:
            async for batch in changes:
                if authorizer.generation != allowed_at:
                    allowed_at = authorizer.generation
                    await self._authorize("watch", target, selection)
                if rows is None:
                    yield await reads.as_shown(batch, target.resource)
                else:
                    yield await tables.with_rows(batch, target.resource, rows, clock.wall())
        finally:
            await changes.aclose()  # type: ignore[attr-defined]  # an async generator

    async def authorize_watch(self, target: Target, selection: Selection) -> None:
        """Raises what `watch` would refuse the caller, before anything is read."""
        await self._authorize("watch", target, selection)

    async def create(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        await in_step()
        async with self._turn(target):
            return await propose_one(await self._creation(target, body, options))

    async def update(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        await in_step()
        async with self._turn(target):
            return await self._changed(await self._update(target, body, options))

    async def patch(
        self, target: Target, content_type: str, patch: bytes, options: WriteOptions = WriteOptions()
    ) -> bytes:
        await in_step()
        async with self._turn(target):
            return await self._changed(await self._patch(target, content_type, patch, options))

    async def delete(self, target: Target, options: bytes = b"") -> bytes:
        await in_step()
        async with self._turn(target):
            return await propose_one(await self._deletion(target, options))

    async def delete_collection(
        self, target: Target, selection: Selection = Selection(), options: bytes = b"", page: Page = Page()
    ) -> RawList:
        """As `Verbs` has it; of a list of this `page` alone."""
        await self._authorize("deletecollection", target, selection)
        self._check_size(options)
        call = self._call(target, WriteOptions())
        async with self._turn(target):
            return await collection.delete_collection(self._environment, call, selection, page, read_delete(options))

    async def batch(self, writes: Sequence[Write], decided: Sequence[Decided] = ()) -> builtins.list[bytes | ApiError]:
        """As `Verbs` has it; `decided` are told of one write each."""
        most = self._environment.settings.max_batch_writes
        if len(writes) > most:
            raise ApiError(413, "RequestEntityTooLarge", f"a batch holds at most {most} writes, this one {len(writes)}")
        targets = [write.target for write in writes]
        async with self._turn(*targets):
            answers = await self._batch(writes, decided)
            if _has_events(targets):
                await hold(answers)
            return answers

    async def _batch(self, writes: Sequence[Write], decided: Sequence[Decided]) -> builtins.list[bytes | ApiError]:
        writers: builtins.list[Writer | ApiError] = []
        for number, write in enumerate(writes, 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            if decided:
                self._decided = decided[number - 1]
            writers.append(await self._writer(write))
        return await propose(writers)

    def _turn(self, *targets: Target) -> AbstractAsyncContextManager[None]:
        """What a write of these waits for first: where there are Events among them, a turn of this user's."""
        if _has_events(targets):
            return self._environment.event_turns.turn(self._user.name)
        return nullcontext()

    async def _changed(self, writer: Writer) -> bytes:
        json = await propose_one(writer)
        self.created = isinstance(writer, Upsert) and writer.created
        return json

    async def _authorize(self, verb: str, target: Target, selection: Selection = Selection()) -> None:
        _check_target(verb, target)
        decision = await self._environment.authorizer.authorize(self._user, verb, target, selection)
        if self._decided is not None:
            self._decided(decision)
        deprecated = about_resource(target.resource)
        if deprecated and self._warnings is not None and deprecated not in self._warnings:
            self._warnings.append(deprecated)

    def _call(self, target: Target, options: WriteOptions) -> Call:
        # Those that nobody reads end with their call: parts of the master keep their verbs for good.
        return Call(self._user, target, [] if self._warnings is None else self._warnings, options)

    def _check_size(self, body: bytes) -> None:
        check_size(len(body), self._environment.settings.max_object_bytes)

    async def _writer(self, write: Write) -> Writer | ApiError:
        """The writer of one write of a batch, or why it cannot be."""
        try:
            match write:
                case verbs.Create(target, json):
                    return await self._creation(target, json, WriteOptions())
                case verbs.Update(target, json):
                    return await self._update(target, json, WriteOptions())
                case verbs.Patch(target, content_type, patch):
                    return await self._patch(target, content_type, patch, WriteOptions())
                case verbs.Delete(target, options):
                    return await self._deletion(target, options)
        except ApiError as refused:
            return refused

    async def _creation(self, target: Target, body: bytes, options: WriteOptions) -> Writer:
        await self._authorize("create", target)
        check_write("CreateOptions", options)
        self._check_size(body)
        call = self._call(target, options)
        return await self._lengthy(len(body), lambda: self._creator(call, body))

    def _creator(self, call: Call, body: bytes) -> Writer:
        environment, target = self._environment, call.target
        if is_binding(target):
            call, binding = read_binding(call, body)
            return Modification(environment, call, "create", Bind(call, binding, environment.clock))
        match target.subresource:
            case "eviction":
                return PodEviction(environment, call, body)
            case "token":
                return TokenIssue(environment, call, body)
        if target.resource.storage == "review":
            return REVIEWS[target.resource.kind](environment, call, body)
        return Creation(environment, call, reader(call, body), size_bytes=len(body))

    async def _update(self, target: Target, body: bytes, options: WriteOptions) -> Writer:
        await self._authorize("update", target)
        check_write("UpdateOptions", options)
        self._check_size(body)
        call = self._call(target, options)
        return await self._lengthy(len(body), lambda: self._updater(call, body))

    def _updater(self, call: Call, body: bytes) -> Writer:
        target = call.target
        if not target.subresource and strategies.is_created_by_update(target.resource):
            return Replacing(self._environment, call, body)
        change: Change = ReplaceScale(call, body) if target.subresource == "scale" else Replace(call, body)
        return Modification(self._environment, call, "update", change, len(body))

    async def _patch(self, target: Target, content_type: str, patch: bytes, options: WriteOptions) -> Writer:
        await self._authorize("patch", target)
        kind = patch_type(content_type)
        self._check_size(patch)
        call = self._call(target, options)
        if kind == APPLY_PATCH:
            check_apply(options)
            costs = len(patch) * (1 if patch.lstrip()[:1] == b"{" else YAML_COSTS)
            return await self._lengthy(costs, lambda: Applying(self._environment, call, patch))
        check_write("PatchOptions", options)
        return await self._lengthy(len(patch), lambda: self._patcher(call, kind, patch))

    def _patcher(self, call: Call, kind: str, patch: bytes) -> Writer:
        scale = call.target.subresource == "scale"
        read = Patch(call, kind, patch, Scale if scale else call.target.resource.type)
        change: Change = MergeScale(call, read) if scale else Merge(call, read)
        return Modification(self._environment, call, "patch", change, len(patch))

    async def _lengthy(self, size_bytes: int, make: Callable[[], Writer]) -> Writer:
        return await self._environment.lengthy.do(self._user.name, size_bytes, make)

    async def _deletion(self, target: Target, options: bytes) -> Writer:
        await self._authorize("delete", target)
        self._check_size(options)
        return Deletion(self._environment, self._call(target, WriteOptions()), read_delete(options))


def _has_events(targets: Sequence[Target]) -> bool:
    return any(target.resource.storage == "bus" for target in targets)


def _check_target(verb: str, target: Target) -> None:
    """Raises 404 or 405 for what is not served, 400 for a target that cannot be."""
    resource = target.resource
    plural = f"{resource.plural}/{target.subresource}" if target.subresource else resource.plural
    if target.subresource:
        if target.subresource not in resource.subresources:
            raise ApiError(404, "NotFound", f"barque does not serve {plural}")
        served = SUBRESOURCES[target.subresource]
        if served.connects or verb not in served.verbs:
            raise method_not_allowed(verb, plural)
    elif verb not in resource.verbs:
        raise method_not_allowed(verb, plural)
    if target.namespace and not resource.namespaced:
        raise bad_request(f"{resource.plural} are not namespaced")
    if verb in ("list", "watch", "deletecollection"):
        return
    if resource.namespaced and not target.namespace:
        raise bad_request("an empty namespace may not be set when a resource name may be provided")
    if not target.name and (verb != "create" or target.subresource):
        raise bad_request("resource name may not be empty")
