"""The watch hub: every applied change to those who watch for it, in order and without a gap.

In: `publish` after each apply (never waits, costs O(interested watchers) per change), `reset` at start. Out: `watch`
and `changes`, which begin with the history after a revision and go on with what comes. A watcher belongs to one group
(its node, its object's name, its namespace, or the whole resource), and a change looks up only its own groups;
selectors are evaluated in the watcher's own task. What waits for one watcher is bounded; one that falls behind, or is
not read for half a minute, is cut off with `SlowWatcherError` and may resume from its last revision.

`run` is a task of the owner: without it there are no bookmarks.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from barque.client.clock import Clock
from barque.master.store.history import History
from barque.master.store.objects import NODE_FIELD
from barque.master.store.port import (
    Change,
    Filter,
    FutureRevisionError,
    HistoryGoneError,
    SlowWatcherError,
    Stored,
    Watched,
)

# How long a watch waits for a revision that this member has not reached (the port's promise).
FUTURE_WAIT_S = 3.0

# One slot of watchers gets a bookmark each second, so each watcher gets one every 30 s (the port promises a minute) and
# thousands of them are never woken at once.
_BOOKMARK_SLOTS = 30
_TICK_S = 1.0

# Events translated and handed over at once: about a millisecond of the loop.
_BATCH = 500
# DELETED bodies carry a revision written anew; the many watchers of one change share the bytes of these few.
_TOMBSTONES = 64
_TOMBSTONE_BYTES = 32 * 1024


class HubSettings(NamedTuple):
    """Bounds. `watcher_changes` is what may wait for one watcher before it is cut off."""

    history_changes: int = 65_536
    history_bytes: int = 24 * 1024 * 1024
    watcher_changes: int = 10_000


class _Watcher:
    """One watch: what waits for it, and how it is woken."""

    __slots__ = ("bookmark_due", "cut", "limit", "pending", "resource", "selected", "wakeup")

    def __init__(self, resource: str, selected: Filter, backlog: list[Change], limit: int) -> None:
        self.resource = resource
        self.selected = selected
        self.pending = deque(backlog)
        # A long backlog is in the history anyway; it must not get a watcher cut off before it has read it.
        self.limit = limit + len(backlog)
        self.bookmark_due = False
        self.cut: Exception | None = None
        self.wakeup: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.wakeup is not None and not self.wakeup.done():
            self.wakeup.set_result(None)

    async def wait(self) -> None:
        """Until there is something to take. Raises what cut the watcher off."""
        while not self.pending and not self.bookmark_due and self.cut is None:
            self.wakeup = asyncio.get_running_loop().create_future()
            try:
                await self.wakeup
            finally:
                self.wakeup = None
        if self.cut is not None:
            raise self.cut

    def take(self, limit: int) -> list[Change]:
        pending = self.pending
        if len(pending) > _BATCH:
            return [pending.popleft() for _ in range(_BATCH)]
        taken = list(pending)
        pending.clear()
        self.limit = limit
        return taken


_Group = dict[int, _Watcher]


class _Interest:
    """The watchers of one resource by group."""

    __slots__ = ("all", "names", "namespaces", "nodes")

    def __init__(self) -> None:
        self.all: _Group = {}
        self.nodes: dict[str, _Group] = {}
        self.names: dict[str, _Group] = {}
        self.namespaces: dict[str, _Group] = {}

    def of(self, change: Change) -> Iterator[_Watcher]:
        """Who may see the change: a superset, each watcher once."""
        yield from self.all.values()
        key = change.key
        if self.namespaces:
            yield from self.namespaces.get(key.namespace, _NOBODY).values()
        if self.names:
            yield from self.names.get(key.name, _NOBODY).values()
        if self.nodes:
            before, after = _node(change.before), _node(change.after)
            if after is not None:
                yield from self.nodes.get(after, _NOBODY).values()
            if before is not None and before != after:
                yield from self.nodes.get(before, _NOBODY).values()

    def add(self, number: int, watcher: _Watcher) -> None:
        groups, value = self._place(watcher.selected)
        if groups is None:
            self.all[number] = watcher
        else:
            groups.setdefault(value, {})[number] = watcher

    def remove(self, number: int, selected: Filter) -> None:
        groups, value = self._place(selected)
        if groups is None:
            self.all.pop(number, None)
        elif value in groups:
            groups[value].pop(number, None)
            if not groups[value]:
                del groups[value]

    @property
    def empty(self) -> bool:
        return not (self.all or self.nodes or self.names or self.namespaces)

    def _place(self, selected: Filter) -> tuple[dict[str, _Group] | None, str]:
        if selected.node is not None:
            return self.nodes, selected.node
        if selected.name:
            return self.names, selected.name
        if selected.namespace:
            return self.namespaces, selected.namespace
        return None, ""


_NOBODY: _Group = {}
_EVERYTHING = ""


class Hub:
    def __init__(self, clock: Clock, settings: HubSettings = HubSettings()) -> None:
        self.revision = 0
        self._clock = clock
        self._settings = settings
        self._history = History(max_changes=settings.history_changes, max_bytes=settings.history_bytes)
        self._interests: dict[str, _Interest] = {}
        self._numbers = itertools.count()
        self._slots: list[_Group] = [{} for _ in range(_BOOKMARK_SLOTS)]
        self._tick = 0
        self._closed: Exception | None = None
        # Futures of those who wait for a revision, nearest first.
        self._awaited: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tombstones: dict[int, bytes] = {}

    def reset(self, revision: int) -> None:
        """The state is that of a snapshot at `revision`; what was before is not known."""
        self._history.reset(revision)
        self.revision = revision

    def publish(self, changes: Sequence[Change], revision: int) -> None:
        """Hand over what an entry changed; `revision` is the store's after it."""
        append, interests = self._history.append, self._interests
        every = interests.get(_EVERYTHING)
        for change in changes:
            resource = change.key.resource
            append(change, resource)
            interest = interests.get(resource)
            if interest is not None:
                for watcher in interest.of(change):
                    self._push(watcher, change)
            if every is not None:
                for watcher in every.all.values():
                    self._push(watcher, change)
        self.revision = revision
        while self._awaited and self._awaited[0][0] <= revision:
            reached = heapq.heappop(self._awaited)[2]
            if not reached.done():
                reached.set_result(None)

    async def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[list[Watched]]:
        """As `Store.watch`."""
        await self.wait_for_revision(since)
        number, watcher = self._attach(resource, since, selected)
        try:
            while True:
                await watcher.wait()
                taken = watcher.take(self._settings.watcher_changes)
                events = [event for event in (self._event(change, selected) for change in taken) if event is not None]
                if watcher.bookmark_due:
                    watcher.bookmark_due = False
                    reached = taken[-1].revision if watcher.pending else self.revision
                    events.append(Watched("BOOKMARK", b"", reached))
                if events:
                    yield events
                else:
                    await asyncio.sleep(0)  # a long backlog of which nothing is selected must not hold the loop
        finally:
            self._detach(number, watcher)

    async def changes(self, since: int) -> AsyncIterator[list[Change]]:
        """As `Store.changes`; also cut off when too slow."""
        await self.wait_for_revision(since)
        number, watcher = self._attach(_EVERYTHING, since, Filter())
        try:
            while True:
                await watcher.wait()
                watcher.bookmark_due = False
                taken = watcher.take(self._settings.watcher_changes)
                if taken:
                    yield taken
        finally:
            self._detach(number, watcher)

    async def wait_for_revision(self, revision: int) -> None:
        """Until this member has applied `revision`. Raises `FutureRevisionError` after 3 s."""
        if self._closed is not None:
            raise self._closed
        if revision <= self.revision:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._awaited, (revision, next(self._numbers), reached))
        patience = asyncio.ensure_future(self._clock.sleep(FUTURE_WAIT_S))
        try:
            await asyncio.wait((reached, patience), return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
            if not reached.done():
                reached.cancel()
                self._awaited = [waiting for waiting in self._awaited if waiting[2] is not reached]
                heapq.heapify(self._awaited)
        if self._closed is not None:
            raise self._closed
        if revision > self.revision:
            raise FutureRevisionError(f"revision {revision} is not reached yet, the newest is {self.revision}")

    async def run(self) -> None:
        """Bookmarks, until cancelled."""
        while True:
            await self._clock.sleep(_TICK_S)
            self._tick += 1
            for watcher in list(self._slots[self._tick % _BOOKMARK_SLOTS].values()):
                if watcher.bookmark_due:
                    self._cut(watcher, SlowWatcherError("the watch was not read for half a minute"))
                else:
                    watcher.bookmark_due = True
                    watcher.wake()

    def close(self, why: Exception) -> None:
        """End every watch with `why`."""
        self._closed = why
        for slot in self._slots:
            for watcher in list(slot.values()):
                self._cut(watcher, why)
        for _, _, reached in self._awaited:
            if not reached.done():
                reached.set_result(None)
        self._awaited.clear()

    @property
    def watchers(self) -> int:
        """How many watches are served."""
        return sum(map(len, self._slots))

    def _attach(self, resource: str, since: int, selected: Filter) -> tuple[int, _Watcher]:
        if since < self._history.floor:
            raise HistoryGoneError(f"revision {since} is too old, the history begins after {self._history.floor}")
        backlog = self._history.since(since, resource)
        watcher = _Watcher(resource, selected, backlog, self._settings.watcher_changes)
        number = next(self._numbers)
        self._interests.setdefault(resource, _Interest()).add(number, watcher)
        self._slots[number % _BOOKMARK_SLOTS][number] = watcher
        return number, watcher

    def _detach(self, number: int, watcher: _Watcher) -> None:
        self._slots[number % _BOOKMARK_SLOTS].pop(number, None)
        interest = self._interests.get(watcher.resource)
        if interest is not None:
            interest.remove(number, watcher.selected)
            if interest.empty:
                del self._interests[watcher.resource]

    def _push(self, watcher: _Watcher, change: Change) -> None:
        if watcher.cut is not None:
            return
        pending = watcher.pending
        if len(pending) >= watcher.limit:
            self._cut(watcher, SlowWatcherError(f"the watch is more than {len(pending)} changes behind"))
            return
        pending.append(change)
        watcher.wake()

    def _cut(self, watcher: _Watcher, why: Exception) -> None:
        watcher.cut = why
        watcher.pending.clear()
        watcher.wake()

    def _event(self, change: Change, selected: Filter) -> Watched | None:
        """What the change is to this watcher; None where it sees neither the old state nor the new."""
        before, after = change.before, change.after
        saw = before is not None and _selects(selected, before)
        if after is not None and _selects(selected, after):
            return Watched("MODIFIED" if saw else "ADDED", after.json, change.revision)
        if not saw or before is None:
            return None
        return Watched("DELETED", self._tombstone(before, change.revision), change.revision)

    def _tombstone(self, before: Stored, revision: int) -> bytes:
        """The last state with `revision` in its slot."""
        found = self._tombstones.get(revision)
        if found is None:
            json, slot = before.json, before.slot
            found = b"%b%d%b" % (json[:slot], revision, json[slot + len(str(before.revision)) :])
            if len(self._tombstones) >= _TOMBSTONES:
                self._tombstones.clear()
            if len(found) <= _TOMBSTONE_BYTES:
                self._tombstones[revision] = found
        return found


def _selects(selected: Filter, stored: Stored) -> bool:
    key = stored.key
    return (
        selected.namespace in ("", key.namespace)
        and selected.name in ("", key.name)
        and (selected.node is None or selected.node == stored.fields.get(NODE_FIELD, ""))
        and (selected.matches is None or selected.matches(stored.labels, stored.fields))
    )


def _node(stored: Stored | None) -> str | None:
    return None if stored is None else stored.fields.get(NODE_FIELD, "")
