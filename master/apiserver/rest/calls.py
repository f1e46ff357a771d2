"""The frame of every request at the REST door: what is asked, who asks, how much at once, how a refusal is told.

An `ApiError` becomes its `Status`; an unexpected exception is logged here and told as one short sentence: its traceback
is ours, not the caller's. A request that is no stream ends within its time.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from barque.api.errors import ApiError, internal, not_found_path
from barque.api.subresources import SUBRESOURCES
from barque.client.verbs import APPLY_PATCH
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.rest.answers import refusal
from barque.master.apiserver.rest.call import Ending, Handler, RestCall
from barque.master.apiserver.rest.callers import Callers
from barque.master.apiserver.rest.deadlines import Deadlines
from barque.master.apiserver.rest.objects import target_of
from barque.master.apiserver.rest.request_info import RequestInfo, not_allowed, request_info
from barque.master.audit.audit import Audit
from barque.master.audit.events import Origin
from barque.master.auth.attributes import Attributes
from barque.master.auth.authorizer import Authorizer
from barque.master.auth.identity import ANONYMOUS as NOBODY
from barque.master.metrics.requests import RequestMetrics

log = logging.getLogger(__name__)

# Kubernetes' own, for everything that is no watch and no stream.
REQUEST_TIMEOUT_S = 60.0
_TOO_LONG = f"Timeout: request did not complete within {REQUEST_TIMEOUT_S:.0f}s"
# Nobody needs to be known for these: they say whether the master is well, or let one in who is to be known afterwards.
OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/cacerts", "/barque/v1/join", "/barque/v1/join-master")
# How a request counts whose client went before it was answered.
CLIENT_LEFT = 499


class Handlers(NamedTuple):
    """Who answers what. `streams` by the connecting subresource; `paths` by path where they are read (GET), else by
    method and path (`POST /x`), a path that ends with a slash for all below it, but "/" for itself.
    """

    objects: Handler
    watch: Handler
    streams: Mapping[str, Handler]
    paths: Mapping[str, Handler]


class Calls:
    """Answers every request; never raises but for its own cancellation.

    `callers` knows who sends one. Without an `audit` nothing is recorded, without `metrics` nothing counted.
    """

    def __init__(
        self,
        handlers: Handlers,
        callers: Callers,
        authorizer: Authorizer,
        bounds: Bounds,
        audit: Audit | None = None,
        metrics: RequestMetrics | None = None,
    ) -> None:
        self._handlers = handlers
        prefixes = {key.rpartition(" ")[2] for key in handlers.paths if key.endswith("/")} - {"/"}
        self._prefixes = sorted(prefixes, key=len, reverse=True)
        self._callers = callers
        self._authorizer = authorizer
        self._bounds = bounds
        self._audit = audit
        self._metrics = metrics
        self._deadlines = Deadlines()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        call = RestCall(request, RequestInfo(request.raw_path, False, request.method.lower()), NOBODY)
        # A client that went away before its answer is a 499, as elsewhere.
        code, refused = 499, None
        try:
            try:
                call.info = _info(request)
                call.ending = Ending(self._metrics.begin(call.info) if self._metrics is not None else None)
                await self._meet(call)
                answer = await self._bounded(call)
            except ApiError as error:
                refused = error
                answer = refusal(call, error)
            except (ConnectionError, asyncio.CancelledError):
                raise
            except Exception as error:
                what = "a call at the REST door failed unexpectedly: %s %s"
                log.error(what, request.method, call.info.path, exc_info=error)
                if call.audit is not None:
                    call.audit.panicked(type(error).__name__)
                refused = internal("an internal error occurred; the master's log says which")
                answer = refusal(call, refused)
            code = answer.status
        finally:
            if call.outlived:
                if call.audit is not None:
                    call.audit.started(code)
            elif call.ending is not None:
                call.ending(code, refused, call.body, call.answer, applies=_applies(call))
        return answer

    async def _meet(self, call: RestCall) -> None:
        """Who calls, and whom they act as. Raises 401 and 403."""
        request, info = call.request, call.info
        if info.path not in OPEN_PATHS:
            call.user = await self._callers.sender(request)
        if self._audit is not None:
            call.audit = self._audit.begin(_attributes(call), _origin(request))
            if call.ending is not None:
                call.ending.audited(call.audit)
        if info.path not in OPEN_PATHS:
            acting = await self._callers.acting(call.user, request)
            if acting is not call.user:
                call.user = acting
                if call.audit is not None:
                    call.audit.impersonated = acting

    async def _bounded(self, call: RestCall) -> web.StreamResponse:
        """Within the caller's bounds, and within the time a request has. What may last counts itself as a stream."""
        if _is_stream(call):
            return await self._handle(call)
        self._bounds.enter(call.user, "calls")
        try:
            with self._deadlines.within(REQUEST_TIMEOUT_S):
                return await self._handle(call)
        finally:
            self._bounds.leave(call.user, "calls")
        raise ApiError(504, "Timeout", _TOO_LONG)

    async def _handle(self, call: RestCall) -> web.StreamResponse:
        info = call.info
        if not info.is_resource:
            return await self._path(call)
        try:
            target_of(call)
        except ApiError:
            # What there is not is told as all else is: to those who may ask.
            await self._authorizer.authorize_request(_attributes(call))
            raise
        if info.verb == "watch":
            return await self._handlers.watch(call)
        served = SUBRESOURCES.get(info.subresource) if info.subresource else None
        if served is not None and served.connects:
            return await self._stream(call)
        return await self._handlers.objects(call)

    async def _path(self, call: RestCall) -> web.StreamResponse:
        info = call.info
        if info.path not in OPEN_PATHS:
            call.decided(await self._authorizer.authorize_path(call.user, info.verb, info.path))
        return await self._handler(call.request.method, info.path)(call)

    def _handler(self, method: str, path: str) -> Handler:
        """Who answers at this path. Raises 404 and 405."""
        paths = self._handlers.paths
        method = "" if method in ("GET", "HEAD") else f"{method} "
        places = [path, *(prefix for prefix in self._prefixes if path.startswith(prefix))]
        found = next((paths[method + place] for place in places if method + place in paths), None)
        if found is not None:
            return found
        if any(key.rpartition(" ")[2] in places for key in paths):
            raise not_allowed()
        raise not_found_path()

    async def _stream(self, call: RestCall) -> web.StreamResponse:
        """A connecting subresource. Running commands and the like needs `create`, however the request came."""
        target, info = target_of(call), call.info
        call.decided(await self._authorizer.authorize_connect(call.user, info.verb, target))
        handler = self._handlers.streams.get(info.subresource)
        if handler is None:
            raise not_found_path()
        return await handler(call)


