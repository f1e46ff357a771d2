"""The watch hub: every applied change to those who watch for it, in order and without a gap.

In: `publish` after each apply (never waits, costs O(interested watchers) per change), `reset` at start, `restart` after
a restore. Out: `watch` and `changes`, which begin with the history after a revision and go on with what comes, and
`subscribe`, of which both are made: it calls for whoever is to take, and keeps no task for it.

Watchers of one resource with equal filters share a `_Feed`. A feed belongs to one group (its node, its object's name,
its namespace, or the whole resource), and a change looks up only its own groups. What a publish has for a feed is one
`_Lot`, translated into events once, by the first watcher that takes it, in that watcher's own task: a selector never
runs on the way of a commit.

What waits for one watcher is bounded in changes and in bytes; one that falls behind, or is not read for half a minute,
is cut off with `SlowWatcherError` and may resume from its last revision. `run` is a task of the owner: without it there
are no bookmarks.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import NamedTuple

from barque.client.clock import Clock
from barque.master.store.history import History
from barque.master.store.objects import NODE_FIELD, selects
from barque.master.store.port import (
    Batch,
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

# Changes of the history translated and handed over at once: about a millisecond of the loop.
_BATCH = 500
# DELETED bodies carry a revision written anew; the feeds of one change share the bytes of these few.
_TOMBSTONES = 64
_TOMBSTONE_BYTES = 32 * 1024


class HubSettings(NamedTuple):
    """Bounds. `watcher_*` is what may wait for one watcher before it is cut off."""

    history_changes: int = 65_536
    history_bytes: int = 24 * 1024 * 1024
    watcher_changes: int = 10_000
    watcher_bytes: int = 32 * 1024 * 1024


class _Lot:
    """Changes for one feed, in order; `batch` once the first watcher has translated them."""

    __slots__ = ("batch", "bytes", "changes")

    def __init__(self, changes: list[Change]) -> None:
        self.changes = changes
        self.bytes = sum(map(_size, changes))
        self.batch: Batch | None = None


# What waits for nearly every watcher: an empty queue of its own would be three quarters of a KiB.
_NOTHING: deque[_Lot] = deque(maxlen=0)


class _Watcher:
    """One watch: what waits for it, and how it is woken."""

    __slots__ = (
        *("_hub", "_number", "_reached", "_waiting_bytes", "_waiting_changes"),
        *("bookmark_due", "cut", "feed", "on_news", "pending"),
    )

    def __init__(self, hub: Hub, number: int, feed: _Feed, backlog: list[Change], on_news: Callable[[], None]) -> None:
        self._hub = hub
        self._number = number
        self.feed = feed
        self.on_news = on_news
        # The last revision handed over, 0 where a bookmark has told it.
        self._reached = 0
        self.pending = _NOTHING
        if backlog:
            self.pending = deque(_Lot(backlog[at : at + _BATCH]) for at in range(0, len(backlog), _BATCH))
        # The backlog is in the history anyway; it does not count, lest a watcher be cut off before it has read it.
        self._waiting_changes = 0
        self._waiting_bytes = 0
        self.bookmark_due = False
        self.cut: Exception | None = None

    def push(self, lot: _Lot, settings: HubSettings) -> None:
        if self.cut is not None:
            return
        self._waiting_changes += len(lot.changes)
        self._waiting_bytes += lot.bytes
        if self._waiting_changes > settings.watcher_changes:
            self.end(SlowWatcherError(f"the watch is more than {settings.watcher_changes} changes behind"))
            return
        if self._waiting_bytes > settings.watcher_bytes:
            self.end(SlowWatcherError(f"the watch is more than {settings.watcher_bytes} bytes behind"))
            return
        if self.pending:
            self.pending.append(lot)
        else:
            self.pending = deque((lot,))
        self.on_news()

    def take(self) -> Batch | None:
        """As `Subscription.take`."""
        if self.cut is not None:
            raise self.cut
        if self.bookmark_due and (self._reached or not self.pending):
            self.bookmark_due = False
            newest = self._reached if self.pending else self._hub.revision
            self._reached = 0
            return Batch([Watched("BOOKMARK", b"", newest)])
        if not self.pending:
            return None
        lot = self.pop()
        if lot.batch is None:
            lot.batch = self._hub.translate(lot.changes, self.feed.selected)
        self._reached = lot.changes[-1].revision
        return lot.batch

    def close(self) -> None:
        self._hub.detach(self._number, self)

    def pop(self) -> _Lot:
        lot = self.pending.popleft()
        if self.pending:
            self._waiting_changes = max(0, self._waiting_changes - len(lot.changes))
            self._waiting_bytes = max(0, self._waiting_bytes - lot.bytes)
        else:
            self.pending = _NOTHING
            self._waiting_changes = self._waiting_bytes = 0
        return lot

    def end(self, why: Exception) -> None:
        self.cut = why
        self.pending = _NOTHING
        self.on_news()


class _Bell:
    """Wakes the one task that waits for it."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung: asyncio.Future[None] | None = None

    def ring(self) -> None:
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)

    def rung(self) -> asyncio.Future[None]:
        """The next time. No coroutine, which each watch would keep while it waits."""
        self._rung = asyncio.get_running_loop().create_future()
        return self._rung


