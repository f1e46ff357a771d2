"""`Informer`: a local, always current copy of one kind of object, kept by one list and one never-ending watch.

In: a `Client`, a kind, optional selectors, a clock and a source of jitter. Out: `get`, `list`, indexes, and handlers
that are told (old, new) of every change, in order. Guarantees: after the first list it resumes each broken watch from
the revision it has reached, so no change is missed and nothing is listed again unless the server answers 410; the
cache outlives any outage, which is logged once when it begins and once when it ends.

The objects handed out are the cache's own: copy before changing one.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import random as _random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from barque.api import codec
from barque.api.errors import ApiError, unavailable
from barque.api.types.base import Object
from barque.client.client import Client, target_of
from barque.client.clock import Clock
from barque.client.verbs import RawEvent, Selection

T = TypeVar("T", bound=Object)

log = logging.getLogger(__name__)

# The first pause is short because most breaks are a master's restart or a cut-off of a slow watcher; the longest keeps
# thousands of workers from storming a master while still noticing within seconds that it is back.
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 3.0
# A watch sends a bookmark at least once a minute; silence beyond this means the connection is dead without saying so.
SILENCE_S = 90.0
# How many objects are decoded before other tasks get the loop: at some 20 µs each, well below 20 ms.
SLICE = 256

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


class Informer(Generic[T]):
    """A cache of one kind; `run()` keeps it. `lists` and `watches` count how often each was begun."""

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
        self.resource_version = ""
        self.lists = 0
        self.watches = 0
        self._client = client
        self._target = target_of(kind, "", namespace)
        self._selection = Selection(labels, fields)
        self._clock = clock
        self._random = random
        self._objects: dict[Key, T] = {}
        self._indexes: dict[str, _Index[T]] = {}
        self._handlers: list[Handler[T]] = []
        self._synced = asyncio.Event()
        self._heard_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._broken_since: float | None = None

    @property
    def synced(self) -> bool:
        """Whether the first complete list is in the cache."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def get(self, name: str, namespace: str = "") -> T | None:
        return self._objects.get((namespace, name))

    def list(self) -> list[T]:
        return list(self._objects.values())

    def add_index(self, name: str, key: Callable[[T], Iterable[str]]) -> None:
        """Keep objects findable by the values `key` reads from them; the same name is declared once."""
        if name in self._indexes:
            raise ValueError(f"index {name!r} exists")
        index = self._indexes[name] = _Index(key)
        for at, obj in self._objects.items():
            index.put(at, None, obj)

    def by_index(self, name: str, value: str) -> builtins.list[T]:
        return self._indexes[name].find(value)

    def add_handler(self, handler: Handler[T]) -> None:
        """Call `handler(old, new)` on every change, `(None, new)` at once for each object already here.

        It runs inside the watch and must not block. An object replaced by another of the same name is told as its
        deletion and a creation.
        """
        self._handlers.append(handler)
        for obj in list(self._objects.values()):
            handler(None, obj)

    async def run(self) -> None:
        """List, then watch until cancelled."""
        listed = False
        while True:
            try:
                if not listed:
                    await self._list()
                    listed = True
                await self._watch()
            except ApiError as error:
                if error.code == 410:
                    log.info("%s: history is gone, listing again", self._target.resource.plural)
                    listed = False
                else:
                    self._note_broken(error)
            await self._clock.sleep(self._next_pause())

    def _next_pause(self) -> float:
        pause = self._pause_s * (0.5 + self._random() / 2)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        return pause

    def _note_broken(self, error: ApiError) -> None:
        if self._broken_since is None:
            self._broken_since = self._clock.monotonic()
            log.warning("%s: cannot follow changes, trying again: %s", self._target.resource.plural, error.message)

    def _note_heard(self) -> None:
        self._heard_at = self._clock.monotonic()
        self._pause_s = FIRST_PAUSE_S
        if self._broken_since is not None:
            away_s = self._heard_at - self._broken_since
            self._broken_since = None
            log.info("%s: following changes again after %.1f s", self._target.resource.plural, away_s)

    async def _list(self) -> None:
        self.lists += 1
        raw = await self._client.verbs.list(self._target, self._selection)
        present: set[Key] = set()
        for count, item in enumerate(raw.items, 1):
            present.add(self._put(item))
            if count % SLICE == 0:
                await asyncio.sleep(0)
        for key in [k for k in self._objects if k not in present]:
            self._drop(key)
        self.resource_version = raw.resource_version
        self._synced.set()
        self._note_heard()

    async def _watch(self) -> None:
        """Follow until the stream ends, breaks or falls silent."""
        self.watches += 1
        self._heard_at = self._clock.monotonic()
        tasks = {asyncio.create_task(self._follow()), asyncio.create_task(self._wait_silence())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_silence(self) -> None:
        while (left_s := self._heard_at + SILENCE_S - self._clock.monotonic()) > 0:
            await self._clock.sleep(left_s)
        raise unavailable(f"nothing heard for {SILENCE_S:.0f} s")

    async def _follow(self) -> None:
        stream = self._client.verbs.watch(self._target, self._selection, self.resource_version)
        async with contextlib.aclosing(stream):  # type: ignore[type-var]  # the port promises aclose()
            async for batch in stream:
                self._note_heard()
                await self._take(batch)
        raise unavailable("the watch ended")

    async def _take(self, batch: Sequence[RawEvent]) -> None:
        for count, event in enumerate(batch, 1):
            if event.type == "DELETED":
                meta = _named.decode(event.json).metadata
                self._drop((meta.namespace, meta.name))
            elif event.type != "BOOKMARK":
                self._put(event.json)
            self.resource_version = str(event.revision)
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def _put(self, data: bytes) -> Key:
        new: Any = codec.decode(self.kind, data)
        key = (new.metadata.namespace, new.metadata.name)
        old: Any = self._objects.get(key)
        if old is not None:
            if old.metadata.uid != new.metadata.uid:
                self._drop(key)
                old = None
            elif new.metadata.resourceVersion and old.metadata.resourceVersion == new.metadata.resourceVersion:
                return key
        self._objects[key] = new
        self._tell(key, old, new)
        return key

    def _drop(self, key: Key) -> None:
        old = self._objects.pop(key, None)
        if old is not None:
            self._tell(key, old, None)

    def _tell(self, key: Key, old: T | None, new: T | None) -> None:
        for index in self._indexes.values():
            index.put(key, old, new)
        for handler in self._handlers:
            handler(old, new)
