"""The command against the real registry, in this process: `run(cluster, "get", "pods")` as a user would type it.

`RegistryCluster` is a registry of verbs on a store in memory (`memory_store.Bench`) behind the `Connection` that the
CLI's session wants: what the command reads and writes is decoded, defaulted, validated, admitted and stored as on a
master, without socket, disk or controllers.

* `put(obj)` stores an object as it is, status included: what controllers, the scheduler and the workers left behind.
  Typed or a dictionary; its defaults, uid and creationTimestamp are filled in where they are missing.
* `create(obj)` sends it through the registry as the administrator `manager` would.
* `one(...)`, `names(...)` and `exists(...)` look at what is stored; `remove(...)` takes an object out at once.
* `on_call(verb, target)` runs before every request of the command and may raise what the master refuses it with.
* `on_idle`: one each time a watch has nothing more to tell, a hook runs: how a test makes things happen meanwhile. It
  may be a coroutine function, and may raise (`break_watches`, `compact`). When none is left, the watch breaks off with
  `KeyboardInterrupt`, as if the user had pressed Ctrl-C.
* `calls` is every request in order. `pods`, `cluster`, `images` and `feed` are the other services' stubs, for a test to
  put its own in.

The session's clock is the registry's: a sleep of the command takes no time, and moves the cluster's time on.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from click.testing import CliRunner, Result

from barque.api import codec, fields, resources
from barque.api.defaults import apply_defaults
from barque.api.errors import ApiError, unavailable
from barque.api.resources import Resource
from barque.cli.main import cli
from barque.cli.session import Session
from barque.client.client import Client
from barque.client.clock import timestamp
from barque.client.profile import Profile
from barque.client.verbs import RawEvent, RawList, RawTable, Target, Write, WriteOptions
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.registry import UserVerbs
from barque.master.store.port import Key, Op
from tests.support.clock import FakeClock, ImpatientClock
from tests.support.memory_store import ADMIN, Bench, MemoryStore

T = TypeVar("T")
Stored = dict[str, Any]
MASTER = "10.0.0.1:7443"
# A watch that has something to tell does so within these many turns of the loop.
_TURNS = 50


class Sent(NamedTuple):
    """One request of the command; `body` is the object, the patch or the delete options."""

    verb: str
    target: Target
    body: bytes = b""
    options: WriteOptions = WriteOptions()


class RegistryCluster:
    """See the module's text. The namespaces every cluster has are there already."""

    def __init__(self, *objects: Any) -> None:
        self.bench = Bench()
        self.calls: list[Sent] = []
        self.on_call: Callable[[str, Target], None] = lambda verb, target: None
        self.on_idle: list[Callable[[], object]] = []
        self.pods: Any = None
        self.cluster: Any = None
        # What the Cluster service of a certain master answers, by its address; None where that one is away.
        self.masters: dict[str, Any] = {}
        self.images: Any = None
        self.feed: Any = None
        asyncio.run(ensure_namespaces(self.bench.client))
        for obj in objects:
            self.put(obj)

    @property
    def clock(self) -> FakeClock:
        return self.bench.clock

    @property
    def revision(self) -> int:
        return self.bench.store.revision

    # --- what a test does

    def put(self, obj: Any) -> Stored:
        """Create or change an object as it is, by no verb; returns it as it is stored."""
        if isinstance(obj, dict):
            resource = resources.by_kind(obj["apiVersion"], obj["kind"])
            typed: Any = codec.from_document(resource.type, obj)
        else:
            resource, typed = resources.by_type(type(obj)), codec.decode(type(obj), codec.encode(obj))
        apply_defaults(typed)
        meta, key = typed.metadata, _key(resource, typed.metadata.name, typed.metadata.namespace)
        present = self._store(resource).get(key)
        known = msgspec.json.decode(present.json)["metadata"] if present is not None else {}
        meta.uid = meta.uid or known.get("uid") or f"uid-{meta.name}-{self.revision}"
        started = known.get("creationTimestamp") or timestamp(self.clock.wall())
        meta.creationTimestamp = meta.creationTimestamp or started
        json, slot = codec.encode_slotted(typed)
        self._commit(resource, Op("put", key, json, slot, meta.labels, fields.selectable(typed, resource)))
        return self.one(resource.group_resource, meta.name, meta.namespace)

    def create(self, obj: Any, *, manager: str = "") -> Stored:
        """Create an object through the registry, outside of a running event loop."""
        body: Stored = codec.to_document(obj)
        resource = resources.by_kind(body["apiVersion"], body["kind"])
        namespace = body["metadata"].get("namespace") or "default"
        target = Target(resource, namespace if resource.namespaced else "")
        options = WriteOptions(field_manager=manager)
        made = asyncio.run(self.bench.admin.create(target, msgspec.json.encode(body), options))
        return cast("Stored", msgspec.json.decode(made))

    def remove(self, word: str, name: str, namespace: str = "default") -> None:
        """Take an object out at once, whatever it waits for: what a worker's or a controller's last write does."""
        resource = resources.by_word(word)
        self._commit(resource, Op("delete", _key(resource, name, namespace)))

    def one(self, word: str, name: str, namespace: str = "default") -> Stored:
        """The object as it is stored. Raises `KeyError` where there is none."""
        resource = resources.by_word(word)
        stored = self._store(resource).get(_key(resource, name, namespace))
        if stored is None:
            raise KeyError(f"{resource.plural} {namespace}/{name}")
        return cast("Stored", msgspec.json.decode(stored.json))

    def exists(self, word: str, name: str, namespace: str = "default") -> bool:
        with suppress(KeyError):
            return bool(self.one(word, name, namespace))
        return False

    def names(self, word: str) -> list[str]:
        """The names of all stored objects of the type, those of every namespace."""
        resource = resources.by_word(word)
        return [stored.key.name for stored in self._store(resource).list(resource.group_resource).items]

    def break_watches(self) -> None:
        """For `on_idle`: the master goes away."""
        raise unavailable("the connection to the master broke: connection closed")

    def compact(self) -> None:
        """For `on_idle`: the master goes away, and its history with it."""
        for store in (self.bench.store, self.bench.events):
            store._hub.reset(store.revision)
        self.break_watches()

    def verbs_called(self) -> list[str]:
        return [sent.verb for sent in self.calls]

    # --- inside

    def _store(self, resource: Resource) -> MemoryStore:
        return self.bench.events if resource.storage == "bus" else self.bench.store

    def _commit(self, resource: Resource, op: Op) -> None:
        _finish(self._store(resource).commit([op]))


