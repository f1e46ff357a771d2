"""`barque label`: the labels of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.marking import LABELS, mark, marking_options
from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.session import Session


@click.command(
    "label",
    cls=Verb,
    examples="""
    barque label pods web-1 tier=front                  set one
    barque label deployment/web tier=front team=blue    several at once
    barque label pods web-1 tier=back --overwrite       change one that is set
    barque label pods web-1 tier-                       take it off
    barque label nodes --all zone=a                     on every node
    barque label pod/web-1 --list                       show them
    """,
)
@marking_options(LABELS)
@with_session
def command(session: Session, words: tuple[str, ...], **given: Any) -> None:
    """Set, change or take off labels: short words by which objects are chosen, as in `-l app=web`. One that has another
    value already is changed with --overwrite alone.
    """
    if mark(session, LABELS, words, given):
        click.get_current_context().exit(1)
