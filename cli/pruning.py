"""`apply --prune`: delete what an earlier apply of the same set made and the set no longer has.

An object belongs to the set when it carries the set's labels and has been applied by the set's own field manager; so
what people or controllers made with the same labels stays. Every served kind that lives in a namespace is looked
through, in the namespaces of the set; namespaces and nodes are never pruned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from barque.api.errors import ApiError
from barque.api.resources import stored_resources
from barque.cli.manifests import Document, target_of
from barque.cli.session import Connection, Session, explain
from barque.cli.writing import Results, Writing
from barque.client.verbs import Selection, Target


async def prune(
    session: Session,
    connection: Connection,
    writing: Writing,
    documents: Sequence[Document],
    labels: str,
    results: Results,
) -> bool:
    """Delete what is no longer in the set and say so; True where something could not be deleted."""
    kept = {target_of(session, document) for document in documents}
    namespaces = sorted({target.namespace for target in kept} - {""}) or [session.namespace]
    failed = False
    for target, uid in await _surplus(session, connection, writing.field_manager, kept, namespaces, labels):
        options: dict[str, Any] = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        if writing.dry_run == "server":
            options["dryRun"] = ["All"]
        try:
            if writing.sends:
                await session.call(connection.verbs.delete(target, msgspec.json.encode(options)))
            results.tell(target.resource, target.name, "pruned")
        except ApiError as error:
            if error.code != 404:
                failed = True
                session.screen.error(explain(error, f"error when pruning {target.name}: "))
    return failed


async def _surplus(
    session: Session, connection: Connection, manager: str, kept: set[Target], namespaces: list[str], labels: str
) -> list[tuple[Target, str]]:
    """(where, uid) of every object of the set that is not to be kept."""
    found = []
    for resource in stored_resources():
        if not resource.namespaced or "delete" not in resource.verbs:
            continue
        for namespace in namespaces:
            session.screen.waiting(f"looking for {resource.plural} that are no longer in the set")
            listed = await session.call(connection.verbs.list(Target(resource, namespace), Selection(labels)))
            for item in listed.items:
                metadata = msgspec.json.decode(item)["metadata"]
                target = Target(resource, namespace, metadata["name"])
                if target not in kept and _applied_by(manager, metadata):
                    found.append((target, metadata["uid"]))
    return found


def _applied_by(manager: str, metadata: dict[str, Any]) -> bool:
    entries = metadata.get("managedFields") or []
    return any(entry.get("manager") == manager and entry.get("operation") == "Apply" for entry in entries)
