"""What `label` and `annotate` share: reading `KEY=VALUE` and `KEY-`, and changing the labels or annotations of objects.

A change is a merge patch of just the keys meant, on the revision it was decided on, so that a value that someone else
has set meanwhile is never overwritten unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click
import msgspec

from barque.api.errors import ApiError
from barque.cli.choosing import Found, choice_options, find, read_choice
from barque.cli.fetching import Asked
from barque.cli.naming import slashed
from barque.cli.output import CliError
from barque.cli.session import Connection, Session
from barque.cli.writing import Results, Writing, decoded, one_by_one, read_writing, writing_options
from barque.client.verbs import MERGE_PATCH

F = TypeVar("F", bound=Callable[..., Any])

# A change decided on an object that someone else has changed meanwhile is decided anew this often.
ATTEMPTS = 5


class Marks(NamedTuple):
    """The verb, which map of metadata it changes, and its words in messages."""

    verb: str
    field: str
    one: str
    changed: str
    removed: str
    unchanged: str


LABELS = Marks("label", "labels", "label", "labeled", "unlabeled", "not labeled")
ANNOTATIONS = Marks("annotate", "annotations", "annotation", "annotated", "annotated", "not annotated")


def marking_options(marks: Marks) -> Callable[[F], F]:
    """The words and options that `mark` takes."""
    parts: list[Callable[[Any], Any]] = [
        click.argument("words", nargs=-1, metavar="TYPE NAME... KEY=VALUE... KEY-..."),
        choice_options,
        click.option("--overwrite", is_flag=True, help="Change a value that is set."),
        click.option("--list", "listing", is_flag=True, help=f"Show the {marks.field} there are."),
        click.option(
            "--resource-version", metavar="N", default="", help="Only if the object is still of this version."
        ),
        writing_options(marks.verb),
    ]

    def add(function: F) -> F:
        for part in reversed(parts):
            function = part(function)
        return function

    return add


class Marking(NamedTuple):
    """What is to be done to each object. A value of None takes the key out."""

    marks: Marks
    changes: dict[str, str | None]
    overwrite: bool
    listing: bool
    resource_version: str


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(types and names, changes): changes begin with the first word that is `KEY=VALUE` or `KEY-`."""
    first = next((i for i, word in enumerate(words) if "=" in word or word.endswith("-")), len(words))
    return list(words[:first]), list(words[first:])


def parse_changes(words: Sequence[str], one: str) -> dict[str, str | None]:
    """Raises `CliError` for a word that is no change, and for a key changed twice."""
    changes: dict[str, str | None] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and not word.endswith("-"):
            raise CliError(f"all resources must be specified before {one} changes: {word}")
        if not equals:
            key = word.removesuffix("-")
        if not key:
            raise CliError(f"invalid {one} spec: {word}")
        if key in changes:
            raise CliError(f'"{key}" is set or removed twice in one command')
        changes[key] = value if equals else None
    return changes


def mark(session: Session, marks: Marks, words: Sequence[str], given: dict[str, Any]) -> bool:
    """Run the verb; True where something was refused. Raises `CliError`."""
    writing = read_writing(given)
    named, changed = split(words)
    asked = read_choice(session, marks.verb, named, given)
    marking = Marking(
        marks,
        parse_changes(changed, marks.one),
        given["overwrite"],
        given["listing"],
        given["resource_version"],
    )
    if not marking.changes and not marking.listing:
        raise CliError(f"at least one {marks.one} update is required, as in KEY=VALUE or KEY-")
    if marking.changes and marking.listing:
        raise CliError(f"--list shows the {marks.field} there are; give it without changes")
    return session.run(lambda connection: _mark(session, connection, asked, marking, writing))


async def _mark(
    session: Session, connection: Connection, asked: Sequence[Asked], marking: Marking, writing: Writing
) -> bool:
    found, failed = await find(session, connection, asked)
    if marking.resource_version and len(found) > 1:
        raise CliError("--resource-version may only be used with a single resource")
    if marking.listing:
        _list(session, found, marking.marks)
        return failed
    results = Results(session.screen, writing)

    async def change(one: Found) -> None:
        became, obj = await _change(session, connection, one, marking, writing)
        results.tell(one.target.resource, one.target.name, became, obj)

    refused = await one_by_one(session, found, change, doing=f"changing {marking.marks.field} of")
    results.finish()
    return failed or refused


def _list(session: Session, found: Sequence[Found], marks: Marks) -> None:
    for one in found:
        if len(found) > 1:
            session.screen.line(f"Listing {marks.field} for {slashed(one.target.resource, one.target.name)}:")
        indent = " " if len(found) > 1 else ""
        for key, value in sorted((one.live["metadata"].get(marks.field) or {}).items()):
            session.screen.line(f"{indent}{key}={value}")


async def _change(
    session: Session, connection: Connection, one: Found, marking: Marking, writing: Writing
) -> tuple[str, dict[str, Any]]:
    """What became of the object, and how it is now. Raises `ApiError`."""
    live = one.live
    for attempt in range(1, ATTEMPTS + 1):
        present = live["metadata"].get(marking.marks.field) or {}
        _check(session, marking, present, first=attempt == 1)
        became = _became(marking, present)
        if became == marking.marks.unchanged and not marking.resource_version:
            return became, live
        revision = marking.resource_version or live["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": revision, marking.marks.field: marking.changes}}
        if not writing.sends:
            return became, _changed(live, marking)
        try:
            body = msgspec.json.encode(patch)
            request = connection.verbs.patch(one.target, MERGE_PATCH, body, writing.options())
            return became, await decoded(session, request)
        except ApiError as error:
            if error.reason != "Conflict" or marking.resource_version or attempt == ATTEMPTS:
                raise
        live = await decoded(session, connection.verbs.get(one.target))
    raise AssertionError("the last attempt returns or raises")


def _check(session: Session, marking: Marking, present: dict[str, str], *, first: bool) -> None:
    """Raises where a value would be overwritten unasked."""
    taken = {
        key: present[key]
        for key, value in marking.changes.items()
        if value is not None and key in present and present[key] != value
    }
    if taken and not marking.overwrite:
        why = "; ".join(
            f"'{key}' already has a value ({value}), and --overwrite is false" for key, value in taken.items()
        )
        raise CliError(why)
    if first:
        for key, value in marking.changes.items():
            if value is None and key not in present:
                session.screen.note(f'{marking.marks.one} "{key}" not found.')


def _became(marking: Marking, present: dict[str, str]) -> str:
    changed = {key: value for key, value in marking.changes.items() if present.get(key) != value}
    if not changed:
        return marking.marks.unchanged
    return marking.marks.changed if any(value is not None for value in changed.values()) else marking.marks.removed


def _changed(live: dict[str, Any], marking: Marking) -> dict[str, Any]:
    """What the object would be."""
    merged = {**(live["metadata"].get(marking.marks.field) or {}), **marking.changes}
    kept = {key: value for key, value in merged.items() if value is not None}
    return live | {"metadata": {**live["metadata"], marking.marks.field: kept}}
