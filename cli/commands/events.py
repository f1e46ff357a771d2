"""`barque events`: what happened lately, in the order it happened."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.fetching import Asked
    from barque.cli.printing import Printer
    from barque.cli.session import Connection, Session
    from barque.client.verbs import IncludeObject

TYPES = ("Normal", "Warning")


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
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="In full, as YAML or JSON.")
@click.option("--no-headers", is_flag=True, help="Rows alone.")
@with_session
def command(
    session: Session,
    subject: str,
    types: str,
    all_namespaces: bool,
    watch: bool,
    output: str | None,
    no_headers: bool,
) -> None:
    """Show what happened lately: pods placed and started, images missing, probes failing. They are kept for an hour."""
    from barque.api import resources
    from barque.cli.fetching import Asked
    from barque.cli.printing import printer_for
    from barque.cli.tables import Layout
    from barque.client.verbs import Selection

    fields = [*_about(subject), *_of_types(types)]
    namespace = "" if all_namespaces else session.namespace
    asked = Asked(resources.by_plural("", "events"), namespace, selection=Selection(fields=",".join(fields)))
    layout = Layout(namespaces=all_namespaces, headers=not no_headers)
    session.run(lambda connection: _events(session, connection, asked, layout, printer_for(output or ""), watch))


def _about(subject: str) -> list[str]:
    from barque.cli.arguments import parse_one

    if not subject:
        return []
    resource, name = parse_one([subject], verb="events --for")
    return [f"involvedObject.kind={resource.kind}", f"involvedObject.name={name}"]


def _of_types(types: str) -> list[str]:
    """The field selector of `--types`; both types are all events."""
    from barque.cli.output import CliError

    wanted = {word.strip().capitalize() for word in types.split(",") if word.strip()}
    if not wanted <= set(TYPES):
        raise CliError("valid --types are Normal or Warning")
    return [f"type={next(iter(wanted))}"] if len(wanted) == 1 else []


async def _events(
    session: Session, connection: Connection, asked: Asked, layout: Any, printer: Printer | None, watch: bool
) -> None:
    import msgspec

    from barque.cli.fetching import listed
    from barque.cli.following import Following, follow
    from barque.cli.tables import ServerTable

    rows: IncludeObject | None = None if printer is not None else "Object"
    answer = await listed(session, connection, asked, rows)
    table = ServerTable(answer.columns, layout)
    items = sorted(answer.items, key=lambda item: _moment(item if printer is not None else item["object"]))
    if printer is not None and not watch:
        session.screen.write(printer.all(items, single=False))
    elif printer is not None:
        session.screen.write("".join(printer.one(item, "") for item in items))
    elif items:
        session.screen.write(table.render(items))
    elif not watch:
        session.screen.note("No events found" + (f" in {asked.namespace} namespace." if asked.namespace else "."))
    if not watch:
        return
    following = Following(asked.target, asked.selection, answer.revision, rows=rows)
    async with aclosing(follow(connection.verbs, following, clock=session.clock, screen=session.screen)) as changes:
        async for change in changes:
            if change.type in ("ADDED", "MODIFIED"):
                item = msgspec.json.decode(change.json)
                session.screen.write(printer.one(item, "") if printer is not None else table.render([item]))


def _moment(event: dict[str, Any]) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((t for t in times if t), "") or event["metadata"].get("creationTimestamp", ""))
