"""`barque version`: of this command and of the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


@click.command(
    "version",
    cls=Verb,
    examples="""
    barque version
    barque version --client -o json
    """,
)
@click.option("--client", "client_only", is_flag=True, help="Of this command alone; asks no master.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="As a document.")
@with_session
def command(session: Session, client_only: bool, output: str | None) -> None:
    """Print the version of this command and that of the cluster's masters."""
    from importlib.metadata import version

    from barque.cli.output import to_json, to_yaml

    found = {"clientVersion": {"gitVersion": f"v{version('barque')}"}}
    if output is None:
        session.screen.line(f"Client Version: {found['clientVersion']['gitVersion']}")
    unknown = not client_only and _unknown(session)
    if not client_only and not unknown:
        server = session.run(lambda connection: _server(session, connection))
        found["serverVersion"] = {"gitVersion": f"v{server}"}
    if output is not None:
        session.screen.write(to_yaml(found) if output == "yaml" else to_json(found))
    elif "serverVersion" in found:
        session.screen.line(f"Server Version: {found['serverVersion']['gitVersion']}")
    if unknown:
        session.screen.note("No cluster is set up here yet; `barque up` starts one.")


def _unknown(session: Session) -> bool:
    """Whether no cluster has been set up for this user."""
    from barque.client.profile import default_path

    return not session.config and not default_path().exists()


async def _server(session: Session, connection: Connection) -> str:
    from barque.proto import cluster_pb2

    await connection.ready()
    reply = await session.call(connection.cluster.Status(cluster_pb2.StatusRequest()))
    return str(reply.version).removeprefix("v")
