"""The bodies of requests: read whole and within bounds, in JSON, YAML or protobuf; and answers in YAML."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import msgspec
from aiohttp import web

from barque.api.errors import ApiError, bad_request, too_large_entity
from barque.api.yaml_documents import YamlError, read_documents
from barque.master.apiserver.lengthy import AT_ONCE_BYTES, YAML_COSTS, LengthyWork
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.protobuf import decoding

# As much as Kubernetes reads; how much of it may be stored is the registry's to say.
MAX_BODY_BYTES = 3 * 1024 * 1024
# A body that has not come whole by then is a client that hangs, or one that means harm.
BODY_TIMEOUT_S = 30.0
# So many faults of one body are told, as in Kubernetes.
_MOST_DUPLICATES = 100
_JSONS = ("", "application/json", "*/*", "application/octet-stream")
_YAMLS = ("application/yaml", "application/x-yaml", "text/yaml")


async def read_body(call: RestCall) -> bytes:
    """All of the request's body, unpacked. Raises 408, 413, 400 and 415."""
    request = call.request
    if not request.body_exists:
        return b""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large_entity(MAX_BODY_BYTES)
    await ask_for_body(request)
    content = request.content
    try:
        if content.is_eof():
            # All of it is here already, as small bodies mostly are.
            body = content.read_nowait()
        else:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await gather(request, MAX_BODY_BYTES)
    except TimeoutError:
        raise ApiError(408, "Timeout", f"the request's body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None
    except (web.RequestPayloadError, zlib.error) as error:
        raise bad_request(f"the request's body cannot be read: {error}") from None
    call.body = body
    return body


async def read_object(call: RestCall, lengthy: LengthyWork, strictness: str = "") -> bytes:
    """The body as JSON, whichever of the forms it came in. Raises 415, and 400 for YAML that cannot be read.

    What takes long takes its turn: whether this caller may do anything at all is only asked later. `strictness` is the
    request's fieldValidation: what becomes of keys that are given twice.
    """
    body = await read_body(call)
    media_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in _JSONS:
        return body
    if media_type == decoding.MEDIA_TYPE:
        if len(body) < AT_ONCE_BYTES:
            # The first one makes the schema: that takes too long for the loop.
            return await asyncio.to_thread(decoding.json_of, body) if body else b""
        return await lengthy.do(call.user.name, len(body), lambda: decoding.json_of(body))
    if media_type not in _YAMLS:
        raise unsupported(media_type)
    return await lengthy.do(call.user.name, len(body) * YAML_COSTS, lambda: _json_of(call, body, strictness))


def unsupported(media_type: str) -> ApiError:
    """415 in Kubernetes' words."""
    why = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", f"{why}application/json, application/yaml, {decoding.MEDIA_TYPE}")


def as_yaml(json: bytes) -> bytes:
    """An answer's JSON as YAML."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(msgspec.json.decode(json), Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text.encode()


def _json_of(call: RestCall, body: bytes, strictness: str) -> bytes:
    try:
        documents = list(read_documents(body))
    except (YamlError, UnicodeDecodeError) as error:
        raise bad_request(f"error converting YAML to JSON: yaml: {error}") from None
    if len(documents) != 1:
        raise bad_request(f"the body holds {len(documents)} YAML documents, one is wanted")
    (document,) = documents
    duplicates = document.duplicates[:_MOST_DUPLICATES]
    if duplicates and strictness == "Strict":
        raise bad_request(f"strict decoding error: {', '.join(duplicates)}")
    if strictness != "Ignore":
        call.warnings.extend(duplicates)
    return _encoded(document.data)


def _encoded(data: Any) -> bytes:
    try:
        return msgspec.json.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise bad_request(f"error converting YAML to JSON: {error}") from None


async def ask_for_body(request: web.BaseRequest) -> None:
    """Tell a client that waits to be told that its body is wanted (RFC 9110, 10.1.1)."""
    expects = request.headers.get("Expect", "").lower() == "100-continue"
    if expects and request.version >= (1, 1) and not request.content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # It is no part of the answer.
        request.writer.output_size = 0


async def gather(request: web.BaseRequest, at_most_bytes: int) -> bytes:
    """The body, piece by piece, so that an endless one ends at the bound. Raises 413."""
    gathered = bytearray()
    async for piece in request.content.iter_any():
        gathered += piece
        if len(gathered) > at_most_bytes:
            raise too_large_entity(at_most_bytes)
    return bytes(gathered)
