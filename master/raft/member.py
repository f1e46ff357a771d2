"""A member of the group: the shell around the core.

In: messages of peers, time, proposals, the log's answers. Out: what the core says is to be done (`Ready`): messages
sent, entries appended, committed ones given to the application, a few milliseconds' worth in each turn of the loop.

Everything that comes in one turn of the loop is carried out together in the next. One append is in the log's hands at a
time, and what gathers meanwhile goes into the next one; what peers may hear at once is sent before it. A failure of the
disk is lived with (see `_append_failed`); any other failure stops the member through `Application.failed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, TypeVar

from barque.client.supervise import StopError
from barque.master.raft import messages
from barque.master.raft.append_queue import AppendQueue, Batch
from barque.master.raft.configuration import members_of
from barque.master.raft.core import Core
from barque.master.raft.learners import Learners, promoted
from barque.master.raft.log_writer import LogWriter
from barque.master.raft.messages import Configuration, Entry, Kind, MemberInfo, Message, Parcel, decode_configuration
from barque.master.raft.pace import Pace
from barque.master.raft.ports import (
    MAX_PAYLOAD_BYTES,
    Application,
    Connector,
    Ground,
    GroupFigures,
    SnapshotSink,
    UnavailableError,
)
from barque.master.raft.reads import Reads
from barque.master.raft.ready import BusyError, CoreSettings, NotLeaderError, Ready, Role, Standing, Start
from barque.master.raft.retention import compaction_index
from barque.master.raft.survey import Survey
from barque.master.raft.transfer import Receiver, Senders, TransferSettings, Wire
from barque.master.raft.waits import Waits
from barque.master.raft.wal import LogWriteError, Wal

log = logging.getLogger(__name__)

T = TypeVar("T")

# A sync that takes longer is named in the log: the disk, not Barque, is what a user waits for.
_SLOW_SYNC_S = 1.0
# What need not be seen to in every turn is seen to this often.
_SEE_TO_S = 0.25
# A timer is never set to less: time that does not move on between two turns must not make a circle of them.
_SHORTEST_TIMER_S = 0.001
# A member that was removed is told so for this long.
_PARTING_S = 10.0


class MemberSettings(NamedTuple):
    """Bounds and times (seconds). `apply_entries` and `apply_bytes`: what one turn of the loop applies; `kept_bytes` of
    log stay in memory, `kept_for_laggards_bytes` while a member still needs them.
    """

    core: CoreSettings = CoreSettings()
    transfer: TransferSettings = TransferSettings()
    apply_entries: int = 256
    apply_bytes: int = 256 * 1024
    kept_bytes: int = 16 * 1024 * 1024
    kept_for_laggards_bytes: int = 64 * 1024 * 1024
    read_timeout_s: float = 5.0
    ask_again_s: float = 0.3
    change_timeout_s: float = 30.0
    retry_append_s: float = 1.0


class Member:
    """Make it, then `start` it; before that it calls nothing. Everything is called on the loop."""

    def __init__(
        self,
        member_id: str,
        start: Start,
        wal: Wal,
        application: Application,
        ground: Ground,
        connector: Connector,
        settings: MemberSettings = MemberSettings(),
    ) -> None:
        self.id = member_id
        self.applied_index = start.applied
        # The log's lane has an append in hand; `Application.drained` follows once it has none.
        self.busy = False
        # Why the newest append failed; "" once one succeeds.
        self.fault = ""
        self._clock = ground.clock
        self._application = application
        self._settings = settings
        now = self._clock.monotonic()
        self._core = Core(member_id, start, settings.core, ground.random, now)
        self.standing = self._core.standing
        self._survey = Survey(self._core)
        # The newest that is applied; the core's own is in force before that.
        self._configuration = start.configuration
        self._wal = wal
        self._writer = LogWriter(wal, application.seal, self._clock, ground.lanes("raft-log"))
        self._queue = AppendQueue(start.hard_state)
        self._committed: deque[Entry] = deque()
        self._transport = connector(self._receive)
        self._pace = Pace(settings.core.election_s)
        self._election_s = settings.core.election_s
        # No two runs of a member ask with the same number.
        first_context = int.from_bytes(ground.entropy(6), "big") + 1
        self._reads = Reads(first_context, settings.read_timeout_s, settings.ask_again_s, self.trouble)
        wire = Wire(member_id, lambda: self._core.term, self._post)
        self._senders = Senders(
            wire, settings.transfer, ground.entropy, application.offer, self._snapshot_sent, self._fail
        )
        self._receiver = Receiver(wire, settings.transfer, self._needs, application.accept, self._install, self._fail)
        self._learners = Learners()
        # Removed members, and until when they are told so.
        self._parting: dict[str, tuple[MemberInfo, float]] = {}
        self._waits = Waits()
        self._pausing = asyncio.Lock()
        # `_pauses`: no append is begun; `_rests`: nothing is applied either.
        self._pauses = self._rests = self._installs = False
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._retry: asyncio.TimerHandle | None = None
        self._see_to_at = now
        self._started = False
        self._stopped = ""

    def start(self) -> None:
        """Take part. A group of one leads in the loop's next turns."""
        self._started = True
        configuration = self._core.configuration
        self._transport.connect(configuration.members)
        if configuration.voters == (self.id,) and not configuration.joint:
            self._core.campaign()
        self._wake()

    # For the application

    def propose(self, payloads: Sequence[bytes]) -> None:
        """Have them replicated, in this order and without a gap; they come back through `Application.apply`, or
        `Application.retracted`. Raises `NotLeaderError`, `BusyError`, `ValueError` (one is larger than
        `MAX_PAYLOAD_BYTES`): nothing was proposed then.
        """
        if self._stopped:
            raise BusyError(self._stopped)
        if self._retry is not None and self._core.role is Role.LEADER:
            raise BusyError(self.fault)
        for payload in payloads:
            if len(payload) > MAX_PAYLOAD_BYTES:
                raise ValueError(f"an entry of {len(payload)} bytes is larger than {MAX_PAYLOAD_BYTES}")
        self._core.propose(payloads)
        self._wake()

    async def read_index(self) -> int:
        """Wait until this member has applied all that was acknowledged anywhere when this was called; returns the
        index it has applied. Raises `UnavailableError` after `read_timeout_s`.
        """
        if self._stopped:
            raise UnavailableError(self._stopped)
        answer = self._reads.add(self._clock.monotonic())
        self._wake()
        return await answer

    def send(self, to: str, data: bytes) -> None:
        """A `Parcel` to another member's application; it may be lost."""
        self._post(Parcel(to, self.id, self._core.term, data))

    async def change(self, configuration_of: Callable[[Configuration], Configuration]) -> None:
        """On the leader: make the configuration what `configuration_of` makes of the present one, and wait until that
        is committed. It names voters, learners and members as they shall be; the way there is ours, and so are the ids
        in `removed`. Raises `NotLeaderError`, `BusyError` (another change is under way), `ValueError`; and
        `UnavailableError` where it has not happened in time, though it may yet.
        """
        core = self._core
        if core.role is not Role.LEADER:
            raise NotLeaderError(core.leader)
        wanted = configuration_of(core.configuration)
        if wanted == core.configuration == self._configuration:
            return
        index, term = core.propose_configuration(wanted), core.term
        self._wake()

        def applied() -> bool:
            ours = core.term_at(index) in (None, term)  # and no other leader's, put in its place
            return ours and self.applied_index >= index and not self._configuration.joint

        def over() -> bool:
            return applied() or (core.role is not Role.LEADER and not self._committed)

        await self._waits.until(
            over, self._settings.change_timeout_s, "a majority of the members has not agreed in time"
        )
        if not applied():
            raise UnavailableError("leadership was lost during the change; whether it holds will be seen")

    async def transfer(self, to: str) -> None:
        """On the leader: hand over to the voter `to`, and wait until it leads. Raises `NotLeaderError`, `BusyError`,
        `ValueError`, `UnavailableError`.
        """
        self._core.transfer(to)
        self._wake()
        term = self._core.term

        def another() -> bool:
            return self.standing.term > term and self.standing.leader != ""

        timeout_s = 4 * self._election_s
        await self._waits.until(
            another, timeout_s, f"{self._survey.name(to)} has not taken over within {timeout_s:.0f} s"
        )
        if self.standing.leader != to:
            raise UnavailableError(f"{self._survey.name(self.standing.leader)} leads now, not {self._survey.name(to)}")

    async def in_log(self, job: Callable[[], T]) -> T:
        """Run `job` in the log's lane, between two appends; returns or raises what it does."""
        return await self._writer.run(job)

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Within: the log is at rest, all that is known to be committed is applied, nothing more is appended or
        applied. Raises `UnavailableError` where the log does not come to rest in time, or the member stops.
        """

        def at_rest() -> bool:
            # In force at once: the waiter's own turn comes later.
            self._rests = not self.busy and not self._committed
            return self._rests

        async with self._pausing:
            self._pauses = True
            try:
                await self._waits.until(at_rest, self._settings.change_timeout_s, "the disk does not come to rest")
                yield
            finally:
                self._pauses = self._rests = False
                self._wake()

    def trouble(self) -> str:
        """What keeps this member from reading and writing, in a few words: "no leader: 1 of 3 masters answer"."""
        if self._stopped or self.fault:
            return self._stopped or self.fault
        return self._survey.trouble(self._clock.monotonic(), 2 * self._election_s + _SEE_TO_S)

    def figures(self) -> GroupFigures:
        core, now = self._core, self._clock.monotonic()
        faults = {f"peer {name}": fault for name, fault in self._transport.faults().items()}
        if self.fault:
            faults["disk"] = self.fault
        if self._receiver.fault:
            faults["snapshot"] = self._receiver.fault
        return GroupFigures(
            member=self.id,
            term=core.term,
            leader=core.leader,
            last_index=core.last_index,
            commit=core.commit,
            applied=self.applied_index,
            election_s=self._election_s,
            stall_s=self._pace.stall_s(now),
            fsync_s=self._pace.sync_s(now),
            peers=[
                self._survey.peer(info, now, snapshot=info.id in self._senders) for info in core.configuration.members
            ],
            faults=faults,
        )

    def percentile_ms(self, percent: int) -> float:
        """Of the newest appends, in milliseconds; 0.0 before the first."""
        return self._writer.percentile_ms(percent)

    def note_stall(self, seconds: float) -> None:
        """The loop was held that long: every delay that is measured, the small ones as well."""
        self._pace.note_stall(seconds, self._clock.monotonic())

    async def close(self) -> None:
        """Take no further part; what is being appended is finished."""
        self._stop("the member is stopping")
        await self._receiver.close()
        await self._senders.close()
        self._writer.close()
        await self._transport.close()

    # Turns

    def _wake(self) -> None:
        """Have a turn, after what else comes in this one of the loop."""
        if not self._turn_due and not self._stopped:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._due)

    def _due(self) -> None:
        self._turn_due = False
        self._turn()

    def _turn(self) -> None:
        """Carry out what has come up since the last turn."""
        if self._stopped or not self._started:
            return
        try:
            core, now = self._core, self._clock.monotonic()
            question = self._reads.turn(now) if self._reads else None
            if question is not None or now >= core.deadline:
                core.tick(now)
            if question is not None:
                core.read(question)
            if now >= self._see_to_at:
                self._see_to(now)
            if core.has_ready:
                self._carry_out(core.ready())
            self._begin_append()
            self._apply()
            self._waits.turn()
            if core.has_ready:
                self._wake()
            self._set_timer(now)
        except Exception as failure:
            self._fail(failure)

    def _set_timer(self, now: float) -> None:
        """Have a turn when the core wants one. A timer that comes too early is left alone: most deadlines are put off
        again and again.
        """
        deadline = self._core.deadline
        if self._reads:
            deadline = min(deadline, now + self._settings.ask_again_s)
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = max(deadline, now + _SHORTEST_TIMER_S)
        self._timer = asyncio.get_running_loop().call_later(self._timer_at - now, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._turn()

    def _carry_out(self, ready: Ready) -> None:
        for message in ready.now:
            self._transport.send(message)
        self._queue.add(ready)
        self._committed.extend(ready.committed)
        for state in ready.reads:
            self._reads.answered(state)
        if ready.reads:
            self._reads.applied(self.applied_index)
        if ready.standing is not None:
            self._stand(ready.standing)
        for member in ready.behind:
            self._senders.start(member, self._core.base_index)

    def _see_to(self, now: float) -> None:
        """What need not be seen to in every turn."""
        self._see_to_at = now + _SEE_TO_S
        election_s = self._pace.election_s(now)
        if abs(election_s - self._election_s) > 0.1 * self._election_s:
            log.info("the election timeout is %.1f s now, it was %.1f s", election_s, self._election_s)
            self._election_s = election_s
            self._core.set_election(election_s)
        if self._core.role is Role.LEADER:
            self._promote(now)
        if any(until <= now for _, until in self._parting.values()):
            self._parting = {member: (info, until) for member, (info, until) in self._parting.items() if until > now}
            self._connect()

    def _promote(self, now: float) -> None:
        """Let a learner that has caught up vote."""
        core, configuration = self._core, self._core.configuration
        matches = {
            learner: progress.match
            for learner in configuration.learners
            if (progress := core.progress(learner)) and self._survey.silent_s(learner, now) < self._election_s
        }
        ready = self._learners.caught_up(matches, core.last_index, now, self._election_s)
        if ready and not configuration.joint:
            log.info("member %s has caught up: it shall vote", self._survey.name(ready))
            with contextlib.suppress(BusyError):
                core.propose_configuration(promoted(configuration, ready))

    def _stand(self, standing: Standing) -> None:
        before, self.standing = self.standing, standing
        if standing.leader != before.leader:
            self._reads.ask_again()
        if standing.configuration != before.configuration:
            self._members_changed(before.configuration, standing.configuration)
        if standing.role is not Role.LEADER:
            self._senders.keep(())
        self._application.stands(standing)

    def _members_changed(self, before: Configuration, configuration: Configuration) -> None:
        members = members_of(configuration)
        until = self._clock.monotonic() + _PARTING_S
        for info in before.members:
            if info.id not in members and info.id != self.id:
                self._parting[info.id] = (info, until)
        for member in members:
            self._parting.pop(member, None)
        self._survey.keep(members)
        self._senders.keep(members)
        self._connect()
        if self.id in members_of(before) and self.id not in members:
            log.warning("this master was removed from the cluster: it takes no further part")

    def _connect(self) -> None:
        parting = [info for info, _ in self._parting.values()]
        self._transport.connect([*self.standing.configuration.members, *parting])

    # The log

    def _begin_append(self) -> None:
        """Give the log what waits for it, unless it has work, or must have none."""
        if self.busy or self._pauses or self._retry is not None:
            return
        if not self._queue.due():
            for message in self._queue.messages():
                self._transport.send(message)
            return
        batch = self._queue.take()
        self.busy = True
        self._writer.append(batch.entries, batch.hard_state, lambda failure, took: self._appended(batch, failure, took))

    def _appended(self, batch: Batch, failure: BaseException | None, took: float) -> None:
        """The batch is on the medium, or not."""
        self.busy = False
        if self._stopped:
            return
        try:
            if failure is None:
                self._written(batch, took)
            elif isinstance(failure, LogWriteError):
                self._append_failed(batch, failure)
            else:
                raise failure
            self._application.drained()
        except Exception as unexpected:
            self._fail(unexpected)
        self._turn()

    def _written(self, batch: Batch, took: float) -> None:
        if self.fault:
            log.info("the log can be written again")
            self.fault = ""
        if took > _SLOW_SYNC_S:
            log.warning("the disk of %s took %.1f s to sync %d entries", self._wal.directory, took, len(batch.entries))
        self._pace.note_sync(took, self._clock.monotonic())
        self._queue.written(batch)
        for index, term in batch.ends:
            self._core.persisted(index, term)
        for message in batch.messages:
            self._transport.send(message)

    def _append_failed(self, batch: Batch, failure: LogWriteError) -> None:
        """Nobody hears what waits for this append. A member that is alone takes its proposals back; any other writes
        them again, every second, and a leader meanwhile hands over to one whose disk works.
        """
        if str(failure) != self.fault:
            log.error("%s: %s", self._wal.directory, failure)
        self.fault = str(failure)
        self._queue.give_back(batch)
        if members_of(self._core.configuration) == (self.id,) and batch.entries:
            self._retract(batch, failure)
        if self._queue.due():
            self._retry = asyncio.get_running_loop().call_later(self._settings.retry_append_s, self._try_again)
            self._hand_over()

    def _retract(self, batch: Batch, failure: LogWriteError) -> None:
        first, last = batch.entries[0].index, batch.entries[-1].index
        forgotten = [entry for entry in self._core.retract(first) if entry.kind == Kind.DATA]
        for index, term in self._queue.drop_entries():
            # All of them are void now, and the core need not wait for them.
            self._core.persisted(index, term)
        tried = [entry for entry in forgotten if entry.index <= last]
        untried = [entry for entry in forgotten if entry.index > last]
        if tried:
            self._application.retracted(tried, str(failure), undone=failure.undone)
        if untried:
            self._application.retracted(untried, str(failure), undone=True)

    def _hand_over(self) -> None:
        """Let the follower that is furthest lead, if this member does."""
        if self._core.role is not Role.LEADER:
            return
        heir = self._survey.furthest_voter()
        if heir:
            with contextlib.suppress(BusyError, ValueError):
                self._core.transfer(heir)

    def _try_again(self) -> None:
        self._retry = None
        self._turn()

    # The application

    def _apply(self) -> None:
        """Apply what is committed; a few milliseconds of it, the rest in the loop's next turns."""
        if not self._committed or self._rests:
            return
        entries: list[Entry] = []
        size = 0
        while self._committed and len(entries) < self._settings.apply_entries and size < self._settings.apply_bytes:
            entry = self._committed.popleft()
            size += len(entry.data)
            entries.append(entry)
            if entry.kind == Kind.CONFIGURATION:
                self._configuration = decode_configuration(entry.data)
        self._application.apply(entries)
        self.applied_index = entries[-1].index
        self._core.applied(self.applied_index)
        self._reads.applied(self.applied_index)
        kept = self._settings.kept_bytes, self._settings.kept_for_laggards_bytes
        self._core.compact(compaction_index(self._core, *kept, self._senders))
        if self._committed:
            self._wake()

    # Peers

    def _post(self, message: Message) -> None:
        if message.to == self.id:
            asyncio.get_running_loop().call_soon(self._receive, message)
        else:
            self._transport.send(message)

    def _receive(self, message: Message) -> None:
        if self._stopped or not self._started or message.to != self.id:
            return
        try:
            now = self._clock.monotonic()
            self._survey.heard(message.sender, now)
            if isinstance(message, Parcel):
                self._application.receive(message.sender, message.data)
            elif isinstance(message, messages.SnapshotOffer):
                if message.sender == self._core.leader and message.term == self._core.term:
                    self._receiver.offered(message)
            elif isinstance(message, messages.SnapshotChunk):
                self._receiver.take(message)
            elif isinstance(message, messages.SnapshotReply):
                self._senders.hear(message)
            elif not (self._installs and isinstance(message, messages.Append)):
                self._core.step(message, now)
                self._wake()
        except Exception as failure:
            self._fail(failure)

    def _snapshot_sent(self, member: str, ok: bool) -> None:
        if not self._stopped:
            self._core.reported(member, ok)
            self._wake()

    def _needs(self, offer: messages.SnapshotOffer) -> bool:
        return self._core.needs(offer.index, offer.snapshot_term)

    async def _install(self, offer: messages.SnapshotOffer, sink: SnapshotSink) -> None:
        """Put a snapshot in the place of log and state. Raises what `SnapshotSink.install` raises."""
        try:
            async with self.paused():
                if not self._needs(offer):
                    sink.abort()
                    return
                # What the leader appended meanwhile would end with the log it belongs to.
                self._installs = True
                await sink.install()
                self._queue.restart()
                self._committed.clear()
                self.applied_index = offer.index
                self._configuration = offer.configuration
                self._core.installed(offer.index, offer.snapshot_term, offer.configuration)
                self._reads.applied(offer.index)
        except UnavailableError as error:
            raise OSError(str(error)) from error
        finally:
            self._installs = False

    # Ends

    def _fail(self, failure: BaseException) -> None:
        """A fault that must not be worked around: the member stops."""
        if self._stopped:
            return
        if not isinstance(failure, StopError):
            log.critical("this member stops: %r", failure, exc_info=failure)
        self._stop(f"this member has stopped: {failure!r}")
        self._application.failed(failure)

    def _stop(self, why: str) -> None:
        if self._stopped:
            return
        self._stopped = why
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()
        self._reads.close(why)
        self._waits.close(why)
