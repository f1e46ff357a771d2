"""The registry of verbs: the one way into the cluster's state, whichever door a request came through.

authorise → decode → default → mutate → validate → admit → commit. `Registry.as_user(user)` gives `client.verbs.Verbs`
with that caller bound in. What each verb does stands in the neighbours: `reads`, `creation`, `modification`, `scale`,
`binding`, `deletion`; `proposals` brings the writes to the backend. Every refusal is an `ApiError` in Kubernetes'
words and changes nothing; anything else that is raised is a fault of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random, SystemRandom

from barque.api.errors import ApiError, bad_request, method_not_allowed
from barque.client import verbs
from barque.client.clock import Clock
from barque.client.verbs import RawEvent, RawList, Selection, Target, Write, WriteOptions
from barque.master.apiserver import modification, reads
from barque.master.apiserver.backend import Backend, StoreBackend
from barque.master.apiserver.binding import Bind
from barque.master.apiserver.creation import Creation
from barque.master.apiserver.deletion import Deletion
from barque.master.apiserver.environment import Call, Environment
from barque.master.apiserver.modification import Change, Modification
from barque.master.apiserver.proposals import SLICE, Writer, check_size, propose, propose_one
from barque.master.apiserver.scale import MergeScale, ReplaceScale
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.authorizer import Authorizer
from barque.master.auth.identity import User
from barque.master.store.port import Store

# Which verbs a subresource has.
_SUBRESOURCE_VERBS = {
    "status": ("get", "update", "patch"),
    "scale": ("get", "update", "patch"),
    "binding": ("create",),
}


class Registry:
    """The verbs over a store and the bus's events. Nothing here outlives a request but the number of the next op."""

    def __init__(
        self,
        store: Store,
        events: Backend,
        settings: ApiSettings,
        clock: Clock,
        entropy: Random | None = None,
    ) -> None:
        entropy = entropy or SystemRandom()
        objects = StoreBackend(store, boot_id=f"{entropy.getrandbits(64):016x}")
        self.environment = Environment(store, objects, events, Authorizer(objects), settings, clock, entropy)

    def as_user(self, user: User, warnings: list[str] | None = None) -> UserVerbs:
        """The verbs as this caller may use them; what is remarked about accepted objects is added to `warnings`."""
        return UserVerbs(self.environment, user, [] if warnings is None else warnings)


class UserVerbs:
    """`client.verbs.Verbs` in the name of one user."""

    def __init__(self, environment: Environment, user: User, warnings: list[str]) -> None:
        self._environment = environment
        self._user = user
        self._warnings = warnings

    async def get(self, target: Target) -> bytes:
        await self._authorize("get", target)
        return await reads.get(self._environment.backend(target.resource), target)

    async def watch(
        self, target: Target, selection: Selection = Selection(), resource_version: str = ""
    ) -> AsyncIterator[Sequence[RawEvent]]:
        await self._authorize("watch", target, selection)
        changes = reads.watch(self._environment.backend(target.resource), target, selection, resource_version)
        try:
            async for batch in changes:
                yield batch
        finally:
            await changes.aclose()  # type: ignore[attr-defined]  # an async generator

    async def create(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        return await propose_one(await self._creation(target, body, options))

    async def update(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        return await propose_one(await self._update(target, body, options))

    async def patch(
        self, target: Target, content_type: str, patch: bytes, options: WriteOptions = WriteOptions()
    ) -> bytes:
        return await propose_one(await self._patch(target, content_type, patch, options))

    async def delete(self, target: Target, options: bytes = b"") -> bytes:
        return await propose_one(await self._deletion(target, options))

    async def batch(self, writes: Sequence[Write]) -> list[bytes | ApiError]:
        most = self._environment.settings.max_batch_writes
        if len(writes) > most:
            raise ApiError(413, "RequestEntityTooLarge", f"a batch holds at most {most} writes, this one {len(writes)}")
        writers: list[Writer | ApiError] = []
        for number, write in enumerate(writes, 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            writers.append(await self._writer(write))
        return await propose(writers)

    async def list(self, target: Target, selection: Selection = Selection()) -> RawList:
        await self._authorize("list", target, selection)
        return await reads.list_objects(self._environment.backend(target.resource), target, selection)

    async def _authorize(self, verb: str, target: Target, selection: Selection = Selection()) -> None:
        _check_target(verb, target)
        await self._environment.authorizer.authorize(self._user, verb, target, selection)

    def _call(self, target: Target) -> Call:
        return Call(self._user, target, self._warnings)

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
        if target.subresource == "binding":
            check_size(len(body), self._environment.settings.max_object_bytes)
            call = self._call(target)
            change = Bind(call, body, self._environment.clock, options)
            return Modification(self._environment, call, "create", change, options)
        return Creation(self._environment, self._call(target), body, options)

    async def _update(self, target: Target, body: bytes, options: WriteOptions) -> Writer:
        await self._authorize("update", target)
        check_size(len(body), self._environment.settings.max_object_bytes)
        call = self._call(target)
        scale = target.subresource == "scale"
        change: Change = ReplaceScale(call, body, options) if scale else modification.Replace(call, body, options)
        return Modification(self._environment, call, "update", change, options)

    async def _patch(self, target: Target, content_type: str, patch: bytes, options: WriteOptions) -> Writer:
        await self._authorize("patch", target)
        check_size(len(patch), self._environment.settings.max_object_bytes)
        call = self._call(target)
        scale = target.subresource == "scale"
        kind = MergeScale if scale else modification.Merge
        return Modification(self._environment, call, "patch", kind(call, content_type, patch, options), options)

    async def _deletion(self, target: Target, options: bytes) -> Writer:
        await self._authorize("delete", target)
        return Deletion(self._environment, self._call(target), options)


def _check_target(verb: str, target: Target) -> None:
    """Raises 404 or 405 for what is not served, 400 for a target that cannot be."""
    resource = target.resource
    plural = f"{resource.plural}/{target.subresource}" if target.subresource else resource.plural
    if target.subresource:
        if target.subresource not in resource.subresources:
            raise ApiError(404, "NotFound", f"barque does not serve {plural}")
        if verb not in _SUBRESOURCE_VERBS.get(target.subresource, ()):
            raise method_not_allowed(verb, plural)
    elif verb not in resource.verbs:
        raise method_not_allowed(verb, plural)
    if target.namespace and not resource.namespaced:
        raise bad_request(f"{resource.plural} are not namespaced")
    if verb in ("list", "watch"):
        return
    if resource.namespaced and not target.namespace:
        raise bad_request("an empty namespace may not be set when a resource name may be provided")
    if not target.name and (verb != "create" or target.subresource):
        raise bad_request("resource name may not be empty")
