"""`barque replace`: put objects in the place of what they are now, whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from barque.cli.verb import Verb, with_session
from barque.cli.writing import (
    Results,
    Writing,
    decoded,
    manifest_options,
    one_by_one,
    read_writing,
    where,
    writing_options,
)

if TYPE_CHECKING:
    from barque.cli.manifests import Document
    from barque.cli.session import Connection, Session
    from barque.client.verbs import Target


@click.command(
    "replace",
    cls=Verb,
    examples="""
    barque replace -f web.yaml
    barque get deployment/web -o yaml | sed 's/web:1/web:2/' | barque replace -f -
    barque replace -f web.yaml --force       delete it and create it anew, for what cannot be changed
    """,
)
@manifest_options
@click.option("--force", is_flag=True, help="Delete each object, wait until it is gone, and create it anew.")
@click.option("--grace-period", type=int, metavar="SECONDS", default=-1, help="With --force: time to stop in.")
@click.option("--cascade", type=click.Choice(["background", "foreground", "orphan"]), default="background",
              help="With --force: what becomes of what it owns [background].")  # fmt: skip
@click.option("--timeout", metavar="TIME", default="0", help="With --force: wait at most so long; 0 is for ever [0].")
@writing_options("replace", validate=True)
@with_session
def command(session: Session, **given: Any) -> None:
    """Put the objects of manifests in the place of those that are there, whole: a field that the manifest leaves out is
    gone. With a resourceVersion in the manifest it is refused if the object has changed since. Unlike `barque apply`
    it creates nothing and takes no heed of who manages a field.
    """
    from barque.cli.manifests import check_namespace, read_documents
    from barque.cli.output import CliError

    writing = read_writing(given)
    if given["force"] and writing.dry_run != "none":
        raise CliError("--dry-run can not be used when --force is set")
    documents = read_documents(given["files"], recursive=given["recursive"], validation=writing.validation)
    for document in documents:
        if not document.name:
            raise CliError(f"{document.source}: metadata.name is missing; replace cannot use generateName")
        check_namespace(session, document)
    if session.run(lambda connection: _replace_all(session, connection, documents, writing, given)):
        click.get_current_context().exit(1)


async def _replace_all(
    session: Session, connection: Connection, documents: list[Document], writing: Writing, given: dict[str, Any]
) -> bool:
    from barque.cli.manifests import target_of

    results = Results(session.screen, writing)

    async def replace(document: Document) -> None:
        target = target_of(session, document)
        body = msgspec.json.encode(_placed(document, target))
        if given["force"]:
            await _remove(session, connection, target, given)
            body = msgspec.json.encode(_placed(document, target, anew=True))
            after = await decoded(session, connection.verbs.create(where(target), body, writing.options()))
        elif writing.sends:
            after = await decoded(session, connection.verbs.update(target, body, writing.options()))
        else:
            await session.call(connection.verbs.get(target))
            after = _placed(document, target)
        results.tell(document.resource, document.name, "replaced", after)

    failed = await one_by_one(session, documents, replace, doing="replacing", source=lambda document: document.source)
    results.finish()
    return failed


def _placed(document: Document, target: Target, *, anew: bool = False) -> dict[str, Any]:
    """The document with its namespace; without what only the object had that it takes the place of."""
    metadata = dict(document.data["metadata"])
    if target.namespace:
        metadata["namespace"] = target.namespace
    if anew:
        for field in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"):
            metadata.pop(field, None)
    return document.data | {"metadata": metadata}


async def _remove(session: Session, connection: Connection, target: Target, given: dict[str, Any]) -> None:
    """Delete what is there, if anything, and wait until it is gone."""
    from barque.api.errors import ApiError
    from barque.cli.arguments import parse_duration
    from barque.cli.deleting import Doomed, delete_options, wait_until_gone
    from barque.cli.naming import quoted

    options = delete_options(grace_s=given["grace_period"], cascade=given["cascade"])
    try:
        gone = await decoded(session, connection.verbs.delete(target, options))
    except ApiError as error:
        if error.code != 404:
            raise
        return
    session.screen.line(f"{quoted(target.resource, target.name)} deleted")
    await wait_until_gone(
        session, connection, [Doomed(target, gone["metadata"].get("uid", ""))], parse_duration(given["timeout"])
    )
