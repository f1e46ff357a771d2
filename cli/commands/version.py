"""`barque version`: of this command and of the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


@click.command("version", cls=Verb, examples="barque version --client")
@click.option("--client", "client_only", is_flag=True, help="Of this command alone; asks no master.")
@with_session
def command(session: Session, client_only: bool) -> None:
    """Print the version of this command and that of the cluster's masters."""
    from importlib.metadata import version

    from barque.client.profile import default_path

    session.screen.line(f"Client Version: v{version('barque')}")
    if client_only:
        return
    if not session.config and not default_path().exists():
        session.screen.note("No cluster is set up here yet; `barque up` starts one.")
        return
    session.screen.line(f"Server Version: v{session.run(lambda connection: _server(session, connection))}")


async def _server(session: Session, connection: Connection) -> str:
    from barque.proto import cluster_pb2

    await connection.ready()
    reply = await session.call(connection.cluster.Status(cluster_pb2.StatusRequest()))
    return str(reply.version).removeprefix("v")
