"""`barque diff`: what `barque apply` would change."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from barque.api.errors import ApiError
from barque.cli.verb import Verb, with_session
from barque.cli.writing import MANAGER, Writing, manifest_options

if TYPE_CHECKING:
    from barque.cli.applying import Applier
    from barque.cli.differences import Difference
    from barque.cli.manifests import Document
    from barque.cli.session import Connection, Session


@click.command(
    "diff",
    cls=Verb,
    examples="""
    barque diff -f web.yaml
    barque diff -f manifests/ -R
    cat web.yaml | barque diff -f -
    BARQUE_EXTERNAL_DIFF='meld' barque diff -f web.yaml      with a program of your own
    """,
)
@manifest_options
@click.option("-l", "--selector", metavar="LABELS", default="", help="Of the manifests, those with these labels.")
@click.option("--force-conflicts", is_flag=True, help="As if fields that others manage were taken over.")
@click.option("--show-managed-fields", is_flag=True, help="Show who manages which field, too.")
@click.option("--field-manager", metavar="NAME", default=MANAGER, help=f"As whom to apply [{MANAGER}].")
@click.option("--server-side", is_flag=True, hidden=True)  # for those used to kubectl: it is the only way here
@with_session
def command(session: Session, **given: Any) -> None:
    """Show what `barque apply` would change, by asking the cluster without changing anything. Exits with 0 where that
    is nothing, with 1 where it is something, and with more where it cannot be told.
    """
    from barque.cli import differences
    from barque.cli.output import CliError
    from barque.cli.session import explain

    context = click.get_current_context()
    try:
        found, failed = _differences(session, given)
        code = _show(session, found)
    except (CliError, ApiError) as error:
        session.screen.error(explain(error) if isinstance(error, ApiError) else f"error: {error.message}")
        context.exit(differences.TROUBLE)
    context.exit(differences.TROUBLE if failed else code)


def _show(session: Session, found: list[Difference]) -> int:
    """Show the differences; 0 where there is none. Raises `CliError`."""
    from barque.cli import differences
    from barque.cli.output import colours

    program = differences.external()
    if program:
        return differences.run_external(program, [d for d in found if d.before != d.after])
    text = differences.unified(found, colours=colours(sys.stdout))
    session.screen.write(text)
    return 1 if text else 0


def _differences(session: Session, given: dict[str, Any]) -> tuple[list[Difference], bool]:
    from barque.cli.applying import check_applicable, in_order
    from barque.cli.manifests import read_documents, select

    documents = in_order(select(read_documents(given["files"], recursive=given["recursive"]), given["selector"]))
    check_applicable(session, documents)
    return session.run(lambda connection: _compare(session, connection, documents, given))


async def _compare(
    session: Session, connection: Connection, documents: list[Document], given: dict[str, Any]
) -> tuple[list[Difference], bool]:
    """What each would change, and whether one was refused."""
    from barque.cli.applying import Applier, coming_namespaces, complain

    applier = Applier(session, connection, Writing(given["field_manager"]), given["force_conflicts"])
    coming = await coming_namespaces(applier, documents)
    found: list[Difference] = []
    failed = False
    for position, document in enumerate(documents, 1):
        session.screen.waiting(f"comparing {position} of {len(documents)}")
        try:
            found.append(await _compare_one(applier, document, coming, owners=given["show_managed_fields"]))
        except ApiError as error:
            if error.reason == "ServiceUnavailable":
                raise
            failed = True
            complain(session, document, error, "comparing")
    return found, failed


async def _compare_one(applier: Applier, document: Document, coming: set[str], *, owners: bool) -> Difference:
    from barque.cli.applying import configuration
    from barque.cli.differences import difference
    from barque.cli.manifests import target_of

    target = target_of(applier.session, document)
    if target.namespace in coming:
        applier.check_here(document)
        return difference(target, None, configuration(document, target.namespace), owners=owners)
    before, after = await applier.before_and_after(document)
    return difference(target, before, after, owners=owners)
