"""The store without a disk: the real state machine and the real watch hub, and nothing durable.

`MemoryStore` is a whole `master.store.port.Store`. `a_registry` puts a registry on it with the cluster's namespaces in
place; `Bench` is what tests of the registry's verbs talk to.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from barque.api import codec, resources
from barque.api.errors import ApiError
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.verbs import STRATEGIC_MERGE_PATCH, Selection, Target, WriteOptions
from barque.master.apiserver.backend import StoreBackend
from barque.master.apiserver.bootstrap import ensure_namespaces
from barque.master.apiserver.component_view import ComponentView
from barque.master.apiserver.registry import Registry, UserVerbs
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.identity import User
from barque.master.raft.errors import StoreStartError
from barque.master.store.fsm import StateMachine
from barque.master.store.hub import Hub, HubSettings
from barque.master.store.port import (
    Batch,
    Change,
    Filter,
    Key,
    KeyRotated,
    Listing,
    Op,
    Restored,
    Result,
    SnapshotRefusedError,
    Stored,
    StoreFigures,
    StoreUnavailableError,
    Subscription,
)
from barque.master.store.snapshot import (
    Head,
    encode_sections,
    load_section,
    pack_frame,
    pack_header,
    pack_section,
    read_sections,
)
from barque.master.usage.table import UsageTable
from barque.master.usage.view import UsageView
from barque.proto.cluster_pb2 import Component
from tests.support.clock import FakeClock, ImpatientClock
from tests.support.store import a_ring_in_memory

T = TypeVar("T")

ADMIN = User("barque-admin", ("system:masters",))


def node_user(name: str) -> User:
    return User(f"system:node:{name}", ("system:nodes", "system:authenticated"))


class MemoryStore:
    """`commits` counts proposals. `before_commit`, once set, runs before the next commit: what another master does
    meanwhile. `failure` is raised, or `answers` given, instead of committing.
    """

    cluster_id = "cluster-1"

    def __init__(self, clock: Clock, hub: HubSettings = HubSettings()) -> None:
        self._machine = StateMachine()
        self._hub = Hub(clock, hub)
        self._ring = a_ring_in_memory()
        self.commits = 0
        self.ops: list[Op] = []
        self.before_commit: Callable[[], Awaitable[object]] | None = None
        self.failure: Exception | None = None
        self.answer: Result | None = None

    @property
    def revision(self) -> int:
        return self._machine.revision

    @property
    def leads(self) -> bool:
        return True

    async def led(self, *, leads: bool) -> None:
        if not leads:
            await asyncio.get_running_loop().create_future()

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result]:
        hook, self.before_commit = self.before_commit, None
        if hook is not None:
            await hook()
        if self.failure is not None:
            raise self.failure
        if self.answer is not None:
            return [self.answer for _ in ops]
        self.commits += 1
        self.ops += ops
        applied = self._machine.apply(ops)
        self._hub.publish(applied.changes, self._machine.revision)
        return applied.results

    def get(self, key: Key) -> Stored | None:
        return self._machine.get(key)

    def newest(self, resources: Sequence[str]) -> int:
        return self._hub.newest(resources)

    def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Batch]:
        return self._hub.watch(resource, since, selected)

    def subscribe(self, resource: str, since: int, selected: Filter, on_news: Callable[[], None]) -> Subscription:
        return self._hub.subscribe(resource, since, selected, on_news)

    def changes(self, since: int) -> AsyncIterator[list[Change]]:
        return self._hub.changes(since)

    async def barrier(self) -> int:
        if isinstance(self.failure, StoreUnavailableError):
            raise self.failure
        return self._machine.revision

    def reserved(self, prefix: str) -> dict[str, Key]:
        return self._machine.reserved(prefix)

    async def wait_for_revision(self, revision: int) -> None:
        await self._hub.wait_for_revision(revision)

    def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        if revision is None:
            return self._machine.list(resource, selected)
        superseded = self._hub.superseded(resource, revision)
        return self._machine.list_at(resource, selected, revision, superseded)

    def figures(self) -> StoreFigures:
        return StoreFigures(len(self._machine), 0, 0, 0.0, 0.0, self._ring.key_id, self._ring.created)

    async def save_snapshot(self) -> AsyncIterator[bytes]:
        yield pack_header()
        head = Head(0, 0, self.revision, self.cluster_id)
        for section in encode_sections(self._machine.view(), head, self._ring):
            yield pack_frame(pack_section(section))

    async def restore_snapshot(self, chunks: AsyncIterator[bytes]) -> Restored:
        data = b"".join([chunk async for chunk in chunks])
        machine = StateMachine()
        try:
            for section in read_sections(Path("memory"), data, self._ring):
                load_section(machine, section)
        except StoreStartError as e:
            raise SnapshotRefusedError(str(e)) from e
        machine.revision = max(machine.revision, self.revision) + 10**9
        machine.take_results(self._machine)
        self._machine = machine
        self._hub.restart(machine.revision)
        return Restored(machine.revision, len(machine))

    async def rotate_key(self) -> KeyRotated:
        self._ring.add_key("2026-01-02T00:00:00Z", settled=False)
        self._ring.forget_others()
        return KeyRotated(self._ring.key_id, len(self._machine.list("secrets").items))


class MemoryEvents(StoreBackend):
    """Event records as the bus keeps them: no compares beyond their own key, revisions of their own."""

    guards = False


class Bench:
    """A registry on a store in memory. Objects go in and come out as plain dictionaries; `usage` takes samples, and
    `components` are the master's parts.
    """

    def __init__(self, settings: ApiSettings = ApiSettings()) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.events = MemoryStore(self.clock)
        entropy = random.Random(1)
        events = MemoryEvents(self.events, "bus")
        self.usage = UsageTable(self.store, self.clock)
        self.components = [Component(name="store", healthy=True, message="revision 1")]
        views = {"usage": UsageView(self.store, self.usage), "components": ComponentView(lambda: self.components)}
        # What a request waits for is nothing that happens here by itself.
        self.registry = Registry(self.store, events, settings, ImpatientClock(self.clock), entropy, views=views)
        self.warnings: list[str] = []
        self.admin: UserVerbs = self.registry.as_user(ADMIN, self.warnings)
        self.client = Client(self.admin)

    def as_node(self, name: str) -> UserVerbs:
        return self.registry.as_user(node_user(name))

    async def create(self, plural: str, obj: Any, namespace: str = "default", **options: Any) -> dict[str, Any]:
        body = obj if isinstance(obj, bytes) else msgspec.json.encode(obj)
        return _dict(await self.admin.create(target(plural, "", namespace), body, WriteOptions(**options)))

    async def get(self, plural: str, name: str, namespace: str = "default", sub: str = "") -> dict[str, Any]:
        return _dict(await self.admin.get(target(plural, name, namespace, sub)))

    async def update(self, plural: str, obj: Any, sub: str = "", namespace: str = "default") -> dict[str, Any]:
        named = codec.to_document(obj)
        where = target(plural, named["metadata"]["name"], namespace, sub)
        return _dict(await self.admin.update(where, msgspec.json.encode(named)))

    async def patch(
        self,
        plural: str,
        name: str,
        patch: Any,
        sub: str = "",
        kind: str = STRATEGIC_MERGE_PATCH,
    ) -> dict[str, Any]:
        where = target(plural, name, "default", sub)
        return _dict(await self.admin.patch(where, kind, msgspec.json.encode(patch)))

    async def delete(self, plural: str, name: str, namespace: str = "default", **options: Any) -> dict[str, Any]:
        body = msgspec.json.encode(options) if options else b""
        return _dict(await self.admin.delete(target(plural, name, namespace), body))

    async def names(self, plural: str, namespace: str = "", labels: str = "", fields: str = "") -> list[str]:
        listed = await self.admin.list(target(plural, "", namespace), Selection(labels, fields))
        return [_dict(item)["metadata"]["name"] for item in listed.items]

    async def bind(self, pod: str, node: str) -> dict[str, Any]:
        body = msgspec.json.encode({"metadata": {"name": pod}, "target": {"kind": "Node", "name": node}})
        return _dict(await self.admin.create(target("pods", pod, "default", "binding"), body))


async def a_bench(settings: ApiSettings = ApiSettings()) -> Bench:
    """A bench with the namespaces that every cluster has."""
    bench = Bench(settings)
    await ensure_namespaces(bench.client)
    bench.store.commits = 0
    bench.store.ops.clear()
    return bench


def target(plural: str, name: str = "", namespace: str = "default", subresource: str = "") -> Target:
    resource = resources.by_word(plural)
    return Target(resource, namespace if resource.namespaced else "", name, subresource)


async def refusal(call: Awaitable[object]) -> ApiError:
    """What the call is refused with."""
    with pytest.raises(ApiError) as refused:
        await call
    return refused.value


def _dict(data: bytes) -> dict[str, Any]:
    return msgspec.json.decode(data, type=dict[str, Any])
