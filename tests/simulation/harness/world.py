"""What all members together have shown, and what must never be otherwise: the simulator's all-seeing eye.

`observing` lays it under the real classes: every entry a member applies, every change its hub hands out, every
standing it takes and every message delivered pass by here, are compared with what others have shown before, and a
difference ends the run with a `BrokenError` that names it. What is compared:

* one leader in a term; a new leader's log holds what was committed in earlier terms (leader completeness)
* an entry of one index and term is the same everywhere and follows the same entry (log matching)
* the same entry is applied at an index by everyone, in order, without a gap, and leads to the same revision
* a change of one revision is the same everywhere, revisions follow each other, and a write changes the state once
"""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from barque.master.raft.messages import Append, Entry, Message, Parcel, SnapshotReply
from barque.master.raft.ready import Role, Standing
from barque.master.store.engine_raft import EngineRaft
from barque.master.store.hub import Hub
from barque.master.store.letters import Digest, decode_letter
from barque.master.store.port import Change, Key
from tests.simulation.harness.fleet import member_of
from tests.simulation.harness.loop import Process, SimLoop
from tests.simulation.harness.objects import write_of


class BrokenError(AssertionError):
    """An invariant does not hold."""


class Object(NamedTuple):
    revision: int
    json: bytes


State = dict[Key, Object]


class _Applied(NamedTuple):
    """The entry that stands at an index for ever, and the revision after it. `by_term` is the newest term of a leader
    that had been seen when it was first applied: it was committed in that term or before.
    """

    term: int
    digest: int
    revision: int
    by_term: int


