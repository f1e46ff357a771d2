"""`barque certificate`: say yes or no to requests for certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from barque.cli.verb import Verb, VerbGroup, with_session
from barque.cli.writing import writing_options

if TYPE_CHECKING:
    from barque.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])


@click.group("certificate", cls=VerbGroup)
def command() -> None:
    """Say yes or no to requests for certificates."""


def _deciding(verb: str) -> Callable[[F], F]:
    """The words and options of both verbs."""
    parts: list[Callable[[Any], Any]] = [
        click.argument("names", nargs=-1, metavar="REQUEST..."),
        click.option("-l", "--selector", metavar="LABELS", default="", help="Requests with these labels."),
        click.option("--force", is_flag=True, help="Write it once more where it was decided so before."),
        writing_options(f"certificate-{verb}"),
    ]

    def add(function: F) -> F:
        for part in reversed(parts):
            function = part(function)
        return function

    return add


@command.command(
    "approve",
    cls=Verb,
    examples="""
    barque get csr
    barque describe csr jane          whom it is for; look before you approve
    barque certificate approve jane
    """,
)
@_deciding("approve")
@with_session
def approve(session: Session, names: tuple[str, ...], **given: Any) -> None:
    """Approve requests, so that their signer issues the certificates. Who gets one is known to the cluster under the
    name and groups in the request: look at those first.
    """
    from barque.cli.certificates import decide

    decide(session, "Approved", names, given)


@command.command(
    "deny",
    cls=Verb,
    examples="""
    barque certificate deny jane
    """,
)
@_deciding("deny")
@with_session
def deny(session: Session, names: tuple[str, ...], **given: Any) -> None:
    """Deny requests: no certificate is issued, and that cannot be taken back."""
    from barque.cli.certificates import decide

    decide(session, "Denied", names, given)
