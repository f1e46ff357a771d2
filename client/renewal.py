"""Certificates that renew themselves before half of their life is over.

`RenewingIdentity` holds the identity of a running daemon. Its credentials look the identity up at every new connection,
so a renewal needs no restart; what must be told (`on_change`) is told.
"""

from __future__ import annotations

import datetime
import logging
import random
import ssl
import weakref
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio

from barque.api.errors import ApiError
from barque.client.clock import Clock
from barque.client.pki import Identity, PkiError, Request, create_request
from barque.proto import cluster_pb2, cluster_pb2_grpc

log = logging.getLogger(__name__)

# Renewed somewhere between 40 and 50 % of life, so that hosts joined together do not all come at once.
EARLIEST, LATEST = 0.40, 0.50
# The wall clock may jump or the host sleep, so the moment is looked at again and again rather than slept for.
LOOK_AGAIN_S = 3600.0
RETRY_FIRST_S, RETRY_MOST_S = 30.0, 3600.0
RENEW_DEADLINE_S = 20.0

Renew = Callable[[bytes], Awaitable[bytes]]


class RenewingIdentity:
    """An identity and the task that keeps it fresh.

    `renew(csr_pem) -> certificate_pem` asks whoever issues; `save` makes the new identity durable before it is used.
    Both may raise `ApiError`, `PkiError`, `OSError` or gRPC's errors: then it is tried again later.
    """

    def __init__(
        self,
        identity: Identity,
        renew: Renew,
        save: Callable[[Identity], object],
        clock: Clock,
        randomness: random.Random,
    ) -> None:
        self._current = identity
        self._renew = renew
        self._save = save
        self._clock = clock
        self._fraction = randomness.uniform(EARLIEST, LATEST)
        self._contexts: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
        self._on_change: list[Callable[[Identity], Awaitable[None]]] = []

    @property
    def current(self) -> Identity:
        return self._current

    def on_change(self, handler: Callable[[Identity], Awaitable[None]]) -> None:
        """Have `handler` awaited after each renewal (`Connection.renew`, say)."""
        self._on_change.append(handler)

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server that requires a certificate of this CA: each new connection sees the current identity."""
        first = _configuration(self._current)
        return grpc.dynamic_ssl_server_credentials(first, self.server_changes(), require_client_authentication=True)

    def server_changes(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """What gRPC asks at every new connection: the configuration if the identity is another than when it last asked
        or, the first time, than it is now; else None. An answer makes gRPC replace what handshakes on its other threads
        may be about to use, and crash, so there must be one for each renewal and none for each connection.
        """
        served = self._current

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal served
            current = self._current
            if current is served:
                return None
            served = current
            return _configuration(current)

        return fetch

    def server_context(self) -> ssl.SSLContext:
        """As `Identity.server_context`; follows renewals."""
        context = self._current.server_context()
        self._contexts.add(context)
        return context

    async def replace(self, identity: Identity) -> None:
        """Use `identity`, already saved, for every new connection from now on; those that there are go on. Raises
        `OSError` where a context cannot be given it: then it is not the current one, and the renewal is due still.
        """
        for context in self._contexts:
            identity.install(context)
        self._current = identity
        for handler in self._on_change:
            await handler(identity)

    async def run(self) -> None:
        """Renew for ever; ends only when cancelled."""
        retry_s = 0.0
        while True:
            wait_s = retry_s or self._wait_s(self._clock.wall())
            if wait_s > 0:
                await self._clock.sleep(wait_s)
            if self._wait_s(self._clock.wall()) > 0:
                continue
            try:
                await self.renew_now()
                retry_s = 0.0
            except (ApiError, PkiError, OSError, grpc.aio.AioRpcError) as error:
                retry_s = min(max(2 * retry_s, RETRY_FIRST_S), RETRY_MOST_S)
                why = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
                log.warning(
                    "the certificate of %s, good until %s, could not be renewed: %s; next attempt in %d s",
                    self._current.name, self._current.expires, why, retry_s,
                )  # fmt: skip

    async def renew_now(self) -> None:
        """Get a new key and certificate for the same subject, save and use them."""
        request = create_request(self._current.subject)
        identity = renewed(self._current, request, await self._renew(request.csr_pem))
        self._save(identity)
        await self.replace(identity)
        log.info("renewed the certificate of %s; it is good until %s", identity.name, identity.expires)

    def _wait_s(self, now: datetime.datetime) -> float:
        due_in_s = (self._current.past(self._fraction) - now).total_seconds()
        return min(due_in_s, LOOK_AGAIN_S)


def _configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(identity.key_pem, identity.cert_pem)], identity.ca_pem)


def renewed(old: Identity, request: Request, cert_pem: bytes) -> Identity:
    """The identity after a renewal. Raises `PkiError` unless the answer fits the request and the old identity."""
    identity = Identity(cert_pem, request.key_pem, old.ca_pem)
    identity.check("the renewed certificate")
    if identity.subject != old.subject:
        raise PkiError(f"the renewed certificate is for {identity.name}, not for {old.name}")
    if identity.expires <= old.expires:
        raise PkiError("the renewed certificate does not last longer than the present one")
    return identity


def renew_through(cluster: Callable[[], cluster_pb2_grpc.ClusterStub]) -> Renew:
    """Renewal by the masters: `renew_through(lambda: connection.cluster)`."""

    async def renew(csr_pem: bytes) -> bytes:
        request = cluster_pb2.RenewCertificateRequest(csr_pem=csr_pem)
        reply = await cluster().RenewCertificate(request, timeout=RENEW_DEADLINE_S)
        certificate: bytes = reply.certificate_pem
        return certificate

    return renew
