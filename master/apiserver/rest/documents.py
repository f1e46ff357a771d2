"""Answers that are the same bytes for everyone: made once, kept, and sent again only to those who lack them.

In: a document's bytes. Out: responses with an ETag; 304 for who has it, gzip for who takes it. Used by what the door
says of itself: discovery, OpenAPI, the version.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping

from aiohttp import web

from barque.api.errors import ApiError
from barque.master.apiserver.rest.answers import headers_of
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.compression import takes_gzip

# Below this packing gains less than the headers cost.
_WORTH_PACKING_BYTES = 1024
_PACKING_LEVEL = 6


class Document:
    """One document. Making it hashes and packs the bytes: a millisecond for 50 KB; neither holds the interpreter, so
    large ones are best made in a thread.
    """

    def __init__(self, body: bytes, content_type: str = "application/json") -> None:
        self.hash = hashlib.sha512(body).hexdigest().upper()
        self._etag = f'"{self.hash}"'
        self._content_type = content_type
        self._body = body
        packed = gzip.compress(body, _PACKING_LEVEL, mtime=0) if len(body) >= _WORTH_PACKING_BYTES else b""
        self._packed = packed if len(packed) < len(body) else b""

    def answer(self, call: RestCall, more: Mapping[str, str] | None = None) -> web.Response:
        """The answer to a GET or HEAD; `more` are headers besides or instead. Raises 405 for other methods."""
        request = call.request
        if request.method not in ("GET", "HEAD"):
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        headers = headers_of(call)
        headers.update({"ETag": self._etag, "Vary": "Accept", **(more or {})})
        if self._has(request.headers.get("If-None-Match", "")):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = self._content_type
        if self._packed and takes_gzip(request.headers.get("Accept-Encoding", "")):
            headers.update({"Content-Encoding": "gzip", "Vary": "Accept, Accept-Encoding"})
            return web.Response(body=self._packed, headers=headers)
        return web.Response(body=self._body, headers=headers)

    def _has(self, header: str) -> bool:
        """Whether the caller of this If-None-Match has the document."""
        tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
        return any(tag in ("*", self._etag) for tag in tags)
