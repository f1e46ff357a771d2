"""`Upkeep`: everything a store does with its whole state: snapshots by policy, saving, restoring, new keys.

One at a time, beside the writes that go on; the state machine is encoded slice by slice on the event loop, files are
compressed and written in a thread, the log's own files are changed between two appends (`Host.in_log`). The engine is
behind `Host`, so that a Raft group can be kept up the same way.

Every step leaves files from which a start finds the same state, whatever the next step is:

* a snapshot replaces nothing until it stands under its name; only then older files go.
* a new key is durable before it seals anything; it is alone only once nothing on disk is sealed with another one.
* a restore holds from the moment its snapshot stands under its name (see `recovery`); until then nothing has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from barque.client.clock import Clock, timestamp
from barque.master.raft.disk import Disk
from barque.master.raft.errors import CorruptFileError, KeyMissingError, NewerFormatError
from barque.master.raft.wal import Wal
from barque.master.store.fsm import StateMachine, View
from barque.master.store.keyring import KeyRing
from barque.master.store.port import KeyRotated, Restored, SnapshotRefusedError, StoreUnavailableError
from barque.master.store.records import SEALED_RESOURCES
from barque.master.store.recovery import discard_all_but_newest, discard_old
from barque.master.store.snapshot import (
    Head,
    SnapshotFile,
    SnapshotWriter,
    encode_sections,
    load_section,
    pack_frame,
    pack_header,
    read_sections,
    snapshot_path,
    spool_path,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# After a snapshot failed (disk full), the next is not tried at every commit.
_RETRY_S = 30.0
# A saved snapshot's chunks; gRPC's messages are bounded.
_CHUNK_BYTES = 512 * 1024
# What a restore adds to the revision, so that no revision is ever handed out twice for different states.
_RESTORE_STEP = 10**9


class Host(Protocol):
    """The engine as upkeep sees it."""

    @property
    def machine(self) -> StateMachine: ...

    @property
    def applied_index(self) -> int:
        """The entry that was applied last."""
        ...

    @property
    def cluster_id(self) -> str: ...

    async def in_log(self, job: Callable[[], T]) -> T:
        """Run `job` in the log's thread, between two appends."""
        ...

    def paused(self) -> AbstractAsyncContextManager[None]:
        """While it is entered, all that was appended is applied and nothing more is appended; commits wait."""
        ...

    def replace(self, machine: StateMachine, index: int) -> None:
        """Serve this state, which stands for entry `index`, and end every watch; only while paused."""
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
    def __init__(self, host: Host, kept: Kept, clock: Clock, snapshot_log_bytes: int) -> None:
        self._host = host
        self._directory, self._disk, self._wal, self._ring, self._snapshots, self._unsaved_bytes = kept
        self._clock = clock
        self._snapshot_log_bytes = snapshot_log_bytes
        self._not_before = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-snapshot")
        # Held by whoever changes which files are kept.
        self._turn = asyncio.Lock()
        self._saving = False
        self._rotating = False
        self._restoring = False
        self._closed = ""
        self._at_work: set[asyncio.Task[object]] = set()
        # What runs by itself: a snapshot, or sealing anew.
        self.task: asyncio.Task[None] | None = None
        if not self._ring.settled:
            self._begin(self._settle())

    @property
    def snapshot_bytes(self) -> int:
        """Of all snapshots kept."""
        return sum(snapshot.size_bytes for snapshot in self._snapshots)

    def wrote(self, size: int) -> None:
        """`size` more bytes stand in the log; begins a snapshot, or a new key, when it is time."""
        self._unsaved_bytes += size
        if self.task is not None or self._closed or self._clock.monotonic() < self._not_before:
            return
        if (self._ring.worn or not self._ring.settled) and not (self._rotating or self._saving):
            self._begin(self._settle())
        elif self._unsaved_bytes >= self._snapshot_log_bytes:
            self._begin(self._take())

    async def close(self, why: str) -> None:
        """End what runs by itself, wait for what a user asked for."""
        self._closed = why
        task = self.task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        async with self._turn:
            self._thread.shutdown()

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
            for section in encode_sections(self._host.machine.view(), self._head(), self._ring):
                chunk += await self._in_thread(lambda section=section: pack_frame(section))  # type: ignore[misc]
                while len(chunk) >= _CHUNK_BYTES:
                    yield chunk[:_CHUNK_BYTES]
                    chunk = chunk[_CHUNK_BYTES:]
            yield chunk
        finally:
            self._saving = False

    async def restore(self, chunks: AsyncIterator[bytes]) -> Restored:
        """As `Store.restore_snapshot`."""
        self._check_free()
        self._restoring = True
        spool = spool_path(self._directory)
        try:
            await self._spool(chunks, spool)
            machine = await self._read(spool)
            return await self._to_its_end(self._switch_to(machine))
        finally:
            self._restoring = False
            self._thread_soon(lambda: self._remove(spool))

    async def _take(self) -> None:
        """A snapshot by policy."""
        async with self._turn:
            unsaved_bytes, self._unsaved_bytes = self._unsaved_bytes, 0
            head = self._head()
            try:
                await self._write(self._host.machine.view(), head)
                unsaved_bytes = 0
                await self._host.in_log(lambda: discard_old(self._wal, self._snapshots, self._disk))
            except OSError as e:
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
            except OSError as e:
                self._not_before = self._clock.monotonic() + _RETRY_S
                log.error("%s: sealing Secrets anew: %s; it is tried again later", self._directory, e)

    async def _seal_anew(self, *, add_key: bool) -> KeyRotated:
        """Everything on disk under the primary, which is a new key if `add_key`; then it is the only one.

        The log turns to a new segment with the key, so the snapshot, taken once all before it is applied, makes every
        older file needless.
        """
        created = timestamp(self._clock.wall())

        def turn() -> None:
            if add_key:
                self._ring.add_key(created, settled=False)
            self._wal.roll()

        await self._host.in_log(turn)
        async with self._host.paused():
            machine = self._host.machine
            head, view, secrets = (
                self._head(),
                machine.view(),
                sum(len(machine.list(r).items) for r in SEALED_RESOURCES),
            )
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
            except OSError as e:
                raise StoreUnavailableError(
                    f"{e}; some Secrets on disk may be sealed with the old key still, so both are kept: try again"
                ) from e

    async def _spool(self, chunks: AsyncIterator[bytes], spool: Path) -> None:
        """Keep what comes in a file: memory is for the state."""
        fd = await self._for_restore(lambda: self._disk.create(spool))
        offset = 0
        try:
            async for chunk in chunks:
                await self._for_restore(lambda chunk=chunk, offset=offset: self._disk.write(fd, chunk, offset))  # type: ignore[misc]
                offset += len(chunk)
        finally:
            self._thread_soon(lambda: self._disk.close(fd))

    async def _read(self, spool: Path) -> StateMachine:
        """The state in the file, whole and sound. Raises `SnapshotRefusedError`."""
        machine = StateMachine()
        try:
            await self._for_restore(self._ring.read_foreign)
            data = await self._for_restore(lambda: self._disk.read(spool))
            for section in read_sections(spool, data, self._ring):
                load_section(machine, section)
                await asyncio.sleep(0)
        except CorruptFileError as e:
            raise SnapshotRefusedError(f"the file is damaged at offset {e.offset}: {e.why}") from e
        except KeyMissingError as e:
            raise SnapshotRefusedError(e.why) from e
        except NewerFormatError as e:
            raise SnapshotRefusedError(str(e)) from e
        return machine

    async def _for_restore(self, job: Callable[[], T]) -> T:
        try:
            return await self._in_thread(job)
        except OSError as e:
            raise StoreUnavailableError(f"{e}; nothing was restored") from e

    async def _switch_to(self, machine: StateMachine) -> Restored:
        host = self._host
        async with self._turn, host.paused():
            self._check_open()
            index = host.applied_index + 1
            machine.revision = max(machine.revision, host.machine.revision) + _RESTORE_STEP
            # An op sent again now was applied before the restore: it has its first result, and is not applied again.
            machine.take_results(host.machine)
            try:
                # What a failed sync left in the log's tail becomes void, as for any append after it.
                await host.in_log(self._wal.roll)
                await self._write(machine.view(), Head(index, 0, machine.revision, host.cluster_id, restored=True))
            except OSError as e:
                await self._undo_restore(index)
                raise StoreUnavailableError(f"{e}; nothing was restored") from e
            dying = list(host.machine.view().objects.chunks)
            host.replace(machine, index)
            self._unsaved_bytes = 0
            await host.in_log(lambda: self._wal.skip_to(index))
            try:
                await host.in_log(lambda: discard_all_but_newest(self._wal, self._snapshots, self._disk))
            except OSError as e:
                log.warning("%s: files of before the restore stay for now: %s", self._directory, e)
            restored = Restored(machine.revision, len(machine))
        while dying:
            # Letting go of all objects at once would hold the loop.
            dying.pop()
            await asyncio.sleep(0)
        log.warning("%s: restored %d objects at revision %d", self._directory, restored.objects, restored.revision)
        return restored

    async def _undo_restore(self, index: int) -> None:
        """The snapshot may stand under its name without that being durable. If it cannot be taken back, what the next
        start finds is open, and so the store must not go on.
        """
        path = snapshot_path(self._directory, index)
        try:
            if await self._in_thread(path.exists):
                await self._in_thread(lambda: self._disk.remove(path))
                await self._in_thread(lambda: self._disk.sync_directory(self._directory))
        except OSError as e:
            self._host.failed(e)

    def _head(self) -> Head:
        host = self._host
        return Head(host.applied_index, 0, host.machine.revision, host.cluster_id)

    async def _write(self, view: View, head: Head) -> None:
        """Encode on the loop, compress and write in the thread, section by section; the newest snapshot then."""
        await self._host.in_log(self._ring.reserve_uses)
        writer = await self._in_thread(lambda: SnapshotWriter(self._directory, self._disk, head.index))
        try:
            for section in encode_sections(view, head, self._ring):
                await self._in_thread(lambda section=section: writer.add(section))  # type: ignore[misc]
            file = await self._in_thread(writer.finish)
        except BaseException:
            self._thread_soon(writer.abort)
            raise
        # One of the same entry, sealed with another key perhaps, was replaced by the rename.
        self._snapshots[:] = [*(s for s in self._snapshots if s.index != file.index), file]

    def _remove(self, path: Path) -> None:
        try:
            self._disk.remove(path)
        except FileNotFoundError:
            pass
        except OSError as e:
            log.warning("cannot remove %s: %s", path, e)

    async def _in_thread(self, job: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread_soon(job))

    def _thread_soon(self, job: Callable[[], T]) -> Future[T]:
        try:
            return self._thread.submit(job)
        except RuntimeError:  # It is shut down.
            raise StoreUnavailableError(self._closed) from None

    def _check_free(self) -> None:
        """What a user asks for is done one thing at a time: a file sealed with two keys would be of no use."""
        self._check_open()
        under_way = (
            (self._rotating, "a key is being rotated"),
            (self._saving, "a snapshot is being saved"),
            (self._restoring, "a snapshot is being restored"),
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
        self._at_work.add(task)

        def ended(task: asyncio.Task[T]) -> None:
            self._at_work.discard(task)
            failure = None if task.cancelled() else task.exception()
            if failure is not None and not isinstance(failure, OSError | StoreUnavailableError):
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
