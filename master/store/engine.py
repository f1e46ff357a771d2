"""`EngineRaft`: the store as a group of members that agree through Raft; a cluster with one master is a group of one.

Whatever is to hold goes through the log: `commit` proposes (see `proposals`), the group agrees, and each member applies
the same entries in the same order (see `replica`), publishes what changed to its watches, and answers the commits that
came through it. So a write is readable where it was made as soon as it is answered. Reads of the newest state first ask
for a `barrier`: the group confirms up to which entry everything acknowledged goes, and that is awaited here. A member
that is alone knows that itself.

`leads` is said of a leader only once it has applied an entry of its own term, and with it all that was acknowledged
before: what leaders do begins on the newest state.

Files (see `wal`, `snapshot`, `keyring`, `directory`): everything a start needs is on the medium before a commit is
answered, so SIGKILL at any instruction loses nothing and `close` writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from barque.client.supervise import StopError
from barque.master.raft.member import Member, MemberSettings
from barque.master.raft.messages import Configuration, Entry, Kind, MemberInfo
from barque.master.raft.ports import (
    Connector,
    Ground,
    GroupFigures,
    Lane,
    SnapshotHead,
    SnapshotSink,
    SnapshotSource,
    UnavailableError,
)
from barque.master.raft.ready import BusyError, NotLeaderError, Role, Standing, Start
from barque.master.raft.wal import SEGMENT_BYTES
from barque.master.store.directory import Directory
from barque.master.store.fsm import StateMachine
from barque.master.store.group import GroupError, MemberRemovedError
from barque.master.store.group_changes import GroupChanges
from barque.master.store.hub import Hub, HubSettings
from barque.master.store.inspection import Inspection
from barque.master.store.introductions import Introductions
from barque.master.store.keyring import KeyRing
from barque.master.store.letters import Digest, Forward, Reply, Request, decode_letter
from barque.master.store.membership import is_alone
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
    Unknown,
)
from barque.master.store.proposals import OutcomeUnknownError, Proposals, ProposalSettings
from barque.master.store.quorum_loss import check_lost, write_alone
from barque.master.store.records import (
    COMMAND_FORMAT,
    Command,
    Content,
    Inspect,
    encode_command,
    encode_entry,
    seal_payload,
    split_ops,
)
from barque.master.store.recovery import Reader, Recovered
from barque.master.store.replica import Replica, Turn
from barque.master.store.snapshot import Head
from barque.master.store.snapshot_transfer import Exchange
from barque.master.store.upkeep import Kept, Upkeep

log = logging.getLogger(__name__)

T = TypeVar("T")

# What a restart as the only master applies in one turn of the loop.
_ENTRIES = 256
# How long a key's rotation waits for the log to be applied; a group without a quorum cannot.
_REACH_S = 30.0


class Settings(NamedTuple):
    """`inspect_s`: how often members compare their states; `hand_over_s`: how long a leader that is closed tries to let
    another lead.
    """

    segment_bytes: int = SEGMENT_BYTES
    snapshot_log_bytes: int = 24 * 1024 * 1024
    inspect_s: float = 60.0
    hand_over_s: float = 2.0
    proposals: ProposalSettings = ProposalSettings()
    hub: HubSettings = HubSettings()
    member: MemberSettings = MemberSettings()
    release: str = ""


class Ship(NamedTuple):
    """What an engine is made of: its directory, held; what was recovered from it; its keys; who it is."""

    directory: Directory
    recovered: Recovered
    ring: KeyRing
    hub: Hub
    info: MemberInfo | None
    lane: Lane


class EngineRaft:
    """Implements `port.Store`, `group.Group`, `ports.Application`, and what its parts ask; see `open_raft_store`."""

    def __init__(self, ship: Ship, ground: Ground, connector: Connector, settings: Settings) -> None:
        self._directory, recovered, self._ring, self._hub, info, lane = ship
        self._replica, start, self._wal, snapshots, unsaved_bytes = recovered
        self._ground = ground
        self._connector = connector
        self._settings = settings
        self._id = self._directory.identity.member_id
        self._boot_id = ground.entropy(8).hex()
        self._sequence = itertools.count(1)
        self._stopping = ""
        self._leads = False
        # Done and made anew whenever `leads` changes.
        self._turned = self._future()
        self._ended = self._future()
        # Futures of those who wait for an entry to be applied.
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._member = self._make_member(start)
        self._proposals = Proposals(self._id, lambda: self._member, ground.clock, settings.proposals)
        self._changes = GroupChanges(self._id, lambda: self._member, ground.clock, ground.entropy)
        self._introductions = Introductions(self._id, info, settings.release, self._present, ground.clock)
        self._inspection = Inspection(self._id, self._group, lambda to, data: self._member.send(to, data), self.failed)
        kept = Kept(self._directory.path, ground.disk, self._wal, self._ring, snapshots, unsaved_bytes)
        self._upkeep = Upkeep(self, kept, ground.clock, lane, settings.snapshot_log_bytes)
        self._exchange = Exchange(self, self._upkeep, self._directory, ground.disk, self._ring)
        self._own(self._hub.run(), "store-bookmarks")

    def start(self) -> None:
        """Take part."""
        self._own(self._introductions.run(), "store-hello")
        self._own(self._inspect(), "store-inspect")
        self._member.start()
        self.stands(self._member.standing)

    # What the API stands on.

    @property
    def revision(self) -> int:
        return self._replica.machine.revision

    @property
    def cluster_id(self) -> str:
        return self._directory.cluster_id

    @property
    def leads(self) -> bool:
        return self._leads

    @property
    def fault(self) -> str:
        """Why this member's disk refused the newest write; "" once one succeeds."""
        return self._member.fault

    async def led(self, *, leads: bool) -> None:
        while self._leads is not leads:
            self._check_open()
            await asyncio.shield(self._turned)
        self._check_open()

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result]:
        """As `Store.commit`. Raises `ValueError` for an op that breaks the port's contract."""
        if not ops:
            return []
        self._check_open()
        if self._proposals.named:
            ops = [op if op.boot_id else self._named(op) for op in ops]
        parts: list[tuple[bytes, Content]] = [encode_entry(some) for some in split_ops(ops)]
        try:
            outcomes = await self._proposals.add(parts).answer
        except OutcomeUnknownError as e:
            return [Unknown(str(e)) for _ in ops]
        results: list[Result] = []
        for outcome in outcomes:
            assert isinstance(outcome, list), "ops have results"
            results += outcome
        return results

    def get(self, key: Key) -> Stored | None:
        return self._replica.machine.get(key)

    def reserved(self, prefix: str) -> dict[str, Key]:
        return self._replica.machine.reserved(prefix)

    def newest(self, resources: Sequence[str]) -> int:
        return self._hub.newest(resources)

    def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Batch]:
        return self._hub.watch(resource, since, selected)

    def subscribe(self, resource: str, since: int, selected: Filter, on_news: Callable[[], None]) -> Subscription:
        return self._hub.subscribe(resource, since, selected, on_news)

    def changes(self, since: int) -> AsyncIterator[list[Change]]:
        return self._hub.changes(since)

    async def barrier(self) -> int:
        self._check_open()
        # A member that is alone has acknowledged nothing but what its disk has.
        if self._proposals.named or self._replica.index < self._wal.last_index:
            try:
                await self._member.read_index()
            except UnavailableError as e:
                raise StoreUnavailableError(str(e)) from e
        return self.revision

    async def wait_for_revision(self, revision: int) -> None:
        await self._hub.wait_for_revision(revision)

    def figures(self) -> StoreFigures:
        return StoreFigures(
            objects=len(self.machine),
            log_bytes=self._wal.size_bytes,
            snapshot_bytes=self._upkeep.snapshot_bytes,
            fsync_p50_ms=self._member.percentile_ms(50),
            fsync_p99_ms=self._member.percentile_ms(99),
            key_id=self._ring.key_id,
            key_created=self._ring.created,
        )

    def save_snapshot(self) -> AsyncIterator[bytes]:
        return self._upkeep.save()

    async def restore_snapshot(self, chunks: AsyncIterator[bytes]) -> Restored:
        if behind := self._introductions.behind(COMMAND_FORMAT):
            raise StoreUnavailableError(f"{', '.join(behind)} runs a release that cannot restore: upgrade it first")
        restored = await self._upkeep.restore(chunks, self._propose, self._ground.entropy(8).hex())
        log.warning("restored %d objects at revision %d", restored.objects, restored.revision)
        return restored

    async def rotate_key(self) -> KeyRotated:
        return await self._upkeep.rotate_key()

    def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        if revision is None or revision == self.revision:
            return self.machine.list(resource, selected)
        return self.machine.list_at(resource, selected, revision, self._hub.superseded(resource, revision))

    # The group.

    @property
    def member_id(self) -> str:
        return self._id

    @property
    def standing(self) -> Standing:
        return self._member.standing

    @property
    def configuration(self) -> Configuration:
        return self._member.standing.configuration

    @property
    def alone(self) -> bool:
        """This member is the only one."""
        return is_alone(self.configuration, self._id)

    def group_figures(self) -> GroupFigures:
        return self._introductions.figures()

    async def add_member(self, info: MemberInfo) -> None:
        self._check_open()
        await self._changes.ask("add", info=info)

    async def remove_member(self, member: str) -> None:
        self._check_open()
        await self._changes.ask("remove", member)

    async def transfer(self, to: str = "") -> str:
        self._check_open()
        return await self._changes.ask("transfer", to)

    async def recover_quorum(self) -> Restored:
        self._check_open()
        check_lost(self._id, self._member.standing, self._member.figures())
        await self._upkeep.go_on_alone(self._go_on_alone)
        try:
            async with asyncio.timeout(_REACH_S):
                await self.led(leads=True)
        except TimeoutError:
            raise StoreUnavailableError(f"this master is alone now and does not lead yet: {self.fault}") from None
        return Restored(self.revision, len(self.machine))

    # What Raft asks of its application.

    def apply(self, entries: Sequence[Entry]) -> None:
        replica, proposals = self._replica, self._proposals
        changes: list[Change] = []
        outcomes: list[tuple[bytes, list[Result] | Turn]] = []
        size = 0
        for entry in entries:
            size += len(entry.data)
            content = proposals.content(entry.data) if entry.kind == Kind.DATA else None
            if isinstance(content, list):
                results, changed = replica.apply_ops(entry, content)
                changes += changed
                outcomes.append((entry.data, results))
                continue
            if changes:
                self._hub.publish(changes, replica.machine.revision)
                changes = []
            _, turn = replica.apply(entry, content)
            self._turn(turn)
            outcomes.append((entry.data, turn))
        self._hub.publish(changes, replica.machine.revision)
        for payload, outcome in outcomes:
            proposals.applied(payload, outcome)
        self._advanced(size)

    def seal(self, entry: Entry) -> bytes:
        return seal_payload(entry.data, entry.index, self._ring)

    def retracted(self, entries: Sequence[Entry], why: str, *, undone: bool) -> None:
        self._proposals.retracted([entry.data for entry in entries], why, undone=undone)

    def drained(self) -> None:
        self._proposals.drained()

    def receive(self, sender: str, data: bytes) -> None:
        letter = decode_letter(data)
        if isinstance(letter, Forward):
            self._proposals.take(letter.payloads)
        elif isinstance(letter, Digest):
            self._inspection.told(sender, letter)
        elif isinstance(letter, Request | Reply):
            self._changes.receive(sender, letter)
        elif letter is not None:
            self._introductions.told(sender, letter)

    def stands(self, standing: Standing) -> None:
        alone_now = is_alone(standing.configuration, self._id)
        self._proposals.stands(standing.leader, standing.term, alone=alone_now)
        self._lead()
        if standing.configuration.members and alone_now != self._directory.identity.alone:
            self._own(self._keep_identity(alone_now), "store-identity")

    async def offer(self, after: int) -> SnapshotSource:
        return await self._exchange.offer(after)

    async def accept(self, head: SnapshotHead) -> SnapshotSink:
        return await self._exchange.accept(head)

    def failed(self, failure: BaseException) -> None:
        """A fault of ours that must not be worked around: the store stops."""
        if self._stopping:
            return
        why = str(failure) if isinstance(failure, StopError) else repr(failure)
        log.critical("the store stops: %s", why)
        self._stopping = f"the store has stopped: {why}"
        if not self._ended.done():
            # Whoever awaits `run` hears it before those who hear only that the store is not there any more.
            self._ended.set_exception(failure)
            self._ended.exception()  # It is in the log already, should nobody await it.
        self._proposals.fail(self._stopping)
        self._lead()
        self._hub.close(StoreUnavailableError(self._stopping))
        self._advanced(0)
        self._own(self._member.close(), "store-stop")

    # What upkeep and exchange ask of the engine.

    @property
    def machine(self) -> StateMachine:
        return self._replica.machine

    @property
    def head(self) -> Head:
        replica = self._replica
        return Head(
            replica.index, replica.term, replica.machine.revision, self.cluster_id, False, replica.configuration
        )

    async def in_log(self, job: Callable[[], T]) -> T:
        return await self._member.in_log(job)

    async def reach(self, index: int) -> None:
        try:
            async with asyncio.timeout(_REACH_S):
                # Whoever is woken may find that another restore has begun.
                while not self._stopping and (self._replica.index < index or self._replica.restoring):
                    reached = self._future()
                    self._awaited.append((index, reached))
                    await reached
        except TimeoutError:
            why = "a restore is under way" if self._replica.restoring else self._member.trouble()
            raise StoreUnavailableError(f"{why}: entry {index} is not applied yet") from None
        self._check_open()

    def replace(self, replica: Replica) -> None:
        before, self._replica = self._replica.machine, replica
        self._inspection.close()
        self._hub.restart(replica.machine.revision, "the state came anew from another master")
        self._let_go(before)
        self._proposals.found(replica.machine.result_of)
        self._advanced(0)

    # Its life.

    async def run(self) -> None:
        """Wait until the store is closed; raises what broke it. For the daemon to supervise."""
        await asyncio.shield(self._ended)

    def dismissed(self) -> None:
        """Another member has said that this one was removed, while it was away: its data is of no use any more."""
        self.failed(self._removed())

    def note_stall(self, seconds: float) -> None:
        """The event loop was held that long."""
        self._member.note_stall(seconds)

    async def close(self) -> None:
        """Hand over, answer what waits, end the watches, let go of the directory."""
        if not self._stopping:
            await self._upkeep.finish()
            await self._hand_over()
        self._stopping = self._stopping or "the store is stopping"
        await self._upkeep.close(self._stopping)
        self._proposals.hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if not self._proposals.named else self._settings.proposals.deadline_s):
                await self._proposals.idle()
        self._proposals.fail(self._stopping)
        self._inspection.close()
        self._changes.close()
        for task in list(self._tasks):
            if task.get_name() != "store-stop":
                task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        self._hub.close(StoreUnavailableError(self._stopping))
        await self._member.close()
        self._wal.close()
        self._directory.release()
        self._lead()
        self._advanced(0)
        if not self._ended.done():
            self._ended.set_result(None)

    async def _go_on_alone(self) -> None:
        # What was waited for may have taken long enough for the others to come back.
        check_lost(self._id, self._member.standing, self._member.figures())
        log.warning("this master goes on alone: the others are given up for lost")
        await self._member.close()
        try:
            present, after = self.configuration, self._replica.index
            reader = Reader(self._wal, self._directory, self._ground.disk, self._ring, present)
            start, entries = await self._upkeep.in_lane(lambda: write_alone(self._id, present, reader, after))
            for position in range(0, len(entries), _ENTRIES):
                self.apply(entries[position : position + _ENTRIES])
                await asyncio.sleep(0)
            self._member = self._make_member(start)
            self._member.start()
            self.stands(self._member.standing)
        except Exception as failure:
            # There is no way back to the group; the next start goes on with what stands in the log.
            self.failed(failure)
            raise

    def _make_member(self, start: Start) -> Member:
        return Member(self._id, start, self._wal, self, self._ground, self._connector, self._settings.member)

    def _present(self) -> tuple[Member, bool]:
        return self._member, self._leads

    def _group(self) -> tuple[Configuration, str]:
        standing = self._member.standing
        return standing.configuration, standing.leader

    def _named(self, op: Op) -> Op:
        return msgspec.structs.replace(op, boot_id=self._boot_id, sequence=next(self._sequence))

    async def _propose(self, command: Command) -> Turn:
        """Have every member do it; what it did here. Raises `StoreUnavailableError`, `OutcomeUnknownError`."""
        self._check_open()
        (outcome,) = await self._proposals.add([(encode_command(command), command)]).answer
        assert isinstance(outcome, Turn), "a command turns the state"
        return outcome

    def _turn(self, turn: Turn) -> None:
        """A command or a configuration was applied."""
        replica = self._replica
        if turn.restarted:
            self._hub.restart(replica.machine.revision)
        if turn.replaced is not None:
            self._let_go(turn.replaced)
        if turn.inspect:
            self._inspection.begin(replica.index, replica.machine.view())
        if self._id in replica.configuration.removed and not replica.configuration.joint:
            raise self._removed()

    def _removed(self) -> MemberRemovedError:
        return MemberRemovedError(
            f"this master was removed from cluster {self.cluster_id} and stops; to bring it back, move "
            f"{self._directory.path.parent} away and run `barque master join`"
        )

    def _let_go(self, machine: StateMachine) -> None:
        """Letting go of all objects at once would hold the loop."""
        dying = [*machine.view().objects.chunks]

        def some() -> None:
            if dying:
                dying.pop()
                asyncio.get_running_loop().call_soon(some)

        some()

    def _advanced(self, size: int) -> None:
        """Entries of `size` bytes were applied: see who waits for them."""
        replica = self._replica
        self._upkeep.wrote(size, may_begin=not replica.restoring)
        if not self._leads:
            self._lead()
        if self._awaited:
            done = [w for w in self._awaited if self._stopping or (w[0] <= replica.index and not replica.restoring)]
            self._awaited = [w for w in self._awaited if w not in done]
            for _, reached in done:
                if not reached.done():
                    reached.set_result(None)

    def _lead(self) -> None:
        """Say whether this member leads, once that has changed."""
        standing = self._member.standing
        leads = standing.role is Role.LEADER and self._replica.term == standing.term and not self._stopping
        if leads is not self._leads or self._stopping:
            self._leads = leads
            turned, self._turned = self._turned, self._future()
            turned.set_result(None)

    async def _keep_identity(self, alone_now: bool) -> None:
        """What a start that finds damage tells the user to do depends on it."""
        identity = self._directory.identity._replace(alone=alone_now)
        try:
            await self._upkeep.in_lane(lambda: self._directory.keep_identity(identity))
        except (OSError, StoreUnavailableError) as e:
            log.warning("cannot write the identity of %s: %s", self._directory.path, e)

    async def _inspect(self) -> None:
        """As the leader: have the members compare their states, and a restore that nobody goes on with given up."""
        while True:
            await self._ground.clock.sleep(self._settings.inspect_s)
            behind = self._introductions.behind(COMMAND_FORMAT)
            wanted = len(self.configuration.members) > 1 or self._replica.restoring
            if self._leads and wanted and not behind:
                command = Inspect(f"{self._boot_id}-{next(self._sequence)}")
                with contextlib.suppress(NotLeaderError, BusyError):
                    self._member.propose([encode_command(command)])

    async def _hand_over(self) -> None:
        """Let another member lead before this one goes."""
        if not self._leads or len(self.configuration.voters) < 2:
            return
        try:
            async with asyncio.timeout(self._settings.hand_over_s):
                await self._changes.ask("transfer")
        except (TimeoutError, GroupError, StoreUnavailableError) as e:
            log.info("no other master has taken over: %s", e)

    def _check_open(self) -> None:
        if self._stopping:
            raise StoreUnavailableError(self._stopping)

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run it as a task of the store; its failure is a fault of ours."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = None

        def ended(task: asyncio.Task[None]) -> None:
            del self._tasks[task]
            failure = None if task.cancelled() else task.exception()
            if failure is not None:
                self.failed(failure)

        task.add_done_callback(ended)

    def _future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()
