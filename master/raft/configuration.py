"""The steps from one configuration to the next. Pure functions.

Learners, names and addresses change in one step. Voters change in two: a joint configuration first, and the new one
when that is committed. In a joint one a member may be outgoing and a learner: it votes until the joint one is left.
"""

from __future__ import annotations

import msgspec

from barque.master.raft.messages import Configuration, MemberInfo

# So many removed members are remembered: a removed one that returns is told so, as long as this reaches back.
REMEMBERED = 64


def members_of(configuration: Configuration) -> tuple[str, ...]:
    """Everyone that entries go to, each once, voters first."""
    return tuple(dict.fromkeys((*configuration.voters, *configuration.outgoing, *configuration.learners)))


def votes(configuration: Configuration, member: str) -> bool:
    return member in configuration.voters or member in configuration.outgoing


def next_step(current: Configuration, wanted: Configuration) -> Configuration:
    """What to append now so that `wanted` is in force in the end. Raises `ValueError` for what cannot be."""
    _check(current, wanted)
    outgoing = current.voters if wanted.voters != current.voters else ()
    return _told(current, msgspec.structs.replace(wanted, outgoing=outgoing))


def left(joint: Configuration) -> Configuration:
    """The configuration that follows a joint one."""
    return _told(joint, msgspec.structs.replace(joint, outgoing=()))


def _check(current: Configuration, wanted: Configuration) -> None:
    if current.joint:
        raise ValueError("a joint configuration is left before the next change")
    if not wanted.voters:
        raise ValueError("a group needs a voter")
    if wanted.outgoing and (wanted.outgoing != current.voters or wanted.voters == current.voters):
        raise ValueError("only the present voters can be outgoing, and only where they change")
    named = (*wanted.voters, *wanted.learners)
    for member in named:
        if named.count(member) > 1:
            raise ValueError(f"{member} is named twice")
        if wanted.info(member) is None:
            raise ValueError(f"nothing is told of {member}")
        if member in current.removed:
            raise ValueError(f"{member} was removed: an id is never used again")


def _told(current: Configuration, following: Configuration) -> Configuration:
    """`following` with what is known of all its members, and with those remembered that it removes."""
    present = members_of(following)
    infos: dict[str, MemberInfo] = {info.id: info for info in (*current.members, *following.members)}
    removed = dict.fromkeys((*current.removed, *following.removed, *members_of(current)))
    return msgspec.structs.replace(
        following,
        members=tuple(infos[member] for member in present if member in infos),
        removed=tuple(member for member in removed if member not in present)[-REMEMBERED:],
    )
