"""`/openapi/v2` and `/openapi/v3`: the documents of `barque.api.openapi`, made when first asked for, and kept.

Version 2 is JSON or, for older kubectls, protobuf. Version 3 has an index whose addresses carry each document's hash:
by that address a document never changes, and clients keep it for a year; by an old hash they are sent to the new one.

Making them is sliced, so that the event loop is never held for long; packing and hashing happens in a thread, without
the interpreter's lock. Two who ask at once wait for the same work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Generic, TypeVar

import msgspec
from aiohttp import web

from barque.api.errors import ApiError, not_found_path
from barque.api.openapi import v2, v3
from barque.api.openapi.operations import load_types
from barque.api.resources import Resource
from barque.master.apiserver.rest.answers import headers_of
from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.apiserver.rest.documents import Document
from barque.master.apiserver.rest.negotiation import clauses

# Definitions and paths that are made at a stretch: some tenths of a millisecond each.
_SLICES = 8
_YEAR = timedelta(days=365)
_JSON = "application/json"
_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# By this name older kubectls ask. It is no media type by RFC 2045, and as an answer's they cannot read it.
_PROTOBUF_OF_OLD = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

T = TypeVar("T")


class OpenAPI:
    """The handlers of OpenAPI's paths. `version` is the one that `/version` says.

    Imports the types of all resources, so that this is no part of anyone's first request.
    """

    def __init__(self, resources: Sequence[Resource], version: str) -> None:
        load_types(resources)
        self._whole = _Once(lambda: _whole(resources, version))
        self._parts = _Once(lambda: _parts(resources, version))

    def paths(self) -> dict[str, Handler]:
        """The handlers by path, or by the beginning of one."""
        return {
            "/openapi/v2": self.handle_v2,
            "/openapi/v3": self.handle_index,
            "/openapi/v3/": self.handle_v3,
        }

    async def handle_v2(self, call: RestCall) -> web.StreamResponse:
        accepted = _accepted(call.request, (_JSON, _PROTOBUF, _PROTOBUF_OF_OLD))
        return (await self._whole.get())[accepted].answer(call)

    async def handle_index(self, call: RestCall) -> web.StreamResponse:
        _accepted(call.request, (_JSON,))
        return (await self._parts.get())[""].answer(call)

    async def handle_v3(self, call: RestCall) -> web.StreamResponse:
        _accepted(call.request, (_JSON,))
        key = call.info.path.removeprefix("/openapi/v3").strip("/")
        document = (await self._parts.get()).get(key)
        if document is None:
            raise not_found_path()
        asked = call.request.query.get("hash", "")
        if asked not in ("", document.hash):
            return web.Response(status=301, headers={**headers_of(call), "Location": _address(key, document)})
        if not asked:
            return document.answer(call)
        expires = format_datetime(datetime.now(UTC) + _YEAR, usegmt=True)
        return document.answer(call, {"Cache-Control": "public, immutable", "Expires": expires})


class _Once(Generic[T]):
    """Something that is made when it is first wanted. A making that fails, or whose caller goes, is made anew."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._made: T | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> T:
        if self._made is None:
            async with self._lock:
                if self._made is None:
                    self._made = await self._make()
        return self._made


async def _whole(resources: Sequence[Resource], version: str) -> dict[str, Document]:
    """Version 2 by media type."""
    (whole,) = [each async for each in _sliced(v2.whole(resources, version)) if each is not None]
    protobuf = await asyncio.to_thread(Document, whole.protobuf, _PROTOBUF)
    return {_JSON: await asyncio.to_thread(Document, whole.json), _PROTOBUF: protobuf, _PROTOBUF_OF_OLD: protobuf}


async def _parts(resources: Sequence[Resource], version: str) -> dict[str, Document]:
    """Version 3 by key; the index has the key ""."""
    documents = {}
    async for part in _sliced(v3.parts(resources, version)):
        if part is not None:
            documents[part.key] = await asyncio.to_thread(Document, part.json)
    index = {key: {"serverRelativeURL": _address(key, document)} for key, document in sorted(documents.items())}
    documents[""] = Document(msgspec.json.encode({"paths": index}))
    return documents


async def _sliced(work: Iterator[T]) -> AsyncIterator[T]:
    """What the work yields; every few slices others have their turn."""
    for done, each in enumerate(work):
        if done % _SLICES == 0:
            await asyncio.sleep(0)
        yield each


def _address(key: str, document: Document) -> str:
    return f"/openapi/v3/{key}?hash={document.hash}"


def _accepted(request: web.BaseRequest, offered: Sequence[str]) -> str:
    """The media type of those offered that the caller wants most. Raises 406."""
    for media_type, parameters in clauses(request.headers.get("Accept", "") or "*/*"):
        if media_type in ("*/*", "application/*"):
            return offered[0]
        if media_type in offered and parameters.get("q") != "0":
            return media_type
    raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(offered)}")
