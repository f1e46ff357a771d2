"""Majorities, of one set of voters or of both halves of a joint configuration. Pure functions.

A joint configuration needs a majority of its new voters *and* one of its outgoing ones for everything (Ongaro's
dissertation, section 4.3), so whatever two of its decisions are, and whatever the configurations on either side decide,
they share a member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from barque.master.raft.messages import Configuration

T = TypeVar("T", int, float)


def agreed(configuration: Configuration, value_of: Callable[[str], T]) -> T:
    """The highest value that a quorum has reached: of indexes, rounds, or points in time.

    It asks for voters only, so a member that does not vote never counts, be it the leader itself.
    """
    reached = _majority_value(configuration.voters, value_of)
    if configuration.outgoing:
        reached = min(reached, _majority_value(configuration.outgoing, value_of))
    return reached


def outcome(configuration: Configuration, votes: Mapping[str, bool]) -> bool | None:
    """True: the vote is won, False: it cannot be won any more, None: it is open."""
    halves = [_majority_vote(configuration.voters, votes)]
    if configuration.outgoing:
        halves.append(_majority_vote(configuration.outgoing, votes))
    if False in halves:
        return False
    return None if None in halves else True


def _majority_value(voters: Sequence[str], value_of: Callable[[str], T]) -> T:
    return sorted(map(value_of, voters))[(len(voters) - 1) // 2]


def _majority_vote(voters: Sequence[str], votes: Mapping[str, bool]) -> bool | None:
    majority = len(voters) // 2 + 1
    granted = sum(votes.get(voter, False) for voter in voters)
    if granted >= majority:
        return True
    refused = sum(not votes.get(voter, True) for voter in voters)
    return False if len(voters) - refused < majority else None
