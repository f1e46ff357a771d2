"""`LogSingle`: the store of a cluster with one master, on its own log. The only file that differs from a Raft group.

A commit is encoded, waits with all others of its moment, is appended and synced with them in one go in a thread, then
applied on the loop, published to the hub and answered. While one group is being synced the group before it is applied
and the next one gathers. Reads see what is applied, thus durable.

A group costs much the same whatever its size, from the hand-over to the thread to the waking of every watcher. So where
several commits came together a moment ago, the next group waits for as many again, for some milliseconds at most: a
lone writer never waits, and many writers cost half as much each.

Files (see `segment`, `snapshot`, `keyring`, `directory`): everything a start needs is on the medium before a commit is
answered, so SIGKILL at any instruction loses nothing and `close` writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from barque.client.clock import Clock, timestamp
from barque.master.raft.disk import Disk
from barque.master.raft.wal import SEGMENT_BYTES, LogWriteError
from barque.master.store.directory import Directory, open_directory
from barque.master.store.fsm import StateMachine
from barque.master.store.hub import Hub, HubSettings
from barque.master.store.keyring import KeyRing, open_ring
from barque.master.store.log_writer import Entry, LogWriter
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
    Stored,
    StoreFigures,
    StoreUnavailableError,
    Unknown,
)
from barque.master.store.records import encode_entry, holds_secrets
from barque.master.store.recovery import Recovered, recover
from barque.master.store.upkeep import Kept, Upkeep

log = logging.getLogger(__name__)

T = TypeVar("T")

# A commit of more ops is several entries; this many are applied in one turn of the loop, a few milliseconds.
_ENTRY_OPS = 256
# A sync that takes longer is named in the log: the disk, not Barque, is what a user waits for.
_SLOW_SYNC_S = 1.0
# The key ring's directory, beside the store's.
_KEYS = "keys"


class Settings(NamedTuple):
    """Bounds. `group_bytes`: what one append takes; `waiting_bytes`: what may wait for it; more is refused.

    `gather_commits` is how many commits a group waits for at most, and `gather_s` for how long.
    """

    segment_bytes: int = SEGMENT_BYTES
    snapshot_log_bytes: int = 24 * 1024 * 1024
    group_bytes: int = 4 * 1024 * 1024
    waiting_bytes: int = 64 * 1024 * 1024
    gather_commits: int = 24
    gather_s: float = 0.01
    hub: HubSettings = HubSettings()


class _Proposal:
    """One call of `commit`: its entries, and the results of those that are applied."""

    __slots__ = ("answer", "applied", "entries", "results", "size")

    def __init__(self, entries: list[Entry], size: int) -> None:
        self.entries = entries
        self.size = size
        # How many of the entries are applied.
        self.applied = 0
        self.results: list[Result] = []
        self.answer: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()

    def settle(self) -> None:
        if not self.answer.done():
            self.answer.set_result(self.results)

    def refuse(self, why: str) -> None:
        """Nothing of it was written, and nothing will be."""
        if not self.answer.done():
            self.answer.set_exception(StoreUnavailableError(why))

    def leave_open(self, why: str) -> None:
        """It may hold."""
        if not self.answer.done():
            self.answer.set_result([Unknown(why) for entry in self.entries for _ in entry.ops])


class LogSingle:
    """Implements `port.Store`, and `upkeep.Host`; made by `open_store`."""

    def __init__(
        self,
        directory: Directory,
        recovered: Recovered,
        ring: KeyRing,
        hub: Hub,
        clock: Clock,
        settings: Settings,
        disk: Disk,
    ) -> None:
        self.machine, self._wal, snapshots, unsaved_bytes = recovered
        self.applied_index = self._wal.last_index
        # Why the newest write was refused by the disk; "" once one succeeds.
        self.fault = ""
        self._directory = directory
        self._ring = ring
        self._hub = hub
        self._settings = settings
        self._waiting: deque[_Proposal] = deque()
        self._waiting_bytes = 0
        # How many commits the next group waits for, and the end of its patience once it waits.
        self._expected = 1
        self._patience: asyncio.TimerHandle | None = None
        # What the log's thread has in hand, and what it has written but is not applied yet.
        self._appending: list[_Proposal] = []
        self._durable: deque[_Proposal] = deque()
        # Set while neither has anything; `_pauses` keeps more from being handed over.
        self._idle = asyncio.Event()
        self._idle.set()
        self._pauses = 0
        self._stopping = ""
        self._writer = LogWriter(self._wal, ring, clock)
        kept = Kept(directory.path, disk, self._wal, ring, snapshots, unsaved_bytes)
        self._upkeep = Upkeep(self, kept, clock, settings.snapshot_log_bytes)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bookmarks = asyncio.create_task(hub.run(), name="store-bookmarks")
        self._bookmarks.add_done_callback(self._bookmarks_ended)

    @property
    def revision(self) -> int:
        return self.machine.revision

    @property
    def cluster_id(self) -> str:
        return self._directory.cluster_id

    @property
    def leads(self) -> bool:
        return True

    async def led(self, *, leads: bool) -> None:
        if not leads:
            await asyncio.shield(self._ended)

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result]:
        """As `Store.commit`. Raises `ValueError` for an op that breaks the port's contract."""
        if not ops:
            return []
        if self._stopping:
            raise StoreUnavailableError(self._stopping)
        entries: list[Entry] = []
        size = 0
        for start in range(0, len(ops), _ENTRY_OPS):
            payload, decoded = encode_entry(ops[start : start + _ENTRY_OPS])
            size += len(payload)
            entries.append(Entry(decoded, b"" if holds_secrets(decoded) else payload))
        if self._waiting and self._waiting_bytes + size > self._settings.waiting_bytes:
            raise StoreUnavailableError(f"{self._waiting_bytes} bytes already wait for the disk")
        proposal = _Proposal(entries, size)
        self._waiting.append(proposal)
        self._waiting_bytes += size
        if not self._appending and len(self._waiting) in (1, self._expected):
            # In the loop's next turn, with whatever else comes in this one.
            asyncio.get_running_loop().call_soon(self._gather)
        return await proposal.answer

    def get(self, key: Key) -> Stored | None:
        return self.machine.get(key)

    def reserved(self, prefix: str) -> dict[str, Key]:
        return self.machine.reserved(prefix)

    def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Batch]:
        return self._hub.watch(resource, since, selected)

    def changes(self, since: int) -> AsyncIterator[list[Change]]:
        return self._hub.changes(since)

    async def barrier(self) -> int:
        """Of one member: what was acknowledged is applied already."""
        return self.machine.revision

    async def wait_for_revision(self, revision: int) -> None:
        await self._hub.wait_for_revision(revision)

    def figures(self) -> StoreFigures:
        return StoreFigures(
            objects=len(self.machine),
            log_bytes=self._wal.size_bytes,
            snapshot_bytes=self._upkeep.snapshot_bytes,
            fsync_p50_ms=self._writer.percentile_ms(50),
            fsync_p99_ms=self._writer.percentile_ms(99),
            key_id=self._ring.key_id,
            key_created=self._ring.created,
        )

    def save_snapshot(self) -> AsyncIterator[bytes]:
        return self._upkeep.save()

    async def restore_snapshot(self, chunks: AsyncIterator[bytes]) -> Restored:
        return await self._upkeep.restore(chunks)

    async def rotate_key(self) -> KeyRotated:
        return await self._upkeep.rotate_key()

    async def run(self) -> None:
        """Wait until the store is closed; raises what broke it. For the daemon to supervise."""
        await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Answer what waits, end the watches, let go of the directory."""
        self._stopping = self._stopping or "the store is stopping"
        await self._upkeep.close(self._stopping)
        while self._waiting or not self._idle.is_set():
            self._hand_over()
            await self._idle.wait()
        self._bookmarks.cancel()
        await asyncio.wait([self._bookmarks])
        self._hub.close(StoreUnavailableError(self._stopping))
        self._writer.close()
        self._wal.close()
        self._directory.release()
        if not self._ended.done():
            self._ended.set_result(None)

    async def in_log(self, job: Callable[[], T]) -> T:
        return await self._writer.run(job)

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        self._pauses += 1
        try:
            await self._idle.wait()
            yield
        finally:
            self._pauses -= 1
            self._hand_over()

    def replace(self, machine: StateMachine, index: int) -> None:
        self.machine, self.applied_index = machine, index
        self._hub.restart(machine.revision)

    def failed(self, failure: BaseException) -> None:
        """A fault of ours that must not be worked around: the store stops."""
        log.critical("the store stops: %r", failure)
        self._stopping = f"the store has stopped: {failure!r}"
        for proposal in (*self._appending, *self._durable):
            proposal.leave_open(self._stopping)
        for proposal in self._waiting:
            proposal.refuse(self._stopping)
        self._waiting.clear()
        self._durable.clear()
        self._appending = []
        self._idle.set()
        self._hub.close(StoreUnavailableError(self._stopping))
        if not self._ended.done():
            self._ended.set_exception(failure)
            self._ended.exception()  # It is in the log already, should nobody await `run`.

    def _gather(self) -> None:
        """Hand over what waits once as many are there as came together a moment ago, or patience ends."""
        if len(self._waiting) >= self._expected:
            self._hand_over()
        elif self._waiting and self._patience is None:
            # The loop's own time: how long requests take to arrive is not for a test's clock to say.
            self._patience = asyncio.get_running_loop().call_later(self._settings.gather_s, self._hand_over)

    def _hand_over(self) -> None:
        """Give the log's thread what waits, unless it has work or must have none."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._appending or self._pauses or not self._waiting:
            return
        group: list[_Proposal] = []
        size = 0
        while self._waiting and (not group or size + self._waiting[0].size <= self._settings.group_bytes):
            proposal = self._waiting.popleft()
            size += proposal.size
            group.append(proposal)
        self._waiting_bytes -= size
        self._appending = group
        self._idle.clear()
        self._writer.append([entry for proposal in group for entry in proposal.entries], self._appended)

    def _appended(self, failure: BaseException | None, took: float) -> None:
        """The group is durable, or not; keep the thread busy with the next one, then see to this one."""
        group, self._appending = self._appending, []
        if not group:  # The store has stopped meanwhile.
            return
        if took > _SLOW_SYNC_S:
            log.warning("the disk of %s took %.1f s to sync %d commits", self._directory.path, took, len(group))
        if failure is None:
            self.fault = ""
        elif not isinstance(failure, LogWriteError):
            self._appending = group
            self.failed(failure)
            return
        self._expected = min(self._settings.gather_commits, len(group) + len(self._waiting))
        self._gather()
        if failure is None:
            self._durable.extend(group)
            if len(self._durable) == len(group):
                self._apply()
        else:
            self._refuse(group, failure)
            self._settle_down()

    def _refuse(self, group: list[_Proposal], failure: LogWriteError) -> None:
        """Tell the commits what the disk said."""
        self.fault = str(failure)
        log.error("%s: %s; %d commits refused", self._directory.path, failure, len(group))
        for proposal in group:
            if failure.undone:
                proposal.refuse(f"{failure}; nothing was written")
            else:
                proposal.leave_open(f"{failure}; whether the write holds is known once the disk works again")

    def _apply(self) -> None:
        """Apply what is durable, publish and answer; a few milliseconds of it, the rest in the loop's next turn."""
        changes: list[Change] = []
        ops = complete = 0
        try:
            for proposal in self._durable:
                for entry in proposal.entries[proposal.applied :]:
                    if ops >= _ENTRY_OPS:
                        break
                    results, changed = self.machine.apply(entry.ops)
                    self.applied_index += 1
                    proposal.applied += 1
                    proposal.results += results
                    changes += changed
                    ops += len(entry.ops)
                if proposal.applied < len(proposal.entries):
                    break
                complete += 1
            self._hub.publish(changes, self.machine.revision)
        except Exception as e:
            self.failed(e)
            return
        size = 0
        for _ in range(complete):
            proposal = self._durable.popleft()
            proposal.settle()
            size += proposal.size
        self._upkeep.wrote(size)
        if self._durable:
            asyncio.get_running_loop().call_soon(self._apply)
        else:
            self._settle_down()

    def _settle_down(self) -> None:
        if not self._appending and not self._durable:
            self._idle.set()

    def _bookmarks_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.failed(task.exception() or RuntimeError("bookmarks ended"))

    def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        if revision is None or revision == self.machine.revision:
            return self.machine.list(resource, selected)
        superseded = self._hub.superseded(resource, revision)
        return self.machine.list_at(resource, selected, revision, superseded)


