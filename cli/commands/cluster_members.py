"""Verbs of `barque cluster` about the group of masters: who they are, one more, one less, who leads, going on alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.masters import Seen
    from barque.cli.session import Connection, Session


@click.command("members", cls=Verb, examples="barque cluster members")
@with_session
def members(session: Session) -> None:
    """Show the masters: who leads, votes or still learns, how far each one's log is, and when it was last heard.

    It is the leader's view; where there is none, that of whichever master answers, so it needs no majority. Exits with
    1 where a majority is gone.
    """
    seen = session.run(lambda connection: _members(session, connection))
    if seen.reply.group.quorum_lost:
        click.get_current_context().exit(1)


async def _members(session: Session, connection: Connection) -> Seen:
    from barque.cli.masters import seen_by_leader
    from barque.cli.members_page import render_members, seen_words

    await connection.ready()
    seen = await seen_by_leader(session, connection)
    session.screen.write(render_members(seen.reply))
    session.screen.note(seen_words(seen))
    if seen.reply.group.advice:
        session.screen.note(f"Warning: {seen.reply.group.advice}")
    return seen


@click.command(
    "add-member",
    cls=Verb,
    examples="""
    barque cluster add-member                 the whole command to run on the new master's machine
    barque cluster add-member --ttl 1h
    """,
)
@click.option("--ttl", default="24h", metavar="TIME", help="How long the token may be used [24h].")
@click.option("--master", default="", metavar="HOST[:PORT]", help="Where the machine finds a master [as known here].")
@with_session
def add_member(session: Session, ttl: str, master: str) -> None:
    """Make a token for one more master and print the command that joins it. Run that command on its machine, as root,
    then `barque master run`.

    The new master learns first and votes by itself once it has caught up. Three masters bear the loss of one, five of
    two. Without a majority of the masters nothing can be added.
    """
    from barque.cli.arguments import parse_duration
    from barque.cli.output import CliError

    ttl_s = int(parse_duration(ttl))
    if ttl_s < 1:
        raise CliError("a token must live for a second at least")
    session.run(lambda connection: _add_member(session, connection, ttl_s, master))


async def _add_member(session: Session, connection: Connection, ttl_s: int, master: str) -> None:
    from barque.cli.commands.token import join_host
    from barque.proto import cluster_pb2

    await connection.ready()
    request = cluster_pb2.CreateJoinTokenRequest(ttl_s=ttl_s, for_master=True)
    reply = await session.call(connection.cluster.CreateJoinToken(request))
    if not master:
        status = await session.call(connection.cluster.Status(cluster_pb2.StatusRequest()))
        known = [member.address for member in status.members]
        master = f"{join_host(connection.master, known)}:{status.https_port}"
    session.screen.line(f"barque master join {master} --token {reply.token} --ca-pin {reply.ca_pin}")
    session.screen.note(f"The token is good for one master, until {reply.expires}.")


@click.command(
    "remove-member",
    cls=Verb,
    examples="""
    barque cluster remove-member m2
    barque cluster remove-member m2 --force      though too few of those that stay answer at the moment
    """,
)
@click.argument("member", metavar="NAME")
@click.option("--force", is_flag=True, help="Also where too few of those that stay answer.")
@with_session
def remove_member(session: Session, member: str, force: bool) -> None:
    """Take a master (its name or id) out of the group: it no longer votes, and the others let it in no more. One that
    leads hands over first. Its name is free again; its data directory is of no use any more.

    It needs a majority of the masters, the removed one among them; where that is gone, it is refused, and `barque
    cluster recover-quorum` is the way out.
    """
    session.run(lambda connection: _remove_member(session, connection, member, force))


async def _remove_member(session: Session, connection: Connection, member: str, force: bool) -> None:
    from barque.cli.masters import connected_to_leader
    from barque.cli.members_page import removed_words
    from barque.proto import cluster_pb2

    await connection.ready()
    session.screen.waiting(f"removing {member}")
    async with connected_to_leader(session, connection) as leader:
        request = cluster_pb2.RemoveMemberRequest(member=member, force=force)
        reply = await session.call(leader.cluster.RemoveMember(request))
    session.screen.line(f"master {reply.name} removed; {' and '.join(reply.voters)} {_vote(len(reply.voters))} now")
    words = removed_words(reply.voters)
    if words:
        session.screen.note(words)


def _vote(voters: int) -> str:
    return "votes" if voters == 1 else "vote"


@click.command(
    "transfer",
    cls=Verb,
    examples="""
    barque cluster transfer             to the master that is furthest, before this leader's machine is restarted
    barque cluster transfer m2
    """,
)
@click.argument("member", metavar="[NAME]", default="")
@with_session
def transfer(session: Session, member: str) -> None:
    """Hand leadership over to another master, which must vote. Requests meanwhile wait a moment; none fails. Where it
    does not succeed within an election timeout, the old leader goes on.

    Without a majority of the masters there is no leader, and nothing to hand over.
    """
    reply = session.run(lambda connection: _transfer(session, connection, member))
    session.screen.line(f"{reply.leader} leads now ({reply.took_ms:.0f} ms)")


async def _transfer(session: Session, connection: Connection, member: str) -> Any:
    from barque.proto import cluster_pb2

    await connection.ready()
    session.screen.waiting("handing leadership over")
    return await session.call(connection.cluster.TransferLeadership(cluster_pb2.TransferLeadershipRequest(to=member)))


@click.command(
    "recover-quorum",
    cls=Verb,
    examples="""
    barque cluster recover-quorum            where only one master answers
    barque cluster recover-quorum m1         where several do: the one that goes on
    """,
)
@click.argument("member", metavar="[NAME]", default="")
@click.option("--yes", is_flag=True, help="Do not ask for the cluster's id.")
@with_session
def recover_quorum(session: Session, member: str, yes: bool) -> None:
    """Have one master go on alone, where a majority of the masters is lost for good and nothing can be changed any
    more. What the lost ones alone had acknowledged is lost with them; then add masters anew.

    Where the others can be started again, do that instead: nothing is lost then. It is refused while a leader answers.
    """
    session.run(lambda connection: _recover(session, connection, member, yes))


async def _recover(session: Session, connection: Connection, member: str, yes: bool) -> None:
    from barque.cli.confirming import confirm
    from barque.cli.masters import connected_to, each_status, status
    from barque.cli.members_page import choose_survivor, recovering_words
    from barque.proto import cluster_pb2

    await connection.ready()
    near = await session.call(status(connection))
    if not near.reply.HasField("group"):
        # Which master it is does not matter, and the refusal says why.
        await session.call(connection.cluster.RecoverQuorum(cluster_pb2.RecoverQuorumRequest(member=member)))
    session.screen.waiting("asking every master")
    doors = [*session.profile.masters, *(each.address for each in near.reply.members)]
    answers = await each_status(session, list(dict.fromkeys(doors)))
    address, survivor = choose_survivor(answers, member)
    if not yes:
        confirm(session.screen, recovering_words(survivor), survivor.reply.cluster_id)
    async with connected_to(session, address) as one:
        session.screen.waiting(f"{survivor.by} goes on alone")
        request = cluster_pb2.RecoverQuorumRequest(member=survivor.reply.group.member)
        reply = await session.call(one.cluster.RecoverQuorum(request))
    session.screen.line(f"{survivor.by} goes on alone with {reply.objects} objects, at revision {reply.revision}")
    session.screen.note("`barque cluster add-member` makes masters more again")
