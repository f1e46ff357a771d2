"""Who may become a member and who may leave: what a change makes of a configuration, or why it is refused. Pure.

The way from one configuration to the next (learner first, joint consensus), and whom it has removed, is `raft`'s.
"""

from __future__ import annotations

import msgspec

from barque.master.raft.configuration import REMEMBERED
from barque.master.raft.messages import Configuration, MemberInfo
from barque.master.store.group import GroupError


def added(configuration: Configuration, info: MemberInfo) -> Configuration:
    """With `info` as a learner; unchanged where it is a member as it is. Raises `GroupError`."""
    known = configuration.info(info.id)
    if known == info:
        return configuration
    if info.id in configuration.removed:
        raise GroupError(
            f"master {info.name} ({info.id}) was removed from this cluster and cannot come back with its old data: "
            "move its directory away, then join it again with `barque master join`"
        )
    if known is not None and known.name != info.name:
        raise GroupError(f"{info.id} is master {known.name} already: {info.name} needs a directory of its own")
    other = next((member for member in configuration.members if member.name == info.name), None)
    if other is not None and other.id != info.id:
        raise GroupError(
            f"a master named {info.name} is a member already ({other.id} at {other.host}): choose another name, or, "
            f"where that one is gone for good, run `barque cluster remove-member {info.name}` first"
        )
    if known is not None:
        return moved(configuration, info)
    learners, members = (*configuration.learners, info.id), (*configuration.members, info)
    return msgspec.structs.replace(configuration, learners=learners, members=members)


def moved(configuration: Configuration, info: MemberInfo) -> Configuration:
    """With the new doors of a member."""
    members = tuple(info if member.id == info.id else member for member in configuration.members)
    return msgspec.structs.replace(configuration, members=members)


def removed(configuration: Configuration, member: str) -> Configuration:
    """Without the member of this id. Raises `GroupError` for the last voter."""
    voters = tuple(voter for voter in configuration.voters if voter != member)
    if not voters:
        raise GroupError("the last master cannot be removed: it holds the cluster")
    return msgspec.structs.replace(
        configuration,
        voters=voters,
        learners=tuple(learner for learner in configuration.learners if learner != member),
        members=tuple(info for info in configuration.members if info.id != member),
    )


def alone(configuration: Configuration, member: str) -> Configuration:
    """`member` as the only one: all others are given up for lost, and none of them may come back."""
    others = tuple(info.id for info in configuration.members if info.id != member)
    return Configuration(
        voters=(member,),
        members=tuple(info for info in configuration.members if info.id == member),
        removed=(*configuration.removed, *others)[-REMEMBERED:],
    )


def is_alone(configuration: Configuration, member: str) -> bool:
    """Whether `member` is the only one there is."""
    return configuration.voters == (member,) and not configuration.outgoing and not configuration.learners


def named(configuration: Configuration, name: str) -> MemberInfo:
    """The member of this id or name. Raises `GroupError`."""
    for info in configuration.members:
        if name in (info.id, info.name):
            return info
    names = ", ".join(info.name for info in configuration.members)
    if name in configuration.removed:
        raise GroupError(f"{name} was removed already; the masters are {names}")
    raise GroupError(f"there is no master {name}; the masters are {names}")
