"""Server-side apply from the command's side: what is sent, what became of it, and who owns what another has set.

`Applier.apply` brings one document to the cluster and says `created`, `configured` or `unchanged`; `Applier.preview` is
the object as it would become. `refused` tries many documents before the first is written. Source: KEP-555.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from barque.api import codec
from barque.api.apply import Manager, apply_configuration, finish
from barque.api.decode import convert
from barque.api.defaults import apply_defaults
from barque.api.errors import ApiError, invalid_object
from barque.api.resources import Resource
from barque.api.validation import validate
from barque.cli.manifests import Document, check_namespace, target_of
from barque.cli.output import CliError
from barque.cli.session import Connection, Session, explain
from barque.cli.writing import Writing, decoded
from barque.client.clock import timestamp
from barque.client.verbs import APPLY_PATCH, Target

# Where clients that merge by themselves keep what they applied last.
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# An apply whose outcome is not known may be sent again; more often than this the connection is not coming back.
ATTEMPTS = 5
RETRY_S = 0.2
# The document itself is wrong, whatever the cluster holds.
_WRONG_CODES = (400, 413, 415, 422)
_OWNED = "FieldManagerConflict"

Outcome = Literal["created", "configured", "unchanged"]


class Applied(NamedTuple):
    """What became of one document, and the object as it is now."""

    outcome: Outcome
    obj: dict[str, Any]


@dataclass(frozen=True)
class Applier:
    """Applies documents as `writing` says; `force` takes over fields that others own."""

    session: Session
    connection: Connection
    writing: Writing
    force: bool = False

    async def live(self, target: Target) -> dict[str, Any] | None:
        """The object as it is now, None where there is none."""
        try:
            return await decoded(self.session, self.connection.verbs.get(target))
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    async def apply(self, document: Document) -> Applied:
        """Apply one document. Raises `ApiError`."""
        target = target_of(self.session, document)
        before = await self.live(target)
        if before is not None and before["metadata"].get("deletionTimestamp"):
            self.session.screen.note(f"Warning: {document.resource.plural}/{document.name} is being deleted")
        if self.writing.sends:
            after = await self._send(target, document)
        else:
            after = self._computed(target, document, before)
        return Applied(_outcome(before, after, real=self.writing.dry_run == "none"), after)

    async def preview(self, document: Document) -> dict[str, Any]:
        """The object as it would become; nothing is changed. Raises `ApiError`."""
        return await self._send(target_of(self.session, document), document, trial=True)

    async def before_and_after(self, document: Document) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """The object as it is and as it would become, of one moment: what others change meanwhile is no difference."""
        target = target_of(self.session, document)
        before, after = await self.live(target), await self.preview(document)
        for _ in range(ATTEMPTS):
            if _revision(before) == _revision(after):
                break
            before, after = await self.live(target), await self.preview(document)
        return before, after

    async def try_out(self, document: Document, namespaces: set[str]) -> None:
        """Raises `ApiError` where the document would be refused. `namespaces` will have been made by its turn."""
        if target_of(self.session, document).namespace in namespaces:
            self.check_here(document)
        else:
            await self.preview(document)

    def check_here(self, document: Document) -> None:
        """Validate without the server. Raises 422."""
        obj: Any = _typed(document.resource, configuration(document, target_of(self.session, document).namespace))
        apply_defaults(obj)
        faults = validate(obj)
        if faults:
            raise invalid_object(document.resource.kind, document.resource.group, document.name, faults)

    async def _send(self, target: Target, document: Document, *, trial: bool = False) -> dict[str, Any]:
        body = msgspec.json.encode(configuration(document, target.namespace))
        options = self.writing.options(trial=trial, force=self.force)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await decoded(self.session, self.connection.verbs.patch(target, APPLY_PATCH, body, options))
            except ApiError as error:
                if error.reason != "Timeout" or attempt == ATTEMPTS:
                    raise
            await self.session.clock.sleep(RETRY_S * attempt)
        raise AssertionError("the last attempt returns or raises")

    def _computed(self, target: Target, document: Document, before: dict[str, Any] | None) -> dict[str, Any]:
        """What the server would make of it, reckoned here."""
        resource = target.resource
        live: Any = None if before is None else _typed(resource, before)
        wanted = configuration(document, target.namespace)
        manager = Manager(self.writing.field_manager, "Apply", "", timestamp(self.session.clock.wall()))
        applied = apply_configuration(resource.type, live, wanted, manager, self.force)
        obj: Any = _typed(resource, applied.document)
        apply_defaults(obj)
        obj.metadata.managedFields = finish(live, obj, applied.managed)
        return codec.to_document(obj)


def configuration(document: Document, namespace: str) -> dict[str, Any]:
    """The document as it is to be applied: with its namespace, and without what is the system's own or another
    client's bookkeeping.
    """
    sent = {key: copy.deepcopy(value) for key, value in document.data.items() if key != "status"}
    metadata = sent["metadata"]
    if namespace:
        metadata["namespace"] = namespace
    if LAST_APPLIED in (metadata.get("annotations") or {}):
        del metadata["annotations"][LAST_APPLIED]
    return sent


def check_applicable(session: Session, documents: Sequence[Document]) -> None:
    """Raises `CliError` for what apply cannot do, before anything is sent."""
    for document in documents:
        if not document.name:
            raise CliError(f"{document.source}: metadata.name is missing; apply cannot use generateName")
        check_namespace(session, document)


def in_order(documents: Sequence[Document]) -> list[Document]:
    """Namespaces first, so that what belongs in one finds it; otherwise as written."""
    return sorted(documents, key=lambda document: document.resource.kind != "Namespace")


async def refused(applier: Applier, documents: Sequence[Document]) -> bool:
    """Try every document first, so that one that is wrong is told before another has changed anything."""
    session = applier.session
    coming = await coming_namespaces(applier, documents)
    found = False
    for position, document in enumerate(documents, 1):
        session.screen.waiting(f"checking {position} of {len(documents)}")
        try:
            await applier.try_out(document, coming)
        except ApiError as error:
            # Whatever else is in the way may be gone by its turn, or is told then.
            if error.code in _WRONG_CODES or is_conflict(error):
                found = True
                complain(session, document, error)
    if found:
        session.screen.note("Nothing was applied: mend the manifest first.")
    return found


async def coming_namespaces(applier: Applier, documents: Sequence[Document]) -> set[str]:
    """Namespaces that the documents themselves make."""
    made = [document for document in documents if document.resource.kind == "Namespace"]
    return {d.name for d in made if await applier.live(target_of(applier.session, d)) is None}


def is_conflict(error: ApiError) -> bool:
    """Whether another manager owns a field with another value."""
    return error.details is not None and any(cause.reason == _OWNED for cause in error.details.causes)


def complain(session: Session, document: Document, error: ApiError, verb: str = "applying") -> None:
    """Tell a refusal; a conflict with what there is to be done about it."""
    text = explain(error, f'error when {verb} "{document.source}": ')
    session.screen.error(f"{text}\n{WAYS_OUT}" if is_conflict(error) else text)


WAYS_OUT = """\
Someone else set these fields to another value and manages them. There are three ways out:
* to manage them from now on with the values of your manifest, apply again with --force-conflicts;
* to leave them to their managers, take them out of your manifest;
* to manage them together, give them the value in your manifest that they have now: you keep them when the
  others let go."""


def _outcome(before: dict[str, Any] | None, after: dict[str, Any], *, real: bool) -> Outcome:
    if before is None:
        return "created"
    if real:
        same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    else:
        same = _wish(before) == _wish(after)
    return "unchanged" if same else "configured"


def _revision(obj: dict[str, Any] | None) -> str:
    """What a dry run leaves as it is; "" for what does not exist."""
    return str(obj["metadata"].get("resourceVersion", "")) if obj is not None else ""


def _wish(obj: dict[str, Any]) -> dict[str, Any]:
    """The object without what a dry run cannot know or the system writes by itself."""
    metadata = {k: v for k, v in obj["metadata"].items() if k not in ("resourceVersion", "generation")}
    metadata["managedFields"] = [
        {key: value for key, value in entry.items() if key != "time"} for entry in metadata.get("managedFields") or []
    ]
    return {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}


def _typed(resource: Resource, data: dict[str, Any]) -> Any:
    """Raises `ApiError` 400 where a value is of the wrong type."""
    return convert(data, resource, "Ignore")
