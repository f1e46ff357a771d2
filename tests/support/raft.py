"""A group of Raft cores in memory: each with a medium that may lag behind what it was given, a network that is a list.

Nothing here decides when something happens: the caller moves messages, writes and time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from barque.master.raft.core import Core
from barque.master.raft.messages import (
    Configuration,
    Entry,
    HardState,
    Kind,
    MemberInfo,
    Message,
    decode_configuration,
)
from barque.master.raft.ready import CoreSettings, ReadState, Ready, Start


class FixedPatience(random.Random):
    """Every election timeout is the same share of the way from the shortest to the longest."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def random(self) -> float:
        return self.share


def a_configuration(voters: Sequence[str], learners: Sequence[str] = (), outgoing: Sequence[str] = ()) -> Configuration:
    everyone = dict.fromkeys((*voters, *outgoing, *learners))
    members = tuple(MemberInfo(member, member, "192.0.2.1") for member in everyone)
    return Configuration(tuple(voters), tuple(outgoing), tuple(learners), members)


class Snapshot(NamedTuple):
    to: str
    sender: str
    index: int
    term: int
    configuration: Configuration
    state: tuple[Entry, ...]


class Medium:
    """What outlasts a crash: hard state, a snapshot, and the entries after it."""

    def __init__(self, configuration: Configuration, entries: Sequence[Entry] = (), term: int = 0) -> None:
        self.hard_state = HardState(max([term, *(entry.term for entry in entries)]))
        self.configuration = configuration
        self.base_index = self.base_term = 0
        self.state: tuple[Entry, ...] = ()
        self.entries = list(entries)

    def write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        if hard_state is not None:
            self.hard_state = hard_state
        if entries:
            del self.entries[entries[0].index - self.base_index - 1 :]
            assert len(self.entries) == entries[0].index - self.base_index - 1
            self.entries.extend(entries)

    def take_snapshot(self, index: int, state: Sequence[Entry]) -> None:
        """Let the snapshot reach `index`; `state` is all that was applied."""
        for entry in self.entries[: index - self.base_index]:
            if entry.kind == Kind.CONFIGURATION:
                self.configuration = decode_configuration(entry.data)
        count = index - self.base_index
        self.base_term = self.entries[count - 1].term if count else self.base_term
        del self.entries[:count]
        self.base_index, self.state = index, tuple(state[:index])

    def install(self, snapshot: Snapshot) -> None:
        self.configuration, self.state, self.entries = snapshot.configuration, snapshot.state, []
        self.base_index, self.base_term = snapshot.index, snapshot.term

    def start(self) -> Start:
        return Start(
            self.hard_state, self.configuration, self.base_index, self.base_term, list(self.entries), self.base_index
        )


class Machine:
    """One member. `applied` is its state: all entries it was handed as committed. `told` hears each Ready."""

    def __init__(
        self,
        member: str,
        medium: Medium,
        rng: random.Random,
        settings: CoreSettings = CoreSettings(),
        told: Callable[[Ready], None] = lambda _: None,
    ) -> None:
        self.member = member
        self.medium = medium
        self.rng = rng
        self.settings = settings
        self.told = told
        self.reads: list[ReadState] = []
        self.up = False

    def boot(self, now: float) -> None:
        self.core = Core(self.member, self.medium.start(), self.settings, self.rng, now)
        self.applied = list(self.medium.state)
        self.writes: deque[Ready] = deque()
        self.up = True

    def crash(self) -> None:
        """What was not written is lost."""
        self.up = False
        self.writes.clear()

    def take(self) -> Ready:
        """The next Ready: applied, its write left waiting; the caller sends its messages."""
        ready = self.core.ready()
        self.told(ready)
        self.reads += ready.reads
        if ready.hard_state is not None or ready.entries or ready.durable:
            self.writes.append(ready)
        if ready.committed:
            assert ready.committed[0].index == len(self.applied) + 1
            self.applied += ready.committed
            self.core.applied(len(self.applied))
        return ready

    def write(self) -> list[Message]:
        """Bring the oldest waiting Ready to the medium; the messages that waited for it."""
        ready = self.writes.popleft()
        self.medium.write(ready.hard_state, ready.entries)
        if ready.entries:
            self.core.persisted(ready.entries[-1].index, ready.entries[-1].term)
        return ready.durable

    def snapshot_for(self, to: str) -> Snapshot:
        medium = self.medium
        return Snapshot(to, self.member, medium.base_index, medium.base_term, medium.configuration, medium.state)

    def install(self, snapshot: Snapshot) -> bool:
        """False where it was not needed."""
        if not self.core.needs(snapshot.index, snapshot.term):
            return False
        assert not self.writes
        self.medium.install(snapshot)
        self.applied = list(snapshot.state)
        self.core.installed(snapshot.index, snapshot.term, snapshot.configuration)
        return True

    def compact(self, index: int) -> None:
        self.medium.take_snapshot(index, self.applied)
        self.core.compact(index)
