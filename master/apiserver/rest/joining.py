"""Paths of Barque's own: the CA for those who hold its pin, and joining. Callers need no certificate.

GET /cacerts, POST /barque/v1/join (workers), /barque/v1/join-master. Bodies are small and must arrive quickly; the
joiner's secrets are in bodies, never in a line that a log would show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec
from aiohttp import web

from barque.api.errors import ApiError, bad_request, too_large_entity
from barque.client.joining import JOIN_PATH
from barque.master.apiserver.rest.answers import json_answer
from barque.master.apiserver.rest.bodies import ask_for_body, gather
from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.auth.joining import JoinReply, JoinRequest
from barque.master.auth.member_joining import JOIN_MASTER_PATH, MemberJoinReply, MemberJoinRequest

MAX_BODY_BYTES = 16 * 1024
BODY_TIMEOUT_S = 10.0
CA_PATH = "/cacerts"

Join = Callable[[JoinRequest, str], Awaitable[JoinReply]]
JoinMaster = Callable[[MemberJoinRequest, str], Awaitable[MemberJoinReply]]
T = TypeVar("T")


def joining_paths(ca_pem: bytes, join: Join, join_master: JoinMaster | None) -> Mapping[str, Handler]:
    """Handlers by method and path, as `calls.Handlers` has them. `join(request, peer address)` decides about workers,
    `join_master` about masters (None: there is no such path).
    """

    async def handle_ca(call: RestCall) -> web.StreamResponse:
        return web.Response(body=ca_pem, content_type="application/x-pem-file")

    async def handle_join(call: RestCall) -> web.StreamResponse:
        reply = await join(await _body(call, JoinRequest), call.request.remote or "")
        return json_answer(call, msgspec.json.encode(reply))

    paths: dict[str, Handler] = {CA_PATH: handle_ca, f"POST {JOIN_PATH}": handle_join}
    if join_master is not None:
        decide = join_master

        async def handle_join_master(call: RestCall) -> web.StreamResponse:
            reply = await decide(await _body(call, MemberJoinRequest), call.request.remote or "")
            return json_answer(call, msgspec.json.encode(reply))

        paths[f"POST {JOIN_MASTER_PATH}"] = handle_join_master
    return paths


async def _body(call: RestCall, kind: type[T]) -> T:
    """The request's body. Raises 400, 408 and 413. It holds secrets, so it is kept from the audit log."""
    if (call.request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large_entity(MAX_BODY_BYTES)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            await ask_for_body(call.request)
            body = await gather(call.request, MAX_BODY_BYTES)
    except TimeoutError:
        raise ApiError(408, "Timeout", f"the request's body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"not a join request: {error}") from error
