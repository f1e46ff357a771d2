"""What the core starts from and what it tells its shell to do. Plain values."""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from barque.master.raft.messages import Configuration, Entry, HardState, Message


class Role(enum.Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class CoreSettings(NamedTuple):
    """Times in seconds; an election timeout is drawn from `election_s` to twice that. `inflight_bytes` bounds what is
    sent to one follower and not acknowledged; `uncommitted_bytes` what a leader takes on before a majority has it.
    """

    heartbeat_s: float = 0.1
    election_s: float = 1.0
    append_bytes: int = 1024 * 1024
    inflight_messages: int = 256
    inflight_bytes: int = 8 * 1024 * 1024
    uncommitted_bytes: int = 64 * 1024 * 1024


class Start(NamedTuple):
    """What the disk holds. `configuration` is the one in force at `applied`; `entries` follow `base_index` without a
    gap, all of them durable; `applied` of them, at least `base_index`, stand in the application's state already.
    """

    hard_state: HardState
    configuration: Configuration
    base_index: int
    base_term: int
    entries: list[Entry]
    applied: int


class ReadState(msgspec.Struct, frozen=True):
    """The read numbered `context` may be answered once `index` is applied; -1: it cannot be known, ask again."""

    context: int
    index: int


class Standing(msgspec.Struct, frozen=True):
    """How things stand: told whenever any of it changes. `leader` is "" while none is known."""

    role: Role
    term: int
    leader: str
    configuration: Configuration


class Ready(NamedTuple):
    """What to do now, in this order; each instruction is given once.

    `now` may be sent at once. `hard_state` (None: unchanged) and `entries` go to the log, in one append; an entry whose
    index exists already takes the place of that one and of all after it. `durable` may be sent only once they, and
    everything handed out before, are on the medium; then call `Core.persisted(last entry's index, its term)`.
    `committed` are durable here and may be applied, in order; then call `Core.applied(index)`. `reads` answer
    `Core.read`. `behind` are members that need a snapshot: the shell sends one and reports back. `standing` is None
    where it has not changed.
    """

    now: list[Message]
    hard_state: HardState | None
    entries: list[Entry]
    durable: list[Message]
    committed: list[Entry]
    reads: list[ReadState]
    behind: list[str]
    standing: Standing | None


class NotLeaderError(Exception):
    """Only the leader can do this; `leader` is its id, "" where none is known."""

    def __init__(self, leader: str) -> None:
        super().__init__(f"the leader is {leader or 'not known'}")
        self.leader = leader


class BusyError(Exception):
    """Nothing was done, and nothing will be: too much waits, or a change of this kind is under way."""


class DivergedError(Exception):
    """What this member sees contradicts what Raft guarantees (two leaders in one term, a committed entry that would
    change): data was lost or cloned somewhere. The member must stop rather than go on.
    """
