"""Clients: what they ask of the masters, what they are told, and whether their watches miss anything.

A client asks some master, one thing at a time, and writes down when it asked, when it was told, and what. `Unknown`, a
broken connection and no answer in time leave an outcome open; `StoreUnavailableError` and a refused connection promise
that nothing was done. Some send an op of unknown outcome again, under its name, to another master: it must not take
effect twice. The whole history is judged at the end (`linearizability`).

A watcher resumes where its watch was cut, on another master; each event is compared with the changes of the world.
"""

from __future__ import annotations

import asyncio
import bisect
import math
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

from barque.master.store.engine_raft import EngineRaft
from barque.master.store.port import (
    Absent,
    Batch,
    Committed,
    Compare,
    FutureRevisionError,
    HistoryGoneError,
    Key,
    Listing,
    Op,
    Refused,
    Result,
    RevisionIs,
    SlowWatcherError,
    Stored,
    StoreUnavailableError,
    Unknown,
)
from tests.simulation.harness.fleet import CutOffError, DownError, Fleet, Master
from tests.simulation.harness.linearizability import Call, Kind
from tests.simulation.harness.objects import KEYS, RESOURCES, delete, put, write_of
from tests.simulation.harness.world import Object, State, World

_OPEN = (CutOffError, TimeoutError)
_NOT_DONE = (StoreUnavailableError, DownError)


class Clients:
    def __init__(self, fleet: Fleet, world: World, choice: random.Random) -> None:
        self.history: list[Call] = []
        self.acknowledged = 0
        self.asking = True
        self.events = 0
        self._fleet = fleet
        self._world = world
        self._choice = choice
        self._writes = 0
        self._sequence = 0
        self._loop = fleet.loop

    def some(self, masters: Sequence[Master] | None = None) -> Master:
        """A master to ask: mostly one that answers."""
        serving = self._fleet.serving()
        return self._choice.choice(serving if serving and self._choice.random() < 0.95 else self._fleet.masters)

    async def work(self, name: str, pause_s: float) -> None:
        """One client, until `asking` ends. Each has its own habits."""
        choice = self._choice
        resends, patience_s = choice.random() < 0.5, choice.choice((0.5, 2.0, 7.0, 12.0))
        known: dict[Key, int] = {}
        while self.asking:
            await asyncio.sleep(choice.expovariate(1 / pause_s))
            key, what = choice.choice(KEYS), choice.random()
            if what < 0.25:
                await self.read(name, key, known, patience_s)
            elif what < 0.33:
                await self._list(name, known, patience_s)
            else:
                await self._write(name, key, what, known, patience_s, resends)

    async def read(
        self, name: str, key: Key, known: dict[Key, int], patience_s: float, at: Master | None = None
    ) -> bool:
        """A linearisable read of one object; whether it was answered."""

        async def ask(engine: EngineRaft) -> Stored | None:
            await engine.barrier()
            return engine.get(key)

        began = self._loop.time()
        try:
            stored = await (at or self.some()).call(ask, patience_s)
        except (*_OPEN, *_NOT_DONE):
            return False
        self._saw(name, key, began, stored, known)
        return True

    async def _list(self, name: str, known: dict[Key, int], patience_s: float) -> None:
        """All of a resource at one revision, which must be what the world had then."""
        resource = self._choice.choice(RESOURCES)

        async def ask(engine: EngineRaft) -> Listing:
            await engine.barrier()
            listing = engine.list(resource)
            return Listing(list(listing.items), listing.revision)

        began = self._loop.time()
        try:
            listing = await self.some().call(ask, patience_s)
        except (*_OPEN, *_NOT_DONE):
            return
        found = {stored.key: Object(stored.revision, stored.json) for stored in listing.items}
        expected = {k: v for k, v in self._world.state_at(listing.revision).items() if k.resource == resource}
        if found != expected:
            self._world.breaks(f"a list at revision {listing.revision} shows {found}, there were {expected}")
        stored = {stored.key: stored for stored in listing.items}
        for key in KEYS:
            if key.resource == resource:
                self._saw(name, key, began, stored.get(key), known)

    def _saw(self, name: str, key: Key, began: float, stored: Stored | None, known: dict[Key, int]) -> None:
        known[key] = 0 if stored is None else stored.revision
        saw = 0 if stored is None else write_of(stored.json)
        self.history.append(Call(name, str(key), Kind.READ, began, self._loop.time(), saw=saw))

    async def write_at(self, master: Master) -> None:
        """A large write through this master, while it can."""
        key = self._choice.choice(KEYS)
        self._writes += 1
        op, began = put(key, self._writes, filler=900), self._loop.time()
        results: Sequence[Result] | None = None
        try:
            results = await master.call(lambda engine: engine.commit([op]), 7.0)
        except _NOT_DONE:
            return
        except _OPEN:
            pass
        self._told("late", op, Kind.WRITE, began, results[0] if results else None, {})

    async def _write(
        self, name: str, key: Key, what: float, known: dict[Key, int], patience_s: float, resends: bool
    ) -> None:
        """A write of one of five kinds; seldom several at once, each atomic alone."""
        ops, kinds = [], []
        for at in [key] if self._choice.random() < 0.9 else self._choice.sample(KEYS, 3):
            self._sequence += 1
            op, kind = self._op(at, what, known, ("clients", self._sequence) if resends else ("", 0))
            ops.append(op)
            kinds.append(kind)
        began = self._loop.time()
        tries = self._choice.randint(1, 3) if resends else 1
        results: Sequence[Result] | None = None
        tried = False
        for _ in range(tries):
            try:
                results = await self.some().call(lambda engine: engine.commit(ops), patience_s)
            except _NOT_DONE:
                continue
            except _OPEN:
                tried = True
                continue
            tried = tried or any(isinstance(result, Unknown) for result in results)
            if not any(isinstance(result, Unknown) for result in results):
                break
        if results is None and not tried:
            return
        for op, kind, result in zip(ops, kinds, results or [None] * len(ops), strict=True):
            self._told(name, op, kind, began, result, known)

    def _op(self, key: Key, what: float, known: dict[Key, int], name: tuple[str, int]) -> tuple[Op, Kind]:
        """An op, and what it is to the checker. The ids of writes rise."""
        self._writes += 1
        write, revision = self._writes, known.get(key, 0)
        filler = self._choice.choice((0, 0, 100, 900))
        compares: tuple[Compare, ...] = ()
        if what < 0.6:
            compares = (RevisionIs(key, revision) if revision else Absent(key),)
            return put(key, write, *compares, name=name, filler=filler), Kind.SWAP
        if what < 0.82:
            return put(key, write, name=name, filler=filler), Kind.WRITE
        if what < 0.91 and revision:
            return delete(key, RevisionIs(key, revision), name=name), Kind.REMOVE
        return delete(key, name=name), Kind.DELETE

    def _told(self, name: str, op: Op, kind: Kind, began: float, result: Result | None, known: dict[Key, int]) -> None:
        """Write down what a write was answered; None for no answer."""
        world = self._world
        ended = self._loop.time()
        value = write_of(op.json + b"") if op.json else 0
        compare = op.compares[0] if op.compares else None
        expected = (world.committed_by(compare.revision) or 0) if isinstance(compare, RevisionIs) else 0
        ok: bool | None
        saw: int | bool | None = None
        if isinstance(result, Committed):
            ok = True
            self.acknowledged += 1
            known[op.key] = result.revision if op.json else 0
            if kind is Kind.DELETE:
                saw = result.changed
            elif op.json and world.committed_by(result.revision) != value:
                world.breaks(f"write {value} was acknowledged at revision {result.revision}, where another stands")
        elif isinstance(result, Refused):
            ok = False
            saw = world.committed_by(result.revision)
            known[op.key] = result.revision
            if compare is None:
                world.breaks(f"{kind} was refused: {result}")
        else:
            ok, ended = None, math.inf
        self.history.append(Call(name, str(op.key), kind, began, ended, value, expected, ok, saw))

    def restored(self, name: str, began: float, state: State, *, known: bool) -> None:
        """A restore is a write, or a delete, of each object."""
        ended = self._loop.time() if known else math.inf
        for key in KEYS:
            value = write_of(state[key].json) if key in state else 0
            kind = Kind.WRITE if value else Kind.DELETE
            self.history.append(Call(name, str(key), kind, began, ended, value, ok=True if known else None))

    async def watch(self, name: str) -> None:
        """One watcher, until it is cancelled: lists, watches, resumes."""
        resource = self._choice.choice(RESOURCES[:1] * 3 + RESOURCES[1:])
        at: Watcher | None = None
        while True:
            master = self.some()
            try:
                if at is None:
                    revision = await master.call(_newest, 5.0)
                    at = Watcher(self._world, resource, revision, name)
                    self._world.watchers[name] = at
                await self._follow(master, at)
            except HistoryGoneError:
                at = None
                self._world.fired["watch gone"] += 1
            except (SlowWatcherError, FutureRevisionError, *_OPEN, *_NOT_DONE):
                self._world.fired["watch resumed"] += 1
            await asyncio.sleep(self._choice.uniform(0.01, 0.5))

    async def _follow(self, master: Master, at: Watcher) -> None:
        """Read one watch until it ends, or we have had enough of it."""
        until = self._loop.time() + self._choice.expovariate(1 / 8)

        session = at.session = object()

        async def ask(engine: EngineRaft) -> None:
            watch: AsyncIterator[Batch] = engine.watch(at.resource, at.revision)
            try:
                async for batch in watch:
                    if at.session is not session:
                        break
                    self.events += len(batch)
                    for event in batch:
                        at.take(event)
            finally:
                aclose: Any = getattr(watch, "aclose", None)
                await aclose()

        await master.call(ask, max(0.01, until - self._loop.time()))


