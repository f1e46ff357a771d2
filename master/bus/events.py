"""Event records in a JetStream stream: the `Backend` of kind Event.

Every write is one message; its sequence is the object's revision; the stream itself decides compares (expected last
sequence of the object's subject), so any master may write. Every master serves reads from a cache that follows the
stream: a write made through this master is read back at once, one made through another a moment later.

An Event lives one hour from its last write. Its end is a written deletion, so that watches see it in order; the
stream's own age limit, a little later, only clears up. A stream made anew starts above every revision given out before,
so that whoever asks for an older one gets 410 and lists again.

While the bus is away reads serve the cache, and writes are refused at once with 503: the recorders keep theirs,
bounded, and count what they drop. Nothing else of the control plane notices.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence

import msgspec
from nats.js import api
from nats.js.errors import APIError

from barque.api.errors import expired, too_large_revision, unavailable
from barque.client.clock import Clock
from barque.master.bus.cache import EventCache, Record, watched
from barque.master.bus.link import BusAwayError, Link, Session
from barque.master.bus.subjects import EVENT_STREAM, event_subject, event_subjects
from barque.master.store.port import (
    Absent,
    Committed,
    Filter,
    Key,
    Listing,
    Op,
    Refused,
    Result,
    RevisionIs,
    Stored,
    Unknown,
    Watched,
)

log = logging.getLogger(__name__)

LIFE_S = 3600.0
# The stream keeps deletions and what they delete a little longer than an Event lives.
STREAM_AGE_S = 2 * LIFE_S
STREAM_BYTES = 128 * 1024 * 1024
SWEEP_S = 10.0
SWEEP_AT_MOST = 500
BOOKMARK_S = 45.0
FUTURE_S = 3.0
WATCH_BATCH = 256
# Writes of one commit under way at once.
IN_FLIGHT = 64
_ATTEMPTS = 4
_WRONG_LAST_SEQUENCE = 10071
_PAUSE_S = 0.2


class EventBackend:
    """Implements `master.apiserver.backend.Backend`; `run()` keeps the cache."""

    guards = False

    def __init__(self, link: Link, cluster: str, clock: Clock) -> None:
        self._link = link
        self._cluster = cluster
        self._clock = clock
        self._cache = EventCache()
        self._changed = asyncio.Event()
        self._epoch = 0
        self._synced = False
        self._created: object = None
        self._bookmarks = 0

    @property
    def fault(self) -> str:
        """Why Events cannot be read or written, or ""."""
        return "" if self._synced else "the Event records have not been read yet"

    async def current(self) -> None:
        """What was written through another master comes a moment later, and is not waited for."""
        self._require_cache()

    async def get(self, key: Key) -> Stored | None:
        self._require_cache()
        entry = self._cache.get(key)
        return entry.stored() if entry is not None else None

    async def reach(self, revision: int) -> None:
        self._require_cache()
        if not await self._reached(revision, FUTURE_S):
            raise too_large_revision(revision, self._cache.revision)

    async def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        self._require_cache()
        if revision is None:
            return Listing(self._cache.select(selected), self._cache.revision)
        if revision < self._cache.horizon:
            raise expired(f"too old resource version: {revision} ({self._cache.horizon})")
        if revision > self._cache.revision:
            raise too_large_revision(revision, self._cache.revision)
        return Listing(self._cache.select_at(revision, selected), revision)

    async def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Sequence[Watched]]:
        self._require_cache()
        epoch, told = self._epoch, self._bookmarks
        await self.reach(since)
        while True:
            if epoch != self._epoch or since < self._cache.horizon:
                raise expired(f"too old resource version: {since} ({self._cache.horizon})")
            changes = self._cache.changes_after(since, WATCH_BATCH)
            batch = list(watched(changes, selected))
            since = changes[-1].revision if len(changes) == WATCH_BATCH else self._cache.revision
            if told != self._bookmarks:
                told = self._bookmarks
                batch.append(Watched("BOOKMARK", b"", since))
            if batch:
                yield batch
            elif since == self._cache.revision and epoch == self._epoch:
                await self._changed.wait()

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result]:
        session = self._link.session
        if session is None or not self._synced:
            raise unavailable(f"events cannot be written: the bus is away ({self._link.fault or self.fault})")
        results: list[Result] = []
        for group in _groups(ops):
            results += await asyncio.gather(*(self._write(session, op) for op in group))
        return results

    async def run(self) -> None:
        """Follow the stream, end what has had its time, send bookmarks; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="events: follow")
            group.create_task(self._sweep(), name="events: sweep")
            group.create_task(self._tick(), name="events: bookmarks")

    async def _write(self, session: Session, op: Op) -> Result:
        """One op: refused by what the cache knows, or published for the stream to decide."""
        record = Record("delete", op.key.namespace, op.key.name)
        if op.verb == "put":
            record = Record("put", op.key.namespace, op.key.name, op.slot, op.labels, op.fields, msgspec.Raw(op.json))
        payload, subject = msgspec.json.encode(record), event_subject(self._cluster, op.key)
        await self._reached(max((c.revision for c in op.compares if isinstance(c, RevisionIs)), default=0), FUTURE_S)
        known = self._revision_of(op.key)
        for _ in range(_ATTEMPTS):
            decided = self._decide(op)
            if decided is not None:
                return decided
            headers = {"Nats-Expected-Last-Subject-Sequence": str(known)} if op.compares else {}
            try:
                ack = await session.publish(subject, payload, headers)
            except BusAwayError as error:
                return Unknown(f"the bus went away while the event was written: {error}")
            except APIError as error:
                if error.err_code != _WRONG_LAST_SEQUENCE:
                    return Unknown(f"the bus does not take the event: {error.description}")
                known = _actual(error)
                if not await self._reached(known, FUTURE_S):
                    return Unknown("the bus is ahead of this master")
                continue
            await self._reached(ack.seq, FUTURE_S)
            return Committed(ack.seq)
        return Unknown("the event is being written by too many at once")

    def _decide(self, op: Op) -> Result | None:
        """What the cache alone can answer: a failed compare, or nothing to change."""
        entry = self._cache.get(op.key)
        revision = entry.revision if entry is not None else 0
        for number, compare in enumerate(op.compares):
            if compare.key != op.key:
                continue  # another object's state is the registry's to check: `guards` is False
            absent_fails = isinstance(compare, Absent) and entry is not None
            if absent_fails or (isinstance(compare, RevisionIs) and compare.revision != revision):
                return Refused(number, revision)
        if op.verb == "delete" and entry is None:
            return Committed(self._cache.revision, changed=False)
        if entry is not None and op.verb == "put":
            same = (entry.json, entry.labels, entry.fields) == (op.json, op.labels, op.fields)
            return Committed(revision, changed=False) if same else None
        return None

    def _revision_of(self, key: Key) -> int:
        entry = self._cache.get(key)
        return entry.revision if entry is not None else 0

    async def _follow(self) -> None:
        while True:
            session = await self._link.up()
            try:
                last = await self._open_stream(session)
                self._notify_if_synced(last)
                async for messages in session.follow(EVENT_STREAM, self._cache.revision):
                    for message in messages:
                        if not self._cache.take(message.sequence, message.at, message.data):
                            log.warning("event message %d cannot be read and is left out", message.sequence)
                    self._notify_if_synced(last)
            except (BusAwayError, APIError) as error:
                log.debug("events: %s", error)
                await self._clock.sleep(_PAUSE_S)

    async def _open_stream(self, session: Session) -> int:
        """See to the stream and to the cache's being of it; return the stream's last sequence."""
        wanted = api.StreamConfig(
            name=EVENT_STREAM,
            subjects=[event_subjects(self._cluster)],
            max_age=STREAM_AGE_S,
            max_bytes=STREAM_BYTES,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.OLD,
            num_replicas=1,
        )
        # Above all that an earlier stream gave out, even one that nobody remembers: milliseconds outrun its writes.
        first = max(int(self._clock.wall().timestamp() * 1000), self._cache.revision + 1_000_000)
        info = await session.ensure_stream(wanted, first)
        same = self._created == info.created and info.state.last_seq >= self._cache.revision
        if not same or info.state.first_seq > self._cache.revision + 1:
            if self._created is not None:
                log.warning("the stream of Event records was made anew or has lost its past: watches begin again")
            self._created = info.created
            self._cache.reset(info.state.first_seq - 1)
            self._epoch += 1
            self._synced = False
            self._notify()
        return info.state.last_seq

    def _notify_if_synced(self, last: int) -> None:
        # Half-read, the cache would show objects that have long been deleted.
        if self._synced or self._cache.revision >= last:
            self._synced = True
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _sweep(self) -> None:
        """Write the end of Events that have had their hour, or that stand above the bound of memory."""
        while True:
            await self._clock.sleep(SWEEP_S)
            session = self._link.session
            if session is None or not self._synced:
                continue
            deadline = self._clock.wall().timestamp() - LIFE_S
            overdue = self._cache.overdue(deadline, SWEEP_AT_MOST)
            ops = [Op("delete", entry.key, compares=(RevisionIs(entry.key, entry.revision),)) for entry in overdue]
            for group in _groups(ops):
                await asyncio.gather(*(self._write(session, op) for op in group))

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(BOOKMARK_S)
            self._bookmarks += 1
            self._notify()

    async def _reached(self, revision: int, within_s: float) -> bool:
        """Wait until the cache is at `revision`; False where that takes too long."""
        try:
            async with asyncio.timeout(within_s):
                while self._cache.revision < revision:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _require_cache(self) -> None:
        if not self._synced:
            raise unavailable(f"events cannot be read yet: the bus is away ({self._link.fault or self.fault})")


def _groups(ops: Sequence[Op]) -> list[list[Op]]:
    """Ops that may be written side by side: in order, bounded, and no object twice in one group."""
    groups: list[list[Op]] = []
    keys: set[Key] = set()
    for op in ops:
        if not groups or op.key in keys or len(groups[-1]) >= IN_FLIGHT:
            groups.append([])
            keys = set()
        groups[-1].append(op)
        keys.add(op.key)
    return groups


def _actual(error: APIError) -> int:
    """`wrong last sequence: 17`: the last sequence the stream has for the subject."""
    found = re.search(r"(\d+)\s*$", error.description or "")
    return int(found.group(1)) if found else 0
