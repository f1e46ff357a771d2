"""`barque auth can-i`: whether something is allowed, or all that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


@click.command(
    "can-i",
    cls=Verb,
    examples="""
    barque auth can-i create deployments -n shop
    barque auth can-i get pods/web-1 --subresource=log
    barque auth can-i get /metrics
    barque auth can-i '*' '*'                           everything
    barque auth can-i --list -n shop                    all that I may do there
    barque auth can-i list secrets --as jane --as-group devs
    """,
)
@click.argument("words", nargs=-1, metavar="VERB TYPE[/NAME]|/PATH")
@click.option("--list", "listing", is_flag=True, help="Show everything that is allowed in the namespace.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Ask for every namespace at once.")
@click.option("--subresource", default="", metavar="NAME", help="A part of the resource, as log or scale.")
@click.option("--as", "user", default="", metavar="USER", help="Ask for this user instead of oneself.")
@click.option("--as-group", "groups", multiple=True, metavar="GROUP", help="Ask for a member of this group.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing: the exit code is the answer.")
@click.option("--no-headers", is_flag=True, help="Rows alone, with --list.")
@with_session
def can_i(
    session: Session,
    words: tuple[str, ...],
    listing: bool,
    all_namespaces: bool,
    subresource: str,
    user: str,
    groups: tuple[str, ...],
    quiet: bool,
    no_headers: bool,
) -> None:
    """Ask whether something is allowed: prints yes or no, and exits with 1 for a no."""
    from barque.cli import access
    from barque.cli.output import CliError
    from barque.cli.tables import Table

    if listing:
        if words or user or groups:
            raise CliError("--list shows what the caller may do; it takes neither VERB and TYPE nor --as")
        body = {
            "apiVersion": access.GROUP,
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": session.namespace},
        }
        status = session.run(lambda connection: _ask(session, connection, body))
        if status.get("incomplete"):
            session.screen.note(f"warning: the list may be incomplete: {status.get('evaluationError', '')}")
        table = Table(access.HEADERS, show_headers=not no_headers, as_written=True)
        session.screen.write(table.render(access.rows(status)))
        return
    if len(words) != 2:
        raise CliError("you must specify two arguments: verb resource or verb resource/resourceName")
    asked = access.question(words[0], words[1], "" if all_namespaces else session.namespace, subresource)
    if asked.remark and not quiet:
        session.screen.note(asked.remark)
    body = access.review(asked.attributes, user, groups)
    status = session.run(lambda connection: _ask(session, connection, body))
    if not quiet:
        session.screen.line(access.answer(status))
    if not status["allowed"]:
        click.get_current_context().exit(1)


async def _ask(session: Session, connection: Connection, body: dict[str, Any]) -> dict[str, Any]:
    import msgspec

    from barque.api import resources
    from barque.cli.writing import decoded
    from barque.client.verbs import Target

    target = Target(resources.by_kind(body["apiVersion"], body["kind"]))
    answered = await decoded(session, connection.verbs.create(target, msgspec.json.encode(body)))
    status: dict[str, Any] = answered["status"]
    return status