def counted(handler: Handler, bounds: Bounds) -> Handler:
    """The same, each request counted as a stream of its user."""

    async def count(call: RestCall) -> web.StreamResponse:
        user = call.user
        bounds.enter(user, "streams")
        try:
            return await handler(call)
        finally:
            bounds.leave(user, "streams")

    return count


def _info(request: web.BaseRequest) -> RequestInfo:
    path, _, query = request.raw_path.partition("?")
    if not path.startswith("/"):
        # The absolute form of RFC 9112, 3.2.2.
        path = request.rel_url.raw_path
        if not path.startswith("/"):
            # The asterisk of OPTIONS, the authority of CONNECT.
            raise not_found_path()
    watching = "watch" in query and request.query.get("watch", "false").lower() not in ("false", "0", "f")
    return request_info(request.method, path, watching)


def _is_stream(call: RestCall) -> bool:
    info = call.info
    if info.verb == "watch":
        return True
    served = SUBRESOURCES.get(info.subresource) if info.subresource else None
    return served is not None and served.connects


def _applies(call: RestCall) -> bool:
    return call.info.verb == "patch" and call.request.headers.get("Content-Type", "").startswith(APPLY_PATCH)


def _attributes(call: RestCall) -> Attributes:
    info = call.info
    if not info.is_resource:
        return Attributes(call.user, info.verb, path=info.path)
    return Attributes(
        call.user, info.verb, info.group, info.version, info.resource, info.subresource, info.namespace, info.name
    )


def _origin(request: web.BaseRequest) -> Origin:
    """Its words are shared by all requests that say the same: of watches there are thousands."""
    headers, same = request.headers, sys.intern
    agent = headers.get("User-Agent", "")
    return Origin(same(request.raw_path), same(request.remote or ""), same(agent), headers.get("Audit-Id", ""))
