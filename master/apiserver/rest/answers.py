"""Answers of one piece or of many, in JSON or YAML, packed where the client takes that."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from barque.api.errors import ApiError
from barque.master.apiserver.rest import compression
from barque.master.apiserver.rest.bodies import as_yaml
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.negotiation import JSON, Accepted

# What a proxy or browser in between must not keep for another user, as Kubernetes says it.
_CACHING = "no-cache, private"
# Larger answers are written in pieces, so that a slow client holds no more than its share.
_PIECE_BYTES = 256 * 1024
_WARNING_LENGTH = 256


def json_answer(call: RestCall, json: bytes, form: Accepted = Accepted(), code: int = 200) -> web.Response:
    """One object."""
    call.answer = json
    body = as_yaml(json) if form.yaml else json
    headers = headers_of(call)
    headers["Content-Type"] = form.content_type
    return web.Response(body=body, status=code, headers=headers)


async def pieces_answer(call: RestCall, pieces: Sequence[bytes], form: Accepted = Accepted()) -> web.StreamResponse:
    """A list, sent piece by piece."""
    if form.yaml:
        return json_answer(call, b"".join(pieces), form)
    headers = headers_of(call)
    headers["Content-Type"] = JSON
    size_bytes = sum(map(len, pieces))
    if compression.wanted(call.request, size_bytes):
        headers["Content-Encoding"], headers["Vary"] = "gzip", "Accept-Encoding"
        pieces = await compression.packed(pieces)
        size_bytes = sum(map(len, pieces))
    if size_bytes <= _PIECE_BYTES:
        return web.Response(body=b"".join(pieces), headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = size_bytes
    await response.prepare(call.request)
    for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def refusal(call: RestCall | None, error: ApiError) -> web.Response:
    """The Status of a refused request."""
    headers = headers_of(call)
    headers["Content-Type"] = JSON
    if error.details is not None and error.details.retryAfterSeconds:
        headers["Retry-After"] = str(error.details.retryAfterSeconds)
    return web.Response(body=msgspec.json.encode(error.status()), status=error.code, headers=headers)


def headers_of(call: RestCall | None) -> CIMultiDict[str]:
    """What every answer says."""
    headers: CIMultiDict[str] = CIMultiDict({"Cache-Control": _CACHING})
    if call is not None:
        if call.audit is not None:
            headers["Audit-Id"] = call.audit.id
        for warning in call.warnings:
            headers.add("Warning", f'299 - "{_quoted(warning)}"')
    return headers


def _quoted(text: str) -> str:
    """A warning as RFC 7234 quotes it: printable, no longer than clients read."""
    said = "".join(character if " " <= character <= "~" else " " for character in text)
    return said[:_WARNING_LENGTH].replace("\\", "\\\\").replace('"', '\\"')
