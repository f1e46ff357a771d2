"""What the verbs ask a master for: the objects meant, page by page, as rows or in full.

`asked_for` makes sense of types, names, files and selectors; `fetch` reads what they mean and keeps what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from barque.api.errors import ApiError, not_found
from barque.api.resources import Resource
from barque.cli.arguments import parse_wanted
from barque.cli.output import CliError
from barque.client.verbs import Page, Selection, Target

if TYPE_CHECKING:
    from barque.cli.session import Connection, Session
    from barque.client.verbs import IncludeObject, RawList, RawTable

# How many objects one answer holds: long lists come in pages of one revision.
CHUNK = 500
_SCALE_COLUMNS = tuple({"name": name} for name in ("Name", "Desired", "Available", "Age"))


class Asked(NamedTuple):
    """Objects of one type in one namespace ("" where it has none, or all are meant); no names are all of them."""

    resource: Resource
    namespace: str
    names: tuple[str, ...] = ()
    selection: Selection = Selection()
    subresource: str = ""
    chunk: int = CHUNK
    ignore_not_found: bool = False
    # What one master knows will do, also where it cannot ask the others.
    stale: bool = False

    @property
    def resource_version(self) -> str:
        """For a read: "" asks for the current state."""
        return "0" if self.stale else ""

    @property
    def target(self) -> Target:
        return Target(self.resource, self.namespace)

    @property
    def watched(self) -> Selection:
        """What a watch selects: by name only with a field selector."""
        return Selection(fields=f"metadata.name={self.names[0]}") if self.names else self.selection


class Answer(NamedTuple):
    """Objects, or their rows under `columns`; `revision` is what a watch goes on from."""

    resource: Resource
    items: list[dict[str, Any]]
    revision: str = ""
    columns: tuple[dict[str, Any], ...] = ()


def asked_for(
    session: Session, what: Sequence[str], given: Mapping[str, Any], *, verb: str, example: str = "pods"
) -> list[Asked]:
    """What a verb's words and options mean; `given` has files, recursive, selector, field_selector, all_namespaces, and
    may have subresource, chunk_size, ignore_not_found and stale. `example` is a type the verb is for. Raises `CliError`
    on what makes no sense.
    """
    selection = Selection(given["selector"], given.get("field_selector", ""))
    more = {
        "subresource": given.get("subresource", ""),
        "chunk": given.get("chunk_size", CHUNK),
        "ignore_not_found": given.get("ignore_not_found", False),
        "stale": given.get("stale", False),
    }
    if given.get("files"):
        if what or selection != Selection():
            raise CliError("-f names the objects by itself; types, names and selectors cannot be added")
        return _of_files(session, given["files"], given["recursive"], more)
    wanted = parse_wanted(what, verb=verb, example=example)
    if any(w.names for w in wanted):
        if selection != Selection():
            raise CliError("name cannot be provided when a selector is specified")
        if given["all_namespaces"]:
            raise CliError("a resource cannot be retrieved by name across all namespaces")
    return [
        Asked(
            resource,
            session.namespace if resource.namespaced and not given["all_namespaces"] else "",
            names,
            selection,
            **more,
        )
        for resource, names in wanted
    ]


def _of_files(session: Session, files: Sequence[str], recursive: bool, more: dict[str, Any]) -> list[Asked]:
    from barque.cli.manifests import check_namespace, read_documents, target_of

    asked: list[Asked] = []
    for document in read_documents(files, recursive=recursive, validation=""):
        check_namespace(session, document)
        if not document.name:
            raise CliError(f"{document.source}: metadata.name is missing; by generateName alone no object is known")
        target = target_of(session, document)
        if asked and (asked[-1].resource, asked[-1].namespace) == (target.resource, target.namespace):
            asked[-1] = asked[-1]._replace(names=(*asked[-1].names, target.name))
        else:
            asked.append(Asked(target.resource, target.namespace, (target.name,), **more))
    return asked


async def fetch(
    session: Session, connection: Connection, asked: Sequence[Asked], rows: IncludeObject | None
) -> tuple[list[Answer], list[ApiError]]:
    """One answer for each type asked for, and a 404 for each name that is missing; with `rows`, table rows."""
    answers: list[Answer] = []
    missing: list[ApiError] = []
    for each in asked:
        if not each.names:
            answers.append(await listed(session, connection, each, rows))
            continue
        found: list[Answer] = []
        for name in each.names:
            try:
                found.append(await _one(session, connection, each, name, rows))
            except ApiError as error:
                if error.code != 404:
                    raise
                if not each.ignore_not_found:
                    missing.append(error)
        if found:
            answers.append(found[0]._replace(items=[item for answer in found for item in answer.items]))
    return answers, missing


async def _one(session: Session, connection: Connection, asked: Asked, name: str, rows: IncludeObject | None) -> Answer:
    target = Target(asked.resource, asked.namespace, name, asked.subresource)
    if rows is None:
        found = await session.call(connection.verbs.get(target, asked.resource_version))
        return Answer(asked.resource, [msgspec.json.decode(found)])
    if asked.subresource == "scale":
        scale = msgspec.json.decode(await session.call(connection.verbs.get(target, asked.resource_version)))
        return Answer(asked.resource, [_scale_row(scale, session)], columns=_SCALE_COLUMNS)
    page = Page(resource_version=asked.resource_version)
    table = await session.call(connection.verbs.table(target, page=page, include=rows))
    return Answer(asked.resource, [msgspec.json.decode(row) for row in table.rows], columns=_columns(table.columns))


def _scale_row(scale: dict[str, Any], session: Session) -> dict[str, Any]:
    """A scale's row, which no master makes."""
    from barque.api.columns.age import age

    meta = scale["metadata"]
    wanted, there = scale.get("spec", {}).get("replicas", 0), scale.get("status", {}).get("replicas", 0)
    old = age(meta.get("creationTimestamp", ""), session.clock.wall())
    return {"cells": [meta["name"], wanted, there, old], "object": scale}


