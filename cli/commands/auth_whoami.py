"""`barque auth whoami`: whom the cluster takes the caller for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


@click.command(
    "whoami",
    cls=Verb,
    examples="""
    barque auth whoami
    barque auth whoami -o json
    """,
)
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="Print the whole answer.")
@with_session
def whoami(session: Session, output: str | None) -> None:
    """Show the name, the groups and whatever else the cluster knows of whoever calls."""
    from barque.cli.output import to_json, to_yaml
    from barque.cli.tables import render

    answer = session.run(lambda connection: _ask(session, connection))
    match output:
        case "yaml":
            session.screen.write(to_yaml(answer))
        case "json":
            session.screen.write(to_json(answer))
        case _:
            session.screen.write(render(["Attribute", "Value"], rows(answer["status"]["userInfo"])))


async def _ask(session: Session, connection: Connection) -> dict[str, Any]:
    from barque.api import resources
    from barque.cli.writing import decoded
    from barque.client.verbs import Target

    target = Target(resources.by_kind("authentication.k8s.io/v1", "SelfSubjectReview"))
    body = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
    return await decoded(session, connection.verbs.create(target, body))


def rows(user: dict[str, Any]) -> list[list[str]]:
    """What is known of a user, as kubectl shows it."""
    found = [["Username", user["username"]]] if user.get("username") else []
    found += [["UID", user["uid"]]] if user.get("uid") else []
    found += [["Groups", _listed(user["groups"])]] if user.get("groups") else []
    return found + [[f"Extra: {key}", _listed(values)] for key, values in sorted(user.get("extra", {}).items())]


def _listed(values: list[str]) -> str:
    return f"[{' '.join(values)}]"
