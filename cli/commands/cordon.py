"""`barque cordon`: no new pods come to a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session
from barque.cli.writing import writing_options

if TYPE_CHECKING:
    from barque.cli.session import Session


@click.command(
    "cordon",
    cls=Verb,
    examples="""
    barque cordon n1                  before work on it; `barque drain` also moves its pods away
    barque cordon -l rack=7
    """,
)
@click.argument("names", nargs=-1, metavar="NODE...")
@click.option("-l", "--selector", metavar="LABELS", default="", help="Nodes with these labels.")
@writing_options("cordon")
@with_session
def command(session: Session, names: tuple[str, ...], selector: str, **given: Any) -> None:
    """Let no new pods come to a node; those that are there stay."""
    from barque.cli.nodes import set_all

    set_all(session, "cordon", names, selector, given, wanted=True)
