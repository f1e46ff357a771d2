"""`barque auth reconcile`: bring roles and bindings to hold at least what manifests say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from barque.cli.verb import Verb, with_session
from barque.cli.writing import manifest_options, read_writing, writing_options

if TYPE_CHECKING:
    from barque.api.reconciliation import Reconciled
    from barque.cli.manifests import Document
    from barque.cli.session import Connection, Session
    from barque.cli.writing import Writing


@click.command(
    "reconcile",
    cls=Verb,
    examples="""
    barque auth reconcile -f roles.yaml
    barque auth reconcile -f roles.yaml --dry-run=client
    barque auth reconcile -f roles.yaml --remove-extra-permissions --remove-extra-subjects
    """,
)
@manifest_options
@click.option("--remove-extra-permissions", "drop_rules", is_flag=True, help="Take away rules that are not asked for.")
@click.option("--remove-extra-subjects", "drop_subjects", is_flag=True, help="Take away subjects too.")
@writing_options("auth-reconcile")
@with_session
def reconcile(session: Session, drop_rules: bool, drop_subjects: bool, **given: Any) -> None:
    """Add the rules and subjects that roles and bindings lack, and create those that are missing. A binding of another
    role is made anew. Objects of other kinds are passed over.
    """
    from barque.cli.manifests import check_namespace, read_documents

    writing = read_writing(given)
    documents = read_documents(given["files"], recursive=given["recursive"])
    for document in documents:
        check_namespace(session, document)
    session.run(lambda connection: _reconcile(session, connection, documents, writing, (drop_rules, drop_subjects)))


async def _reconcile(
    session: Session,
    connection: Connection,
    documents: list[Document],
    writing: Writing,
    drop: tuple[bool, bool],
) -> None:
    import msgspec

    from barque.api import codec, reconciliation
    from barque.api.defaults import apply_defaults
    from barque.api.errors import ApiError
    from barque.api.types.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding
    from barque.cli.manifests import target_of
    from barque.cli.writing import Results

    results = Results(session.screen, writing)
    for document in documents:
        wanted: Any = codec.decode(document.resource.type, msgspec.json.encode(document.data))
        if not isinstance(wanted, (Role, ClusterRole, RoleBinding, ClusterRoleBinding)):
            session.screen.note(f"skipping {document.resource.kind} {document.name}: it is neither role nor binding")
            continue
        apply_defaults(wanted)
        target = target_of(session, document)
        wanted.metadata.namespace = target.namespace
        present: Any = None
        try:
            present = codec.decode(type(wanted), await session.call(connection.verbs.get(target)))
        except ApiError as error:
            if error.code != 404:
                raise
        found = reconciliation.reconcile(wanted, present, drop_rules=drop[0], drop_subjects=drop[1])
        if found.operation and not found.protected and writing.sends:
            await _write(session, connection, document, found, writing)
        results.tell(document.resource, document.name, "reconciled", codec.to_document(found.object))
        _tell(session, found, drop)
    results.finish()


async def _write(
    session: Session, connection: Connection, document: Document, found: Reconciled, writing: Writing
) -> None:
    from barque.api import codec
    from barque.cli.manifests import target_of

    target, json, options = target_of(session, document), codec.encode(found.object), writing.options()
    if found.operation == "update":
        await session.call(connection.verbs.update(target, json, options))
        return
    if found.operation == "recreate" and not options.dry_run:
        await session.call(connection.verbs.delete(target))
    if found.operation == "create" or not options.dry_run:
        await session.call(connection.verbs.create(target._replace(name=""), json, options))


def _tell(session: Session, found: Reconciled, drop: tuple[bool, bool]) -> None:
    """What was lacking and what was too much, to standard error as kubectl does."""
    if not found.operation:
        return
    opted_out = ", but object opted out (rbac.authorization.kubernetes.io/autoupdate: false)" if found.protected else ""
    note = session.screen.note
    note(f"\treconciliation required {found.operation}{opted_out}")
    told = (
        ("missing subjects added", found.missing_subjects),
        ("extra subjects removed", found.extra_subjects if drop[1] else ()),
        ("missing rules added", found.missing_rules),
        ("extra rules removed", found.extra_rules if drop[0] else ()),
    )
    for words, things in told:
        if things:
            note(f"\t{words}:")
        for thing in things:
            note(f"\t\t{_struct(thing)}")


def _struct(thing: Any) -> str:
    """The values of a rule or subject in Kubernetes' order, as Go shows a struct."""
    fields = {
        "PolicyRule": ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"),
        "Subject": ("kind", "apiGroup", "name", "namespace"),
    }[type(thing).__name__]
    values = (getattr(thing, name) for name in fields)
    return "{" + " ".join(f"[{' '.join(value)}]" if isinstance(value, list) else value for value in values) + "}"
