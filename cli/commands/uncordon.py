"""`barque uncordon`: pods may come to a node again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session
from barque.cli.writing import writing_options

if TYPE_CHECKING:
    from barque.cli.session import Session


@click.command("uncordon", cls=Verb, examples="barque uncordon n1      after `barque cordon` or `barque drain`")
@click.argument("names", nargs=-1, metavar="NODE...")
@click.option("-l", "--selector", metavar="LABELS", default="", help="Nodes with these labels.")
@writing_options("uncordon")
@with_session
def command(session: Session, names: tuple[str, ...], selector: str, **given: Any) -> None:
    """Let new pods come to a node again."""
    from barque.cli.nodes import set_all

    set_all(session, "uncordon", names, selector, given, wanted=False)
