"""`barque cluster`: the masters and how their parts are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


@click.group("cluster")
def command() -> None:
    """Show the masters and their parts."""


@command.command("status", cls=Verb, examples="barque cluster status")
@with_session
def status(session: Session) -> None:
    """Show the masters, which one leads, and whether each part of them is well. Exits with 1 where one is not."""
    reply = session.run(lambda connection: _status(session, connection))
    if any(not component.healthy for component in reply.components):
        click.get_current_context().exit(1)


async def _status(session: Session, connection: Connection) -> Any:
    from barque.cli.tables import render
    from barque.proto import cluster_pb2

    await connection.ready()
    reply = await session.call(connection.cluster.Status(cluster_pb2.StatusRequest()))
    screen = session.screen
    screen.write(
        f"Cluster:   {reply.cluster_id}\nVersion:   {reply.version}\nRevision:  {reply.revision}\n\n"
        + render(
            ["Master", "Address", "Role"],
            [[m.name, m.address, "leader" if m.leader else "follower"] for m in reply.members],
        )
    )
    if reply.components:
        rows = [[c.name, "ok" if c.healthy else "failing", c.message] for c in reply.components]
        screen.write("\n" + render(["Part", "State", "Message"], rows))
    return reply
