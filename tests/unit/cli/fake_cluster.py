"""The command against a cluster in memory: `run(cluster, "get", "pods")` gives what it printed and its exit code.

`FakeCluster` implements `barque.client.verbs.Verbs` on JSON dictionaries, with watches that can be broken and answers
that can be scripted. Nothing is defaulted or admitted: what is stored is what was sent.
"""

from __future__ import annotations

import asyncio
import builtins
import copy
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner, Result

from barque.api import codec, fields, patch, resources, selectors
from barque.api.errors import ApiError, already_exists, conflict, expired, not_found, unavailable
from barque.api.resources import Resource
from barque.cli.main import cli
from barque.cli.session import Session
from barque.client.client import Client
from barque.client.profile import Profile
from barque.client.verbs import (
    STRATEGIC_MERGE_PATCH,
    Create,
    Delete,
    EventType,
    Patch,
    RawEvent,
    RawList,
    Selection,
    Target,
    Update,
    Write,
    WriteOptions,
)
from tests.support.clock import FakeClock

Stored = dict[str, Any]
Key = tuple[str, str, str]


class ImpatientClock(FakeClock):
    """Sleeps take no time but count."""

    async def sleep(self, seconds: float) -> None:
        self._now += seconds
        await asyncio.sleep(0)


class FakeCluster:
    """Objects by (resource, namespace, name) and the history of their changes.

    `on_call(verb, target)` runs before every request and may raise. `on_idle` runs, one each time, when a watch has
    nothing more to tell: this is how a test makes things happen meanwhile. When none is left the watch breaks off with
    `KeyboardInterrupt`, as if the user had pressed Ctrl-C.
    """

    def __init__(self, *objects: Any) -> None:
        self.objects: dict[Key, Stored] = {}
        self.history: list[tuple[int, EventType, Key, Stored]] = []
        self.revision = 10
        self.compacted = 0
        self.calls: list[tuple[str, str]] = []
        self.deletes: list[bytes] = []
        self.graceful = False
        self.on_call: Callable[[str, Target], None] = lambda verb, target: None
        self.on_idle: list[Callable[[], object]] = []
        self.pods: Any = None
        self.cluster: Any = None
        for obj in objects:
            self.put(obj)

    # --- what a test does

    def put(self, obj: Any) -> Stored:
        """Create or change an object, typed or as a dictionary."""
        data: Stored = copy.deepcopy(obj) if isinstance(obj, dict) else msgspec.json.decode(codec.encode(obj))
        resource = resources.by_kind(data["apiVersion"], data["kind"])
        key = (resource.group_resource, data["metadata"].get("namespace", ""), data["metadata"]["name"])
        return self._write(key, data)

    def remove(self, resource: str, name: str, namespace: str = "default") -> None:
        key = (resource, namespace, name)
        self.revision += 1
        self.history.append((self.revision, "DELETED", key, self.objects.pop(key)))

    def one(self, resource: str, name: str, namespace: str = "default") -> Stored:
        return self.objects[resource, namespace, name]

    def break_watches(self) -> None:
        """For `on_idle`: the master goes away."""
        raise unavailable("the connection to the master broke: connection closed")

    def compact(self) -> None:
        """For `on_idle`: the master goes away, and its history with it."""
        self.compacted = self.revision
        self.break_watches()

    def verbs_called(self) -> list[str]:
        return [verb for verb, _ in self.calls]

    # --- Verbs

    async def get(self, target: Target) -> bytes:
        self._called("get", target)
        found = self._found(target)
        return msgspec.json.encode(_scale(found) if target.subresource == "scale" else found)

    async def list(self, target: Target, selection: Selection = Selection()) -> RawList:
        self._called("list", target)
        chosen = [
            msgspec.json.encode(obj)
            for key, obj in sorted(self.objects.items())
            if _matches(key, obj, target, selection)
        ]
        return RawList(chosen, str(self.revision))

    async def create(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        self._called("create", target)
        data = msgspec.json.decode(body)
        key = (target.resource.group_resource, target.namespace, data["metadata"]["name"])
        if key in self.objects:
            raise already_exists(target.resource.plural, target.resource.group, key[2])
        data["metadata"]["uid"] = f"uid-{key[2]}-{self.revision}"
        return body if options.dry_run else msgspec.json.encode(self._write(key, data))

    async def update(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes:
        self._called("update", target)
        self._found(target)
        return msgspec.json.encode(self._write(_key(target), msgspec.json.decode(body)))

    async def patch(
        self, target: Target, content_type: str, patch_: bytes, options: WriteOptions = WriteOptions()
    ) -> bytes:
        self._called("patch", target)
        old, change = self._found(target), msgspec.json.decode(patch_)
        wanted = change.get("metadata", {}).pop("resourceVersion", "")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            raise conflict(target.resource.plural, target.resource.group, target.name, "the object has been modified")
        if content_type == STRATEGIC_MERGE_PATCH:
            new = patch.strategic_merge(target.resource.type, old, change)
        else:
            new = patch.merge_patch(old, change)
        if options.dry_run or new == old:
            return msgspec.json.encode(new)
        written = self._write(_key(target), new)
        return msgspec.json.encode(_scale(written) if target.subresource == "scale" else written)

    async def delete(self, target: Target, options: bytes = b"") -> bytes:
        self._called("delete", target)
        self.deletes.append(options)
        found = copy.deepcopy(self._found(target))
        if self.graceful:
            found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z"
            return msgspec.json.encode(self._write(_key(target), found))
        self.remove(target.resource.group_resource, target.name, target.namespace)
        return msgspec.json.encode(found)

    async def batch(self, writes: Sequence[Write]) -> builtins.list[bytes | ApiError]:
        answers: list[bytes | ApiError] = []
        for write in writes:
            try:
                match write:
                    case Create(target, json):
                        answers.append(await self.create(target, json))
                    case Update(target, json):
                        answers.append(await self.update(target, json))
                    case Patch(target, content_type, change):
                        answers.append(await self.patch(target, content_type, change))
                    case Delete(target, options):
                        answers.append(await self.delete(target, options))
            except ApiError as error:
                answers.append(error)
        return answers

    async def watch(
        self, target: Target, selection: Selection = Selection(), resource_version: str = ""
    ) -> AsyncIterator[Sequence[RawEvent]]:
        self._called("watch", target)
        if resource_version and int(resource_version) < self.compacted:
            raise expired("the history is gone")
        seen = int(resource_version or self.revision)
        if not resource_version:
            present = [o for k, o in sorted(self.objects.items()) if _matches(k, o, target, selection)]
            for obj in present:
                yield [RawEvent("ADDED", msgspec.json.encode(obj), int(obj["metadata"]["resourceVersion"]))]
            yield [RawEvent("BOOKMARK", b"", seen)]
        while True:
            news = [entry for entry in self.history if entry[0] > seen]
            seen = self.revision
            for revision, type_, key, obj in news:
                if _matches(key, obj, target, selection):
                    yield [RawEvent(type_, msgspec.json.encode(obj), revision)]
            if not news:
                if not self.on_idle:
                    raise KeyboardInterrupt
                self.on_idle.pop(0)()

    # --- inside

    def _write(self, key: Key, data: Stored) -> Stored:
        self.revision += 1
        data = copy.deepcopy(data)
        data["metadata"]["resourceVersion"] = str(self.revision)
        self.history.append((self.revision, "MODIFIED" if key in self.objects else "ADDED", key, data))
        self.objects[key] = data
        return data

    def _found(self, target: Target) -> Stored:
        found = self.objects.get(_key(target))
        if found is None:
            raise not_found(target.resource.plural, target.resource.group, target.name)
        return found

    def _called(self, verb: str, target: Target) -> None:
        self.calls.append((verb, target.name))
        self.on_call(verb, target)


def _key(target: Target) -> Key:
    return (target.resource.group_resource, target.namespace, target.name)


def _scale(obj: Stored) -> Stored:
    metadata = {name: obj["metadata"][name] for name in ("name", "namespace", "resourceVersion")}
    spec = {"replicas": obj["spec"].get("replicas", 1)}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec}


def _matches(key: Key, obj: Stored, target: Target, selection: Selection) -> bool:
    if key[0] != target.resource.group_resource or target.namespace not in ("", key[1]):
        return False
    if selection.labels and not selectors.parse_labels(selection.labels).matches(obj["metadata"].get("labels", {})):
        return False
    if not selection.fields:
        return True
    return selectors.parse_fields(selection.fields, target.resource).matches(_fields(obj, target.resource))


def _fields(obj: Stored, resource: Resource) -> dict[str, str]:
    return dict(fields.selectable(msgspec.convert(obj, resource.type), resource))


class FakeConnection:
    """What `barque.client.remote.connect` would give."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.verbs: Any = cluster
        self.client = Client(self.verbs)
        self.pods = cluster.pods
        self.cluster = cluster.cluster
        self.master = "10.0.0.1:7443"

    async def ready(self) -> None: ...

    async def close(self) -> None: ...


def a_session(cluster: FakeCluster) -> Session:
    """A session whose profile says namespace `default` of that cluster."""

    def load(_: Path | None) -> Profile:
        return Profile(masters=["10.0.0.1:7443"], ca="", cert="", key="")

    return Session(clock=ImpatientClock(), load=load, connect=lambda _profile, _warn: FakeConnection(cluster))


def run(cluster: FakeCluster, *arguments: str, stdin: str | bytes | None = None) -> Result:
    """Run the command as a user would; `result.stdout`, `.stderr` and `.exit_code` say how it went."""
    return CliRunner().invoke(cli, list(arguments), obj=a_session(cluster), input=stdin, prog_name="barque")
