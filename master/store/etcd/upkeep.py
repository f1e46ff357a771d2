"""`Upkeep`: what concerns the whole state in etcd: saving, restoring, new keys for Secrets, and keeping etcd small.

Each step leaves etcd such that any master can go on from it:

* a restore writes a new generation beside the one that counts, and turns to it in one transaction; whatever is left of
  one that was given up has no live mark and is removed by the leader.
* a new key stands in etcd before it seals anything, and alone only once nothing is sealed with another one. Every
  change of the ring moves the head, so no master writes with an older ring.
* the leader lets etcd forget what was superseded some minutes ago. Nobody else would: etcd's disk would fill.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from barque.client.clock import Clock, timestamp
from barque.master.raft.errors import CorruptFileError, KeyMissingError, NewerFormatError, StoreStartError
from barque.master.store.etcd import layout
from barque.master.store.etcd.client import CompactedError, EtcdAwayError, EtcdClient, EtcdError, EtcdRefusedError
from barque.master.store.etcd.layout import BATCH_BYTES, BATCH_OPS, Keys, Plan
from barque.master.store.etcd.mirror import Batch, Mirror
from barque.master.store.etcd.reader import Reader
from barque.master.store.etcd.shared_ring import SharedRing
from barque.master.store.etcd.writer import InDoubtError, Writer
from barque.master.store.keyring import MAX_USES, KeyRing
from barque.master.store.port import KeyRotated, Restored, SnapshotRefusedError, Stored, StoreUnavailableError
from barque.master.store.records import SEALED_RESOURCES
from barque.master.store.snapshot import (
    Head,
    encode_sections,
    load_section,
    pack_frame,
    pack_header,
    pack_section,
    read_sections,
)
from barque.proto import etcd_pb2 as pb

log = logging.getLogger(__name__)

T = TypeVar("T")

_CHUNK_BYTES = 512 * 1024
# A saved snapshot is held in memory, compressed, while it is read.
_SNAPSHOT_BYTES = 1 << 30
_RESTORE_STEP = 10**9
# A restore that shows no sign of life for so long is given up.
_MARK_S = 60
_TRIES = 5
_ROTATING = "a key is being rotated"
_TICK_S = 1.0
# How often the size of etcd's database is asked for, in ticks.
_SIZE_TICKS = 10


class Upkeep:
    def __init__(
        self,
        client: EtcdClient,
        reader: Reader,
        writer: Writer,
        keys: Keys,
        shared: SharedRing,
        entropy: Callable[[int], bytes],
        clock: Clock,
        compaction_s: float,
        leads: Callable[[], bool],
    ) -> None:
        # etcd's own figure of the member that was asked.
        self.database_bytes = 0
        self._client = client
        self._reader = reader
        self._writer = writer
        self._keys = keys
        self._shared = shared
        self._entropy = entropy
        self._clock = clock
        self._compaction_s = compaction_s
        self._leads = leads
        self._under_way = ""
        self._compact_to = 0

    async def run(self) -> None:
        """Until cancelled: hear whether etcd answers, and do what falls to the leader."""
        tick = 0
        compact_at = self._clock.monotonic() + self._compaction_s
        led = False
        while True:
            try:
                await self._reader.catch_up()
                if tick % _SIZE_TICKS == 0:
                    self.database_bytes = (await self._client.status()).dbSize
                leads = self._leads()
                if leads and not led:
                    await self._remove_left_over()
                led = leads
                if self._clock.monotonic() >= compact_at:
                    compact_at = self._clock.monotonic() + self._compaction_s
                    await self._compact(leads)
                if leads and not self._under_way and (self._worn or not self._reader.ring.settled):
                    with self._busy(_ROTATING):
                        await self._seal_anew(add_key=self._worn)
            except (EtcdError, StoreUnavailableError) as e:
                log.debug("upkeep is put off: %s", e)
            tick += 1
            await self._clock.sleep(_TICK_S)

    async def save(self) -> AsyncIterator[bytes]:
        """As `Store.save_snapshot`."""
        with self._busy("a snapshot is being saved"):
            mirror, loop = self._reader.mirror, asyncio.get_running_loop()
            chunk = pack_header()
            head = Head(0, 0, mirror.revision, self._reader.head.cluster_id)
            for section in encode_sections(mirror.view(), head, self._reader.ring):
                chunk += await loop.run_in_executor(None, _pack, section)
                while len(chunk) >= _CHUNK_BYTES:
                    yield chunk[:_CHUNK_BYTES]
                    chunk = chunk[_CHUNK_BYTES:]
            yield chunk

    async def restore(self, chunks: AsyncIterator[bytes]) -> Restored:
        """As `Store.restore_snapshot`."""
        with self._busy("a snapshot is being restored"):
            mirror = await self._read(chunks)
            generation = self._entropy(8).hex()
            mark = self._keys.restoring + generation.encode()
            lease, _ = await self._surely(lambda: self._client.grant(_MARK_S))
            await self._surely(lambda: self._client.txn(pb.TxnRequest(success=[layout.put(mark, b"", lease)])))
            try:
                ring = self._reader.ring
                await self._write_generation(mirror, generation, mark, lease, ring)
                replaced = self._reader.head.generation
                restored = await self._turn_to(mirror, generation, mark, ring)
            finally:
                with contextlib.suppress(EtcdError):
                    await self._client.revoke(lease)
            with contextlib.suppress(EtcdError):  # The leader does it otherwise.
                await self._remove_generation(replaced)
            log.warning("etcd: restored %d objects at revision %d", restored.objects, restored.revision)
            return restored

    async def rotate_key(self) -> KeyRotated:
        """As `Store.rotate_key`."""
        with self._busy(_ROTATING):
            return await self._seal_anew(add_key=True)

    @property
    def _worn(self) -> bool:
        """The newest key has sealed so many values that another is due. Saved snapshots are not counted: the bound is
        half of what is safe.
        """
        return self._reader.head.sealed >= MAX_USES

    async def _seal_anew(self, *, add_key: bool) -> KeyRotated:
        """Everything in etcd under the primary, which is a new key if `add_key`; then it is the only one."""
        keys, reader = self._keys, self._reader
        if add_key:
            created = timestamp(self._clock.wall())

            def add() -> Plan:
                ring = self._shared.with_new_key(reader.ring_value, created)
                return layout.plan_upkeep(keys, reader.head, [], 0, ring)

            await self._carry_out(add)
        key_id = reader.ring.key_id
        secrets = [stored for resource in SEALED_RESOURCES for stored in reader.mirror.list(resource).items]
        for group in _groups(secrets):
            await self._carry_out(lambda group=group: self._plan_sealing(group, key_id))  # type: ignore[misc]

        def forget() -> Plan:
            self._check_primary(key_id)
            ring = self._shared.with_primary_alone(reader.ring_value)
            return layout.plan_upkeep(keys, reader.head, [], reader.head.sealed, ring)

        await self._carry_out(forget)
        return KeyRotated(key_id, len(secrets))

    def _plan_sealing(self, secrets: Sequence[Stored], key_id: str) -> Plan:
        self._check_primary(key_id)
        reader, requests = self._reader, []
        for key in [stored.key for stored in secrets]:
            stored = reader.mirror.get(key)
            if stored is not None:
                row = layout.encode_row(stored, reader.mirror.held(key), reader.ring)
                requests.append(layout.put(self._keys.object(reader.head.generation, key), row))
        return layout.plan_upkeep(self._keys, reader.head, requests, reader.head.sealed + len(requests))

    def _check_primary(self, key_id: str) -> None:
        if self._reader.ring.key_id != key_id:
            raise StoreUnavailableError("another master has made a new key meanwhile: try again")

    async def _carry_out(self, make: Callable[[], Plan], *more: pb.Compare) -> Plan:
        """Raises `StoreUnavailableError` alone: what is done here is found half-done by whoever comes next."""
        try:
            async with self._writer.turn():
                plan = await self._writer.carry_out(make, *more)
        except (InDoubtError, EtcdError) as e:
            raise StoreUnavailableError(str(e)) from e
        assert plan is not None
        return plan

    async def _read(self, chunks: AsyncIterator[bytes]) -> Mirror:
        """The state in the file, whole and sound. Raises `SnapshotRefusedError`."""
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            if len(data) > _SNAPSHOT_BYTES:
                raise SnapshotRefusedError(f"the file is larger than {_SNAPSHOT_BYTES} bytes")
        mirror, ring = Mirror(), self._reader.ring
        try:
            await asyncio.get_running_loop().run_in_executor(None, ring.read_foreign)
            for section in read_sections(Path("snapshot"), bytes(data), ring):
                load_section(mirror, section)
                await asyncio.sleep(0)
        except CorruptFileError as e:
            raise SnapshotRefusedError(f"the file is damaged at offset {e.offset}: {e.why}") from e
        except KeyMissingError as e:
            raise SnapshotRefusedError(e.why) from e
        except NewerFormatError as e:
            raise SnapshotRefusedError(str(e)) from e
        except (OSError, StoreStartError) as e:
            raise StoreUnavailableError(f"{e}; nothing was restored") from e
        return mirror

    async def _write_generation(self, mirror: Mirror, generation: str, mark: bytes, lease: int, ring: KeyRing) -> None:
        renewed_at = self._clock.monotonic()
        for group in _groups(mirror.view().objects):
            rows = [
                layout.put(
                    self._keys.object(generation, stored.key), layout.encode_row(stored, mirror.held(stored.key), ring)
                )
                for stored in group
            ]
            request = pb.TxnRequest(compare=[layout.exists(mark)], success=rows)
            reply = await self._surely(lambda request=request: self._client.txn(request))  # type: ignore[misc]
            if not reply.succeeded:
                raise StoreUnavailableError("etcd was away for so long that the restore was given up: try again")
            if self._clock.monotonic() - renewed_at > _MARK_S / 4:
                renewed_at = self._clock.monotonic()
                await self._surely(lambda: self._client.keep_alive(lease))

    async def _turn_to(self, mirror: Mirror, generation: str, mark: bytes, ring: KeyRing) -> Restored:
        """The one transaction that makes the new generation count."""
        keys, reader = self._keys, self._reader
        secrets = sum(len(mirror.list(resource).items) for resource in SEALED_RESOURCES)

        def make() -> Plan:
            self._check_primary(ring.key_id)
            live, newest = reader.mirror, reader.head
            mirror.revision = max(mirror.revision, live.revision) + _RESTORE_STEP
            # An op sent again now was applied before the restore: it has its first result, and is not applied again.
            mirror.take_results(live)
            changed = msgspec.structs.replace(newest, generation=generation, revision=mirror.revision)
            requests = [layout.put(keys.generation, generation.encode()), layout.delete(mark)]
            plan = layout.plan_upkeep(keys, changed, requests, newest.sealed + secrets)
            return plan._replace(batch=Batch(mirror.revision, (), {}, []), mirror=mirror)

        reader.turning_to = generation
        try:
            await self._carry_out(make, layout.exists(mark))
        finally:
            reader.turning_to = ""
        return Restored(reader.mirror.revision, len(mirror))

    async def _remove_left_over(self) -> None:
        """Generations that neither count nor are being written."""
        keys, reader = self._keys, self._reader
        found: list[str] = []
        start, end = keys.states, layout.after(keys.states)
        while True:
            reply = await self._client.range(pb.RangeRequest(key=start, range_end=end, limit=1, keys_only=True))
            if not reply.kvs:
                break
            generation = keys.generation_of(reply.kvs[0].key)
            found.append(generation)
            start = layout.after(keys.state(generation))
        marks = self._reader.pages(keys.restoring, layout.after(keys.restoring), keys_only=True)
        written = {keys.generation_of(mark.key) async for page in marks for mark in page}
        await reader.catch_up()
        for generation in found:
            if generation not in (reader.head.generation, *written):
                log.info("etcd: removing what is left of a state that no longer counts")
                await self._remove_generation(generation)

    async def _remove_generation(self, generation: str) -> None:
        state = self._keys.state(generation)
        async for page in self._reader.pages(state, layout.after(state), keys_only=True):
            if page:
                removed = layout.delete(page[0].key, page[-1].key + b"\0")
                await self._client.txn(pb.TxnRequest(success=[removed]))

    async def _compact(self, leads: bool) -> None:
        """What was superseded before the last call goes."""
        compact_to, self._compact_to = self._compact_to, self._reader.seen_at
        if leads and compact_to and self._compaction_s:
            with contextlib.suppress(CompactedError, EtcdRefusedError):
                await self._client.compact(compact_to)

    async def _surely(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask what may be asked twice, until it is answered or patience ends. Raises `StoreUnavailableError`."""
        for tried in range(1, _TRIES + 1):
            try:
                return await ask()
            except EtcdAwayError as e:
                if tried == _TRIES:
                    raise StoreUnavailableError(f"{e}; nothing was restored") from e
                await self._clock.sleep(_TICK_S)
            except EtcdError as e:
                raise StoreUnavailableError(f"etcd refuses: {e}; nothing was restored") from e
        raise AssertionError

    @contextlib.contextmanager
    def _busy(self, what: str) -> Iterator[None]:
        """What a user asks for is done one thing at a time."""
        if self._under_way:
            raise StoreUnavailableError(f"{self._under_way}: try again when that is done")
        self._under_way = what
        try:
            yield
        finally:
            self._under_way = ""


def _pack(section: bytes) -> bytes:
    return pack_frame(pack_section(section))


def _groups(objects: Iterable[Stored]) -> Iterator[list[Stored]]:
    """As many as one transaction holds."""
    group: list[Stored] = []
    size = 0
    for stored in objects:
        if group and (len(group) >= BATCH_OPS or size + len(stored.json) > BATCH_BYTES):
            yield group
            group, size = [], 0
        group.append(stored)
        size += len(stored.json)
    if group:
        yield group
