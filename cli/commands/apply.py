"""`barque apply`: make the cluster's objects what the manifests say, by server-side apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from barque.cli.verb import Verb, with_session
from barque.cli.writing import MANAGER, manifest_options, writing_options

if TYPE_CHECKING:
    from barque.cli.manifests import Document
    from barque.cli.session import Connection, Session
    from barque.cli.writing import Writing


class _Run(NamedTuple):
    documents: list[Document]
    writing: Writing
    force: bool
    labels: str
    prune: bool


@click.command(
    "apply",
    cls=Verb,
    examples="""
    barque apply -f web.yaml                     one file, of one or many objects
    barque apply -f manifests/ -R                a folder and all below it
    cat web.yaml | barque apply -f -             standard input
    barque apply -f web.yaml --dry-run=server    check it against the cluster, change nothing
    barque apply -f web.yaml --force-conflicts   take over fields that others manage
    barque apply -f shop/ --prune -l app=shop    and delete what is no longer in the folder
    """,
)
@manifest_options
@click.option("-l", "--selector", metavar="LABELS", default="", help="Of the manifests, those with these labels.")
@click.option("--prune", is_flag=True, help="Delete what an earlier apply of this set made and it no longer has.")
@click.option("--force-conflicts", is_flag=True, help="Take over fields that others manage.")
@click.option("--server-side", is_flag=True, hidden=True)  # for those used to kubectl: it is the only way here
@writing_options("apply", manager=MANAGER, validate=True)
@with_session
def command(session: Session, **given: Any) -> None:
    """Create the objects of the manifests, or change those that exist. Every manifest is checked before the first is
    applied; applying the same manifest again changes nothing, and a field taken out of it is taken out of the object.

    Fields are owned by whoever set them: one that someone else has set to another value is a conflict, which names
    the owner.
    """
    from barque.cli.writing import read_writing

    writing = read_writing(given)
    documents = _documents(session, given, writing)
    run = _Run(documents, writing, given["force_conflicts"], given["selector"], given["prune"])
    if session.run(lambda connection: _apply(session, connection, run)):
        click.get_current_context().exit(1)


def _documents(session: Session, given: dict[str, Any], writing: Writing) -> list[Document]:
    """What is to be applied. Raises `CliError`."""
    from barque.cli.applying import check_applicable, in_order
    from barque.cli.manifests import read_documents, select
    from barque.cli.output import CliError

    if given["prune"] and not given["selector"]:
        raise CliError("--prune needs -l LABELS: only what carries them belongs to the set")
    documents = read_documents(given["files"], recursive=given["recursive"], validation=writing.validation)
    documents = in_order(select(documents, given["selector"]))
    check_applicable(session, documents)
    for document in documents:
        for warning in document.warnings:
            session.screen.note(f"Warning: {document.source}: {warning}")
    return documents


async def _apply(session: Session, connection: Connection, run: _Run) -> bool:
    """Apply them all; True where one was refused."""
    from barque.api.errors import ApiError
    from barque.cli.applying import Applier, complain, refused
    from barque.cli.pruning import prune
    from barque.cli.writing import Results

    applier = Applier(session, connection, run.writing, run.force)
    if run.writing.dry_run == "none" and len(run.documents) > 1 and await refused(applier, run.documents):
        return True
    results, failed = Results(session.screen, run.writing), False
    for position, document in enumerate(run.documents, 1):
        session.screen.waiting(f"applying {position} of {len(run.documents)}")
        try:
            applied = await applier.apply(document)
        except ApiError as error:
            if error.reason == "ServiceUnavailable":
                raise
            failed = True
            complain(session, document, error)
        else:
            results.tell(document.resource, document.name, applied.outcome, applied.obj)
    if run.prune and not failed:
        failed = await prune(session, connection, run.writing, run.documents, run.labels, results)
    results.finish()
    return failed