async def listed(
    session: Session, connection: Connection, asked: Asked, rows: IncludeObject | None, *, wanted: bool = True
) -> Answer:
    """All that is selected, of one revision, page after page. Where nothing of it is `wanted`, the revision and the
    columns alone. Raises 404 where a name is missing.
    """
    items: list[dict[str, Any]] = []
    columns: tuple[dict[str, Any], ...] = ()
    page = Page(asked.chunk if wanted else 1, resource_version=asked.resource_version)
    while True:
        part, more, definitions = await _page(session, connection, asked, page, rows)
        columns = columns or definitions
        items += [msgspec.json.decode(item) for item in more]
        if asked.names and not items and not asked.ignore_not_found:
            raise not_found(asked.resource.plural, asked.resource.group, asked.names[0])
        if not part.continue_ or not wanted:
            return Answer(asked.resource, items if wanted else [], part.resource_version, columns)
        page = page._replace(continue_=part.continue_)


async def _page(
    session: Session, connection: Connection, asked: Asked, page: Page, rows: IncludeObject | None
) -> tuple[RawList | RawTable, list[bytes], tuple[dict[str, Any], ...]]:
    """One page, what it holds, and the columns of what it holds."""
    if rows is None:
        listed = await session.call(connection.verbs.list(asked.target, asked.watched, page))
        return listed, listed.items, ()
    table = await session.call(connection.verbs.table(asked.target, asked.watched, page, rows))
    return table, table.rows, _columns(table.columns)


def _columns(definitions: bytes) -> tuple[dict[str, Any], ...]:
    found: tuple[dict[str, Any], ...] = tuple(msgspec.json.decode(definitions))
    return found


def in_order(answer: Answer, path: str) -> Answer:
    """The answer's objects or rows in the order of a JSONPath."""
    from barque.cli.sorting import sort_by

    return answer._replace(items=sort_by(path, answer.items, lambda item: item["object"] if answer.columns else item))


def nothing_found(asked: Sequence[Asked], namespace: str, everywhere: bool) -> str:
    """What is said where there is nothing to show."""
    if everywhere or not any(each.resource.namespaced for each in asked):
        return "No resources found"
    return f"No resources found in {namespace} namespace."
