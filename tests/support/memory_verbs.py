"""The verbs on a dictionary: enough of a cluster for what only creates, reads, lists and deletes objects by name."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from barque.api.errors import ApiError, already_exists, bad_request, conflict, not_found
from barque.client import verbs as port
from barque.client.verbs import RawEvent, RawList, Selection, Target, WriteOptions

Stored = dict[str, Any]


class MemoryVerbs:
    """Implements `barque.client.verbs.Verbs` but for patches and watches; field selectors of one `path=value` only."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Stored] = {}
        self._revision = itertools.count(1)

    async def get(self, target: Target) -> bytes:
        return msgspec.json.encode(self._held(target))

    async def create(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        obj = msgspec.json.decode(body)
        key = (target.resource.group_resource, target.namespace, obj["metadata"]["name"])
        if key in self.objects:
            raise already_exists(target.resource.plural, target.resource.group, key[2])
        revision = str(next(self._revision))
        obj["metadata"] |= {"namespace": target.namespace, "resourceVersion": revision, "uid": f"uid-{revision}"}
        self.objects[key] = obj
        return msgspec.json.encode(obj)

    async def update(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        held, obj = self._held(target), msgspec.json.decode(body)
        wanted = obj["metadata"].get("resourceVersion") or held["metadata"]["resourceVersion"]
        if wanted != held["metadata"]["resourceVersion"]:
            raise conflict(target.resource.plural, target.resource.group, target.name, "the object has been modified")
        obj["metadata"] |= {"resourceVersion": str(next(self._revision)), "uid": held["metadata"]["uid"]}
        self.objects[_key(target)] = obj
        return msgspec.json.encode(obj)

    async def patch(
        self, target: Target, content_type: str, patch: bytes, options: WriteOptions = WriteOptions()
    ) -> bytes:
        raise bad_request("patches are not kept here")

    async def delete(self, target: Target, options: bytes = b"") -> bytes:
        obj = self._held(target)
        del self.objects[_key(target)]
        return msgspec.json.encode(obj)

    async def batch(self, writes: Sequence[port.Write]) -> list[bytes | ApiError]:
        answers: list[bytes | ApiError] = []
        for write in writes:
            try:
                match write:
                    case port.Create(target, json):
                        answers.append(await self.create(target, json))
                    case port.Update(target, json):
                        answers.append(await self.update(target, json))
                    case port.Delete(target, options):
                        answers.append(await self.delete(target, options))
                    case port.Patch(target, content_type, patch):
                        answers.append(await self.patch(target, content_type, patch))
            except ApiError as error:
                answers.append(error)
        return answers

    async def watch(
        self, target: Target, selection: Selection = Selection(), resource_version: str = ""
    ) -> AsyncIterator[Sequence[RawEvent]]:
        raise bad_request("watches are not kept here")
        yield []

    async def list(self, target: Target, selection: Selection = Selection()) -> RawList:
        path, _, value = selection.fields.partition("=")
        chosen = [
            obj
            for (resource, namespace, _), obj in sorted(self.objects.items())
            if resource == target.resource.group_resource
            and target.namespace in ("", namespace)
            and (not path or _field(obj, path) == value)
        ]
        return RawList([msgspec.json.encode(obj) for obj in chosen], "1")

    def _held(self, target: Target) -> Stored:
        held = self.objects.get(_key(target))
        if held is None:
            raise not_found(target.resource.plural, target.resource.group, target.name)
        return held


def _key(target: Target) -> tuple[str, str, str]:
    return target.resource.group_resource, target.namespace, target.name


def _field(obj: Stored, path: str) -> object:
    found: Any = obj
    for part in path.split("."):
        found = found.get(part, "") if isinstance(found, dict) else ""
    return found
