"""`barque edit`: change objects in an editor."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from barque.api.errors import ApiError, conflict
from barque.cli import editing
from barque.cli.choosing import Found, choice_options, find, read_choice
from barque.cli.manifests import parse
from barque.cli.output import CliError
from barque.cli.printing import without_managed_fields
from barque.cli.session import explain
from barque.cli.verb import Verb, with_session
from barque.cli.writing import Results, Writing, decoded, read_writing, writing_options
from barque.client.verbs import MERGE_PATCH

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session

# Someone else's writes between our read and ours: more often than this the object never rests.
ATTEMPTS = 5
FORMATS = ("yaml", "json")


@click.command(
    "edit",
    cls=Verb,
    examples="""
    barque edit deployment/web
    barque edit configmap web -n shop
    barque edit service/web -o json
    BARQUE_EDITOR='code --wait' barque edit deployment/web
    """,
)
@click.argument("what", nargs=-1, metavar="TYPE NAME... | TYPE/NAME...")
@choice_options
@click.option("--subresource", type=click.Choice(["status"]), default=None, help="Of this part alone.")
@click.option("--output-patch", is_flag=True, help="Print the patch too.")
@writing_options("edit", validate=True)
@with_session
def command(session: Session, what: tuple[str, ...], subresource: str | None, output_patch: bool, **given: Any) -> None:
    """Change objects in an editor: $BARQUE_EDITOR, $KUBE_EDITOR, $EDITOR, or else vi. What is saved is sent at once;
    what is refused is opened again, with the reason at its head.
    """
    writing = read_writing(given)
    asked = read_choice(session, "edit", what, given)
    found, failed = session.run(lambda connection: find(session, connection, asked))
    edit = _Edit(session, writing, subresource or "", output_patch)
    if (found and edit.run(found)) or failed:
        click.get_current_context().exit(1)


class _Edit:
    """One run of the editor, and as many more as it takes. `known` is the object as the user has seen it last."""

    def __init__(self, session: Session, writing: Writing, subresource: str, output_patch: bool) -> None:
        self._session = session
        self._subresource = subresource
        self._output_patch = output_patch
        self._format = writing.output if writing.output in FORMATS else "yaml"
        self._writing = writing._replace(output="" if writing.output in FORMATS else writing.output)
        self._results = Results(session.screen, self._writing)
        self._opened: dict[tuple[str, ...], Found] = {}
        self._known: dict[tuple[str, ...], dict[str, Any]] = {}
        self._saved = False
        self._clashed = False
        self._done = False

    def run(self, found: Sequence[Found]) -> bool:
        """Edit the objects until what was saved is accepted, or the user gives up; True where something is lost."""
        for one in found:
            obj = without_managed_fields(one.live)
            self._opened[_identity(obj)] = one._replace(live=obj)
            self._known[_identity(obj)] = obj
        descriptor, name = tempfile.mkstemp(prefix="barque-edit-", suffix=f".{self._format}")
        os.close(descriptor)
        path, lost = Path(name), True
        try:
            lost = self._rounds(path)
        finally:
            if lost and self._saved:
                self._session.screen.note(f'A copy of your changes has been stored to "{path}"')
            else:
                path.unlink(missing_ok=True)
        return lost

    def _rounds(self, path: Path) -> bool:
        body, faults = editing.render([one.live for one in self._opened.values()], self._format), list[str]()
        while True:
            opened = editing.with_head(body, faults)
            path.write_text(opened)
            editing.open_editor(path)
            saved = path.read_text(errors="replace")
            self._saved = True
            before, body = body, editing.without_head(saved)
            # What was refused is refused again, but for a clash: there saving once more is the answer.
            if body == before and (saved == opened or not self._clashed):
                return self._cancelled(lost=bool(faults))
            try:
                edited = self._read(str(path), body)
            except CliError as error:
                faults = [error.message]
                continue
            if edited is None:
                self._session.screen.note("Edit cancelled, saved file was empty.")
                return False
            if not edited:
                return self._cancelled(lost=False)
            faults = self._session.run(lambda connection, edited=edited: self._send(connection, edited))  # type: ignore[misc]
            if not faults:
                self._results.finish()
                return False

    def _cancelled(self, *, lost: bool) -> bool:
        if lost:
            self._session.screen.error("error: Edit cancelled, no valid changes were saved.")
        elif not self._done:
            self._session.screen.note("Edit cancelled, no changes made.")
        return lost

    def _read(self, source: str, body: str) -> list[tuple[Found, dict[str, Any]]] | None:
        """The objects that were changed with their patches; None where nothing is left. Raises `CliError`."""
        documents = parse(source, body.encode())
        if not documents:
            return None
        edited = []
        for raw in documents:
            if not isinstance(raw.data, dict) or not isinstance(raw.data.get("metadata"), dict):
                raise CliError(f"{raw.where()}: an object is expected, with apiVersion, kind and metadata")
            one = self._opened.get(_identity(raw.data))
            if one is None:
                raise CliError(f"{raw.where()}: apiVersion, kind, name and namespace must stay as they were")
            patch = editing.changes(one.live, raw.data)
            if patch:
                edited.append((one, patch))
        return edited

    async def _send(self, connection: Connection, edited: Sequence[tuple[Found, dict[str, Any]]]) -> list[str]:
        """Send the patches; what was refused, and why. What was accepted is opened no more."""
        faults, self._clashed = [], False
        for one, patch in edited:
            try:
                after = await self._send_one(connection, one, patch)
            except ApiError as error:
                if error.reason == "ServiceUnavailable":
                    raise
                faults.append(explain(error))
                self._session.screen.error(explain(error))
                continue
            if self._output_patch:
                self._session.screen.line(f"Patch: {msgspec.json.encode(patch).decode()}")
            self._results.tell(one.target.resource, one.target.name, "edited", after)
            self._opened[_identity(one.live)] = one._replace(live=without_managed_fields(after))
            self._known[_identity(one.live)] = without_managed_fields(after)
            self._done = True
        return faults

    async def _send_one(self, connection: Connection, one: Found, patch: dict[str, Any]) -> dict[str, Any]:
        """Raises 409 where someone else has changed what was edited; saved once more, it is written all the same."""
        identity, target = _identity(one.live), one.target._replace(subresource=self._subresource)
        if not self._writing.sends:
            return one.live
        revision = self._known[identity]["metadata"]["resourceVersion"]
        for _ in range(ATTEMPTS):
            body = {**patch, "metadata": {**(patch.get("metadata") or {}), "resourceVersion": revision}}
            request = connection.verbs.patch(target, MERGE_PATCH, msgspec.json.encode(body), self._writing.options())
            try:
                return await decoded(self._session, request)
            except ApiError as error:
                if error.reason != "Conflict":
                    raise
            fresh = without_managed_fields(await decoded(self._session, connection.verbs.get(one.target)))
            fields = editing.clash(patch, editing.changes(self._known[identity], fresh))
            self._known[identity] = fresh
            revision = fresh["metadata"]["resourceVersion"]
            if fields:
                self._clashed = True
                resource = target.resource
                why = (
                    f"someone else has changed {', '.join(fields)} meanwhile; change this line and save to overwrite it"
                )
                raise conflict(resource.plural, resource.group, target.name, why)
        raise conflict(target.resource.plural, target.resource.group, target.name, "it keeps changing; try again")


def _identity(obj: dict[str, Any]) -> tuple[str, ...]:
    metadata = obj["metadata"]
    return (
        str(obj.get("apiVersion", "")),
        str(obj.get("kind", "")),
        str(metadata.get("namespace") or ""),
        str(metadata.get("name", "")),
    )
