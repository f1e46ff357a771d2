"""What is shown of the group of masters, and said before and after a change. Pure: masters' answers in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barque.api.columns.age import human_duration
from barque.cli.masters import Seen
from barque.cli.output import CliError
from barque.cli.tables import render as table

HEADERS = ["Name", "ID", "Address", "Role", "Match", "Lag", "Heard", "State"]

RECOVERING = """\
This makes {name} the only master of cluster {cluster}, which goes on with what {name} has:
  * it is for masters that are lost for good; where {others} can be started again, do that instead
  * be sure that {others} {do} not run any more: two halves of a cluster would both go on
  * what was acknowledged by {others} and had not reached {name} yet is lost
  * every resource version moves ahead by a thousand million, and every watch begins anew with a list
  * {others} {are} removed: to bring one back, empty its data directory and join it anew"""


def render_members(reply: Any) -> str:
    """The table of `cluster members`; `reply` is a StatusReply. Masters whose state is in etcd have no logs."""
    if not reply.HasField("group"):
        return table(["Name", "Address", "Role"], [[m.name, m.address, role(m)] for m in reply.members])
    return table(HEADERS, [_row(member, reply.group) for member in reply.members])


def _row(member: Any, group: Any) -> list[str]:
    lag = str(max(0, group.last_index - member.match)) if member.match else "-"
    heard = f"{human_duration(member.silent_s)} ago" if member.HasField("silent_s") else "-"
    return [
        member.name, member.id, member.peer_address, role(member), str(member.match or "-"), lag, heard,
        member.state or "-",
    ]  # fmt: skip


def role(member: Any) -> str:
    if member.leader:
        return "leader"
    # A store without a group tells of no voters.
    return "learner" if member.id and not member.voter else "voter" if member.id else "follower"


def seen_words(seen: Seen) -> str:
    """Whose view it is."""
    if not seen.reply.HasField("group"):
        return "the masters that run; their state is in etcd, whose own members etcdctl shows"
    group = seen.reply.group
    if group.leader == group.member:
        return f"term {group.term}, as the leader {seen.by} sees it"
    leader = next((member.name for member in seen.reply.members if member.leader), "")
    why = f"the leader {leader} did not answer" if leader else "there is no leader"
    return f"term {group.term}, as {seen.by} sees it; {why}"


def removed_words(voters: Sequence[str]) -> str:
    """What is worth knowing once a member was removed; "" where nothing is."""
    count = len(voters)
    if count % 2 or not count:
        return ""
    return f"{count} masters bear no more losses than {count - 1} would: `barque cluster add-member` makes them more"


def choose_survivor(answers: dict[str, Seen | None], name: str) -> tuple[str, Seen]:
    """Which master goes on alone, with its address: the named one, or the only one that answers. Raises `CliError`."""
    found = [(address, seen) for address, seen in answers.items() if seen is not None and seen.reply.group.member]
    for _, seen in found:
        if seen.reply.group.leader:
            leader = next((m.name for m in seen.reply.members if m.leader), seen.reply.group.leader)
            raise CliError(f"the group has a leader, {leader}, so a majority answers: there is nothing to recover")
    unique = {seen.reply.group.member: (address, seen) for address, seen in found}
    names = " and ".join(sorted(seen.by for _, seen in unique.values()))
    if name:
        for address, seen in unique.values():
            if name in (seen.by, seen.reply.group.member):
                return address, seen
        raise CliError(f"master {name} does not answer; of the masters, {names or 'none'} does")
    if len(unique) == 1:
        return next(iter(unique.values()))
    if not unique:
        raise CliError("no master of a group answers")
    best = max((seen for _, seen in unique.values()), key=lambda seen: (seen.reply.group.commit, _last(seen)))
    raise CliError(
        f"{names} answer: name the one that goes on alone; {best.by} has most (entries up to {best.reply.group.commit})"
    )


def _last(seen: Seen) -> tuple[int, int]:
    return seen.reply.group.term, seen.reply.group.last_index


def recovering_words(seen: Seen) -> str:
    """What `recover-quorum` on this master means."""
    others = [member.name for member in seen.reply.members if member.name != seen.by]
    many = len(others) > 1
    return RECOVERING.format(
        name=seen.by,
        cluster=seen.reply.cluster_id,
        others=" and ".join(others) or "the others",
        do="do" if many else "does",
        are="are" if many else "is",
    )
