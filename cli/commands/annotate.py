"""`barque annotate`: the annotations of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.marking import ANNOTATIONS, mark, marking_options
from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Session


@click.command(
    "annotate",
    cls=Verb,
    examples="""
    barque annotate deployment/web owner='the blue team'     set one
    barque annotate deployment/web owner=me --overwrite      change one that is set
    barque annotate deployment/web owner-                    take it off
    barque annotate pods -l app=web checked=yes              on all with a label
    barque annotate pod/web-1 --list                         show them
    """,
)
@marking_options(ANNOTATIONS)
@with_session
def command(session: Session, words: tuple[str, ...], **given: Any) -> None:
    """Set, change or take off annotations: notes on an object of any length, by which nothing is chosen. One that has
    another value already is changed with --overwrite alone.
    """
    if mark(session, ANNOTATIONS, words, given):
        click.get_current_context().exit(1)
