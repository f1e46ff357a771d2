"""The `Cluster` service: the cluster's state, join tokens, and renewed certificates.

What it tells comes from callables that the daemon hands in; tokens and certificates from whoever keeps the CA.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from barque.api.errors import ApiError
from barque.client.clock import Clock, timestamp
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled
from barque.master.auth.identity import User
from barque.proto import cluster_pb2 as pb
from barque.proto import cluster_pb2_grpc


class IssuedToken(Protocol):
    @property
    def token(self) -> str: ...

    @property
    def expires(self) -> datetime.datetime: ...


class TokenIssuer(Protocol):
    """Makes join tokens; kept before it returns. 0 seconds mean its own default."""

    async def create(self, ttl_s: int = 0) -> IssuedToken: ...


class Signer(Protocol):
    """Issues certificates. Raises `ApiError`."""

    @property
    def pin(self) -> str:
        """The CA's pin, by which a joiner knows it."""
        ...

    def sign(self, csr_pem: bytes, user: User, now: datetime.datetime) -> bytes:
        """A certificate (PEM) of `user`'s own identity for the request's key."""
        ...


@dataclass(frozen=True)
class ClusterState:
    """What `Status` tells; the callables are asked on every call."""

    cluster_id: str
    version: str
    members: Callable[[], Sequence[pb.Member]]
    revision: Callable[[], int]
    components: Callable[[], Sequence[pb.Component]]


class ClusterService(cluster_pb2_grpc.ClusterServicer):
    """Status is open to every certificate of the cluster, renewal to each for itself, tokens to administrators."""

    def __init__(
        self, state: ClusterState, tokens: TokenIssuer, signer: Signer, clock: Clock, bounds: Bounds | None = None
    ) -> None:
        self._state = state
        self._tokens = tokens
        self._signer = signer
        self._clock = clock
        self._bounds = bounds or Bounds()

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusReply:
        async with Handled(context, self._bounds):
            state = self._state
            return pb.StatusReply(
                cluster_id=state.cluster_id,
                version=state.version,
                members=state.members(),
                revision=state.revision(),
                components=state.components(),
            )

    async def CreateJoinToken(self, request: pb.CreateJoinTokenRequest, context: Context) -> pb.CreateJoinTokenReply:
        async with Handled(context, self._bounds) as user:
            if not user.is_master:
                raise ApiError(403, "Forbidden", f'User "{user.name}" cannot create join tokens')
            issued = await self._tokens.create(request.ttl_s)
            return pb.CreateJoinTokenReply(
                token=issued.token, ca_pin=self._signer.pin, expires=timestamp(issued.expires)
            )

    async def RenewCertificate(self, request: pb.RenewCertificateRequest, context: Context) -> pb.RenewCertificateReply:
        async with Handled(context, self._bounds) as user:
            certificate = self._signer.sign(request.csr_pem, user, self._clock.wall())
            return pb.RenewCertificateReply(certificate_pem=certificate)
