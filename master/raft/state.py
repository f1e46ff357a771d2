"""`State`: what the parts of a core share, the member's own view of the group."""

from __future__ import annotations

from barque.master.raft.log import Log
from barque.master.raft.messages import Message
from barque.master.raft.ready import CoreSettings, ReadState, Role, Start


class Outbox:
    """What the next `Ready` will carry. `now` waits for nothing, `durable` for the medium."""

    __slots__ = ("behind", "durable", "now", "reads")

    def __init__(self) -> None:
        self.now: list[Message] = []
        self.durable: list[Message] = []
        self.reads: list[ReadState] = []
        self.behind: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.now or self.durable or self.reads or self.behind)


class State:
    """`term` and `vote` are what the paper calls persistent; `leader` is "" while none is known; `now` is the time of
    the last event, in monotonic seconds.
    """

    def __init__(self, member: str, start: Start, settings: CoreSettings, now: float) -> None:
        self.member = member
        self.settings = settings
        self.election_s = settings.election_s
        self.now = now
        self.log = Log(start)
        self.term = max(start.hard_state.term, self.log.last_term)
        self.vote = start.hard_state.vote if self.term == start.hard_state.term else ""
        self.role = Role.FOLLOWER
        self.leader = ""
        self.out = Outbox()
