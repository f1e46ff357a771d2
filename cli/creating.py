"""Creating objects from the command's side: those of manifests, and those that a verb has put together itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from barque.cli.writing import Results, Writing, decoded, one_by_one, where

if TYPE_CHECKING:
    from barque.cli.manifests import Document
    from barque.cli.session import Connection, Session


def create_documents(
    session: Session, documents: Sequence[Document], writing: Writing, became: str = "created"
) -> None:
    """Create each and say so; exits with 1 where one was refused."""
    if writing.sends:
        failed = session.run(lambda connection: send_documents(session, connection, documents, writing, became))
        if failed:
            click.get_current_context().exit(1)
        return
    results = Results(session.screen, writing)
    for document in documents:
        results.tell(document.resource, _name(document), became, _placed(document, session.namespace_given))
    results.finish()


async def send_documents(
    session: Session,
    connection: Connection,
    documents: Sequence[Document],
    writing: Writing,
    became: str = "created",
) -> bool:
    """Create each; True where one was refused."""
    import msgspec

    from barque.cli.manifests import target_of

    results = Results(session.screen, writing)

    async def create(document: Document) -> None:
        target = where(target_of(session, document))
        body = msgspec.json.encode(_placed(document, target.namespace))
        made = await decoded(session, connection.verbs.create(target, body, writing.options()))
        results.tell(document.resource, made["metadata"].get("name") or _name(document), became, made)

    failed = await one_by_one(session, documents, create, doing="creating", source=lambda document: document.source)
    results.finish()
    return failed


def document_of(made: dict[str, Any]) -> Document:
    """An object that a verb has put together, as if it came from a manifest."""
    from barque.api import resources
    from barque.cli.manifests import Document

    return Document("", made, resources.by_kind(made["apiVersion"], made["kind"]), [])


def make(session: Session, made: dict[str, Any], writing: Writing) -> None:
    """Create the object that a kind's command has put together."""
    create_documents(session, [document_of(made)], writing)


def _name(document: Document) -> str:
    return document.name or str(document.data["metadata"]["generateName"])


def _placed(document: Document, namespace: str) -> dict[str, Any]:
    """The document with its namespace."""
    if not document.resource.namespaced or not namespace or document.namespace:
        return document.data
    return document.data | {"metadata": {**document.data["metadata"], "namespace": namespace}}
