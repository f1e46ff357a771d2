"""Objects in other forms than their own: `Table`, `PartialObjectMetadata` and its list, for answers of every verb.

A table's rows come from the registry, which makes them in slices. An object's metadata is cut out of its bytes; nothing
else of it is read. Source: apiserver's `transformResponseObject`.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from typing import cast

import msgspec
from aiohttp import web

from barque.api import codec, conversion
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.client.verbs import IncludeObject, Page, RawList, Target
from barque.master.apiserver import tables
from barque.master.apiserver.portions import portions
from barque.master.apiserver.registry import UserVerbs
from barque.master.apiserver.rest import options
from barque.master.apiserver.rest.answers import pieces_answer
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.lists import list_metadata
from barque.master.apiserver.rest.negotiation import Accepted

# Metadata cut before other tasks get the loop: at some 3 µs each, well below 20 ms, and not out of more bytes than are
# skimmed in as long.
_PORTION = 1024
_SKIMMED_BYTES = 4 * 1024 * 1024
# Rows joined in one go.
_JOINED = 64


class _Outline(msgspec.Struct):
    """All of an object that is read of it here."""

    metadata: msgspec.Raw = msgspec.Raw(b"{}")


class _Version(msgspec.Struct):
    resourceVersion: str = ""


class _Versioned(msgspec.Struct):
    metadata: _Version = msgspec.field(default_factory=_Version)


_outline = msgspec.json.Decoder(_Outline)
_versioned = msgspec.json.Decoder(_Versioned)


async def table_answer(call: RestCall, verbs: UserVerbs, target: Target, form: Accepted) -> web.StreamResponse:
    """The table of a get or a list. Raises what they raise."""
    query = call.query
    include = include_of(query)
    page = Page(resource_version=query.get("resourceVersion", "")) if target.name else options.page(query)
    table = await verbs.table(target, options.selection(query), page, include)
    metadata = list_metadata(table.resource_version, table.continue_, table.remaining)
    rows = [in_version(row, form.version) for row in table.rows] if form.version != "v1" else table.rows
    return await pieces_answer(call, table_pieces(form.version, metadata, table.columns, rows), form)


def include_of(query: options.Query) -> IncludeObject:
    """What of each object comes with its row. Raises 400."""
    include = query.get("includeObject", "") or "Metadata"
    tables.check_include(include)
    return cast(IncludeObject, include)


def table_pieces(version: str, metadata: bytes, columns: bytes, rows: Sequence[bytes]) -> list[bytes]:
    """A metav1.Table, to be sent piece by piece."""
    pieces = [
        b'{"kind":"Table","apiVersion":"meta.k8s.io/%b","metadata":%b,"columnDefinitions":%b,"rows":['
        % (version.encode(), metadata, columns)
    ]
    for start in range(0, len(rows), _JOINED):
        piece = b",".join(rows[start : start + _JOINED])
        pieces.append(piece if start == 0 else b"," + piece)
    pieces.append(b"]}\n")
    return pieces


async def formed(json: bytes, resource: Resource, form: Accepted, now: datetime.datetime) -> bytes:
    """One object, as it is shown, in the form that is wanted. Raises 406."""
    match form.form:
        case "Table":
            kept = json
            if resource.kept_as:
                kept = codec.encode(conversion.converted(codec.decode(resource.type, json), resource.stored))
            row = in_version(await tables.row_beside(kept, resource, "Metadata", now), form.version)
            metadata = list_metadata(_versioned.decode(json).metadata.resourceVersion, "", None)
            return b"".join(table_pieces(form.version, metadata, tables.definitions(resource), [row]))
        case "PartialObjectMetadata":
            return partial_metadata(json)
        case "PartialObjectMetadataList":
            raise _not_acceptable("you requested PartialObjectMetadataList, but the requested object is not a list")
    return json


async def metadata_list(listed: RawList, form: Accepted) -> list[bytes]:
    """A PartialObjectMetadataList, to be sent piece by piece. Raises 406."""
    if form.form == "PartialObjectMetadata":
        raise _not_acceptable("you requested PartialObjectMetadata, but the requested object is a list")
    metadata = list_metadata(listed.resource_version, listed.continue_, listed.remaining)
    pieces = [b'{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":%b,"items":[' % metadata]
    for portion in portions(listed.items, len, _PORTION, _SKIMMED_BYTES):
        if len(pieces) > 1:
            await asyncio.sleep(0)
            pieces.append(b",")
        pieces.append(b",".join([partial_metadata(json) for json in portion]))
    pieces.append(b"]}\n")
    return pieces


def partial_metadata(json: bytes) -> bytes:
    """The object's metadata as a PartialObjectMetadata."""
    return b"%b%b}" % (tables.ANNOUNCE_METADATA, bytes(_outline.decode(json).metadata))


def in_version(row: bytes, version: str) -> bytes:
    """A row whose metadata says that it is of this version of `meta.k8s.io`."""
    if version == "v1":
        return row
    older = tables.ANNOUNCE_METADATA.replace(b"/v1", b"/" + version.encode())
    return row.replace(tables.ANNOUNCE_METADATA, older, 1)


def _not_acceptable(why: str) -> ApiError:
    return ApiError(406, "NotAcceptable", why)
