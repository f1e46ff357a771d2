"""`Upkeep`: everything a member does with its whole state: snapshots by policy, for others and for users, new keys.

One at a time, beside the writes that go on; the state machine is encoded slice by slice on the event loop, files are
compressed and written in a lane, the log's own files are changed between two appends (`Host.in_log`).

Every step leaves files from which a start finds the same state, whatever the next step is:

* a snapshot replaces nothing until it stands under its name; only then older files go.
* a new key is durable before it seals anything; it is alone only once nothing on disk is sealed with another one.
* a snapshot from another member holds from the moment it stands under its name (see `recovery`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from barque.client.clock import Clock, timestamp
from barque.master.raft.disk import Disk
from barque.master.raft.lanes import done_in
from barque.master.raft.ports import Lane
from barque.master.raft.wal import Wal
from barque.master.store.fsm import StateMachine, View
from barque.master.store.group import GroupError
from barque.master.store.keyring import KeyRing
from barque.master.store.port import KeyRotated, Restored, StoreUnavailableError
from barque.master.store.records import SEALED_RESOURCES
from barque.master.store.recovery import discard_all_but_newest, discard_old
from barque.master.store.restoring import Propose, Restoring
from barque.master.store.snapshot import (
    Head,
    SnapshotFile,
    SnapshotWriter,
    encode_sections,
    pack_frame,
    pack_header,
    pack_section,
    spool_path,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# After a snapshot failed (disk full), the next is not tried at every commit.
_RETRY_S = 30.0
# A saved snapshot's chunks; gRPC's messages are bounded.
_CHUNK_BYTES = 512 * 1024


class Host(Protocol):
    """The engine as upkeep sees it."""

    @property
    def machine(self) -> StateMachine: ...

    @property
    def head(self) -> Head:
        """What a snapshot of the state would say of itself now."""
        ...

    async def in_log(self, job: Callable[[], T]) -> T:
        """Run `job` in the log's lane, between two appends."""
        ...

    async def reach(self, index: int) -> None:
        """Wait until entry `index` is applied and no restore is under way: a picture of the state taken right then is
        whole. Raises `StoreUnavailableError`.
        """
        ...

    def failed(self, failure: BaseException) -> None:
        """A fault of ours: stop the store."""
        ...


class Kept(NamedTuple):
    """The files that are kept up. `unsaved_bytes`: log written since the newest snapshot was begun."""

    directory: Path
    disk: Disk
    wal: Wal
    ring: KeyRing
    snapshots: list[SnapshotFile]
    unsaved_bytes: int


