"""`barque api-resources`: the resource types that are served. Needs no master."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Session


@click.command("api-resources", cls=Verb, examples="barque api-resources -o wide")
@click.option("-o", "--output", type=click.Choice(["wide", "name"]), help="With verbs, or names alone.")
@click.option("--no-headers", is_flag=True, help="Rows alone.")
@with_session
def command(session: Session, output: str | None, no_headers: bool) -> None:
    """List the resource types that are served, with the short names every verb understands. A type that is not listed
    does not exist here: it is refused, never accepted and ignored.
    """
    from barque.api.resources import RESOURCES
    from barque.cli.tables import render

    ordered = sorted(RESOURCES, key=lambda r: (r.group, r.plural))
    if output == "name":
        session.screen.write("".join(f"{r.group_resource}\n" for r in ordered))
        return
    headers = ["Name", "ShortNames", "APIVersion", "Namespaced", "Kind"]
    rows = [[r.plural, ",".join(r.short_names), r.api_version, str(r.namespaced).lower(), r.kind] for r in ordered]
    if output == "wide":
        headers += ["Verbs", "Subresources"]
        rows = [[*row, ",".join(r.verbs), ",".join(r.subresources)] for row, r in zip(rows, ordered, strict=True)]
    session.screen.write(render(headers, rows, show_headers=not no_headers))
