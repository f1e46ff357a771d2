"""`barque apply`: make the cluster's objects what the manifests say, by a three-way merge.

The merge's first side is the annotation `kubectl.kubernetes.io/last-applied-configuration`, kept in kubectl's own form,
so that both tools may take turns. A field that was applied and is no longer in the manifest goes away; what others set
stays.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from barque.cli.verb import Verb, with_session

if TYPE_CHECKING:
    from barque.cli.manifests import Document
    from barque.cli.session import Connection, Session
    from barque.client.verbs import Target

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MANAGER = "barque-apply"
# Someone else's write between our read and ours: read again. More often than this is not bad luck.
ATTEMPTS = 5
RETRY_S = 0.2

# The document itself is wrong, whatever the cluster holds.
_WRONG_CODES = (400, 413, 422)

Outcome = Literal["created", "configured", "unchanged"]


@click.command(
    "apply",
    cls=Verb,
    examples="""
    barque apply -f web.yaml                 one file, of one or many objects
    barque apply -f manifests/ -R            a folder and all below it
    cat web.yaml | barque apply -f -         standard input
    barque apply -f web.yaml --dry-run=server    check it against the cluster, change nothing
    """,
)
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="File, folder or - for standard input.")
@click.option("-R", "--recursive", is_flag=True, help="Go into folders below.")
@click.option(
    "--dry-run", type=click.Choice(["none", "client", "server"]), default="none", help="Say what would happen [none]."
)
@with_session
def command(session: Session, files: tuple[str, ...], recursive: bool, dry_run: str) -> None:
    """Create the objects of the manifests, or change those that exist. Every manifest is checked before the first is
    sent; applying the same manifest again changes nothing, and a field taken out of it is taken out of the object.
    """
    from barque.cli.manifests import read_documents
    from barque.cli.output import CliError

    if not files:
        raise CliError("say which manifests with -f FILE; - is standard input")
    documents = read_documents(files, recursive=recursive)
    for document in documents:
        if not document.name:
            raise CliError(f"{document.source}: metadata.name is missing; apply cannot use generateName")
        check_namespace(session, document)
    if session.run(lambda connection: _apply_all(session, connection, documents, dry_run)):
        click.get_current_context().exit(1)


def check_namespace(session: Session, document: Document) -> None:
    """-n and the manifest must agree."""
    from barque.cli.output import CliError

    given = session.namespace_given
    if given and document.resource.namespaced and document.namespace not in ("", given):
        raise CliError(
            f'{document.source}: the namespace from the provided object "{document.namespace}" does not match the '
            f"namespace \"{given}\". You must pass '--namespace={document.namespace}' to perform this operation."
        )


def target_of(session: Session, document: Document) -> Target:
    """Where the document's object stands."""
    from barque.client.verbs import Target

    namespace = (document.namespace or session.namespace) if document.resource.namespaced else ""
    return Target(document.resource, namespace, document.name)


async def _apply_all(session: Session, connection: Connection, documents: list[Document], dry_run: str) -> bool:
    from barque.api.errors import ApiError
    from barque.cli.naming import slashed
    from barque.cli.session import explain

    suffix = {"none": "", "client": " (dry run)", "server": " (server dry run)"}[dry_run]
    if dry_run == "none" and len(documents) > 1 and await _refused(session, connection, documents):
        return True
    failed = False
    for document in documents:
        target = target_of(session, document)
        try:
            outcome = await apply(session, connection, document, target, dry_run)
        except ApiError as error:
            if error.reason == "ServiceUnavailable":
                raise
            failed = True
            session.screen.error(explain(error, f'error when applying "{document.source}": '))
        else:
            session.screen.line(f"{slashed(document.resource, document.name)} {outcome}{suffix}")
    return failed


