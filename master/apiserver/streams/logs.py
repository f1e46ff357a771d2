"""A container's log as one answer: plain text, in chunks as the worker sends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from aiohttp import web

# As Kubernetes answers; a log is nothing to keep.
_HEADERS = {"Content-Type": "text/plain", "Cache-Control": "no-cache, private"}


async def answer(request: web.BaseRequest, chunks: AsyncIterator[Any]) -> web.StreamResponse:
    """Send the chunks as they come. Raises ApiError for what the worker refuses before it has sent any; a log that
    breaks off later ends without its last chunk, so that nobody takes it for whole.
    """
    first = await anext(chunks, None)
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    try:
        if first is not None:
            await response.write(first.data)
            async for chunk in chunks:
                await response.write(chunk.data)
    except Exception:
        if request.transport is not None:
            request.transport.close()
        raise
    with suppress(ConnectionError):
        await response.write_eof()
    return response
