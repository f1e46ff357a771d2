"""When a learner has caught up, so that making it a voter does not cost the group its quorum.

As in Ongaro's dissertation, section 4.2.1: the leader's log as it stands at some moment is a round; a learner that has
all of a round within an election timeout has caught up. One that takes longer begins another round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from barque.master.raft.messages import Configuration


class _Round(NamedTuple):
    target: int
    began: float


class Learners:
    def __init__(self) -> None:
        self._rounds: dict[str, _Round] = {}

    def caught_up(self, matches: Mapping[str, int], last_index: int, now: float, election_s: float) -> str:
        """The first of those heard lately (`matches`: how far each one's log agrees) that may vote now; "" for none."""
        self._rounds = {learner: current for learner, current in self._rounds.items() if learner in matches}
        for learner, match in matches.items():
            current = self._rounds.get(learner)
            if current is None:
                self._rounds[learner] = _Round(last_index, now)
            elif match >= current.target:
                if now - current.began <= election_s:
                    return learner
                self._rounds[learner] = _Round(last_index, now)
        return ""


def promoted(configuration: Configuration, learner: str) -> Configuration:
    """The same with that learner as a voter."""
    return msgspec.structs.replace(
        configuration,
        voters=(*configuration.voters, learner),
        learners=tuple(other for other in configuration.learners if other != learner),
    )
