"""The index of the door, `GET /`: every path that answers, as Kubernetes' `RootPaths`.

In: the paths. Out: the handler of one document, made once.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from aiohttp import web

from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.apiserver.rest.documents import Document


def index_paths(places: Iterable[str]) -> dict[str, Handler]:
    """The handler by its path. Of `places` those are left out that need a method, or only lead to others below."""
    told = sorted({place for place in places if " " not in place and not place.endswith("/")})
    document = Document(msgspec.json.encode({"paths": told}))

    async def handle(call: RestCall) -> web.StreamResponse:
        return document.answer(call)

    return {"/": handle}
