"""`Reader`: keeps the mirror equal to etcd, by one watch on the cluster's prefix.

`load` reads the whole state at one revision of etcd, as old a one as the history's bounds and etcd's own compaction
allow; `run` then follows every transaction from there on, so that the hub's history reaches back over a restart. A cut
watch goes on where it ended. Where etcd has forgotten what came next, or another state has taken the place of this one,
all is read anew and every watch of ours ends with `HistoryGoneError`.

`catch_up` is the linearisable read: it asks a quorum of etcd for the newest head, and waits until that one is here.
Every head comes by on the watch, so the wait ends whatever else is written to the same etcd.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import NamedTuple

import msgspec

from barque.client.clock import Clock
from barque.master.raft.errors import StoreStartError
from barque.master.raft.messages import MemberInfo
from barque.master.store.etcd import layout
from barque.master.store.etcd.client import CompactedError, EtcdAwayError, EtcdClient, EtcdError
from barque.master.store.etcd.layout import Head, Keys, Plan
from barque.master.store.etcd.mirror import Mirror, oldest_of
from barque.master.store.etcd.shared_ring import SharedRing
from barque.master.store.hub import Hub, HubSettings
from barque.master.store.keyring import KeyRing
from barque.master.store.port import Change, Key, Stored, StoreUnavailableError
from barque.proto import etcd_pb2 as pb

log = logging.getLogger(__name__)

# Of one page of a range: a few hundred KiB as a rule, and no more than a few hundred MiB with the largest objects.
_PAGE = 250
_RETRY_S = 0.1
_LONGEST_RETRY_S = 2.0
# A watch that is this long behind what etcd's quorum says is begun anew, at another endpoint.
_BEHIND_S = 1.0
_EVENTS_IN_A_TURN = 500


class _ReplacedError(Exception):
    """Another generation counts from etcd's revision `at` on."""

    def __init__(self, generation: str, at: int) -> None:
        self.generation = generation
        self.at = at


class EtcdDamagedError(StoreStartError):
    """What stands in etcd is not what a cluster of Barque has there."""


class _Found(NamedTuple):
    """The small keys at one revision of etcd."""

    revision: int
    head: pb.KeyValue | None
    ring: pb.KeyValue | None
    generation: pb.KeyValue | None
    leader: pb.KeyValue | None
    waiting: pb.KeyValue | None


