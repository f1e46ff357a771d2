"""The master's side of joining: a good token and a free name earn a worker its certificate.

A name whose worker is connected at this moment is refused: two workers of one name would tear its pods apart. A name
whose worker is gone may be taken again with a valid token, which is how a machine is reinstalled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from barque.api.errors import ApiError, bad_request
from barque.client.clock import Clock
from barque.client.pki import PkiError, node_subject
from barque.master.auth.ca import MasterPki
from barque.master.auth.identity import User
from barque.master.auth.tokens import JoinTokens

log = logging.getLogger(__name__)


class JoinRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What a joining worker sends; `csr` is PEM."""

    token: str
    csr: str
    node: str


class JoinReply(msgspec.Struct):
    """What it gets: its certificate and the CA (PEM), and the masters' gRPC doors as `host:port`."""

    certificate: str
    ca: str
    masters: list[str]
    cluster: str


class Joining:
    """Answers join requests.

    `connected(node)` says whether a worker of that name has a heartbeat stream open; `masters()` are the gRPC doors
    (`host:port`) of all masters, none for "where you found me".
    """

    def __init__(
        self,
        pki: MasterPki,
        tokens: JoinTokens,
        connected: Callable[[str], bool],
        clock: Clock,
        masters: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._pki = pki
        self._tokens = tokens
        self._connected = connected
        self._clock = clock
        self._masters = masters

    async def join(self, request: JoinRequest, address: str) -> JoinReply:
        """The worker's certificate. Raises 400, 401, 403, 409 and 429, each with one sentence."""
        await self._tokens.check(request.token, address)
        try:
            subject = node_subject(request.node)
        except PkiError as error:
            raise bad_request(str(error)) from error
        if self._connected(request.node):
            raise ApiError(
                409,
                "AlreadyExists",
                f"a worker named {request.node!r} is connected: stop it first, or join under another name (--name)",
            )
        certificate = self._pki.sign(request.csr.encode(), User(*subject), self._clock.wall())
        log.info("node %s joins from %s", request.node, address)
        pki, masters = self._pki, list(self._masters())
        return JoinReply(certificate.decode(), pki.ca_pem.decode(), masters, pki.authority.cluster)