async def _newest(engine: EngineRaft) -> int:
    return engine.list(RESOURCES[0]).revision


class Watcher:
    """Where a watch is, and what must come next."""

    def __init__(self, world: World, resource: str, revision: int, name: str) -> None:
        self.resource = resource
        self.revision = revision
        # Who reads now; a watch that was not told of its client's end goes unread.
        self.session = object()
        self._world = world
        self._name = name

    def due(self) -> int:
        """The revision of the next change of the resource; 0 where there is none yet."""
        revisions = self._world.revisions.get(self.resource, [])
        at = bisect.bisect_right(revisions, self.revision)
        return revisions[at] if at < len(revisions) else 0

    def take(self, event: Any) -> None:
        """Compare an event with what must come."""
        world, due = self._world, self.due()
        if any(self.revision < restored <= event.revision for restored in world.restored):
            world.breaks(f"{self._name}: a watch went on over a restore, from {self.revision} to {event.revision}")
        if event.type == "BOOKMARK":
            if due and due <= event.revision:
                world.breaks(f"{self._name}: a bookmark at {event.revision}, and revision {due} never came")
        else:
            if event.revision != due:
                world.breaks(f"{self._name}: after {self.revision} came {event.revision}, revision {due} was due")
            change = world.changes[due]
            if change.after is None:
                kind, write = "DELETED", write_of(change.before.json) if change.before else 0
            else:
                kind, write = "MODIFIED" if change.before else "ADDED", write_of(change.after.json)
            if (event.type, write_of(event.json)) != (kind, write):
                world.breaks(f"{self._name}: revision {due} came as {event}, it is {kind} of write {write}")
        self.revision = max(self.revision, event.revision)