class Upkeep:
    def __init__(self, host: Host, kept: Kept, clock: Clock, lane: Lane, snapshot_log_bytes: int) -> None:
        self._host = host
        self._directory, self._disk, self._wal, self._ring, self._snapshots, self._unsaved_bytes = kept
        self._clock = clock
        self._snapshot_log_bytes = snapshot_log_bytes
        self._not_before = 0.0
        self._lane = lane
        self._lane_closed = False
        # Held by whoever changes which files are kept.
        self._turn = asyncio.Lock()
        self._saving = False
        self._rotating = False
        self._restoring = False
        self._going_on_alone = False
        self._closed = ""
        # Snapshots that were found not to read.
        self._damaged: list[SnapshotFile] = []
        self._at_work: dict[asyncio.Task[Any], None] = {}
        # What runs by itself: a snapshot, or sealing anew.
        self.task: asyncio.Task[None] | None = None
        if not self._ring.settled:
            self._begin(self._settle())

    @property
    def snapshot_bytes(self) -> int:
        """Of all snapshots kept."""
        return sum(snapshot.size_bytes for snapshot in self._snapshots)

    def wrote(self, size: int, *, may_begin: bool) -> None:
        """`size` more bytes stand in the log; begins a snapshot, or a new key, when it is time and it may."""
        self._unsaved_bytes += size
        if self.task is not None or self._closed or not may_begin or self._clock.monotonic() < self._not_before:
            return
        if (self._ring.worn or not self._ring.settled) and not (self._rotating or self._saving):
            self._begin(self._settle())
        elif self._unsaved_bytes >= self._snapshot_log_bytes:
            self._begin(self._take())

    async def finish(self) -> None:
        """Wait for what a user asked for."""
        while self._at_work:
            await asyncio.wait(list(self._at_work))

    async def close(self, why: str) -> None:
        """End what runs by itself."""
        self._closed = why
        task = self.task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        async with self._turn:
            self._lane_closed = True
            self._lane.close()

    async def rotate_key(self) -> KeyRotated:
        """As `Store.rotate_key`."""
        self._check_free()
        self._rotating = True
        try:
            return await self._to_its_end(self._rotate())
        finally:
            self._rotating = False

    async def save(self) -> AsyncIterator[bytes]:
        """As `Store.save_snapshot`."""
        self._check_free()
        self._saving = True
        try:
            chunk = pack_header()
            for section in encode_sections(self._host.machine.view(), self._host.head, self._ring):
                chunk += await self.in_lane(lambda section=section: pack_frame(pack_section(section)))  # type: ignore[misc]
                while len(chunk) >= _CHUNK_BYTES:
                    yield chunk[:_CHUNK_BYTES]
                    chunk = chunk[_CHUNK_BYTES:]
            yield chunk
        finally:
            self._saving = False

    async def restore(self, chunks: AsyncIterator[bytes], propose: Propose, name: str) -> Restored:
        """As `Store.restore_snapshot`; `name` is the restore's own."""
        self._check_free()
        self._restoring = True
        spool = spool_path(self._directory)
        restoring = Restoring(spool, self._disk, self._ring, self.in_lane, propose, name)
        try:
            await restoring.read(chunks)
            return await self._to_its_end(restoring.carry_out())
        finally:
            self._restoring = False
            self._lane_soon(lambda: self._remove(spool))

    async def go_on_alone(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Do `work`, which stops the log and begins it again, while nothing else here needs it, and to its end."""
        self._check_free()
        self._going_on_alone = True
        try:
            await self._to_its_end(self._undisturbed(work))
        finally:
            self._going_on_alone = False

    async def snapshot(self, after: int) -> SnapshotFile:
        """The newest snapshot where it is of entry `after` or later, or one that is taken now. Raises `OSError`,
        `StoreUnavailableError`.
        """
        self._check_open()
        async with self._turn:
            if not self._snapshots or self._snapshots[-1].index < after or self._snapshots[-1] in self._damaged:
                await self._host.reach(after)
                await self._write(self._host.machine.view(), self._host.head)
                await self._host.in_log(self._discard)
            return self._snapshots[-1]

    def distrust(self, file: SnapshotFile) -> None:
        """It does not read: the state in memory does, and the next snapshot that is asked for is made of that."""
        if file not in self._damaged:
            self._damaged.append(file)

    def _discard(self) -> None:
        """Remove damaged snapshots, which a newer one has replaced, and old ones. Raises `OSError`."""
        for file in [file for file in self._damaged if file != self._snapshots[-1]]:
            if file in self._snapshots:
                self._disk.remove(file.path)
                self._snapshots.remove(file)
        self._damaged.clear()
        discard_old(self._wal, self._snapshots, self._disk)

    async def installed(self, writer: SnapshotWriter, index: int, key_id: str) -> None:
        """Put a snapshot from another member, sealed with the key `key_id`, under its name: log and state begin anew
        after it. The log is at rest. Raises `OSError`: nothing has changed then.
        """
        async with self._turn:
            if key_id != self._ring.key_id:
                raise OSError("a new key was made while it came: it must come again")
            older = [snapshot for snapshot in self._snapshots if snapshot.index != index]

            def put_in_place() -> SnapshotFile:
                file = writer.finish()
                self._wal.skip_to(index)
                for snapshot in older:
                    self._remove(snapshot.path)
                return file

            self._snapshots[:] = [await self.in_lane(put_in_place)]
            self._unsaved_bytes = 0

    async def _undisturbed(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        async with self._turn:
            await work()

    async def _take(self) -> None:
        """A snapshot by policy."""
        async with self._turn:
            unsaved_bytes, head = 0, self._host.head
            try:
                # A restore may have begun while others had their turn.
                await self._host.reach(head.index)
                unsaved_bytes, self._unsaved_bytes = self._unsaved_bytes, 0
                head = self._host.head
                await self._write(self._host.machine.view(), head)
                unsaved_bytes = 0
                await self._host.in_log(self._discard)
            except (OSError, StoreUnavailableError) as e:
                self._unsaved_bytes += unsaved_bytes
                self._not_before = self._clock.monotonic() + _RETRY_S
                log.error(
                    "%s: snapshot at entry %d: %s; the log grows until one succeeds", self._directory, head.index, e
                )

    async def _settle(self) -> None:
        """Seal anew what a rotation left unfinished, what an older release wrote plain, or what a worn key sealed."""
        async with self._turn:
            try:
                rotated = await self._seal_anew(add_key=self._ring.worn)
                log.info("%s: %d Secrets are sealed with key %s", self._directory, rotated.secrets, rotated.key_id)
            except (OSError, StoreUnavailableError) as e:
                self._not_before = self._clock.monotonic() + _RETRY_S
                log.error("%s: sealing Secrets anew: %s; it is tried again later", self._directory, e)

    async def _seal_anew(self, *, add_key: bool) -> KeyRotated:
        """Everything on disk under the primary, which is a new key if `add_key`; then it is the only one.

        The log turns to a new segment with the key, so a snapshot taken once all before it is applied makes every
        older file needless.
        """
        created = timestamp(self._clock.wall())

        def turn() -> None:
            if add_key:
                self._ring.add_key(created, settled=False)
            self._wal.roll()

        await self._host.in_log(turn)
        await self._host.reach(self._wal.last_index)
        machine = self._host.machine
        head, view = self._host.head, machine.view()
        secrets = sum(len(machine.list(resource).items) for resource in SEALED_RESOURCES)
        await self._write(view, head)
        self._unsaved_bytes = 0

        def forget() -> None:
            discard_all_but_newest(self._wal, self._snapshots, self._disk)
            self._ring.forget_others()

        await self._host.in_log(forget)
        return KeyRotated(self._ring.key_id, secrets)

    async def _rotate(self) -> KeyRotated:
        async with self._turn:
            self._check_open()
            try:
                return await self._seal_anew(add_key=True)
            except (OSError, StoreUnavailableError) as e:
                raise StoreUnavailableError(
                    f"{e}; some Secrets on disk may be sealed with the old key still, so both are kept: try again"
                ) from e

    async def _write(self, view: View, head: Head) -> None:
        """Encode on the loop, compress and write in the thread, section by section; the newest snapshot then."""
        await self._host.in_log(self._ring.reserve_uses)
        writer = await self.in_lane(lambda: SnapshotWriter(self._directory, self._disk, head.index))
        try:
            for section in encode_sections(view, head, self._ring):
                await self.in_lane(lambda section=section: writer.add(section))  # type: ignore[misc]
            file = await self.in_lane(writer.finish)
        except BaseException:
            self._lane_soon(writer.abort)
            raise
        # One of the same entry, sealed with another key perhaps, was replaced by the rename.
        self._snapshots[:] = [*(s for s in self._snapshots if s.index != file.index), file]

    def abort(self, writer: SnapshotWriter) -> None:
        """Let go of a file that is not complete."""
        self._lane_soon(writer.abort)

    def _remove(self, path: Path) -> None:
        try:
            self._disk.remove(path)
        except FileNotFoundError:
            pass
        except OSError as e:
            log.warning("cannot remove %s: %s", path, e)

    async def in_lane(self, job: Callable[[], T]) -> T:
        """Run `job` in the lane of snapshots; returns or raises what it does."""
        if self._lane_closed:
            raise StoreUnavailableError(self._closed)
        return await done_in(self._lane, job)

    def _lane_soon(self, job: Callable[[], None]) -> None:
        """Nobody waits for it; once the lane is closed, the next start does it."""
        if not self._lane_closed:
            self._lane.put(job, lambda result, failure: None)

    def _check_free(self) -> None:
        """What a user asks for is done one thing at a time: a file sealed with two keys would be of no use."""
        self._check_open()
        under_way = (
            (self._rotating, "a key is being rotated"),
            (self._saving, "a snapshot is being saved"),
            (self._restoring, "a snapshot is being restored"),
            (self._going_on_alone, "this master is about to go on alone"),
        )
        for busy, what in under_way:
            if busy:
                raise StoreUnavailableError(f"{what}: try again when that is done")

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError(self._closed)

    async def _to_its_end(self, work: Coroutine[None, None, T]) -> T:
        """What must not stop half-way goes on when its caller goes away; a fault of ours in it stops the store."""
        task = asyncio.create_task(work, name="store-upkeep")
        self._at_work[task] = None

        def ended(task: asyncio.Task[T]) -> None:
            del self._at_work[task]
            failure = None if task.cancelled() else task.exception()
            if failure is not None and not isinstance(failure, OSError | StoreUnavailableError | GroupError):
                self._host.failed(failure)

        task.add_done_callback(ended)
        return await asyncio.shield(task)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        self.task = asyncio.create_task(work, name="store-upkeep")
        self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.task = None
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._host.failed(failure)
