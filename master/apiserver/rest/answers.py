"""Answers of one piece or of many, in JSON or YAML, packed where the client takes that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

from barque.api.errors import ApiError
from barque.master.apiserver.rest import compression
from barque.master.apiserver.rest.bodies import as_yaml
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.lists import joined
from barque.master.apiserver.rest.negotiation import JSON, Accepted

# What a proxy or browser in between must not keep for another user, as Kubernetes says it.
_CACHING = "no-cache, private"
# Larger answers are written in pieces, so that a slow client holds no more than its share.
_PIECE_BYTES = 256 * 1024
# Kubernetes' bounds: clients stop reading an answer whose headers are too long.
_WARNING_LENGTH = 256
_WARNINGS_LENGTH = 4 * 1024
# What is larger is written anew in a thread.
_WRITTEN_AT_ONCE_BYTES = 8 * 1024
_READ_BY_PEOPLE = ("curl", "Wget", "Mozilla/5.0")
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}


class WholeAnswer(web.StreamResponse):
    """A small answer in JSON with the headers that nearly all have, sent at once, on a connection that goes on.

    aiohttp's own way by a map of headers, which it looks through, completes and writes out, takes several times as
    long: nearly as much as a read of an object takes in all.
    """

    def __init__(self, call: RestCall, json: bytes, code: int) -> None:
        super().__init__(status=code)
        self._keep_alive = True
        self._json = json
        self._audit_id = call.audit.id if call.audit is not None else ""

    @staticmethod
    def suits(call: RestCall) -> bool:
        """Whether the answer may be one of these."""
        request = call.request
        return (
            not call.warnings
            and request.version == HttpVersion11
            and request.keep_alive
            and request.method != hdrs.METH_HEAD
        )

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send all of it. Raises `ConnectionResetError` where the client has left."""
        if self._eof_sent:
            return None
        self._eof_sent = True
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        json = self._json
        audited = f"\r\nAudit-Id: {self._audit_id}" if self._audit_id else ""
        head = (
            f"{_STATUS_LINES[self.status]}\r\nContent-Type: {JSON}\r\nCache-Control: {_CACHING}{audited}\r\n"
            f"Date: {rfc822_formatted_time()}\r\nContent-Length: {len(json)}\r\n\r\n"
        )
        transport.write(head.encode("ascii") + json)
        await request.writer.drain()
        return None


def json_answer(call: RestCall, json: bytes, code: int = 200) -> web.StreamResponse:
    """One small object, as it is."""
    call.answer = json
    if WholeAnswer.suits(call):
        return WholeAnswer(call, json, code)
    headers = headers_of(call)
    headers["Content-Type"] = JSON
    return web.Response(body=json, status=code, headers=headers)


async def object_answer(
    call: RestCall, json: bytes, form: Accepted = Accepted(), code: int = 200
) -> web.StreamResponse:
    """One object, as it is wanted."""
    if len(json) < compression.THRESHOLD_BYTES and not form.yaml and not _wants_indents(call.request):
        return json_answer(call, json, code)
    call.answer = json
    return await pieces_answer(call, [json], form, code)


async def pieces_answer(
    call: RestCall, pieces: Sequence[bytes], form: Accepted = Accepted(), code: int = 200
) -> web.StreamResponse:
    """A list, or a large object, sent piece by piece."""
    if form.yaml:
        pieces = [await _written(as_yaml, pieces)]
    elif _wants_indents(call.request):
        pieces = [await _written(_indented, pieces)]
    headers = headers_of(call)
    headers["Content-Type"] = form.content_type
    size_bytes = sum(map(len, pieces))
    if compression.wanted(call.request, size_bytes):
        headers["Content-Encoding"], headers["Vary"] = "gzip", "Accept-Encoding"
        pieces = await compression.packed(pieces)
        size_bytes = sum(map(len, pieces))
    if size_bytes <= _PIECE_BYTES:
        return web.Response(body=b"".join(pieces), status=code, headers=headers)
    response = web.StreamResponse(status=code, headers=headers)
    response.content_length = size_bytes
    await response.prepare(call.request)
    for piece in joined(pieces):
        await response.write(piece)
    await response.write_eof()
    return response


def refusal(call: RestCall | None, error: ApiError) -> web.Response:
    """The Status of a refused request."""
    headers = headers_of(call)
    headers["Content-Type"] = JSON
    if error.details is not None and error.details.retryAfterSeconds:
        headers["Retry-After"] = str(error.details.retryAfterSeconds)
    json = msgspec.json.encode(error.status())
    body = _indented(json) if call is not None and _wants_indents(call.request) else json
    return web.Response(body=body, status=error.code, headers=headers)


def headers_of(call: RestCall | None) -> CIMultiDict[str]:
    """What every answer says."""
    headers: CIMultiDict[str] = CIMultiDict({"Cache-Control": _CACHING})
    if call is not None:
        if call.audit is not None:
            headers["Audit-Id"] = call.audit.id
        said = 0
        for warning in dict.fromkeys(call.warnings):
            quoted = _quoted(warning)
            said += len(quoted)
            if said > _WARNINGS_LENGTH:
                break
            headers.add("Warning", f'299 - "{quoted}"')
    return headers


async def _written(write: Callable[[bytes], bytes], pieces: Sequence[bytes]) -> bytes:
    """All of it in another writing, made in a thread where that takes its time."""
    json = b"".join(pieces)
    return write(json) if len(json) < _WRITTEN_AT_ONCE_BYTES else await asyncio.to_thread(write, json)


def _indented(json: bytes) -> bytes:
    return msgspec.json.format(json, indent=2) + b"\n"


def _wants_indents(request: web.BaseRequest) -> bool:
    """Whether a person reads the answer: by what the query says, else by the program that asks, as in Kubernetes."""
    if "pretty=" in request.raw_path:
        return request.query.get("pretty", "") in ("true", "1")
    return request.headers.get("User-Agent", "").startswith(_READ_BY_PEOPLE)


def _quoted(text: str) -> str:
    """A warning as RFC 7234 quotes it: printable, no longer than clients read."""
    said = "".join(character if " " <= character <= "~" else " " for character in text[:_WARNING_LENGTH])
    return said.replace("\\", "\\\\").replace('"', '\\"')
