"""A container's log as one answer: plain text, in chunks as the worker sends it.

A log that is followed may be silent for as long as it likes; a client that does not take what it says may not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from aiohttp import web

from barque.master.apiserver.streams.idle import Idleness

# As Kubernetes answers; a log is nothing to keep.
_HEADERS = {"Content-Type": "text/plain", "Cache-Control": "no-cache, private"}


async def answer(request: web.BaseRequest, chunks: AsyncIterator[Any], idleness: Idleness) -> web.StreamResponse:
    """Send the chunks as they come. Raises ApiError for what the worker refuses before it has sent any; a log that
    breaks off later ends without its last chunk, so that nobody takes it for whole.
    """
    first = await anext(chunks, None)
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    await idleness.run(_pass_on(request, response, first, chunks, idleness))
    return response


async def _pass_on(
    request: web.BaseRequest, response: web.StreamResponse, chunk: Any, chunks: AsyncIterator[Any], idleness: Idleness
) -> None:
    try:
        while chunk is not None:
            idleness.touch()
            await response.write(chunk.data)
            idleness.rest()
            chunk = await anext(chunks, None)
        idleness.touch()
        with suppress(ConnectionError):
            await response.write_eof()
    except asyncio.CancelledError:
        # The client is gone or does not read: waiting for it to take the rest would hold its memory.
        if request.transport is not None:
            request.transport.abort()
        raise
    except Exception:
        if request.transport is not None:
            request.transport.close()
        raise
