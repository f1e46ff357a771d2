"""Who sends a request: what the connection and the headers show, authenticated, and whom they ask to act as."""

from __future__ import annotations

import datetime
import ssl

from aiohttp import web

from barque.api.errors import unauthorized
from barque.client.clock import Clock
from barque.master.apiserver.rest.call import RestCall
from barque.master.auth.authentication import Authenticator, read_certificate, socket_token
from barque.master.auth.identity import User
from barque.master.auth.impersonation import RequestAuthorizer, impersonated

_PROTOCOLS = "Sec-WebSocket-Protocol"


class Callers:
    """Knows who sends a request. Raises 401 for credentials that are not good, 403 for somebody that the sender may not
    act as, and 400 for headers that ask for nobody.
    """

    def __init__(self, authenticator: Authenticator, authorizer: RequestAuthorizer, clock: Clock) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._clock = clock

    def recheck(self, call: RestCall) -> Recheck:
        """What raises 401 once what the sender of a lasting request has shown is no longer good."""
        certificate, authorization = _certificate(call.request), _authorization(call.request)
        ends = read_certificate(certificate).ends if certificate is not None else None
        return Recheck(self, ends, certificate if authorization else None, authorization)

    async def acting(self, sender: User, request: web.BaseRequest) -> User:
        """Whom the sender acts as: himself, where he asks for nobody."""
        return await impersonated(sender, request.headers, self._authorizer)

    async def check(self, shown: Recheck) -> None:
        """Raises 401 where it is no longer good."""
        if shown.ends is not None and self._clock.wall() > shown.ends:
            raise unauthorized("Unauthorized")
        if shown.authorization:
            await self._authenticator.authenticate(shown.certificate, shown.authorization)

    async def sender(self, request: web.BaseRequest) -> User:
        """Who it is before he acts as somebody else."""
        return await self._authenticator.authenticate(_certificate(request), _authorization(request))


class Recheck:
    """What the sender of a lasting request has shown. Thousands may last: what is not needed is not kept."""

    __slots__ = ("_callers", "authorization", "certificate", "ends")

    def __init__(
        self, callers: Callers, ends: datetime.datetime | None, certificate: bytes | None, authorization: str
    ) -> None:
        self._callers = callers
        self.ends = ends
        self.certificate = certificate
        self.authorization = authorization

    async def __call__(self) -> None:
        await self._callers.check(self)


def _authorization(request: web.BaseRequest) -> str:
    """What the request shows in the `Authorization` header, or as a browser's WebSocket does. Raises 401."""
    authorization = request.headers.get("Authorization", "")
    if not authorization and _PROTOCOLS in request.headers:
        authorization, _ = socket_token(request.headers[_PROTOCOLS])
    return authorization


def _certificate(request: web.BaseRequest) -> bytes | None:
    """The client's certificate (DER) where it has shown one, which TLS has verified."""
    transport = request.transport
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object") if transport is not None else None
    return connection.getpeercert(binary_form=True) if connection is not None else None
