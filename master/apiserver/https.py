"""The HTTPS door (`:6443`): health, the CA for those who hold its pin, and joining. Callers need no certificate.

GET /healthz /livez /readyz (`?verbose` lists the parts), GET /cacerts, POST /barque/v1/join (workers) and
/barque/v1/join-master; anything else is a 404 `Status`. Bodies are small and must arrive quickly; nothing here holds
more than a few requests' memory.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
from aiohttp import web

from barque.api.errors import ApiError, bad_request
from barque.api.types.meta_v1 import Status
from barque.client.joining import JOIN_PATH
from barque.master.auth.joining import JoinReply, JoinRequest
from barque.master.auth.member_joining import JOIN_MASTER_PATH, MemberJoinReply, MemberJoinRequest
from barque.proto.cluster_pb2 import Component

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024
BODY_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 20.0
IDLE_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 2.0
HANDSHAKE_TIMEOUT_S = 10.0

Join = Callable[[JoinRequest, str], Awaitable[JoinReply]]
JoinMaster = Callable[[MemberJoinRequest, str], Awaitable[MemberJoinReply]]
T = TypeVar("T")


class HttpsDoor:
    """The server behind the door.

    `join(request, peer address)` decides about workers that join, `join_master` about masters (None: there is no such
    path); `ready()` names the parts that must be well for /readyz.
    """

    def __init__(
        self,
        ca_pem: bytes,
        join: Join,
        ready: Callable[[], Sequence[Component]],
        join_master: JoinMaster | None = None,
    ) -> None:
        self._ca_pem = ca_pem
        self._join = join
        self._join_master = join_master
        self._ready = ready
        self._runner: web.AppRunner | None = None
        # The one it listens on; 0 before that.
        self.port = 0

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_answer_in_time, _status_errors], client_max_size=MAX_BODY_BYTES)
        app.add_routes(
            [
                web.get("/healthz", self._handle_alive),
                web.get("/livez", self._handle_alive),
                web.get("/readyz", self._handle_ready),
                web.get("/cacerts", self._handle_ca),
                web.post(JOIN_PATH, self._handle_join),
            ]
        )
        if self._join_master is not None:
            app.add_routes([web.post(JOIN_MASTER_PATH, self._handle_join_master)])
        return app

    async def start(self, address: str, context: ssl.SSLContext) -> int:
        """Listen on `host:port`; port 0 picks a free one. Returns the port. Raises OSError where it is taken."""
        host, _, port = address.rpartition(":")
        # The joiner's secrets are in bodies, never in the line a log would show; there is no access log.
        runner = web.AppRunner(
            self.application(), access_log=None, keepalive_timeout=IDLE_TIMEOUT_S, shutdown_timeout=STOP_TIMEOUT_S
        )
        await runner.setup()
        assert runner.server is not None
        loop = asyncio.get_running_loop()
        try:
            site = await loop.create_server(
                runner.server, host.strip("[]") or None, int(port), ssl=context, backlog=256,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S, ssl_shutdown_timeout=STOP_TIMEOUT_S,
            )  # fmt: skip
        except OSError:
            await runner.cleanup()
            raise
        self._runner, self._site = runner, site
        self.port = site.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        """Close the door and the connections."""
        if self._runner is not None:
            self._site.close()
            await self._runner.cleanup()
            self._runner = None

    async def _handle_alive(self, request: web.Request) -> web.Response:
        return _health(request, [])

    async def _handle_ready(self, request: web.Request) -> web.Response:
        return _health(request, self._ready())

    async def _handle_ca(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._ca_pem, content_type="application/x-pem-file")

    async def _handle_join(self, request: web.Request) -> web.Response:
        reply = await self._join(await _body(request, JoinRequest), request.remote or "")
        return web.Response(body=msgspec.json.encode(reply), content_type="application/json")

    async def _handle_join_master(self, request: web.Request) -> web.Response:
        assert self._join_master is not None
        reply = await self._join_master(await _body(request, MemberJoinRequest), request.remote or "")
        return web.Response(body=msgspec.json.encode(reply), content_type="application/json")


async def _body(request: web.Request, kind: type[T]) -> T:
    """The request's body. Raises 400 and 408."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
    except TimeoutError:
        raise ApiError(408, "Timeout", f"the request's body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"not a join request: {error}") from error


def _health(request: web.Request, parts: Sequence[Component]) -> web.Response:
    """Kubernetes' health text: `ok`, or a line per part."""
    well = all(part.healthy for part in parts)
    name = request.path.strip("/")
    if well and "verbose" not in request.query:
        return web.Response(text="ok")
    lines = ["[+]ping ok"]
    lines += [f"[+]{p.name} ok" if p.healthy else f"[-]{p.name} failed: {p.message}" for p in parts]
    lines.append(f"{name} check {'passed' if well else 'failed'}\n")
    return web.Response(text="\n".join(lines), status=200 if well else 503)


@web.middleware
async def _answer_in_time(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await handler(request)
    except TimeoutError:
        return _refusal(ApiError(504, "Timeout", f"no answer within {ANSWER_TIMEOUT_S:.0f} s"))


@web.middleware
async def _status_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every refusal as a Kubernetes Status."""
    try:
        return await handler(request)
    except ApiError as error:
        return _refusal(error)
    except web.HTTPNotFound:
        return _refusal(ApiError(404, "NotFound", "the server could not find the requested resource"))
    except web.HTTPMethodNotAllowed:
        message = f"{request.method} is not allowed on {request.path}"
        return _refusal(ApiError(405, "MethodNotAllowed", message))
    except web.HTTPRequestEntityTooLarge:
        message = f"the request is larger than {MAX_BODY_BYTES} bytes"
        return _refusal(ApiError(413, "RequestEntityTooLarge", message))


def _refusal(error: ApiError) -> web.Response:
    status: Status = error.status()
    return web.Response(body=msgspec.json.encode(status), status=error.code, content_type="application/json")


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