class Reader:
    def __init__(self, client: EtcdClient, keys: Keys, shared: SharedRing, hub: Hub, clock: Clock) -> None:
        self.mirror = Mirror()
        self.head = Head(0, "", "", 0, 0, "")
        # etcd's revision of `head`, and the newest that has come by.
        self.head_at = 0
        self.seen_at = 0
        self.ring: KeyRing
        self.ring_value = b""
        # Who leads and who waits for its turn to write, as their keys say; the lease of the former.
        self.leader = ""
        self.leader_lease = 0
        self.members: dict[str, MemberInfo] = {}
        self.waiting = ""
        # Why etcd does not answer; "" while it does.
        self.fault = ""
        # A generation that this master itself is about to let count.
        self.turning_to = ""
        self.on_leader: Callable[[], None] = lambda: None
        self._client = client
        self._keys = keys
        self._shared = shared
        self._hub = hub
        self._clock = clock
        self._moved = asyncio.Event()
        self._asked: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._dying: asyncio.Task[None] | None = None

    async def find(self) -> _Found:
        """The small keys, linearisable."""
        keys = self._keys
        names = (keys.head, keys.ring, keys.generation, keys.leader, keys.waiting)
        reply = await self._client.txn(pb.TxnRequest(success=[layout.read(name) for name in names]))
        values = [next(iter(response.response_range.kvs), None) for response in reply.responses]
        return _Found(reply.header.revision, *values)

    async def load(self, bounds: HubSettings | None) -> None:
        """Read everything; with `bounds` as of some time ago, so that `run` fills the history on its way.

        Raises `StoreStartError` and `EtcdError`.
        """
        while True:
            found = await self.find()
            if found.head is None or found.ring is None or found.generation is None:
                raise EtcdDamagedError(f"etcd has no whole cluster under {self._keys.root.decode()}: keys are missing")
            try:
                start = await self._start(found, bounds) if bounds else found.revision
                await self._load_at(start, found)
                return
            except CompactedError:  # Between two pages; what is kept now reaches back less far.
                log.info("etcd has compacted its history while it was read: reading it anew")

    async def run(self) -> None:
        """Follow etcd until cancelled; raises what must stop the store."""
        retry_s = _RETRY_S
        while True:
            try:
                self._watching = asyncio.create_task(self._follow(), name="etcd-watch")
                try:
                    await asyncio.wait([self._watching])
                finally:
                    self._watching.cancel()
                if not self._watching.cancelled():
                    self._watching.result()
                continue  # `_hurry` has ended it: at once to the next endpoint.
            except _ReplacedError as e:
                if not await self._is_own(e):
                    await self._reload("another state has been restored")
            except CompactedError as e:
                await self._reload(str(e))
            except EtcdAwayError as e:
                # A watch that stood has cleared the fault.
                retry_s = min(_LONGEST_RETRY_S, retry_s * 2) if self.fault else _RETRY_S
                # What no endpoint answers says more than where a watch has ended.
                self.fault = self.fault or str(e)
                log.warning("%s; it goes on at the next endpoint", e)
                await self._clock.sleep(retry_s)

    async def catch_up(self) -> None:
        """Until all that was acknowledged before this call is here. Raises `EtcdError`, `StoreUnavailableError`.

        Callers of one moment share one question to etcd; it is asked after the last of them has called.
        """
        if self._asked is None or self._asked.done():
            asked = self._asked = _task(self._ask())
        else:
            # The one under way may have been answered before this call.
            if self._next is None or self._next.done():
                self._next = _task(self._ask_after(self._asked))
            asked = self._next
        await asyncio.shield(asked)

    async def reached(self, head_at: int) -> None:
        """Until the head of this revision of etcd is here. Raises `StoreUnavailableError`."""
        hurried = 0
        while self.head_at < head_at:
            if not await self.moves(_BEHIND_S):
                hurried += 1
                if hurried > 3:
                    raise StoreUnavailableError(
                        f"etcd's watch is behind: its revision {head_at} is not here yet, the newest is {self.head_at}"
                    )
                if self._watching is not None:
                    self._client.turn()
                    self._watching.cancel()

    async def moves(self, seconds: float) -> bool:
        """Wait for the next head that comes; whether one has."""
        moved = self._moved
        try:
            async with asyncio.timeout(seconds):
                await moved.wait()
        except TimeoutError:
            return False
        return True

    def absorb(self, plan: Plan, at: int) -> None:
        """Our own transaction has become etcd's revision `at`; the watch may have brought it already."""
        if at > self.head_at:
            if plan.ring is not None:
                self.ring, self.ring_value = plan.ring
            if plan.mirror is not None:
                self._replace(plan.mirror)
            self._absorb(plan.head, self.mirror.absorb(plan.batch), at)

    async def pages(
        self, start: bytes, end: bytes, revision: int = 0, *, keys_only: bool = False
    ) -> AsyncIterator[list[pb.KeyValue]]:
        """The keys of a range, some at a time."""
        while True:
            reply = await self._client.range(
                pb.RangeRequest(key=start, range_end=end, revision=revision, limit=_PAGE, keys_only=keys_only)
            )
            yield list(reply.kvs)
            if not reply.more:
                return
            start = reply.kvs[-1].key + b"\0"

    def stop(self) -> list[asyncio.Task[None]]:
        """End what is under way; the tasks that end."""
        tasks = [
            task
            for task in (self._asked, self._next, self._watching, self._dying)
            if task is not None and not task.done()
        ]
        for task in tasks:
            task.cancel()
        return tasks

    async def _ask(self) -> None:
        seen_at = self.seen_at
        try:
            reply = await self._client.range(pb.RangeRequest(key=self._keys.head, keys_only=True))
        except EtcdError as e:
            self.fault = str(e)
            raise
        newest = reply.kvs[0].mod_revision if reply.kvs else 0
        if reply.header.revision < seen_at:
            raise EtcdDamagedError(
                f"etcd went back from its revision {seen_at} to {reply.header.revision}: start this master anew"
            )
        await self.reached(newest)
        self.fault = ""

    async def _ask_after(self, earlier: asyncio.Task[None]) -> None:
        await asyncio.wait([earlier])
        self._asked, self._next = self._next, None
        await self._ask()

    async def _start(self, found: _Found, bounds: HubSettings) -> int:
        """The oldest revision of etcd from which the history can be filled."""
        changes = size = 0
        start = found.revision
        slots = [slot async for page in self._slots(found.revision) for slot in page]
        slots.sort(key=lambda slot: slot[0], reverse=True)
        for at, results in slots:
            start = at - 1
            changes += results.changes
            size += results.size
            if changes > bounds.history_changes or size > bounds.history_bytes:
                break
        assert found.ring is not None
        assert found.generation is not None
        # Older states are sealed with keys that are forgotten, or of before a restore.
        return max(start, found.ring.mod_revision, found.generation.mod_revision, await self._compacted())

    async def _slots(self, revision: int) -> AsyncIterator[list[tuple[int, layout.Results]]]:
        async for page in self.pages(self._keys.results, layout.after(self._keys.results), revision):
            yield [(kv.mod_revision, layout.decode_results(kv.value)) for kv in page]

    async def _compacted(self) -> int:
        """The oldest revision that etcd still knows."""
        watch = self._client.watch(self._keys.head, b"", 1)
        try:
            async for response in watch:
                if response.events:
                    break
        except CompactedError as e:
            return e.revision
        finally:
            await watch.aclose()  # type: ignore[attr-defined]
        return 0

    async def _load_at(self, revision: int, found: _Found) -> None:
        """The state as of etcd's `revision`, into a new mirror."""
        assert found.ring is not None
        keys, mirror = self._keys, Mirror()
        value = found.ring.value
        ring = await asyncio.get_running_loop().run_in_executor(None, self._shared.open, value)
        (kv,) = (await self._client.range(pb.RangeRequest(key=keys.head, revision=revision))).kvs
        head = layout.decode_head(kv.value, keys.head.decode())
        state = keys.state(head.generation)
        async for page in self.pages(state, layout.after(state), revision):
            _load_rows(mirror, (layout.decode_row(row.value, ring) for row in page))
            await asyncio.sleep(0)
        slots = [results async for page in self._slots(revision) for _, results in page]
        slots.sort(key=lambda results: results.number)
        for results in slots:
            mirror.keep_results(results.of_boots)
        if len(slots) == layout.SLOTS:
            mirror.forget_results_before(oldest_of(results.of_boots for results in slots))
        mirror.revision = head.revision
        members = [
            kv async for page in self.pages(keys.members, layout.after(keys.members), found.revision) for kv in page
        ]
        # From here on without a pause: whoever reads sees the one state or the other.
        self.mirror, self.head, self.ring, self.ring_value = mirror, head, ring, value
        self.head_at, self.seen_at = kv.mod_revision, revision
        self._take_leader(found.leader)
        self.members.clear()
        for member in members:
            self._take_member(member.key, member)
        self.waiting = found.waiting.value.decode() if found.waiting else ""

    async def _is_own(self, replaced: _ReplacedError) -> bool:
        """Whether the new state came from here, and stands already: the answer may be a moment behind the watch."""
        if self.turning_to == replaced.generation and self.head_at < replaced.at:
            await self.moves(_BEHIND_S)
        return self.head_at >= replaced.at

    async def _reload(self, why: str) -> None:
        log.warning("the state is read anew from etcd, and every watch begins anew: %s", why)
        retry_s = _RETRY_S
        dying = self.mirror
        while True:
            try:
                await self.load(None)
                break
            except EtcdAwayError as e:
                self.fault = str(e)
                await self._clock.sleep(retry_s)
                retry_s = min(_LONGEST_RETRY_S, retry_s * 2)
        self._hub.restart(self.mirror.revision)
        self._move()
        self._let_go(dying)

    def _replace(self, mirror: Mirror) -> None:
        dying, self.mirror = self.mirror, mirror
        self._hub.restart(mirror.revision)
        self._let_go(dying)

    def _let_go(self, dying: Mirror) -> None:
        """Letting go of all objects at once would hold the loop."""
        chunks = list(dying.view().objects.chunks)

        async def go() -> None:
            while chunks:
                chunks.pop()
                await asyncio.sleep(0)

        self._dying = _task(go())

    async def _follow(self) -> None:
        """One watch, until it ends. An event of a transaction never comes without the others of it."""
        parts: list[pb.Event] = []
        watch = self._client.watch(self._keys.root, self._keys.end, self.seen_at + 1)
        try:
            async for response in watch:
                self.fault = ""
                parts += response.events
                if response.fragment:
                    continue
                await self._take(parts)
                parts = []
        finally:
            await watch.aclose()  # type: ignore[attr-defined]

    async def _take(self, events: list[pb.Event]) -> None:
        """Apply transactions in order, some at a time."""
        start = waited = 0
        for end in range(1, len(events) + 1):
            if end < len(events) and events[end].kv.mod_revision == events[start].kv.mod_revision:
                continue
            self._apply(events[start].kv.mod_revision, events[start:end])
            waited += end - start
            start = end
            if waited > _EVENTS_IN_A_TURN:
                waited = 0
                await asyncio.sleep(0)

    def _apply(self, at: int, events: list[pb.Event]) -> None:
        """One transaction of whoever it was."""
        if at <= self.seen_at:
            return
        keys, kvs = self._keys, {event.kv.key: event for event in events}
        if at > self.head_at and keys.head in kvs:
            self._apply_head(at, kvs)
        if keys.leader in kvs:
            event = kvs[keys.leader]
            self._take_leader(event.kv if event.type == pb.Event.PUT else None)
        for key, event in kvs.items():
            if key.startswith(keys.members):
                self._take_member(key, event.kv if event.type == pb.Event.PUT else None)
        if keys.waiting in kvs:
            self.waiting = kvs[keys.waiting].kv.value.decode()
        self.seen_at = at

    def _apply_head(self, at: int, kvs: dict[bytes, pb.Event]) -> None:
        keys = self._keys
        event = kvs[keys.head]
        if event.type == pb.Event.DELETE:
            raise EtcdDamagedError(f"somebody has removed {keys.head.decode()} from etcd")
        head = layout.decode_head(event.kv.value, keys.head.decode())
        if head.generation != self.head.generation:
            raise _ReplacedError(head.generation, at)
        if keys.ring in kvs:
            self.ring_value = kvs[keys.ring].kv.value
            self.ring = self._shared.open(self.ring_value)
        state = keys.state(head.generation)
        rows = [e.kv.value for key, e in kvs.items() if key.startswith(state) and e.type == pb.Event.PUT]
        batch = layout.read_batch(head, rows, self.ring, self.mirror.revision)
        self._absorb(head, self.mirror.absorb(batch), at)

    def _absorb(self, head: Head, changes: list[Change], at: int) -> None:
        self.head, self.head_at = head, at
        if changes:
            self._hub.publish(changes, self.mirror.revision)
        self._move()

    def _take_leader(self, kv: pb.KeyValue | None) -> None:
        self.leader, self.leader_lease = (kv.value.decode(), kv.lease) if kv else ("", 0)
        self.on_leader()

    def _take_member(self, key: bytes, kv: pb.KeyValue | None) -> None:
        member = key[len(self._keys.members) :].decode()
        if kv is None:
            self.members.pop(member, None)
        else:
            self.members[member] = msgspec.msgpack.decode(kv.value, type=MemberInfo)

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def _task(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Its failure is for those who wait for it; there may be none left."""
    task = asyncio.create_task(work, name="etcd-read")
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return task


def _load_rows(mirror: Mirror, rows: Iterable[layout.Row]) -> None:
    objects: list[Stored] = []
    reserved: list[tuple[str, Key]] = []
    for row in rows:
        objects.append(row.stored)
        reserved += [(reservation, row.stored.key) for reservation in row.held]
    mirror.load_objects(objects)
    mirror.load_reserved(reserved)
