"""`/metrics`: every source's families as one text, made while it is read.

In: sources, each a function that yields families. Out: the text in pieces, between which other work goes on: a master
with thousands of series must not keep its heartbeats waiting for a scrape.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from aiohttp import web

from barque.master.metrics.exposition import CONTENT_TYPE, Family

if TYPE_CHECKING:
    from barque.master.apiserver.rest.call import Handler, RestCall

Source = Callable[[], Iterator[Family]]

# Lines made in one turn of the loop: about a millisecond's work.
SLICE_LINES = 500


class MetricsPage:
    """The handler of `/metrics`; `sources` are asked on every request."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def paths(self) -> dict[str, Handler]:
        """Who answers, for the door."""
        return {"/metrics": self.handle}

    async def handle(self, call: RestCall) -> web.StreamResponse:
        """Answer a scrape."""
        text = b"".join([piece async for piece in self.pieces()])
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def pieces(self) -> AsyncIterator[bytes]:
        """The text, piece by piece."""
        lines = self._lines()
        while piece := list(islice(lines, SLICE_LINES)):
            yield "\n".join([*piece, ""]).encode()
            await asyncio.sleep(0)

    def _lines(self) -> Iterator[str]:
        for source in self._sources:
            for family in source():
                yield from family.lines()
