"""Watch events as clients read them: `{"type":…,"object":…}`, one a line, objects being the bytes that are kept.

In: batches of events as they come from the backend. Out: frames of some lines each. Watchers that are handed the same
batch and want it in the same form send the same bytes: they are made once (`reads.memo_of`).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.client.verbs import IncludeObject, RawEvent
from barque.master.apiserver import reads, tables
from barque.master.apiserver.reads import memo_of
from barque.master.apiserver.rest.tables import in_version, partial_metadata

# Events joined to one write; an object larger than this travels alone.
FRAME_BYTES = 256 * 1024

_INITIAL_END = "k8s.io/initial-events-end"


class WatchForm(NamedTuple):
    """How a watcher wants its events. `lines` are one frame an event, as WebSockets have it."""

    form: Literal["", "Table", "PartialObjectMetadata"] = ""
    version: str = "v1"
    include: IncludeObject = "Metadata"
    bookmarks: bool = False
    lines: bool = False


async def frames(
    events: Sequence[RawEvent], resource: Resource, form: WatchForm, now: datetime.datetime
) -> Sequence[bytes]:
    """The frames of a batch, shared by all who are handed it."""
    memo = memo_of(events)
    name = f"{resource.api_version} {form}"
    made: Sequence[bytes] | None = memo.get(name)
    if made is None:
        made = memo[name] = await make_frames(events, resource, form, now)
    return made


async def make_frames(
    events: Sequence[RawEvent], resource: Resource, form: WatchForm, now: datetime.datetime, *, first: bool = False
) -> list[bytes]:
    """The frames of a batch. A table's `first` event tells the columns as well."""
    if form.form == "Table":
        shown = await tables.with_rows(events, resource, form.include, now)
    else:
        shown = await reads.as_shown(events, resource)
    lines = []
    for event in shown:
        if event.type != "BOOKMARK":
            lines.append(b'{"type":"%b","object":%b}\n' % (event.type.encode(), _object(event, resource, form, first)))
            first = False
        elif form.bookmarks:
            lines.append(bookmark(event.revision, resource, form))
    return lines if form.lines else list(_joined(lines))


def bookmark(revision: int, resource: Resource, form: WatchForm, *, ends_initial: bool = False) -> bytes:
    """The line that says how far the watch has come; `ends_initial`, that what there was has all been sent."""
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if ends_initial:
        metadata["annotations"] = {_INITIAL_END: "true"}
    json = msgspec.json.encode({"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})
    match form.form:
        case "Table":
            row = b'{"cells":[],"object":%b}' % in_version(partial_metadata(json), form.version)
            json = _table(str(revision).encode(), b"null", row, form)
        case "PartialObjectMetadata":
            json = partial_metadata(json)
    return b'{"type":"BOOKMARK","object":%b}\n' % json


def error(refusal: ApiError) -> bytes:
    """The line by which a watch tells why it ends."""
    return b'{"type":"ERROR","object":%b}\n' % msgspec.json.encode(refusal.status())


def _object(event: RawEvent, resource: Resource, form: WatchForm, first: bool) -> bytes:
    match form.form:
        case "Table":
            columns = tables.definitions(resource) if first else b"null"
            return _table(b"%d" % event.revision, columns, in_version(event.json, form.version), form)
        case "PartialObjectMetadata":
            return partial_metadata(event.json)
    return event.json


def _table(revision: bytes, columns: bytes, row: bytes, form: WatchForm) -> bytes:
    return (
        b'{"kind":"Table","apiVersion":"meta.k8s.io/%b","metadata":{"resourceVersion":"%b"},"columnDefinitions":%b,'
        b'"rows":[%b]}' % (form.version.encode(), revision, columns, row)
    )


def _joined(lines: Iterable[bytes]) -> Iterable[bytes]:
    parts: list[bytes] = []
    size = 0
    for line in lines:
        if parts and size + len(line) > FRAME_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(line)
        size += len(line)
    if parts:
        yield b"".join(parts)
