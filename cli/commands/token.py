"""`barque token`: what a worker needs to join."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from barque.cli.verb import Verb, VerbGroup, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

_LOOPBACK = ("127.", "localhost", "[::1]")


@click.group("token", cls=VerbGroup)
def command() -> None:
    """Make the token with which a worker joins."""


@command.command(
    "create",
    cls=Verb,
    examples="""
    barque token create                      the whole command to run on the worker's machine
    barque token create --ttl 1h
    """,
)
@click.option("--ttl", default="24h", metavar="TIME", help="How long it may be used [24h].")
@click.option("--master", default="", metavar="HOST[:PORT]", help="Where the worker finds the master [as known here].")
@with_session
def create(session: Session, ttl: str, master: str) -> None:
    """Make a join token and print the command that makes a machine a worker of this cluster. Run that command there, as
    root.
    """
    from barque.cli.arguments import parse_duration
    from barque.cli.output import CliError

    ttl_s = int(parse_duration(ttl))
    if ttl_s < 1:
        raise CliError("a token must live for a second at least")
    session.run(lambda connection: _create(session, connection, ttl_s, master))


async def _create(session: Session, connection: Connection, ttl_s: int, master: str) -> None:
    from barque.proto import cluster_pb2

    await connection.ready()
    reply = await session.call(connection.cluster.CreateJoinToken(cluster_pb2.CreateJoinTokenRequest(ttl_s=ttl_s)))
    if not master:
        status = await session.call(connection.cluster.Status(cluster_pb2.StatusRequest()))
        members = [member.address for member in status.members]
        master = f"{join_host(connection.master, members)}:{status.https_port}"
    session.screen.line(f"barque worker join --master {master} --token {reply.token} --ca-pin {reply.ca_pin}")
    session.screen.note(f"The token can be used until {reply.expires}.")


def join_host(connected: str, members: list[str]) -> str:
    """Where another machine finds a master: the address in use here, unless that is this machine's own loopback."""
    host = connected.rpartition(":")[0]
    if not host.startswith(_LOOPBACK):
        return host
    others = (member.rpartition(":")[0] for member in members)
    return next((other for other in others if other and not other.startswith(_LOOPBACK)), host)