class World:
    def __init__(self, loop: SimLoop, fired: Counter[str]) -> None:
        self.fired = fired
        self.loop = loop
        self.broken: BrokenError | None = None
        # What stands now, by all that was ever handed out; and each change by its revision.
        self.state: State = {}
        self.revision = 0
        self.changes: dict[int, Change] = {}
        # The revisions of each resource, rising; of all that were ever reached.
        self.revisions: dict[str, list[int]] = {}
        # States that took the place of another one, by revision.
        self.restored: dict[int, State] = {}
        # Ids of members that somebody wanted removed.
        self.leaving: dict[str, None] = {}
        # What a restore under way would put there.
        self.restoring: State | None = None
        # Called for each member that begins to lead a term.
        self.led: Callable[[str, int], None] = lambda member, term: None
        # Who watches, by name.
        self.watchers: dict[str, Any] = {}
        # The revision of each write that took effect, and the write of each revision.
        self.writes: dict[int, int] = {}
        self.value_at: dict[int, int] = {}
        self.leaders: dict[int, str] = {}
        self.applied: dict[int, _Applied] = {}
        self.highest_applied = 0
        self._placed: dict[tuple[int, int], tuple[int, int]] = {}
        self._next: dict[Process, int] = {}
        self._seen: dict[Process, int] = {}
        self._by_term_border: dict[int, int] = {}

    def breaks(self, what: str) -> None:
        """Note the first thing that is wrong; the conductor ends the run."""
        if self.broken is None:
            self.broken = BrokenError(f"at {self.loop.time():.4f} s: {self.loop.process.name}: {what}")
        raise self.broken

    # What members do.

    def applies(self, engine: EngineRaft, entries: Sequence[Entry], apply: Callable[[], None]) -> None:
        process = self.loop.process
        for entry in entries:
            expected = self._next.get(process)
            if expected is not None and entry.index != expected:
                self.breaks(f"applies entry {entry.index} where {expected} was due")
            self._next[process] = entry.index + 1
            digest = zlib.crc32(entry.data, entry.kind)
            known = self.applied.get(entry.index)
            if known is not None and (known.term, known.digest) != (entry.term, digest):
                self.breaks(f"applies another entry {entry.index} (of term {entry.term}) than others ({known})")
        before = engine.revision
        apply()
        if engine.revision < before:
            self.breaks(f"the revision went back from {before} to {engine.revision}")
        last = entries[-1]
        known = self.applied.get(last.index)
        if known is not None and known.revision not in (-1, engine.revision):
            self.breaks(f"after entry {last.index} the revision is {engine.revision}, others had {known.revision}")
        newest = max(self.leaders, default=0)
        for entry in entries:
            revision = engine.revision if entry is last else -1
            known = self.applied.get(entry.index)
            if known is None or (known.revision == -1 and revision != -1):
                by_term = newest if known is None else known.by_term
                digest = zlib.crc32(entry.data, entry.kind)
                self.applied[entry.index] = _Applied(entry.term, digest, revision, by_term)
                self._by_term_border[by_term] = max(entry.index, self._by_term_border.get(by_term, 0))
        self.highest_applied = max(self.highest_applied, last.index)

    def stands(self, member: str, standing: Standing, term_at: Callable[[int], int | None]) -> None:
        if standing.role is not Role.LEADER:
            return
        if standing.term not in self.leaders:
            self.led(member, standing.term)
        known = self.leaders.setdefault(standing.term, member)
        if known != member:
            self.breaks(f"{member} leads in term {standing.term}, in which {known} leads")
        committed = max((index for term, index in self._by_term_border.items() if term < standing.term), default=0)
        if committed and term_at(committed) not in (None, self.applied[committed].term):
            self.breaks(
                f"leads in term {standing.term} without entry {committed} of term {self.applied[committed].term}, "
                "which was committed before"
            )

    def delivers(self, _: str, __: str, message: Message) -> None:
        if isinstance(message, SnapshotReply):
            self.fired["snapshot installed"] += message.done
        elif isinstance(message, Parcel):
            self.fired["state hash told"] += isinstance(decode_letter(message.data), Digest)
        elif isinstance(message, Append):
            before = message.previous_term
            for entry in message.entries:
                place, content = (entry.index, entry.term), (before, zlib.crc32(entry.data, entry.kind))
                if self._placed.setdefault(place, content) != content:
                    self.breaks(f"entry {entry.index} of term {entry.term} differs between members")
                before = entry.term

    def publishes(self, changes: Sequence[Change]) -> None:
        """A member's hub hands out changes, also those that it rebuilds at a start."""
        process = self.loop.process
        for change in changes:
            revision = change.revision
            if revision <= self._seen.get(process, 0):
                self.breaks(f"hands out revision {revision} after {self._seen[process]}")
            self._seen[process] = revision
            known = self.changes.get(revision)
            if known is not None:
                if (known.key, known.after) != (change.key, change.after):
                    self.breaks(f"revision {revision} is {change}, others had {known}")
                continue
            if revision != self.revision + 1:
                self.breaks(f"revision {revision} follows {self.revision}")
            self._take(change)

    def restarts(self, revision: int) -> None:
        """A member's state was replaced: by a restore, or by the snapshot of a leader."""
        self._seen[self.loop.process] = revision
        # A snapshot from a leader holds what entries did, so they are not due here any more.
        self._next.pop(self.loop.process, None)
        if revision <= self.revision:
            return
        if self.restoring is None:
            self.breaks(f"the state was replaced at revision {revision}, and nobody restores")
        assert self.restoring is not None
        if revision < self.revision + 10**9:
            self.breaks(f"a restore took the revision from {self.revision} to {revision}")
        self.fired["restore"] += 1
        self.revision = revision
        self.state = dict(self.restoring)
        self.restored[revision] = dict(self.state)

    # What is known.

    def state_at(self, revision: int) -> State:
        """The objects that stood at a revision."""
        base = max((r for r in self.restored if r <= revision), default=0)
        state = dict(self.restored[base]) if base else {}
        for at in range(base + 1, revision + 1):
            _lay(state, self.changes[at])
        return state

    def committed_by(self, revision: int) -> int | None:
        """The id of the write that made this revision; 0 for none, None where it was not seen."""
        return 0 if revision == 0 else self.value_at.get(revision)

    def _take(self, change: Change) -> None:
        self.revision = change.revision
        self.changes[change.revision] = change
        self.revisions.setdefault(change.key.resource, []).append(change.revision)
        _lay(self.state, change)
        if change.after is not None:
            write = write_of(change.after.json)
            if write in self.writes:
                self.breaks(
                    f"write {write} took effect at revision {self.writes[write]}, and at {change.revision} again"
                )
            self.writes[write] = change.revision
            self.value_at[change.revision] = write


def _lay(state: State, change: Change) -> None:
    if change.after is None:
        state.pop(change.key, None)
    else:
        state[change.key] = Object(change.revision, change.after.json)


@contextlib.contextmanager
def observing(world: World) -> Iterator[None]:
    """Within, what engines and hubs do is seen by `world`."""
    apply, stands = EngineRaft.apply, EngineRaft.stands
    publish, restart = Hub.publish, Hub.restart

    def seen_apply(self: EngineRaft, entries: Sequence[Entry]) -> None:
        world.applies(self, entries, lambda: apply(self, entries))

    def seen_stands(self: EngineRaft, standing: Standing) -> None:
        world.stands(self.member_id, standing, lambda index: member_of(self)._core.term_at(index))
        stands(self, standing)

    def seen_publish(self: Hub, changes: Sequence[Change], revision: int) -> None:
        world.publishes(changes)
        publish(self, changes, revision)

    def seen_restart(self: Hub, revision: int, *why: str) -> None:
        world.restarts(revision)
        restart(self, revision, *why)

    classes: list[tuple[Any, str, Any, Any]] = [
        (EngineRaft, "apply", apply, seen_apply),
        (EngineRaft, "stands", stands, seen_stands),
        (Hub, "publish", publish, seen_publish),
        (Hub, "restart", restart, seen_restart),
    ]
    for owner, name, _, seen in classes:
        setattr(owner, name, seen)
    try:
        yield
    finally:
        for owner, name, original, _ in classes:
            setattr(owner, name, original)
