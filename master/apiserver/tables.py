"""Server-side tables: rows for people to read, from the objects of one revision, as Kubernetes' `Table` has them.

A row carries what the caller asks for of its object: its metadata (`PartialObjectMetadata`), the whole, or nothing.
Every row costs a decode, so they are made in portions, and those of objects that are large by themselves in a thread.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from barque.api import codec, columns, conversion
from barque.api.errors import bad_request
from barque.api.resources import Resource
from barque.client.verbs import IncludeObject, RawEvent, RawTable
from barque.master.apiserver.portions import PORTION_BYTES, portions
from barque.master.apiserver.reads import Found, memo_of
from barque.master.store.port import Stored

# Rows made before other tasks get the loop: at some 50 µs each, well below 20 ms. Of large objects there are fewer.
_PORTION = 128
_INCLUDES = ("Metadata", "Object", "None")
ANNOUNCE_METADATA = b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":'

_encoder = msgspec.json.Encoder()


async def table_of(found: Found, resource: Resource, include: IncludeObject, now: datetime.datetime) -> RawTable:
    """The table of a page."""
    rows = await rows_of(found.items, resource, include, now)
    return RawTable(definitions(resource), rows, str(found.revision), found.continue_, found.remaining)


async def rows_of(
    items: Sequence[Stored], resource: Resource, include: IncludeObject, now: datetime.datetime
) -> list[bytes]:
    """One metav1.TableRow for each object."""
    rows: list[bytes] = []
    for portion in portions(items, _size_of, _PORTION):
        if rows:
            await asyncio.sleep(0)
        if len(portion) == 1:
            rows.append(await row_beside(portion[0].json, resource, include, now))
        else:
            rows += [row_of(stored.json, resource, include, now) for stored in portion]
    return rows


async def row_beside(json: bytes, resource: Resource, include: IncludeObject, now: datetime.datetime) -> bytes:
    """As `row_of`; that of a large object is made in a thread."""
    if len(json) <= PORTION_BYTES:
        return row_of(json, resource, include, now)
    return await asyncio.to_thread(row_of, json, resource, include, now)


def _size_of(item: Stored | RawEvent) -> int:
    return len(item.json)


async def with_rows(
    events: Sequence[RawEvent], resource: Resource, include: IncludeObject, now: datetime.datetime
) -> Sequence[RawEvent]:
    """The same events with rows in place of objects; watchers that share a batch share its rows."""
    shared, form = memo_of(events), f"rows {resource.api_version} {include}"
    made: Sequence[RawEvent] | None = shared.get(form)
    if made is not None:
        return made
    rows: list[RawEvent] = []
    for portion in portions(events, _size_of, _PORTION):
        if rows:
            await asyncio.sleep(0)
        for event in portion:
            json = await row_beside(event.json, resource, include, now) if event.json else b""
            rows.append(RawEvent(event.type, json, event.revision))
    shared[form] = rows
    return rows


def row_of(json: bytes, resource: Resource, include: IncludeObject, now: datetime.datetime) -> bytes:
    """The metav1.TableRow of an object's bytes as they are kept; the cells are the same in every version."""
    obj: Any = codec.decode(resource.stored.type, json)
    cells = _encoder.encode(columns.cells(resource, obj, now))
    match include:
        case "Metadata":
            return b'{"cells":%b,"object":%b%b}}' % (cells, ANNOUNCE_METADATA, _encoder.encode(obj.metadata))
        case "Object":
            return b'{"cells":%b,"object":%b}' % (cells, conversion.shown(json, resource))
        case _:
            return b'{"cells":%b}' % cells


@cache
def definitions(resource: Resource) -> bytes:
    """The JSON list of metav1.TableColumnDefinition of a resource."""
    return _encoder.encode(columns.table_columns(resource))


def check_include(include: str) -> None:
    """Raises 400 in Kubernetes' words for what cannot be included."""
    if include not in _INCLUDES:
        raise bad_request(f'unrecognized includeObject value: "{include}"')
