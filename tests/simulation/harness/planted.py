"""Faults planted in the real classes, to show that the net catches fish: each must break a run within 200 seeds.

Each is a context manager that changes one decision of the real code while it is entered. `CAUGHT_BY` names seeds that
have caught it: the test tries them first, then all 200, since any change of the code deals other fates to a seed.
`make sim PLANTED=1` searches from seed 0 and prints the first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from barque.master.raft import configuration as configurations
from barque.master.raft import quorum
from barque.master.raft.core import Core
from barque.master.raft.leadership import Leadership
from barque.master.raft.member import Member
from barque.master.raft.messages import Configuration, Entry, HardState
from barque.master.raft.ready import ReadState, Ready
from barque.master.raft.wal import Wal
from barque.master.store import hub
from barque.master.store.port import Result
from barque.master.store.results import Results
from tests.simulation.harness.disk import SimDisk


@contextlib.contextmanager
def _replaced(owner: Any, name: str, planted: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, planted)
    try:
        yield
    finally:
        setattr(owner, name, original)


def vote_not_persisted() -> AbstractContextManager[None]:
    """Term and vote never reach the disk."""
    append = Wal.append

    def forgetful(self: Wal, entries: Sequence[Entry], hard_state: HardState | None = None) -> None:
        append(self, entries, None)

    return _replaced(Wal, "append", forgetful)


def no_fsync() -> AbstractContextManager[None]:
    """A sync says that it was done, and was not."""
    return _replaced(SimDisk, "_sync", lambda self, file: None)


@contextlib.contextmanager
def wrong_quorum() -> Iterator[None]:
    """Half of an odd number of voters, rounded down, is taken for a majority."""

    def value(voters: Sequence[str], value_of: Callable[[str], Any]) -> Any:
        return sorted(map(value_of, voters), reverse=True)[max(0, len(voters) // 2 - 1)]

    def vote(voters: Sequence[str], votes: Mapping[str, bool]) -> bool | None:
        return True if sum(votes.get(voter, False) for voter in voters) >= max(1, len(voters) // 2) else None

    with _replaced(quorum, "_majority_value", value), _replaced(quorum, "_majority_vote", vote):
        yield


def old_term_committed() -> AbstractContextManager[None]:
    """Copies of an entry of an earlier term are counted, too (figure 8 of Raft's paper)."""

    def count_copies(self: Leadership) -> None:
        log = self._log
        index = quorum.agreed(log.configuration, self._match_of)
        if index > log.commit:
            log.commit_to(index)
            self.pending = True
            if log.configuration.joint and log.configuration_index <= index:
                self._configure(configurations.left(log.configuration))

    return _replaced(Leadership, "count_copies", count_copies)


def acknowledged_before_append() -> AbstractContextManager[None]:
    """What may be said only once the log has it is said at once."""
    carry_out = Member._carry_out

    def hasty(self: Member, ready: Ready) -> None:
        carry_out(self, ready._replace(now=[*ready.now, *ready.durable], durable=[]))

    return _replaced(Member, "_carry_out", hasty)


def read_index_skipped() -> AbstractContextManager[None]:
    """A read is answered from what is here, without asking whether that is the newest."""

    def read(self: Core, context: int) -> None:
        self._state.out.reads.append(ReadState(context, self.commit))

    return _replaced(Core, "read", read)


def disjoint_majorities() -> AbstractContextManager[None]:
    """Voters change in one step, whoever they were and will be."""

    def next_step(current: Configuration, wanted: Configuration) -> Configuration:
        return configurations._told(current, wanted)

    return _replaced(configurations, "next_step", next_step)


def watch_event_lost() -> AbstractContextManager[None]:
    """Every hundredth time that there is news for a watcher, it is not told."""
    push, told = hub._Watcher.push, [0]

    def forgetful(self: Any, lot: Any, settings: Any) -> None:
        told[0] += 1
        if told[0] % 100:
            push(self, lot, settings)

    return _replaced(hub._Watcher, "push", forgetful)


def applied_twice() -> AbstractContextManager[None]:
    """The first result of an op is not found, so that it takes effect whenever it comes."""

    def find(self: Results, boot_id: str, sequence: int) -> Result | None:
        return None

    return _replaced(Results, "find", find)


PLANTED: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "vote not persisted": vote_not_persisted,
    "no fsync": no_fsync,
    "wrong quorum": wrong_quorum,
    "commit of an old term's entry": old_term_committed,
    "ack before append": acknowledged_before_append,
    "read index skipped": read_index_skipped,
    "membership change with disjoint majorities": disjoint_majorities,
    "a lost watch event": watch_event_lost,
    "an op applied twice": applied_twice,
}

# Seeds at which each is caught, the first that were found; several, lest a change elsewhere moves one.
CAUGHT_BY: dict[str, Sequence[int]] = {
    "vote not persisted": (4, 5, 6, 9, 13),
    "no fsync": (0, 1, 2),
    "wrong quorum": (0, 1, 3),
    "commit of an old term's entry": (1, 6, 10, 18, 22),
    "ack before append": (25, 30, 45, 50),
    "read index skipped": (0, 1, 2),
    "membership change with disjoint majorities": (16, 24, 29, 41, 68),
    "a lost watch event": (0, 1, 2),
    "an op applied twice": (0, 3, 4),
}
