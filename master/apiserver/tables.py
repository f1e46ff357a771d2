"""Server-side tables: rows for people to read, from the objects of one revision, as Kubernetes' `Table` has them.

A row carries what the caller asks for of its object: its metadata (`PartialObjectMetadata`), the whole, or nothing.
Every row costs a decode, so they are made in slices.
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
from barque.master.apiserver.reads import Found, memo_of
from barque.master.store.port import Stored

# Rows made before other tasks get the loop: at some 50 µs each, well below 20 ms.
_SLICE = 128
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
    for start in range(0, len(items), _SLICE):
        if start:
            await asyncio.sleep(0)
        rows += [row_of(stored.json, resource, include, now) for stored in items[start : start + _SLICE]]
    return rows


async def with_rows(
    events: Sequence[RawEvent], resource: Resource, include: IncludeObject, now: datetime.datetime
) -> Sequence[RawEvent]:
    """The same events with rows in place of objects; watchers that share a batch share its rows."""
    shared, form = memo_of(events), f"rows {resource.api_version} {include}"
    made: Sequence[RawEvent] | None = shared.get(form)
    if made is not None:
        return made
    rows: list[RawEvent] = []
    for number, event in enumerate(events, 1):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        json = row_of(event.json, resource, include, now) if event.json else b""
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