class _Feed:
    """The watchers of one resource with one filter."""

    __slots__ = ("resource", "selected", "watchers")

    def __init__(self, resource: str, selected: Filter) -> None:
        self.resource = resource
        self.selected = selected
        self.watchers: dict[int, _Watcher] = {}


_Group = dict[Filter, _Feed]
_NOBODY: _Group = {}
_EVERYTHING = ""


class _Interest:
    """The feeds of one resource by group."""

    __slots__ = ("all", "names", "namespaces", "nodes")

    def __init__(self) -> None:
        self.all: _Group = {}
        self.nodes: dict[str, _Group] = {}
        self.names: dict[str, _Group] = {}
        self.namespaces: dict[str, _Group] = {}

    def of(self, change: Change) -> Iterator[_Feed]:
        """Who may see the change: a superset, each feed once."""
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

    def feed(self, resource: str, selected: Filter) -> _Feed:
        """The feed of this filter, made where there is none."""
        groups, value = self._place(selected)
        group = self.all if groups is None else groups.setdefault(value, {})
        feed = group.get(selected)
        if feed is None:
            feed = group[selected] = _Feed(resource, selected)
        return feed

    def forget(self, selected: Filter) -> None:
        groups, value = self._place(selected)
        group = self.all if groups is None else groups[value]
        del group[selected]
        if groups is not None and not group:
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


