"""`Progress`: what a leader knows of one other member's log, and how much it may send there.

A member is *probed* until it is known where its log agrees: one message, then wait. Then entries are *replicated* in a
pipeline: each message is taken for received at once, within bounds on what is in flight. When the entries that it needs
are gone it gets a *snapshot*, and no entries until that has arrived. A refusal or a loss leads back to probing.
"""

from __future__ import annotations

import enum
from collections import deque

from barque.master.raft.ready import CoreSettings


class Flow(enum.Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """`match`: its log is the leader's up to there, durably. `next` is what it is sent next. `heard_at` is when it last
    answered (at first: when its leader met it), `answered` says whether it ever has. `read_round` is the newest round
    of reads it has confirmed, `told_commit` the newest commit index it was sent.
    """

    __slots__ = (
        "_inflight",
        "_inflight_bytes",
        "answered",
        "flow",
        "heard_at",
        "leave_at",
        "leaving",
        "match",
        "next",
        "nudged",
        "paused_until",
        "probed",
        "read_round",
        "told_commit",
    )

    def __init__(self, next_index: int, now: float) -> None:
        self.match = 0
        self.next = next_index
        self.flow = Flow.PROBE
        self.probed = False
        self.nudged = False
        self.paused_until = 0.0
        self.heard_at = now
        self.answered = False
        self.read_round = 0
        self.told_commit = 0
        # The index of the configuration that removes it, 0 for a member; and when to stop telling it.
        self.leaving = 0
        self.leave_at = 0.0
        # The last index of each message on its way, and its bytes.
        self._inflight: deque[tuple[int, int]] = deque()
        self._inflight_bytes = 0

    def has_room(self, settings: CoreSettings) -> bool:
        return len(self._inflight) < settings.inflight_messages and self._inflight_bytes < settings.inflight_bytes

    def sent(self, last_index: int, size_bytes: int, commit: int) -> None:
        """A message that ends with that entry has been sent."""
        self.told_commit = max(self.told_commit, commit)
        self.nudged = False
        if self.flow is Flow.PROBE:
            self.probed = True
        elif last_index >= self.next:
            self.next = last_index + 1
            self._inflight.append((last_index, size_bytes))
            self._inflight_bytes += size_bytes

    def accepted(self, index: int) -> bool:
        """It has everything up to `index`. True where that is new, or ends a probe."""
        news = index > self.match or (index == self.match and self.flow is Flow.PROBE)
        self.match = max(self.match, index)
        self.next = max(self.next, index + 1)
        while self._inflight and self._inflight[0][0] <= index:
            self._inflight_bytes -= self._inflight.popleft()[1]
        return news

    def rejected(self, previous_index: int, shared_at_most: int) -> bool:
        """It refused entries after `previous_index`, and shares nothing after `shared_at_most`. False for the answer to
        a message that no longer matters.
        """
        if self.flow is Flow.REPLICATE:
            stale = previous_index <= self.match
        else:
            stale = self.flow is Flow.SNAPSHOT or previous_index != self.next - 1
        if not stale:
            self.probe(min(previous_index, shared_at_most + 1))
        return not stale

    def probe(self, next_index: int) -> None:
        self._become(Flow.PROBE)
        self.next = max(next_index, self.match + 1)

    def replicate(self) -> None:
        self._become(Flow.REPLICATE)
        self.next = self.match + 1

    def await_snapshot(self) -> None:
        self._become(Flow.SNAPSHOT)

    def _become(self, flow: Flow) -> None:
        self.flow = flow
        self.probed = self.nudged = False
        self.paused_until = 0.0
        self._inflight.clear()
        self._inflight_bytes = 0