async def _refused(session: Session, connection: Connection, documents: list[Document]) -> bool:
    """Try every document first, so that one that is wrong is told before another has changed anything."""
    from barque.api.errors import ApiError
    from barque.cli.session import explain

    refused = False
    for document in documents:
        try:
            await apply(session, connection, document, target_of(session, document), "trial")
        except ApiError as error:
            # What depends on the documents before it (their namespace, say) shows only when it is its turn.
            if error.code in _WRONG_CODES:
                refused = True
                session.screen.error(explain(error, f'error in "{document.source}": '))
    if refused:
        session.screen.note("Nothing was applied: mend the manifest first.")
    return refused


async def apply(
    session: Session, connection: Connection, document: Document, target: Target, dry_run: str = "none"
) -> Outcome:
    """Apply one document; reads again where someone else wrote in between, or where an outcome is not known."""
    from barque.api.errors import ApiError

    modified = with_last_applied(document.data, target.namespace)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await _apply_once(session, connection, document, target, modified, dry_run)
        except ApiError as error:
            vanished = error.code == 404 and error.details is not None and error.details.name == target.name
            if attempt == ATTEMPTS or not (error.code in (409, 504) or (vanished and attempt > 1)):
                raise
        await session.clock.sleep(RETRY_S * attempt)
    raise AssertionError("the last attempt returns or raises")


async def _apply_once(
    session: Session, connection: Connection, document: Document, target: Target, modified: dict[str, Any], dry_run: str
) -> Outcome:
    from barque.api.errors import ApiError
    from barque.api.patch import three_way
    from barque.client.verbs import STRATEGIC_MERGE_PATCH, WriteOptions

    options = WriteOptions(dry_run=dry_run in ("server", "trial"), field_manager=MANAGER)
    try:
        current: dict[str, Any] = msgspec.json.decode(await session.call(connection.verbs.get(target)))
    except ApiError as error:
        if error.code != 404:
            raise
        if dry_run != "client":
            body = msgspec.json.encode(modified)
            await session.call(connection.verbs.create(target._replace(name=""), body, options))
        return "created"
    original = last_applied(current)
    if original is None and dry_run != "trial":
        session.screen.note(
            f"Warning: {document.resource.plural}/{document.name} was not made by apply: the annotation {LAST_APPLIED} "
            "is added now; fields that are not in the manifest stay as they are"
        )
    if current["metadata"].get("deletionTimestamp") and dry_run != "trial":
        session.screen.note(f"Warning: {document.resource.plural}/{document.name} is being deleted")
    patch = three_way(document.resource.type, original or {}, modified, current)
    if not patch:
        return "unchanged"
    if dry_run == "client":
        return "configured"
    request = connection.verbs.patch(target, STRATEGIC_MERGE_PATCH, msgspec.json.encode(patch), options)
    result: dict[str, Any] = msgspec.json.decode(await session.call(request))
    return "unchanged" if _wish(result) == _wish(current) else "configured"


def with_last_applied(data: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The document as it is to be sent: with its namespace and with itself, in kubectl's form, as annotation.

    `status` is left out: it is the system's.
    """
    sent = {key: copy.deepcopy(value) for key, value in data.items() if key != "status"}
    metadata = sent["metadata"]
    if namespace:
        metadata["namespace"] = namespace
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop(LAST_APPLIED, None)
    metadata["annotations"] = annotations
    itself = json.dumps(sent, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    metadata["annotations"] = {**annotations, LAST_APPLIED: itself}
    return sent


def last_applied(current: dict[str, Any]) -> dict[str, Any] | None:
    """What was applied last, as the object remembers it; None where it does not, or not legibly."""
    text = (current["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return None
    try:
        original = json.loads(text)
    except ValueError:
        return None
    return original if isinstance(original, dict) else None


def _wish(obj: dict[str, Any]) -> dict[str, Any]:
    """The object without what changes by itself."""
    varying = ("resourceVersion", "managedFields")
    metadata = {key: value for key, value in obj["metadata"].items() if key not in varying}
    return {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}
