"""Going on alone where the majority is lost for good: whether that may be done, and what is written for it.

Everything in the log counts as agreed from then on: some of it may have been acknowledged by a majority that included
this member, and none of it was refused. What only the lost members had is gone with them, so the revision rises, no id
of theirs is ever a member's again, and the term rises above any in which they may have voted for each other, which this
member has heard of.
"""

from __future__ import annotations

from barque.master.raft.messages import Configuration, Entry, HardState, Kind, encode_configuration
from barque.master.raft.ports import GroupFigures
from barque.master.raft.ready import Standing, Start
from barque.master.store.group import GroupError
from barque.master.store.membership import alone, is_alone
from barque.master.store.records import QuorumRecovered, encode_command
from barque.master.store.recovery import Reader

# Whoever was heard within this time answers.
_ANSWERS_S = 5.0
# Above any election that the others may have held without us.
_TERMS = 1000


def check_lost(member: str, standing: Standing, figures: GroupFigures) -> None:
    """Raises `GroupError` where the quorum is not lost, as far as this member can tell."""
    configuration = standing.configuration
    if is_alone(configuration, member):
        raise GroupError("this master is the only one: nothing is lost that it could go on without")
    if member not in configuration.voters:
        raise GroupError("this master has no vote, and perhaps not all that was acknowledged: run it on another one")
    answering = [
        peer.info.name
        for peer in figures.peers
        if peer.voter and peer.info.id != member and peer.silent_s is not None and peer.silent_s < _ANSWERS_S
    ]
    if standing.leader and standing.leader != member:
        leader = configuration.info(standing.leader)
        raise GroupError(f"master {leader.name if leader else standing.leader} leads: the quorum is not lost")
    if (len(answering) + 1) * 2 > len(configuration.voters):
        raise GroupError(f"{', '.join(answering)} still answers, which is a majority with this one: nothing is lost")


def write_alone(member: str, configuration: Configuration, reader: Reader, after: int) -> tuple[Start, list[Entry]]:
    """Make the log that of a group of one, durably: where Raft starts then, and the entries after `after`, which are
    agreed by that. Blocks; raises `LogWriteError`, `StoreStartError`.
    """
    wal, present = reader.wal, reader.entries(after)
    hard_state = wal.hard_state
    term, last = hard_state.term + _TERMS, wal.last_index
    sole = alone(configuration, member)
    added = [
        Entry(last + 1, term, int(Kind.CONFIGURATION), encode_configuration(sole)),
        Entry(last + 2, term, int(Kind.DATA), encode_command(QuorumRecovered(member))),
    ]
    hard_state = HardState(term, member, last + 2)
    wal.append(added, hard_state)
    return Start(hard_state, sole, last + 2, term, [], last + 2), [*present, *added]
