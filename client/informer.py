"""`Informer`: a local, always current copy of one kind of object, kept by a `Reflector`.

In: a `Client`, a kind or a view of one (`api.views`), optional selectors, a clock and a source of jitter. Out: `get`,
`list`, indexes, and handlers that are told (old, new) of every change, in order. Guarantees: the reflector's; the cache
outlives any outage.

The objects handed out are the cache's own: copy before changing one.
"""

from __future__ import annotations

import builtins
import random as _random
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec

from barque.api import codec
from barque.api.types.base import Object
from barque.api.views import viewed
from barque.client.client import Client, target_of
from barque.client.clock import Clock
from barque.client.reflector import Reflector
from barque.client.verbs import Selection

T = TypeVar("T", bound=Object)

Key = tuple[str, str]
Handler = Callable[[T | None, T | None], None]


class _Meta(msgspec.Struct):
    name: str
    namespace: str = ""


class _Named(msgspec.Struct):
    metadata: _Meta


_named = msgspec.json.Decoder(_Named)


class _Index(Generic[T]):
    """Objects by the values a function reads from them."""

    def __init__(self, key: Callable[[T], Iterable[str]]) -> None:
        self._values = key
        self._objects: dict[str, dict[Key, T]] = {}

    def put(self, key: Key, old: T | None, new: T | None) -> None:
        if old is not None:
            for value in self._values(old):
                held = self._objects.get(value)
                if held is not None:
                    held.pop(key, None)
                    if not held:
                        del self._objects[value]
        if new is not None:
            for value in self._values(new):
                self._objects.setdefault(value, {})[key] = new

    def find(self, value: str) -> list[T]:
        return list(self._objects.get(value, {}).values())

    def values(self) -> list[str]:
        return list(self._objects)


class _Cache(Generic[T]):
    """The objects, and who is told of them: the reflector's sink."""

    def __init__(self, kind: type[T]) -> None:
        self.objects: dict[Key, T] = {}
        self.indexes: dict[str, _Index[T]] = {}
        self.handlers: list[Handler[T]] = []
        self._kind = kind
        self._unlisted: set[Key] = set()

    def begin_list(self) -> None:
        self._unlisted = set(self.objects)

    def put(self, json: bytes) -> None:
        new: Any = codec.decode(self._kind, json)
        key = (new.metadata.namespace, new.metadata.name)
        self._unlisted.discard(key)
        old: Any = self.objects.get(key)
        if old is not None:
            if old.metadata.uid != new.metadata.uid:
                self._remove(key)
                old = None
            elif new.metadata.resourceVersion and old.metadata.resourceVersion == new.metadata.resourceVersion:
                return
        self.objects[key] = new
        self._tell(key, old, new)

    def drop(self, json: bytes) -> None:
        meta = _named.decode(json).metadata
        self._remove((meta.namespace, meta.name))

    def end_list(self) -> None:
        gone, self._unlisted = self._unlisted, set()
        for key in gone:
            self._remove(key)

    def _remove(self, key: Key) -> None:
        old = self.objects.pop(key, None)
        if old is not None:
            self._tell(key, old, None)

    def _tell(self, key: Key, old: T | None, new: T | None) -> None:
        for index in self.indexes.values():
            index.put(key, old, new)
        for handler in self.handlers:
            handler(old, new)


class Informer(Generic[T]):
    """A cache of one kind; `run()` keeps it."""

    def __init__(
        self,
        client: Client,
        kind: type[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        clock: Clock,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.kind = kind
        self._cache = _Cache(kind)
        self._reflector = Reflector(
            client,
            target_of(viewed(kind), "", namespace),
            self._cache,
            selection=Selection(labels, fields),
            clock=clock,
            random=random,
        )

    @property
    def resource_version(self) -> str:
        """The revision that the cache has reached."""
        return self._reflector.resource_version

    @property
    def lists(self) -> int:
        """How many lists have been begun."""
        return self._reflector.lists

    @property
    def watches(self) -> int:
        """How many watches have been begun."""
        return self._reflector.watches

    @property
    def synced(self) -> bool:
        """Whether the first complete list is in the cache."""
        return self._reflector.synced

    async def wait_synced(self) -> None:
        await self._reflector.wait_synced()

    async def run(self) -> None:
        """List, then watch until cancelled."""
        await self._reflector.run()

    def get(self, name: str, namespace: str = "") -> T | None:
        return self._cache.objects.get((namespace, name))

    def list(self) -> list[T]:
        return list(self._cache.objects.values())

    def add_index(self, name: str, key: Callable[[T], Iterable[str]]) -> None:
        """Keep objects findable by the values `key` reads from them; the same name is declared once."""
        if name in self._cache.indexes:
            raise ValueError(f"index {name!r} exists")
        index = self._cache.indexes[name] = _Index(key)
        for at, obj in self._cache.objects.items():
            index.put(at, None, obj)

    def by_index(self, name: str, value: str) -> builtins.list[T]:
        return self._cache.indexes[name].find(value)

    def index_values(self, name: str) -> builtins.list[str]:
        """The values under which there are objects now."""
        return self._cache.indexes[name].values()

    def add_handler(self, handler: Handler[T]) -> None:
        """Call `handler(old, new)` on every change, `(None, new)` at once for each object already here.

        It runs inside the watch and must not block. An object replaced by another of the same name is told as its
        deletion and a creation.
        """
        self._cache.handlers.append(handler)
        for obj in list(self._cache.objects.values()):
            handler(None, obj)
