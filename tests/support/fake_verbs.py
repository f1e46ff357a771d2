"""`FakeVerbs`: the cluster's verbs in memory, for tests of everything that works through a `Client`.

Faithful in what controllers rely on: one revision counter, conflicts, uid preconditions, generations, the status and
binding subresources, two-step deletion, watches that resume or answer 410. Faults are switched on by the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from barque.api import codec, fields, patch, selectors
from barque.api.errors import ApiError, already_exists, conflict, expired, not_found, unavailable
from barque.api.resources import RESOURCES, Resource
from barque.api.types.core_v1 import Binding, Namespace, Pod
from barque.api.types.meta_v1 import DeleteOptions
from barque.client.client import Client, target_of_object
from barque.client.clock import Clock, timestamp
from barque.client.verbs import (
    Create,
    Delete,
    EventType,
    IncludeObject,
    Page,
    Patch,
    RawEvent,
    RawList,
    RawTable,
    Selection,
    Target,
    Update,
    Write,
    WriteOptions,
)
from barque.master.apiserver import tables

Key = tuple[str, str, str]


class _Change(NamedTuple):
    revision: int
    key: Key
    before: Any
    after: Any


class FakeVerbs:
    """Implements `Verbs`.

    `writes` is all that was asked for, in order, `batches` the sizes of batches. `down` refuses everything with 503;
    `refuse(write)` may answer a single write; `lose(write)` makes a write happen but its answer be 504.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.revision = 0
        self.objects: dict[Key, Any] = {}
        self.writes: list[Write] = []
        self.batches: list[int] = []
        self.lists = 0
        self.watches = 0
        self.down = False
        self.refuse: Callable[[Write], ApiError | None] = lambda write: None
        self.lose: Callable[[Write], bool] = lambda write: False
        self._history: list[_Change] = []
        self._oldest = 0
        self._news: set[asyncio.Event] = set()
        self._cut = 0
        self._held: set[str] = set()

    # What tests do to the cluster.

    @property
    def client(self) -> Client:
        return Client(self)

    def put(self, obj: Any) -> Any:
        """An object as someone else wrote it, status and all."""
        meta = obj.metadata
        key = _key(target_of_object(obj))
        held = self.objects.get(key)
        meta.uid = meta.uid or (held.metadata.uid if held else f"uid-{self.revision + 1}")
        meta.creationTimestamp = meta.creationTimestamp or timestamp(self.clock.wall())
        meta.generation = meta.generation or 1
        return self._commit(key, obj)

    def remove(self, obj: Any) -> None:
        self._commit(_key(target_of_object(obj)), None)

    def all(self, kind: type[Any]) -> list[Any]:
        return [obj for obj in self.objects.values() if type(obj) is kind]

    def find(self, kind: type[Any], name: str, namespace: str = "default") -> Any:
        return next(o for o in self.all(kind) if o.metadata.name == name and o.metadata.namespace in (namespace, ""))

    def break_watches(self) -> None:
        """Every open watch ends as if the connection had broken."""
        self._cut += 1
        self._ring()

    def compact(self) -> None:
        """History up to now is gone."""
        self._oldest = self.revision
        self._history.clear()

    def hold_watches(self, *plurals: str) -> None:
        """Watches of these resources, or of all, show nothing more until released: caches fall behind."""
        self._held |= set(plurals) or {r.plural for r in RESOURCES}

    def release_watches(self) -> None:
        self._held.clear()
        self._ring()

    # The verbs.

    async def get(self, target: Target, resource_version: str = "") -> bytes:
        self._check_up()
        return codec.encode(self._get(target))

    async def list(self, target: Target, selection: Selection = Selection(), page: Page = Page()) -> RawList:
        self._check_up()
        self.lists += 1
        return RawList([codec.encode(obj) for obj in self._selected(target, selection)], str(self.revision))

    async def table(
        self,
        target: Target,
        selection: Selection = Selection(),
        page: Page = Page(),
        include: IncludeObject = "Metadata",
    ) -> RawTable:
        self._check_up()
        shown, now = self._selected(target, selection), self.clock.wall()
        rows = [tables.row_of(codec.encode(obj), target.resource, include, now) for obj in shown]
        return RawTable(tables.definitions(target.resource), rows, str(self.revision))

    async def delete_collection(
        self, target: Target, selection: Selection = Selection(), options: bytes = b""
    ) -> RawList:
        self._check_up()
        gone = [self._one(Delete(target_of_object(obj), options)) for obj in self._selected(target, selection)]
        return RawList(gone, str(self.revision))

    async def watch(
        self,
        target: Target,
        selection: Selection = Selection(),
        resource_version: str = "",
        rows: IncludeObject | None = None,
    ) -> AsyncIterator[Sequence[RawEvent]]:
        self._check_up()
        self.watches += 1
        since, cut = int(resource_version or 0), self._cut
        news = asyncio.Event()
        self._news.add(news)
        try:
            while True:
                if self.down or self._cut != cut:
                    raise unavailable("the connection broke")
                if since < self._oldest:
                    raise expired(f"revision {since} is gone")
                batch = [] if target.resource.plural in self._held else self._events(target, selection, since)
                if batch:
                    since = self.revision
                    yield batch
                    continue
                news.clear()
                await news.wait()
        finally:
            self._news.discard(news)

    async def create(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        return self._one(Create(target, body))

    async def update(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        return self._one(Update(target, body))

    async def patch(
        self, target: Target, content_type: str, patch: bytes, options: WriteOptions = WriteOptions()
    ) -> bytes:
        return self._one(Patch(target, content_type, patch))

    async def delete(self, target: Target, options: bytes = b"") -> bytes:
        return self._one(Delete(target, options))

    async def batch(self, writes: Sequence[Write]) -> list[bytes | ApiError]:  # type: ignore[valid-type]
        self._check_up()
        self.batches.append(len(writes))
        await asyncio.sleep(0)
        answers: Any = []
        for write in writes:
            try:
                answers.append(self._one(write))
            except ApiError as error:
                answers.append(error)
        return answers  # type: ignore[no-any-return]

    # How they work.

    def _check_up(self) -> None:
        if self.down:
            raise unavailable("no master is reachable")

    def _one(self, write: Write) -> bytes:
        self._check_up()
        self.writes.append(write)
        refused = self.refuse(write)
        if refused is not None:
            raise refused
        match write:
            case Create():
                done = self._create(write)
            case Update():
                done = self._update(write)
            case Patch():
                done = self._patch(write)
            case Delete():
                done = self._delete(write)
        if self.lose(write):
            raise ApiError(504, "Timeout", "outcome unknown: the answer was lost")
        return codec.encode(done)

    def _selected(self, target: Target, selection: Selection) -> Any:
        keys = sorted(key for key, obj in self.objects.items() if _is_selected(key, obj, target, selection))
        return [self.objects[key] for key in keys]

    def _get(self, target: Target) -> Any:
        held = self.objects.get(_key(target))
        if held is None:
            raise not_found(target.resource.plural, target.resource.group, target.name)
        return held

    def _create(self, write: Create) -> Any:
        target = write.target
        if target.subresource == "binding":
            return self._bind(target, codec.decode(Binding, write.json))
        obj: Any = codec.decode(target.resource.type, write.json)
        meta = obj.metadata
        if not meta.name:
            meta.name = f"{meta.generateName}{self.revision + 1}"
        key = _key(target_of_object(obj))
        if key in self.objects:
            raise already_exists(target.resource.plural, target.resource.group, meta.name)
        meta.uid = f"uid-{self.revision + 1}"
        meta.creationTimestamp = timestamp(self.clock.wall())
        meta.generation = 1
        if isinstance(obj, Pod):
            obj.status.phase = obj.status.phase or "Pending"
        return self._commit(key, obj)

    def _bind(self, target: Target, binding: Binding) -> Any:
        pod = _copy(self._get(target))
        if pod.spec.nodeName:
            why = f'pod {target.name} is already assigned to node "{pod.spec.nodeName}"'
            raise conflict("pods/binding", "", target.name, why)
        assert binding.target is not None
        pod.spec.nodeName = binding.target.name
        return self._commit(_key(target), pod)

    def _update(self, write: Update) -> Any:
        held = self._get(write.target)
        new: Any = codec.decode(write.target.resource.type, write.json)
        self._check_revision(write.target, held, new.metadata.resourceVersion)
        return self._replace(write.target, held, new)

    def _check_revision(self, target: Target, held: Any, seen: str) -> None:
        if seen and seen != held.metadata.resourceVersion:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(target.resource.plural, target.resource.group, target.name, why)

    def _patch(self, write: Patch) -> Any:
        held = self._get(write.target)
        document = msgspec.json.decode(codec.encode(held))
        change = msgspec.json.decode(write.patch)
        if change.get("metadata", {}).get("uid", held.metadata.uid) != held.metadata.uid:
            raise conflict(write.target.resource.plural, "", write.target.name, "the UID in the patch does not match")
        self._check_revision(write.target, held, change.get("metadata", {}).get("resourceVersion", ""))
        merged = patch.merge_patch(document, change)
        new = codec.decode(write.target.resource.type, msgspec.json.encode(merged))
        return self._replace(write.target, held, new)

    def _replace(self, target: Target, held: Any, new: Any) -> Any:
        if target.subresource == "status":
            new, status = _copy(held), new.status
            new.status = status
        elif "status" in target.resource.subresources:
            new.status = held.status
        meta = new.metadata
        meta.uid, meta.creationTimestamp = held.metadata.uid, held.metadata.creationTimestamp
        meta.resourceVersion, meta.generation = held.metadata.resourceVersion, held.metadata.generation
        if new == held:
            return held
        if getattr(new, "spec", None) != getattr(held, "spec", None):
            meta.generation = (meta.generation or 0) + 1
        key = _key(target)
        if _is_finished(new):
            self._commit(key, None)
            return new
        return self._commit(key, new)

    def _delete(self, write: Delete) -> Any:
        options = msgspec.json.decode(write.options or b"{}", type=DeleteOptions)
        obj = _copy(self._get(write.target))
        meta = obj.metadata
        if options.preconditions and options.preconditions.uid not in ("", meta.uid):
            raise conflict(write.target.resource.plural, "", meta.name, "the UID in the precondition does not match")
        if options.preconditions:
            self._check_revision(write.target, obj, options.preconditions.resourceVersion)
        if not meta.deletionTimestamp:
            finalizer = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(options.propagationPolicy)
            if finalizer:
                meta.finalizers.append(finalizer)
            meta.deletionTimestamp = timestamp(self.clock.wall())
        if isinstance(obj, Pod):
            grace_s = 30 if options.gracePeriodSeconds is None else options.gracePeriodSeconds
            meta.deletionGracePeriodSeconds = grace_s if obj.spec.nodeName else 0
        if isinstance(obj, Namespace):
            obj.status.phase = "Terminating"
        if _is_finished(obj):
            self._commit(_key(write.target), None)
            return self._history[-1].before
        return self._commit(_key(write.target), obj)

    def _commit(self, key: Key, obj: Any) -> Any:
        self.revision += 1
        before = self.objects.pop(key, None)
        if obj is not None:
            obj = _copy(obj)
            obj.metadata.resourceVersion = str(self.revision)
            self.objects[key] = obj
        self._history.append(_Change(self.revision, key, before, obj))
        self._ring()
        return obj

    def _ring(self) -> None:
        for news in self._news:
            news.set()

    def _events(self, target: Target, selection: Selection, since: int) -> Any:
        events = []
        # Revisions have no gaps: the history's first is the one after `_oldest`.
        for change in self._history[max(0, since - self._oldest) :]:
            was = change.before is not None and _is_selected(change.key, change.before, target, selection)
            is_ = change.after is not None and _is_selected(change.key, change.after, target, selection)
            if was or is_:
                kind: EventType = "MODIFIED" if was and is_ else "ADDED" if is_ else "DELETED"
                shown = change.after if is_ else change.before
                events.append(RawEvent(kind, codec.encode(shown), change.revision))
        return events


def _key(target: Target) -> Key:
    return (target.resource.group_resource, target.namespace, target.name)


def _copy(obj: Any) -> Any:
    return codec.decode(type(obj), codec.encode(obj))


def _is_selected(key: Key, obj: Any, target: Target, selection: Selection) -> bool:
    resource: Resource = target.resource
    if key[0] != resource.group_resource or (target.namespace and key[1] != target.namespace):
        return False
    if not selectors.parse_labels(selection.labels).matches(obj.metadata.labels):
        return False
    wanted = selectors.parse_fields(selection.fields, resource)
    return wanted.matches(fields.selectable(obj, resource))


def _is_finished(obj: Any) -> bool:
    meta = obj.metadata
    if not meta.deletionTimestamp or meta.finalizers:
        return False
    if isinstance(obj, Namespace) and obj.spec.finalizers:
        return False
    return not meta.deletionGracePeriodSeconds
