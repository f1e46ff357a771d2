"""`Client`: the verbs on typed objects. What controllers, the scheduler, the worker and the CLI use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from barque.api import codec, resources
from barque.api.errors import ApiError
from barque.api.types.base import Object
from barque.client import verbs
from barque.client.verbs import STRATEGIC_MERGE_PATCH, Selection, Target, Verbs, WriteOptions

T = TypeVar("T", bound=Object)


class TypedList(NamedTuple, Generic[T]):
    items: list[T]
    resource_version: str


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

    async def update(self, obj: T) -> T:
        """Replace the object; refused with 409 where `metadata.resourceVersion` is set and no longer current."""
        return codec.decode(type(obj), await self.verbs.update(target_of_object(obj), codec.encode(obj)))

    async def update_status(self, obj: T) -> T:
        """Replace the object's status alone."""
        return codec.decode(type(obj), await self.verbs.update(target_of_object(obj, "status"), codec.encode(obj)))

    async def patch(
        self,
        kind: type[T],
        name: str,
        namespace: str,
        patch: dict[str, Any],
        *,
        subresource: str = "",
        content_type: str = STRATEGIC_MERGE_PATCH,
    ) -> T:
        target = target_of(kind, name, namespace, subresource)
        return codec.decode(kind, await self.verbs.patch(target, content_type, msgspec.json.encode(patch)))

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
        options: dict[str, Any] = {}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if uid:
            options["preconditions"] = {"uid": uid}
        if propagation:
            options["propagationPolicy"] = propagation
        body = msgspec.json.encode(options) if options else b""
        return codec.decode(kind, await self.verbs.delete(target_of(kind, name, namespace), body))

    async def batch(self, writes: Sequence[verbs.Write]) -> list[bytes | ApiError]:
        return await self.verbs.batch(writes)

    async def list(self, kind: type[T], namespace: str = "", *, labels: str = "", fields: str = "") -> TypedList[T]:
        raw = await self.verbs.list(target_of(kind, "", namespace), Selection(labels, fields))
        return TypedList([codec.decode(kind, item) for item in raw.items], raw.resource_version)