def _key(resource: Resource, name: str, namespace: str) -> Key:
    return Key(resource.group_resource, namespace if resource.namespaced else "", name)


def _finish(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine that waits for nothing, inside or outside of an event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise AssertionError("the store in memory had to wait")


class ClusterVerbs:
    """`client.verbs.Verbs` of the administrator: the registry's, noted and watched over by the test."""

    def __init__(self, cluster: RegistryCluster, warn: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._warn = warn
        self._warnings: list[str] = []
        self._inner: UserVerbs = cluster.bench.registry.as_user(ADMIN, self._warnings)

    async def get(self, target: Target, *more: Any, **named: Any) -> bytes:
        self._note(Sent("get", target))
        return await self._inner.get(target, *more, **named)

    async def list(self, target: Target, *more: Any, **named: Any) -> RawList:
        self._note(Sent("list", target))
        return await self._inner.list(target, *more, **named)

    async def table(self, target: Target, *more: Any, **named: Any) -> RawTable:
        self._note(Sent("table", target))
        return await self._inner.table(target, *more, **named)

    async def create(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        self._note(Sent("create", target, body, options))
        return await self._warned(self._inner.create(target, body, options))

    async def update(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        self._note(Sent("update", target, body, options))
        return await self._warned(self._inner.update(target, body, options))

    async def patch(
        self, target: Target, content_type: str, patch: bytes, options: WriteOptions = WriteOptions()
    ) -> bytes:
        self._note(Sent("patch", target, patch, options))
        return await self._warned(self._inner.patch(target, content_type, patch, options))

    async def delete(self, target: Target, options: bytes = b"") -> bytes:
        self._note(Sent("delete", target, options))
        return await self._warned(self._inner.delete(target, options))

    async def delete_collection(self, target: Target, *more: Any, **named: Any) -> RawList:
        options = named.get("options") or (more[1] if len(more) > 1 else b"")
        self._note(Sent("delete_collection", target, options))
        return await self._warned(self._inner.delete_collection(target, *more, **named))

    async def batch(self, writes: Sequence[Write]) -> builtins.list[bytes | ApiError]:
        for write in writes:
            body = next((value for value in reversed(write) if isinstance(value, bytes)), b"")
            self._note(Sent(type(write).__name__.lower(), write.target, body))
        return await self._warned(self._inner.batch(writes))

    async def watch(self, target: Target, *more: Any, **named: Any) -> AsyncIterator[Sequence[RawEvent]]:
        self._note(Sent("watch", target))
        changes = self._inner.watch(target, *more, **named)
        try:
            while True:
                try:
                    batch = await self._next(changes)
                except StopAsyncIteration:
                    return
                yield batch
        finally:
            await cast(Any, changes).aclose()

    async def _next(self, changes: AsyncIterator[Sequence[RawEvent]]) -> Sequence[RawEvent]:
        """The next changes; where there are none yet, the test's hooks make some."""
        coming = asyncio.ensure_future(cast("Coroutine[Any, Any, Sequence[RawEvent]]", anext(changes)))
        try:
            while True:
                for _ in range(_TURNS):
                    if coming.done():
                        return coming.result()
                    await asyncio.sleep(0)
                await self._happen()
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _happen(self) -> None:
        if not self._cluster.on_idle:
            raise KeyboardInterrupt
        happened = self._cluster.on_idle.pop(0)()
        if inspect.isawaitable(happened):
            await happened

    def _note(self, sent: Sent) -> None:
        self._cluster.calls.append(sent)
        self._cluster.on_call(sent.verb, sent.target)

    async def _warned(self, request: Awaitable[T]) -> T:
        self._warnings.clear()
        answer = await request
        for warning in self._warnings:
            self._warn(warning)
        return answer


class ClusterConnection:
    """What `barque.client.remote.connect` would give."""

    def __init__(self, cluster: RegistryCluster, warn: Callable[[str], None], profile: Profile) -> None:
        self.master = profile.masters[0]
        self.verbs: Any = ClusterVerbs(cluster, warn)
        self.client = Client(self.verbs)
        self.pods = cluster.pods
        self.images = cluster.images
        self.feed = cluster.feed
        self.channels = self
        self.cluster = cluster.masters.get(self.master, cluster.cluster)
        self._away = self.master in cluster.masters and self.cluster is None

    async def ready(self) -> None:
        if self._away:
            raise unavailable(f"no master is reachable ({self.master}: connection refused)")

    def move_on(self, master: str) -> None:
        """There is one alone."""

    async def close(self) -> None: ...


def a_session(cluster: RegistryCluster) -> Session:
    """A session of that cluster's administrator; its profile's namespace is `default`."""

    def load(*_: object) -> Profile:
        return Profile(masters=[MASTER], ca="", cert="", key="")

    clock = ImpatientClock(cluster.clock)
    return Session(clock=clock, load=load, connect=lambda profile, warn: ClusterConnection(cluster, warn, profile))


def run(
    cluster: RegistryCluster,
    *arguments: str,
    stdin: str | bytes | None = None,
    env: Mapping[str, str | None] | None = None,
) -> Result:
    """Run the command as a user would; `result.stdout`, `.stderr` and `.exit_code` say how it went."""
    runner = CliRunner()
    return runner.invoke(cli, list(arguments), obj=a_session(cluster), input=stdin, env=env, prog_name="barque")
