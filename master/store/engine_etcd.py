"""`EngineEtcd`: the store of a cluster whose state an etcd keeps that somebody runs already.

The whole state is mirrored in memory from one watch, so lists, watches and history are those of the other engines;
writes are transactions that hold only on the newest state (`etcd.layout`). A commit is answered once etcd has it on
the disks of its quorum and the mirror has applied it. A read after `barrier` is linearisable.

What differs from the other engines: how far back a watch can resume after a restart depends on how far back etcd's own
history goes, which the leader cuts every few minutes; and the keys of Secrets stand in etcd, sealed with a key that is
derived from what all masters hold (`etcd.shared_ring`). etcd's own members are changed with etcd's own tools.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from barque.client.clock import Clock, timestamp
from barque.client.supervise import run_all
from barque.master.raft.errors import StoreStartError
from barque.master.raft.messages import Configuration, MemberInfo
from barque.master.raft.ports import GroupFigures
from barque.master.store.etcd import layout
from barque.master.store.etcd.client import Endpoints, EtcdAwayError, EtcdClient, EtcdError, EtcdUntrustedError
from barque.master.store.etcd.election import Election
from barque.master.store.etcd.layout import Head, Keys
from barque.master.store.etcd.reader import EtcdDamagedError, Reader
from barque.master.store.etcd.shared_ring import SharedRing
from barque.master.store.etcd.upkeep import Upkeep
from barque.master.store.etcd.writer import Writer
from barque.master.store.group import GroupError
from barque.master.store.hub import Hub, HubSettings
from barque.master.store.keyring import SealError
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
    Subscription,
)
from barque.master.store.records import encode_entry
from barque.proto import etcd_pb2 as pb

log = logging.getLogger(__name__)

_RETRY_S = 0.5
# How long the start waits until some master leads: at a founding this one does within milliseconds.
_ELECTED_S = 2.0
_KEPT_IN_ETCD = "this cluster's state is in etcd"


@dataclass(frozen=True)
class EtcdSettings:
    """Where the etcd is, and under which prefix the cluster's keys are. The leader lets etcd forget what was superseded
    `compaction_s` to twice that ago (0: never; then somebody else must); a master that is silent for `lease_s` no
    longer leads. `start_s`: how long a start waits for etcd; `patience_s`: how long a write or a linearisable read
    does.
    """

    endpoints: Endpoints
    prefix: str = "/barque"
    lease_s: int = 5
    compaction_s: float = 300.0
    start_s: float = 30.0
    patience_s: float = 5.0
    hub: HubSettings = field(default_factory=HubSettings)


class EngineEtcd:
    """Implements `port.Store`, and `group.Group` as far as masters go; made by `open_etcd_store`."""

    def __init__(
        self,
        client: EtcdClient,
        reader: Reader,
        writer: Writer,
        election: Election,
        upkeep: Upkeep,
        hub: Hub,
        patience_s: float,
    ) -> None:
        self._client = client
        self._reader = reader
        self._writer = writer
        self._election = election
        self._upkeep = upkeep
        self._hub = hub
        self._patience_s = patience_s
        self._stopping = ""
        self._started = asyncio.Event()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    @property
    def revision(self) -> int:
        return self._reader.mirror.revision

    @property
    def cluster_id(self) -> str:
        return self._reader.head.cluster_id

    @property
    def fault(self) -> str:
        """Why etcd does not answer; "" while it does."""
        return self._reader.fault

    @property
    def leads(self) -> bool:
        return self._election.leads

    async def led(self, *, leads: bool) -> None:
        await self._election.led(leads=leads)

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result]:
        """As `Store.commit`. Raises `ValueError` for an op that breaks the port's contract."""
        if not ops:
            return []
        if self._stopping:
            raise StoreUnavailableError(self._stopping)
        return await self._writer.commit(encode_entry(ops)[1])

    def get(self, key: Key) -> Stored | None:
        return self._reader.mirror.get(key)

    def reserved(self, prefix: str) -> dict[str, Key]:
        return self._reader.mirror.reserved(prefix)

    def newest(self, resources: Sequence[str]) -> int:
        return self._hub.newest(resources)

    def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Batch]:
        return self._hub.watch(resource, since, selected)

    def subscribe(self, resource: str, since: int, selected: Filter, on_news: Callable[[], None]) -> Subscription:
        return self._hub.subscribe(resource, since, selected, on_news)

    def changes(self, since: int) -> AsyncIterator[list[Change]]:
        return self._hub.changes(since)

    async def barrier(self) -> int:
        if self._stopping:
            raise StoreUnavailableError(self._stopping)
        try:
            # Endpoints that are silent are asked one after the other, and perhaps already for somebody else.
            async with asyncio.timeout(self._patience_s):
                await self._reader.catch_up()
        except TimeoutError:
            why = self.fault or f"etcd has not answered within {self._patience_s:g} s"
            raise StoreUnavailableError(why) from None
        except EtcdDamagedError as e:
            self.failed(e)
            raise StoreUnavailableError(self._stopping) from e
        except EtcdError as e:
            raise StoreUnavailableError(str(e)) from e
        return self.revision

    async def wait_for_revision(self, revision: int) -> None:
        await self._hub.wait_for_revision(revision)

    def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        mirror = self._reader.mirror
        if revision is None or revision == mirror.revision:
            return mirror.list(resource, selected)
        superseded = self._hub.superseded(resource, revision)
        return mirror.list_at(resource, selected, revision, superseded)

    def figures(self) -> StoreFigures:
        """`log_bytes` is the size of etcd's database; `fsync_*` is what its transactions took, seen from here."""
        return StoreFigures(
            objects=len(self._reader.mirror),
            log_bytes=self._upkeep.database_bytes,
            snapshot_bytes=0,
            fsync_p50_ms=self._writer.percentile_ms(50),
            fsync_p99_ms=self._writer.percentile_ms(99),
            key_id=self._reader.ring.key_id,
            key_created=self._reader.ring.created,
        )

    def save_snapshot(self) -> AsyncIterator[bytes]:
        return self._upkeep.save()

    async def restore_snapshot(self, chunks: AsyncIterator[bytes]) -> Restored:
        return await self._upkeep.restore(chunks)

    async def rotate_key(self) -> KeyRotated:
        return await self._upkeep.rotate_key()

    @property
    def member_id(self) -> str:
        return self._election.info.id

    @property
    def configuration(self) -> Configuration:
        """The masters that run, as their leases in etcd say."""
        members = tuple(sorted(self._reader.members.values(), key=lambda info: info.name))
        return Configuration(voters=tuple(info.id for info in members), members=members)

    def group_figures(self) -> GroupFigures:
        reader = self._reader
        faults = {"etcd": reader.fault} if reader.fault else {}
        at = reader.head.number
        return GroupFigures(self.member_id, 0, reader.leader, at, at, at, 0.0, 0.0, 0.0, (), faults)

    async def add_member(self, info: MemberInfo) -> None:
        """Nothing has to be done: it is a member once it runs. Raises `GroupError` where its name is taken."""
        taken = next((other for other in self._reader.members.values() if other.name == info.name), None)
        if taken is not None and taken != info:
            raise GroupError(f"a master named {info.name} runs already, at {taken.host}: give this one another name")

    async def remove_member(self, member: str) -> None:
        raise GroupError(f"{_KEPT_IN_ETCD}, and a master is one for as long as it runs: stop it on its machine")

    async def transfer(self, to: str = "") -> str:
        raise GroupError(f"{_KEPT_IN_ETCD}, and who leads is not chosen: a leading master that is stopped hands over")

    async def recover_quorum(self) -> Restored:
        raise GroupError(
            f"{_KEPT_IN_ETCD}, and one master is as good as three: where etcd has lost its majority, recover that with "
            "etcd's own tools (etcdctl), or found the cluster on another etcd and restore a snapshot"
        )

    async def run(self) -> None:
        """Wait until the store is closed; raises what broke it. For the daemon to supervise."""
        await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Let go of leadership, answer what waits, end the watches."""
        self._stopping = self._stopping or "the store is stopping"
        self._writer.stop(self._stopping)
        if self._task is not None:
            async with self._writer.turn():
                self._task.cancel()
            await asyncio.wait([self._task])
        await self._election.close(self._stopping)
        under_way = self._reader.stop()
        if under_way:
            await asyncio.wait(under_way)
        self._hub.close(StoreUnavailableError(self._stopping))
        await self._client.close()
        if not self._ended.done():
            self._ended.set_result(None)

    def failed(self, failure: BaseException) -> None:
        """A fault that must not be worked around: the store stops."""
        if self._ended.done():
            return
        log.critical("the store stops: %s", failure)
        self._stopping = f"the store has stopped: {failure}"
        self._writer.stop(self._stopping)
        self._hub.close(StoreUnavailableError(self._stopping))
        self._ended.set_exception(failure)
        self._ended.exception()  # It is in the log already, should nobody await `run`.

    async def start(self, timeout_s: float, clock: Clock) -> None:
        """Begin to follow, and wait until all that was there before is here. Raises `StoreStartError`."""
        self._task = asyncio.create_task(self._run_parts(), name="store")
        self._task.add_done_callback(self._parts_ended)
        try:
            async with asyncio.timeout(timeout_s):
                await self._catch_up_and_claim_name(clock)
        except (TimeoutError, EtcdError, StoreUnavailableError) as e:
            raise StoreStartError(self._stopping or f"etcd's watch does not come up: {e}") from e
        self._started.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ELECTED_S):
                await self._election.decided()

    async def _catch_up_and_claim_name(self, clock: Clock) -> None:
        """Asked again where etcd is slow to answer."""
        while True:
            try:
                await self._reader.catch_up()
                await self._election.claim_name()
                return
            except EtcdUntrustedError:
                raise
            except EtcdAwayError as e:
                log.warning("%s: trying again", e)
                await clock.sleep(_RETRY_S)

    async def _run_parts(self) -> None:
        async def once_started(work: Callable[[], Coroutine[None, None, None]]) -> None:
            # Whoever led before comes by again while the history is read.
            await self._started.wait()
            await work()

        await run_all(
            {
                "watch": self._reader.run(),
                "writes": self._writer.run(),
                "bookmarks": self._hub.run(),
                "election": once_started(self._election.run),
                "upkeep": once_started(self._upkeep.run),
            }
        )

    def _parts_ended(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self.failed(failure.__cause__ or failure)


async def open_etcd_store(
    settings: EtcdSettings,
    info: MemberInfo,
    keys_directory: Path,
    wrapping: bytes,
    clock: Clock,
    *,
    cluster_id: str = "",
    new_cluster_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    entropy: Callable[[int], bytes] = os.urandom,
) -> EngineEtcd:
    """Open the cluster under the prefix; without a `cluster_id`, found it where there is none.

    `info` is what the other masters are told of this one; where it has no id, that is made from its name. `wrapping`
    opens the key ring (`wrapping_key` of a secret that all masters share); rings that have sealed saved snapshots
    elsewhere may lie in `keys_directory` under any name ending in `.json`. `cluster_id` is the cluster that this master
    is one of already: under a mistyped prefix it must not found another one.

    Raises `StoreStartError` with one line that says what to do, `ValueError` for endpoints that are none, and `OSError`
    where certificates or the directory do not read.
    """
    keys = Keys(settings.prefix)
    client = EtcdClient(settings.endpoints)
    engine: EngineEtcd | None = None
    try:
        hub = Hub(clock, settings.hub)
        shared = SharedRing(wrapping, keys_directory, entropy, f"etcd key {keys.ring.decode()}")
        reader = Reader(client, keys, shared, hub, clock)
        await _found_or_find(
            client, reader, keys, shared, settings.start_s, clock, None if cluster_id else new_cluster_id
        )
        try:
            await reader.load(settings.hub)
        except EtcdError as e:
            raise StoreStartError(str(e)) from e
        except SealError as e:
            raise StoreStartError(f"a Secret under {keys.root.decode()} in etcd {e}") from e
        if cluster_id not in ("", reader.head.cluster_id):
            raise StoreStartError(
                f"etcd holds cluster {reader.head.cluster_id} under {keys.root.decode()}, and this master is one of "
                f"{cluster_id}: check --etcd-endpoints and --etcd-prefix"
            )
        hub.reset(reader.mirror.revision)
        writer = Writer(client, reader, keys, entropy(8).hex(), settings.patience_s, clock)
        info = msgspec.structs.replace(info, id=info.id or member_id(info.name))
        election = Election(client, reader, keys, info, settings.lease_s, clock)
        upkeep = Upkeep(
            client, reader, writer, keys, shared, entropy, clock, settings.compaction_s, lambda: election.leads
        )
        engine = EngineEtcd(client, reader, writer, election, upkeep, hub, settings.patience_s)
        await engine.start(settings.start_s, clock)
    except BaseException:
        await (client if engine is None else engine).close()
        raise
    return engine


def member_id(name: str) -> str:
    """The id of the founding master of this name: the same at each start."""
    return hashlib.sha256(f"barque master {name}".encode()).hexdigest()[:16]


async def _found_or_find(
    client: EtcdClient,
    reader: Reader,
    keys: Keys,
    shared: SharedRing,
    patience_s: float,
    clock: Clock,
    new_cluster_id: Callable[[], str] | None,
) -> None:
    """Once this returns, a cluster stands under the prefix. Of several masters that start at once, one founds it; with
    None, none does.
    """
    deadline = clock.monotonic() + patience_s
    said = ""
    while True:
        try:
            if (await reader.find()).head is not None:
                return
            if new_cluster_id is None:
                raise StoreStartError(
                    f"etcd has no cluster under {keys.root.decode()}, and this master is one of a cluster that exists: "
                    "check --etcd-endpoints and --etcd-prefix"
                )
            ring, value = shared.found(timestamp(clock.wall()))
            log.info("founding a cluster under %s in etcd, Secrets sealed with key %s", keys.root.decode(), ring.key_id)
            generation = "0"
            head = Head(layout.FORMAT, new_cluster_id(), generation, 0, 0, "")
            written = [
                layout.put(keys.ring, value),
                layout.put(keys.generation, generation.encode()),
                layout.put(keys.head, layout.encode_head(head)),
            ]
            await client.txn(pb.TxnRequest(compare=[layout.modified_at(keys.head, 0)], success=written))
        except EtcdUntrustedError as e:
            raise StoreStartError(str(e)) from e
        except EtcdAwayError as e:
            if clock.monotonic() > deadline:
                raise StoreStartError(f"{e}: start etcd, or check --etcd-endpoints and its certificates") from e
            if str(e) != said:
                said = str(e)
                log.warning("%s: trying for %.0f s", e, deadline - clock.monotonic())
            await clock.sleep(_RETRY_S)
        except EtcdError as e:
            raise StoreStartError(f"etcd refuses: {e}") from e
