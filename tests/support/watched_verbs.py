"""A cluster of objects that a test sets and an informer follows: `list` and `watch`, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from barque.api import codec, resources
from barque.client.client import Client
from barque.client.verbs import RawEvent, RawList, Selection, Target


class WatchedVerbs:
    """`put` and `remove` are seen by every watch that is open."""

    def __init__(self) -> None:
        self.revision = 1
        self.objects: dict[tuple[str, str, str], Any] = {}
        self._watches: list[tuple[str, asyncio.Queue[RawEvent]]] = []

    def client(self) -> Client:
        return Client(self)  # type: ignore[arg-type]  # an informer needs no more of the port

    def put(self, obj: Any) -> None:
        kind = resources.by_type(type(obj)).group_resource
        key = (kind, obj.metadata.namespace, obj.metadata.name)
        self.revision += 1
        obj.metadata.resourceVersion = str(self.revision)
        self._tell(kind, "MODIFIED" if key in self.objects else "ADDED", obj)
        self.objects[key] = obj

    def remove(self, obj: Any) -> None:
        kind = resources.by_type(type(obj)).group_resource
        self.revision += 1
        self._tell(kind, "DELETED", self.objects.pop((kind, obj.metadata.namespace, obj.metadata.name)))

    def _tell(self, kind: str, verb: Any, obj: Any) -> None:
        event = RawEvent(verb, codec.encode(obj), self.revision)
        for watched, queue in self._watches:
            if watched == kind:
                queue.put_nowait(event)

    async def list(self, target: Target, selection: Selection = Selection()) -> RawList:
        kind = target.resource.group_resource
        return RawList([codec.encode(o) for (k, *_), o in self.objects.items() if k == kind], str(self.revision))

    async def watch(
        self, target: Target, selection: Selection = Selection(), resource_version: str = ""
    ) -> AsyncIterator[Sequence[RawEvent]]:
        queue: asyncio.Queue[RawEvent] = asyncio.Queue()
        entry = (target.resource.group_resource, queue)
        self._watches.append(entry)
        try:
            while True:
                batch = [await queue.get()]
                while not queue.empty():
                    batch.append(queue.get_nowait())
                yield batch
        finally:
            self._watches.remove(entry)