async def open_store(
    path: Path,
    clock: Clock,
    settings: Settings = Settings(),
    *,
    disk: Disk | None = None,
    new_cluster_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    entropy: Callable[[int], bytes] = os.urandom,
) -> LogSingle:
    """Open the store in the directory `path`, creating it at the first start; its keys are kept in `keys` beside it.

    Raises `StoreStartError` (in use, damaged, a key missing, written by a newer release) with one line that says what
    to do, and `OSError` where the disk does not work.
    """
    disk = disk or Disk()
    hub = Hub(clock, settings.hub)

    def start(directory: Directory) -> tuple[Recovered, KeyRing]:
        ring = open_ring(path.with_name(_KEYS), disk, entropy)
        recovered = recover(directory, disk, hub, ring, settings.segment_bytes)
        try:
            if ring.empty:
                # A log that is older than its ring may hold Secrets as they are: they are sealed soon.
                ring.add_key(timestamp(clock.wall()), settled=directory.first_start)
            if directory.first_start:
                directory.keep_identity()
        except BaseException:
            recovered.wal.close()
            raise
        return recovered, ring

    loop = asyncio.get_running_loop()
    directory = await loop.run_in_executor(None, open_directory, path, disk, new_cluster_id)
    try:
        recovered, ring = await loop.run_in_executor(None, start, directory)
    except BaseException:
        directory.release()
        raise
    return LogSingle(directory, recovered, ring, hub, clock, settings, disk)