class Hub:
    def __init__(self, clock: Clock, settings: HubSettings = HubSettings()) -> None:
        self.revision = 0
        self._clock = clock
        self._settings = settings
        self._history = History(max_changes=settings.history_changes, max_bytes=settings.history_bytes)
        self._interests: dict[str, _Interest] = {}
        self._numbers = itertools.count()
        self._slots: list[dict[int, _Watcher]] = [{} for _ in range(_BOOKMARK_SLOTS)]
        self._tick = 0
        self._closed: Exception | None = None
        # Futures of those who wait for a revision, nearest first.
        self._awaited: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tombstones: dict[int, bytes] = {}
        # The revision of each resource's last change since the state began here, which was at `_began`.
        self._newest: dict[str, int] = {}
        self._began = 0

    def reset(self, revision: int) -> None:
        """The state is that of a snapshot at `revision`; what was before is not known."""
        self._history.reset(revision)
        self._newest.clear()
        self._began = revision
        self._reached(revision)

    def restart(self, revision: int, why: str = "the state was replaced by a restored one") -> None:
        """Another state has taken the place of the old one: every watch ends, and none resumes from before."""
        gone = HistoryGoneError(f"{why} at revision {revision}", revision)
        for watcher in self._all_watchers():
            watcher.end(gone)
        self._tombstones.clear()
        self.reset(revision)

    def publish(self, changes: Sequence[Change], revision: int) -> None:
        """Hand over what was changed; `revision` is the store's after it."""
        append, interests, newest = self._history.append, self._interests, self._newest
        every = interests.get(_EVERYTHING)
        news: dict[_Feed, list[Change]] = {}
        for change in changes:
            resource = change.key.resource
            append(change, resource)
            newest[resource] = change.revision
            interest = interests.get(resource)
            if interest is not None:
                for feed in interest.of(change):
                    news.setdefault(feed, []).append(change)
            if every is not None:
                for feed in every.all.values():
                    news.setdefault(feed, []).append(change)
        for feed, of_feed in news.items():
            lot = _Lot(of_feed)
            for watcher in feed.watchers.values():
                watcher.push(lot, self._settings)
        self._reached(revision)

    def newest(self, resources: Sequence[str]) -> int:
        """As `Store.newest`."""
        newest, began = self._newest, self._began
        return max([newest.get(resource, began) for resource in resources])

    def superseded(self, resource: str, revision: int) -> list[Stored]:
        """What stood of `resource` at `revision` and does no longer. Raises `HistoryGoneError` and
        `FutureRevisionError`.
        """
        self._check_floor(revision)
        if revision > self.revision:
            raise _future(revision, self.revision)
        return self._history.superseded(revision, resource)

    async def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Batch]:
        """As `Store.watch`."""
        await self.wait_for_revision(since)
        bell = _Bell()
        watcher = self.subscribe(resource, since, selected, bell.ring)
        try:
            while True:
                batch = watcher.take()
                if batch:
                    yield batch
                elif batch is None:
                    await bell.rung()
                else:
                    await asyncio.sleep(0)  # a long backlog of which nothing is selected must not hold the loop
        finally:
            watcher.close()

    def subscribe(self, resource: str, since: int, selected: Filter, on_news: Callable[[], None]) -> _Watcher:
        """As `Store.subscribe`."""
        if self._closed is not None:
            raise self._closed
        if since > self.revision:
            raise _future(since, self.revision)
        self._check_floor(since)
        backlog = self._history.since(since, resource)
        feed = self._interests.setdefault(resource, _Interest()).feed(resource, selected)
        number = next(self._numbers)
        watcher = _Watcher(self, number, feed, backlog, on_news)
        feed.watchers[number] = watcher
        self._slots[number % _BOOKMARK_SLOTS][number] = watcher
        return watcher

    async def changes(self, since: int) -> AsyncIterator[list[Change]]:
        """As `Store.changes`; also cut off when too slow."""
        await self.wait_for_revision(since)
        bell = _Bell()
        watcher = self.subscribe(_EVERYTHING, since, Filter(), bell.ring)
        try:
            while True:
                if watcher.cut is not None:
                    raise watcher.cut
                watcher.bookmark_due = False
                if watcher.pending:
                    yield watcher.pop().changes
                else:
                    await bell.rung()
        finally:
            watcher.close()

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
            raise _future(revision, self.revision)

    async def run(self) -> None:
        """Bookmarks, until cancelled."""
        while True:
            await self._clock.sleep(_TICK_S)
            self._tick += 1
            for watcher in list(self._slots[self._tick % _BOOKMARK_SLOTS].values()):
                if watcher.bookmark_due:
                    watcher.end(SlowWatcherError("the watch was not read for half a minute"))
                else:
                    watcher.bookmark_due = True
                    watcher.on_news()

    def close(self, why: Exception) -> None:
        """End every watch with `why`."""
        self._closed = why
        for watcher in self._all_watchers():
            watcher.end(why)
        for _, _, reached in self._awaited:
            if not reached.done():
                reached.set_result(None)
        self._awaited.clear()

    @property
    def watchers(self) -> int:
        """How many watches are served."""
        return sum(map(len, self._slots))

    def _all_watchers(self) -> list[_Watcher]:
        return [watcher for slot in self._slots for watcher in slot.values()]

    def _reached(self, revision: int) -> None:
        self.revision = revision
        while self._awaited and self._awaited[0][0] <= revision:
            reached = heapq.heappop(self._awaited)[2]
            if not reached.done():
                reached.set_result(None)

    def _check_floor(self, revision: int) -> None:
        if revision < self._history.floor:
            floor = self._history.floor
            raise HistoryGoneError(f"revision {revision} is too old, the history begins after {floor}", floor)

    def detach(self, number: int, watcher: _Watcher) -> None:
        self._slots[number % _BOOKMARK_SLOTS].pop(number, None)
        feed = watcher.feed
        if feed.watchers.pop(number, None) is None or feed.watchers:
            return
        interest = self._interests[feed.resource]
        interest.forget(feed.selected)
        if interest.empty:
            del self._interests[feed.resource]

    def translate(self, changes: list[Change], selected: Filter) -> Batch:
        return Batch(event for event in (self._event(change, selected) for change in changes) if event is not None)

    def _event(self, change: Change, selected: Filter) -> Watched | None:
        """What the change is to this filter; None where it selects neither the old state nor the new."""
        before, after = change.before, change.after
        saw = before is not None and selects(selected, before)
        if after is not None and selects(selected, after):
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


def _size(change: Change) -> int:
    stored = change.after or change.before
    return 0 if stored is None else len(stored.json)


def _node(stored: Stored | None) -> str | None:
    return None if stored is None else stored.other_fields.get(NODE_FIELD, "")


def _future(revision: int, newest: int) -> FutureRevisionError:
    return FutureRevisionError(f"revision {revision} is not reached yet, the newest is {newest}")
