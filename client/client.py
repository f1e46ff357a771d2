"""`Client`: the verbs on typed objects. What controllers, the scheduler, the worker and the CLI use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from barque.api import codec, resources
from barque.api.errors import ApiError
from barque.api.types.base import Object
from barque.client import verbs
from barque.client.verbs import (
    APPLY_PATCH,
    STRATEGIC_MERGE_PATCH,
    Page,
    RawList,
    Selection,
    Target,
    Verbs,
    WriteOptions,
)

T = TypeVar("T", bound=Object)

# How many objects are decoded before other tasks get the loop: at 20 to 60 µs each a few milliseconds.
_SLICE = 64


class TypedList(NamedTuple, Generic[T]):
    """Objects of one revision; `continue_` is "" on the last page, `remaining` None where unknown."""

    items: list[T]
    resource_version: str
    continue_: str = ""
    remaining: int | None = None


def target_of(kind: type[Object], name: str = "", namespace: str = "", subresource: str = "") -> Target:
    """The target of a typed call."""
    return Target(resources.by_type(kind), namespace, name, subresource)


def target_of_object(obj: Any, subresource: str = "", *, named: bool = True) -> Target:
    """The target an object stands at; without its name for a create."""
    meta = obj.metadata
    return target_of(type(obj), meta.name if named else "", meta.namespace, subresource)


class Client:
    """Typed verbs over any `Verbs`. All methods raise `ApiError`."""

    def __init__(self, raw: Verbs) -> None:
        self.verbs = raw

    async def get(self, kind: type[T], name: str, namespace: str = "") -> T:
        return codec.decode(kind, await self.verbs.get(target_of(kind, name, namespace)))

    async def create(self, obj: T, options: WriteOptions = WriteOptions()) -> T:
        answer = await self.verbs.create(target_of_object(obj, named=False), codec.encode(obj), options)
        return codec.decode(type(obj), answer)

    async def update(self, obj: T, options: WriteOptions = WriteOptions()) -> T:
        """Replace the object; refused with 409 where `metadata.resourceVersion` is set and no longer current."""
        return codec.decode(type(obj), await self.verbs.update(target_of_object(obj), codec.encode(obj), options))

    async def update_status(self, obj: T, options: WriteOptions = WriteOptions()) -> T:
        """Replace the object's status alone."""
        target = target_of_object(obj, "status")
        return codec.decode(type(obj), await self.verbs.update(target, codec.encode(obj), options))

    async def patch(
        self,
        kind: type[T],
        name: str,
        namespace: str,
        patch: dict[str, Any] | list[dict[str, Any]],
        *,
        subresource: str = "",
        content_type: str = STRATEGIC_MERGE_PATCH,
        options: WriteOptions = WriteOptions(),
    ) -> T:
        """Change the object by a patch; a list of operations for `JSON_PATCH`, a document for the others."""
        target = target_of(kind, name, namespace, subresource)
        return codec.decode(kind, await self.verbs.patch(target, content_type, msgspec.json.encode(patch), options))

    async def apply(
        self, kind: type[T], configuration: dict[str, Any], manager: str, *, subresource: str = "", force: bool = False
    ) -> T:
        """Server-side apply, which creates the object where there is none.

        `configuration` holds the fields that `manager` wants to own and nothing else, so it is no typed object. Raises
        409 naming the owners of fields that others have set to something else, unless forced.
        """
        meta = configuration.get("metadata") or {}
        target = target_of(kind, meta.get("name", ""), meta.get("namespace", ""), subresource)
        options = WriteOptions(field_manager=manager, force=force)
        body = msgspec.json.encode(configuration)
        return codec.decode(kind, await self.verbs.patch(target, APPLY_PATCH, body, options))

    async def delete(
        self,
        kind: type[T],
        name: str,
        namespace: str = "",
        *,
        grace_s: int | None = None,
        uid: str = "",
        propagation: str = "",
    ) -> T:
        """Delete by name; with `uid`, only that very object.

        `propagation` is Background (default), Foreground or Orphan.
        """
        options = _delete_options(grace_s, uid, propagation)
        return codec.decode(kind, await self.verbs.delete(target_of(kind, name, namespace), options))

    async def delete_collection(
        self,
        kind: type[T],
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        grace_s: int | None = None,
        propagation: str = "",
    ) -> TypedList[T]:
        """Delete all that is selected; returns the objects as they are then."""
        options = _delete_options(grace_s, "", propagation)
        raw = await self.verbs.delete_collection(target_of(kind, "", namespace), Selection(labels, fields), options)
        return await _typed(kind, raw)

    async def batch(self, writes: Sequence[verbs.Write]) -> list[bytes | ApiError]:
        return await self.verbs.batch(writes)

    async def list(
        self, kind: type[T], namespace: str = "", *, labels: str = "", fields: str = "", page: Page = Page()
    ) -> TypedList[T]:
        return await _typed(
            kind, await self.verbs.list(target_of(kind, "", namespace), Selection(labels, fields), page)
        )


def _delete_options(grace_s: int | None, uid: str, propagation: str) -> bytes:
    options: dict[str, Any] = {}
    if grace_s is not None:
        options["gracePeriodSeconds"] = grace_s
    if uid:
        options["preconditions"] = {"uid": uid}
    if propagation:
        options["propagationPolicy"] = propagation
    return msgspec.json.encode(options) if options else b""


async def _typed(kind: type[T], raw: RawList) -> TypedList[T]:
    items: list[T] = []
    for start in range(0, len(raw.items), _SLICE):
        if start:
            await asyncio.sleep(0)
        items += [codec.decode(kind, item) for item in raw.items[start : start + _SLICE]]
    return TypedList(items, raw.resource_version, raw.continue_, raw.remaining)
