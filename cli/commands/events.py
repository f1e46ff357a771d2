"""`barque events`: what happened lately, in the order it happened."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.api.occurrences import Occurrence
    from barque.api.resources import Resource
    from barque.api.types.core_v1 import Event
    from barque.cli.fetching import Asked
    from barque.cli.printing import Printer
    from barque.cli.session import Connection, Session

TYPES = ("Normal", "Warning")
HEADERS = ["Last Seen", "Type", "Reason", "Object", "Message"]


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
    from barque.client.verbs import Selection

    about, name = _about(subject)
    fields = [f"involvedObject.kind={about.kind}", f"involvedObject.name={name}"] if about is not None else []
    fields += _of_types(types)
    # What is in no namespace has its events in one all the same.
    everywhere = all_namespaces or (about is not None and not about.namespaced)
    namespace = "" if everywhere else session.namespace
    asked = Asked(resources.by_plural("", "events"), namespace, selection=Selection(fields=",".join(fields)))
    page = _Page(session, printer_for(output or ""), namespaces=all_namespaces, headers=not no_headers)
    session.run(lambda connection: _events(session, connection, asked, page, watch))


def _about(subject: str) -> tuple[Resource | None, str]:
    from barque.cli.arguments import parse_one

    return parse_one([subject], verb="events --for") if subject else (None, "")


def _of_types(types: str) -> list[str]:
    """The field selector of `--types`; both types are all events."""
    from barque.cli.output import CliError

    wanted = {word.strip().capitalize() for word in types.split(",") if word.strip()}
    if not wanted <= set(TYPES):
        raise CliError("valid --types are Normal or Warning")
    return [f"type={next(iter(wanted))}"] if len(wanted) == 1 else []


class _Page:
    """Prints events as rows, or in full; each once for each time it has happened."""

    def __init__(self, session: Session, printer: Printer | None, *, namespaces: bool, headers: bool) -> None:
        from barque.cli.tables import Table

        self._session = session
        self._printer = printer
        self._namespaces = namespaces
        self._table = Table(["Namespace"] * namespaces + HEADERS, show_headers=headers)
        self._told: dict[str, Occurrence] = {}

    @property
    def in_full(self) -> bool:
        """Whether no events, too, are an answer to print."""
        return self._printer is not None

    def show(self, items: Sequence[dict[str, Any]], *, whole: bool) -> None:
        """Print those that are news; `whole`, all of them as one answer."""
        from barque.api import codec
        from barque.api.occurrences import order_of
        from barque.api.types.core_v1 import Event

        read = [(codec.from_document(Event, item), item) for item in items]
        news = sorted((pair for pair in read if self._is_news(pair[0])), key=lambda pair: order_of(pair[0]))
        if self._printer is None:
            self._session.screen.write(self._table.render([self._row(event) for event, _ in news]) if news else "")
        elif whole:
            self._session.screen.write(self._printer.all([item for _, item in news], single=False))
        else:
            self._session.screen.write("".join(self._printer.one(item, "") for _, item in news))

    def forget(self, item: dict[str, Any]) -> None:
        self._told.pop(item["metadata"].get("uid", ""), None)

    def _is_news(self, event: Event) -> bool:
        from barque.api.occurrences import occurrence_of

        seen, uid = occurrence_of(event), event.metadata.uid
        known, self._told[uid] = self._told.get(uid), seen
        return known != seen

    def _row(self, event: Event) -> list[str]:
        from barque.api.columns.events import interval

        about, now = event.involvedObject, self._session.clock.wall()
        subject = f"{about.kind}/{about.name}" if about is not None else ""
        row = [interval(event, now), event.type, event.reason, subject, event.message.strip()]
        return [event.metadata.namespace] * self._namespaces + row


async def _events(session: Session, connection: Connection, asked: Asked, page: _Page, watch: bool) -> None:
    import msgspec

    from barque.cli.fetching import listed
    from barque.cli.following import Following, follow

    answer = await listed(session, connection, asked, None)
    if answer.items or page.in_full:
        page.show(answer.items, whole=not watch)
    elif not watch:
        session.screen.note("No events found" + (f" in {asked.namespace} namespace." if asked.namespace else "."))
    if not watch:
        return
    following = Following(asked.target, asked.selection, answer.revision)
    async with aclosing(follow(connection.verbs, following, clock=session.clock, screen=session.screen)) as changes:
        async for change in changes:
            if change.type == "DELETED":
                page.forget(msgspec.json.decode(change.json))
            elif change.type != "BOOKMARK":
                page.show([msgspec.json.decode(change.json)], whole=False)
