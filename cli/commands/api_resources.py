"""`barque api-resources`: the resource types that are served. Needs no master."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.api.resources import Resource
    from barque.cli.session import Session


@click.command(
    "api-resources",
    cls=Verb,
    examples="""
    barque api-resources -o wide
    barque api-resources --namespaced=false
    barque api-resources --verbs=list,delete -o name
    """,
)
@click.option("-o", "--output", type=click.Choice(["wide", "name"]), help="With verbs and categories, or names alone.")
@click.option("--namespaced/--no-namespaced", default=None, help="Only those in namespaces, or only the others.")
@click.option("--api-group", metavar="GROUP", default=None, help='Only those of one group; "" is the core.')
@click.option("--verbs", metavar="VERBS", default="", help="Only those that have all of these verbs.")
@click.option("--categories", metavar="NAMES", default="", help="Only those in all of these categories.")
@click.option("--sort-by", type=click.Choice(["name", "kind"]), help="In this order [group and name].")
@click.option("--no-headers", is_flag=True, help="Rows alone.")
@with_session
def command(
    session: Session,
    output: str | None,
    namespaced: bool | None,
    api_group: str | None,
    verbs: str,
    categories: str,
    sort_by: str | None,
    no_headers: bool,
) -> None:
    """List the resource types that are served, with the short names every verb understands. A type that is not listed
    does not exist here: it is refused, never accepted and ignored.
    """
    from barque.api.resources import RESOURCES
    from barque.cli.tables import render

    chosen = [
        r
        for r in RESOURCES
        if namespaced in (None, r.namespaced)
        and api_group in (None, r.group)
        and set(_words(verbs)) <= set(r.verbs)
        and set(_words(categories)) <= set(r.categories)
    ]
    ordered = sorted(
        chosen, key=lambda r: {"name": (r.plural,), "kind": (r.kind,)}.get(sort_by or "", (r.group, r.plural))
    )
    if output == "name":
        session.screen.write("".join(f"{r.group_resource}\n" for r in ordered))
        return
    headers = ["Name", "ShortNames", "APIVersion", "Namespaced", "Kind"]
    wide = output == "wide"
    headers += ["Verbs", "Categories"] * wide
    session.screen.write(render(headers, [_row(r, wide) for r in ordered], show_headers=not no_headers))


def _row(resource: Resource, wide: bool) -> list[str]:
    row = [
        resource.plural,
        ",".join(resource.short_names),
        resource.api_version,
        str(resource.namespaced).lower(),
        resource.kind,
    ]
    return [*row, ",".join(resource.verbs), ",".join(resource.categories)] if wide else row


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]
