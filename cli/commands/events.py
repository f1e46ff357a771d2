"""`barque events`: what happened lately, in the order it happened."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session


@click.command(
    "events",
    cls=Verb,
    examples="""
    barque events                            of the namespace, the newest last
    barque events -A --types=Warning         whatever goes wrong anywhere
    barque events --for pod/web-5d9c7-x2x4k -w
    """,
)
@click.option("--for", "subject", default="", metavar="TYPE/NAME", help="Only events of this object.")
@click.option("--types", default="", metavar="TYPES", help="Only Normal or only Warning events.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Events of every namespace.")
@click.option("-w", "--watch", is_flag=True, help="Go on printing events as they happen.")
@click.option("--no-headers", is_flag=True, help="Rows alone.")
@with_session
def command(session: Session, subject: str, types: str, all_namespaces: bool, watch: bool, no_headers: bool) -> None:
    """Show what happened lately: pods placed and started, images missing, probes failing. They are kept for an hour."""
    from barque.cli.arguments import parse_one
    from barque.cli.commands.get import View

    fields: list[str] = []
    if subject:
        resource, name = parse_one([subject], verb="events --for")
        fields += [f"involvedObject.kind={resource.kind}", f"involvedObject.name={name}"]
    if types:
        fields.append(f"type={types.strip().capitalize()}")
    view = View(fields=",".join(fields), all_namespaces=all_namespaces, headers=not no_headers)
    session.run(lambda connection: _events(session, connection, view, watch))


async def _events(session: Session, connection: Connection, view: Any, watch: bool) -> None:
    import msgspec

    from barque.api import resources
    from barque.cli.commands.get import Printer
    from barque.cli.following import Following, follow
    from barque.client.verbs import Selection, Target

    resource = resources.by_plural("", "events")
    namespace = "" if view.all_namespaces else session.namespace
    target, selection = Target(resource, namespace), Selection(fields=view.fields)
    listed = await session.call(connection.verbs.list(target, selection))
    printer = Printer(resource, view, session.clock.wall)
    items = sorted(listed.items, key=lambda item: _moment(msgspec.json.decode(item)))
    if items:
        session.screen.write(printer.render(items))
    elif not watch:
        session.screen.note("No events found" + (f" in {namespace} namespace." if namespace else "."))
    if not watch:
        return
    following = Following(target, selection, listed.resource_version)
    async with aclosing(follow(connection.verbs, following, clock=session.clock, screen=session.screen)) as changes:
        async for change in changes:
            if change.type in ("ADDED", "MODIFIED"):
                session.screen.write(printer.render([change.json]))


def _moment(event: dict[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp", ""))
