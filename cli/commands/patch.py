"""`barque patch`: change fields of objects by a patch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from barque.cli.choosing import Found, choice_options, find, read_choice
from barque.cli.verb import Verb, with_session
from barque.cli.writing import Results, Writing, decoded, one_by_one, read_writing, writing_options
from barque.client.verbs import JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barque.cli.fetching import Asked
    from barque.cli.session import Connection, Session

TYPES = {"strategic": STRATEGIC_MERGE_PATCH, "merge": MERGE_PATCH, "json": JSON_PATCH}


class _Patch(NamedTuple):
    content_type: str
    content: Any
    subresource: str


@click.command(
    "patch",
    cls=Verb,
    examples="""
    barque patch deployment/web -p '{"spec": {"replicas": 4}}'
    barque patch deployment web -p 'spec: {paused: true}'            YAML does too
    barque patch deployment/web --patch-file=change.yaml
    barque patch configmap/web --type=merge -p 'data: {colour: null}'            take a field out
    barque patch deployment/web --type=json \\
        -p '[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:2"}]'
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE NAME | TYPE/NAME...")
@choice_options
@click.option("-p", "--patch", "text", metavar="PATCH", help="The patch, as JSON or YAML.")
@click.option("--patch-file", metavar="FILE", help="The file it is in, - for standard input.")
@click.option(
    "--type", "kind", type=click.Choice(list(TYPES)), default="strategic",
    help="strategic merges lists by their keys, merge replaces them, json is a list of operations [strategic].",
)  # fmt: skip
@click.option("--subresource", type=click.Choice(["status", "scale"]), default=None, help="Of this part alone.")
@writing_options("patch", validate=True)
@with_session
def command(
    session: Session,
    what: tuple[str, ...],
    text: str | None,
    patch_file: str | None,
    kind: str,
    subresource: str | None,
    **given: Any,
) -> None:
    """Change fields of objects by a patch, leaving the others alone."""
    writing = read_writing(given)
    asked = read_choice(session, "patch", what, given)
    patch = _Patch(TYPES[kind], _content(text, patch_file, kind), subresource or "")
    if session.run(lambda connection: _patch_all(session, connection, asked, patch, writing)):
        click.get_current_context().exit(1)


def _content(text: str | None, file: str | None, kind: str) -> Any:
    """The patch as data. Raises `CliError` where it is not given once, cannot be read or is not of its type."""
    from barque.cli.manifests import parse
    from barque.cli.output import CliError

    if (text is None) == (file is None):
        raise CliError("must specify one of --patch or --patch-file containing the contents of the patch")
    try:
        data = text.encode() if text is not None else _read(str(file))
    except OSError as error:
        raise CliError(f"{file}: {(error.strerror or str(error)).lower()}") from None
    documents = parse("the patch" if text is not None else str(file), data)
    if len(documents) != 1:
        raise CliError(
            "the patch is empty" if not documents else f"one patch is wanted, not {len(documents)} documents"
        )
    content = documents[0].data
    if not isinstance(content, list if kind == "json" else dict):
        wanted = "a list of operations" if kind == "json" else "an object with the fields to change"
        hint = "; with --type=json it may be a list of operations" if isinstance(content, list) else ""
        raise CliError(f"a {kind} patch is {wanted}{hint}")
    return content


def _read(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


async def _patch_all(
    session: Session, connection: Connection, asked: Sequence[Asked], patch: _Patch, writing: Writing
) -> bool:
    found, failed = await find(session, connection, asked)
    results = Results(session.screen, writing)

    async def change(one: Found) -> None:
        after = await _changed(session, connection, one, patch, writing)
        same = after["metadata"].get("resourceVersion") == one.live["metadata"]["resourceVersion"]
        if writing.dry_run != "none":
            same = _without_owners(after) == _without_owners(one.live)
        results.tell(one.target.resource, one.target.name, "patched (no change)" if same else "patched", after)

    refused = await one_by_one(session, found, change, doing="patching")
    results.finish()
    return failed or refused


async def _changed(
    session: Session, connection: Connection, one: Found, patch: _Patch, writing: Writing
) -> dict[str, Any]:
    """The object after the patch."""
    target = one.target._replace(subresource=patch.subresource)
    if writing.sends:
        body = msgspec.json.encode(patch.content)
        return await decoded(session, connection.verbs.patch(target, patch.content_type, body, writing.options()))
    from barque.api.patch import json_patch, merge_patch, strategic_merge

    match patch.content_type:
        case "application/json-patch+json":
            changed = json_patch(one.live, patch.content)
        case "application/merge-patch+json":
            changed = merge_patch(one.live, patch.content)
        case _:
            changed = strategic_merge(one.target.resource.type, one.live, patch.content)
    return dict(changed)


def _without_owners(obj: dict[str, Any]) -> dict[str, Any]:
    """Without what a dry run writes that a patch of no effect would not."""
    return obj | {"metadata": {k: v for k, v in obj["metadata"].items() if k not in ("managedFields", "generation")}}
