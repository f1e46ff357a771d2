"""The `Cluster` service: the cluster's state, join tokens, renewed certificates, snapshots, and the key of Secrets.

What it tells comes from callables that the daemon hands in; tokens and certificates from whoever keeps the CA. Who
holds a snapshot holds everything, so saving, restoring and rotating is for administrators alone.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from barque.api.errors import ApiError, bad_request, unavailable
from barque.client.clock import Clock, timestamp
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled
from barque.master.auth.identity import User
from barque.master.stalls import Stalls
from barque.master.store.port import SnapshotRefusedError, Store, StoreUnavailableError
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

    version: str
    members: Callable[[], Sequence[pb.Member]]
    components: Callable[[], Sequence[pb.Component]]
    https_port: Callable[[], int]
    stalls: Callable[[], Stalls]


class ClusterService(cluster_pb2_grpc.ClusterServicer):
    """Status is open to every certificate of the cluster, renewal to each for itself, the rest to administrators."""

    def __init__(
        self,
        state: ClusterState,
        store: Store,
        tokens: TokenIssuer,
        signer: Signer,
        clock: Clock,
        bounds: Bounds | None = None,
    ) -> None:
        self._state = state
        self._store = store
        self._tokens = tokens
        self._signer = signer
        self._clock = clock
        self._bounds = bounds or Bounds()

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusReply:
        async with Handled(context, self._bounds):
            state = self._state
            return pb.StatusReply(
                cluster_id=self._store.cluster_id,
                version=state.version,
                members=state.members(),
                revision=self._store.revision,
                components=state.components(),
                https_port=state.https_port(),
                store=self._figures(),
            )

    async def CreateJoinToken(self, request: pb.CreateJoinTokenRequest, context: Context) -> pb.CreateJoinTokenReply:
        async with Handled(context, self._bounds) as user:
            _check_administrator(user, "create join tokens")
            issued = await self._tokens.create(request.ttl_s)
            return pb.CreateJoinTokenReply(
                token=issued.token, ca_pin=self._signer.pin, expires=timestamp(issued.expires)
            )

    async def RenewCertificate(self, request: pb.RenewCertificateRequest, context: Context) -> pb.RenewCertificateReply:
        async with Handled(context, self._bounds) as user:
            certificate = self._signer.sign(request.csr_pem, user, self._clock.wall())
            return pb.RenewCertificateReply(certificate_pem=certificate)

    async def SaveSnapshot(self, request: pb.SaveSnapshotRequest, context: Context) -> AsyncIterator[pb.SnapshotChunk]:
        async with Handled(context, self._bounds, "streams") as user:
            _check_administrator(user, "save snapshots")
            chunks = self._store.save_snapshot()
            try:
                async for data in chunks:
                    yield pb.SnapshotChunk(data=data)
            except StoreUnavailableError as busy:
                raise unavailable(str(busy)) from busy
            finally:
                await chunks.aclose()  # type: ignore[attr-defined]  # the port promises it

    async def RestoreSnapshot(
        self, request_iterator: AsyncIterator[pb.SnapshotChunk], context: Context
    ) -> pb.RestoreSnapshotReply:
        async with Handled(context, self._bounds, "streams") as user:
            _check_administrator(user, "restore snapshots")
            try:
                restored = await self._store.restore_snapshot(_whole(request_iterator))
            except SnapshotRefusedError as refused:
                raise bad_request(f"the snapshot is refused, nothing was changed: {refused}") from refused
            except StoreUnavailableError as busy:
                raise unavailable(str(busy)) from busy
            return pb.RestoreSnapshotReply(revision=restored.revision, objects=restored.objects)

    async def RotateKey(self, request: pb.RotateKeyRequest, context: Context) -> pb.RotateKeyReply:
        async with Handled(context, self._bounds) as user:
            _check_administrator(user, "rotate the key of Secrets")
            try:
                rotated = await self._store.rotate_key()
            except StoreUnavailableError as full:
                raise unavailable(str(full)) from full
            return pb.RotateKeyReply(key_id=rotated.key_id, secrets=rotated.secrets)

    def _figures(self) -> pb.StoreFigures:
        return pb.StoreFigures(**self._store.figures()._asdict(), loop_stall_max_ms=self._state.stalls().max_ms)


def _check_administrator(user: User, what: str) -> None:
    if not user.is_master:
        raise ApiError(403, "Forbidden", f'User "{user.name}" cannot {what}')


async def _whole(chunks: AsyncIterator[pb.SnapshotChunk]) -> AsyncIterator[bytes]:
    """The bytes of the chunks. Raises 400 where fewer or more came than the first one announced."""
    announced = received = 0
    async for chunk in chunks:
        announced = announced or chunk.total_bytes
        received += len(chunk.data)
        yield chunk.data
    if announced and announced != received:
        raise bad_request(f"{received} of {announced} bytes of the snapshot came; nothing was changed")
