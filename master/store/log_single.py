"""`LogSingle`: the store of a cluster with one master, on its own log. The only file that differs from a Raft group.

A commit is encoded, waits with all others of its moment, is appended and synced with them in one go in a thread, then
applied on the loop, published to the hub and answered. While one group is being synced the group before it is applied
and the next one gathers. Reads see what is applied, thus durable.

Files (see `segment`, `snapshot`, `directory`): everything a start needs is on the medium before a commit is answered,
so SIGKILL at any instruction loses nothing and `close` writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from barque.client.clock import Clock
from barque.master.store.directory import Directory, open_directory
from barque.master.store.disk import Disk
from barque.master.store.hub import Hub, HubSettings
from barque.master.store.port import (
    Change,
    Filter,
    Key,
    Listing,
    Op,
    Result,
    Stored,
    StoreUnavailableError,
    Unknown,
    Watched,
)
from barque.master.store.records import encode_entry
from barque.master.store.recovery import Recovered, discard_old, recover
from barque.master.store.snapshot import SnapshotFile, SnapshotWriter, encode_sections
from barque.master.store.wal import SEGMENT_BYTES, LogWriteError

log = logging.getLogger(__name__)

# A commit of more ops is several entries, so that one entry applies in a few milliseconds.
_ENTRY_OPS = 256
# A sync that takes longer is named in the log: the disk, not Barque, is what a user waits for.
_SLOW_SYNC_S = 1.0
# After a snapshot failed (disk full), the next is not tried at every commit.
_SNAPSHOT_RETRY_S = 30.0


class Settings(NamedTuple):
    """Bounds. `group_bytes`: what one append takes; `waiting_bytes`: what may wait for it; more is refused."""

    segment_bytes: int = SEGMENT_BYTES
    snapshot_log_bytes: int = 24 * 1024 * 1024
    group_bytes: int = 4 * 1024 * 1024
    waiting_bytes: int = 64 * 1024 * 1024
    hub: HubSettings = HubSettings()


class _Proposal(NamedTuple):
    """One call of `commit`: its entries as bytes and as ops."""

    payloads: list[bytes]
    entries: list[list[Op]]
    size: int
    answer: asyncio.Future[list[Result]]

    def settle(self, results: list[Result]) -> None:
        if not self.answer.done():
            self.answer.set_result(results)

    def refuse(self, why: str) -> None:
        """Nothing of it was written, and nothing will be."""
        if not self.answer.done():
            self.answer.set_exception(StoreUnavailableError(why))

    def leave_open(self, why: str) -> None:
        """It may hold."""
        self.settle([Unknown(why) for ops in self.entries for _ in ops])


class LogSingle:
    """Implements `port.Store`; made by `open_store`."""

    def __init__(
        self, directory: Directory, recovered: Recovered, hub: Hub, clock: Clock, settings: Settings, disk: Disk
    ) -> None:
        self._directory = directory
        # `_unsaved_bytes`: log written since the newest snapshot was begun.
        self._machine, self._wal, self._snapshots, self._unsaved_bytes = recovered
        self._hub = hub
        self._clock = clock
        self._settings = settings
        self._disk = disk
        self._applied_index = self._wal.last_index
        self._waiting: deque[_Proposal] = deque()
        self._waiting_bytes = 0
        # Taken out of `_waiting`, not answered yet.
        self._in_hand: list[_Proposal] = []
        self._arrived = asyncio.Event()
        self._stopping = ""
        # Why the newest write was refused by the disk; "" once one succeeds.
        self.fault = ""
        self._snapshot_not_before = 0.0
        self._saving: asyncio.Task[None] | None = None
        self._log_thread = ThreadPoolExecutor(1, thread_name_prefix="store-log")
        self._snapshot_thread = ThreadPoolExecutor(1, thread_name_prefix="store-snapshot")
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks = [
            asyncio.create_task(self._write(), name="store-write"),
            asyncio.create_task(hub.run(), name="store-bookmarks"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    @property
    def revision(self) -> int:
        return self._machine.revision

    @property
    def cluster_id(self) -> str:
        return self._directory.cluster_id

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result]:
        """As `Store.commit`. Raises `ValueError` for an op that breaks the port's contract."""
        if not ops:
            return []
        if self._stopping:
            raise StoreUnavailableError(self._stopping)
        encoded = [encode_entry(ops[start : start + _ENTRY_OPS]) for start in range(0, len(ops), _ENTRY_OPS)]
        payloads = [payload for payload, _ in encoded]
        size = sum(map(len, payloads))
        if self._waiting and self._waiting_bytes + size > self._settings.waiting_bytes:
            raise StoreUnavailableError(f"{self._waiting_bytes} bytes already wait for the disk")
        answer: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Proposal(payloads, [entry for _, entry in encoded], size, answer))
        self._waiting_bytes += size
        self._arrived.set()
        return await answer

    def get(self, key: Key) -> Stored | None:
        return self._machine.get(key)

    def reserved(self, prefix: str) -> dict[str, Key]:
        return self._machine.reserved(prefix)

    def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[list[Watched]]:
        return self._hub.watch(resource, since, selected)

    def changes(self, since: int) -> AsyncIterator[list[Change]]:
        return self._hub.changes(since)

    async def barrier(self) -> int:
        """Of one member: what was acknowledged is applied already."""
        return self._machine.revision

    async def run(self) -> None:
        """Wait until the store is closed; raises what broke it. For the daemon to supervise."""
        await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Answer what waits, end the watches, let go of the directory."""
        self._stopping = self._stopping or "the store is stopping"
        self._arrived.set()
        writer, bookmarks = self._tasks
        await asyncio.wait([writer])
        others = [task for task in (bookmarks, self._saving) if task is not None]
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        self._hub.close(StoreUnavailableError(self._stopping))
        self._snapshot_thread.shutdown()
        self._log_thread.shutdown()
        self._wal.close()
        self._directory.release()
        if not self._ended.done():
            self._ended.set_result(None)

    async def _write(self) -> None:
        """Group after group: append and sync in the thread while the group before is applied."""
        durable: list[_Proposal] = []
        while True:
            group = self._next_group()
            self._in_hand = durable + group
            if group:
                appending = asyncio.ensure_future(self._append(group))
                try:
                    await self._apply(durable)
                finally:
                    await asyncio.wait([appending])
                durable = group if appending.result() else []
                continue
            await self._apply(durable)
            durable = []
            if self._waiting:
                continue
            if self._stopping:
                return
            self._arrived.clear()
            await self._arrived.wait()

    def _next_group(self) -> list[_Proposal]:
        group: list[_Proposal] = []
        size = 0
        while self._waiting and (not group or size + self._waiting[0].size <= self._settings.group_bytes):
            proposal = self._waiting.popleft()
            size += proposal.size
            group.append(proposal)
        self._waiting_bytes -= size
        return group

    async def _append(self, group: list[_Proposal]) -> bool:
        """One append and one sync for the group; False where the disk refused and the commits have been told so."""
        payloads = [payload for proposal in group for payload in proposal.payloads]
        began = self._clock.monotonic()
        try:
            await asyncio.get_running_loop().run_in_executor(self._log_thread, self._wal.append, payloads)
        except LogWriteError as e:
            self.fault = str(e)
            log.error("%s: %s; %d commits refused", self._directory.path, e, len(group))
            for proposal in group:
                if e.undone:
                    proposal.refuse(f"{e}; nothing was written")
                else:
                    proposal.leave_open(f"{e}; whether the write holds is known once the disk works again")
            return False
        self.fault = ""
        took = self._clock.monotonic() - began
        if took > _SLOW_SYNC_S:
            log.warning("the disk of %s took %.1f s to sync %d entries", self._directory.path, took, len(payloads))
        return True

    async def _apply(self, group: list[_Proposal]) -> None:
        """Apply, publish and answer, in slices of a few milliseconds."""
        ops_since_pause = 0
        for proposal in group:
            results: list[Result] = []
            for ops in proposal.entries:
                applied = self._machine.apply(ops)
                self._applied_index += 1
                self._hub.publish(applied.changes, self._machine.revision)
                results += applied.results
                ops_since_pause += len(ops)
                if ops_since_pause >= _ENTRY_OPS:
                    ops_since_pause = 0
                    await asyncio.sleep(0)
            proposal.settle(results)
            self._unsaved_bytes += proposal.size
        if group and self._unsaved_bytes >= self._settings.snapshot_log_bytes:
            self._save()

    def _save(self) -> None:
        """Begin a snapshot, unless one is being taken, one just failed, or the store is stopping."""
        if self._saving is None and not self._stopping and self._clock.monotonic() >= self._snapshot_not_before:
            self._saving = asyncio.create_task(self._take_snapshot(), name="store-snapshot")
            self._saving.add_done_callback(self._task_ended)

    async def _take_snapshot(self) -> None:
        index, unsaved_bytes = self._applied_index, self._unsaved_bytes
        self._unsaved_bytes = 0
        sections = encode_sections(self._machine.view(), index, 0, self.cluster_id)
        loop = asyncio.get_running_loop()
        try:
            self._snapshots.append(await self._write_snapshot(sections, index))
            unsaved_bytes = 0
            await loop.run_in_executor(self._log_thread, discard_old, self._wal, self._snapshots, self._disk)
        except OSError as e:
            self._unsaved_bytes += unsaved_bytes
            self._snapshot_not_before = self._clock.monotonic() + _SNAPSHOT_RETRY_S
            log.error("%s: snapshot at entry %d: %s; the log grows until one succeeds", self._directory.path, index, e)
        finally:
            self._saving = None

    async def _write_snapshot(self, sections: Iterator[bytes], index: int) -> SnapshotFile:
        """Encode on the loop, compress and write in the thread, section by section."""
        loop, thread = asyncio.get_running_loop(), self._snapshot_thread
        writer = await loop.run_in_executor(thread, SnapshotWriter, self._directory.path, self._disk, index)
        try:
            for section in sections:
                await loop.run_in_executor(thread, writer.add, section)
            await loop.run_in_executor(thread, writer.finish)
        except BaseException:
            thread.submit(writer.abort)
            raise
        return SnapshotFile(writer.path, index)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """An exception in a task of ours is a fault that must not be worked around: the store stops."""
        failure = None if task.cancelled() else task.exception()
        if failure is None:
            return
        log.critical("the store stops: %s: %r", task.get_name(), failure)
        self._stopping = f"the store has stopped: {failure!r}"
        for proposal in self._in_hand:
            proposal.leave_open(self._stopping)
        for proposal in self._waiting:
            proposal.refuse(self._stopping)
        self._waiting.clear()
        self._arrived.set()
        self._hub.close(StoreUnavailableError(self._stopping))
        if not self._ended.done():
            self._ended.set_exception(failure)

    def list(self, resource: str, selected: Filter = Filter()) -> Listing:
        return self._machine.list(resource, selected)


async def open_store(
    path: Path,
    clock: Clock,
    settings: Settings = Settings(),
    *,
    disk: Disk | None = None,
    new_cluster_id: Callable[[], str] = lambda: str(uuid.uuid4()),
) -> LogSingle:
    """Open the store in the directory `path`, creating it at the first start.

    Raises `StoreStartError` (in use, damaged, written by a newer release) with one line that says what to do, and
    `OSError` where the disk does not work.
    """
    disk = disk or Disk()
    hub = Hub(clock, settings.hub)
    loop = asyncio.get_running_loop()
    directory = await loop.run_in_executor(None, open_directory, path, disk, new_cluster_id)
    try:
        recovered = await loop.run_in_executor(None, recover, directory, disk, hub, settings.segment_bytes)
    except BaseException:
        directory.release()
        raise
    return LogSingle(directory, recovered, hub, clock, settings, disk)
