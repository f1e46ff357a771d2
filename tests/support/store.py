"""Builders for store tests: `a_pod("web").on("n1").put()` is an op, and a watch's events as short words."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from barque.master.raft.disk import Disk
from barque.master.store.keyring import KeyRing, open_ring
from barque.master.store.port import Compare, Key, Op, Watched

_START = b'{"apiVersion":"v1","kind":"X","metadata":{"resourceVersion":"'


@dataclass(frozen=True)
class AnObject:
    key: Key
    labels: tuple[tuple[str, str], ...] = ()
    node: str = ""
    text: str = ""

    def on(self, node: str) -> AnObject:
        return replace(self, node=node)

    def labelled(self, **labels: str) -> AnObject:
        return replace(self, labels=tuple(labels.items()))

    def saying(self, text: str) -> AnObject:
        """Other content."""
        return replace(self, text=text)

    def sized(self, size: int) -> AnObject:
        return self.saying("x" * size)

    def put(
        self,
        *compares: Compare,
        reserve: Sequence[str] = (),
        release: Sequence[str] = (),
        boot_id: str = "",
        sequence: int = 0,
    ) -> Op:
        rest = {"name": self.key.name, "labels": dict(self.labels), "node": self.node, "text": self.text}
        json = _START + b'","rest":' + msgspec.json.encode(rest) + b"}}"
        fields = {"metadata.name": self.key.name, "metadata.namespace": self.key.namespace}
        if self.key.resource == "pods":
            fields["spec.nodeName"] = self.node
        return Op(
            "put", self.key, json, len(_START), dict(self.labels), fields, compares, tuple(reserve), tuple(release),
            boot_id, sequence,
        )  # fmt: skip

    def delete(self, *compares: Compare, boot_id: str = "", sequence: int = 0) -> Op:
        return Op("delete", self.key, compares=compares, boot_id=boot_id, sequence=sequence)

    def json_at(self, revision: int) -> bytes:
        op = self.put()
        return op.json[: op.slot] + str(revision).encode() + op.json[op.slot :]


def a_pod(name: str, namespace: str = "default") -> AnObject:
    return AnObject(Key("pods", namespace, name))


def a_service(name: str, namespace: str = "default") -> AnObject:
    return AnObject(Key("services", namespace, name))


def a_node(name: str) -> AnObject:
    return AnObject(Key("nodes", "", name))


def a_secret(name: str, namespace: str = "default") -> AnObject:
    return AnObject(Key("secrets", namespace, name))


def entropy(seed: int = 1) -> Callable[[int], bytes]:
    """Bytes that are the same in every run."""
    return random.Random(seed).randbytes


class NoDisk(Disk):
    """Keeps nothing: for a key ring that lives as long as its test."""

    def write_file(self, path: Path, data: bytes) -> None:
        pass


def a_ring_in_memory() -> KeyRing:
    ring = KeyRing(Path("memory"), NoDisk(), entropy(), None)
    ring.add_key("2026-01-01T00:00:00Z", settled=True)
    return ring


def a_ring(directory: Path, seed: int = 1) -> KeyRing:
    """A key ring with one key, kept in `directory`."""
    ring = open_ring(directory, Disk(), entropy(seed))
    if ring.empty:
        ring.add_key("2026-01-01T00:00:00Z", settled=True)
    return ring


def words(events: Sequence[Watched]) -> list[str]:
    """`ADDED web 3`: type, name and revision of each event, checked against the revision in the bytes."""
    said = []
    for event in events:
        if event.type == "BOOKMARK":
            assert event.json == b""
            said.append(f"BOOKMARK {event.revision}")
        else:
            metadata: dict[str, Any] = msgspec.json.decode(event.json)["metadata"]
            assert metadata["resourceVersion"] == str(event.revision)
            said.append(f"{event.type} {metadata['rest']['name']} {event.revision}")
    return said


def unpacked(file: Path) -> bytes:
    """The bytes of the file; of a snapshot, also what its frames hold when they are not compressed."""
    data = file.read_bytes()
    if file.suffix != ".snap":
        return data
    frames, offset = [data], 16
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], "little")
        frames.append(zlib.decompress(data[offset + 8 : offset + 8 + length]))
        offset += 8 + length
    return b"".join(frames)


class Reading:
    """Reads a watch in a task; `events` is what came so far, `failure` what ended it."""

    def __init__(self, watch: AsyncIterator[list[Any]]) -> None:
        self.events: list[Any] = []
        self.failure: Exception | None = None
        self._came = asyncio.Event()
        self._watch = watch
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for batch in self._watch:
                self.events += batch
                self._came.set()
        except Exception as e:
            self.failure = e
        finally:
            self._came.set()

    async def until(self, count: int) -> list[str]:
        """The first `count` events as words, once they are there (for real engines)."""
        while len(self.events) < count:
            if self.failure is not None:
                raise self.failure
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), 30)
        return words(self.events)

    async def ended(self) -> Exception | None:
        await asyncio.wait_for(asyncio.wait([self._task]), 30)
        return self.failure

    @property
    def said(self) -> list[str]:
        return words(self.events)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        aclose = getattr(self._watch, "aclose", None)
        assert aclose is not None
        await aclose()
